// SPDX-License-Identifier: GPL-2.0
/*
 * odp_race: an RDMA device with on-demand paging, without the RDMA.
 *
 * It uses ib_umem_odp as mlx5 does: a page fault maps the pages for DMA, an
 * invalidation unmaps them. In place of the device's page table stands an
 * oracle: what the IOMMU translates must agree with the flags in pfn_list and
 * with the page table of the process. The DMA device is QEMU's edu.
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
static phys_addr_t odp_race_cpu_phys(struct ib_umem_odp *odp, size_t idx)
{
	unsigned long addr = ib_umem_start(odp) + (idx << odp->page_shift);
	struct page *page;
	phys_addr_t phys;

	if (get_user_pages_fast_only(addr, 1, 0, &page) != 1)
		return 0;
	phys = page_to_phys(page);
	put_page(page);
	return phys;
}

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
		phys_addr_t cpu = user ? odp_race_cpu_phys(odp, idx) : 0;

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

static bool odp_race_invalidate(struct mmu_interval_notifier *mni,
				const struct mmu_notifier_range *range,
				unsigned long cur_seq)
{
	struct ib_umem_odp *odp = container_of(mni, struct ib_umem_odp, notifier);
	struct odp_race *race;
	u64 start = max_t(u64, ib_umem_start(odp), range->start);
	u64 end = min_t(u64, ib_umem_end(odp), range->end);

	if (!mmu_notifier_range_blockable(range))
		return false;

	mutex_lock(&odp->umem_mutex);
	mmu_interval_set_seq(mni, cur_seq);
	race = odp->private;
	if (race) {
		race->stats.invalidations++;
		ib_umem_odp_unmap_dma_pages(odp, start, end);
		odp_race_check(race, (start - ib_umem_start(odp)) >> odp->page_shift,
			       (end - ib_umem_start(odp)) >> odp->page_shift, false);
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
	if (!dma_use_iova(&odp->map.state)) {
		ib_umem_odp_release(odp);
		return -EOPNOTSUPP;
	}
	race->start = ktime_get();
	race->odp = odp;
	mutex_lock(&odp->umem_mutex);
	odp->private = race;
	mutex_unlock(&odp->umem_mutex);
	return 0;
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
	np = ib_umem_odp_map_dma_and_lock(odp, arg->addr, arg->len, HMM_PFN_WRITE, fault);
	if (np < 0)
		return np;

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
