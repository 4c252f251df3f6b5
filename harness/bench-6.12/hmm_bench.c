// SPDX-License-Identifier: GPL-2.0
/* hmm_range_fault() has no flags there that it keeps. */
#define HMM_PFN_DMA_MAPPED	0

#include "../bench/hmm_bench.c"
