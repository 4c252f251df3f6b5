// SPDX-License-Identifier: GPL-2.0
/*
 * Calls hmm_range_fault() once over a range of any size and counts. lib/test_hmm
 * cannot: it asks for 32 pages at a time. Built from this one source for the
 * base kernel and for the patched one.
 */
#include <linux/cleanup.h>
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "hmm_bench.h"
#include "notifier.h"

/* One call at a time; the counter belongs to the task that makes it. */
static DEFINE_MUTEX(bench_lock);
static struct task_struct *counted_task;
static u64 counted;

/* vm_fault_t handle_mm_fault(vma, address, unsigned int flags, regs) */
static bool count = true;
module_param(count, bool, 0444);
MODULE_PARM_DESC(count, "Count faults by a kprobe, which costs time (default: yes)");

static int count_fault(struct kprobe *p, struct pt_regs *regs)
{
	if (current == READ_ONCE(counted_task) &&
	    (regs_get_kernel_argument(regs, 2) & FAULT_FLAG_REMOTE))
		counted++;
	return 0;
}

static struct kprobe fault_probe = {
	.symbol_name = "handle_mm_fault",
	.pre_handler = count_fault,
};

/* Leaves, by their heads: an entry whose address its own order aligns. */
static void count_leaves(struct hmm_bench_fault *f, const unsigned long *pfns)
{
	u64 i = 0;

	while (i < f->npages) {
		unsigned int order = hmm_pfn_to_map_order(pfns[i]);
		u64 page = (f->addr >> PAGE_SHIFT) + i;

		f->max_order = max(f->max_order, order);
		f->leaves++;
		i += (1UL << order) - (page & ((1UL << order) - 1));
	}
}

#ifdef HAVE_LIST	/* see Kbuild: the base kernel has not */
#define BENCH_EXTENTS	32

/* The same, and where the list ends. */
static unsigned long count_listed(struct hmm_bench_fault *f,
				  const struct hmm_range *range)
{
	const struct hmm_extent *extent = range->extents;
	unsigned int i;

	for (i = 0; i < range->nr_extents; i++, extent++) {
		unsigned int order = hmm_pfn_to_map_order(extent->hmm_pfn);
		unsigned int shift = PAGE_SHIFT + order;

		f->max_order = max(f->max_order, order);
		f->leaves += ((extent->end - 1) >> shift) -
			     (extent->start >> shift) + 1;
	}
	return extent[-1].end;
}
#endif

static int bench_fault(struct hmm_bench_fault *f)
{
	struct mmu_interval_notifier notifier;
	struct hmm_range range = {
		.notifier = &notifier,
		.start = f->addr,
		.end = f->addr + (f->npages << PAGE_SHIFT),
		.default_flags = HMM_PFN_REQ_FAULT,
	};
	struct mm_struct *mm = current->mm;
	u64 start, ns;
	int ret;

	if (!f->npages || !PAGE_ALIGNED(f->addr) || range.end <= range.start ||
	    range.end > TASK_SIZE ||
	    (f->flags & ~(HMM_BENCH_WRITE | HMM_BENCH_LIST)))
		return -EINVAL;
	if (f->flags & HMM_BENCH_WRITE)
		range.default_flags |= HMM_PFN_REQ_WRITE;
#ifdef HAVE_LIST
	struct hmm_extent *extents __free(kfree) =
		kcalloc(BENCH_EXTENTS, sizeof(*extents), GFP_KERNEL);
	if (!extents)
		return -ENOMEM;
	range.max_extents = BENCH_EXTENTS;
	if (f->flags & HMM_BENCH_LIST)
		range.extents = extents;
#else
	if (f->flags & HMM_BENCH_LIST)
		return -EOPNOTSUPP;
#endif

	unsigned long *pfns __free(kvfree) = NULL;
	if (!(f->flags & HMM_BENCH_LIST)) {
		pfns = kvcalloc(f->npages, sizeof(*pfns), GFP_KERNEL);
		if (!pfns)
			return -ENOMEM;
	}
	range.hmm_pfns = pfns;

	ret = mmu_interval_notifier_insert(&notifier, mm, range.start,
					   range.end - range.start,
					   &notifier_ops);
	if (ret)
		return ret;

	f->ns = 0;
	f->leaves = 0;
	f->max_order = 0;
	counted = 0;
	WRITE_ONCE(counted_task, current);
	while (range.start < range.end) {
		range.notifier_seq = mmu_interval_read_begin(&notifier);
		mmap_read_lock(mm);
		start = ktime_get_ns();
		ret = hmm_range_fault(&range);
		ns = ktime_get_ns() - start;
		mmap_read_unlock(mm);
		if (fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
		if (ret == -EBUSY)
			continue;
		if (ret)
			break;
		f->ns += ns;
#ifdef HAVE_LIST
		if (range.extents) {
			range.start = count_listed(f, &range);
			continue;
		}
#endif
		count_leaves(f, pfns);
		break;
	}
	WRITE_ONCE(counted_task, NULL);
	mmu_interval_notifier_remove(&notifier);
	f->faults = counted;
	return ret;
}

/* What hmm_range_fault() does to an entry at the least: keep some flags. */
static noinline void fill(unsigned long *pfns, u64 npages, unsigned long entry)
{
	u64 i;

	for (i = 0; i < npages; i++)
		pfns[i] = (pfns[i] & HMM_PFN_DMA_MAPPED) | (entry + i);
}

static int bench_fill(struct hmm_bench_fill *f)
{
	u64 start;

	if (!f->npages)
		return -EINVAL;
	unsigned long *pfns __free(kvfree) =
		kvcalloc(f->npages, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return -ENOMEM;

	start = ktime_get_ns();
	fill(pfns, f->npages, HMM_PFN_VALID);
	f->ns = ktime_get_ns() - start;
	return 0;
}

/* From the top of the page table to the leaf at @addr: its size, or 0. */
static noinline unsigned long walk(struct mm_struct *mm, unsigned long addr,
				   unsigned long *entry)
{
	p4d_t *p4d = p4d_offset(pgd_offset(mm, addr), addr);
	pud_t *pud, pudval;
	pmd_t *pmd, pmdval;
	pte_t pte;

	if (p4d_none(*p4d))
		return 0;
	pud = pud_offset(p4d, addr);
	pudval = READ_ONCE(*pud);
	if (pud_leaf(pudval)) {
		*entry = pud_pfn(pudval) | HMM_PFN_VALID;
		return PUD_SIZE;
	}
	if (pud_none(pudval))
		return 0;
	pmd = pmd_offset(pud, addr);
	pmdval = READ_ONCE(*pmd);
	if (pmd_leaf(pmdval)) {
		*entry = pmd_pfn(pmdval) | HMM_PFN_VALID;
		return PMD_SIZE;
	}
	if (pmd_none(pmdval))
		return 0;
	pte = READ_ONCE(*pte_offset_kernel(pmd, addr));
	*entry = pte_pfn(pte) | HMM_PFN_VALID;
	return pte_present(pte) ? PAGE_SIZE : 0;
}

static int bench_walk(struct hmm_bench_walk *w)
{
	unsigned long addr = w->addr, end = addr + (w->npages << PAGE_SHIFT);
	struct mm_struct *mm = current->mm;
	unsigned long size = PAGE_SIZE;
	u64 room = min_t(u64, w->npages, SZ_1M);
	u64 start;

	if (!w->npages)
		return -EINVAL;
	unsigned long *pfns __free(kvfree) =
		kvcalloc(room, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return -ENOMEM;

	w->leaves = 0;
	mmap_read_lock(mm);
	start = ktime_get_ns();
	for (; addr < end; addr = ALIGN_DOWN(addr, size) + size) {
		size = w->leaves < room ? walk(mm, addr, &pfns[w->leaves]) : 0;
		if (!size)
			break;
		w->leaves++;
	}
	w->ns = ktime_get_ns() - start;
	mmap_read_unlock(mm);
	return size ? 0 : -EFAULT;
}

static long bench_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	union {
		struct hmm_bench_fault fault;
		struct hmm_bench_fill fill;
		struct hmm_bench_walk walk;
	} u;
	size_t size = _IOC_SIZE(cmd);
	int ret;

	if (cmd != HMM_BENCH_FAULT && cmd != HMM_BENCH_FILL && cmd != HMM_BENCH_WALK)
		return -ENOTTY;
	if (copy_from_user(&u, (void __user *)arg, size))
		return -EFAULT;
	guard(mutex)(&bench_lock);
	ret = cmd == HMM_BENCH_FAULT ? bench_fault(&u.fault) :
	      cmd == HMM_BENCH_FILL ? bench_fill(&u.fill) : bench_walk(&u.walk);
	if (ret)
		return ret;
	return copy_to_user((void __user *)arg, &u, size) ? -EFAULT : 0;
}

static const struct file_operations bench_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = bench_ioctl,
};

static struct miscdevice bench_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hmm_bench",
	.fops = &bench_fops,
};

static int __init bench_init(void)
{
	int ret = count ? register_kprobe(&fault_probe) : 0;

	if (ret)
		return ret;
	ret = misc_register(&bench_device);
	if (ret && count)
		unregister_kprobe(&fault_probe);
	return ret;
}
module_init(bench_init);

static void __exit bench_exit(void)
{
	misc_deregister(&bench_device);
	if (count)
		unregister_kprobe(&fault_probe);
}
module_exit(bench_exit);

MODULE_DESCRIPTION("Count what hmm_range_fault() costs");
MODULE_LICENSE("GPL");
