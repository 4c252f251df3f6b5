#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make sweep with bad input: a line that says what is wrong, before anything is started.
. "$(dirname "$0")/lib.sh"

run() { # VARIABLE=VALUE...
	env BUILD="$tmp/build" "$@" "$TOP/harness/sweep/run"
}

refuses "a kernel without failures" "KERNEL=series: there is debug" run KERNEL=series
refuses "ONLY is no expression" "ONLY=\\(: give an extended regular expression" run ONLY='('
refuses "ONLY would end the command" "ONLY=a'b: no test has a ' in its name" run ONLY="a'b"
refuses "BROKEN is not known" "BROKEN=all: there are record, memory and never" run BROKEN=all
equals "and nothing was started" "$(ls "$tmp/build" 2>/dev/null)" ""
finish
