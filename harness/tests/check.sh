#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What make check counts as passed: only what says so. And what T= picks.
. "$(dirname "$0")/lib.sh"
. "$TOP/harness/guest-tests.sh"
eval "$(sed -n '/^run() {/,/^}/p' "$TOP/harness/check/check")"

# Says what a step of that name counts, for a command that prints lines and exits.
counts() { # NAME STATUS LINE...
	# shellcheck disable=SC2034	# step's
	local logs=$tmp times=$tmp/times
	says() { local status=$1; shift; (($# == 0)) || printf '%s\n' "$@"; return "$status"; }
	run "$1" says "${@:2}" >"$tmp/out"
	tail -n 1 "$tmp/counts"
}

equals "two results" "$(counts x 0 'ok 1 a' 'ok 2 b')" "2 0 0"
equals "a result that is bad" "$(counts x 1 'ok 1 a' 'not ok 2 b')" "1 1 0"
equals "a bad result, though the status is good" "$(counts x 0 'not ok 1 b')" "0 1 0"
equals "a bad status, though the results are good" "$(counts x 1 'ok 1 a')" "1 1 0"
equals "no output" "$(counts x 0)" "0 1 0"
equals "no result" "$(counts x 0 'all is well')" "0 1 0"
equals "a skipped test" "$(counts x 0 'ok 1 a # SKIP none here')" "0 0 1"
equals "a skipped test in the guest" \
	"$(counts 'x, series kernel' 0 'ok 1 a' 'ok 2 b # SKIP none')" "1 1 0"
equals "why, once more at the end" \
	"$(tail -n 3 "$tmp/failed" | sed 's/; the whole log.*//')" "x, series kernel:
status 0
      1 SKIP none"
equals "one that is not for that memory" \
	"$(counts 'x, series kernel' 0 'ok 1 a' 'ok 2 b # SKIP not for this memory')" "1 0 0"
equals "a test program's totals" "$(counts x 0 1..3 'ok 1 a' 'ok 2 b' 'ok 3 c' \
	'# Totals: pass:3 fail:0 xfail:0 xpass:0 skip:0 error:0')" "3 0 0"
equals "one that ran none of its tests" "$(counts x 0 1..0 \
	'# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:0 error:0')" "0 1 0"
equals "one of two that ran none" "$(counts x 0 \
	1..1 'ok 1 a' '# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0' \
	1..0 '# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:0 error:0')" "1 1 0"

# A copy of it whose steps, kernels and guests are stand-ins: what runs in a guest passes,
# and is noted in $tmp/ran, and so is whatever else is run.
mkdir -p "$tmp"/harness/{check,lint,tests} "$tmp"/build/kernel-{series,debug}/selftests
cp "$TOP"/harness/{lib.sh,guest-tests.sh} "$tmp/harness"
cp "$TOP/harness/check/check" "$tmp/harness/check"
cat >"$tmp/harness/guest" <<END
#!/bin/bash
printf '%s: %s\n' "\$KERNEL" "\$RUN" >>"$tmp/ran"
echo "\${RESULT-ok 1 that}"
END
for name in base series prepare lint/lint each-patch tests/one.sh; do
	printf '#!/bin/sh\necho %s "$@" >>%s\n' "$name" "$tmp/ran" >"$tmp/harness/$name"
done
echo 'echo ok 1 lint' >>"$tmp/harness/lint/lint"
echo 'echo not ok 1 patch' >>"$tmp/harness/each-patch"
# As kselftest_harness.h prints it.
cat >"$tmp/build/kernel-series/selftests/hmm_dma" <<'END'
#!/bin/sh
echo '# [INFO] detected hugetlb page size: 2048 KiB'
cat >&2 <<LIST
# FIXTURE            VARIANT                   TEST
global                                         memcg
                                               arguments
--------------------------------------------------------------------------------
hmm_dma              ext4_pmd                  munmap
                     devdax_pud                munmap_all
                                               no_memory
LIST
END
cp "$tmp"/build/kernel-{series,debug}/selftests/hmm_dma
chmod -R +x "$tmp/harness" "$tmp/build"
picks() { # T [VARIABLE=VALUE]: the lines that name steps
	rm -f "$tmp/ran"
	env JOBS=1 "${@:2}" T="$1" BUILD="$tmp/build" "$tmp/harness/check/check" >"$tmp/said" 2>&1
	sed -n 's/  .*passed .*//p' "$tmp/said"
}
last() { tail -n 1 "$tmp/said"; }
listed() { # NAME: what stands beside it
	T=list BUILD=$tmp/build "$tmp/harness/check/check" 2>/dev/null | sed -n "s/^$1  *//p"
}
what() { grep -oE -e "$1" "$tmp/ran"; }

equals "T=list: no time yet" "$(listed lint)" "-"
equals "T=list: of each step" \
	"$(T=list BUILD=$tmp/build "$tmp/harness/check/check" 2>"$tmp/said" | wc -l)" \
	"$(grep -cE '^\s*step "' "$TOP/harness/check/check")"
t "T=list: a legend" grep -q "^hmm-dax: .*T=word:TEST picks a test" "$tmp/said"
t "T=list runs nothing" test ! -e "$tmp/ran" -a ! -e "$tmp/build/check"
equals "T=list: what a filter is like" \
	"$(listed 'hmm_dma, series kernel'; listed 'KUnit: nouveau, gpusvm, xe.*kernel')" \
	"-  :TEST
-  :SUITE.TEST"
equals "T= one word" "$(picks lint; last)" $'lint\n1 passed, 0 failed, 0 skipped'
equals "no more than it needs" "$(<"$tmp/ran")" $'base\nseries tree\nlint/lint'
equals "T= words: a step that has one of them" "$(picks 'compiles lint')" \
	$'lint\neach patch compiles'
equals "T= a regular expression" "$(picks 'compiles|^li[n]t')" $'lint\neach patch compiles'
equals "T= the name of a step" "$(picks 'hmm_dma, series kernel')" "hmm_dma, series kernel"
equals "T= one with a colon in it" "$(picks 'harness: one')" "harness: one"
equals "T= part of a name" "$(picks 'KUnit:.nouveau')" \
	"KUnit: nouveau, gpusvm, mshv, amdkfd, xe, mlx5, series kernel
KUnit: nouveau, gpusvm, xe, mlx5, debug kernel"
echo 'sleep 1' >>"$tmp/harness/lint/lint"
picks 'compiles lint' >/dev/null
t "T=list: the time of the last run" grep -qE '^[1-3] s$' <<<"$(listed lint)"
equals "T=list: none of one that failed" "$(listed 'each patch compiles')" "-"

equals "T= a test's filter" "$(picks '^hmm_dma,.series:devdax_pud.munmap'; last; what '-r .* ')" \
	"hmm_dma, series kernel: devdax_pud.munmap
1 passed, 0 failed, 0 skipped
-r hmm_dma.devdax_pud.munmap "
equals "with the name of a step" "$(picks 'hmm_dma, series kernel:memcg'; what '-r .* ')" \
	"hmm_dma, series kernel: memcg
-r global.memcg "
equals "in each step that begins so" "$(picks 'hmm_dma:munmap_*'; what '-r .* ')" \
	"hmm_dma, series kernel: munmap_*
hmm_dma, virtio-iommu with gaps, series kernel: munmap_*
hmm_dma, debug kernel: munmap_*
$(yes -- '-r hmm_dma.ext4_pmd.munmap_all -r hmm_dma.devdax_pud.munmap_all ' | head -n 3)"
equals "none that the step leaves out" "$(picks 'hmm_dma:no_memory'; last)" \
	$'hmm_dma, debug kernel: no_memory\n1 passed, 0 failed, 0 skipped'
equals "its time is not that of the step" "$(listed 'hmm_dma, debug kernel')" "-  :TEST"
equals "several" "$(picks 'hmm_dma,.debug:memcg hmm_dma,.debug:arguments'; last)" \
	"hmm_dma, debug kernel: memcg
hmm_dma, debug kernel: arguments
2 passed, 0 failed, 0 skipped"
equals "a filter for no test" \
	"$(picks 'lint hmm_dma:munmap_ hmm_dma:memcg'; last; grep ^T= "$tmp/said")" \
	"lint
hmm_dma, series kernel: memcg
hmm_dma, virtio-iommu with gaps, series kernel: memcg
hmm_dma, debug kernel: memcg
4 passed, 1 failed, 0 skipped
T=hmm_dma:munmap_: none of these steps has a test of that name
T=hmm_dma:munmap_: none of these steps has a test of that name"
equals "a filter with which nothing ran" "$(picks 'hmm_dma,.series:memcg' RESULT=; last)" \
	$'hmm_dma, series kernel: memcg\n0 passed, 1 failed, 0 skipped'
equals "KUnit's filter" \
	"$(picks 'KUnit:hmm_bl*.test_memory'; what 'filter_glob=.*|modprobe hmm_[^)]*')" \
	"KUnit: hmm_dma, hmm_blocks, iommu_units, series kernel: hmm_bl*.test_memory
KUnit: hmm_dma, hmm_blocks, debug kernel: hmm_bl*.test_memory
filter_glob='hmm_bl*.test_memory'
modprobe hmm_blocks_kunit && kunit-results hmm_blocks
filter_glob='hmm_bl*.test_memory'
modprobe hmm_blocks_kunit && kunit-results hmm_blocks"
equals "KUnit's filter for no suite" "$(picks 'KUnit:hmm_bl.test_memory'; last)" \
	"0 passed, 1 failed, 0 skipped"

# Each says when it begins, and ends only when the other has begun.
for name in lint/lint each-patch; do
	cat >"$tmp/harness/$name" <<-END
		#!/bin/sh
		touch "$tmp/${name##*/}"
		for i in \$(seq 50); do
			[ ! -e "$tmp/lint" ] || [ ! -e "$tmp/each-patch" ] || exec echo ok 1 both
			sleep 0.1
		done
		echo not ok 1 alone
	END
done
both() { rm -f "$tmp"/{lint,each-patch}; picks 'compiles lint' JOBS="$1" >/dev/null; last; }
equals "JOBS=2: two steps beside each other" "$(both 2)" "2 passed, 0 failed, 0 skipped"
equals "JOBS=1: one after the other" "$(both 1)" "1 passed, 1 failed, 0 skipped"
refuses "JOBS=0" "JOBS=0: give a number" \
	env JOBS=0 T=lint BUILD="$tmp/build" "$tmp/harness/check/check"

# What a guest runs goes when make check is told to stop.
printf '#!/bin/sh\nexec sleep 1234.5\n' >"$tmp/harness/lint/lint"
for signal in INT TERM; do
	# In a shell of its own, as the tests are one that ignores SIGINT in the background.
	env T=lint BUILD="$tmp/build" python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$tmp/harness/check/check" >"$tmp/said" 2>&1 &
	for _ in $(seq 100); do ! pgrep -f 'sleep 1234\.5' >/dev/null || break; sleep 0.1; done
	kill -s $signal $!
	wait $!
	equals "SIG$signal: status 130, and nothing goes on" \
		"$? $(pgrep -fc 'sleep 1234\.5')" "130 0"
done

check() { rm -f "$tmp/ran"; T=$1 BUILD=$tmp/build "$tmp/harness/check/check"; }
refuses "T= words, one in no step" "T=such: no step has 'such' in its name" check 'lint such'
t "before any step" test ! -e "$tmp/ran"
refuses "T= a filter for a step that takes none" \
	"T=lint:one: no step whose name starts with 'lint' can pick tests" check lint:one
refuses "T= a filter, and the middle of a name" \
	"T=nouveau:nouveau_svm.*: no step whose name starts with 'nouveau' can" \
	check 'nouveau:nouveau_svm.*'
refuses "T= no regular expression" "T=\\(: no regular expression" check '('
DEPS=skip BUILD=$tmp/build make -s -C "$TOP" check T='such$step' >"$tmp/said" 2>&1
t "make check takes T literally" grep -qF 'T=such$step: no step' "$tmp/said"
for what in "check ONLY" "check KERNEL" "bench ONLY" "bench RUN" "peers FAULTS" "matrix SEED"; do
	# shellcheck disable=SC2086	# a target and an option
	make -s -C "$TOP" $what=x >"$tmp/said" 2>&1
	t "make ${what% *} takes no ${what#* }=" grep -qx ".*hmm-dax: make ${what/ / takes no }=.*" \
		"$tmp/said"
done
mkdir "$tmp/bin"
printf '#!/bin/sh\n' >"$tmp/bin/dpkg-query"	# no package is installed
chmod +x "$tmp/bin/dpkg-query"
PATH=$tmp/bin:$PATH DEPS=print BUILD=$tmp/build make -s -C "$TOP" check T=list >"$tmp/said" 2>&1
t "make check T=list needs no package" grep -q '^lint' "$tmp/said"
finish
