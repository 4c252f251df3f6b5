#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# harness/patches/rehearse.py, on the files of the base that a set changes: as they are, moved
# by some lines, with a patch that is there already, with a line changed that a patch removes,
# with a file that is gone.
. "$(dirname "$0")/lib.sh"

linux=$BUILD/linux
export LINUX=$tmp/tree SET=amdkfd-fixes
unset FORCE
amdkfd=drivers/gpu/drm/amd/amdkfd
rehearse() { "$TOP/harness/patches/rehearse.py" | tee "$tmp/table"; }
conflicts() { ! rehearse; }
tree() {
	rm -rf "$LINUX"
	mkdir "$LINUX"
	git -C "$linux" archive hmm-dax-base Makefile include/linux/hmm.h \
		drivers/gpu/drm/amd/amd{kfd,gpu} | tar -xf - -C "$LINUX"
	printf 'VERSION = 7\nPATCHLEVEL = 9\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\n' \
		>"$LINUX/Makefile"
}
# How many patches of each verdict: their order is the series' own matter.
verdicts() {
	sed -n 's/^ *[0-9]* \([a-z ]*[a-z]\)  *drm\/.*/\1/p' "$tmp/table" | sort | uniq -c | xargs
}
last() { tail -n 1 "$tmp/table"; }
refs() { git -C "$linux" for-each-ref; git -C "$linux" status --porcelain; }
before=$(refs)

refuses "no tree" "is not a kernel tree: no Makefile" rehearse
tree
t "another version, with the files of the base" rehearse
equals "all of the set applies" "$(verdicts)" "7 applies"
equals "the last line counts" "$(last | sed 's/: .*//')" "8 patches on Linux 7.9.0-rc1"
sed -i '1s/^/\n\n\n/' "$LINUX/$amdkfd/kfd_migrate.c"
t "a file moved by three lines" rehearse
equals "is known" "$(verdicts)" "6 applies 1 offset"
t "and how far" grep -q "^     $amdkfd/kfd_migrate.c, 3 lines away$" "$tmp/table"

git -C "$linux" log -p --format= --grep='^drm/amdkfd: do not log' hmm-dax-base.. >"$tmp/diff"
patch -s -p1 -d "$LINUX" <"$tmp/diff"
t "a patch that is there" rehearse
equals "is known" "$(verdicts)" "1 already there 6 applies"
sed -i 's/= min(end, prange->last);$/& /' "$LINUX/$amdkfd/kfd_svm.c"
t "a line changed that a patch removes" conflicts
equals "conflicts, and with its lines the others apply" "$(verdicts)" \
	"1 already there 5 applies 1 conflicts"
t "the hunk is named" grep -q "^     $amdkfd/kfd_svm.c, hunk 1 of 1: @@ -" "$tmp/table"

tree
rm "$LINUX/$amdkfd/kfd_migrate.c"
git -C "$LINUX" init -q
git -C "$LINUX" add -A
git -C "$LINUX" -c user.name=t -c user.email=t@localhost commit -qm base
cp "$TOP/Makefile" "$LINUX/$amdkfd/kfd_migrate.c"
t "a git tree, a file is gone in its HEAD" conflicts
t "is named" grep -q "^     $amdkfd/kfd_migrate.c is not there$" "$tmp/table"
SET=none refuses "SET= no such set" "SET=none: there are all, " rehearse
equals "build/linux is as it was" "$(refs)" "$before"
finish
