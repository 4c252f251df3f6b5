// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to map a range of the caller for DMA, and to take it back, by
 * one of the methods in hmm_bench.h. The devices: QEMU's edu, behind the
 * IOMMU, and a platform device without one. Built from this one source for the
 * base kernel, which has no hmm_range_dma_map(), and for the patched one.
 */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/platform_device.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "hmm_bench.h"
#include "dma.h"
#include "notifier.h"

static DEFINE_MUTEX(bench_lock);
static struct pci_dev *edu;
static struct platform_device *direct;

static bool leak;
module_param(leak, bool, 0);
MODULE_PARM_DESC(leak, "Leave a page behind in edu's IOMMU, to see that it is found");

/* The array of the whole window. Nobody changes the mappings meanwhile. */
static int fault(struct hmm_bench_dma *d, unsigned long *pfns)
{
	struct mmu_interval_notifier notifier;
	struct hmm_range range = {
		.notifier = &notifier,
		.start = d->window,
		.end = d->window + (d->window_npages << PAGE_SHIFT),
		.default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
		.hmm_pfns = pfns,
	};
	int ret;

	ret = mmu_interval_notifier_insert(&notifier, current->mm, range.start,
					   range.end - range.start, &notifier_ops);
	if (ret)
		return ret;
	ret = hmm_range_fault_unlocked_timeout(&range, 0);
	mmu_interval_notifier_remove(&notifier);
	return ret;
}

#ifdef HAVE_MAP_PFN
/* HMM_BENCH_PAGES: the calls of mlx5 and umem_odp. */
static int by_pages(struct device *dev, struct hmm_bench_dma *d,
		    unsigned long *pfns)
{
	struct pci_p2pdma_map_state p2p = {};
	struct hmm_dma_map map;
	u64 start, i;
	int ret = hmm_dma_map_alloc(dev, &map, d->npages, PAGE_SIZE);

	if (ret)
		return ret;
	memcpy(map.pfn_list, pfns, d->npages * sizeof(*pfns));
	d->bytes = d->npages * (map.dma_list ? 16 : 8);

	start = ktime_get_ns();
	for (i = 0; i < d->npages; i++)
		if (pfns[i] & HMM_PFN_VALID &&
		    hmm_dma_map_pfn(dev, &map, i, &p2p) == DMA_MAPPING_ERROR)
			ret = -EIO;
	d->map_ns = ktime_get_ns() - start;

	start = ktime_get_ns();
	for (i = 0; i < d->npages; i++)
		hmm_dma_unmap_pfn(dev, &map, i);
	d->unmap_ns = ktime_get_ns() - start;
	hmm_dma_map_free(dev, &map);
	return ret;
}
#endif

#ifdef HAVE_RANGE_DMA
/* As hmm_range_fault() would list them, from the dense array. */
static unsigned int list(struct hmm_bench_dma *d, const unsigned long *pfns,
			 struct hmm_extent *extents)
{
	struct hmm_extent *extent = extents;
	u64 i;

	for (i = 0; i < d->npages; i++) {
		unsigned long addr = d->addr + (i << PAGE_SHIFT);

		if (extent > extents &&
		    hmm_extent_entry(extent - 1, addr) == pfns[i]) {
			extent[-1].end += PAGE_SIZE;
			continue;
		}
		*extent++ = (struct hmm_extent){ addr, addr + PAGE_SIZE, pfns[i] };
	}
	return extent - extents;
}

/* Bytes of the record: nodes of five words, and four bits for each unit. */
static u64 recorded(const struct hmm_dma_window *window)
{
	struct rb_node *rb;
	u64 nodes = 0;
	int i;

	for (i = 0; i < HMM_BLOCKS_LEVELS; i++)
		for (rb = rb_first(&window->blocks.level[i]); rb; rb = rb_next(rb))
			nodes++;
	return nodes * (sizeof(*rb) + 16 + 4 * 512 / 8);
}

static int by_range(struct device *dev, struct hmm_bench_dma *d,
		    unsigned long *pfns)
{
	struct mmu_interval_notifier notifier = { .mm = current->mm };
	struct hmm_dma_batch batch = { .dir = DMA_BIDIRECTIONAL };
	struct hmm_range range = {
		.notifier = &notifier,
		.start = d->addr,
		.end = d->addr + (d->npages << PAGE_SHIFT),
	};
	struct hmm_dma_window window;
	u64 start;
	int ret;

	range.extents = kvcalloc(d->npages, sizeof(*range.extents), GFP_KERNEL);
	if (!range.extents)
		return -ENOMEM;
	range.nr_extents = list(d, pfns, range.extents);
	ret = hmm_dma_window_init(&window, dev, d->window, d->window +
				  (d->window_npages << PAGE_SHIFT), NULL);
	if (ret)
		goto out;
	start = ktime_get_ns();
	ret = hmm_range_dma_prepare(&window, &range, &batch);
	if (!ret)
		ret = hmm_range_dma_map(&window, &range, &batch);
	hmm_range_dma_finish(&batch);
	d->map_ns = ktime_get_ns() - start;
	d->bytes = recorded(&window);

	start = ktime_get_ns();
	hmm_range_dma_unmap(&window, range.start, range.end);
	d->unmap_ns = ktime_get_ns() - start;
	hmm_dma_window_destroy(&window);
out:
	kvfree(range.extents);
	return ret;
}
#endif

struct segment {
	phys_addr_t phys;
	size_t offset, size;
};

/* The known layout: leaves, and runs of single pages shorter than 2 MiB. */
static unsigned long find_segments(struct hmm_bench_dma *d,
				   const unsigned long *pfns, struct segment *s)
{
	unsigned long n = 0, i;

	for (i = 0; i < d->npages; i++) {
		phys_addr_t phys = hmm_pfn_to_phys(pfns[i]);
		unsigned int order = hmm_pfn_to_map_order(pfns[i]);
		struct segment *last = &s[n - 1];

		if (!(pfns[i] & HMM_PFN_VALID))
			continue;
		if (n && last->phys + last->size == phys &&
		    (order || last->size < SZ_2M - PAGE_SIZE) &&
		    (phys & ((PAGE_SIZE << order) - 1) || !order)) {
			last->size += PAGE_SIZE;
			continue;
		}
		s[n].phys = phys;
		s[n].offset = i << PAGE_SHIFT;
		s[n++].size = PAGE_SIZE;
	}
	return n;
}

/*
 * HMM_BENCH_LIMIT: nothing but the calls into the DMA API. Where no two
 * neighbours are contiguous all of the IOVA space is still one run to unlink;
 * where there are gaps it is not, and each call flushes the IOMMU.
 */
static int by_limit(struct device *dev, struct hmm_bench_dma *d,
		    unsigned long *pfns)
{
	size_t size = d->npages << PAGE_SHIFT, skew = d->addr & (SZ_1G - 1);
	unsigned long attrs = DMA_ATTR_REQUIRE_COHERENT;
	struct dma_iova_state state;
	unsigned long n, i;
	int ret = 0;
	u64 start;

	if (size < SZ_1G)
		skew = d->addr & (SZ_2M - 1);
	struct segment *s __free(kvfree) =
		kvcalloc(d->npages, sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	n = find_segments(d, pfns, s);

	if (!dma_iova_try_alloc(dev, &state, 0, skew + size)) {
		if (dma_need_unmap(dev))
			return -EOPNOTSUPP;
		start = ktime_get_ns();
		for (i = 0; i < n; i++)
			if (dma_map_phys(dev, s[i].phys, s[i].size,
					 DMA_BIDIRECTIONAL, attrs) == DMA_MAPPING_ERROR)
				ret = -EIO;
		d->map_ns = ktime_get_ns() - start;
		d->unmap_ns = 1;
		return ret;
	}
	start = ktime_get_ns();
	for (i = 0; i < n && !ret; i++)
		ret = dma_iova_link(dev, &state, s[i].phys, skew + s[i].offset,
				    s[i].size, DMA_BIDIRECTIONAL, attrs);
	if (!ret)
		ret = dma_iova_sync(dev, &state, skew, size);
	d->map_ns = ktime_get_ns() - start;
	if (!ret) {
		start = ktime_get_ns();
		if (!(d->flags & HMM_BENCH_GAPS))
			dma_iova_unlink(dev, &state, skew, size, DMA_BIDIRECTIONAL,
					attrs);
		else
			for (i = 0; i < n; i++)
				dma_iova_unlink(dev, &state, skew + s[i].offset,
						s[i].size, DMA_BIDIRECTIONAL, attrs);
		d->unmap_ns = ktime_get_ns() - start;
	}
	dma_iova_free(dev, &state);
	return ret;
}

/*
 * HMM_BENCH_GPUSVM: leaf by leaf, as drm_gpusvm_get_pages() and _unmap_pages()
 * do it, without their checks of device memory. IOVA space is dense, so it is
 * asked for as much alignment as the leaves have.
 */
struct gpusvm_addr {
	dma_addr_t addr;
	u64 order : 8, dir : 2;
};

static int by_gpusvm(struct device *dev, struct hmm_bench_dma *d,
		     unsigned long *pfns)
{
	struct dma_iova_state state = {};
	u64 start, i, j, offset = 0;
	unsigned int order;
	int ret = 0;

	struct gpusvm_addr *addrs __free(kvfree) =
		kvcalloc(d->npages, sizeof(*addrs), GFP_KERNEL);
	if (!addrs)
		return -ENOMEM;
	d->bytes = d->npages * sizeof(*addrs);

	start = ktime_get_ns();
	for (i = 0, j = 0; i < d->npages && !ret; i += 1UL << order, j++) {
		struct page *page = hmm_pfn_to_page(pfns[i]);
		unsigned long size = 1UL << hmm_pfn_to_map_order(pfns[i]);
		dma_addr_t addr;

		size -= (pfns[i] & ~HMM_PFN_FLAGS) & (size - 1);
		if (i + size > d->npages)
			size -= i + size - d->npages;
		order = ilog2(size);
		if (is_device_private_page(page) || is_device_coherent_page(page)) {
			ret = -EOPNOTSUPP;
			break;
		}
		if (!i)
			dma_iova_try_alloc(dev, &state, 0, d->npages * PAGE_SIZE);
		if (dma_use_iova(&state)) {
			ret = dma_iova_link(dev, &state, hmm_pfn_to_phys(pfns[i]),
					    offset, PAGE_SIZE << order,
					    DMA_BIDIRECTIONAL, 0);
			if (ret)
				break;
			addr = state.addr + offset;
			offset += PAGE_SIZE << order;
		} else {
			addr = dma_map_page(dev, page, 0, PAGE_SIZE << order,
					    DMA_BIDIRECTIONAL);
			if (dma_mapping_error(dev, addr)) {
				ret = -EIO;
				break;
			}
		}
		addrs[j] = (struct gpusvm_addr){ addr, order, DMA_BIDIRECTIONAL };
	}
	if (!ret && dma_use_iova(&state))
		ret = dma_iova_sync(dev, &state, 0, offset);
	d->map_ns = ktime_get_ns() - start;

	start = ktime_get_ns();
	if (dma_use_iova(&state))
		dma_iova_destroy(dev, &state, offset, DMA_BIDIRECTIONAL, 0);
	else
		for (i = 0; i < j; i++)
			dma_unmap_page(dev, addrs[i].addr,
				       PAGE_SIZE << addrs[i].order, addrs[i].dir);
	d->unmap_ns = ktime_get_ns() - start;
	return ret;
}

static int bench_dma(struct hmm_bench_dma *d)
{
	struct device *dev = d->flags & HMM_BENCH_DIRECT ? &direct->dev :
			     edu ? &edu->dev : NULL;
	unsigned long *at;
	int ret;
	u64 i;

	if (!dev)
		return -ENODEV;
	if (!d->npages || d->addr < d->window || !PAGE_ALIGNED(d->addr | d->window) ||
	    d->addr + (d->npages << PAGE_SHIFT) >
	    d->window + (d->window_npages << PAGE_SHIFT) ||
	    (d->flags & ~(HMM_BENCH_DIRECT | HMM_BENCH_GAPS)))
		return -EINVAL;
	unsigned long *pfns __free(kvfree) =
		kvcalloc(d->window_npages, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return -ENOMEM;
	ret = fault(d, pfns);
	if (ret)
		return ret;

	d->bytes = 0;
	at = pfns + ((d->addr - d->window) >> PAGE_SHIFT);
	if (d->flags & HMM_BENCH_GAPS) {
		if (d->method == HMM_BENCH_GPUSVM)
			return -EOPNOTSUPP;
		for (i = 1; i < d->npages; i += 2)
			at[i] = 0;
	}
	switch (d->method) {
#ifdef HAVE_MAP_PFN
	case HMM_BENCH_PAGES:
		return by_pages(dev, d, at);
#endif
	case HMM_BENCH_LIMIT:
		return by_limit(dev, d, at);
	case HMM_BENCH_GPUSVM:
		return by_gpusvm(dev, d, at);
	case HMM_BENCH_GET_PAGES:
		return bench_get_pages(dev, d);
	case HMM_BENCH_ODP:
		return bench_odp(dev, d);
	case HMM_BENCH_ODP_LIMIT:
		return bench_odp_limit(d);
#ifdef HAVE_RANGE_DMA
	case HMM_BENCH_RANGE:
		return by_range(dev, d, at);
#endif
	}
	return -EOPNOTSUPP;
}

static long bench_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct hmm_bench_dma d;
	int ret;

	if (cmd != HMM_BENCH_DMA)
		return -ENOTTY;
	if (copy_from_user(&d, (void __user *)arg, sizeof(d)))
		return -EFAULT;
	guard(mutex)(&bench_lock);
	ret = bench_dma(&d);
	if (ret)
		return ret;
	return copy_to_user((void __user *)arg, &d, sizeof(d)) ? -EFAULT : 0;
}

static const struct file_operations bench_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = bench_ioctl,
};

static struct miscdevice bench_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hmm_bench_dma",
	.fops = &bench_fops,
};

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret = pcim_enable_device(pdev);

	if (!ret)
		ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(48));
	if (!ret)
		edu = pdev;
	return ret;
}

/* The mistake that no driver must make: IOVA space is freed with a link in it. */
static int edu_leak(void)
{
	struct dma_iova_state state;
	int ret;

	if (!edu || !dma_iova_try_alloc(&edu->dev, &state, 0, PAGE_SIZE))
		return -ENODEV;
	ret = dma_iova_link(&edu->dev, &state, page_to_phys(ZERO_PAGE(0)), 0, PAGE_SIZE,
			    DMA_TO_DEVICE, 0);
	dma_iova_free(&edu->dev, &state);
	return ret;
}

static void edu_remove(struct pci_dev *pdev)
{
	guard(mutex)(&bench_lock);
	edu = NULL;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{}
};

static struct pci_driver edu_driver = {
	.name = "hmm_bench_dma",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};

static int __init bench_init(void)
{
	int ret;

	direct = platform_device_register_full(&(struct platform_device_info){
		.name = "hmm_bench_direct",
		.dma_mask = DMA_BIT_MASK(64),
	});
	if (IS_ERR(direct))
		return PTR_ERR(direct);
	ret = dma_coerce_mask_and_coherent(&direct->dev, DMA_BIT_MASK(64));
	if (ret)
		goto err_platform;
	ret = pci_register_driver(&edu_driver);
	if (ret)
		goto err_platform;
	ret = leak ? edu_leak() : 0;
	if (ret)
		goto err_pci;
	ret = misc_register(&bench_device);
	if (!ret)
		return 0;
err_pci:
	pci_unregister_driver(&edu_driver);
err_platform:
	platform_device_unregister(direct);
	return ret;
}
module_init(bench_init);

static void __exit bench_exit(void)
{
	misc_deregister(&bench_device);
	pci_unregister_driver(&edu_driver);
	platform_device_unregister(direct);
}
module_exit(bench_exit);

MODULE_DESCRIPTION("Count what mapping an HMM range for DMA costs");
MODULE_LICENSE("GPL");
