/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface of the HMM DMA test module to its test program. It is private
 * to the two, so not exported in include/uapi.
 *
 * /dev/hmm_dma_edu is QEMU's edu PCI device, which has a DMA engine;
 * /dev/hmm_dma_direct is a device without one and without IOMMU. An open file
 * mirrors one window of the address space of the process that opened it.
 *
 * Every request can return:
 *
 * -ENODEV:	The device was unbound from its driver. But for HMM_DMA_STATS the
 *		file remains useless.
 * -ESRCH:	The process that opened the file has exited.
 * -EFAULT:	An address of the caller's own memory is bad.
 * -EINTR:	A signal came while it waited for another request.
 * -ENOTTY:	There is no such request.
 */
#ifndef _LIB_TEST_HMM_DMA_UAPI_H
#define _LIB_TEST_HMM_DMA_UAPI_H

#include <linux/types.h>
#include <linux/ioctl.h>

/**
 * struct test_hmm_dma_window - HMM_DMA_MIRROR, HMM_DMA_MAP and HMM_DMA_UNMAP
 * @addr: (in) first user address, in bytes, page aligned
 * @npages: (in) length in pages
 * @flags: (in) HMM_DMA_MAP_*, for HMM_DMA_MAP only
 * @mapped: (out) leaves that this HMM_DMA_MAP mapped anew; 0 after an error
 *
 * HMM_DMA_MIRROR makes the window, in place of the one that the file had. After
 * an error there is none.
 *
 * -EINVAL:	The range is empty, not page aligned or no user memory.
 * -ENOMEM:	No memory.
 * -EOPNOTSUPP, -ENOSPC: From hmm_dma_window_init().
 *
 * HMM_DMA_MAP faults part of the window and maps it for the device.
 *
 * -EINVAL:	The range is empty, not page aligned or not in the window, a flag
 *		is unknown, or from hmm_range_fault().
 * -EPERM:	HMM_DMA_MAP_WRITE, and part of the range is read-only.
 * -EFAULT:	Part of the range has no memory, or none that may be accessed.
 * -EBUSY:	The range was invalidated again and again, for a second.
 * -ENOMEM:	From hmm_range_fault() or hmm_range_dma_map().
 * -EREMOTEIO:	From hmm_range_dma_map().
 *
 * HMM_DMA_UNMAP takes part of the window from the device, and the rest of the
 * leaves that this cuts. The process's mapping does not change.
 *
 * -EINVAL:	The range is empty, not page aligned or not in the window, or a
 *		flag is set.
 */
struct test_hmm_dma_window {
	__u64		addr;
	__u64		npages;
	__u64		flags;
	__u64		mapped;
};

/*
 * HMM_DMA_MAP_WRITE: for the device to write
 * HMM_DMA_MAP_SNAPSHOT: map what is there, fault nothing
 */
#define HMM_DMA_MAP_WRITE	0x1
#define HMM_DMA_MAP_SNAPSHOT	0x2

#define HMM_DMA_XFER_MAX	2048

/**
 * struct test_hmm_dma_xfer - HMM_DMA_READ, _WRITE, _RAW_READ and _RAW_WRITE
 * @addr: (in) where the device reads or writes: user address in the window, or
 *	for RAW requests DMA address; in bytes
 * @ptr: (in) address of the caller's buffer
 * @size: (in) in bytes, 1 to HMM_DMA_XFER_MAX
 * @faults: (out) device page faults that it took, not for RAW requests
 *
 * The device reads memory into the caller's buffer, or writes it from there. Each
 * takes 200 ms, and 100 ms for each leaf boundary that it crosses. What is not
 * mapped, or not for writing, is faulted as by HMM_DMA_MAP, page by page.
 *
 * RAW requests do not ask whether anything is mapped. The device does not tell
 * whether the IOMMU let it pass: look at the memory. When one is refused, what
 * it reads is undefined.
 *
 * -EINVAL:	@size is 0 or too large, or @addr not in the window.
 * -EOPNOTSUPP:	The device has no DMA engine.
 * -ETIMEDOUT:	The device did not finish within seconds.
 *
 * And all those of HMM_DMA_MAP, but for RAW requests.
 */
struct test_hmm_dma_xfer {
	__u64		addr;
	__u64		ptr;
	__u64		size;
	__u64		faults;
};

/**
 * struct test_hmm_dma_query - HMM_DMA_QUERY and HMM_DMA_IOVA
 * @addr: (in) HMM_DMA_QUERY: user address, in bytes
 * @dma: (out) DMA address that @addr is mapped at, in bytes. HMM_DMA_IOVA: (in)
 * @phys: (out) physical address of @addr as the record has it, in bytes
 * @iommu_phys: (out) physical address that the IOMMU has for @dma, in bytes; 0
 *	if it has none, or if there is no IOMMU
 * @order: (out) order of the leaf: 0 is a page, 9 are 2 MiB of 4 KiB pages
 * @flags: (out) HMM_DMA_IS_*; 0: nothing is mapped at @addr, and only this valid
 *
 * HMM_DMA_QUERY tells what is mapped at an address, HMM_DMA_IOVA what the IOMMU
 * has at any DMA address.
 *
 * -EINVAL:	HMM_DMA_QUERY: @addr is not in the window.
 */
struct test_hmm_dma_query {
	__u64		addr;
	__u64		dma;
	__u64		phys;
	__u64		iommu_phys;
	__u32		order;
	__u32		flags;
};

#define HMM_DMA_IS_MAPPED	0x1
#define HMM_DMA_IS_WRITABLE	0x2

/**
 * struct test_hmm_dma_stats - HMM_DMA_STATS
 * @invalidations: (out) calls of the window's notifier since HMM_DMA_MIRROR
 */
struct test_hmm_dma_stats {
	__u64		invalidations;
};

#define HMM_DMA_MIRROR		_IOWR('H', 0x20, struct test_hmm_dma_window)
#define HMM_DMA_MAP		_IOWR('H', 0x21, struct test_hmm_dma_window)
#define HMM_DMA_UNMAP		_IOWR('H', 0x29, struct test_hmm_dma_window)
#define HMM_DMA_READ		_IOWR('H', 0x22, struct test_hmm_dma_xfer)
#define HMM_DMA_WRITE		_IOWR('H', 0x23, struct test_hmm_dma_xfer)
#define HMM_DMA_RAW_READ	_IOWR('H', 0x24, struct test_hmm_dma_xfer)
#define HMM_DMA_RAW_WRITE	_IOWR('H', 0x25, struct test_hmm_dma_xfer)
#define HMM_DMA_QUERY		_IOWR('H', 0x26, struct test_hmm_dma_query)
#define HMM_DMA_IOVA		_IOWR('H', 0x27, struct test_hmm_dma_query)
#define HMM_DMA_STATS		_IOWR('H', 0x28, struct test_hmm_dma_stats)

#endif /* _LIB_TEST_HMM_DMA_UAPI_H */
