# SPDX-License-Identifier: GPL-2.0
# Sourced: the files that the series touches, compiled by object in a working tree
# of its own, drivers that no kernel of ours has built in among them.
# shellcheck shell=bash

linux=$BUILD/each/linux
use_ccache "$linux"

checkout() { # REVISION
	# Another base means another build/linux, too, which knows nothing of it.
	cmp -s "$BUILD/base/id" "$BUILD/each/base/id" || rm -rf "$BUILD/each"
	if [ ! -d "$linux" ]; then
		git -C "$BUILD/linux" worktree prune
		git -C "$BUILD/linux" worktree add -q --detach "$linux" hmm-dax-base
		mkdir -p "$BUILD/each/base"
		cp "$BUILD/base/id" "$BUILD/each/base/id"
	fi
	git -C "$linux" checkout -q --detach "$1"
}

# shellcheck disable=SC2154	# cc is use_ccache's
kmake() { # FOLDER ARGUMENT OF MAKE...
	make -C "$linux" O="$BUILD/each/$1" ARCH="$karch" CROSS_COMPILE="$cross" CC="$cc" \
		HOSTCC="$hostcc" W=1 -j"$(nproc)" -s "${@:2}"
}

# In a folder nosvm all that has to do with SVM is left out. kconfig drops what the
# series has not got an option for as yet.
configure() { # FOLDER [ARGUMENT OF MAKE...]
	local parts=("$TOP"/harness/config/{guest,series,x86_64,objects}.config) sum
	[ "$1" != nosvm ] || parts+=("$TOP/harness/config/objects-nosvm.config")
	mkdir -p "$BUILD/each/$1"
	cat "${parts[@]}" >"$BUILD/each/$1/all"
	# Most patches touch no Kconfig.
	sum=$({
		cat "$BUILD/each/$1/all"
		git -C "$linux" ls-files -s -- '*Kconfig*'
		echo "${@:2}"
	} | sha256sum)
	if [ "$(cat "$BUILD/each/$1/from" 2>/dev/null)" != "$sum" ]; then
		rm -f "$BUILD/each/$1/from"
		kmake "$1" "${@:2}" KCONFIG_ALLCONFIG="$BUILD/each/$1/all" allnoconfig || return
		echo "$sum" >"$BUILD/each/$1/from"
	fi
	[ "$(git -C "$linux" rev-parse HEAD)" != "$(git -C "$linux" rev-parse hmm-dax)" ] ||
		"$TOP/harness/config-dropped" "$BUILD/each/$1/.config" "${parts[@]}"
}

# What is there of them, by the names that their Makefiles have for them: make would
# compile what is not configured, or part of another file, as well.
objects() { # FOLDER
	local skip='/nouveau_svm_kunit\.c$'
	if [ "$1" = nosvm ]; then
		skip+='|/(nouveau_(svm|dmem)|dax|kfd_(svm|migrate)|xe_svm|drm_gpusvm(_test)?|umem_odp'
		skip+='|rxe_odp|mlx5/odp|test_hmm|hmm_dma_kunit)\.c$'
	fi
	git -C "$linux" diff --name-only --diff-filter=AM hmm-dax-base hmm-dax -- '*.c' ':!tools' |
		grep -vE "$skip" | while read -r f; do [ ! -f "$linux/$f" ] || echo "${f%.c}.o"; done |
		sed 's|/amd/amdkfd/|/amd/amdgpu/../amdkfd/|'
}

# The selftests that are there.
selftests() {
	local mm=$linux/tools/testing/selftests/mm out=$BUILD/each/selftests tests=() t
	for t in $HMM_SELFTESTS; do
		[ ! -f "$mm/$t.c" ] || tests+=("$out/$t")
	done
	mkdir -p "$out"
	kmake svm headers &&
	make -s -C "$mm" O="$BUILD/each/svm" OUTPUT="$out" CC="$cc" \
		KHDR_INCLUDES="-isystem $BUILD/each/svm/usr/include" "${tests[@]}"
}

# What has compiled once is known by its tree and by what compiles it.
# shellcheck disable=SC2034	# for those who source this
compiled=$CACHE/compiled
tools=$({
	cat "$TOP"/harness/config/{guest,series,x86_64,objects,objects-nosvm}.config
	declare -f kmake configure objects selftests
	${CC:-gcc} --version
} | sha256sum)
key() { echo "$(git -C "$BUILD/linux" rev-parse "$1^{tree}") ${tools%% *}"; } # REVISION
