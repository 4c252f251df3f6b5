/* SPDX-License-Identifier: GPL-2.0 */
/* A notifier that keeps the sequence, and nothing else. */
#ifndef HMM_BENCH_NOTIFIER_H
#define HMM_BENCH_NOTIFIER_H

#include <linux/mmu_notifier.h>

static bool invalidate(struct mmu_interval_notifier *mni,
		       const struct mmu_notifier_range *range,
		       unsigned long cur_seq)
{
	mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct mmu_interval_notifier_ops notifier_ops = {
	.invalidate = invalidate,
};

#endif
