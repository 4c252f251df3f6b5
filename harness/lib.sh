# SPDX-License-Identifier: GPL-2.0
# Sourced by the scripts in harness/: the few things they all need.
# shellcheck shell=bash

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$TOP/build}
# shellcheck disable=SC2034	# used by the scripts that source this file
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/hmm-dax

# The base this series is for. Any 7.3.y serves.
# shellcheck disable=SC2034
SERIES_BASE=7.3

# shellcheck disable=SC2034
HMM_SELFTESTS="dax_mappings hmm-tests hmm_dax hmm_leaves hmm_dma"

# use_ccache SOURCE: $cc compiles files of that tree, as far as they are not in the
# cache, where they are the same for every clone.
use_ccache() {
	cc=${CC:-gcc}
	command -v ccache >/dev/null || return 0
	cc="ccache $cc"
	export CCACHE_BASEDIR=$1 CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=time_macros
	export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-8G}
}

say() { printf '%s\n' "hmm-dax: $*" >&2; }
die() { say "$*"; exit 1; }

# kernel_out base|series|debug: the output folder of that kernel. Each lies
# beside its source as ../linux, so that ccache serves one from the other.
kernel_out() {
	case $1 in
	base) echo "$BUILD/base/kernel" ;;
	series|debug) echo "$BUILD/kernel-$1" ;;
	*) die "KERNEL=$1: there are base, series and debug" ;;
	esac
}

# progress TEXT TOTAL UNIT: count the lines on standard input and say so: once
# a second in one line that moves, or, when that is no terminal, every 20 s.
progress() {
	local n=0 of='' due=0 step=20 start='' end=$'\n'
	if [ -t 2 ]; then step=1 start=$'\r' end=; fi
	due=$((SECONDS + step))
	while read -r _; do
		((++n))
		((SECONDS >= due)) || continue
		due=$((SECONDS + step))
		of=
		((n > $2)) || of=" of about $2"
		printf '%shmm-dax: %s: %d%s %s%s' "$start" "$1" $n "$of" "$3" "$end" >&2
	done
	printf '%shmm-dax: %s: %d %s          \n' "$start" "$1" $n "$3" >&2
}

# version_of DIR: the version that a kernel tree's top Makefile states.
version_of() {
	awk -F' *= *' '
		$1 == "VERSION"      { v = $2 }
		$1 == "PATCHLEVEL"   { p = $2 }
		$1 == "SUBLEVEL"     { s = $2 }
		$1 == "EXTRAVERSION" { e = $2; exit }
		END { if (v != "") print v "." p "." s e }' "$1/Makefile"
}

# need_space DIR GIB: stop before a disk fills up, not after.
need_space() {
	local free
	mkdir -p "$1"
	free=$(df -Pk "$1" | awk 'END { print $4 }')
	[ "$free" -ge $(($2 * 1024 * 1024)) ] ||
		die "$1 has $((free / 1024)) MiB free and this needs $2 GiB: make room there, or set $3 to a folder on a larger disk"
}

# locked FILE COMMAND...: one at a time.
locked() {
	local lock_file=$1
	shift
	mkdir -p "${lock_file%/*}"
	(
		flock -n 9 || { say "waiting for another run in ${lock_file%/*}"; flock 9; }
		"$@"
	) 9>"$lock_file"
}
