// SPDX-License-Identifier: MIT
/*
 * KUnit tests of drm_gpusvm on real mappings of a process: what it maps for DMA
 * is compared with the CPU's page table. No GPU is needed, and there is no device
 * memory: migration is not tested.
 *
 * Tests of DAX are skipped unless the module is loaded with
 *   dax=FILE:SHIFT[,FILE:SHIFT...]
 * Each FILE is to be mapped with leaves of 1 << SHIFT bytes and has 8 MiB, or one
 * leaf if that is more. Holes are punched into files of a file system behind the
 * first 4 MiB, and they are truncated there. SHIFT 0 is for memory that is to be
 * refused, as P2PDMA is; 64 KiB of it are mapped.
 *
 * All is done for a device without an IOMMU. With pci=ADDRESS, say 0000:00:04.0,
 * it is done again for this device, which needs one.
 */
#include <kunit/device.h>
#include <kunit/test.h>

#include <linux/anon_inodes.h>
#include <linux/dma-mapping.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/memremap.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>

#include <drm/drm_device.h>
#include <drm/drm_gpusvm.h>
#include <drm/drm_pagemap.h>

static char *dax[8];
static int dax_nr;
module_param_array(dax, charp, &dax_nr, 0);
MODULE_PARM_DESC(dax, "DAX files to map, FILE:SHIFT of the leaves");

static char *pci;
module_param(pci, charp, 0);
MODULE_PARM_DESC(pci, "PCI device with an IOMMU to map for");

static struct gpusvm_test_file {
	struct file *file;
	unsigned int shift;
	unsigned long len;
} files[ARRAY_SIZE(dax)];

static const unsigned long chunk_sizes[] = { SZ_1G, SZ_2M, SZ_64K, SZ_4K };

struct gpusvm_test {
	struct drm_device drm;
	struct drm_gpusvm gpusvm;
	struct iommu_domain *iommu;
	bool live;
	unsigned int unmaps;
};

struct gpusvm_test_range {
	struct drm_gpusvm_range base;
	struct drm_gpusvm_pages pages;
};

static struct gpusvm_test_range *to_test_range(struct drm_gpusvm_range *range)
{
	return container_of(range, struct gpusvm_test_range, base);
}

static struct drm_gpusvm_range *test_range_alloc(struct drm_gpusvm *gpusvm)
{
	struct gpusvm_test *t = container_of(gpusvm, struct gpusvm_test, gpusvm);
	struct gpusvm_test_range *range = kzalloc_obj(*range);

	if (!range)
		return NULL;
	drm_gpusvm_init_pages(&range->pages, &t->drm);
	return &range->base;
}

static void test_range_free(struct drm_gpusvm_range *range)
{
	drm_gpusvm_free_pages(range->gpusvm, &to_test_range(range)->pages,
			      drm_gpusvm_range_size(range) >> PAGE_SHIFT);
	kfree(to_test_range(range));
}

static void test_invalidate(struct drm_gpusvm *gpusvm,
			    struct drm_gpusvm_notifier *notifier,
			    const struct mmu_notifier_range *mmu_range)
{
	struct gpusvm_test *t = container_of(gpusvm, struct gpusvm_test, gpusvm);
	struct drm_gpusvm_ctx ctx = { .in_notifier = true, };
	struct drm_gpusvm_range *range = NULL;

	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end) {
		struct drm_gpusvm_pages *pages = &to_test_range(range)->pages;

		t->unmaps += pages->flags.has_dma_mapping;
		drm_gpusvm_unmap_pages(gpusvm, pages,
				       drm_gpusvm_range_size(range) >> PAGE_SHIFT,
				       &ctx);
		if (mmu_range->event == MMU_NOTIFY_UNMAP)
			drm_gpusvm_range_set_unmapped(range, pages, 1, mmu_range);
	}
}

static const struct drm_gpusvm_ops test_ops = {
	.range_alloc = test_range_alloc,
	.range_free = test_range_free,
	.invalidate = test_invalidate,
};

static void gpusvm_end(struct gpusvm_test *t)
{
	if (t->live)
		drm_gpusvm_fini(&t->gpusvm);
	t->live = false;
}

/* Ranges of @chunk bytes where the mapping has as many. */
static void gpusvm_begin(struct kunit *test, unsigned long chunk)
{
	struct gpusvm_test *t = test->priv;
	int i = 0;

	gpusvm_end(t);
	while (chunk_sizes[i] > chunk)
		i++;
	KUNIT_ASSERT_EQ(test, 0,
			drm_gpusvm_init(&t->gpusvm, "kunit", current->mm, 0,
					TASK_SIZE, SZ_1G, &test_ops,
					chunk_sizes + i,
					ARRAY_SIZE(chunk_sizes) - i));
	t->live = true;
}

static struct gpusvm_test_range *
range_at(struct kunit *test, unsigned long addr, const struct drm_gpusvm_ctx *ctx)
{
	struct gpusvm_test *t = test->priv;
	struct drm_gpusvm_range *range;

	range = drm_gpusvm_range_find_or_insert(&t->gpusvm, addr, 0, TASK_SIZE, ctx);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, range);
	return to_test_range(range);
}

static int get_pages(struct kunit *test, struct gpusvm_test_range *range,
		     const struct drm_gpusvm_ctx *ctx)
{
	struct gpusvm_test *t = test->priv;

	return drm_gpusvm_get_pages(&t->gpusvm, &range->pages, current->mm,
				    &range->base.notifier->notifier,
				    drm_gpusvm_range_start(&range->base),
				    drm_gpusvm_range_end(&range->base), ctx);
}

static bool pages_valid(struct gpusvm_test *t, struct drm_gpusvm_pages *pages)
{
	bool valid;

	drm_gpusvm_notifier_lock(&t->gpusvm);
	valid = drm_gpusvm_pages_valid(&t->gpusvm, pages);
	drm_gpusvm_notifier_unlock(&t->gpusvm);
	return valid;
}

/* Where DMA to @dma goes; 0 if the IOMMU does not let it through. */
static phys_addr_t dma_to_phys_addr(struct gpusvm_test *t, dma_addr_t dma)
{
	return t->iommu ? iommu_iova_to_phys(t->iommu, dma) : dma;
}

static phys_addr_t cpu_phys(struct kunit *test, unsigned long addr)
{
	struct page *page;
	phys_addr_t phys;

	KUNIT_ASSERT_EQ(test, get_user_pages_fast(addr, 1, 0, &page), 1);
	phys = page_to_phys(page);
	put_page(page);
	return phys;
}

/* To where is memory contiguous, in leaves of 1 << @shift bytes? */
static unsigned long contiguous_end(struct kunit *test, unsigned long addr,
				    unsigned long end, unsigned int shift)
{
	phys_addr_t phys = cpu_phys(test, addr);
	unsigned long next = addr;

	do
		next = min(ALIGN(next + 1, 1UL << shift), end);
	while (next < end && cpu_phys(test, next) == phys + (next - addr));
	return next;
}

/*
 * Does @pages map what the CPU has there, by leaves of 1 << @shift bytes? What is
 * contiguous is mapped by the largest powers of two.
 */
static void expect_pages(struct kunit *test, struct drm_gpusvm_pages *pages,
			 unsigned long start, unsigned long end,
			 unsigned int shift, enum dma_data_direction dir)
{
	const struct drm_pagemap_addr *entry = pages->dma_addr;
	struct gpusvm_test *t = test->priv;
	unsigned int order, proto, entry_dir;
	unsigned long addr, size, left;

	KUNIT_EXPECT_TRUE(test, pages_valid(t, pages));
	KUNIT_EXPECT_TRUE(test, pages->flags.has_dma_mapping);
	KUNIT_EXPECT_FALSE(test, pages->flags.has_devmem_pages);
	for (addr = start; addr < end; addr += size, entry++) {
		/* Bit-fields have no type for KUNIT_EXPECT_EQ(). */
		order = entry->order;
		proto = entry->proto;
		entry_dir = entry->dir;
		left = contiguous_end(test, addr, end, shift) - addr;
		KUNIT_ASSERT_EQ(test, order, ilog2(left) - PAGE_SHIFT);
		KUNIT_EXPECT_EQ(test, proto, DRM_INTERCONNECT_SYSTEM);
		KUNIT_EXPECT_EQ(test, entry_dir, dir);
		size = PAGE_SIZE << order;
		KUNIT_EXPECT_EQ(test, dma_to_phys_addr(t, entry->addr),
				cpu_phys(test, addr));
		KUNIT_EXPECT_EQ(test,
				dma_to_phys_addr(t, entry->addr + size - PAGE_SIZE),
				cpu_phys(test, addr + size - PAGE_SIZE));
	}
	/* An array is allocated only for more than one. */
	KUNIT_EXPECT_EQ(test, pages->dma_addr == &pages->single,
			entry == pages->dma_addr + 1);
}

static void expect_range(struct kunit *test, struct gpusvm_test_range *range,
			 unsigned int shift)
{
	expect_pages(test, &range->pages, drm_gpusvm_range_start(&range->base),
		     drm_gpusvm_range_end(&range->base), shift,
		     DMA_BIDIRECTIONAL);
}

/* Nothing is mapped, not at @dma either, where it was. */
static void expect_none(struct kunit *test, struct drm_gpusvm_pages *pages,
			dma_addr_t dma)
{
	struct gpusvm_test *t = test->priv;

	KUNIT_EXPECT_FALSE(test, pages_valid(t, pages));
	KUNIT_EXPECT_FALSE(test, pages->flags.has_dma_mapping);
	if (t->iommu)
		KUNIT_EXPECT_EQ(test, dma_to_phys_addr(t, dma), 0);
}

static unsigned long map(struct kunit *test, struct file *file,
			 unsigned long addr, unsigned long len,
			 unsigned long prot, unsigned long offset)
{
	addr = kunit_vm_mmap(test, file, addr, len, prot,
			     (file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) |
			     MAP_FIXED, offset);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	return addr;
}

/* Everything is mapped there, aligned to any leaf. */
#define ADDR	SZ_16G
#define RW	(PROT_READ | PROT_WRITE)

static void test_anon(struct kunit *test)
{
	unsigned long addr = map(test, NULL, ADDR, SZ_1M, RW, 0);
	struct gpusvm_test *t = test->priv;
	struct drm_gpusvm_ctx ctx = {};
	struct gpusvm_test_range *range;
	unsigned int order, was;
	dma_addr_t dma;

	gpusvm_begin(test, SZ_64K);
	range = range_at(test, addr + SZ_4K, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_start(&range->base), addr);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_64K);
	KUNIT_EXPECT_FALSE(test, pages_valid(t, &range->pages));
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
	expect_range(test, range, PAGE_SHIFT);
	dma = range->pages.dma_addr[0].addr;

	/* What is valid stays as it is. */
	was = range->pages.dma_addr[0].order;
	range->pages.dma_addr[0].order = 0x55;
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
	order = range->pages.dma_addr[0].order;
	KUNIT_EXPECT_EQ(test, order, 0x55);
	range->pages.dma_addr[0].order = was;
	KUNIT_EXPECT_EQ(test, t->unmaps, 0);

	/* A part of the range is gone, so all of it is. */
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + SZ_4K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, t->unmaps, 1);
	expect_none(test, &range->pages, dma);
	KUNIT_EXPECT_TRUE(test, range->base.flags.unmapped);
	KUNIT_EXPECT_TRUE(test, range->base.flags.partial_unmap);
	KUNIT_EXPECT_EQ(test, get_pages(test, range, &ctx), -EFAULT);
	expect_none(test, &range->pages, dma);

	drm_gpusvm_range_remove(&t->gpusvm, &range->base);
	range = range_at(test, addr, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_4K);
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
	expect_range(test, range, PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, -ENOENT,
			PTR_ERR_OR_ZERO(drm_gpusvm_range_find_or_insert(&t->gpusvm,
									addr + SZ_4K, 0,
									TASK_SIZE, &ctx)));

	/* What ends with the range is the mapping for DMA. */
	dma = range->pages.dma_addr[0].addr;
	gpusvm_end(t);
	if (t->iommu)
		KUNIT_EXPECT_EQ(test, dma_to_phys_addr(t, dma), 0);
}

/* Small ranges where the CPU has no pages yet. */
static void test_check_pages(struct kunit *test)
{
	struct drm_gpusvm_ctx ctx = { .check_pages_threshold = SZ_64K };
	unsigned long addr = map(test, NULL, ADDR, SZ_1M, RW, 0);
	const struct dev_pagemap none = {};
	struct gpusvm_test_range *range;
	int i;

	gpusvm_begin(test, SZ_64K);
	range = range_at(test, addr, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_4K);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_scan_mm(&range->base, NULL, &none),
			DRM_GPUSVM_SCAN_UNPOPULATED);
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_scan_mm(&range->base, NULL, &none),
			DRM_GPUSVM_SCAN_SYSTEM);

	for (i = 0; i < 16; i++) {
		/* All but the last page. */
		gpusvm_begin(test, SZ_64K);
		range = range_at(test, addr + SZ_64K, &ctx);
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_4K);
		cpu_phys(test, addr + SZ_64K + i * PAGE_SIZE);
	}
	gpusvm_begin(test, SZ_64K);
	range = range_at(test, addr + SZ_64K, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_64K);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_scan_mm(&range->base, NULL, &none),
			DRM_GPUSVM_SCAN_SYSTEM);
}

static void test_read_only(struct kunit *test)
{
	unsigned long addr = map(test, NULL, ADDR, SZ_1M, PROT_READ, 0);
	struct drm_gpusvm_ctx ctx = {}, read_only = { .read_only = true };
	struct gpusvm_test *t = test->priv;
	struct gpusvm_test_range *range;

	gpusvm_begin(test, SZ_64K);
	KUNIT_EXPECT_EQ(test, -EPERM,
			PTR_ERR_OR_ZERO(drm_gpusvm_range_find_or_insert(&t->gpusvm,
									addr, 0,
									TASK_SIZE, &ctx)));
	range = range_at(test, addr, &read_only);
	KUNIT_EXPECT_EQ(test, get_pages(test, range, &ctx), -EPERM);
	KUNIT_EXPECT_FALSE(test, pages_valid(t, &range->pages));
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &read_only), 0);
	expect_pages(test, &range->pages, addr, addr + SZ_64K, PAGE_SHIFT,
		     DMA_TO_DEVICE);
}

static void test_thp(struct kunit *test)
{
	unsigned long addr = map(test, NULL, ADDR, SZ_4M, RW, 0);
	struct drm_gpusvm_ctx ctx = {};
	struct gpusvm_test_range *range;

	gpusvm_begin(test, SZ_2M);
	range = range_at(test, addr, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_2M);
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
	if (!range->pages.dma_addr[0].order)
		kunit_skip(test, "no THP");
	expect_range(test, range, PMD_SHIFT);
}

/* All that is left of a leaf in the middle of it, from its one entry. */
static void expect_part(struct kunit *test, unsigned long start,
			unsigned long end, unsigned int shift)
{
	struct gpusvm_test *t = test->priv;
	struct drm_gpusvm_ctx ctx = {};
	struct drm_gpusvm_pages pages;
	struct gpusvm_test_range *range;
	unsigned long npages = (end - start) >> PAGE_SHIFT;
	dma_addr_t dma;

	drm_gpusvm_init_pages(&pages, &t->drm);
	range = range_at(test, start, &ctx);
	KUNIT_ASSERT_EQ(test, 0,
			drm_gpusvm_get_pages(&t->gpusvm, &pages, current->mm,
					     &range->base.notifier->notifier,
					     start, end, &ctx));
	expect_pages(test, &pages, start, end, shift, DMA_BIDIRECTIONAL);
	dma = pages.dma_addr[0].addr;
	drm_gpusvm_unmap_pages(&t->gpusvm, &pages, npages, &ctx);
	expect_none(test, &pages, dma);
	drm_gpusvm_free_pages(&t->gpusvm, &pages, npages);
	KUNIT_EXPECT_NULL(test, pages.dma_addr);
}

/* Memory of which no two pages are one extent, and that can lose its first page. */
#define LOST_PAGES	64	/* in three lists at least */
#define LOST_AT		20	/* when this page is faulted, in the second one */

struct lost {
	struct page *pages;	/* twice as many, each second one is not used */
	bool lose;
};

static vm_fault_t lost_fault(struct vm_fault *vmf)
{
	struct lost *lost = vmf->vma->vm_file->private_data;

	if (vmf->pgoff >= LOST_PAGES)
		return VM_FAULT_SIGBUS;
	if (vmf->pgoff == LOST_AT && lost->lose) {
		lost->lose = false;
		zap_vma_range(vmf->vma, vmf->vma->vm_start, PAGE_SIZE);
	}
	vmf->page = lost->pages + 2 * vmf->pgoff;
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct lost_vm_ops = {
	.fault = lost_fault,
};

static int lost_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &lost_vm_ops;
	return 0;
}

static const struct file_operations lost_fops = {
	.owner = THIS_MODULE,
	.mmap = lost_mmap,
};

static void lost_free(void *data)
{
	struct lost *lost = data;
	int i;

	for (i = 0; i < 2 * LOST_PAGES; i++)
		__free_page(lost->pages + i);
}

/* A page that is lost between two lists is faulted again with all the others. */
static void test_lost_between(struct kunit *test)
{
	struct lost *lost = kunit_kzalloc(test, sizeof(*lost), GFP_KERNEL);
	unsigned long start = ADDR, end = ADDR + LOST_PAGES * PAGE_SIZE;
	struct gpusvm_test *t = test->priv;
	struct drm_gpusvm_ctx ctx = {};
	struct gpusvm_test_range *range;
	struct drm_gpusvm_pages pages;
	struct page *page;
	struct file *file;
	int ret, i;

	KUNIT_ASSERT_NOT_NULL(test, lost);
	lost->pages = alloc_pages(GFP_KERNEL | __GFP_ZERO,
				  ilog2(2 * LOST_PAGES));
	KUNIT_ASSERT_NOT_NULL(test, lost->pages);
	split_page(lost->pages, ilog2(2 * LOST_PAGES));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, lost_free, lost));
	file = anon_inode_getfile("gpusvm_test", &lost_fops, lost, O_RDWR);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	map(test, file, start, end - start, RW, 0);
	fput(file);
	/* They need no fault, of which one would be for all. */
	for (i = 0; i < LOST_AT; i++)
		KUNIT_ASSERT_EQ(test, 0, put_user(0, (char __user *)start +
						     i * PAGE_SIZE));

	gpusvm_begin(test, SZ_64K);
	range = range_at(test, start, &ctx);
	drm_gpusvm_init_pages(&pages, &t->drm);
	lost->lose = true;
	KUNIT_ASSERT_EQ(test, 0,
			drm_gpusvm_get_pages(&t->gpusvm, &pages, current->mm,
					     &range->base.notifier->notifier,
					     start, end, &ctx));
	KUNIT_EXPECT_FALSE(test, lost->lose);
	ret = get_user_pages_fast_only(start, 1, 0, &page);
	KUNIT_EXPECT_EQ(test, ret, 1);
	if (ret == 1)
		put_page(page);
	expect_pages(test, &pages, start, end, PAGE_SHIFT, DMA_BIDIRECTIONAL);
	drm_gpusvm_unmap_pages(&t->gpusvm, &pages, LOST_PAGES, &ctx);
	drm_gpusvm_free_pages(&t->gpusvm, &pages, LOST_PAGES);
}

static void test_dax(struct kunit *test)
{
	struct gpusvm_test *t = test->priv;
	const struct dev_pagemap none = {};
	struct gpusvm_test_range *range;
	struct drm_gpusvm_ctx ctx = {};
	int i, j, nr = 0;
	dma_addr_t dma;

	for (i = 0; i < dax_nr; i++) {
		const struct gpusvm_test_file f = files[i];
		unsigned long at[] = {
			0, SZ_64K, SZ_2M - SZ_4K, SZ_2M + SZ_64K, f.len - SZ_4K,
		};

		if (!f.shift)
			continue;
		nr++;
		for (j = 0; j < ARRAY_SIZE(chunk_sizes); j++) {
			unsigned long chunk = chunk_sizes[j];
			int k;

			if (chunk > f.len)
				continue;
			kunit_info(test, "%pD: leaves of %lu KiB, ranges of %lu KiB\n",
				   f.file, BIT(f.shift) / SZ_1K, chunk / SZ_1K);
			map(test, f.file, ADDR, f.len, RW, 0);
			gpusvm_begin(test, chunk);
			t->unmaps = 0;
			for (k = 0; k < ARRAY_SIZE(at); k++) {
				range = range_at(test, ADDR + at[k], &ctx);
				KUNIT_EXPECT_EQ(test, chunk,
						drm_gpusvm_range_size(&range->base));
				KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
				expect_range(test, range, f.shift);
			}
			/* They are system memory in all respects. */
			KUNIT_EXPECT_EQ(test, DRM_GPUSVM_SCAN_SYSTEM,
					drm_gpusvm_scan_mm(&range->base, NULL, &none));
			KUNIT_EXPECT_EQ(test, 0,
					drm_gpusvm_range_evict(&t->gpusvm,
							       &range->base));
			expect_part(test, ADDR + SZ_4K, ADDR + SZ_2M + SZ_64K + SZ_4K,
				    f.shift);
			KUNIT_EXPECT_EQ(test, t->unmaps, 0);

			dma = range->pages.dma_addr[0].addr;
			KUNIT_ASSERT_EQ(test, vm_munmap(ADDR, f.len), 0);
			KUNIT_EXPECT_GT(test, t->unmaps, 0);
			expect_none(test, &range->pages, dma);
			KUNIT_EXPECT_EQ(test, get_pages(test, range, &ctx), -EFAULT);
			gpusvm_end(t);
		}
	}
	if (!nr)
		kunit_skip(test, "no file with leaves in dax");
}

/* The file loses pages that are mapped, and gets others. */
static void test_dax_truncate(struct kunit *test)
{
	struct gpusvm_test *t = test->priv;
	/* Behind the place that was used before. */
	unsigned long offset = t->iommu ? SZ_4M : SZ_4M + SZ_2M;
	struct gpusvm_test_range *range;
	struct drm_gpusvm_ctx ctx = {};
	int i, nr = 0;
	dma_addr_t dma;

	for (i = 0; i < dax_nr; i++) {
		struct file *file = files[i].file;
		loff_t size = i_size_read(file_inode(file));

		if (!files[i].shift || !S_ISREG(file_inode(file)->i_mode))
			continue;
		nr++;
		map(test, file, ADDR, SZ_2M, RW, offset);
		gpusvm_begin(test, SZ_2M);
		range = range_at(test, ADDR, &ctx);
		KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
		expect_range(test, range, files[i].shift);
		dma = range->pages.dma_addr[0].addr;

		t->unmaps = 0;
		KUNIT_ASSERT_EQ(test, 0,
				vfs_fallocate(file, FALLOC_FL_PUNCH_HOLE |
					      FALLOC_FL_KEEP_SIZE,
					      offset + SZ_64K, SZ_4K));
		KUNIT_EXPECT_EQ(test, t->unmaps, 1);
		expect_none(test, &range->pages, dma);
		KUNIT_EXPECT_FALSE(test, range->base.flags.unmapped);
		KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
		expect_range(test, range, PAGE_SHIFT);
		dma = range->pages.dma_addr[0].addr;

		KUNIT_ASSERT_EQ(test, 0, vfs_truncate(&file->f_path, offset + SZ_1M));
		KUNIT_EXPECT_EQ(test, t->unmaps, 2);
		expect_none(test, &range->pages, dma);
		KUNIT_EXPECT_EQ(test, get_pages(test, range, &ctx), -EFAULT);
		expect_none(test, &range->pages, dma);

		KUNIT_ASSERT_EQ(test, vfs_truncate(&file->f_path, size), 0);
		KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
		expect_range(test, range, PAGE_SHIFT);
		gpusvm_end(t);
		KUNIT_ASSERT_EQ(test, vm_munmap(ADDR, SZ_2M), 0);
	}
	if (!nr)
		kunit_skip(test, "no file of a file system in dax");
}

static void test_refused(struct kunit *test)
{
	struct gpusvm_test *t = test->priv;
	struct gpusvm_test_range *range;
	struct drm_gpusvm_ctx ctx = {};
	int i, nr = 0;

	for (i = 0; i < dax_nr; i++) {
		if (files[i].shift)
			continue;
		nr++;
		map(test, files[i].file, ADDR, SZ_64K, RW, 0);
		gpusvm_begin(test, SZ_64K);
		range = range_at(test, ADDR, &ctx);
		KUNIT_EXPECT_EQ(test, get_pages(test, range, &ctx), -EOPNOTSUPP);
		KUNIT_EXPECT_FALSE(test, pages_valid(t, &range->pages));
		gpusvm_end(t);
		KUNIT_ASSERT_EQ(test, vm_munmap(ADDR, SZ_64K), 0);
	}
	if (!nr)
		kunit_skip(test, "no file with shift 0 in dax");
}

/* A device that does not reach all memory, or has been given a bounce buffer. */
static void test_check_device(struct kunit *test)
{
	struct gpusvm_test *t = test->priv;
	u64 mask = *t->drm.dev->dma_mask;

	KUNIT_EXPECT_EQ(test, drm_gpusvm_check_device(&t->drm), 0);
	*t->drm.dev->dma_mask = DMA_BIT_MASK(24);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_check_device(&t->drm), -EOPNOTSUPP);
	*t->drm.dev->dma_mask = mask;

	dev_clear_dma_skip_sync(t->drm.dev);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_check_device(&t->drm), -EOPNOTSUPP);
	dev_set_dma_skip_sync(t->drm.dev);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_check_device(&t->drm), 0);
}

/*
 * Bouncing is forced, as in a confidential guest: no mapping, and no error of the
 * process. It makes no difference behind an IOMMU.
 */
static void test_no_bounce(struct kunit *test)
{
	struct gpusvm_test *t = test->priv;
	struct io_tlb_mem *mem = t->drm.dev->dma_io_tlb_mem, *forced;
	struct gpusvm_test_range *range;
	struct drm_gpusvm_ctx ctx = {};

	forced = kunit_kzalloc(test, sizeof(*forced), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, forced);
	/* The same buffers, if there are any. */
	if (mem)
		*forced = *mem;
	forced->force_bounce = true;

	map(test, NULL, ADDR, SZ_64K, RW, 0);
	gpusvm_begin(test, SZ_64K);
	range = range_at(test, ADDR, &ctx);
	t->drm.dev->dma_io_tlb_mem = forced;
	if (t->iommu) {
		KUNIT_EXPECT_EQ(test, drm_gpusvm_check_device(&t->drm), 0);
		KUNIT_EXPECT_EQ(test, get_pages(test, range, &ctx), 0);
	} else {
		KUNIT_EXPECT_EQ(test, drm_gpusvm_check_device(&t->drm),
				-EOPNOTSUPP);
		KUNIT_EXPECT_EQ(test, get_pages(test, range, &ctx), -ENOMEM);
		expect_none(test, &range->pages, 0);
	}
	gpusvm_end(t);
	t->drm.dev->dma_io_tlb_mem = mem;
	KUNIT_EXPECT_EQ(test, drm_gpusvm_check_device(&t->drm), 0);

	gpusvm_begin(test, SZ_64K);
	range = range_at(test, ADDR, &ctx);
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
	expect_range(test, range, PAGE_SHIFT);
}

/* There is no IOVA space for all of a range, but for its pages. */
static void test_no_iova(struct kunit *test)
{
	struct gpusvm_test *t = test->priv;
	u64 mask = *t->drm.dev->dma_mask;
	struct drm_gpusvm_pages pages;
	struct gpusvm_test_range *range;
	struct drm_gpusvm_ctx ctx = { .read_only = true };
	unsigned int nr = SZ_1M >> PAGE_SHIFT;
	phys_addr_t phys;
	dma_addr_t dma, first, last;

	if (!t->iommu)
		return;
	/* One page of zeroes again and again, of which no two are contiguous. */
	map(test, NULL, ADDR, SZ_1M, PROT_READ, 0);
	gpusvm_begin(test, SZ_64K);
	range = range_at(test, ADDR, &ctx);
	phys = cpu_phys(test, ADDR);

	/* Of 2 MiB one page in the first half cannot be used, and one in the other is. */
	*t->drm.dev->dma_mask = SZ_2M - 1;
	dma = dma_map_phys(t->drm.dev, phys, PAGE_SIZE, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_FALSE(test, dma_mapping_error(t->drm.dev, dma));
	drm_gpusvm_init_pages(&pages, &t->drm);
	KUNIT_EXPECT_EQ(test, 0,
			drm_gpusvm_get_pages(&t->gpusvm, &pages, current->mm,
					     &range->base.notifier->notifier,
					     ADDR, ADDR + SZ_1M, &ctx));
	KUNIT_EXPECT_FALSE(test, dma_use_iova(&pages.state));
	if (pages.dma_addr) {
		first = pages.dma_addr[0].addr;
		last = pages.dma_addr[nr - 1].addr;
		KUNIT_EXPECT_EQ(test, dma_to_phys_addr(t, first), phys);
		KUNIT_EXPECT_EQ(test, dma_to_phys_addr(t, last), phys);
		drm_gpusvm_unmap_pages(&t->gpusvm, &pages, nr, &ctx);
		KUNIT_EXPECT_EQ(test, dma_to_phys_addr(t, first), 0);
		KUNIT_EXPECT_EQ(test, dma_to_phys_addr(t, last), 0);
	}
	drm_gpusvm_free_pages(&t->gpusvm, &pages, nr);
	dma_unmap_phys(t->drm.dev, dma, PAGE_SIZE, DMA_TO_DEVICE, 0);
	*t->drm.dev->dma_mask = mask;
}

/* A range that is no larger than asked for. */
static void test_max_chunk_size(struct kunit *test)
{
	struct drm_gpusvm_ctx ctx = { .max_chunk_size = SZ_1M };
	struct gpusvm_test_range *range;

	map(test, NULL, ADDR, SZ_2M, RW, 0);
	gpusvm_begin(test, SZ_2M);
	range = range_at(test, ADDR, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_64K);
	ctx.max_chunk_size = SZ_4K;
	range = range_at(test, ADDR + SZ_1M, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_4K);
	KUNIT_ASSERT_EQ(test, get_pages(test, range, &ctx), 0);
	expect_range(test, range, PAGE_SHIFT);
	/* A range that is there already is taken as it is. */
	range = range_at(test, ADDR + SZ_4K, &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(&range->base), SZ_64K);
}

/* Once for each suite: the results are in there. */
#define GPUSVM_CASES { \
	KUNIT_CASE(test_anon), \
	KUNIT_CASE(test_check_pages), \
	KUNIT_CASE(test_read_only), \
	KUNIT_CASE(test_thp), \
	KUNIT_CASE(test_lost_between), \
	KUNIT_CASE_SLOW(test_dax), \
	KUNIT_CASE(test_dax_truncate), \
	KUNIT_CASE(test_refused), \
	KUNIT_CASE(test_check_device), \
	KUNIT_CASE(test_no_bounce), \
	KUNIT_CASE(test_no_iova), \
	KUNIT_CASE(test_max_chunk_size), \
	{} \
}

static struct kunit_case gpusvm_cases[] = GPUSVM_CASES;
static struct kunit_case gpusvm_iommu_cases[] = GPUSVM_CASES;

static void gpusvm_exit(struct kunit *test)
{
	struct gpusvm_test *t = test->priv;

	if (t)
		gpusvm_end(t);
}

static struct gpusvm_test *gpusvm_new(struct kunit *test)
{
	struct gpusvm_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	test->priv = t;
	return t;
}

static int gpusvm_init(struct kunit *test)
{
	struct gpusvm_test *t = gpusvm_new(test);

	t->drm.dev = kunit_device_register(test, "drm_gpusvm");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->drm.dev);
	/* The device does no DMA, so no caches need maintenance. */
	dev_set_dma_coherent(t->drm.dev);
	return dma_coerce_mask_and_coherent(t->drm.dev, DMA_BIT_MASK(64));
}

KUNIT_DEFINE_ACTION_WRAPPER(gpusvm_put_device, put_device, struct device *);

static int gpusvm_iommu_init(struct kunit *test)
{
	struct gpusvm_test *t;

	if (!pci)
		kunit_skip(test, "no pci");
	t = gpusvm_new(test);
	t->drm.dev = bus_find_device_by_name(&pci_bus_type, NULL, pci);
	KUNIT_ASSERT_NOT_NULL(test, t->drm.dev);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, gpusvm_put_device,
						  t->drm.dev));
	t->iommu = iommu_get_domain_for_dev(t->drm.dev);
	KUNIT_ASSERT_NOT_NULL(test, t->iommu);
	/* Behind an IOMMU that is all memory. */
	return dma_set_mask_and_coherent(t->drm.dev, DMA_BIT_MASK(32));
}

static void gpusvm_suite_exit(struct kunit_suite *suite)
{
	int i;

	for (i = 0; i < dax_nr; i++) {
		if (files[i].file)
			filp_close(files[i].file, NULL);
		files[i].file = NULL;
	}
}

/* This is done by modprobe: a test's thread has another root folder. */
static int gpusvm_suite_init(struct kunit_suite *suite)
{
	struct gpusvm_test_file *f;
	int ret = 0;

	for (f = files; !ret && f < files + dax_nr; f++) {
		const char *val = dax[f - files];
		const char *colon = strrchr(val, ':');
		char *name;

		ret = colon ? kstrtouint(colon + 1, 0, &f->shift) : -EINVAL;
		name = ret ? NULL : kstrndup(val, colon - val, GFP_KERNEL);
		if (name) {
			f->len = max(BIT(f->shift), SZ_4M);
			f->file = filp_open(name, O_RDWR, 0);
			kfree(name);
			if (IS_ERR(f->file)) {
				ret = PTR_ERR(f->file);
				f->file = NULL;
			}
		} else if (!ret) {
			ret = -ENOMEM;
		}
		if (ret)
			pr_err("dax=%s: %pe\n", val, ERR_PTR(ret));
	}
	if (ret)
		gpusvm_suite_exit(suite);
	return ret;
}

static struct kunit_suite gpusvm_suite = {
	.name = "drm_gpusvm",
	.suite_init = gpusvm_suite_init,
	.suite_exit = gpusvm_suite_exit,
	.init = gpusvm_init,
	.exit = gpusvm_exit,
	.test_cases = gpusvm_cases,
};

static struct kunit_suite gpusvm_iommu_suite = {
	.name = "drm_gpusvm_iommu",
	.suite_init = gpusvm_suite_init,
	.suite_exit = gpusvm_suite_exit,
	.init = gpusvm_iommu_init,
	.exit = gpusvm_exit,
	.test_cases = gpusvm_iommu_cases,
};

kunit_test_suites(&gpusvm_suite, &gpusvm_iommu_suite);

MODULE_DESCRIPTION("KUnit tests of drm_gpusvm");
MODULE_LICENSE("Dual MIT/GPL");
