# SPDX-License-Identifier: GPL-2.0
# Sourced: the files that the series touches, compiled by object in a working tree
# of its own, drivers that no kernel of ours has built in among them.
# shellcheck shell=bash

linux=$BUILD/each/linux
cc=${CC:-gcc}
if command -v ccache >/dev/null; then
	cc="ccache $cc"
	export CCACHE_BASEDIR=$linux CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=time_macros
	export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-8G}
fi

checkout() { # REVISION
	mkdir -p "$BUILD/each"
	[ -d "$linux" ] || git -C "$BUILD/linux" worktree add -q --detach "$linux" hmm-dax-base
	git -C "$linux" checkout -q --detach "$1"
}

kmake() { # FOLDER ARGUMENT OF MAKE...
	make -C "$linux" O="$BUILD/each/$1" CC="$cc" HOSTCC="$cc" W=1 -j"$(nproc)" -s "${@:2}"
}

# In a folder nosvm all that has to do with SVM is left out. kconfig drops what the
# series has not got an option for as yet.
configure() { # FOLDER [ARGUMENT OF MAKE...]
	local parts=("$TOP"/harness/config/{guest,series,objects}.config)
	[ "$1" != nosvm ] || parts+=("$TOP/harness/config/objects-nosvm.config")
	mkdir -p "$BUILD/each/$1"
	cat "${parts[@]}" >"$BUILD/each/$1/all"
	kmake "$1" "${@:2}" KCONFIG_ALLCONFIG="$BUILD/each/$1/all" allnoconfig
	[ "$(git -C "$linux" rev-parse HEAD)" != "$(git -C "$linux" rev-parse hmm-dax)" ] ||
		"$TOP/harness/config-dropped" "$BUILD/each/$1/.config" "${parts[@]}"
}

# What is there of them, by the names that their Makefiles have for them: make would
# compile what is not configured, or part of another file, as well.
objects() { # FOLDER
	local skip='/nouveau_svm_kunit\.c$'
	[ "$1" != nosvm ] ||
		skip+='|/(nouveau_(svm|dmem)|kfd_(svm|migrate)|xe_svm|drm_gpusvm(_test)?|umem_odp|rxe_odp|test_hmm|hmm_dma_kunit)\.c$'
	git -C "$linux" diff --name-only --diff-filter=AM hmm-dax-base hmm-dax -- '*.c' ':!tools' |
		grep -vE "$skip" | while read -r f; do [ ! -f "$linux/$f" ] || echo "${f%.c}.o"; done |
		sed 's|/amd/amdkfd/|/amd/amdgpu/../amdkfd/|'
}
