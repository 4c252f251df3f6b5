/* SPDX-License-Identifier: GPL-2.0 */
struct mmu_interval_notifier;
extern const struct mmu_interval_notifier_ops dense_ops;
int dense_fault(struct mmu_interval_notifier *notifier, unsigned long addr, unsigned long *pfn);
