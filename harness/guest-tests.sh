# SPDX-License-Identifier: GPL-2.0
# Sourced: the tests that run in the guest, each a function of the kernel's name, and
# what counts their results.
# shellcheck shell=bash

# A shell pattern: of a step that takes one, run only the tests that have such a name.
# That of a selftest's test is FIXTURE.VARIANT.TEST, or the end of it after a period; that
# of KUnit's is SUITE.TEST, as kunit.filter_glob has it.
FILTER=

# takes COMMAND: what FILTER is like for it; nothing if it takes none.
takes() {
	case $1 in
	dax_mappings|hmm_dax|hmm_leaves|hmm_dma|hmm_dma_gaps|hmm_tests) echo TEST ;;
	kunit) echo SUITE.TEST ;;
	esac
}

# tests_of PROGRAM: the full names of its tests. It lists them on standard error, and
# each fixture has its variants in one column and, beside them, its tests in the next.
tests_of() {
	"$1" -l 2>&1 >/dev/null | awk '
	function end_of_fixture(v, t) {
		for (v = 0; v < variants || !v; v++)
			for (t = 0; t < tests; t++)
				print fixture (variants ? "." variant[v] : "") "." test[t]
		variants = tests = 0
	}
	/^[#-]/ { end_of_fixture(); next }
	{
		fixture_here = substr($0, 1, 1) != " "
		if (fixture_here) fixture = $1
		if (substr($0, 22, 1) != " ") variant[variants++] = $(fixture_here + 1)
		if (substr($0, 48) != "") test[tests++] = substr($0, 48)
	}
	END { end_of_fixture() }'
}

# options KERNEL PROGRAM [OPTION...]: what the program is told: these options or, with
# FILTER, to run the tests of that name, but for those that -T leaves out.
options() {
	local name names=
	[ -n "$FILTER" ] || { echo "${*:3}"; return; }
	for name in $(tests_of "$(kernel_out "$1")/selftests/$2"); do
		# shellcheck disable=SC2053	# a pattern
		[[ $name == $FILTER || $name == *.$FILTER ]] || continue
		[[ " $* " == *" -T ${name##*.} "* ]] || names+=" -r $name"
	done
	# Without any option, it would run all of them.
	[ -n "$names" ] && echo "$names"
}

# The guest's exit status is the command's, so a splat fails a step as well.
in_guest() { # KERNEL SECONDS COMMAND
	KERNEL=$1 GUEST_TIMEOUT=$2 RUN=$3 "$TOP/harness/guest"
}

# All of upstream's tests but benchmark_thp_migration, which times migration,
# takes longer than all others together, and checks nothing that they do not. Swap is
# on a loop device: pmem is synchronous, and keeps no copy of what is read back.
hmm_tests() {
	local options pages=:
	# That of 6.12 takes hugetlb pages that are there.
	[ "$SERIES_BASE" = 7.3 ] || pages='echo 8 >/proc/sys/vm/nr_hugepages'
	options=$(options "$1" hmm-tests -T benchmark_thp_migration "${@:2}") || return
	in_guest "$1" 1500 "$pages;"' modprobe loop && truncate -s 64M /run/swap && losetup /dev/loop0 /run/swap &&
		mkswap /dev/loop0 >/dev/null && swapon /dev/loop0 && set -- $HMM_DAX_SPM &&
		modprobe test_hmm spm_addr_dev0=$1 spm_addr_dev1=$2 &&
		'"$(kernel_out "$1")"'/selftests/hmm-tests '"$options"
}
# As kselftest runs it, unless told which of it.
hmm_dax() { # KERNEL [OPTION OF THE TEST...]
	local options run="sh ./ksft_hmm_dax.sh"
	options=$(options "$1" hmm_dax "${@:2}") || return
	# 6.12 has no such scripts.
	[ -f "$(kernel_out "$1")/selftests/ksft_hmm_dax.sh" ] || run="./run_vmtests.sh -t hmm_dax"
	[ -z "$options" ] || run="modprobe test_hmm && ./hmm_dax $options"
	in_guest "$1" 1500 "dax-storage && . /run/storage &&
		cd $(kernel_out "$1")/selftests && $run"
}

# No device: what DAX mappings do to the CPU.
dax_mappings() {
	local options
	options=$(options "$1" dax_mappings) || return
	in_guest "$1" 300 "dax-storage && . /run/storage &&
		$(kernel_out "$1")/selftests/dax_mappings $options"
}

# GUP of what userfaultfd protects from all accesses, in hugetlb also with PUD leaves.
uffd_rwp() {
	MEM=8192 APPEND="default_hugepagesz=1G hugepagesz=1G hugepages=4" \
		in_guest "$1" 300 "$(kernel_out "$1")/selftests/uffd-unit-tests -f rwp-gup |
			sed 's/ok \([0-9]*\) # SKIP/not ok \1/'"
}

# A device-dax of 1 GiB leaves in memory that it shares with others.
dax_align() {
	DAX=hmem in_guest "$1" 120 dax-align
}

# FAULTS: range faults in each of the races.
hmm_leaves() { # KERNEL FAULTS [OPTION OF THE TEST...]
	local options faults=${FAULTS:-$2}
	options=$(options "$1" hmm_leaves "${@:3}") || return
	in_guest "$1" $((1800 + faults / 20)) "dax-storage && . /run/storage && modprobe test_hmm &&
		modprobe test_hmm_leaves && export HMM_LEAVES_FAULTS=$faults &&
		$(kernel_out "$1")/selftests/hmm_leaves $options"
}

# What devices write is flushed from the CPU's caches by the next sync.
flush_record() {
	in_guest "$1" 900 "dax-storage && . /run/storage && modprobe test_hmm &&
		modprobe test_hmm_dma && flush-record \$HMM_DAX_EXT4 \$HMM_DAX_XFS"
}

# Whatever the test does, nothing may stay in the IOMMU. The two tests that leave
# memory behind that nobody should use have a guest of their own. On a kernel that
# lets allocations fail, what is mapped is also taken back at once.
hmm_dma() { # KERNEL [OPTION OF THE TEST...]
	local options balance=${FILTER:+-n}
	options=$(options "$1" hmm_dma -T hwpoison -T namespace "${@:2}") || return
	[ "$1" != debug ] || balance+=" -u"
	P2PDMA=yes in_guest "$1" 2400 "dax-storage && . /run/storage && set -- \$HMM_DAX_SPM &&
		modprobe test_hmm spm_addr_dev0=\$1 spm_addr_dev1=\$2 && modprobe test_hmm_dma && p2pmem &&
		iommu-balance $balance bash -c '$(kernel_out "$1")/selftests/hmm_dma $options &&
			modprobe -r test_hmm_dma'"
}
# Of the rows of harness/check/matrix the one that shows most in its time: an IOMMU that takes
# back no part of what one request mapped.
hmm_dma_gaps() {
	IOMMU=virtio-gaps hmm_dma "$1" -T no_memory -T no_memory_cold -v anon_pte -v ext4_pmd -v devdax_pud
}
hmm_dma_destroy() {
	in_guest "$1" 1200 "export XFS_GROUPS=1 HMM_DMA_DESTROY=1; dax-storage && . /run/storage &&
		modprobe test_hmm_dma && cd $(kernel_out "$1")/selftests &&
		iommu-balance bash -c './hmm_dma -t hwpoison &&
			./hmm_dma $(printf -- '-r hmm_dma.%s.namespace ' \
				xfs_pmd devdax_pte devdax_pmd devdax_pud) && modprobe -r test_hmm_dma'"
}

# KUnit suites without a device of their own, by module: each prints what a guest runs.
# Those of the window are for a device without an IOMMU, and for the nvme controller,
# which has one and memory that it reaches by its bus address.
run_hmm_dma() {
	echo "nvme=\$(p2pmem) && nvme=\${nvme%/p2pmem/*} &&
		{ iommu-balance ${FILTER:+-n} -u modprobe hmm_dma_kunit \$(translated \${nvme##*/})
		  balanced=\$?; } &&
		kunit-results hmm_dma hmm_dma_iommu && [ \$balanced = 0 ]"
}
run_hmm_blocks() { echo "modprobe hmm_blocks_kunit && kunit-results hmm_blocks"; }
run_iommu_units() { echo "modprobe iommu_units_kunit && kunit-results iommu_units"; }

# No GPU in there: the suites of page tables, and of faults on mappings of DAX.
run_nouveau() {
	echo "dax-storage && dax=\$(dax-list svm) || exit
		edu=\$(grep -lx 0x11e8 /sys/bus/pci/devices/*/device) && edu=\${edu%/device}
		echo always >/sys/kernel/mm/transparent_hugepage/enabled
		cd /sys/kernel/debug && [ ! -d failslab ] || {
			echo N | tee failslab/ignore-gfp-wait fail_page_alloc/ignore-gfp-wait
			echo 0 >fail_page_alloc/min-order; } >/dev/null; cd /run
		modprobe nouveau svm_kunit_pci=\${edu##*/} svm_kunit_dax=\$dax &&
		${FILTER:+! grep -qs test_atomic /sys/kernel/debug/kunit/nouveau_svm/results ||}
		grep -q 'test_atomic: a THP' /sys/kernel/debug/kunit/nouveau_svm/results ||
			echo 'not ok test_atomic had no THP'
		${FILTER:+true ||} [ ! -d /sys/kernel/debug/failslab ] ||
			grep -q 'test_no_memory: [1-9][0-9]* of' \
				/sys/kernel/debug/kunit/nouveau_svm/results ||
			echo 'not ok test_no_memory had no failure'
		modprobe nouveau_dmem_mocks && kunit-results nouveau_vmm_pfn nouveau_svm nouveau_dmem"
}

# Of the series for 6.12: the page tables alone.
run_nouveau_vmm() { echo "modprobe nouveau && kunit-results nouveau_vmm_pfn"; }

# drm_gpusvm: first for a device without an IOMMU, then for edu, which has one.
run_gpusvm() {
	echo "dax-storage && dax=\$(dax-list gpusvm) && p2p=\$(p2pmem) || exit
		edu=\$(grep -lx 0x11e8 /sys/bus/pci/devices/*/device) && edu=\${edu%/device}
		echo always >/sys/kernel/mm/transparent_hugepage/enabled
		{ iommu-balance ${FILTER:+-n} modprobe drm_gpusvm_test \$(translated \${edu##*/}) \
			dax=\$dax,\$p2p:0; balanced=\$?; } &&
		kunit-results drm_gpusvm drm_gpusvm_iommu && [ \$balanced = 0 ]"
}

# Drivers without their hardware, by harness/mocks: SUITES of tests in MODULES. With
# P2PDMA=yes one memory more: that of a PCI device; with PUD=no none of 1 GiB.
run_mocks() { # SUITES MODULE...
	echo "dax-storage ${PUD:+&& sed -i /_PUD=/d /run/storage} && p2p=${P2PDMA:+\$(p2pmem)} &&
		echo always >/sys/kernel/mm/transparent_hugepage/enabled &&
		for module in ${*:2}; do
			dax=\$(dax-list mocks) && modprobe \$module dax=\$dax\${p2p:+,\$p2p:0} || exit
		done; kunit-results $1"
}
run_mshv() { run_mocks mshv mshv_mocks; }
run_amdkfd() {
	run_mocks "kfd_svm amdgpu_userptr amdxdna" \
		kfd_svm_mocks amdgpu_userptr_mocks amdxdna_mocks
}
run_xe() { P2PDMA=yes run_mocks "xe_vm xe_svm" xe_vm_mocks xe_svm_mocks; }
# The last one: it takes the memory with leaves of a PUD away.
# Its device is on no bridge of arm64's machine that lets P2PDMA pass.
run_mlx5() {
	P2PDMA=$([ "$ARCH" = arm64 ] || echo yes) PUD=no \
		run_mocks "mlx5_odp umem_odp" mlx5_mocks
}

# suite_in COMMANDS: one of the suites whose results they print has the name in FILTER.
suite_in() {
	local suite suites
	suites=$(sed -n 's/.*kunit-results \([a-z0-9_ ]*\).*/\1/p' <<<"$1")
	for suite in $suites; do
		# shellcheck disable=SC2053	# a pattern
		[[ $suite != ${FILTER%%.*} ]] || return 0
	done
	return 1
}

# kunit KERNEL NAME...: these in one guest, as booting takes longer than most of them.
kunit() {
	local name run=''
	for name in "${@:2}"; do
		[ -z "$FILTER" ] || suite_in "$(run_"$name")" || continue
		run+="($(run_"$name")); rc=\$?"$'\n'
		run+="[ \$rc = 0 ] || { echo \"not ok $name: status \$rc\"; bad=1; }"$'\n'
	done
	[ -n "$run" ] || return
	P2PDMA=yes in_guest "$1" $((300 + 300 * ($# - 1))) "bad=0
		modprobe kunit enable=1 autorun=1 ${FILTER:+filter_glob='$FILTER'}
		$run
		[ \$bad = 0 ]"
}
hmm_dma_kunit() { kunit "$1" hmm_dma; }
hmm_blocks_kunit() { kunit "$1" hmm_blocks; }
iommu_units_kunit() { kunit "$1" iommu_units; }
nouveau_kunit() { kunit "$1" nouveau; }
gpusvm_kunit() { kunit "$1" gpusvm; }
mshv_mocks() { kunit "$1" mshv; }
amdkfd_mocks() { kunit "$1" amdkfd; }
xe_mocks() { kunit "$1" xe; }
mlx5_mocks() { kunit "$1" mlx5; }

# umem_odp, driven as mlx5 does: nothing may be wrong.
odp_race() {
	in_guest "$1" 600 'echo 8 >/proc/sys/vm/nr_hugepages; modprobe odp_race && failed=0 &&
		for how in "-t 10 munmap" "-t 3 hugetlb" "-t 15 -f 4 zap" "-t 15 zap" \
				"-t 10 -f 3 thp" "-t 10 -f 3 -o 3 -p 300 thp" \
				"-t 10 -f 4 -o 3 -p 100 zap" "-t 5 fork" "-t 10 -f 3 fork"; do
			if odp-threads $how; then echo "ok $how"; else echo "not ok $how"; failed=1; fi
		done; [ $failed = 0 ]'
}

# A consumer that really runs: RDMA on soft-RoCE, by a program that compares each
# byte and by perftest.
rdma_odp() {
	in_guest "$1" 600 rdma-test
}

# All devices and all memory at once, against a model that knows every byte. To look for
# fewer operations that fail takes up to two minutes more.
# The program tells when a single test does not end.
sweep() { # KERNEL [OPTION OF sweep-test...]
	in_guest "$1" 14400 "sweep-test ${*:2}"
}

stress() { # KERNEL SECONDS SEED [OPTION OF stress...]
	in_guest "$1" $(($2 * 2 + 1200)) "stress-test -t $2 -s $3 ${*:4}"
}

# Bad input for each request of the test drivers. Of the slowest machine that was seen, 300
# calls a second.
fuzz() { # KERNEL CALLS SEED [OPTION OF fuzz...]
	in_guest "$1" $(($2 / 300 + 1200)) "fuzz-test -n $2 -s $3 ${*:4}"
}

# The counts of all TAP in a log: kselftest's own totals, or single results.
# Both may stand behind run_vmtests.sh's prefix. A program that ran none of its
# tests, as with the name of one that is not there, has failed.
tap() {
	awk '
	{ sub(/^(# )+/, "") }
	/^1\.\.0$/ { fail++; empty++ }
	/^Totals: pass:/ { split($0, t, /[: ]+/)
		for (i = 2; i < length(t); i += 2) n[t[i]] += t[i + 1]; totals = 1 }
	/^ok .*# SKIP/ { if (/not for this memory/) none++; else skip++; next }
	/^ok / { pass++ }
	/^not ok / { fail++ }
	END {
		if (totals) print n["pass"] + n["xfail"],
			n["fail"] + n["error"] + n["xpass"] + empty, n["skip"] - none
		else print pass + 0, fail + 0, skip + 0
	}' "$1"
}

# results LOG STATUS: the same for a command that has ended. Nothing said is a failure,
# whatever the status, and so is a bad status without one.
results() {
	local p f s
	read -r p f s < <(tap "$1")
	((f || ($2 == 0 && p + s > 0))) || f=1
	echo "$p $f $s"
}
