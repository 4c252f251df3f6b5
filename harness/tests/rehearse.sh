#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# harness/rehearse, on the files of the base that a set changes: as they are, moved by some
# lines, with a line of context that is another one, with a patch that is there already,
# with a line that a patch removes changed, and with a file that is gone.
. "$(dirname "$0")/lib.sh"

linux=$BUILD/linux
export LINUX=$tmp/tree SET=amdkfd-fixes
unset FORCE
rehearse() { "$TOP/harness/rehearse"; }
svm=drivers/gpu/drm/amd/amdkfd/kfd_svm.c
tree() {
	rm -rf "$LINUX"
	mkdir "$LINUX"
	git -C "$linux" archive hmm-dax-base Makefile include/linux/hmm.h \
		drivers/gpu/drm/amd/amd{kfd,gpu} | tar -xf - -C "$LINUX"
}
verdicts() {
	sed -n 's/^ *[0-9]* \([a-z ]*[a-z]\)  *\(mm\|drm\)\/.*/\1/p' "$tmp/out" | uniq -c | xargs
}
last() { tail -n 1 "$tmp/out"; }
refs() { git -C "$linux" for-each-ref; git -C "$linux" status --porcelain; }
before=$(refs)

refuses "no tree" "is not a kernel tree: no Makefile" rehearse
tree
t "the base" rehearse
equals "all applies" "$(verdicts)" "8 applies"
printf 'VERSION = 7\nPATCHLEVEL = 9\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\n' >"$LINUX/Makefile"
sed -i '1s/^/\n\n\n/' "$LINUX/include/linux/hmm.h"
t "another version, moved by three lines" rehearse
equals "is known" "$(last)" "8 patches on Linux 7.9.0-rc1: 7 applies, 1 offset"
t "and how far" grep -q '^     include/linux/hmm.h, 3 lines away$' "$tmp/out"

git -C "$linux" log -p --format= --grep='^mm/hmm: tell drivers' hmm-dax-base.. >"$tmp/diff"
(cd "$tmp/tree" && git apply "$tmp/diff")
t "a patch that is there" rehearse
equals "is known" "$(verdicts)" "1 already there 7 applies"
sed -i 's/= min(end, prange->last);$/& /' "$LINUX/$svm"
t "what a patch removes is another line" bash -c "! '$TOP/harness/rehearse'"
equals "conflicts, and with its lines the others apply" "$(last)" \
	"8 patches on Linux 7.9.0-rc1: 6 applies, 1 already there, 1 conflicts"
t "the hunk is named" grep -q "^     $svm, hunk 1 of 1: @@ -" "$tmp/out"

tree
rm "$LINUX/drivers/gpu/drm/amd/amdkfd/kfd_migrate.c"
git -C "$LINUX" init -q
git -C "$LINUX" add -A
git -C "$LINUX" -c user.name=t -c user.email=t@localhost commit -qm base
cp "$TOP/Makefile" "$LINUX/drivers/gpu/drm/amd/amdkfd/kfd_migrate.c"
t "a git tree, a file is gone in its HEAD" bash -c "! '$TOP/harness/rehearse'"
t "is named" grep -q "^     drivers/gpu/drm/amd/amdkfd/kfd_migrate.c is not there$" "$tmp/out"
SET=none refuses "SET= no such set" "SET=none: there are all, " rehearse
equals "build/linux is as it was" "$(refs)" "$before"
finish
