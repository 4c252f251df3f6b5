#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# series/sets: each patch is in one set, and each set applies where it says. A set that is
# wrong is named: a copy of this repository has other files.
. "$(dirname "$0")/lib.sh"

"$TOP/harness/patches/sets.py" check || failures=1
for s in $("$TOP/harness/patches/sets.py" list | sed 's/ after.*//; / 1$/d; s/:.*//'); do
	t "series/cover-letter-$s.txt: a subject, and lines of 75 columns" \
		awk 'NR == 1 { if (!/^Subject: ./) exit 1; sub(/^Subject: /, "") }
		     length > 75 { print; exit 1 }' "$TOP/series/cover-letter-$s.txt"
done
equals "each letter is of a set" "$(for f in "$TOP"/series/cover-letter-*.txt; do
	s=${f##*/cover-letter-}
	grep -qx "set: ${s%.txt}" "$TOP/series/sets" || echo "$f"
done)" ""

# What README and the cover letter count.
patches=("$TOP"/series/*.patch) fixes=$(grep -n '^set: hmm-fault' "$TOP/series/sets" | cut -d: -f1)
fixes=$(head -n "$fixes" "$TOP/series/sets" | grep -c '^  ')
t "README.md: how many patches there are" \
	grep -q "holds ${#patches[@]} patches for Linux 7.3.y. The first $fixes fix" "$TOP/README.md"
t "series/cover-letter.txt: how many of them are fixes" \
	grep -q "^The first $fixes patches are fixes, and their tests" "$TOP/series/cover-letter.txt"

repo=$tmp/repo file=$tmp/repo/series/sets
mkdir -p "$repo/harness/patches" "$repo/series"
cp "$TOP/harness/series" "$repo/harness"
cp "$TOP/harness/patches/sets.py" "$repo/harness/patches"
export BUILD
sets() { "$repo/harness/patches/sets.py" "${1:-list}"; }
with() { sed "$@" "$TOP/series/sets" >"$file"; }
rdma='RDMA\/rxe: Flush an ODP MR in steps of 2 MiB'
refuses "no file" "there is no series/sets" sets
with "/^  $rdma/d"
refuses "a patch in no set" "no set has 'RDMA/rxe: Flush an ODP MR in steps of 2 MiB'" sets
with "/^  $rdma/p"
refuses "a patch twice" "is in rdma-fixes and in rdma-fixes: exactly one set" sets
with "s/^  $rdma/&s/"
refuses "a patch that is not there" "no set has|there is no such patch" sets
with -e '/^set: nouveau-svm-fixes/d; /^after: nouveau-mmu-fixes/d' \
	-e 's/nouveau-svm-fixes/nouveau-mmu-fixes/'
refuses "a set that is too long" "nouveau-mmu-fixes has 23 patches, and a set has 1 to 15" sets
with 's/^after: hmm-memory$/after: docs/'
refuses "a set after one that is below it" "amdkfd-fixes is after docs, which is not above it" sets
with 's/^set: mm-fixes/set: rdma-fixes/'
refuses "two sets of one name" "'set: rdma-fixes': a set has a name of its own" sets
with 's/^  RDMA\/umem: Do/RDMA: Do/'
refuses "a line that is none" "is no line 'set: NAME'" sets
with 's/^after: rdma-fixes hmm-window/after: hmm-window/; s/^after: hmm-memory$//'
sets check >"$tmp/out" 2>&1
equals "what a set needs and does not say" \
	"$(grep '^not ok' "$tmp/out"; grep -c 'fixes: .* uses hmm_pfn_to_memory of ' "$tmp/out")" \
	"not ok rdma-window applies
not ok docs applies
not ok none uses a name of a set that it is not after
2"
finish
