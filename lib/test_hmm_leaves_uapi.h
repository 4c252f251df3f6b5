/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/hmm_leaves of lib/test_hmm_leaves.c: compare what hmm_range_fault() says
 * of the calling process's memory with the page table.
 */
#ifndef _LIB_TEST_HMM_LEAVES_UAPI_H
#define _LIB_TEST_HMM_LEAVES_UAPI_H

#include <linux/types.h>
#include <linux/ioctl.h>

/* Fault pages in for reading, or for writing; with neither: a snapshot. */
#define HMM_LEAVES_READ			0x01
#define HMM_LEAVES_WRITE		0x02
/* CHECK: own no device-private memory, instead of the first that is found. */
#define HMM_LEAVES_NO_OWNER		0x04
/* CHECK: random pages ask for READ or WRITE, each for itself, not all. */
#define HMM_LEAVES_PER_PAGE		0x08
/* RACE: a driver that does not call mmu_interval_read_retry(). */
#define HMM_LEAVES_NO_RETRY		0x10
/* RACE: a driver whose invalidate() callback does nothing. */
#define HMM_LEAVES_NO_INVALIDATE	0x20
/*
 * CHECK: output as lists of random length, one after the other; RACE: every other
 * time.
 */
#define HMM_LEAVES_LIST			0x40

/**
 * enum hmm_leaves_what - which comparison failed
 * @HMM_LEAVES_SAME: none
 * @HMM_LEAVES_ENTRY: an entry is not what the page table says
 * @HMM_LEAVES_ERROR: hmm_range_fault() returned another error than the VMAs
 *	call for; @got and @want are the negative error codes
 * @HMM_LEAVES_REQUEST: success, but a page that was asked for is missing
 * @HMM_LEAVES_DENSE: a list and dense output of the same range differ
 * @HMM_LEAVES_EINVAL: bad arguments did not give -EINVAL
 * @HMM_LEAVES_EXTENTS: the extents of a list do not follow on each other, could
 *	be fewer, are too many, or do not begin or end where they should
 */
enum hmm_leaves_what {
	HMM_LEAVES_SAME,
	HMM_LEAVES_ENTRY,
	HMM_LEAVES_ERROR,
	HMM_LEAVES_REQUEST,
	HMM_LEAVES_DENSE,
	HMM_LEAVES_EINVAL,
	HMM_LEAVES_EXTENTS,
};

/**
 * struct hmm_leaves_diff - the first difference that was found
 * @addr: user address in bytes
 * @got: entry of hmm_range_fault()'s output for that address
 * @want: the same as the page table has it
 * @what: &enum hmm_leaves_what
 * @reserved: 0
 */
struct hmm_leaves_diff {
	__u64	addr;
	__u64	got;
	__u64	want;
	__u32	what;
	__u32	reserved;
};

/**
 * struct hmm_leaves_check - argument of HMM_LEAVES_CHECK
 * @addr: (in) user address of the range in bytes, a multiple of the page size
 * @npages: (in) its length in pages, up to 1 GiB
 * @seed: (in) of all that is random
 * @count: (in) so many calls for random parts of the range come before the one
 *	for all of it
 * @flags: (in) HMM_LEAVES_*
 * @error: (out) 0 or the negative error code that hmm_range_fault() returned for
 *	all of the range
 * @reserved: (in) 0
 * @pages: (out) entries that were compared, in pages
 * @retries: (out) calls made again because the memory was invalidated meanwhile,
 *	or because a fault has mapped pages that nobody had asked for
 * @diff: (out) the difference, with -EUCLEAN
 *
 * Nobody else may change the memory during the call.
 *
 * ioctl() fails with
 *
 * * EUCLEAN: hmm_range_fault() is wrong, see @diff
 * * EINVAL: bad argument, such as a range that is not user memory
 * * EAGAIN: the memory was invalidated again and again
 * * ENOMEM: no memory for the arrays
 * * EINTR: killed
 * * EFAULT: this structure cannot be read or written
 */
struct hmm_leaves_check {
	__u64			addr;
	__u64			npages;
	__u64			seed;
	__u32			count;
	__u32			flags;
	__s32			error;
	__u32			reserved;
	__u64			pages;
	__u64			retries;
	struct hmm_leaves_diff	diff;
};

/**
 * struct hmm_leaves_race - argument of HMM_LEAVES_RACE
 * @addr: (in) user address of the mirrored memory in bytes, a multiple of the
 *	page size
 * @npages: (in) its length in pages, up to 1 GiB
 * @seed: (in) of all that is random
 * @count: (in) how many range faults to make, up to 1000000
 * @flags: (in) HMM_LEAVES_NO_RETRY, HMM_LEAVES_NO_INVALIDATE
 *	and HMM_LEAVES_LIST
 * @faults: (out) range faults made
 * @checked: (out) those whose output was compared with the page table
 * @retries: (out) those that the driver had to make again
 * @errors: (out) those that failed as they may: -EFAULT, -EPERM, -EBUSY, -ENOMEM
 * @pages: (out) entries that were compared, in pages
 * @diff: (out) the difference, with -EUCLEAN
 *
 * ioctl() fails as HMM_LEAVES_CHECK does, but not with EAGAIN, and with any other
 * error of hmm_range_fault().
 */
struct hmm_leaves_race {
	__u64			addr;
	__u64			npages;
	__u64			seed;
	__u32			count;
	__u32			flags;
	__u64			faults;
	__u64			checked;
	__u64			retries;
	__u64			errors;
	__u64			pages;
	struct hmm_leaves_diff	diff;
};

#define HMM_LEAVES_CHECK	_IOWR('L', 0x00, struct hmm_leaves_check)
#define HMM_LEAVES_RACE		_IOWR('L', 0x01, struct hmm_leaves_race)

#endif /* _LIB_TEST_HMM_LEAVES_UAPI_H */
