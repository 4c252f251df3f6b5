#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Missing packages are named, and without the right to install them the exact
# line is printed. With it, they are installed; on a terminal after a question. A stand-in
# for dpkg-query knows of no package.
. "$(dirname "$0")/lib.sh"

# A copy that another user can read, wherever this clone lies.
open=$(mktemp -d)
trap 'rm -rf "$tmp" "$open"' EXIT
cp "$TOP/harness/deps" "$TOP/harness/lib.sh" "$open"
echo '#!/bin/sh
exit 1' >"$open/dpkg-query"
echo '#!/bin/sh
[ "$SUDO" = yes ] && shift && exec "$@"' >"$open/sudo"
echo '#!/bin/sh
echo "apt-get $*" >>'"$tmp"'/apt
echo "Setting up one"' >"$open/apt-get"
chmod -R a+rx "$open"
deps() { PATH=$open:$PATH "$@" "$open/deps"; }
nobody=()
[ "$(id -u)" != 0 ] || nobody=(setpriv --reuid=65534 --clear-groups)

t "nothing is missing here" "$TOP/harness/deps"
refuses "without root: the line to run" \
	"as root, run: apt-get update && apt-get install .*qemu-system-x86 .*ndctl" \
	deps "${nobody[@]}"
t "and the packages are named" grep -q 'missing packages: .*qemu-system-x86' "$tmp/said"
equals "and nothing was installed" "$(cat "$tmp/apt" 2>/dev/null)" ""
DEPS=print refuses "DEPS=print: the line only, as root too" \
	"run: apt-get update && apt-get install" deps

# What was installed, of the two calls of apt-get.
installed() { : >"$tmp/apt"; "$@" >"$tmp/said" 2>&1; grep -c qemu-system-x86 "$tmp/apt"; }
# on_terminal ANSWER VARIABLE=VALUE...
on_terminal() {
	local answer=$1
	shift
	# shellcheck disable=SC2030,SC2031
	(PATH=$open:$PATH && export PATH && echo "$answer" |
		script -qec "env SUDO=yes $* $open/deps" /dev/null)
}
unset CI DEPS
equals "without a terminal: installed" "$(SUDO=yes installed deps </dev/null)" 1
t "after a line that says so" grep -q 'missing packages: .*qemu-system-x86' "$tmp/said"
equals "on a terminal, yes: installed" "$(installed on_terminal y)" 1
t "after a question" grep -q 'install them with apt-get' "$tmp/said"
equals "on a terminal, no: not installed" "$(installed on_terminal n)" 0
t "but the line is printed" grep -q 'nothing was installed; by hand: apt-get' "$tmp/said"
equals "DEPS=install: no question" "$(installed on_terminal n DEPS=install)" 1
equals "CI=true: no question" "$(installed on_terminal n CI=true)" 1
DEPS=skip t "DEPS=skip: as it is" deps
finish
