#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make scale with bad input: a line that says what is wrong, before anything is started.
. "$(dirname "$0")/lib.sh"

run() { # VARIABLE=VALUE...
	env BUILD="$tmp/build" "$@" "$TOP/harness/scale/run"
}

refuses "no such kernel" "KERNEL=base: there are series, debug and kcsan" run KERNEL=base
refuses "SECONDS is no number" "SECONDS=x: give a number" run STRESS_SECONDS=x
refuses "no time at all" "SECONDS=0: give a number" run STRESS_SECONDS=0
refuses "no such case" "ONLY=all: there are processes leaves" run ONLY="leaves all"
equals "and nothing was started" "$(ls "$tmp/build" 2>/dev/null)" ""
finish
