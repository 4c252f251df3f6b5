// SPDX-License-Identifier: GPL-2.0
/*
 * odp_race: an RDMA device with on-demand paging, without the RDMA.
 *
 * It uses ib_umem_odp as mlx5 does: a page fault maps the pages for DMA, an
 * invalidation unmaps them. In place of the device stands an oracle: what the
 * IOMMU translates must agree with what the umem says is mapped, with the entries
 * that the device would have been given, and with the page table of the process.
 * The DMA device is QEMU's edu.
 *
 * ODP_WINDOW: the umem maps by a window, in which a fault maps whole leaves, and an
 * entry need not be there for all that is mapped. Without it the umem has a list of
 * pfns, which tells what is mapped page by page.
 */
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <rdma/ib_umem_odp.h>

#include "odp_race.h"

static struct pci_dev *edu;
static struct iommu_domain *domain;
static struct ib_device ibdev;

struct odp_race {
	struct ib_umem_odp *odp;
	u64 *mtt;	/* what mlx5 would have written */
	struct odp_race_stats stats;	/* under umem_mutex */
	ktime_t start;
};

static void odp_race_count(struct odp_race *race, u64 *what)
{
	if (!race->stats.first_ms) {
		race->stats.first_round = race->stats.rounds + 1;
		race->stats.first_ms = ktime_ms_delta(ktime_get(), race->start) ?: 1;
	}
	++*what;
}

/* What page @idx of the range has to translate to, if known. */
static phys_addr_t odp_race_cpu_phys(struct ib_umem_odp *odp, size_t idx, bool write)
{
	unsigned long addr = ib_umem_start(odp) + (idx << odp->page_shift);
	struct page *page;
	phys_addr_t phys;

	if (get_user_pages_fast_only(addr, 1, write ? FOLL_WRITE : 0, &page) != 1)
		return 0;
	phys = page_to_phys(page);
	put_page(page);
	return phys;
}

#ifdef ODP_WINDOW
#define MTT_READ	1
#define MTT_WRITE	2

/* @gone: nothing of it may be mapped. Otherwise @user is as below. */
static void odp_race_check(struct odp_race *race, size_t idx, size_t end, bool user,
			   bool gone)
{
	struct ib_umem_odp *odp = race->odp;
	size_t nr = ib_umem_odp_num_pages(odp);
	struct odp_race_stats *stats = &race->stats;

	for (; idx < end; idx++) {
		unsigned long offset = idx << odp->page_shift;
		dma_addr_t dma = odp->window.state.addr + odp->window.skew + offset;
		phys_addr_t phys = iommu_iova_to_phys(domain, dma);
		phys_addr_t cpu = user ? odp_race_cpu_phys(odp, idx, false) : 0;
		u64 mtt = race->mtt[idx];

		if (gone && (mtt || phys || test_bit(idx, odp->mapped)))
			odp_race_count(race, &stats->leaked);
		else if (mtt && !test_bit(idx, odp->mapped))
			odp_race_count(race, &stats->leaked);
		else if (mtt && !phys)
			odp_race_count(race, &stats->unlinked);
		else if (mtt && (mtt & PAGE_MASK) != dma)
			odp_race_count(race, &stats->wrong);
		else if (cpu && phys && cpu != phys)
			odp_race_count(race, &stats->wrong);
		else if (cpu && mtt & MTT_WRITE && odp_race_cpu_phys(odp, idx, true) != cpu)
			odp_race_count(race, &stats->wrong);
	}
	if (odp->npages != bitmap_weight(odp->mapped, nr))
		odp_race_count(race, &stats->miscounted);
}

/* As mlx5_odp_take_back(). */
static void odp_race_take_back(struct odp_race *race, unsigned long start, unsigned long end)
{
	struct ib_umem_odp *odp = race->odp;
	size_t first = ib_umem_odp_index(odp, start);
	size_t last = ib_umem_odp_index(odp, end);
	size_t idx = first;

	for_each_set_bit_from(idx, odp->mapped, last)
		race->mtt[idx] = 0;
	ib_umem_odp_unmap(odp, start, end);
	odp_race_check(race, first, last, false, true);
}

static void odp_race_unmap(struct odp_race *race, unsigned long start, unsigned long end)
{
	if (ib_umem_odp_widen(race->odp, &start, &end))
		odp_race_take_back(race, start, end);
}

/* As mlx5's pagefault_list(), mlx5r_umr_update_xlt() and populate_mtt(). */
static int odp_race_map_list(struct odp_race *race, struct ib_umem_odp_list *list, u64 addr,
			     u64 len, u64 flags)
{
	struct ib_umem_odp *odp = race->odp;
	struct hmm_extent mapped;
	dma_addr_t dma;
	unsigned int i;
	size_t idx, end;
	int ret;

	do {
		ret = ib_umem_odp_fault(odp, list, addr, len,
					flags & ODP_RACE_READ ? 0 : HMM_PFN_WRITE,
					!(flags & ODP_RACE_NO_FAULT));
		if (ret)
			return ret;
	} while (!ib_umem_odp_lock(odp, list));
	ret = ib_umem_odp_map(odp, list);
	if (ret == -EEXIST) {
		race->stats.upgrades++;
		odp_race_take_back(race, list->batch.stale_start, list->batch.stale_end);
		ret = ib_umem_odp_map(odp, list);
	}
	if (ret)
		odp_race_count(race, &race->stats.map_error);
	if (!ret && list->start < list->end) {
		idx = ib_umem_odp_index(odp, list->start);
		end = ib_umem_odp_index(odp, list->end);
		memset(race->mtt + idx, 0, (end - idx) * sizeof(*race->mtt));
		for (i = 0; i < list->range.nr_extents; i++) {
			if (!ib_umem_odp_mapped(odp, list, i, &mapped, &dma))
				continue;
			for (idx = ib_umem_odp_index(odp, mapped.start);
			     idx < ib_umem_odp_index(odp, mapped.end);
			     idx++, dma += BIT(odp->page_shift))
				race->mtt[idx] = dma | MTT_READ |
					(mapped.hmm_pfn & HMM_PFN_WRITE ? MTT_WRITE : 0);
		}
		odp_race_check(race, ib_umem_odp_index(odp, list->start), end, true, false);
	}
	for (; !ret && !(flags & ODP_RACE_NO_FAULT) && addr < list->next; addr += PAGE_SIZE) {
		u64 mtt = race->mtt[ib_umem_odp_index(odp, addr)];

		if (!mtt || (!(flags & ODP_RACE_READ) && !(mtt & MTT_WRITE)))
			odp_race_count(race, &race->stats.missing);
	}
	race->stats.rounds++;
	mutex_unlock(&odp->umem_mutex);
	return ret;
}

static int odp_race_map(struct odp_race *race, const struct odp_race_range *arg)
{
	struct ib_umem_odp_list list = { .group = 8, .around = SZ_2M };
	u64 addr = arg->addr, end = addr + arg->len;
	int ret = race->odp ? 0 : -EINVAL;

	while (!ret && addr < end) {
		ret = odp_race_map_list(race, &list, addr, end - addr, arg->flags);
		addr = list.next;
	}
	ib_umem_odp_list_free(&list);
	return ret;
}

static struct dma_iova_state *odp_race_state(struct ib_umem_odp *odp)
{
	return &odp->window.state;
}
#else
/*
 * Count what is wrong and put it right, so that it is counted once. @user: the
 * process is the caller, and umem_mutex keeps its page table from changing.
 */
static void odp_race_check(struct odp_race *race, size_t idx, size_t end, bool user)
{
	struct ib_umem_odp *odp = race->odp;
	size_t size = BIT(odp->page_shift);
	int pages = 0;

	for (; idx < end; idx++) {
		unsigned long *entry = &odp->map.pfn_list[idx];
		dma_addr_t dma = odp->map.state.addr + (idx << odp->page_shift);
		phys_addr_t phys = iommu_iova_to_phys(domain, dma);
		bool mapped = *entry & HMM_PFN_DMA_MAPPED;
		phys_addr_t cpu = user ? odp_race_cpu_phys(odp, idx, false) : 0;

		if (mapped && !phys)
			odp_race_count(race, &race->stats.unlinked);
		else if (!mapped && phys)
			odp_race_count(race, &race->stats.leaked);
		else if (cpu && phys && cpu != phys)
			odp_race_count(race, &race->stats.wrong);
		else
			continue;

		if (phys)
			iommu_unmap(domain, dma, size);
		if (mapped)
			odp->npages--;
		*entry = 0;
	}

	for (idx = 0; idx < ib_umem_odp_num_pages(odp); idx++)
		pages += !!(odp->map.pfn_list[idx] & HMM_PFN_DMA_MAPPED);
	if (odp->npages != pages) {
		odp_race_count(race, &race->stats.miscounted);
		odp->npages = pages;
	}
}

static void odp_race_unmap(struct odp_race *race, unsigned long start, unsigned long end)
{
	struct ib_umem_odp *odp = race->odp;

	start = max(ib_umem_start(odp), start);
	end = min(ib_umem_end(odp), end);
	ib_umem_odp_unmap_dma_pages(odp, start, end);
	odp_race_check(race, (start - ib_umem_start(odp)) >> odp->page_shift,
		       (end - ib_umem_start(odp)) >> odp->page_shift, false);
}

/* As mlx5's pagefault_real_mr(), mlx5r_umr_update_xlt() and populate_mtt(). */
static int odp_race_map(struct odp_race *race, const struct odp_race_range *arg)
{
	struct pci_p2pdma_map_state p2pdma_state = {};
	bool fault = !(arg->flags & ODP_RACE_NO_FAULT);
	struct ib_umem_odp *odp = race->odp;
	size_t i, start, end;
	int np;

	if (!odp)
		return -EINVAL;
	np = ib_umem_odp_map_dma_and_lock(odp, arg->addr, arg->len,
					  arg->flags & ODP_RACE_READ ? 0 : HMM_PFN_WRITE, fault);
	if (np < 0)
		return np;
	race->stats.upgrades += !(arg->flags & ODP_RACE_READ);	/* no more than that */

	/* A device that is told of eight entries at a time maps the neighbours too. */
	start = (arg->addr - ib_umem_start(odp)) >> odp->page_shift;
	end = min(ALIGN(start + np, 8), ib_umem_odp_num_pages(odp));
	start = ALIGN_DOWN(start, 8);
	for (i = start; i < end; i++) {
		unsigned long pfn = odp->map.pfn_list[i];
		dma_addr_t dma;

		if (!(pfn & HMM_PFN_VALID))
			continue;
		dma = hmm_dma_map_pfn(&edu->dev, &odp->map, i, &p2pdma_state);
		if (dma_mapping_error(&edu->dev, dma))
			odp_race_count(race, &race->stats.map_error);
		else if (!(pfn & HMM_PFN_DMA_MAPPED))
			odp->npages++;
	}
	odp_race_check(race, start, end, true);
	race->stats.rounds++;
	mutex_unlock(&odp->umem_mutex);
	return 0;
}

static struct dma_iova_state *odp_race_state(struct ib_umem_odp *odp)
{
	return &odp->map.state;
}
#endif

static bool odp_race_invalidate(struct mmu_interval_notifier *mni,
				const struct mmu_notifier_range *range,
				unsigned long cur_seq)
{
	struct ib_umem_odp *odp = container_of(mni, struct ib_umem_odp, notifier);
	struct odp_race *race;

	if (!mmu_notifier_range_blockable(range))
		return false;

	mutex_lock(&odp->umem_mutex);
	mmu_interval_set_seq(mni, cur_seq);
	race = odp->private;
	if (race) {
		race->stats.invalidations++;
		odp_race_unmap(race, range->start, range->end);
	}
	mutex_unlock(&odp->umem_mutex);
	return true;
}

static const struct mmu_interval_notifier_ops odp_race_mn_ops = {
	.invalidate = odp_race_invalidate,
};

static int odp_race_register(struct odp_race *race, const struct odp_race_range *arg)
{
	int access = IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE;
	struct ib_umem_odp *odp;

	if (race->odp)
		return -EBUSY;
	if (arg->flags & ODP_RACE_HUGETLB)
		access |= IB_ACCESS_HUGETLB;
	odp = ib_umem_odp_get(&ibdev, arg->addr, arg->len, access, &odp_race_mn_ops);
	if (IS_ERR(odp))
		return PTR_ERR(odp);
	race->mtt = kvcalloc(ib_umem_odp_num_pages(odp), sizeof(*race->mtt), GFP_KERNEL);
	if (!race->mtt || !dma_use_iova(odp_race_state(odp))) {
		ib_umem_odp_release(odp);
		kvfree(race->mtt);
		race->mtt = NULL;
		return -EOPNOTSUPP;
	}
	race->start = ktime_get();
	race->odp = odp;
	mutex_lock(&odp->umem_mutex);
	odp->private = race;
	mutex_unlock(&odp->umem_mutex);
	return 0;
}

static long odp_race_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct odp_race *race = file->private_data;
	void __user *user = (void __user *)arg;
	struct odp_race_range range;

	switch (cmd) {
	case ODP_RACE_REG:
	case ODP_RACE_MAP:
		if (copy_from_user(&range, user, sizeof(range)))
			return -EFAULT;
		return cmd == ODP_RACE_REG ? odp_race_register(race, &range) :
					     odp_race_map(race, &range);
	case ODP_RACE_STATS:
		return copy_to_user(user, &race->stats, sizeof(race->stats)) ? -EFAULT : 0;
	}
	return -ENOTTY;
}

static int odp_race_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc_obj(struct odp_race);
	return file->private_data ? 0 : -ENOMEM;
}

static int odp_race_release(struct inode *inode, struct file *file)
{
	struct odp_race *race = file->private_data;

	if (race->odp)
		ib_umem_odp_release(race->odp);
	kvfree(race->mtt);
	kfree(race);
	return 0;
}

static const struct file_operations odp_race_fops = {
	.owner		= THIS_MODULE,
	.open		= odp_race_open,
	.release	= odp_race_release,
	.unlocked_ioctl	= odp_race_ioctl,
};

static struct miscdevice odp_race_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "odp_race",
	.fops	= &odp_race_fops,
};

static int __init odp_race_init(void)
{
	int ret;

	edu = pci_get_device(0x1234, 0x11e8, NULL);
	if (!edu)
		return -ENODEV;
	ret = dma_set_mask_and_coherent(&edu->dev, DMA_BIT_MASK(48));
	domain = iommu_get_domain_for_dev(&edu->dev);
	if (!ret && !domain)
		ret = -EOPNOTSUPP;
	ibdev.dma_device = &edu->dev;
	ret = ret ?: misc_register(&odp_race_misc);
	if (ret)
		pci_dev_put(edu);
	return ret;
}
module_init(odp_race_init);

static void __exit odp_race_exit(void)
{
	misc_deregister(&odp_race_misc);
	pci_dev_put(edu);
}
module_exit(odp_race_exit);

MODULE_DESCRIPTION("RDMA on-demand paging against a changing page table");
MODULE_LICENSE("GPL");
