# SPDX-License-Identifier: GPL-2.0
# Sourced by doors that run all suites once, each in a guest of its own: $suites are the
# words that TESTS= may have, and $logs gets their logs.
# shellcheck shell=bash disable=SC2154	# set by who sources it

choose_suites() { # DOOR
	local word
	for word in ${TESTS:=${suites[*]}}; do
		[[ " ${suites[*]} " == *" $word "* ]] ||
			die "TESTS: no $word among ${suites[*]}"
	done
	[ "$ARCH" = x86_64 ] ||
		die "make $1 is for x86_64: not all suites run on ARCH=$ARCH"
}

# Tests of hmm_dma that need a kernel of another kind are left out.
args() { # SUITE
	case $1 in
	hmm_leaves) echo 1000 ;;
	hmm_dma) echo "-T no_memory -T no_memory_cold" ;;
	kunit) echo "hmm_dma hmm_blocks iommu_units nouveau gpusvm mshv amdkfd xe mlx5" ;;
	stress) echo "300 ${SEED:-1}" ;;
	esac
}

# run_suites KERNEL DOOR: missing SUITE says what that suite left behind too little of.
passed=0 failed=0 skipped=0
run_suites() {
	local suite rc p f s what
	for suite in $TESTS; do
		say "$2: $suite"
		rc=0
		# shellcheck disable=SC2046	# words
		"$suite" "$1" $(args "$suite") >"$logs/$suite.log" 2>&1 || rc=$?
		read -r p f s < <(results "$logs/$suite.log" "$rc")
		what=$(missing "$suite")
		if [ -n "$what" ]; then
			echo "$suite: $what; its log is $logs/$suite.log"
			f=$((f + 1))
		fi
		printf '%-16s %4d passed %3d failed %3d skipped\n' "$suite" "$p" "$f" "$s"
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	done
}
