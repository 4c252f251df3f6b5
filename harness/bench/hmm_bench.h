/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HMM_BENCH_H
#define HMM_BENCH_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct hmm_bench_fault - one hmm_range_fault() over a range of the caller
 * @addr: (in) start, page aligned, bytes
 * @npages: (in) length in pages
 * @flags: (in) HMM_BENCH_WRITE or 0: what the whole range is asked for
 * @faults: (out) handle_mm_fault() calls with FAULT_FLAG_REMOTE it made
 * @ns: (out) time in hmm_range_fault(), in nanoseconds; QEMU's instruction
 *	clock makes that instructions
 * @leaves: (out) page table leaves the result lies in
 * @max_order: (out) order of the largest of them
 *
 * Errors: EINVAL (range or flags), ENOMEM (its pfn array), else what
 * hmm_range_fault() returned.
 */
struct hmm_bench_fault {
	__u64 addr;
	__u64 npages;
	__u32 flags;
	__u32 max_order;
	__u64 faults;
	__u64 leaves;
	__u64 ns;
};

/**
 * struct hmm_bench_fill - the loop that no dense output can do without
 * @npages: (in) entries of the array
 * @ns: (out) time to read, modify and write each of them
 *
 * Errors: EINVAL (npages is 0), ENOMEM.
 */
struct hmm_bench_fill {
	__u64 npages;
	__u64 ns;
};

#define HMM_BENCH_WRITE		1

#define HMM_BENCH_FAULT		_IOWR('B', 0, struct hmm_bench_fault)
#define HMM_BENCH_FILL		_IOWR('B', 1, struct hmm_bench_fill)

#endif
