#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The list of mutants fits the tree, and one that does not is named. Trying them is
# make mutants: here only a list of four, on a kernel of one file, with stand-ins for
# what builds and boots it.
. "$(dirname "$0")/lib.sh"

list=$TOP/harness/check/mutants.list
n=$(grep -c '^name:' "$list")
listed() { LIST=yes "$TOP/harness/check/mutants.py" "$@"; } # [LIST]
last() { tail -n 1 "$tmp/out"; }

ONLY='' t "make mutants LIST=yes: everything in it is there" listed
equals "all of them" "$(last)" "$n of $n mutants still apply"
first=$(sed -n 's/^name: *//p;' "$list" | head -n 1)
ONLY=$first t "ONLY= one by its name" listed
equals "that one" "$(sed -n "s/^$first: .*/it/p" "$tmp/out"; last)" \
	$'it\n1 of 1 mutants still apply'
ONLY=no-such-thing refuses "ONLY= what is not there" "ONLY=no-such-thing: no mutant" listed
# Removed and changed lines, and what comes before them.
sed '0,/^- /s//- not there /' "$list" >"$tmp/list"
ONLY='' t "a line that is not in the tree any more" bash -c \
	"! LIST=yes '$TOP/harness/check/mutants.py' '$tmp/list'"
equals "is a failure, and named" \
	"$(grep -o 'is there 0 times, not once: not there' "$tmp/out"; last)" \
	"is there 0 times, not once: not there
$((n - 1)) of $n mutants still apply"
one() { printf '%s\n' 'name: one' 'what: it' 'file: mm/hmm.c' "$@" >"$tmp/list"; }
good=('- static int hmm_do_fault(struct hmm_vma_walk *hmm_vma_walk)'
	'+ int hmm_do_fault(struct hmm_vma_walk *hmm_vma_walk)' 'step: hmm_dax' 'test: x')
failed() {
	LIST=yes ONLY='' "$TOP/harness/check/mutants.py" "$tmp/list" >"$tmp/out"
	sed -n 's/^    //p' "$tmp/out" | tail -n 1
}
one "${good[@]}"
ONLY='' t "a list of one" listed "$tmp/list"
one "${good[@]:0:2}" 'step: hmm_nothing' 'test: x'
equals "no such step" "$(failed)" "harness/guest-tests.sh has no function hmm_nothing"
one '- }' '+ {' "${good[@]:2}"
t "a line that is there twice" bash -c \
	"! LIST=yes ONLY= '$TOP/harness/check/mutants.py' '$tmp/list'"
one "${good[@]:0:3}"
equals "no test" "$(failed)" "no test"
one "${good[@]}" 'stop: x'
ONLY='' refuses "a word that is not understood" "not understood: stop" listed "$tmp/list"
one "${good[@]}"
cat "$tmp/list" <(echo) "$tmp/list" >"$tmp/two"
ONLY='' refuses "a name that is there twice" "two mutants are named one" listed "$tmp/two"

mkdir -p "$tmp/harness/check" "$tmp/build/base" "$tmp/build/linux/mm"
cp "$TOP"/harness/{lib.sh,guest-tests.sh} "$tmp/harness"
cp "$TOP/harness/check/mutants.py" "$tmp/harness/check"
echo 1 >"$tmp/build/base/id"
printf '%s\n' 'int kept;' 'int other;' >"$tmp/build/linux/mm/hmm.c"
git -C "$tmp/build/linux" init -q
git -C "$tmp/build/linux" add -A
git -C "$tmp/build/linux" -c user.name=t -c user.email=t@localhost commit -qm kernel
cat >"$tmp/harness/build" <<END
#!/bin/sh
echo "\${2:-all}: \$(paste -sd' ' "\$BUILD/linux/mm/hmm.c")" >>'$tmp/built'
mkdir -p "\$BUILD/kernel-series/mm"
touch "\$BUILD/kernel-series/mm/hmm.o"
! grep -q broken "\$BUILD/linux/mm/hmm.c"
END
cat >"$tmp/harness/guest" <<END
#!/bin/sh
echo 'ok 1 other.works'
grep -q kept "\$BUILD/linux/mm/hmm.c" && { echo 'ok 2 it.works'; exit 0; }
echo 'not ok 2 it.works'
exit 1
END
chmod +x "$tmp"/harness/*
mutant() {
	printf '%s\n' "name: $1" 'what: it' 'file: mm/hmm.c' "- $2" "+ $3" 'step: odp_race' \
		"test: $4" ''
}
{
	mutant caught 'int kept;' 'int gone;' it.works
	mutant survives 'int other;' 'int another;' it.works
	mutant by-another 'int kept;' 'int gone;' other.works
	mutant no-c 'int other;' broken it.works
} >"$tmp/list"
BUILD=$tmp/build ONLY='' LIST='' "$tmp/harness/check/mutants.py" "$tmp/list" \
	>"$tmp/said" 2>"$tmp/errors"
equals "each of four kinds is told from the others" \
	"$(sed -n 's/ ([^()]*s)$//; /^\(not \)\?ok\|skipped$/p' "$tmp/said")" \
	"ok without a mutant: odp_race, series kernel
ok caught: odp_race: it.works
not ok survives: survives odp_race
not ok by-another: not by other.works, but:
not ok no-c: does not compile
2 passed, 3 failed, 0 skipped"
equals "what is built is the mutant, and only what it is in" "$(uniq "$tmp/built")" \
	"all: int kept; int other;
bzImage: int gone; int other;
bzImage: int kept; int another;
bzImage: int gone; int other;
bzImage: int kept; broken"
equals "build/linux is not touched" "$(git -C "$tmp/build/linux" status --porcelain)" ""
finish
