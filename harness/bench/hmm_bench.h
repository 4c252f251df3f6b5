/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HMM_BENCH_H
#define HMM_BENCH_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct hmm_bench_fault - one hmm_range_fault() over a range of the caller
 * @addr: (in) start, page aligned, bytes
 * @npages: (in) length in pages
 * @flags: (in) HMM_BENCH_WRITE: ask for write access to the whole range;
 *	HMM_BENCH_LIST: ask for output as a list
 * @faults: (out) handle_mm_fault() calls with FAULT_FLAG_REMOTE it made
 * @ns: (out) time in hmm_range_fault(), in nanoseconds; QEMU's instruction
 *	clock makes that instructions
 * @leaves: (out) page table leaves the result lies in
 * @max_order: (out) order of the largest of them
 *
 * Errors: EINVAL (range or flags), EOPNOTSUPP (a list, on the base kernel),
 * ENOMEM (its arrays), else what hmm_range_fault() returned.
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

/**
 * struct hmm_bench_walk - the walk that no list can do without
 * @addr: (in) start, bytes
 * @npages: (in) length in pages; all of it is mapped
 * @leaves: (out) leaves found
 * @ns: (out) time to go from the top of the page table down to each leaf and
 *	store one word for it
 *
 * Errors: EINVAL (npages is 0), ENOMEM, EFAULT (something is not mapped, or there are
 * more than a million leaves).
 */
struct hmm_bench_walk {
	__u64 addr;
	__u64 npages;
	__u64 leaves;
	__u64 ns;
};

/**
 * struct hmm_bench_dma - map a range for a device's DMA, and take it back
 * @window: (in) start of the mirror that the range is in, bytes
 * @window_npages: (in) its length in pages
 * @addr: (in) start of the range, bytes; it is faulted in for writing
 * @npages: (in) length in pages
 * @flags: (in) HMM_BENCH_DIRECT: the device without IOMMU; HMM_BENCH_GAPS: every
 *	second page is left out
 * @method: (in) HMM_BENCH_PAGES: hmm_dma_map_pfn() on each page, dense;
 *	HMM_BENCH_RANGE: hmm_range_dma_map(); HMM_BENCH_LIMIT: links and one sync
 *	over a layout known before, dense; HMM_BENCH_GPUSVM: the loop of
 *	drm_gpusvm, one link for each leaf; HMM_BENCH_GET_PAGES: drm_gpusvm itself,
 *	which finds the pages again, all of its code for one range; HMM_BENCH_ODP: a
 *	page fault of an RDMA device over the range, by umem_odp and mlx5, in
 *	@map_ns, and what of that its entries take in @unmap_ns; HMM_BENCH_ODP_LIMIT:
 *	a loop that fills as many entries, in @unmap_ns
 * @map_ns: (out) time to map
 * @unmap_ns: (out) time to take back
 * @bytes: (out) what the driver keeps for the mapping, 0 for HMM_BENCH_LIMIT
 *
 * Errors: EINVAL (range or flags), ENODEV (no edu device), EOPNOTSUPP (this
 * kernel or device has not that method), ENOMEM, EIO, else what the function
 * returned.
 */
struct hmm_bench_dma {
	__u64 window;
	__u64 window_npages;
	__u64 addr;
	__u64 npages;
	__u32 flags;
	__u32 method;
	__u64 map_ns;
	__u64 unmap_ns;
	__u64 bytes;
};

#define HMM_BENCH_WRITE		1
#define HMM_BENCH_DIRECT	4
#define HMM_BENCH_LIST		2
#define HMM_BENCH_GAPS		8

enum {
	HMM_BENCH_PAGES,
	HMM_BENCH_RANGE,
	HMM_BENCH_LIMIT,
	HMM_BENCH_GPUSVM,
	HMM_BENCH_GET_PAGES,
	HMM_BENCH_ODP,
	HMM_BENCH_ODP_LIMIT
};

#define HMM_BENCH_FAULT		_IOWR('B', 0, struct hmm_bench_fault)
#define HMM_BENCH_FILL		_IOWR('B', 1, struct hmm_bench_fill)
#define HMM_BENCH_WALK		_IOWR('B', 2, struct hmm_bench_walk)
#define HMM_BENCH_DMA		_IOWR('B', 3, struct hmm_bench_dma)

#endif
