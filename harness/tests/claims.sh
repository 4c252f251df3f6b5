#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# CLAIMS.md and the figures of the documents: they hold, and claims.py names what does not.
# A copy of this repository has other figures and claims. And what make bench writes, with a
# stand-in for the guest.
. "$(dirname "$0")/lib.sh"

t "the claims and figures hold" "$TOP/harness/lint/claims.py"

repo=$tmp/repo
mkdir "$repo"
copy_clone "$repo"
# wrong NAME FILE SED WANTED...: with FILE changed so, these and no other lines are said.
wrong() {
	local name=$1 file=$2 rc=0
	sed -E "$3" "$TOP/$file" >"$repo/$file"
	! cmp -s "$TOP/$file" "$repo/$file" || not_ok "$name: nothing is changed"
	"$repo/harness/lint/claims.py" >"$tmp/said" || rc=$?
	equals "$name" "$rc: $(sed '$d' "$tmp/said")" "1: $(printf '%s\n' "${@:4}")"
	cp "$TOP/$file" "$repo/$file"
}
line() { grep -n -m 1 -e "$2" "$TOP/$1" | cut -d: -f1; } # FILE TEXT

figure() { # CASE FIELD: as make bench found it
	python3 -c 'import json, sys
print("{:,}".format(json.load(open(sys.argv[1]))["x86_64"]["cases"][sys.argv[2]][sys.argv[3]]))' \
		"$TOP/harness/bench/results.json" "$@"
}
other() { # FIGURE: the next one
	echo $((${1//,/} + 1)) | sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta'
}

n=$(line PERFORMANCE.md '^| 256 MiB of PMD leaves, cold')
base=$(figure fault_cold_pmd_256m base) series=$(figure fault_cold_pmd_256m series)
limit=$(figure fault_cold_pmd_256m limit) warm=$(figure walk_warm_pte_64m series)
wrong "a digit in a table" PERFORMANCE.md "${n}s/$base/$(other "$base")/" \
	"PERFORMANCE.md:$n: $(other "$base") is not in the results as a figure of: base"
wrong "a quotient" PERFORMANCE.md "${n}s/ ([0-9]+) \|\$/ 1\1 |/" \
	"PERFORMANCE.md:$n: 1$(sed -nE "${n}s/.* ([0-9]+) \|\$/\1/p" "$TOP/PERFORMANCE.md")$(:
		) is no quotient of two figures of this line"
wrong "a figure in the wrong column" PERFORMANCE.md "${n}s/$series/$limit/" \
	"PERFORMANCE.md:$n: $limit is not in the results as a figure of: series"
row="128 $base $warm $limit $(figure fault_cold_pmd_256m_list series)"
row+=" $(figure fault_cold_pmd_256m_list limit)"
wrong "that of another line" PERFORMANCE.md "${n}s/$series/$warm/" \
	"PERFORMANCE.md:$n: these figures are not of one case: $row"
n=$(line README.md '^| 1 GiB of device-dax, one PUD leaf')
wrong "a number of faults" README.md "${n}s/ 1 \|\$/ 2 |/" \
	"README.md:$n: 2 is not in the results as a figure of: series"
list=$(figure walk_warm_pud_1g_list series)
n=$(line series/cover-letter-hmm-list.txt "  $list$")
cover=series/cover-letter-hmm-list.txt
wrong "a cover letter" $cover "${n}s/$list$/$(other "$list")/" \
	"$cover:$n: $(other "$list") is not in the results as a figure of: series"
rst=Documentation/mm/hmm-dax.rst pages=$(figure gpusvm_get_pages_pte_2m series)
n=$(line $rst "$pages")
wrong "a sentence" $rst "s/$pages/$(other "$pages")/" \
	"$rst:$n: $(other "$pages") is not in the results, nor in the words of a claim"
wrong "the table of machines" TESTED.md '0,/ 82, 4 skipped/s// 86/' \
	"TESTED.md: its table is not that of harness/check/matrix.results: $(:
		)LIST=document harness/check/matrix makes it"
day=$(sed -n 's/^ *"measured": "\(.*\)".*/\1/p' "$TOP/harness/bench/results.json" | head -n 1)
day=$(date -d "$day" '+%-d %B %Y')
n=$(line README.md "^$day")
wrong "the day" README.md "${n}s/^$day/1 May 2020/" "README.md:$n: the results are of $day"
words='It takes 1,234 years.' n=$(($(wc -l <"$TOP/README.md") + 1))
wrong "a number that is of no result" README.md "\$ a$words" \
	"README.md:$n: 1,234 is not in the results, nor in the words of a claim"
echo "$words" >>"$repo/README.md"
sed "/^| for a gigabyte/i| $words | by hand: somebody counted them |" "$TOP/CLAIMS.md" \
	>"$repo/CLAIMS.md"
t "but in a claim" "$repo/harness/lint/claims.py"
cp "$TOP"/{README,CLAIMS}.md "$repo"
sed -E "s/\"series\": ${pages/,/}/\"series\": 1/" "$TOP/harness/bench/results.json" \
	>"$repo/harness/bench/results.json"
"$repo/harness/lint/claims.py" >"$tmp/said"
equals "another run of make bench: each place with the old figure" \
	"$(sed -n "s/:[0-9]*: $pages is not .*//p" "$tmp/said" | sort)" \
	"$(cd "$TOP" && grep -l "$pages" PERFORMANCE.md $rst series/*.txt | sort)"
cp "$TOP/harness/bench/results.json" "$repo/harness/bench"

n=$(line CLAIMS.md '^| what a device writes through')
wrong "a test that does not exist" CLAIMS.md "${n}s/write_shmem/write_shmen/" \
	"CLAIMS.md:$n: there is no test, or no step of make check runs it: hmm-tests:write_shmen"
wrong "a mutant" CLAIMS.md "${n}s/hmm-gives-up/hmm-gives-in/" \
	"CLAIMS.md:$n: harness/check/mutants.list has no: hmm-gives-in"
wrong "words that are not there" CLAIMS.md "${n}s/holds the mmap lock/drops the mmap lock/" \
	"CLAIMS.md:$n: README.md does not say: $(
		sed -n "${n}s/^| \(.*\)holds\(.*\) | .*/\1drops\2/p" "$TOP/CLAIMS.md")"
wrong "a claim that nothing backs" CLAIMS.md "${n}s/ \| [^|]* \|\$/ | of course |/" \
	"CLAIMS.md:$n: nothing backs: $(sed -n "${n}s/^| \(.*\) | .*/\1/p" "$TOP/CLAIMS.md")"
n=$(line CLAIMS.md '^| No 2 MiB leaf extends')
wrong "a step" CLAIMS.md "${n}s/step: demo/step: demos/" \
	"CLAIMS.md:$n: make check has no step: demos"
wrong "a kind of thing" CLAIMS.md "${n}s/step: demo/steps: demo/" \
	"CLAIMS.md:$n: there is no such kind of thing: demo"
wrong "not tested, and no reason" CLAIMS.md "${n}s/\`step: demo\`/not tested:/" \
	"CLAIMS.md:$n: nothing backs: No 2 MiB leaf extends beyond the end of the file"
n=$(line CLAIMS.md '^| the record of the series is')
wrong "a value" CLAIMS.md "${n}s/series_bytes/base_bytes/" \
	"CLAIMS.md:$n: results.json has 2,097,152 for: dma_map_pud_1g.base_bytes"
n=$(line CLAIMS.md 'hmm_dax:hugetlb_pmd.read')
none="there is no test, or no step of make check runs it:"
wrong "a test that is there no more" tools/testing/selftests/mm/hmm_dax.c \
	's/^(FIXTURE_VARIANT_ADD\(hmm_dax, )hugetlb_pmd/\1hugetlb/' \
	"CLAIMS.md:$n: $none hmm_dax:hugetlb_pmd.read"
wrong "a suite that nothing runs" harness/guest-tests.sh \
	's/kunit-results hmm_blocks/kunit-results hmm/' \
	"$(grep -no '`test: KUnit:hmm_blocks[^`]*' "$TOP/CLAIMS.md" |
		sed "s/^\([0-9]*\):\`test: /CLAIMS.md:\1: $none /")"
echo "Subject: a set" >"$repo/series/cover-letter-new.txt"
"$repo/harness/lint/claims.py" >"$tmp/said"
equals "a document without a claim" "$(sed '$d' "$tmp/said")" \
	"CLAIMS.md: no section for series/cover-letter-new.txt"
rm "$repo/series/cover-letter-new.txt"

cat >"$repo/harness/guest" <<'END'
#!/bin/sh
echo "$KERNEL: $RUN" >>"$BUILD/ran"
echo 'fault_cold_pud_1g 262144 1 1837500 1836900'
echo 'fault_cold_pud_1g_list 262144 1 2500 2000'
END
mkdir "$tmp/build"
BUILD=$tmp/build ARCH=riscv64 PAGES='' t "make bench on another machine" \
	"$repo/harness/bench/bench.py"
equals "runs the series kernel only" "$(sed 's/:.* / /' "$tmp/build/ran")" "series cost"
equals "and makes its section anew, of what it has measured" \
	"$(python3 - "$tmp/build/bench" "$TOP/harness/bench" <<'END'
import json, sys
new, old = (json.load(open(d + "/results.json")) for d in sys.argv[1:])
print([m for m in old if new[m] != old[m]], sorted(new["riscv64"]), sep="\n")
for name, case in new["riscv64"]["cases"].items():
    print(name, case)
END
)" "['riscv64']
['cases', 'measured']
fault_cold_pud_1g {'base': 0, 'series': 1837500, 'limit': 1836900, 'pages': 262144, 'leaves': 1}
fault_cold_pud_1g_list {'base': 0, 'series': 2500, 'limit': 2000, 'pages': 262144, 'leaves': 1}"
finish
