// SPDX-License-Identifier: GPL-2.0
/*
 * hmm_range_dma_map() on lists that no hmm_range_fault() can be made to give to
 * the test driver: memory of the device itself, leaves between a page and a PMD,
 * memory that the device reaches by its bus address, and what is refused.
 *
 * All is done for a device without an IOMMU. With pci=ADDRESS, say 0000:00:05.0,
 * it is done again for this device, which needs an IOMMU and memory of its own
 * for other devices, as QEMU's nvme,cmb_size_mb= has it.
 */
#include <kunit/test.h>
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/swiotlb.h>

#include "../hmm_blocks.h"

static char *pci;
module_param(pci, charp, 0);
MODULE_PARM_DESC(pci, "PCI device with an IOMMU and P2PDMA memory to map for");

/* A user address; nothing is ever there. */
#define WINDOW		SZ_1G
#define WINDOW_SIZE	(4 * PMD_SIZE)
#define NPAGES		(WINDOW_SIZE / PAGE_SIZE)

#define PMD_ORDER_UL	(PMD_SHIFT - PAGE_SHIFT + 0UL)
#define PMD_PAGES	(PMD_SIZE / PAGE_SIZE)
#define PMD_FLAGS	(HMM_PFN_VALID | PMD_ORDER_UL << HMM_PFN_ORDER_SHIFT)

struct hmm_dma_test {
	struct platform_device *pdev;	/* NULL: a PCI device */
	struct device *dev;
	struct iommu_domain *iommu;	/* NULL: none */
	struct resource *res;
	struct dev_pagemap pgmap;
	bool has_private;
	unsigned long private_pfn;	/* of PMD_PAGES device-private pages */
	struct page *ram;		/* PMD_PAGES of them */
	struct pci_dev *peer;		/* of which there is memory, or NULL */
	void *peer_page;
	spinlock_t lock;		/* what a driver takes in invalidate() */
	struct hmm_dma_window window;
	unsigned long *pfns;		/* NPAGES: each leaf's entry at its head */
	struct hmm_extent *extents;	/* NPAGES: the same as a list */
	struct test_pte {		/* NPAGES: what the device was told */
		dma_addr_t dma;
		unsigned long pfn;	/* 0: nothing */
	} *ptes;
	unsigned int new;		/* leaves that the last call mapped */
	unsigned int no_way;		/* extents that it could or would not */
};

static vm_fault_t test_migrate_to_ram(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static void test_folio_free(struct folio *folio)
{
}

static const struct dev_pagemap_ops test_pgmap_ops = {
	.migrate_to_ram = test_migrate_to_ram,
	.folio_free = test_folio_free,
};

static void test_add_private(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	void *addr;

	t->res = request_free_mem_region(&iomem_resource, PMD_SIZE,
					 "hmm_dma_kunit");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->res);
	t->pgmap.type = MEMORY_DEVICE_PRIVATE;
	t->pgmap.range.start = t->res->start;
	t->pgmap.range.end = t->res->end;
	t->pgmap.nr_range = 1;
	t->pgmap.ops = &test_pgmap_ops;
	t->pgmap.owner = t;
	addr = memremap_pages(&t->pgmap, NUMA_NO_NODE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, addr);
	t->has_private = true;
	t->private_pfn = t->res->start >> PAGE_SHIFT;
}

static struct hmm_dma_test *test_new(struct kunit *test)
{
	struct hmm_dma_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	spin_lock_init(&t->lock);
	t->pfns = kunit_kcalloc(test, NPAGES, sizeof(*t->pfns), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->pfns);
	t->extents = kunit_kcalloc(test, NPAGES, sizeof(*t->extents), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->extents);
	t->ptes = kunit_kcalloc(test, NPAGES, sizeof(*t->ptes), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->ptes);
	t->ram = alloc_pages(GFP_KERNEL, PMD_SHIFT - PAGE_SHIFT);
	KUNIT_ASSERT_NOT_NULL(test, t->ram);
	test_add_private(test);
	return t;
}

/* Memory of a PCI device for others to use. */
static void test_add_peer(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	struct device *dev;

	if (!pci)
		return;
	dev = bus_find_device_by_name(&pci_bus_type, NULL, pci);
	KUNIT_ASSERT_NOT_NULL(test, dev);
	t->peer = to_pci_dev(dev);
	t->peer_page = pci_alloc_p2pmem(t->peer, PAGE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, t->peer_page);
}

static int hmm_dma_test_init(struct kunit *test)
{
	struct hmm_dma_test *t = test_new(test);
	dma_addr_t dma;
	int ret;

	test_add_peer(test);
	t->pdev = platform_device_register_simple("hmm_dma_kunit", -1, NULL, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->pdev);
	t->dev = &t->pdev->dev;
	/* The device does no DMA, so no caches need maintenance. */
	dev_set_dma_coherent(t->dev);
	KUNIT_ASSERT_EQ(test, dma_set_mask_and_coherent(t->dev,
							DMA_BIT_MASK(64)), 0);
	ret = hmm_dma_window_init(&t->window, t->dev, WINDOW,
				  WINDOW + WINDOW_SIZE, NULL);
	if (ret == -EOPNOTSUPP)
		kunit_skip(test, "every DMA bounces");
	KUNIT_ASSERT_EQ(test, ret, 0);

	/* The tests know what to expect of a device without an IOMMU. */
	dma = dma_map_phys(t->dev, page_to_phys(t->ram), PAGE_SIZE,
			   DMA_BIDIRECTIONAL, DMA_ATTR_REQUIRE_COHERENT);
	if (dma_mapping_error(t->dev, dma))
		kunit_skip(test, "no DMA without bounce buffers here");
	dma_unmap_phys(t->dev, dma, PAGE_SIZE, DMA_BIDIRECTIONAL,
		       DMA_ATTR_REQUIRE_COHERENT);
	if (dma != page_to_phys(t->ram))
		kunit_skip(test, "memory has other DMA addresses here");
	return 0;
}

static int hmm_dma_iommu_test_init(struct kunit *test)
{
	struct hmm_dma_test *t;

	if (!pci)
		kunit_skip(test, "no pci");
	t = test_new(test);
	test_add_peer(test);
	t->dev = &t->peer->dev;
	t->iommu = iommu_get_domain_for_dev(t->dev);
	KUNIT_ASSERT_NOT_NULL(test, t->iommu);
	KUNIT_ASSERT_EQ(test, hmm_dma_window_init(&t->window, t->dev, WINDOW,
						  WINDOW + WINDOW_SIZE, NULL), 0);
	KUNIT_ASSERT_FALSE(test, t->window.direct);
	return 0;
}

/* The device's address of a page of the window, mapped or not, with an IOMMU. */
static dma_addr_t iova_of(struct hmm_dma_test *t, unsigned long page)
{
	return t->window.state.addr + t->window.skew + page * PAGE_SIZE;
}

static unsigned int test_page(unsigned long addr)
{
	return (addr - WINDOW) >> PAGE_SHIFT;
}

/* As hmm_range_fault() would list what @t->pfns has. */
static void test_list(struct hmm_dma_test *t, struct hmm_range *range)
{
	struct hmm_extent *extent = t->extents;
	unsigned long addr, next, entry;

	for (addr = range->start; addr < range->end; addr = next) {
		entry = t->pfns[test_page(addr)];
		next = PAGE_ALIGN(addr + 1);
		if (entry & HMM_PFN_VALID)
			next = min(hmm_leaf_end(entry, addr), range->end);
		if (extent > t->extents &&
		    hmm_extent_entry(extent - 1, addr) == entry) {
			extent[-1].end = next;
			continue;
		}
		extent->start = addr;
		extent->end = next;
		extent->hmm_pfn = entry;
		extent++;
	}
	range->nr_extents = extent - t->extents;
}

static void test_tell(struct hmm_dma_test *t, const struct hmm_range *range,
		      const struct hmm_dma_batch *batch)
{
	struct hmm_extent mapped;
	unsigned long addr, pfn;
	dma_addr_t dma;
	unsigned int i;

	for (i = 0; i < range->nr_extents; i++) {
		if (!hmm_range_dma_mapped(&t->window, range, batch, i, &mapped,
					  &dma))
			continue;
		for (addr = mapped.start; addr < mapped.end; addr += PAGE_SIZE) {
			struct test_pte *pte = &t->ptes[test_page(addr)];

			pfn = hmm_extent_entry(&mapped, addr);
			t->new += pte->pfn != pfn;
			pte->pfn = pfn;
			pte->dma = dma + (addr - mapped.start);
		}
	}
}

/* How many extents with memory are not going to be mapped. */
static unsigned int test_no_way(struct hmm_dma_test *t,
				const struct hmm_range *range,
				const struct hmm_dma_batch *batch)
{
	struct hmm_extent mapped;
	unsigned int i, nr = 0;
	dma_addr_t dma;

	for (i = 0; i < range->nr_extents; i++)
		if (range->extents[i].hmm_pfn & HMM_PFN_VALID &&
		    !hmm_range_dma_mapped(&t->window, range, batch, i, &mapped,
					  &dma))
			nr++;
	return nr;
}

static void test_take_back(struct hmm_dma_test *t, unsigned long start,
			   unsigned long end)
{
	if (!hmm_range_dma_widen(&t->window, &start, &end))
		return;
	memset(&t->ptes[test_page(start)], 0,
	       ((end - start) >> PAGE_SHIFT) * sizeof(*t->ptes));
	hmm_range_dma_unmap(&t->window, start, end);
}

/* As a driver calls them. */
static int test_map_dir(struct hmm_dma_test *t, unsigned long start,
			unsigned long end, enum dma_data_direction dir)
{
	struct mmu_interval_notifier notifier = {};
	struct hmm_dma_batch batch = { .dir = dir };
	struct hmm_range range = {
		.notifier = &notifier,
		.start = start,
		.end = end,
		.extents = t->extents,
	};
	int ret;

	test_list(t, &range);
	ret = hmm_range_dma_prepare(&t->window, &range, &batch);
	if (ret)
		return ret;
	t->new = 0;
	scoped_guard(spinlock, &t->lock) {
		t->no_way = test_no_way(t, &range, &batch);
		ret = hmm_range_dma_map(&t->window, &range, &batch);
		if (ret == -EEXIST) {
			test_take_back(t, batch.stale_start, batch.stale_end);
			ret = hmm_range_dma_map(&t->window, &range, &batch);
		}
		if (!ret)
			test_tell(t, &range, &batch);
	}
	hmm_range_dma_finish(&batch);
	return ret;
}

static int test_map_range(struct hmm_dma_test *t, unsigned long start,
			  unsigned long end)
{
	return test_map_dir(t, start, end, DMA_BIDIRECTIONAL);
}

static int test_map(struct hmm_dma_test *t)
{
	return test_map_range(t, WINDOW, WINDOW + WINDOW_SIZE);
}

/* @n pages of the window from @page. */
static int test_map_pages(struct hmm_dma_test *t, unsigned long page,
			  unsigned long n)
{
	return test_map_range(t, WINDOW + page * PAGE_SIZE,
			      WINDOW + (page + n) * PAGE_SIZE);
}

static void test_unmap_pages(struct hmm_dma_test *t, unsigned long page,
			     unsigned long n)
{
	unsigned long start = WINDOW + page * PAGE_SIZE;

	guard(spinlock)(&t->lock);
	test_take_back(t, start, start + n * PAGE_SIZE);
}

static dma_addr_t test_addr(struct hmm_dma_test *t, unsigned long page,
			    unsigned long *pfn)
{
	*pfn = t->ptes[page].pfn;
	return *pfn ? t->ptes[page].dma : DMA_MAPPING_ERROR;
}

static void hmm_dma_test_exit(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	if (!t)
		return;
	if (t->window.end) {
		test_unmap_pages(t, 0, NPAGES);
		hmm_dma_window_destroy(&t->window);
	}
	if (!IS_ERR_OR_NULL(t->pdev))
		platform_device_unregister(t->pdev);
	if (t->peer_page)
		pci_free_p2pmem(t->peer, t->peer_page, PAGE_SIZE);
	if (t->peer)
		pci_dev_put(t->peer);
	if (t->has_private)
		memunmap_pages(&t->pgmap);
	if (!IS_ERR_OR_NULL(t->res))
		release_mem_region(t->res->start, resource_size(t->res));
	if (t->ram)
		__free_pages(t->ram, PMD_SHIFT - PAGE_SHIFT);
}

/* Is @page of the window mapped to page @nr of the RAM? */
static void expect_ram(struct kunit *test, unsigned long page, unsigned long nr)
{
	struct hmm_dma_test *t = test->priv;
	phys_addr_t phys = page_to_phys(t->ram) + nr * PAGE_SIZE;
	unsigned long pfn;

	KUNIT_EXPECT_EQ(test, test_addr(t, page, &pfn),
			t->iommu ? iova_of(t, page) : phys);
	KUNIT_EXPECT_EQ(test, pfn & ~HMM_PFN_FLAGS, page_to_pfn(t->ram) + nr);
	if (t->iommu)
		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu,
							 iova_of(t, page)), phys);
}

static void expect_nothing(struct kunit *test, unsigned long page)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long pfn = ~0UL;

	KUNIT_EXPECT_EQ(test, test_addr(t, page, &pfn), DMA_MAPPING_ERROR);
	KUNIT_EXPECT_EQ(test, pfn, 0);
	if (t->iommu)
		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu,
							 iova_of(t, page)), 0);
}

static void expect_all_nothing(struct kunit *test)
{
	unsigned long i;

	for (i = 0; i < NPAGES; i++)
		expect_nothing(test, i);
}

/* Pages of the device itself, holes and errors, between pages of RAM. */
static void test_pages_left_out(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long ram = page_to_pfn(t->ram), i;

	for (i = 0; i < 8; i += 2)
		t->pfns[i] = HMM_PFN_VALID | (ram + i);
	t->pfns[1] = HMM_PFN_VALID | HMM_PFN_WRITE | t->private_pfn;
	t->pfns[3] = 0;
	t->pfns[5] = HMM_PFN_ERROR;
	t->pfns[7] = HMM_PFN_VALID | (t->private_pfn + 1);

	KUNIT_ASSERT_EQ(test, test_map(t), 0);
	for (i = 0; i < 8; i += 2) {
		expect_ram(test, i, i);
		expect_nothing(test, i + 1);
	}
	expect_nothing(test, 8);
	expect_nothing(test, NPAGES - 1);
}

/* The same with leaves of PMD size. */
static void test_leaves_left_out(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	t->pfns[0] = PMD_FLAGS | HMM_PFN_WRITE | t->private_pfn;
	t->pfns[PMD_PAGES] = PMD_FLAGS | page_to_pfn(t->ram);
	t->pfns[3 * PMD_PAGES] = PMD_FLAGS | t->private_pfn;
	KUNIT_ASSERT_EQ(test, test_map(t), 0);
	expect_nothing(test, 0);
	expect_nothing(test, PMD_PAGES - 1);
	expect_ram(test, PMD_PAGES, 0);
	expect_ram(test, 2 * PMD_PAGES - 1, PMD_PAGES - 1);
	expect_nothing(test, 2 * PMD_PAGES);
	expect_nothing(test, 3 * PMD_PAGES);
	expect_nothing(test, 4 * PMD_PAGES - 1);
}

/* Memory that has moved to the device is not mapped any more. */
static void test_moved_to_device(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	t->pfns[0] = HMM_PFN_VALID | page_to_pfn(t->ram);
	t->pfns[1] = HMM_PFN_VALID | (page_to_pfn(t->ram) + 1);
	KUNIT_ASSERT_EQ(test, test_map(t), 0);
	expect_ram(test, 0, 0);
	/* To migrate a page calls the notifier. */
	test_unmap_pages(t, 0, 1);
	t->pfns[0] = HMM_PFN_VALID | t->private_pfn;
	KUNIT_ASSERT_EQ(test, test_map(t), 0);
	expect_nothing(test, 0);
	expect_ram(test, 1, 1);
}

/* Put a leaf of an order at @page, of the RAM from its page @nr. */
static void set_leaf(struct hmm_dma_test *t, unsigned long page,
		     unsigned int order, unsigned long nr)
{
	t->pfns[page] = HMM_PFN_VALID | (page_to_pfn(t->ram) + nr) |
			(order + 0UL) << HMM_PFN_ORDER_SHIFT;
}

static void expect_leaf(struct kunit *test, unsigned long page,
			unsigned int order, unsigned long nr)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long i, pfn;

	for (i = 0; i < 1UL << order; i++) {
		expect_ram(test, page + i, nr + i);
		test_addr(t, page + i, &pfn);
		KUNIT_EXPECT_EQ(test, hmm_pfn_to_map_order(pfn), order);
	}
}

static void expect_gone(struct kunit *test, unsigned long page, unsigned long n)
{
	while (n--)
		expect_nothing(test, page++);
}

/* Nodes of the record: memory that has to go again. */
static unsigned int test_nodes(struct hmm_dma_test *t)
{
	unsigned int level, nr = 0;
	struct rb_node *rb;

	for (level = 0; level < HMM_BLOCKS_LEVELS; level++)
		for (rb = rb_first(&t->window.blocks.level[level]); rb;
		     rb = rb_next(rb))
			nr++;
	return nr;
}

/* Leaves of several sizes: each is found, and taken back as a whole and alone. */
static void test_orders(struct kunit *test)
{
	const unsigned int big = PMD_ORDER_UL - 1;
	const unsigned long half = 1UL << big;
	struct hmm_dma_test *t = test->priv;
	unsigned long start, end;

	if (half < 128)
		kunit_skip(test, "a PMD leaf has no room for all of these");

	set_leaf(t, 3, 0, 3);
	set_leaf(t, 16, 4, 16);
	set_leaf(t, 32, 4, 32);	/* contiguous with that */
	set_leaf(t, 64, 0, 64);	/* where one could begin */
	set_leaf(t, 96, 1, 2);
	set_leaf(t, half, big, 0);
	set_leaf(t, PMD_PAGES, PMD_ORDER_UL, 0);
	set_leaf(t, 2 * PMD_PAGES, 0, 7);
	KUNIT_ASSERT_EQ(test, test_map(t), 0);

	expect_gone(test, 0, 3);
	expect_leaf(test, 3, 0, 3);
	expect_gone(test, 4, 12);
	expect_leaf(test, 16, 4, 16);
	expect_leaf(test, 32, 4, 32);
	expect_gone(test, 48, 16);
	expect_leaf(test, 64, 0, 64);
	expect_gone(test, 65, 31);
	expect_leaf(test, 96, 1, 2);
	expect_gone(test, 98, half - 98);
	expect_leaf(test, half, big, 0);
	expect_leaf(test, PMD_PAGES, PMD_ORDER_UL, 0);
	expect_leaf(test, 2 * PMD_PAGES, 0, 7);
	expect_gone(test, 2 * PMD_PAGES + 1, 2 * PMD_PAGES - 1);

	/* Nothing is a block without an IOMMU. */
	if (t->window.direct)
		return;

	start = WINDOW + 20 * PAGE_SIZE;
	end = start + PAGE_SIZE;
	KUNIT_EXPECT_TRUE(test, hmm_range_dma_widen(&t->window, &start, &end));
	KUNIT_EXPECT_EQ(test, start, WINDOW + 16 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, end, WINDOW + 32 * PAGE_SIZE);
	/* Of its last page a byte is enough. */
	start = WINDOW + 15 * PAGE_SIZE;
	end = WINDOW + 16 * PAGE_SIZE + 1;
	KUNIT_EXPECT_TRUE(test, hmm_range_dma_widen(&t->window, &start, &end));
	KUNIT_EXPECT_EQ(test, end, WINDOW + 32 * PAGE_SIZE);
	/* Nothing is there, and nothing is cut. */
	start = WINDOW + 4 * PAGE_SIZE;
	end = start + PAGE_SIZE;
	KUNIT_EXPECT_TRUE(test, hmm_range_dma_widen(&t->window, &start, &end));
	KUNIT_EXPECT_EQ(test, start, WINDOW + 4 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, end, WINDOW + 5 * PAGE_SIZE);

	test_unmap_pages(t, 20, 1);
	expect_gone(test, 16, 16);
	expect_leaf(test, 3, 0, 3);
	expect_leaf(test, 32, 4, 32);

	/* A part of one takes all of it, whatever the driver has asked. */
	scoped_guard(spinlock, &t->lock)
		hmm_range_dma_unmap(&t->window, WINDOW + 33 * PAGE_SIZE,
				    WINDOW + 34 * PAGE_SIZE);
	memset(&t->ptes[32], 0, 16 * sizeof(*t->ptes));
	expect_gone(test, 32, 16);

	/* Two of them are cut. */
	test_unmap_pages(t, 40, half);
	expect_leaf(test, 3, 0, 3);
	expect_gone(test, 4, PMD_PAGES - 4);
	expect_leaf(test, PMD_PAGES, PMD_ORDER_UL, 0);
	test_unmap_pages(t, 2 * PMD_PAGES - 1, 1);
	expect_gone(test, PMD_PAGES, PMD_PAGES);
	expect_leaf(test, 2 * PMD_PAGES, 0, 7);
	test_unmap_pages(t, 0, NPAGES);
	expect_all_nothing(test);
}

/* What is mapped by other blocks, or otherwise, makes room for what comes. */
static void test_replace(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long i, pfn;

	/* A large leaf over pages, and over a leaf of medium size. */
	for (i = 0; i < 8; i++)
		set_leaf(t, i, 0, 8 + i);
	set_leaf(t, PMD_PAGES / 2, 3, 16);
	set_leaf(t, PMD_PAGES - 1, 0, 0);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, PMD_PAGES), 0);
	expect_leaf(test, 7, 0, 15);
	expect_leaf(test, PMD_PAGES / 2, 3, 16);
	set_leaf(t, 0, PMD_ORDER_UL, 0);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, PMD_PAGES), 0);
	expect_leaf(test, 0, PMD_ORDER_UL, 0);

	/* For reading first; then the same as before: nothing is new. */
	t->pfns[0] |= HMM_PFN_WRITE;
	test_unmap_pages(t, 0, PMD_PAGES);
	KUNIT_ASSERT_EQ(test, test_map_dir(t, WINDOW, WINDOW + PMD_SIZE,
					   DMA_TO_DEVICE), 0);
	expect_leaf(test, 0, PMD_ORDER_UL, 0);
	test_addr(t, 0, &pfn);
	KUNIT_EXPECT_FALSE(test, pfn & HMM_PFN_WRITE);
	KUNIT_ASSERT_EQ(test, test_map_dir(t, WINDOW, WINDOW + PMD_SIZE,
					   DMA_TO_DEVICE), 0);
	KUNIT_EXPECT_EQ(test, t->new, 0);

	/* Then for writing, and for reading again: that is allowed already. */
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, PMD_PAGES), 0);
	KUNIT_EXPECT_EQ(test, t->new, PMD_PAGES);
	expect_leaf(test, 0, PMD_ORDER_UL, 0);
	test_addr(t, 0, &pfn);
	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_WRITE);
	KUNIT_ASSERT_EQ(test, test_map_dir(t, WINDOW, WINDOW + PMD_SIZE,
					   DMA_TO_DEVICE), 0);
	expect_leaf(test, 0, PMD_ORDER_UL, 0);
}

/* Map a list as a driver would that forgets a step. */
static int test_map_carelessly(struct hmm_dma_test *t, bool prepare)
{
	struct mmu_interval_notifier notifier = {};
	struct hmm_dma_batch batch = { .dir = DMA_BIDIRECTIONAL };
	struct hmm_range range = {
		.notifier = &notifier,
		.start = WINDOW,
		.end = WINDOW + WINDOW_SIZE,
		.extents = t->extents,
	};
	int ret = 0;

	test_list(t, &range);
	if (prepare)
		ret = hmm_range_dma_prepare(&t->window, &range, &batch);
	scoped_guard(spinlock, &t->lock)
		ret = ret ?: hmm_range_dma_map(&t->window, &range, &batch);
	hmm_range_dma_finish(&batch);
	return ret;
}

/* What is in the way of a list that has more, and steps that are left out. */
static void test_stale(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long page = 2 * PMD_PAGES;
	unsigned long i;

	KUNIT_EXPECT_EQ(test, test_map_carelessly(t, false), 0);
	set_leaf(t, page, 0, 3);
	KUNIT_EXPECT_EQ(test, test_map_carelessly(t, false), -ENOMEM);
	expect_all_nothing(test);
	KUNIT_EXPECT_EQ(test, test_nodes(t), 0);

	/* For reading, in a node of its own; then for writing, with leaves. */
	KUNIT_ASSERT_EQ(test, test_map(t), 0);
	expect_leaf(test, page, 0, 3);
	set_leaf(t, PMD_PAGES, PMD_ORDER_UL, 0);
	t->pfns[page] |= HMM_PFN_WRITE;
	set_leaf(t, page + 4, 0, 8);
	KUNIT_EXPECT_EQ(test, test_map_carelessly(t, true), -EEXIST);
	expect_leaf(test, page, 0, 3);
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu,
						 iova_of(t, PMD_PAGES)), 0);
	KUNIT_ASSERT_EQ(test, test_map(t), 0);
	KUNIT_EXPECT_EQ(test, t->new, PMD_PAGES + 2);
	expect_leaf(test, PMD_PAGES, PMD_ORDER_UL, 0);
	expect_leaf(test, page, 0, 3);
	expect_leaf(test, page + 4, 0, 8);

	/* All of it is forgotten when it is gone, in any order. */
	for (i = NPAGES; i > 0; i -= 2)
		test_unmap_pages(t, i - 2, 2);
	expect_all_nothing(test);
	KUNIT_EXPECT_EQ(test, test_nodes(t), 0);
}

/* A window that is less than a leaf has no blocks: any page can go alone. */
static void test_small_window(struct kunit *test)
{
	const unsigned long pages = PMD_PAGES / 2, skip = PMD_PAGES / 4 + 3;
	struct hmm_dma_test *t = test->priv;
	struct hmm_dma_batch batch = { .dir = DMA_TO_DEVICE };
	struct mmu_interval_notifier notifier = {};
	struct hmm_dma_window window;
	struct hmm_extent extent = {
		.start = WINDOW + skip * PAGE_SIZE,
		.end = WINDOW + (skip + pages) * PAGE_SIZE,
		.hmm_pfn = (PMD_FLAGS | page_to_pfn(t->ram)) + skip,
	}, mapped;
	struct hmm_range range = {
		.notifier = &notifier,
		.start = extent.start,
		.end = extent.end,
		.extents = &extent,
		.nr_extents = 1,
	};
	unsigned long start = extent.start + 7 * PAGE_SIZE;
	unsigned long end = start + PAGE_SIZE;
	dma_addr_t dma;
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, hmm_dma_window_init(&window, t->dev,
						     extent.start, extent.end, NULL));
	KUNIT_EXPECT_EQ(test, hmm_range_dma_prepare(&window, &range, &batch), 0);
	KUNIT_EXPECT_EQ(test, hmm_range_dma_map(&window, &range, &batch), 0);
	KUNIT_EXPECT_TRUE(test, hmm_range_dma_mapped(&window, &range, &batch, 0,
						     &mapped, &dma));
	KUNIT_EXPECT_EQ(test, mapped.start, extent.start);
	KUNIT_EXPECT_EQ(test, mapped.end, extent.end);
	KUNIT_EXPECT_TRUE(test, hmm_range_dma_widen(&window, &start, &end));
	KUNIT_EXPECT_EQ(test, end - start, PAGE_SIZE);
	hmm_range_dma_unmap(&window, start, end);
	for (i = 0; i < pages; i++) {
		phys_addr_t phys = page_to_phys(t->ram) + (skip + i) * PAGE_SIZE;

		KUNIT_EXPECT_EQ(test, i == 7 ? 0 : phys,
				iommu_iova_to_phys(t->iommu, dma + i * PAGE_SIZE));
	}
	hmm_range_dma_unmap(&window, window.start, window.end);
	hmm_range_dma_finish(&batch);
	hmm_dma_window_destroy(&window);
}

/* A window costs what is mapped in it, however far its ends are from each other. */
static void test_terabytes(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	struct hmm_dma_batch batch = { .dir = DMA_TO_DEVICE };
	struct mmu_interval_notifier notifier = {};
	unsigned long pfn = page_to_pfn(t->ram), size = 64UL << 40, end;
	struct hmm_dma_window window;
	struct hmm_extent extents[3], mapped;
	struct hmm_range range = {
		.notifier = &notifier,
		.start = WINDOW,
		.extents = extents,
		.nr_extents = ARRAY_SIZE(extents),
	};
	dma_addr_t dma[2] = {};
	int i, ret;

	/* As much as there are DMA addresses for: half of 39 bits is the least. */
	while ((ret = hmm_dma_window_init(&window, t->dev, WINDOW, WINDOW + size,
					  NULL)) == -ENOSPC && size > 128UL << 30)
		size /= 2;
	KUNIT_ASSERT_EQ(test, ret, 0);
	kunit_info(test, "%lu GiB", size >> 30);
	KUNIT_EXPECT_TRUE(test, hmm_blocks_empty(&window.blocks));

	end = WINDOW + size;
	extents[0] = (struct hmm_extent){ WINDOW, WINDOW + PMD_SIZE, PMD_FLAGS | pfn };
	extents[1] = (struct hmm_extent){ WINDOW + PMD_SIZE, end - PMD_SIZE, 0 };
	extents[2] = (struct hmm_extent){ end - PMD_SIZE, end, PMD_FLAGS | pfn };
	range.end = end;
	KUNIT_EXPECT_EQ(test, hmm_range_dma_prepare(&window, &range, &batch), 0);
	KUNIT_EXPECT_EQ(test, hmm_range_dma_map(&window, &range, &batch), 0);
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_TRUE(test, hmm_range_dma_mapped(&window, &range, &batch,
							     2 * i, &mapped, &dma[i]));
		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, dma[i]),
				page_to_phys(t->ram));
	}
	KUNIT_EXPECT_EQ(test, dma[1] - dma[0], size - PMD_SIZE);

	/* The end alone, then all of it. */
	hmm_range_dma_unmap(&window, end - PMD_SIZE, end);
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, dma[1]), 0);
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, dma[0]),
			page_to_phys(t->ram));
	hmm_range_dma_unmap(&window, window.start, window.end);
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, dma[0]), 0);
	KUNIT_EXPECT_TRUE(test, hmm_blocks_empty(&window.blocks));
	hmm_range_dma_finish(&batch);
	hmm_dma_window_destroy(&window);
}

/* It is over two leaves: there is a node of the record for the pages of each. */
static void test_small_window_two_leaves(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long pfn = page_to_pfn(t->ram);
	struct hmm_dma_batch batch = { .dir = DMA_TO_DEVICE };
	struct mmu_interval_notifier notifier = {};
	unsigned long start = WINDOW + PMD_SIZE - 2 * PAGE_SIZE;
	struct hmm_extent extents[] = {
		{ start, WINDOW + PMD_SIZE, (PMD_FLAGS | pfn) + PMD_PAGES - 2 },
		{ WINDOW + PMD_SIZE, start + 4 * PAGE_SIZE, PMD_FLAGS | pfn },
	};
	struct hmm_range range = {
		.notifier = &notifier,
		.extents = extents,
		.nr_extents = ARRAY_SIZE(extents),
	};
	struct hmm_dma_window window;

	KUNIT_ASSERT_EQ(test, 0, hmm_dma_window_init(&window, t->dev, start,
						     start + 4 * PAGE_SIZE, NULL));
	KUNIT_EXPECT_EQ(test, hmm_range_dma_prepare(&window, &range, &batch), 0);
	KUNIT_EXPECT_EQ(test, hmm_range_dma_map(&window, &range, &batch), 0);
	hmm_range_dma_unmap(&window, window.start, window.end);
	hmm_range_dma_finish(&batch);
	hmm_dma_window_destroy(&window);
}

/* Two lists in one array; where the second begins the first leaf has ended. */
static void test_two_lists(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long pfn = page_to_pfn(t->ram);
	struct hmm_dma_batch batch = { .dir = DMA_TO_DEVICE };
	struct mmu_interval_notifier notifier = {};
	struct hmm_extent extents[] = {
		{ WINDOW + 5 * PAGE_SIZE, WINDOW + 6 * PAGE_SIZE,
		  (PMD_FLAGS | pfn) + 5 },
		{ WINDOW + PMD_SIZE, WINDOW + PMD_SIZE + PAGE_SIZE,
		  PMD_FLAGS | pfn },
	};
	struct hmm_range range = {
		.notifier = &notifier,
		/* Of the second. */
		.start = WINDOW + PMD_SIZE,
		.end = WINDOW + PMD_SIZE + PAGE_SIZE,
		.extents = extents,
		.nr_extents = ARRAY_SIZE(extents),
	};
	unsigned int i;

	/* The first of them for reading, both for writing, and once more. */
	for (i = 0; i < 3; i++) {
		range.nr_extents = i ? 2 : 1;
		KUNIT_EXPECT_EQ(test, 0, hmm_range_dma_prepare(&t->window, &range,
							       &batch));
		KUNIT_EXPECT_EQ(test, hmm_range_dma_map(&t->window, &range, &batch),
				i == 1 ? -EEXIST : 0);
		hmm_range_dma_finish(&batch);
		batch.dir = DMA_BIDIRECTIONAL;
		extents[0].hmm_pfn |= HMM_PFN_WRITE;
		extents[1].hmm_pfn |= HMM_PFN_WRITE;
		if (i != 1)
			continue;
		KUNIT_EXPECT_EQ(test, batch.stale_start, WINDOW);
		KUNIT_EXPECT_EQ(test, batch.stale_end, WINDOW + PMD_SIZE);
		hmm_range_dma_unmap(&t->window, batch.stale_start,
				    batch.stale_end);
	}
	for (i = 0; i < 2 * PMD_PAGES; i += 7)
		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, iova_of(t, i)),
				page_to_phys(t->ram) + i % PMD_PAGES * PAGE_SIZE);
}

/* Of two windows that are flushed together, none is flushed alone. */
static void test_two_windows(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	struct hmm_dma_batch batch = { .dir = DMA_TO_DEVICE };
	struct mmu_interval_notifier notifier = {};
	struct hmm_extent extent = {
		.hmm_pfn = HMM_PFN_VALID | page_to_pfn(t->ram),
	};
	struct hmm_range range = {
		.notifier = &notifier,
		.extents = &extent,
		.nr_extents = 1,
	};
	struct iommu_iotlb_gather gather;
	struct hmm_dma_window windows[2];
	unsigned int i;

	iommu_iotlb_gather_init(&gather);
	for (i = 0; i < 2; i++) {
		extent.start = WINDOW + i * PMD_SIZE;
		extent.end = extent.start + PAGE_SIZE;
		KUNIT_ASSERT_EQ(test, 0,
				hmm_dma_window_init(&windows[i], t->dev,
						    extent.start,
						    extent.start + PMD_SIZE,
						    &gather));
		KUNIT_EXPECT_EQ(test, 0, hmm_range_dma_prepare(&windows[i], &range,
							       &batch));
		KUNIT_EXPECT_EQ(test, 0, hmm_range_dma_map(&windows[i], &range,
							   &batch));
		hmm_range_dma_finish(&batch);
	}
	hmm_range_dma_unmap_nosync(&windows[0], WINDOW, WINDOW + PAGE_SIZE);
	KUNIT_EXPECT_LT(test, gather.start, gather.end);
	/* Nothing is mapped there any more, but it has to be flushed. */
	hmm_range_dma_unmap(&windows[0], WINDOW, WINDOW + PAGE_SIZE);
	KUNIT_EXPECT_GT(test, gather.start, gather.end);

	hmm_range_dma_unmap_nosync(&windows[1], extent.start, extent.end);
	KUNIT_EXPECT_LT(test, gather.start, gather.end);
	hmm_range_dma_sync(&windows[0]);
	KUNIT_EXPECT_GT(test, gather.start, gather.end);
	for (i = 0; i < 2; i++)
		hmm_dma_window_destroy(&windows[i]);
}

/* What is no range of the window is refused, and nothing of it is mapped. */
static void test_not_in_window(struct kunit *test)
{
	const unsigned long end = WINDOW + WINDOW_SIZE;
	struct hmm_dma_test *t = test->priv;
	struct hmm_extent extent = {
		.hmm_pfn = HMM_PFN_VALID | page_to_pfn(t->ram),
	};
	const struct {
		unsigned long start, end;
	} bad[] = {
		{ WINDOW - PAGE_SIZE, WINDOW + PAGE_SIZE },
		{ WINDOW - PAGE_SIZE, WINDOW },
		{ end, end + PAGE_SIZE },
		{ end - PAGE_SIZE, end + PAGE_SIZE },
		{ WINDOW - PAGE_SIZE, end + PAGE_SIZE },
	};
	struct hmm_dma_batch batch = { .dir = DMA_TO_DEVICE };
	struct hmm_dma_window window;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct hmm_range range = {
			.start = bad[i].start,
			.end = bad[i].end,
			.extents = &extent,
			.nr_extents = 1,
		};

		extent.start = range.start;
		extent.end = range.end;
		KUNIT_EXPECT_EQ(test, -EINVAL,
				hmm_range_dma_map(&t->window, &range, &batch));
	}
	expect_all_nothing(test);

	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_dma_window_init(&window, t->dev, WINDOW, WINDOW, NULL));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_dma_window_init(&window, t->dev, WINDOW + 1, end, NULL));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_dma_window_init(&window, t->dev, WINDOW, end - 1, NULL));
}

/*
 * A device that cannot reach all memory, or needs cache maintenance; but not one of
 * which some buffer has bounced.
 */
static void test_unfit_device(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, hmm_dma_check_device(t->dev), 0);
#ifdef CONFIG_DMA_NEED_SYNC
	dev_clear_dma_skip_sync(t->dev);
	KUNIT_EXPECT_EQ(test, hmm_dma_check_device(t->dev), 0);
	dev_set_dma_skip_sync(t->dev);
#endif
#ifdef CONFIG_ARCH_HAS_SYNC_DMA_FOR_DEVICE
	dev_clear_dma_coherent(t->dev);
	KUNIT_EXPECT_EQ(test, hmm_dma_check_device(t->dev), -EOPNOTSUPP);
	dev_set_dma_coherent(t->dev);
#endif
	if (dma_get_required_mask(t->dev) <= DMA_BIT_MASK(32))
		kunit_skip(test, "32 bits reach all memory here");
	KUNIT_ASSERT_EQ(test, dma_set_mask(t->dev, DMA_BIT_MASK(32)), 0);
	KUNIT_EXPECT_EQ(test, hmm_dma_check_device(t->dev), -EOPNOTSUPP);
}

/* Memory that the device does not reach, such as a BAR, is found when it is mapped. */
static void test_out_of_reach(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	u64 mask = *t->dev->dma_mask;

	set_leaf(t, 0, 0, 0);
	/* As if all memory were behind that. */
	t->window.reach = 0;
	*t->dev->dma_mask = page_to_phys(t->ram) - 1;
	KUNIT_EXPECT_EQ(test, test_map(t), -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, t->no_way, 1);
	*t->dev->dma_mask = page_to_phys(t->ram) + PAGE_SIZE - 1;
	KUNIT_EXPECT_EQ(test, test_map(t), 0);
	KUNIT_EXPECT_EQ(test, t->no_way, 0);
	*t->dev->dma_mask = mask;
}

/* Nor is one whose memory is bounced. */
static void test_bounced(struct kunit *test)
{
#ifdef CONFIG_SWIOTLB
	struct io_tlb_mem forced = { .force_bounce = true };
	struct hmm_dma_test *t = test->priv;
	struct io_tlb_mem *was = t->dev->dma_io_tlb_mem;

	t->dev->dma_io_tlb_mem = &forced;
	KUNIT_EXPECT_EQ(test, hmm_dma_check_device(t->dev), -EOPNOTSUPP);
	t->dev->dma_io_tlb_mem = was;
	KUNIT_EXPECT_EQ(test, hmm_dma_check_device(t->dev), 0);
#else
	kunit_skip(test, "no CONFIG_SWIOTLB");
#endif
}

static struct {
	const struct iommu_domain_ops *ops;
	dma_addr_t iova;
} refusing;

/*
 * Generic page tables refuse what is mapped already. A driver with tables of its own
 * does not always, and is asked here: it refuses one page.
 */
static int refuse_map_pages(struct iommu_domain *domain, unsigned long iova,
			    phys_addr_t paddr, size_t pgsize, size_t pgcount,
			    int prot, gfp_t gfp, size_t *mapped)
{
	size_t size = pgsize * pgcount;
	int ret;

	if (refusing.iova < iova || refusing.iova >= iova + size)
		return refusing.ops->map_pages(domain, iova, paddr, pgsize,
					       pgcount, prot, gfp, mapped);
	pgcount = (refusing.iova - iova) / pgsize;
	if (pgcount) {
		ret = refusing.ops->map_pages(domain, iova, paddr, pgsize,
					      pgcount, prot, gfp, mapped);
		if (ret)
			return ret;
	}
	return -EBUSY;
}

/*
 * A page that cannot be mapped, behind others and a large leaf: what the call has
 * mapped is taken back, and nothing else. The page is memory of a PCI device that
 * this one cannot reach or, with an IOMMU, one that the IOMMU refuses.
 */
static void test_unwind(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long bad = 2 * PMD_PAGES + 2;
	struct iommu_domain_ops *ops;
	unsigned int nodes;
	unsigned long i;

	if (!t->peer)
		kunit_skip(test, "no pci");
	set_leaf(t, 1, 0, 1);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 2), 0);
	for (i = 0; i < 4; i++)
		set_leaf(t, bad + 1 + i, 0, i);
	set_leaf(t, 3 * PMD_PAGES, PMD_ORDER_UL, 0);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, bad, NPAGES - bad), 0);

	set_leaf(t, 0, 0, 10);
	set_leaf(t, 2, 0, 12);
	set_leaf(t, PMD_PAGES, PMD_ORDER_UL, 0);
	set_leaf(t, bad - 1, 0, 14);
	set_leaf(t, bad, 0, 20);
	nodes = test_nodes(t);
	if (t->iommu) {
		ops = kunit_kzalloc(test, sizeof(*ops), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, ops);
		KUNIT_ASSERT_EQ(test, 0,
				iommu_map(t->iommu, iova_of(t, bad),
					  page_to_phys(t->ram), PAGE_SIZE,
					  IOMMU_READ, GFP_KERNEL));
		refusing.ops = t->iommu->ops;
		refusing.iova = iova_of(t, bad);
		*ops = *refusing.ops;
		ops->map_pages = refuse_map_pages;
		t->iommu->ops = ops;
		KUNIT_EXPECT_LT(test, test_map(t), 0);
		t->iommu->ops = refusing.ops;
		KUNIT_EXPECT_EQ(test, PAGE_SIZE,
				iommu_unmap(t->iommu, iova_of(t, bad), PAGE_SIZE));
	} else {
		t->pfns[bad] = HMM_PFN_VALID |
			       page_to_pfn(virt_to_page(t->peer_page));
		KUNIT_EXPECT_EQ(test, test_map(t), -EREMOTEIO);
		KUNIT_EXPECT_EQ(test, t->no_way, 1);
	}

	KUNIT_EXPECT_EQ(test, test_nodes(t), nodes);
	expect_nothing(test, 0);
	expect_leaf(test, 1, 0, 1);
	expect_gone(test, 2, bad - 1);
	for (i = 0; i < 4; i++)
		expect_leaf(test, bad + 1 + i, 0, i);
	expect_leaf(test, 3 * PMD_PAGES, PMD_ORDER_UL, 0);
}

/*
 * Memory of the device itself or of one behind the same switch is accessed by
 * its address on the bus, and the IOMMU knows nothing of it.
 */
static void test_bus_address(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long pfn, peer = page_to_pfn(virt_to_page(t->peer_page));
	struct p2pdma_provider *provider = NULL;
	dma_addr_t bus;
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		if (pci_resource_len(t->peer, bar) &&
		    PFN_PHYS(peer) >= pci_resource_start(t->peer, bar) &&
		    PFN_PHYS(peer) <= pci_resource_end(t->peer, bar))
			provider = pcim_p2pdma_provider(t->peer, bar);
	KUNIT_ASSERT_NOT_NULL(test, provider);

	set_leaf(t, 0, 0, 0);
	t->pfns[1] = HMM_PFN_VALID | HMM_PFN_WRITE | peer;
	set_leaf(t, 2, 0, 2);
	bus = PFN_PHYS(peer);
	for (int i = 0; i < 2; i++) {
		/* A host bridge whose bus has other addresses than the CPU. */
		provider->bus_offset += i * SZ_1G;
		bus += i * SZ_1G;
		KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 3), 0);
		provider->bus_offset -= i * SZ_1G;
		expect_leaf(test, 0, 0, 0);
		expect_leaf(test, 2, 0, 2);
		KUNIT_EXPECT_EQ(test, test_addr(t, 1, &pfn), bus);
		KUNIT_EXPECT_EQ(test, pfn, HMM_PFN_VALID | HMM_PFN_WRITE | peer);
		KUNIT_EXPECT_EQ(test, 0, iommu_iova_to_phys(t->iommu,
							    iova_of(t, 1)));

		test_unmap_pages(t, 1, 1);
		expect_nothing(test, 1);
		expect_leaf(test, 0, 0, 0);
		expect_leaf(test, 2, 0, 2);
	}
}

/* What each type of ZONE_DEVICE memory is; one that is new is not mapped. */
static void test_memory_types(struct kunit *test)
{
	static const struct {
		unsigned int type;
		enum hmm_memory memory;
	} types[] = {
		{ MEMORY_DEVICE_PRIVATE, HMM_MEMORY_DEVICE },
		{ MEMORY_DEVICE_COHERENT, HMM_MEMORY_DEVICE },
		{ MEMORY_DEVICE_FS_DAX, HMM_MEMORY_SYSTEM },
		{ MEMORY_DEVICE_GENERIC, HMM_MEMORY_SYSTEM },
		{ MEMORY_DEVICE_PCI_P2PDMA, HMM_MEMORY_P2PDMA },
		{ MEMORY_DEVICE_PCI_P2PDMA + 1, HMM_MEMORY_UNKNOWN },
	};
	struct hmm_dma_test *t = test->priv;
	unsigned long entry = HMM_PFN_VALID | t->private_pfn;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		t->pgmap.type = types[i].type;
		KUNIT_EXPECT_EQ(test, hmm_pfn_to_memory(entry),
				types[i].memory);
	}
	t->pfns[0] = entry;
	KUNIT_EXPECT_EQ(test, test_map(t), -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, t->no_way, 1);
	expect_nothing(test, 0);
	t->pgmap.type = MEMORY_DEVICE_PRIVATE;
	entry = HMM_PFN_VALID | page_to_pfn(t->ram);
	KUNIT_EXPECT_EQ(test, hmm_pfn_to_memory(entry), HMM_MEMORY_SYSTEM);
}

static struct kunit_case hmm_dma_test_cases[] = {
	KUNIT_CASE(test_pages_left_out),
	KUNIT_CASE(test_leaves_left_out),
	KUNIT_CASE(test_moved_to_device),
	KUNIT_CASE(test_memory_types),
	KUNIT_CASE(test_orders),
	KUNIT_CASE(test_replace),
	KUNIT_CASE(test_not_in_window),
	KUNIT_CASE(test_unfit_device),
	KUNIT_CASE(test_out_of_reach),
	KUNIT_CASE(test_bounced),
	KUNIT_CASE(test_unwind),
	{}
};

static struct kunit_suite hmm_dma_test_suite = {
	.name = "hmm_dma",
	.init = hmm_dma_test_init,
	.exit = hmm_dma_test_exit,
	.test_cases = hmm_dma_test_cases,
};

static struct kunit_case hmm_dma_iommu_test_cases[] = {
	KUNIT_CASE(test_pages_left_out),
	KUNIT_CASE(test_leaves_left_out),
	KUNIT_CASE(test_moved_to_device),
	KUNIT_CASE(test_orders),
	KUNIT_CASE(test_replace),
	KUNIT_CASE(test_stale),
	KUNIT_CASE(test_small_window),
	KUNIT_CASE(test_small_window_two_leaves),
	KUNIT_CASE(test_terabytes),
	KUNIT_CASE(test_two_lists),
	KUNIT_CASE(test_two_windows),
	KUNIT_CASE(test_not_in_window),
	KUNIT_CASE(test_unwind),
	KUNIT_CASE(test_bus_address),
	{}
};

static struct kunit_suite hmm_dma_iommu_test_suite = {
	.name = "hmm_dma_iommu",
	.init = hmm_dma_iommu_test_init,
	.exit = hmm_dma_test_exit,
	.test_cases = hmm_dma_iommu_test_cases,
};

kunit_test_suites(&hmm_dma_test_suite, &hmm_dma_iommu_test_suite);

MODULE_DESCRIPTION("KUnit tests of HMM's DMA mappings");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_LICENSE("GPL");
