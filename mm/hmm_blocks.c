// SPDX-License-Identifier: GPL-2.0
/*
 * Which pages are in use, and in which blocks; see hmm_blocks.h
 */
#include <linux/align.h>
#include <linux/bitmap.h>
#include <linux/minmax.h>
#include <linux/slab.h>

#include <kunit/visibility.h>

#include "hmm_blocks.h"

struct hmm_blocks_node {
	union {
		struct rb_node rb;
		struct hmm_blocks_node *next;	/* while it is spare */
	};
	unsigned long	page;		/* the first */
	unsigned int	nr_used;
	DECLARE_BITMAP(used, HMM_BLOCKS_UNITS);
	/* Those of the used ones that a device may write. */
	DECLARE_BITMAP(writable, HMM_BLOCKS_UNITS);
	/* Those that are in one block with the one before. */
	DECLARE_BITMAP(inner, HMM_BLOCKS_UNITS);
	/* Those that were claimed since the last hmm_blocks_commit(). */
	DECLARE_BITMAP(fresh, HMM_BLOCKS_UNITS);
};

static struct kmem_cache *hmm_blocks_cache __ro_after_init;

static int __init hmm_blocks_init(void)
{
	hmm_blocks_cache = KMEM_CACHE(hmm_blocks_node,
				      SLAB_ACCOUNT | SLAB_PANIC);
	return 0;
}
subsys_initcall(hmm_blocks_init);

/* Units of a node, from @first to before @last. */
struct units {
	unsigned int first, last;
};

static inline unsigned int order_level(unsigned int order)
{
	return order / HMM_BLOCKS_SHIFT;
}

static inline unsigned long node_pages(unsigned int level)
{
	return 1UL << ((level + 1) * HMM_BLOCKS_SHIFT);
}

/* First page of the node that has @page. */
static inline unsigned long node_page(unsigned int level, unsigned long page)
{
	return ALIGN_DOWN(page, node_pages(level));
}

/* The first page behind that node, or @end if that comes first. */
static inline unsigned long node_end(unsigned int level, unsigned long page,
				     unsigned long end)
{
	return min(end, node_page(level, page) + node_pages(level));
}

static inline unsigned long unit_page(const struct hmm_blocks_node *node,
				      unsigned int level, unsigned int unit)
{
	return node->page + ((unsigned long)unit << level * HMM_BLOCKS_SHIFT);
}

/* What a range touches of a node, at least one page. */
static inline struct units units(const struct hmm_blocks_node *node,
				 unsigned int level, unsigned long start,
				 unsigned long end)
{
	unsigned int shift = level * HMM_BLOCKS_SHIFT;
	unsigned long last = node_end(level, node->page, end) - 1;

	return (struct units) {
		.first = (max(start, node->page) - node->page) >> shift,
		.last = ((last - node->page) >> shift) + 1,
	};
}

/* As the functions of bitmaps; most often it is one unit. */
static inline unsigned int units_next(const unsigned long *map, struct units u)
{
	if (u.last - u.first == 1)
		return test_bit(u.first, map) ? u.first : u.last;
	return find_next_bit(map, u.last, u.first);
}

static inline unsigned int units_next_zero(const unsigned long *map,
					   struct units u)
{
	if (u.last - u.first == 1)
		return test_bit(u.first, map) ? u.last : u.first;
	return find_next_zero_bit(map, u.last, u.first);
}

static inline void units_set(unsigned long *map, struct units u)
{
	if (u.last - u.first == 1)
		__set_bit(u.first, map);
	else
		bitmap_set(map, u.first, u.last - u.first);
}

/* The node that has @page, or else the first one behind it, or NULL */
static struct hmm_blocks_node *node_from(const struct hmm_blocks *blocks,
					 unsigned int level, unsigned long page)
{
	struct rb_node *rb = blocks->level[level].rb_node;
	struct hmm_blocks_node *node, *from = NULL;

	page = node_page(level, page);
	while (rb) {
		node = rb_entry(rb, struct hmm_blocks_node, rb);
		if (node->page < page) {
			rb = rb->rb_right;
			continue;
		}
		from = node;
		if (node->page == page)
			break;
		rb = rb->rb_left;
	}
	return from;
}

/* The node that has @page, or NULL; it is often the one that was found last. */
static inline struct hmm_blocks_node *node_find(struct hmm_blocks *blocks,
						unsigned int level,
						unsigned long page)
{
	struct hmm_blocks_node *node = blocks->found[level];

	page = node_page(level, page);
	if (node && node->page == page)
		return node;
	node = node_from(blocks, level, page);
	if (!node || node->page != page)
		return NULL;
	blocks->found[level] = node;
	return node;
}

static struct hmm_blocks_node *node_next(struct hmm_blocks_node *node)
{
	return rb_entry_safe(rb_next(&node->rb), struct hmm_blocks_node, rb);
}

static bool node_less(struct rb_node *a, const struct rb_node *b)
{
	return rb_entry(a, struct hmm_blocks_node, rb)->page <
	       rb_entry(b, struct hmm_blocks_node, rb)->page;
}

static void node_free_unused(struct hmm_blocks *blocks, unsigned int level,
			     struct hmm_blocks_node *node)
{
	if (node->nr_used)
		return;
	if (blocks->found[level] == node)
		blocks->found[level] = NULL;
	rb_erase(&node->rb, &blocks->level[level]);
	kmem_cache_free(hmm_blocks_cache, node);
}

/* Is nothing in use? */
bool hmm_blocks_empty(const struct hmm_blocks *blocks)
{
	unsigned int level;

	for (level = 0; level < HMM_BLOCKS_LEVELS; level++)
		if (!RB_EMPTY_ROOT(&blocks->level[level]))
			return false;
	return true;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_empty);

/*
 * How many nodes a range needs, at the most, that the ranges before it do not need.
 * @counted is where those end on each level, 0 at first.
 */
unsigned long hmm_blocks_count_nodes(unsigned long start, unsigned long end,
				     unsigned int order,
				     unsigned long counted[HMM_BLOCKS_LEVELS])
{
	unsigned int level = order_level(order);

	if (end <= counted[level])
		return 0;
	start = max(counted[level], node_page(level, start));
	counted[level] = node_page(level, end - 1) + node_pages(level);
	return (counted[level] - start) / node_pages(level);
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_count_nodes);

/* Have @nr spare nodes. Sleeps, and charges the active memcg. */
int hmm_blocks_spare_fill(struct hmm_blocks_spare *spare, unsigned long nr)
{
	struct hmm_blocks_node *node;

	for (node = spare->first; node && nr; node = node->next)
		nr--;
	for (; nr; nr--) {
		node = kmem_cache_zalloc(hmm_blocks_cache, GFP_KERNEL);
		if (!node)
			return -ENOMEM;
		node->next = spare->first;
		spare->first = node;
	}
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_spare_fill);

void hmm_blocks_spare_free(struct hmm_blocks_spare *spare)
{
	while (spare->first) {
		struct hmm_blocks_node *node = spare->first;

		spare->first = node->next;
		kmem_cache_free(hmm_blocks_cache, node);
	}
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_spare_free);

/* Like hmm_blocks_missing(). *@nodep is the stretch's node, NULL if there is none. */
static inline bool find_missing(struct hmm_blocks *blocks, unsigned long start,
				unsigned long end, unsigned int level,
				bool write, unsigned long *first,
				unsigned long *last,
				struct hmm_blocks_node **nodep)
{
	for (; start < end; start = node_end(level, start, end)) {
		struct hmm_blocks_node *node = node_find(blocks, level, start);
		const unsigned long *there;
		struct units u;

		*nodep = node;
		*first = start;
		*last = node_end(level, start, end);
		if (!node)
			return true;
		u = units(node, level, start, end);
		there = write ? node->writable : node->used;
		u.first = units_next_zero(there, u);
		if (u.first == u.last)
			continue;
		*first = max(start, unit_page(node, level, u.first));
		*last = min(*last, unit_page(node, level, units_next(there, u)));
		return true;
	}
	return false;
}

/*
 * Find the first stretch of a range that is not in use on the level that @order is
 * on, or not by blocks that a device may write, if it is to. It ends with the node
 * at the latest, so there may be more behind it.
 */
bool hmm_blocks_missing(struct hmm_blocks *blocks, unsigned long start,
			unsigned long end, unsigned int order, bool write,
			unsigned long *first, unsigned long *last)
{
	struct hmm_blocks_node *node;

	return find_missing(blocks, start, end, order_level(order), write,
			    first, last, &node);
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_missing);

static bool level_used(const struct hmm_blocks *blocks, unsigned int level,
		       unsigned long start, unsigned long end)
{
	struct hmm_blocks_node *node;
	struct units u;

	if (RB_EMPTY_ROOT(&blocks->level[level]))
		return false;
	for (node = node_from(blocks, level, start); node && node->page < end;
	     node = node_next(node)) {
		u = units(node, level, start, end);
		if (units_next(node->used, u) < u.last)
			return true;
	}
	return false;
}

/* Is any page of a range in use, by whatever blocks? */
bool hmm_blocks_used(const struct hmm_blocks *blocks, unsigned long start,
		     unsigned long end)
{
	unsigned int level;

	for (level = 0; level < HMM_BLOCKS_LEVELS; level++)
		if (level_used(blocks, level, start, end))
			return true;
	return false;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_used);

/*
 * Find a stretch as hmm_blocks_missing() does; it is in use from now on, the blocks
 * at its ends may be cut. hmm_blocks_commit() follows, or hmm_blocks_clear().
 *
 * Returns 1, 0 if there is no such stretch, -EINVAL if any of it is in use in another
 * way, or -ENOMEM if there is no spare node for it.
 */
int hmm_blocks_claim(struct hmm_blocks *blocks, unsigned long start,
		     unsigned long end, unsigned int order, bool write,
		     struct hmm_blocks_spare *spare, unsigned long *first,
		     unsigned long *last)
{
	unsigned int level = order_level(order), other, i;
	unsigned int nr = 1U << (order % HMM_BLOCKS_SHIFT);
	struct hmm_blocks_node *node;
	struct units u;

	if (!find_missing(blocks, start, end, level, write, first, last, &node))
		return 0;
	for (other = 0; other < HMM_BLOCKS_LEVELS; other++)
		if (other != level && level_used(blocks, other, *first, *last))
			return -EINVAL;
	if (!node) {
		node = spare->first;
		if (!node)
			return -ENOMEM;
		spare->first = node->next;
		node->page = node_page(level, *first);
		rb_add(&node->rb, &blocks->level[level], node_less);
		blocks->found[level] = node;
	}
	u = units(node, level, *first, *last);
	if (units_next(node->used, u) < u.last)
		return -EINVAL;
	node->nr_used += u.last - u.first;
	units_set(node->used, u);
	units_set(node->fresh, u);
	if (write)
		units_set(node->writable, u);
	/* The first unit has a block before it only if that was cut. */
	for (i = u.first + 1; nr > 1 && i < u.last; i++)
		if (i % nr)
			__set_bit(i, node->inner);
	return 1;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_claim);

/* What was claimed in a range stays. */
void hmm_blocks_commit(struct hmm_blocks *blocks, unsigned long start,
		       unsigned long end)
{
	struct hmm_blocks_node *node;
	unsigned int level;

	for (level = 0; level < HMM_BLOCKS_LEVELS; level++)
		for (node = node_from(blocks, level, start);
		     node && node->page < end; node = node_next(node))
			bitmap_zero(node->fresh, HMM_BLOCKS_UNITS);
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_commit);

/*
 * Move the ends of a range outwards to those of blocks that they cut. Of a block
 * that was itself cut when it was set that can be beyond what is in use.
 */
void hmm_blocks_widen(struct hmm_blocks *blocks, unsigned long *start,
		      unsigned long *end)
{
	const unsigned long first = *start, last = *end - 1;
	struct hmm_blocks_node *node;
	unsigned int level, unit;

	for (level = 0; level < HMM_BLOCKS_LEVELS; level++) {
		node = node_find(blocks, level, first);
		if (node) {
			unit = units(node, level, first, first + 1).first;
			if (test_bit(unit, node->used)) {
				while (test_bit(unit, node->inner))
					unit--;
				*start = min(*start,
					     unit_page(node, level, unit));
			}
		}
		node = node_find(blocks, level, last);
		if (node) {
			unit = units(node, level, last, last + 1).first;
			if (test_bit(unit, node->used)) {
				unit = find_next_zero_bit(node->inner,
							  HMM_BLOCKS_UNITS,
							  unit + 1);
				*end = max(*end, unit_page(node, level, unit));
			}
		}
	}
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_widen);

/*
 * Nothing of a range is in use any more, which hmm_blocks_widen() has widened; or,
 * if @fresh, nothing that was claimed in it. @gone is called for each stretch that
 * was. One that was cut when it was claimed can go beyond that there.
 */
void hmm_blocks_clear(struct hmm_blocks *blocks, unsigned long start,
		      unsigned long end, bool fresh,
		      void (*gone)(unsigned long start, unsigned long end,
				   void *data), void *data)
{
	struct hmm_blocks_node *node, *next;
	unsigned int level, nr;

	for (level = 0; level < HMM_BLOCKS_LEVELS; level++) {
		for (node = node_from(blocks, level, start);
		     node && node->page < end; node = next) {
			const unsigned long *map = fresh ? node->fresh :
							   node->used;
			struct units u = units(node, level, start, end);

			next = node_next(node);
			for (; node->nr_used; u.first += nr) {
				u.first = find_next_bit(map, u.last, u.first);
				if (u.first >= u.last)
					break;
				nr = find_next_zero_bit(map, u.last, u.first) -
				     u.first;
				bitmap_clear(node->used, u.first, nr);
				bitmap_clear(node->writable, u.first, nr);
				bitmap_clear(node->inner, u.first, nr);
				bitmap_clear(node->fresh, u.first, nr);
				node->nr_used -= nr;
				gone(unit_page(node, level, u.first),
				     unit_page(node, level, u.first + nr), data);
			}
			node_free_unused(blocks, level, node);
		}
	}
}
EXPORT_SYMBOL_IF_KUNIT(hmm_blocks_clear);
