# SPDX-License-Identifier: GPL-2.0
# Sourced by what runs in the guest: results as TAP, and the device that mirrors.
# shellcheck shell=bash

set -uo pipefail

# mirrored COMMAND...: with MIRROR=, the folder of mirror.so, a device mirrors what it maps.
mirrored() {
	[ -n "${MIRROR:-}" ] || { "$@"; return; }
	LD_PRELOAD=$MIRROR/mirror.so MIRROR_COUNT=/run/mirror "$@"
}
if [ -n "${MIRROR:-}" ]; then
	modprobe test_hmm || exit
	chmod 666 /dev/hmm_dmirror0
	truncate -s 8 /run/mirror
	chmod 666 /run/mirror
fi
pages_read() { od -An -t u8 -N 8 /run/mirror; }

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1"; }
skip() { echo "ok $1 # SKIP $2"; }

# t NAME COMMAND...: it succeeds, and the device reads what it maps; its last lines, if not.
t() {
	local before=0 said=/run/said
	[ -z "${MIRROR:-}" ] || before=$(pages_read)
	if ! mirrored "${@:2}" >$said 2>&1 </dev/null; then
		tail -n 12 $said | sed 's/^/# /'
		not_ok "$1"
	elif [ -n "${MIRROR:-}" ] && [ $(($(pages_read) - before)) = 0 ]; then
		echo "# the device read none of it"
		not_ok "$1"
	else
		ok "$1"
	fi
}
