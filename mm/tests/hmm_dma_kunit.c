// SPDX-License-Identifier: GPL-2.0
/*
 * hmm_range_dma_map() on arrays that no hmm_range_fault() can be made to give to
 * the test driver, memory of the device itself in particular. The device is one
 * without IOMMU.
 */
#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>

/* A user address; nothing is ever there. */
#define WINDOW		SZ_1G
#define WINDOW_SIZE	(4 * PMD_SIZE)

#define PMD_PAGES	(PMD_SIZE / PAGE_SIZE)
#define PMD_FLAGS	(HMM_PFN_VALID | \
			 (PMD_SHIFT - PAGE_SHIFT + 0UL) << HMM_PFN_ORDER_SHIFT)

struct hmm_dma_test {
	struct platform_device *pdev;
	struct device *dev;
	struct resource *res;
	struct dev_pagemap pgmap;
	bool has_private;
	unsigned long private_pfn;	/* of PMD_PAGES device-private pages */
	struct page *ram;		/* PMD_PAGES of them */
	struct hmm_dma_map map;
	unsigned long *pfns;
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

static int hmm_dma_test_init(struct kunit *test)
{
	struct hmm_dma_test *t;
	dma_addr_t dma;
	void *addr;
	int ret;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	t->pfns = kunit_kcalloc(test, WINDOW_SIZE / PAGE_SIZE, sizeof(*t->pfns),
				GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->pfns);
	t->ram = alloc_pages(GFP_KERNEL, PMD_SHIFT - PAGE_SHIFT);
	KUNIT_ASSERT_NOT_NULL(test, t->ram);

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

static void hmm_dma_test_exit(struct kunit *test)
{
	struct hmm_dma_test *t = test->priv;

	if (!t)
		return;
	if (t->map.end) {
		hmm_range_dma_unmap(t->dev, &t->map, t->map.start, t->map.end);
		hmm_range_dma_free(t->dev, &t->map);
	}
	if (!IS_ERR_OR_NULL(t->pdev))
		platform_device_unregister(t->pdev);
	if (t->has_private)
		memunmap_pages(&t->pgmap);
	if (!IS_ERR_OR_NULL(t->res))
		release_mem_region(t->res->start, resource_size(t->res));
	if (t->ram)
		__free_pages(t->ram, PMD_SHIFT - PAGE_SHIFT);
}

static int test_map(struct hmm_dma_test *t, bool leaf_only)
{
	struct hmm_range range = {
		.start = WINDOW,
		.end = WINDOW + WINDOW_SIZE,
		.hmm_pfns = t->pfns,
		.mirror_start = leaf_only ? WINDOW : 0,
		.mirror_end = leaf_only ? WINDOW + WINDOW_SIZE : 0,
	};

	return hmm_range_dma_map(t->dev, &t->map, &range);
}

/* Is @page of the window mapped to page @nr of the RAM? */
static void expect_ram(struct kunit *test, unsigned long page, unsigned long nr)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long pfn;

	KUNIT_EXPECT_EQ(test,
			hmm_range_dma_addr(t->dev, &t->map,
					   WINDOW + page * PAGE_SIZE, &pfn),
			page_to_phys(t->ram) + nr * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, pfn & ~HMM_PFN_FLAGS, page_to_pfn(t->ram) + nr);
}

static void expect_nothing(struct kunit *test, unsigned long page)
{
	struct hmm_dma_test *t = test->priv;
	unsigned long pfn = ~0UL;

	KUNIT_EXPECT_EQ(test,
			hmm_range_dma_addr(t->dev, &t->map,
					   WINDOW + page * PAGE_SIZE, &pfn),
			DMA_MAPPING_ERROR);
	KUNIT_EXPECT_EQ(test, pfn, 0);
	KUNIT_EXPECT_FALSE(test, t->pfns[page] & HMM_PFN_DMA_MAPPED);
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
		expect_ram(test, i, i);
		expect_nothing(test, i + 1);
	}
	expect_nothing(test, 8);
	expect_nothing(test, WINDOW_SIZE / PAGE_SIZE - 1);
}

/* The same with leaves of PMD size. */
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
	hmm_range_dma_unmap(t->dev, &t->map, WINDOW, WINDOW + PAGE_SIZE);
	t->pfns[0] = HMM_PFN_VALID | t->private_pfn;
	KUNIT_ASSERT_EQ(test, test_map(t, false), 0);
	expect_nothing(test, 0);
	expect_ram(test, 1, 1);
}

static struct kunit_case hmm_dma_test_cases[] = {
	KUNIT_CASE(test_pages_left_out),
	KUNIT_CASE(test_leaves_left_out),
	KUNIT_CASE(test_moved_to_device),
	{}
};

static struct kunit_suite hmm_dma_test_suite = {
	.name = "hmm_dma",
	.init = hmm_dma_test_init,
	.exit = hmm_dma_test_exit,
	.test_cases = hmm_dma_test_cases,
};

kunit_test_suite(hmm_dma_test_suite);

MODULE_DESCRIPTION("KUnit tests of HMM's DMA mappings");
MODULE_LICENSE("GPL");
