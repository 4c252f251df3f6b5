#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Missing packages are named, and without the right to install them the exact
# line is printed. A stand-in for dpkg-query knows of no package.
. "$(dirname "$0")/lib.sh"

# A copy that another user can read, wherever this clone lies.
open=$(mktemp -d)
trap 'rm -rf "$tmp" "$open"' EXIT
cp "$TOP/harness/deps" "$TOP/harness/lib.sh" "$open"
printf '#!/bin/sh\nexit 1\n' | tee "$open/dpkg-query" >"$open/sudo"
printf '#!/bin/sh\necho "apt-get $*" >>%q\n' "$tmp/apt" >"$open/apt-get"
chmod -R a+rx "$open"
deps() { PATH=$open:$PATH "$@" "$open/deps"; }
nobody=()
[ "$(id -u)" != 0 ] || nobody=(setpriv --reuid=65534 --clear-groups)

t "nothing is missing here" "$TOP/harness/deps"
refuses "without root: the line to run" "as root, run: apt-get update && apt-get install .*qemu-system-x86 .*ndctl" deps "${nobody[@]}"
t "and the packages are named" grep -q 'missing packages: .*qemu-system-x86' "$tmp/said"
equals "and nothing was installed" "$(cat "$tmp/apt" 2>/dev/null)" ""
DEPS=print refuses "DEPS=print: the line only, as root too" "run: apt-get update && apt-get install" deps
DEPS=skip t "DEPS=skip: as it is" deps
finish
