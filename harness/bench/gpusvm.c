// SPDX-License-Identifier: GPL-2.0
/*
 * HMM_BENCH_GET_PAGES: the kernel's own drm_gpusvm.c, compiled in here, so that the
 * base needs no driver that selects it. Of the base one thing is changed: what
 * makes it refuse DAX pages is not true of any.
 */
#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/hugetlb_inline.h>
#include <linux/ktime.h>
#include <linux/memremap.h>
#include <linux/mm_types.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include <drm/drm_device.h>
#include <drm/drm_gpusvm.h>
#include <drm/drm_pagemap.h>
#include <drm/drm_print.h>

#include "hmm_bench.h"
#include "dma.h"

#undef EXPORT_SYMBOL
#undef EXPORT_SYMBOL_GPL
#define EXPORT_SYMBOL(symbol)
#define EXPORT_SYMBOL_GPL(symbol)
#ifndef HAVE_MEMORY_KIND
#define is_zone_device_page(page) ((void)(page), false)
#endif
#include <drm_gpusvm.c>

/* There is no device memory. */
void drm_pagemap_put(struct drm_pagemap *dpagemap)
{
}

struct drm_pagemap *drm_pagemap_page_to_dpagemap(struct page *page)
{
	return NULL;
}

int drm_pagemap_evict_to_ram(struct drm_pagemap_devmem *devmem_allocation)
{
	return -EOPNOTSUPP;
}

/* The mappings are unmapped by us, and nobody changes the ranges. */
static void bench_invalidate(struct drm_gpusvm *gpusvm,
			     struct drm_gpusvm_notifier *notifier,
			     const struct mmu_notifier_range *mmu_range)
{
}

static const struct drm_gpusvm_ops bench_ops = {
	.invalidate = bench_invalidate,
};

int bench_get_pages(struct device *dev, struct hmm_bench_dma *d)
{
	const unsigned long chunks[] = { d->npages << PAGE_SHIFT, SZ_64K, SZ_4K };
	struct drm_device drm = { .dev = dev };
	struct drm_gpusvm_pages pages = { .drm = &drm };
	struct drm_gpusvm_ctx ctx = {};
	struct drm_gpusvm_range *range;
	struct drm_gpusvm gpusvm = {};
	u64 start;
	int ret;

	ret = drm_gpusvm_init(&gpusvm, "bench", current->mm, 0, TASK_SIZE, SZ_1G,
			      &bench_ops, chunks, ARRAY_SIZE(chunks));
	if (ret)
		return ret;
	range = drm_gpusvm_range_find_or_insert(&gpusvm, d->addr, 0, TASK_SIZE, &ctx);
	if (IS_ERR(range)) {
		ret = PTR_ERR(range);
		goto out;
	}
	ret = -EINVAL;
	if (drm_gpusvm_range_start(range) != d->addr ||
	    drm_gpusvm_range_size(range) != d->npages << PAGE_SHIFT)
		goto out;

	start = ktime_get_ns();
	ret = drm_gpusvm_get_pages(&gpusvm, &pages, current->mm,
				   &range->notifier->notifier,
				   drm_gpusvm_range_start(range),
				   drm_gpusvm_range_end(range), &ctx);
	d->map_ns = ktime_get_ns() - start;
	if (ret)
		goto out;
	/* Of one address, it needs no memory but its own. */
	if ((void *)pages.dma_addr > (void *)&pages &&
	    (void *)pages.dma_addr < (void *)(&pages + 1))
		d->bytes = sizeof(*pages.dma_addr);
	else if (is_vmalloc_addr(pages.dma_addr))
		d->bytes = d->npages * sizeof(*pages.dma_addr);
	else
		d->bytes = ksize(pages.dma_addr);

	start = ktime_get_ns();
	drm_gpusvm_unmap_pages(&gpusvm, &pages, d->npages, &ctx);
	d->unmap_ns = ktime_get_ns() - start;
out:
	drm_gpusvm_free_pages(&gpusvm, &pages, d->npages);
	drm_gpusvm_fini(&gpusvm);
	return ret;
}
