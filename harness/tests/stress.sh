#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make stress with bad input: a line that says what is wrong, before anything is started.
. "$(dirname "$0")/lib.sh"

run() { # VARIABLE=VALUE...
	env BUILD="$tmp/build" "$@" "$TOP/harness/stress/run"
}

refuses "no such kernel" "KERNEL=base: there are series, debug and kcsan" run KERNEL=base
refuses "SECONDS is no number" "SECONDS=x: give a number" run STRESS_SECONDS=x
refuses "no time at all" "SECONDS=0: give a number" run STRESS_SECONDS=0
refuses "SEED is too large" "SEED=99999999999: give a number" run SEED=99999999999
refuses "SEED is negative" "SEED=-1: give a number" run SEED=-1
refuses "WORKER is too large" "WORKER=16: give a number" run WORKER=16
refuses "operations of nobody" "OPS=1: .* WORKER=" run OPS=1
refuses "OPS is no list" "OPS=1-: give numbers" run WORKER=1 OPS=1-
refuses "CORRUPT is no number" "CORRUPT=one: give a number" run CORRUPT=one
equals "and nothing was started" "$(ls "$tmp/build" 2>/dev/null)" ""
finish
