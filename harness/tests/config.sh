#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# An option that kconfig dropped, changed or kept against our will is named.
. "$(dirname "$0")/lib.sh"

cat >"$tmp/fragment" <<'END'
# a comment
CONFIG_A=y
CONFIG_B=m
CONFIG_C=n
CONFIG_D="x=y"
END
printf 'CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D="x=y"\n' >"$tmp/good"
printf 'CONFIG_B=y\nCONFIG_C=y\nCONFIG_D="x=y"\n' >"$tmp/bad"
t "all options as asked" "$TOP/harness/config-dropped" "$tmp/good" "$tmp/fragment"
equals "dropped, changed and unwanted ones are named" \
	"$("$TOP/harness/config-dropped" "$tmp/bad" "$tmp/fragment" | sort | paste -sd' ')" \
	"CONFIG_A=y(is:n) CONFIG_B=m(is:y) CONFIG_C=n(is:y)"
printf 'CONFIG_A=n\n' >"$tmp/later"
equals "a later fragment overrides" \
	"$("$TOP/harness/config-dropped" "$tmp/good" "$tmp/fragment" "$tmp/later")" \
	"CONFIG_A=n(is:y)"
equals "no option stands twice in a fragment" \
	"$(for f in "$TOP"/harness/config/*.config; do
		grep -o '^CONFIG_[A-Z0-9_]*' "$f" | sort | uniq -d
	done)" ""
finish
