#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What make check counts as passed: only what says so.
. "$(dirname "$0")/lib.sh"
. "$TOP/harness/guest-tests.sh"
eval "$(sed -n '/^step() {/,/^}/p' "$TOP/harness/check")"
wanted() { :; }

# Says what a step of that name counts, for a command that prints lines and exits.
counts() { # NAME STATUS LINE...
	# shellcheck disable=SC2034	# step's
	local passed=0 failed=0 skipped=0 logs=$tmp
	says() { local status=$1; shift; (($# == 0)) || printf '%s\n' "$@"; return "$status"; }
	step "$1" says "${@:2}" >"$tmp/out"
	echo "$passed $failed $skipped"
}

equals "two results" "$(counts x 0 'ok 1 a' 'ok 2 b')" "2 0 0"
equals "a result that is bad" "$(counts x 1 'ok 1 a' 'not ok 2 b')" "1 1 0"
equals "a bad result, though the status is good" "$(counts x 0 'not ok 1 b')" "0 1 0"
equals "a bad status, though the results are good" "$(counts x 1 'ok 1 a')" "1 1 0"
equals "no output" "$(counts x 0)" "0 1 0"
equals "no result" "$(counts x 0 'all is well')" "0 1 0"
equals "a skipped test" "$(counts x 0 'ok 1 a # SKIP none here')" "0 0 1"
equals "a skipped test in the guest" "$(counts 'x, series kernel' 0 'ok 1 a' 'ok 2 b # SKIP none')" "1 1 0"
equals "why, once more at the end" "$(tail -n 3 "$tmp/failed" | sed 's/; the whole log.*//')" "x, series kernel:
status 0
      1 SKIP none"
equals "one that is not for that memory" "$(counts 'x, series kernel' 0 'ok 1 a' 'ok 2 b # SKIP not for this memory')" "1 0 0"
equals "a test program's totals" "$(counts x 0 1..3 'ok 1 a' 'ok 2 b' 'ok 3 c' \
	'# Totals: pass:3 fail:0 xfail:0 xpass:0 skip:0 error:0')" "3 0 0"
equals "one that ran none of its tests" "$(counts x 0 1..0 \
	'# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:0 error:0')" "0 1 0"
equals "one of two that ran none" "$(counts x 0 1..1 'ok 1 a' '# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0' \
	1..0 '# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:0 error:0')" "1 1 0"

mkdir "$tmp/build"
BUILD=$tmp/build T='no such step' refuses "T= what no step has" "T=no such step: no step has that" "$TOP/harness/check"
BUILD=$tmp/build T='(' refuses "T= no regular expression" "T=\\(: no regular expression" "$TOP/harness/check"
finish
