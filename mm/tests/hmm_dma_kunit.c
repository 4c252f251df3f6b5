// SPDX-License-Identifier: GPL-2.0
/*
 * hmm_range_dma_map() on arrays that no hmm_range_fault() can be made to give to
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
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/swiotlb.h>

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
	struct hmm_dma_map map;
	unsigned long *pfns;		/* NPAGES */
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
	KUNIT_ASSERT_EQ(test, dma_set_mask_and_coherent(t->dev,
							DMA_BIT_MASK(64)), 0);
	ret = hmm_range_dma_alloc(t->dev, &t->map, WINDOW,
				  WINDOW + WINDOW_SIZE);
	if (ret == -EOPNOTSUPP)
		kunit_skip(test, "DMA is not coherent here");
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
	KUNIT_ASSERT_EQ(test, hmm_range_dma_alloc(t->dev, &t->map, WINDOW,
						  WINDOW + WINDOW_SIZE), 0);
	KUNIT_ASSERT_TRUE(test, dma_use_iova(&t->map.state));
	return 0;
}

/* The device's address of a page of the window, mapped or not, with an IOMMU. */
static dma_addr_t iova_of(struct hmm_dma_test *t, unsigned long page)
{
	return t->map.state.addr + t->map.iova_skew + page * PAGE_SIZE;
}

/* As a driver calls them. */
static int test_map_range(struct hmm_dma_test *t, unsigned long start,
			  unsigned long end, bool leaf_only)
{
	struct hmm_range range = {
		.start = start,
		.end = end,
		.hmm_pfns = t->pfns + ((long)(start - WINDOW) >> PAGE_SHIFT),
		.mirror_start = leaf_only ? WINDOW : 0,
		.mirror_end = leaf_only ? WINDOW + WINDOW_SIZE : 0,
	};

	guard(spinlock)(&t->lock);
	return hmm_range_dma_map(t->dev, &t->map, &range);
}

static int test_map(struct hmm_dma_test *t, bool leaf_only)
{
	return test_map_range(t, WINDOW, WINDOW + WINDOW_SIZE, leaf_only);
}

/* @n pages of the window from @page. */
static int test_map_pages(struct hmm_dma_test *t, unsigned long page,
			  unsigned long n)
{
	return test_map_range(t, WINDOW + page * PAGE_SIZE,
			      WINDOW + (page + n) * PAGE_SIZE, false);
}

static void test_unmap_pages(struct hmm_dma_test *t, unsigned long page,
			     unsigned long n)
{
	unsigned long start = WINDOW + page * PAGE_SIZE;

	guard(spinlock)(&t->lock);
	hmm_range_dma_unmap(t->dev, &t->map, start, start + n * PAGE_SIZE);
}

static dma_addr_t test_addr(struct hmm_dma_test *t, unsigned long page,
			    unsigned long *pfn)
{
	guard(spinlock)(&t->lock);
	return hmm_range_dma_addr(t->dev, &t->map, WINDOW + page * PAGE_SIZE,
				  pfn);
}

static void hmm_dma_test_exit(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	if (!t)
		return;
	if (t->map.end) {
		test_unmap_pages(t, 0, NPAGES);
		hmm_range_dma_free(t->dev, &t->map);
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

	KUNIT_ASSERT_EQ(test, test_map(t, false), 0);
	for (i = 0; i < 8; i += 2) {
		KUNIT_EXPECT_TRUE(test, t->pfns[i] & HMM_PFN_DMA_MAPPED);
		KUNIT_EXPECT_FALSE(test, t->pfns[i + 1] & HMM_PFN_DMA_MAPPED);
		expect_ram(test, i, i);
		expect_nothing(test, i + 1);
	}
	expect_nothing(test, 8);
	expect_nothing(test, NPAGES - 1);
}

/* The same with leaves of PMD size, of leaf-only and of dense output. */
static void test_leaves_left_out(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned int how;

	for (how = 0; how < 2; how++) {
		unsigned long i, dense = how ? PMD_PAGES : 1;

		for (i = 0; i < dense; i++) {
			t->pfns[i] = PMD_FLAGS | HMM_PFN_WRITE |
				     (t->private_pfn + i);
			t->pfns[PMD_PAGES + i] = PMD_FLAGS |
						 (page_to_pfn(t->ram) + i);
			t->pfns[2 * PMD_PAGES + i] = PMD_FLAGS & ~HMM_PFN_VALID;
			t->pfns[3 * PMD_PAGES + i] = PMD_FLAGS |
						     (t->private_pfn + i);
		}
		KUNIT_ASSERT_EQ(test, test_map(t, !how), 0);
		expect_nothing(test, 0);
		expect_nothing(test, PMD_PAGES - 1);
		expect_ram(test, PMD_PAGES, 0);
		expect_ram(test, 2 * PMD_PAGES - 1, PMD_PAGES - 1);
		expect_nothing(test, 2 * PMD_PAGES);
		expect_nothing(test, 3 * PMD_PAGES);
		expect_nothing(test, 4 * PMD_PAGES - 1);

		/* The other kind of output has to map it itself. */
		test_unmap_pages(t, 0, NPAGES);
		expect_nothing(test, PMD_PAGES);
		expect_nothing(test, 2 * PMD_PAGES - 1);
	}
}

/* Memory that has moved to the device is not mapped any more. */
static void test_moved_to_device(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	t->pfns[0] = HMM_PFN_VALID | page_to_pfn(t->ram);
	t->pfns[1] = HMM_PFN_VALID | (page_to_pfn(t->ram) + 1);
	KUNIT_ASSERT_EQ(test, test_map(t, false), 0);
	expect_ram(test, 0, 0);
	/* To migrate a page calls the notifier. */
	test_unmap_pages(t, 0, 1);
	t->pfns[0] = HMM_PFN_VALID | t->private_pfn;
	KUNIT_ASSERT_EQ(test, test_map(t, false), 0);
	expect_nothing(test, 0);
	expect_ram(test, 1, 1);
}

/* In the array, a leaf of an order at @page, of the RAM from its page @nr. */
static void set_leaf(struct hmm_dma_test *t, unsigned long page,
		     unsigned int order, unsigned long nr, bool dense)
{
	unsigned long i;

	for (i = 0; i < (dense ? 1UL << order : 1); i++)
		t->pfns[page + i] = HMM_PFN_VALID | (order + 0UL) << HMM_PFN_ORDER_SHIFT |
				    (page_to_pfn(t->ram) + nr + i);
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

/* Leaves of several sizes: each is found, and taken back as a whole and alone. */
static void test_orders(struct kunit *test)
{
	const unsigned int big = PMD_ORDER_UL - 1;
	const unsigned long half = 1UL << big;
	struct hmm_dma_test *t = test->priv;
	unsigned long start, end;
	int dense;

	for (dense = 0; dense < 2; dense++) {
		memset(t->pfns, 0, NPAGES * sizeof(*t->pfns));
		set_leaf(t, 3, 0, 3, dense);
		set_leaf(t, 16, 4, 16, dense);
		set_leaf(t, 32, 4, 32, dense);	/* contiguous with that */
		set_leaf(t, 64, 0, 64, dense);	/* where one could begin */
		set_leaf(t, 96, 1, 2, dense);
		set_leaf(t, half, big, 0, dense);
		set_leaf(t, PMD_PAGES, PMD_ORDER_UL, 0, dense);
		set_leaf(t, 2 * PMD_PAGES, 0, 7, dense);
		KUNIT_ASSERT_EQ(test, test_map(t, !dense), 0);

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

		start = WINDOW + 20 * PAGE_SIZE;
		end = start + PAGE_SIZE;
		hmm_range_dma_widen(&t->map, &start, &end);
		KUNIT_EXPECT_EQ(test, start, WINDOW + 16 * PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, end, WINDOW + 32 * PAGE_SIZE);
		/* Nothing is there, and nothing is cut. */
		start = WINDOW + 4 * PAGE_SIZE;
		end = start + PAGE_SIZE;
		hmm_range_dma_widen(&t->map, &start, &end);
		KUNIT_EXPECT_EQ(test, start, WINDOW + 4 * PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, end, WINDOW + 5 * PAGE_SIZE);

		test_unmap_pages(t, 20, 1);
		expect_gone(test, 16, 16);
		expect_leaf(test, 3, 0, 3);
		expect_leaf(test, 32, 4, 32);

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
}

/* What is mapped to other memory, or otherwise, makes room for what comes. */
static void test_replace(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long i, pfn;

	/* A large leaf over pages, and over a leaf of medium size. */
	for (i = 0; i < 8; i++)
		set_leaf(t, i, 0, 8 + i, true);
	set_leaf(t, 64, 4, 16, true);
	set_leaf(t, PMD_PAGES - 1, 0, 0, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, PMD_PAGES), 0);
	expect_leaf(test, 7, 0, 15);
	expect_leaf(test, 64, 4, 16);
	set_leaf(t, 0, PMD_ORDER_UL, 0, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, PMD_PAGES), 0);
	expect_leaf(test, 0, PMD_ORDER_UL, 0);

	/* A page, and a leaf of medium size, in place of the large one. */
	set_leaf(t, 5, 0, 100, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 5, 1), 0);
	expect_leaf(test, 5, 0, 100);
	expect_gone(test, 0, 5);
	expect_gone(test, 6, PMD_PAGES - 6);
	set_leaf(t, 0, 4, 32, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 16), 0);
	expect_leaf(test, 0, 4, 32);

	/* Other memory of the same size, and another permission. */
	set_leaf(t, 0, 4, 64, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 16), 0);
	expect_leaf(test, 0, 4, 64);
	for (i = 0; i < 16; i++)
		t->pfns[i] |= HMM_PFN_WRITE;
	test_addr(t, 0, &pfn);
	KUNIT_EXPECT_FALSE(test, pfn & HMM_PFN_WRITE);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 16), 0);
	expect_leaf(test, 0, 4, 64);
	test_addr(t, 0, &pfn);
	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_WRITE);

	/* The same once more: nothing to be done. */
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 16), 0);
	KUNIT_EXPECT_FALSE(test, t->pfns[0] & HMM_PFN_DMA_MAPPED);
	expect_leaf(test, 0, 4, 64);
}

/* What is no range of the window is refused, and nothing of it is mapped. */
static void test_not_in_window(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long *pfns = t->pfns;
	struct hmm_dma_map map;

	set_leaf(t, 0, 0, 0, true);
	set_leaf(t, 1, 0, 1, true);
	/* The array is for the range, wherever that is. */
	t->pfns = pfns + 1;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			test_map_range(t, WINDOW - PAGE_SIZE, WINDOW + PAGE_SIZE,
				       false));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			test_map_range(t, WINDOW - PAGE_SIZE, WINDOW, false));
	t->pfns = pfns - NPAGES;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			test_map_range(t, WINDOW + WINDOW_SIZE,
				       WINDOW + WINDOW_SIZE + PAGE_SIZE, false));
	t->pfns = pfns - NPAGES + 1;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			test_map_range(t, WINDOW + WINDOW_SIZE - PAGE_SIZE,
				       WINDOW + WINDOW_SIZE + PAGE_SIZE, false));
	t->pfns = pfns;
	KUNIT_EXPECT_EQ(test, -EINVAL, test_map_range(t, WINDOW, WINDOW, false));
	expect_all_nothing(test);

	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_range_dma_alloc(t->dev, &map, WINDOW, WINDOW));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_range_dma_alloc(t->dev, &map, WINDOW + 1,
					    WINDOW + WINDOW_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_range_dma_alloc(t->dev, &map, WINDOW,
					    WINDOW + WINDOW_SIZE - 1));
}

static int test_alloc(struct hmm_dma_test *t)
{
	struct hmm_dma_map map;
	int ret;

	ret = hmm_range_dma_alloc(t->dev, &map, WINDOW, WINDOW + WINDOW_SIZE);
	if (!ret)
		hmm_range_dma_free(t->dev, &map);
	return ret;
}

/* A device that cannot reach all memory, or needs cache maintenance. */
static void test_unfit_device(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, test_alloc(t), 0);
#ifdef CONFIG_DMA_NEED_SYNC
	dev_clear_dma_skip_sync(t->dev);
	KUNIT_EXPECT_EQ(test, test_alloc(t), -EOPNOTSUPP);
	dev_set_dma_skip_sync(t->dev);
	KUNIT_EXPECT_EQ(test, test_alloc(t), 0);
#endif
	if (dma_get_required_mask(t->dev) <= DMA_BIT_MASK(32))
		kunit_skip(test, "32 bits reach all memory here");
	KUNIT_ASSERT_EQ(test, dma_set_mask(t->dev, DMA_BIT_MASK(32)), 0);
	KUNIT_EXPECT_EQ(test, test_alloc(t), -EOPNOTSUPP);
}

/* Where everything is bounced nothing is mapped. */
static void test_bounced(struct kunit *test)
{
#ifdef CONFIG_SWIOTLB
	struct io_tlb_mem forced = { .force_bounce = true };
	struct hmm_dma_test *t = test->priv;
	struct io_tlb_mem *was = t->dev->dma_io_tlb_mem;

	t->dev->dma_io_tlb_mem = &forced;
	set_leaf(t, 0, 0, 0, true);
	set_leaf(t, PMD_PAGES, PMD_ORDER_UL, 0, true);
	KUNIT_EXPECT_EQ(test, test_map_pages(t, 0, 1), -ENOMEM);
	KUNIT_EXPECT_EQ(test, test_map_pages(t, PMD_PAGES, PMD_PAGES), -ENOMEM);
	t->dev->dma_io_tlb_mem = was;
	expect_all_nothing(test);
	KUNIT_EXPECT_EQ(test, test_map(t, false), 0);
	expect_leaf(test, 0, 0, 0);
	expect_leaf(test, PMD_PAGES, PMD_ORDER_UL, 0);
#else
	kunit_skip(test, "no CONFIG_SWIOTLB");
#endif
}

/*
 * A page that cannot be mapped, behind others and a large leaf: what the call has
 * mapped is taken back, and nothing else, though the array says of what is behind
 * the page that an earlier call has mapped it. The page is memory of a PCI device
 * that this one cannot reach or, with an IOMMU, has a translation already.
 */
static void test_unwind(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long bad = 2 * PMD_PAGES + 2;
	unsigned long i;

	if (!t->peer)
		kunit_skip(test, "no pci");
	set_leaf(t, 1, 0, 1, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 2), 0);
	for (i = 0; i < 4; i++)
		set_leaf(t, bad + 1 + i, 0, i, true);
	set_leaf(t, 3 * PMD_PAGES, PMD_ORDER_UL, 0, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, bad, NPAGES - bad), 0);
	KUNIT_ASSERT_TRUE(test, t->pfns[bad + 1] & HMM_PFN_DMA_MAPPED);

	set_leaf(t, 0, 0, 10, true);
	set_leaf(t, 2, 0, 12, true);
	set_leaf(t, PMD_PAGES, PMD_ORDER_UL, 0, true);
	set_leaf(t, bad - 1, 0, 14, true);
	set_leaf(t, bad, 0, 20, true);
	if (t->iommu) {
		KUNIT_ASSERT_EQ(test, 0,
				iommu_map(t->iommu, iova_of(t, bad),
					  page_to_phys(t->ram), PAGE_SIZE,
					  IOMMU_READ, GFP_KERNEL));
		KUNIT_EXPECT_LT(test, test_map(t, false), 0);
		KUNIT_EXPECT_EQ(test, PAGE_SIZE,
				iommu_unmap(t->iommu, iova_of(t, bad), PAGE_SIZE));
	} else {
		t->pfns[bad] = HMM_PFN_VALID |
			       page_to_pfn(virt_to_page(t->peer_page));
		KUNIT_EXPECT_EQ(test, test_map(t, false), -EREMOTEIO);
	}

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

	set_leaf(t, 0, 0, 0, true);
	t->pfns[1] = HMM_PFN_VALID | HMM_PFN_WRITE | peer;
	set_leaf(t, 2, 0, 2, true);
	KUNIT_ASSERT_EQ(test, test_map_pages(t, 0, 3), 0);
	expect_leaf(test, 0, 0, 0);
	expect_leaf(test, 2, 0, 2);
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, iova_of(t, 1)), 0);

	/* A host bridge whose bus has other addresses than the CPU. */
	bus = PFN_PHYS(peer);
	for (int i = 0; i < 2; i++) {
		provider->bus_offset += i * SZ_1G;
		bus += i * SZ_1G;
		KUNIT_EXPECT_EQ(test, test_addr(t, 1, &pfn), bus);
		KUNIT_EXPECT_EQ(test, pfn, HMM_PFN_VALID | HMM_PFN_WRITE | peer);
		provider->bus_offset -= i * SZ_1G;
	}

	test_unmap_pages(t, 1, 1);
	expect_nothing(test, 1);
	expect_leaf(test, 0, 0, 0);
	expect_leaf(test, 2, 0, 2);
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
	KUNIT_EXPECT_EQ(test, test_map(t, false), -EREMOTEIO);
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
MODULE_LICENSE("GPL");
