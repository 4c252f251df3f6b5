// SPDX-License-Identifier: GPL-2.0
/*
 * The record of HMM's DMA mappings, against an array that has an entry for each
 * page. It needs neither a device nor an IOMMU:
 *
 *	tools/testing/kunit/kunit.py run --kunitconfig mm/tests/hmm_blocks.kunitconfig
 */
#include <kunit/test.h>
#include <linux/prandom.h>
#include <linux/slab.h>

#include "../hmm_blocks.h"

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");

#define NPAGES		(2UL << (2 * HMM_BLOCKS_SHIFT))

/* A page: 0 if it is not in use, else the order of its block plus 1. */
#define MODEL_ORDER	0x7f
#define MODEL_WRITE	0x80

struct blocks_test {
	struct kunit *test;
	struct hmm_blocks blocks;
	u8 *model;
	unsigned long gone;
	struct rnd_state rnd;
};

static unsigned long blocks_random(struct blocks_test *t, unsigned long n)
{
	return prandom_u32_state(&t->rnd) % n;
}

static void blocks_gone(unsigned long start, unsigned long end, void *data)
{
	struct blocks_test *t = data;
	unsigned long i;

	for (i = start; i < min(end, NPAGES); i++) {
		KUNIT_EXPECT_NE(t->test, t->model[i], 0);
		t->model[i] = 0;
		t->gone++;
	}
}

/* Clear what is in use, whole blocks, and nothing else. */
static void blocks_clear(struct blocks_test *t, unsigned long start,
			 unsigned long end)
{
	unsigned long i, first = start, last = end, want = 0;
	unsigned long order;

	if (t->model[start]) {
		order = (t->model[start] & MODEL_ORDER) - 1;
		first = ALIGN_DOWN(start, 1UL << order);
	}
	if (t->model[end - 1]) {
		order = (t->model[end - 1] & MODEL_ORDER) - 1;
		last = ALIGN(end, 1UL << order);
	}
	hmm_blocks_widen(&t->blocks, &start, &end);
	KUNIT_EXPECT_EQ(t->test, start, first);
	KUNIT_EXPECT_EQ(t->test, end, last);

	for (i = start; i < min(end, NPAGES); i++)
		want += !!t->model[i];
	t->gone = 0;
	hmm_blocks_clear(&t->blocks, start, end, false, blocks_gone, t);
	KUNIT_EXPECT_EQ(t->test, t->gone, want);
	KUNIT_EXPECT_FALSE(t->test, hmm_blocks_used(&t->blocks, start, end));
}

/* What was claimed was free before, so it is not in the model yet. */
static void blocks_undone(unsigned long start, unsigned long end, void *data)
{
	struct blocks_test *t = data;
	unsigned long i;

	for (i = start; i < min(end, NPAGES); i++) {
		KUNIT_EXPECT_EQ(t->test, t->model[i], 0);
		t->gone++;
	}
}

/* Is it in use on the level that @order is on? */
static bool model_level(u8 entry, unsigned int order)
{
	unsigned int other = (entry & MODEL_ORDER) - 1;

	return entry && other / HMM_BLOCKS_SHIFT == order / HMM_BLOCKS_SHIFT;
}

/*
 * As hmm_range_dma_map() does it: what is there in another way goes before. But here
 * blocks of another level stay until they are found in the way. With @undo it fails
 * in the end.
 */
static void blocks_claim(struct blocks_test *t, unsigned long start,
			 unsigned long end, unsigned int order, bool write,
			 bool undo)
{
	struct hmm_blocks_spare spare = {};
	unsigned long counted[HMM_BLOCKS_LEVELS] = {};
	unsigned long i, at, first, last, claimed = 0;
	bool used = false;

	for (i = start; i < end; i++)
		used |= !!t->model[i];
	KUNIT_EXPECT_EQ(t->test, used, hmm_blocks_used(&t->blocks, start, end));

	KUNIT_ASSERT_EQ(t->test, 0,
			hmm_blocks_spare_fill(&spare,
					      hmm_blocks_count_nodes(start, end,
								     order,
								     counted)));
	for (i = start; i < end; i++) {
		if (model_level(t->model[i], order) &&
		    (t->model[i] & MODEL_ORDER) != order + 1) {
			blocks_clear(t, start, end);
			break;
		}
	}
	for (at = start; hmm_blocks_missing(&t->blocks, at, end, order, write,
					    &first, &last); at = last) {
		for (i = at; i < last; i++) {
			bool there = model_level(t->model[i], order) &&
				     (!write || t->model[i] & MODEL_WRITE);

			KUNIT_EXPECT_EQ(t->test, there, i < first);
		}
		used = hmm_blocks_used(&t->blocks, first, last);
		KUNIT_EXPECT_EQ(t->test, used ? -EINVAL : 1,
				hmm_blocks_claim(&t->blocks, at, end, order,
						 write, &spare, &first, &last));
		if (used) {
			blocks_clear(t, first, last);
			KUNIT_EXPECT_EQ(t->test, 1,
					hmm_blocks_claim(&t->blocks, at, end,
							 order, write, &spare,
							 &first, &last));
		}
		claimed += last - first;
	}
	hmm_blocks_spare_free(&spare);
	if (undo) {
		t->gone = 0;
		hmm_blocks_clear(&t->blocks, start, end, true, blocks_undone, t);
		KUNIT_EXPECT_GE(t->test, t->gone, claimed);
		KUNIT_EXPECT_EQ(t->test, !!t->gone, !!claimed);
		return;
	}
	hmm_blocks_commit(&t->blocks, start, end);
	for (i = start; i < end; i++)
		t->model[i] = (order + 1) | (write ? MODEL_WRITE : 0) |
			      (t->model[i] & MODEL_WRITE);
	KUNIT_EXPECT_FALSE(t->test,
			   hmm_blocks_missing(&t->blocks, start, end, order,
					      write, &first, &last));
}

static void blocks_set(struct blocks_test *t, unsigned long start,
		       unsigned long end, unsigned int order, bool write)
{
	blocks_claim(t, start, end, order, write, false);
}

/* Blocks of all sizes come and go, at random. */
static void test_random(struct kunit *test)
{
	static const unsigned int orders[] = {
		0, 0, 0, 2, 4, HMM_BLOCKS_SHIFT, HMM_BLOCKS_SHIFT, 13,
		2 * HMM_BLOCKS_SHIFT,
	};
	struct blocks_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < 2000 && test->status == KUNIT_SUCCESS; i++) {
		unsigned int order = orders[blocks_random(t, ARRAY_SIZE(orders))];
		unsigned long size = 1UL << order;
		unsigned long n = 1 + blocks_random(t, order < 8 ? 600 : 9);
		unsigned long start = blocks_random(t, NPAGES);
		unsigned long end;

		if (blocks_random(t, 3)) {
			start = ALIGN_DOWN(start, size);
			end = min(start + n * size, NPAGES);
			blocks_claim(t, start, end, order, blocks_random(t, 2),
				     !blocks_random(t, 4));
		} else {
			end = min(start + blocks_random(t, n * size) + 1, NPAGES);
			blocks_clear(t, start, end);
		}
		cond_resched();
	}
}

static unsigned int blocks_count(const struct hmm_blocks *blocks)
{
	unsigned int level, n = 0;
	struct rb_node *rb;

	for (level = 0; level < HMM_BLOCKS_LEVELS; level++)
		for (rb = rb_first(&blocks->level[level]); rb; rb = rb_next(rb))
			n++;
	return n;
}

/* As much memory as leaves need; none when they are gone. */
static void test_memory(struct kunit *test)
{
	struct blocks_test *t = test->priv;
	struct hmm_blocks_spare spare = {};
	unsigned long first, last;

	/* One large leaf, or all that are next to it: one node. */
	blocks_set(t, 0, NPAGES, 2 * HMM_BLOCKS_SHIFT, true);
	KUNIT_EXPECT_EQ(test, blocks_count(&t->blocks), 1);
	blocks_clear(t, 0, 1);
	KUNIT_EXPECT_EQ(test, blocks_count(&t->blocks), 1);
	blocks_clear(t, NPAGES - 1, NPAGES);
	KUNIT_EXPECT_TRUE(test, hmm_blocks_empty(&t->blocks));

	/* A node for each HMM_BLOCKS_UNITS pages. */
	blocks_set(t, 0, 3 * HMM_BLOCKS_UNITS + 1, 0, false);
	KUNIT_EXPECT_EQ(test, blocks_count(&t->blocks), 4);
	blocks_clear(t, 0, HMM_BLOCKS_UNITS);
	KUNIT_EXPECT_EQ(test, blocks_count(&t->blocks), 3);

	/* Too few, and what is not needed after all. */
	KUNIT_ASSERT_EQ(test, hmm_blocks_spare_fill(&spare, 1), 0);
	KUNIT_EXPECT_EQ(test, 1,
			hmm_blocks_claim(&t->blocks, 8 * HMM_BLOCKS_UNITS,
					 10 * HMM_BLOCKS_UNITS, 0, false,
					 &spare, &first, &last));
	KUNIT_EXPECT_EQ(test, last, 9 * HMM_BLOCKS_UNITS);
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			hmm_blocks_claim(&t->blocks, last,
					 10 * HMM_BLOCKS_UNITS, 0, false,
					 &spare, &first, &last));
	KUNIT_EXPECT_EQ(test, blocks_count(&t->blocks), 4);
	hmm_blocks_clear(&t->blocks, 0, NPAGES, true, blocks_undone, t);
	KUNIT_EXPECT_EQ(test, blocks_count(&t->blocks), 3);
	blocks_clear(t, 0, NPAGES);
	KUNIT_EXPECT_TRUE(test, hmm_blocks_empty(&t->blocks));
}

static int blocks_test_init(struct kunit *test)
{
	struct blocks_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->test = test;
	t->model = kvzalloc(NPAGES, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->model);
	prandom_seed_state(&t->rnd, 1);
	test->priv = t;
	return 0;
}

static void blocks_test_exit(struct kunit *test)
{
	struct blocks_test *t = test->priv;

	if (!t)
		return;
	hmm_blocks_clear(&t->blocks, 0, NPAGES, false, blocks_gone, t);
	KUNIT_EXPECT_TRUE(test, hmm_blocks_empty(&t->blocks));
	KUNIT_EXPECT_NULL(test, memchr_inv(t->model, 0, NPAGES));
	kvfree(t->model);
}

static struct kunit_case blocks_test_cases[] = {
	KUNIT_CASE(test_random),
	KUNIT_CASE(test_memory),
	{}
};

static struct kunit_suite blocks_test_suite = {
	.name = "hmm_blocks",
	.init = blocks_test_init,
	.exit = blocks_test_exit,
	.test_cases = blocks_test_cases,
};

kunit_test_suite(blocks_test_suite);

MODULE_DESCRIPTION("KUnit tests of the record of HMM's DMA mappings");
MODULE_LICENSE("GPL");
