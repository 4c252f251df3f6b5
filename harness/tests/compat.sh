#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make compat: a driver that uses what the base has passes; what only one of base and
# series has is found. Compiles against both kernels.
. "$(dirname "$0")/lib.sh"

here=$TOP/harness/tests/compat
compat() { # FOLDER: what it says of it is in $tmp/said; prints the last line
	MODULE=$1 "$TOP/harness/peers/compat" >"$tmp/said" 2>&1
	tail -n 1 "$tmp/said"
}
driver() { # NAME FILE...: a folder with these of $here
	mkdir -p "$tmp/$1"
	(cd "$here" && cp "${@:2}" "$tmp/$1")
}
said() { grep -q "$@" "$tmp/said"; }

# A folder of files: one compiles on both, one only on the series, one only on the base,
# and one on neither.
driver files dense.c dense.h list.c
cat >"$tmp/files/removed.c" <<'END_OF_C'
#include <linux/hmm-dma.h>
int removed(struct device *dev, struct hmm_dma_map *map);
int removed(struct device *dev, struct hmm_dma_map *map)
{
	return hmm_dma_map_alloc(dev, map, 1, sizeof(long));
}
END_OF_C
echo '#error neither' >"$tmp/files/neither.c"
equals "a folder of files" "$(compat "$tmp/files")" "1 passed, 2 failed, 1 skipped"
t "what only the series has is named" said '^list.o: base and series differ'
t "with the base's error" said "^    -list.c: error: .*has no member named .extents"
t "what only the base has is named" said '^removed.o: base and series differ'
t "what compiles on neither is shown" said 'neither.o: fails on both: .*error: .*neither'

driver kbuild dense.c dense.h
mkdir "$tmp/kbuild/src"
mv "$tmp"/kbuild/dense.* "$tmp/kbuild/src"
echo 'obj-m := driver.o
driver-y := src/dense.o' >"$tmp/kbuild/Kbuild"
before=$(ls -lR --time-style=full-iso "$tmp/kbuild")
equals "a folder with a Kbuild" "$(compat "$tmp/kbuild")" "1 passed, 0 failed, 0 skipped"
equals "nothing is written there" "$(ls -lR --time-style=full-iso "$tmp/kbuild")" "$before"

mkdir "$tmp/neither"
mv "$tmp/files/neither.c" "$tmp/neither"
t "nothing passes: a bad status" bash -c "! MODULE=$tmp/neither $TOP/harness/peers/compat"

mkdir "$tmp/empty"
refuses "a folder without source" "neither a Kbuild nor a .c file" \
	env MODULE="$tmp/empty" "$TOP/harness/peers/compat"
refuses "no folder" "give the folder" env MODULE= "$TOP/harness/peers/compat"
finish
