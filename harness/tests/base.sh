#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Where the base comes from, and every way that can go wrong: one line, and
# nothing half-made that a second run would trust.
. "$(dirname "$0")/lib.sh"

base() { "$TOP/harness/base"; }
export BUILD=$tmp/build
unset LINUX
tree() { # DIR VERSION PATCHLEVEL
	mkdir -p "$1"
	printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = 1\nEXTRAVERSION =\n' "$2" "$3" \
		>"$1/Makefile"
}
untrusted() {
	local name
	for name in id linux tmp; do [ ! -e "$BUILD/base/$name" ] || return; done
}

# LINUX=
LINUX=$tmp/none refuses "LINUX= no such tree" "not a kernel tree" base
tree "$tmp/old" 6 12
LINUX=$tmp/old refuses "LINUX= a wrong version" "Linux 6.12.1, and this series is for 7.3.y" base
t "nothing is left of it" untrusted
tree "$tmp/built" 7 3
touch "$tmp/built/.config"
LINUX=$tmp/built refuses "LINUX= a tree that was built in place" "make mrproper" base
t "nothing is left of it" untrusted
tree "$tmp/good" 7 3
LINUX=$tmp/good t "LINUX= a tree" base
git -C "$tmp/good" init -q
git -C "$tmp/good" add -A
git -C "$tmp/good" -c user.name=t -c user.email=t@localhost commit -qm base
echo uncommitted >"$tmp/good/new"
LINUX=$tmp/good t "LINUX= a git tree" base
t "its committed state is taken" test ! -e "$BUILD/base/linux/new"
git -C "$tmp/good" add -A
git -C "$tmp/good" -c user.name=t -c user.email=t@localhost commit -qm new
LINUX=$tmp/good t "LINUX= the same with a new commit" base
t "the new state is taken" test -e "$BUILD/base/linux/new"
t "without LINUX= the base stays" base
t "and it does" test -e "$BUILD/base/linux/new"
LINUX=$tmp/typo refuses "LINUX= a typo" "not a kernel tree" base
t "takes nothing away" test -e "$BUILD/base/linux/new"
rm -rf "$BUILD"

# BASE=
BASE=6.13 refuses "BASE= one without a series" "BASE=6.13: there are series for 7.3 .* 6.12" base
LINUX=$tmp/good BASE=6.12 refuses "BASE=6.12 LINUX= a 7.3 tree" "series is for 6.12.y" base
LINUX=$tmp/old BASE=6.12 t "BASE=6.12 LINUX= a 6.12 tree" base
refuses "a base of another series" "is Linux 6.12.1, and this series is for 7.3.y: give" base
t "takes nothing away" test -e "$BUILD/base/linux/Makefile"
BASE=6.12 t "its own series takes it" base
rm -rf "$BUILD"

# Not enough room.
mkdir "$tmp/small"
if mount -t tmpfs -o size=1m tmpfs "$tmp/small" 2>/dev/null; then
	BUILD=$tmp/small/build LINUX=$tmp/good refuses "a full disk" "MiB free and this needs" base
	umount "$tmp/small"
else
	echo "ok a full disk # SKIP no permission to mount a small file system"
fi

# A mirror that serves an unsigned suite, one that does not answer, and none.
# apt's own configuration says where the mirror is.
unset LINUX
rm -rf "$BUILD"
repo=$tmp/repo/dists/trixie-backports
mkdir -p "$repo/main/binary-amd64" "$tmp/apt"
: >"$repo/main/binary-amd64/Packages"
printf '%s\n' 'Origin: x' 'Suite: trixie-backports' 'Codename: trixie-backports' \
	'Date: Mon, 23 Nov 2026 00:00:00 UTC' 'Architectures: amd64' 'Components: main' 'SHA256:' \
	" $(sha256sum </dev/null | cut -d' ' -f1) 0 main/binary-amd64/Packages" >"$repo/Release"
with_mirror() { # URI COMMAND...
	echo "deb [trusted=yes] $1 bookworm main" >"$tmp/apt/list"
	printf '%s "%s";\n' Dir::Etc::sourcelist "$tmp/apt/list" Dir::Etc::sourceparts - \
		Acquire::Retries 0 >"$tmp/apt/conf"
	APT_CONFIG=$tmp/apt/conf XDG_CACHE_HOME=$tmp/cache GIT_ALLOW_PROTOCOL=file "${@:2}"
}
refuses "a suite whose signature does not verify" "signature .*nothing was used" with_mirror \
	"file:$tmp/repo" base
t "nothing is left of it" untrusted
t "nor in the cache" test -z "$(find "$tmp/cache" -name '*.deb*' 2>/dev/null)"
refuses "no network" "no base kernel: neither .* give LINUX=" with_mirror \
	http://127.0.0.1:9/debian base
t "nothing is left of it" untrusted

# What a killed run leaves is not trusted: no id, no base.
tree "$BUILD/base/linux" 7 3
echo half >"$BUILD/base/linux/half"
LINUX=$tmp/good t "a half-made base is made anew" base
t "without what was there" test ! -e "$BUILD/base/linux/half"
finish
