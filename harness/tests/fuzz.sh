#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make fuzz with bad input: a line that says what is wrong, before anything is started.
. "$(dirname "$0")/lib.sh"

run() { # VARIABLE=VALUE...
	env BUILD="$tmp/build" "$@" "$TOP/harness/fuzz/run"
}

refuses "no such kernel" "KERNEL=base: there are debug and series" run KERNEL=base
refuses "CALLS is no number" "CALLS=x: give a number" run CALLS=x
refuses "no call at all" "CALLS=0: give a number from 1 " run CALLS=0
refuses "SEED is too large" "SEED=99999999999: give a number" run SEED=99999999999
refuses "SEED is negative" "SEED=-1: give a number" run SEED=-1
refuses "ROUND is no number" "ROUND=1-2: give a number" run ROUND=1-2
refuses "a worker of no round" "WORKER=1: .* ROUND=" run WORKER=1
refuses "WORKER is too large" "WORKER=4: give a number" run ROUND=0 WORKER=4
refuses "no time at all" "LIMIT=0: give a number from 1 " run LIMIT=0
refuses "DROP names no errno" "DROP=HMM_DMA_MAP: give a request" run DROP=HMM_DMA_MAP
refuses "CORRUPT is no yes" "CORRUPT=no: there is CORRUPT=yes" run CORRUPT=no
equals "and nothing was started" "$(ls "$tmp/build" 2>/dev/null)" ""
finish
