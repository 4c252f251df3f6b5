# SPDX-License-Identifier: GPL-2.0
# Sourced by the harness's own tests. Each prints TAP results; a test that
# needs a folder has $tmp, removed at the end.
# shellcheck shell=bash

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
set +e

mkdir -p "$BUILD"
tmp=$(mktemp -d "$BUILD/test.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
failures=0

ok() { echo "ok $1"; }
not_ok() {
	echo "not ok $1"
	[ ! -s "$tmp/out" ] || sed 's/^/# /' "$tmp/out"
	failures=$((failures + 1))
}

# t NAME COMMAND...: the command succeeds.
t() {
	local name=$1
	shift
	if "$@" >"$tmp/out" 2>&1; then ok "$name"; else not_ok "$name (status $?)"; fi
}

# refuses NAME PATTERN COMMAND...: it fails, and its last line is one of the
# harness's own that says PATTERN. All it said stays in $tmp/said.
refuses() {
	local name=$1 pattern=$2 rc=0
	shift 2
	"$@" >"$tmp/said" 2>&1 </dev/null || rc=$?
	cp "$tmp/said" "$tmp/out"
	if ((rc == 0)); then
		not_ok "$name: it did not fail"
	elif [[ $(tail -n 1 "$tmp/out") =~ ^hmm-dax:\ .*$pattern ]]; then
		ok "$name"
	else
		not_ok "$name: the last line is not '$pattern'"
	fi
}

# equals NAME A B
equals() {
	printf 'got:    %s\nwanted: %s\n' "$2" "$3" >"$tmp/out"
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1"; fi
}

# copy_clone FOLDER: what git has of this clone, or would have, without its history.
copy_clone() {
	(cd "$TOP" && git ls-files -coz --exclude-standard |
		tar --null -T - -cf - --ignore-failed-read 2>/dev/null) | tar -xf - -C "$1"
}

finish() { exit $((failures > 0)); }
