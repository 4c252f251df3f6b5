# SPDX-License-Identifier: GPL-2.0
# Sourced by the scripts in harness/: the few things they all need.
# shellcheck shell=bash

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034	# used by the scripts that source this file
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/hmm-dax

say() { printf '%s\n' "hmm-dax: $*" >&2; }
die() { say "$*"; exit 1; }

# number_of NAME VALUE MIN MAX: a decimal number, of at most ten digits.
number_of() {
	[[ $2 =~ ^(0|[1-9][0-9]{0,9})$ ]] && (($2 >= $3 && $2 <= $4)) && return
	die "$1=$2: give a number from $3 to $4"
}

# BASE: the base, and with it the series. Any 7.3.y serves, or any 6.12.y.
#   SUITE           Debian's, that has the base's source
#   HMM_SELFTESTS   of its selftests, those that are built
# harness/series, in Python, knows of BASE and BUILD by itself.
SERIES_BASE=${BASE:-7.3}
# shellcheck disable=SC2034
case $SERIES_BASE in
7.3)
	BUILD=${BUILD:-$TOP/build} SUITE=trixie-backports
	HMM_SELFTESTS="dax_mappings hmm-tests hmm_dax hmm_leaves hmm_dma uffd-unit-tests" ;;
6.12)
	BUILD=${BUILD:-$TOP/build/6.12} SUITE=trixie
	HMM_SELFTESTS="dax_mappings hmm-tests hmm_dax" ;;
*) die "BASE=$SERIES_BASE: there are series for 7.3 (the default) and 6.12" ;;
esac

# use_ccache SOURCE: $cc (and $hostcc) compiles files of that tree, as far as they are not in the
# cache, where they are the same for every clone.
use_ccache() {
	cc=${CC:-${cross}gcc} hostcc=gcc
	command -v ccache >/dev/null || return 0
	cc="ccache $cc" hostcc="ccache $hostcc"
	export CCACHE_BASEDIR=$1 CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=time_macros
	export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-8G}
}

# The machine that kernels are for: ARCH, PAGES (the size of its pages), and CONFIG, more
# options than those of harness/config. Of these:
#   machine   what distinguishes the names of its folders; nothing for x86-64 alone
#   karch, cross, image   make's ARCH= and CROSS_COMPILE=, and the file that QEMU boots
#   debian    Debian's name of the architecture
# shellcheck disable=SC2034
machine() {
	local option
	case ${ARCH:=x86_64} in
	x86_64) karch=x86 cross='' image=arch/x86/boot/bzImage debian=amd64 sizes=4k ;;
	i386) karch=i386 cross=i686-linux-gnu- image=arch/x86/boot/bzImage debian=i386 sizes=4k ;;
	arm64) karch=arm64 cross=aarch64-linux-gnu- image=arch/arm64/boot/Image debian=arm64 sizes="4k 16k 64k" ;;
	riscv64) karch=riscv cross=riscv64-linux-gnu- image=arch/riscv/boot/Image debian=riscv64 sizes=4k ;;
	ppc64le) karch=powerpc cross=powerpc64le-linux-gnu- image=vmlinux debian=ppc64el sizes=64k ;;
	*) die "ARCH=$ARCH: there are x86_64, arm64, riscv64, ppc64le and i386" ;;
	esac
	PAGES=${PAGES:-${sizes%% *}}
	[[ " $sizes " == *" $PAGES "* ]] || die "PAGES=$PAGES: $ARCH has ${sizes// / and }"
	machine=''
	[ "$ARCH" = x86_64 ] || machine=-$ARCH-$PAGES
	[ -n "${CONFIG:=}" ] || return 0
	for option in $CONFIG; do
		[[ $option =~ ^[A-Z0-9_]+=.+$ ]] || die "CONFIG: '$option' is not like OPTION=y, without CONFIG_"
	done
	machine+=-$(tr ' ' '\n' <<<"$CONFIG" | sort | sha256sum | cut -c1-8)
}
machine

# kernel_out base|series|debug|kcsan: the output folder of that kernel. Each lies
# beside its source as ../linux, so that ccache serves one from the other.
kernel_out() {
	case $1 in
	base) echo "$BUILD/base/kernel$machine" ;;
	series|debug|kcsan) echo "$BUILD/kernel-$1$machine" ;;
	*) die "KERNEL=$1: there are base, series, debug and kcsan" ;;
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
