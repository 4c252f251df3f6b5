// SPDX-License-Identifier: GPL-2.0
/*
 * A driver as there are many: it faults a page in, with the dense output that the base
 * has, and waits for nothing.
 */
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/module.h>

#include "dense.h"

static bool dense_invalidate(struct mmu_interval_notifier *notifier,
			     const struct mmu_notifier_range *range, unsigned long seq)
{
	mmu_interval_set_seq(notifier, seq);
	return true;
}

const struct mmu_interval_notifier_ops dense_ops = {
	.invalidate = dense_invalidate,
};

int dense_fault(struct mmu_interval_notifier *notifier, unsigned long addr, unsigned long *pfn)
{
	struct hmm_range range = {
		.notifier = notifier,
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = pfn,
		.default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
	};
	int ret;

	range.notifier_seq = mmu_interval_read_begin(notifier);
	mmap_read_lock(notifier->mm);
	ret = hmm_range_fault(&range);
	mmap_read_unlock(notifier->mm);
	if (!ret && !(*pfn & HMM_PFN_VALID))
		ret = -EFAULT;
	return ret;
}

MODULE_DESCRIPTION("Test of make compat");
MODULE_LICENSE("GPL");
