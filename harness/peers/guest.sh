# SPDX-License-Identifier: GPL-2.0
# Sourced by what runs in the guest: results as TAP, and the device that mirrors.
# shellcheck shell=bash

set -u

# t NAME COMMAND...: it succeeds; if not, its last lines say why.
t() {
	if mirrored "${@:2}" >/run/said 2>&1 </dev/null; then
		echo "ok $1"
	else
		tail -n 12 /run/said | sed 's/^/# /'
		echo "not ok $1"
	fi
}

# mirrored COMMAND...: with MIRROR=, the folder of mirror.so, a device mirrors what it maps.
mirrored() {
	[ -n "${MIRROR:-}" ] || { "$@"; return; }
	LD_PRELOAD=$MIRROR/mirror.so MIRROR_COUNT=/run/mirror "$@"
}

# At the end: that it has read anything.
device_reads() {
	local pages
	pages=$(od -An -t u8 -N 8 /run/mirror)
	echo "# the device has read $((pages)) pages"
	if ((pages)); then echo "ok (the device)"; else echo "not ok (the device)"; fi
}

if [ -n "${MIRROR:-}" ]; then
	modprobe test_hmm || exit
	truncate -s 8 /run/mirror
	# xfstests has users who are not root.
	chmod 666 /dev/hmm_dmirror0 /run/mirror
	trap device_reads EXIT
fi
