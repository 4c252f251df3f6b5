// SPDX-License-Identifier: GPL-2.0
/*
 * DMA mappings of what hmm_range_fault() found
 */

/**
 * DOC: overview
 *
 * hmm_range_dma_map() makes a range that hmm_range_fault() has filled reachable
 * for a device, hmm_range_dma_unmap() takes any part of it back. Both cost what
 * the leaves of the page table cost, not what the pages would: one link in the
 * IOMMU for each PMD or PUD leaf, one for a run of PTEs that are contiguous in
 * memory, one flush for each call.
 *
 * A struct hmm_dma_map belongs to one device and to a fixed range of one
 * process's addresses, its window. It is the only record of what is mapped, and
 * only changes under the lock that the driver takes in its invalidate()
 * callback. The array of hmm_range_fault() is an input, dense or leaf-only; that
 * function runs without the lock, so no state of a mapping can live there.
 *
 * What is recorded are blocks: leaves, as far as they are in the window. A block
 * is mapped whole and unmapped whole, even if a call names a part of it, because
 * an IOMMU that maps it by one entry cannot take a part away. A driver therefore
 * asks hmm_range_dma_widen() what else goes, before it touches its own page
 * table.
 *
 * DOC: locking
 *
 * hmm_range_dma_map(), _unmap(), _widen() and _addr() want the driver's lock, the
 * one of its invalidate() callback. None sleeps, none takes a lock of the mm;
 * the only allocations are GFP_ATOMIC ones in hmm_range_dma_map(). So the lock
 * may be a spinlock, and unmapping is fine in the callback, in reclaim too.
 * hmm_range_dma_alloc() and _free() sleep.
 *
 * DOC: examples
 *
 * 1) Mapping, in the device's fault handler. The notifier covers the window.
 *
 * .. code-block:: c
 *
 *	struct hmm_range range = {
 *		.notifier = &drv->notifier,
 *		.start = start,
 *		.end = end,
 *		.default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
 *		.hmm_pfns = pfns,
 *		.mirror_start = start,
 *		.mirror_end = end,
 *	};
 *
 *	again:
 *	err = hmm_range_fault_unlocked_timeout(&range, timeout);
 *	if (err)
 *		return err;
 *	mutex_lock(&drv->lock);
 *	if (mmu_interval_read_retry(range.notifier, range.notifier_seq)) {
 *		mutex_unlock(&drv->lock);
 *		goto again;
 *	}
 *	// If the device has read-only entries here: widen start and end by
 *	// hmm_range_dma_widen(), clear its page table there, wait for it.
 *	err = hmm_range_dma_map(dev, &drv->map, &range);
 *	for (addr = start; !err && addr < end; addr = hmm_leaf_end(pfn, addr)) {
 *		dma = hmm_range_dma_addr(dev, &drv->map, addr, &pfn);
 *		// Write it to the device's page table, for so much of the leaf.
 *	}
 *	mutex_unlock(&drv->lock);
 *
 * 2) Taking it back, in the invalidate() callback.
 *
 * .. code-block:: c
 *
 *	if (mmu_notifier_range_blockable(range))
 *		mutex_lock(&drv->lock);
 *	else if (!mutex_trylock(&drv->lock))
 *		return false;
 *	mmu_interval_set_seq(mni, cur_seq);
 *	start = max(range->start, drv->map.start);
 *	end = min(range->end, drv->map.end);
 *	if (start < end) {
 *		hmm_range_dma_widen(&drv->map, &start, &end);
 *		// Clear the device's page table there, wait for it.
 *		hmm_range_dma_unmap(dev, &drv->map, start, end);
 *	}
 *	mutex_unlock(&drv->lock);
 *	return true;
 *
 * 3) The end. Without a notifier nobody says when pages go: all is unmapped
 * first, and nothing is mapped any more from then on.
 *
 * .. code-block:: c
 *
 *	mutex_lock(&drv->lock);
 *	// Clear all of the device's page table, wait for it.
 *	hmm_range_dma_unmap(dev, &drv->map, drv->map.start, drv->map.end);
 *	mutex_unlock(&drv->lock);
 *	mmu_interval_notifier_remove(&drv->notifier);
 *	hmm_range_dma_free(dev, &drv->map);
 */

#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/iommu.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>

/*
 * Blocks of PMD size and more have an entry for each PMD_SIZE of the window, at
 * the one where they begin, and a bit that says so. Smaller ones have a table,
 * allocated when it is first needed, for each PMD_SIZE that holds some. So a
 * window of 1 GiB, mapped by one PUD leaf, has a record of 8 KiB, not of 2 MiB.
 *
 * An entry is like those of hmm_range_fault(). In a table it is 0 where no block
 * begins.
 */
#define HMM_DMA_PMD_ORDER	(PMD_SHIFT - PAGE_SHIFT)
#define HMM_DMA_NR		BIT(HMM_DMA_PMD_ORDER)

/* Orders of blocks that are more than a page and less than a PMD leaf. */
#define HMM_DMA_MID_ORDERS	GENMASK(HMM_DMA_PMD_ORDER - 1, 1)

struct hmm_dma_table {
	unsigned long entry[MAX_PTRS_PER_PTE];	/* HMM_DMA_NR are used */
	dma_addr_t dma[];	/* HMM_DMA_NR, if addresses have to be stored */
};

/* What two entries have to have in common to be the same mapping. */
#define HMM_DMA_P2P	(HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS)
#define HMM_DMA_SAME	(~(HMM_DMA_P2P | HMM_PFN_DMA_MAPPED))

#define HMM_DMA_ATTRS	DMA_ATTR_REQUIRE_COHERENT

static inline unsigned long hmm_dma_chunk(const struct hmm_dma_map *map,
					  unsigned long addr)
{
	return (addr >> PMD_SHIFT) - (map->start >> PMD_SHIFT);
}

static inline unsigned long hmm_dma_chunk_end(unsigned long addr)
{
	return ALIGN_DOWN(addr, PMD_SIZE) + PMD_SIZE;
}

static inline unsigned int hmm_dma_page(unsigned long addr)
{
	return (addr >> PAGE_SHIFT) & (HMM_DMA_NR - 1);
}

/* Where a block of an order that begins at @addr has its entry. */
static inline unsigned long *hmm_dma_slot(const struct hmm_dma_map *map,
					  unsigned long addr,
					  unsigned int order)
{
	unsigned long chunk = hmm_dma_chunk(map, addr);

	if (order >= HMM_DMA_PMD_ORDER)
		return &map->leaves[chunk];
	return &map->tables[chunk]->entry[hmm_dma_page(addr)];
}

static inline dma_addr_t *hmm_dma_stored(const struct hmm_dma_map *map,
					 unsigned long addr,
					 unsigned int order)
{
	unsigned long chunk = hmm_dma_chunk(map, addr);

	if (order >= HMM_DMA_PMD_ORDER)
		return &map->leaf_dma[chunk];
	return &map->tables[chunk]->dma[hmm_dma_page(addr)];
}

static inline unsigned long hmm_dma_head(const struct hmm_dma_map *map,
					 unsigned long addr,
					 unsigned int order)
{
	return max(ALIGN_DOWN(addr, PAGE_SIZE << order), map->start);
}

static inline unsigned long hmm_dma_end(const struct hmm_dma_map *map,
					unsigned long entry, unsigned long addr)
{
	return min(hmm_leaf_end(entry, addr), map->end);
}

/* The entry of the block that @addr is in, and where it begins; or NULL. */
static unsigned long *hmm_dma_find(const struct hmm_dma_map *map,
				   unsigned long addr, unsigned long *head)
{
	unsigned int order;

	for_each_set_bit(order, &map->orders, BITS_PER_LONG) {
		unsigned long at = hmm_dma_head(map, addr, order);
		unsigned long chunk = hmm_dma_chunk(map, at), *slot;

		if (order >= HMM_DMA_PMD_ORDER ? !test_bit(chunk, map->mapped) :
						 !map->tables[chunk])
			continue;
		slot = hmm_dma_slot(map, at, order);
		if (*slot && hmm_pfn_to_map_order(*slot) == order) {
			*head = at;
			return slot;
		}
	}
	return NULL;
}

/* May a block begin between the two addresses? */
static bool hmm_dma_in_use(const struct hmm_dma_map *map, unsigned long start,
			   unsigned long end)
{
	unsigned long chunk = hmm_dma_chunk(map, start);
	unsigned long last = hmm_dma_chunk(map, end - 1);

	if (find_next_bit(map->mapped, last + 1, chunk) <= last)
		return true;
	for (; chunk <= last; chunk++)
		if (map->tables[chunk])
			return true;
	return false;
}

static inline size_t hmm_dma_offset(const struct hmm_dma_map *map,
				    unsigned long addr)
{
	return map->iova_skew + (addr - map->start);
}

static inline unsigned long hmm_dma_attrs(unsigned long entry)
{
	return entry & HMM_PFN_P2PDMA ? HMM_DMA_ATTRS | DMA_ATTR_MMIO :
					HMM_DMA_ATTRS;
}

static inline enum dma_data_direction hmm_dma_dir(unsigned long entry)
{
	return entry & HMM_PFN_WRITE ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
}

/* Blocks that are next to each other and go into one unlink. */
struct hmm_dma_gone {
	unsigned long start, end;
	unsigned long attrs;
};

static void hmm_dma_unlink(struct device *dev, struct hmm_dma_map *map,
			   struct hmm_dma_gone *gone)
{
	if (dma_use_iova(&map->state))
		dma_iova_unlink(dev, &map->state,
				hmm_dma_offset(map, gone->start),
				gone->end - gone->start, DMA_BIDIRECTIONAL,
				gone->attrs);
}

static inline void hmm_dma_add_gone(struct device *dev, struct hmm_dma_map *map,
				    struct hmm_dma_gone *gone,
				    unsigned long start, unsigned long end,
				    unsigned long attrs)
{
	if (gone->end != start || gone->attrs != attrs) {
		if (gone->start < gone->end)
			hmm_dma_unlink(dev, map, gone);
		gone->start = start;
		gone->attrs = attrs;
	}
	gone->end = end;
}

/* Whatever has to be done for each block. */
static void hmm_dma_unmap_block(struct device *dev, struct hmm_dma_map *map,
				struct hmm_dma_gone *gone, unsigned long entry,
				unsigned long addr, unsigned long end)
{
	if (entry & HMM_PFN_P2PDMA_BUS)
		return;
	if (map->leaf_dma)
		dma_unmap_phys(dev, *hmm_dma_stored(map, addr,
						    hmm_pfn_to_map_order(entry)),
			       end - addr, hmm_dma_dir(entry),
			       hmm_dma_attrs(entry));
	else
		hmm_dma_add_gone(dev, map, gone, addr, end,
				 hmm_dma_attrs(entry));
}

/* Unmap blocks of PMD size and more, as long as one follows on the other. */
static unsigned long hmm_dma_unmap_leaves(struct device *dev,
					  struct hmm_dma_map *map,
					  struct hmm_dma_gone *gone,
					  unsigned long addr, unsigned long end)
{
	unsigned long chunk = hmm_dma_chunk(map, addr), first = chunk, n = 1, next;
	unsigned long last = hmm_dma_chunk(map, end - 1);

	/* All but the last are one chunk each: the next begins right there. */
	if (chunk < last && test_bit(chunk + 1, map->mapped)) {
		n = find_next_zero_bit(map->mapped, last + 1, chunk) - chunk;
		bitmap_clear(map->mapped, chunk, n);
	} else {
		__clear_bit(chunk, map->mapped);
	}

	if (!map->each) {
		if (n > 1)
			next = ALIGN_DOWN(addr, PMD_SIZE) + (n - 1) * PMD_SIZE;
		else
			next = addr;
		next = hmm_dma_end(map, map->leaves[chunk + n - 1], next);
		hmm_dma_add_gone(dev, map, gone, addr, next, HMM_DMA_ATTRS);
		return next;
	}
	for (; chunk < first + n; chunk++, addr = next) {
		next = hmm_dma_end(map, map->leaves[chunk], addr);
		hmm_dma_unmap_block(dev, map, gone, map->leaves[chunk], addr,
				    next);
	}
	return next;
}

/* Unmap blocks smaller than that, all in one PMD_SIZE. */
static void hmm_dma_unmap_table(struct device *dev, struct hmm_dma_map *map,
				struct hmm_dma_gone *gone, unsigned long addr,
				unsigned long end)
{
	struct hmm_dma_table *table = map->tables[hmm_dma_chunk(map, addr)];
	unsigned long *entry = &table->entry[hmm_dma_page(addr)];
	unsigned long *last = entry + ((end - addr) >> PAGE_SHIFT);

	if (map->each || (map->orders & HMM_DMA_MID_ORDERS)) {
		for (; entry < last; entry++, addr += PAGE_SIZE) {
			unsigned long old = *entry;

			*entry = 0;
			if (old)
				hmm_dma_unmap_block(dev, map, gone, old, addr,
						    hmm_dma_end(map, old, addr));
		}
		return;
	}
	while (entry < last) {
		unsigned long *first = entry;

		while (entry < last && *entry)
			*entry++ = 0;
		end = addr + ((entry - first) << PAGE_SHIFT);
		if (end > addr)
			hmm_dma_add_gone(dev, map, gone, addr, end,
					 HMM_DMA_ATTRS);
		addr = end;
		while (entry < last && !*entry) {
			entry++;
			addr += PAGE_SIZE;
		}
	}
}

/**
 * hmm_range_dma_widen() - what hmm_range_dma_unmap() takes back
 * @map: the map
 * @start: (in, out) first address, in bytes; in the map's window
 * @end: (in, out) last address (exclusive), in bytes; in the map's window
 *
 * A block is taken back whole, as the IOMMU may map it by one entry. This moves
 * @start and @end outwards to the ends of the blocks that they cut.
 *
 * Context: Any, under the driver's lock.
 */
void hmm_range_dma_widen(const struct hmm_dma_map *map, unsigned long *start,
			 unsigned long *end)
{
	unsigned long *slot, head;

	if (*start >= *end)
		return;
	if (*end < map->end) {
		slot = hmm_dma_find(map, *end - PAGE_SIZE, &head);
		if (slot)
			*end = hmm_dma_end(map, *slot, head);
	}
	if (*start > map->start && hmm_dma_find(map, *start, &head))
		*start = head;
}
EXPORT_SYMBOL_GPL(hmm_range_dma_widen);

/**
 * hmm_range_dma_unmap() - take part of a map's window from the device
 * @dev: the device of the map
 * @map: the map
 * @start: first address, in bytes, page aligned
 * @end: last address (exclusive), in bytes, page aligned
 *
 * All blocks of which [@start, @end) holds a part are unmapped, see
 * hmm_range_dma_widen(); what of [@start, @end) is not mapped or not in the
 * window does no harm. When it returns no translation is left. Pages need not be
 * marked dirty: what hmm_range_fault() lets a device write to is dirty.
 *
 * The device must not use the addresses any more: a driver first clears its own
 * page table, and waits until the device has seen that.
 *
 * Context: Any, under the driver's lock; the notifier's invalidate() callback in
 * particular. Allocates nothing and does not sleep.
 */
void hmm_range_dma_unmap(struct device *dev, struct hmm_dma_map *map,
			 unsigned long start, unsigned long end)
{
	struct hmm_dma_gone gone = {};
	unsigned long addr, next;

	start = max(start, map->start);
	end = min(end, map->end);
	if (start > map->start || end < map->end)
		hmm_range_dma_widen(map, &start, &end);

	for (addr = start; addr < end; addr = next) {
		unsigned long chunk = hmm_dma_chunk(map, addr);

		if (test_bit(chunk, map->mapped)) {
			next = hmm_dma_unmap_leaves(dev, map, &gone, addr, end);
			continue;
		}
		next = min(hmm_dma_chunk_end(addr), end);
		if (map->tables[chunk])
			hmm_dma_unmap_table(dev, map, &gone, addr, next);
	}
	if (gone.start < gone.end)
		hmm_dma_unlink(dev, map, &gone);
}
EXPORT_SYMBOL_GPL(hmm_range_dma_unmap);

/*
 * The state of one hmm_range_dma_map(). The run is blocks of one size that are
 * contiguous in memory and recorded, but not linked yet.
 */
struct hmm_dma_mapper {
	struct device *dev;
	struct hmm_dma_map *map;
	struct hmm_range *range;
	unsigned long run_start, run_end;
	unsigned long run_max;		/* no block beyond that */
	unsigned long run_entry;	/* of the first */
	unsigned long run_next;		/* of one that can be added */
	unsigned long first, last;	/* what was linked; last is 0: nothing */
};

/*
 * A link must not be mapped by an IOMMU entry that is larger than its blocks, or
 * one of them could not be taken back alone: it stays shorter than the next
 * page size.
 */
static unsigned long hmm_dma_run_max(const struct hmm_dma_map *map,
				     unsigned int order)
{
	unsigned long larger = map->pgsizes & ~((PAGE_SIZE << (order + 1)) - 1);

	if (!larger)
		return map->pgsizes ? SZ_1G : 0;
	return (1UL << __ffs(larger)) - (PAGE_SIZE << order);
}

static int hmm_dma_link_run(struct hmm_dma_mapper *m)
{
	unsigned long entry = m->run_entry, addr = m->run_start;
	size_t size = m->run_end - addr;
	struct hmm_dma_map *map = m->map;
	dma_addr_t dma;
	int ret;

	if (dma_use_iova(&map->state)) {
		ret = dma_iova_link(m->dev, &map->state, hmm_pfn_to_phys(entry),
				    hmm_dma_offset(map, addr), size,
				    hmm_dma_dir(entry), hmm_dma_attrs(entry));
		if (ret)
			return ret;
		if (!m->last)
			m->first = addr;
		m->last = m->run_end;
	} else {
		dma = dma_map_phys(m->dev, hmm_pfn_to_phys(entry), size,
				   hmm_dma_dir(entry), hmm_dma_attrs(entry));
		if (dma_mapping_error(m->dev, dma))
			return -ENOMEM;
		if (map->leaf_dma)
			*hmm_dma_stored(map, addr,
					hmm_pfn_to_map_order(entry)) = dma;
	}
	m->run_start = m->run_end;
	return 0;
}

static inline int hmm_dma_add(struct hmm_dma_mapper *m, unsigned long entry,
			      unsigned long addr, unsigned long end)
{
	int ret;

	if (entry == m->run_next && addr == m->run_end && addr < m->run_max) {
		m->run_end = end;
		m->run_next = entry + ((end - addr) >> PAGE_SHIFT);
		return 0;
	}
	if (m->run_start < m->run_end) {
		ret = hmm_dma_link_run(m);
		if (ret)
			return ret;
	}
	m->run_start = addr;
	m->run_end = end;
	m->run_max = addr + hmm_dma_run_max(m->map, hmm_pfn_to_map_order(entry));
	m->run_entry = entry;
	m->run_next = entry + ((end - addr) >> PAGE_SHIFT);
	return 0;
}

/* Forget the blocks of the run. */
static void hmm_dma_drop_run(struct hmm_dma_mapper *m)
{
	unsigned int order = hmm_pfn_to_map_order(m->run_entry);
	unsigned long addr;

	for (addr = m->run_start; addr < m->run_end;
	     addr = hmm_dma_end(m->map, m->run_entry, addr)) {
		if (order >= HMM_DMA_PMD_ORDER)
			__clear_bit(hmm_dma_chunk(m->map, addr), m->map->mapped);
		*hmm_dma_slot(m->map, addr, order) = 0;
	}
	m->run_start = m->run_end;
}

/*
 * What kind of memory an entry is: 0 for any that is mapped as it is, the flag
 * of P2PDMA memory, or a negative error code, -ENXIO for what is left out.
 */
static long hmm_dma_special(struct hmm_dma_mapper *m, struct page *page)
{
	struct pci_p2pdma_map_state p2p = {};

	if (is_device_private_page(page))
		return -ENXIO;

	m->map->each = true;
	switch (pci_p2pdma_state(&p2p, m->dev, page)) {
	case PCI_P2PDMA_MAP_NONE:
		return 0;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		return HMM_PFN_P2PDMA;
	case PCI_P2PDMA_MAP_BUS_ADDR:
		return HMM_PFN_P2PDMA_BUS;
	default:
		return -EREMOTEIO;
	}
}

static inline long hmm_dma_kind(struct hmm_dma_mapper *m, unsigned long entry)
{
	switch (hmm_pfn_to_memory(entry)) {
	case HMM_MEMORY_SYSTEM:
		return 0;
	case HMM_MEMORY_DEVICE:
	case HMM_MEMORY_P2PDMA:
		return hmm_dma_special(m, hmm_pfn_to_page(entry));
	default:
		return -EREMOTEIO;
	}
}

/*
 * Is just this block mapped? If it is not, whatever else is mapped between the
 * two addresses makes room for it.
 */
static bool hmm_dma_is_mapped(struct hmm_dma_mapper *m, unsigned long head,
			      unsigned long end, unsigned long entry)
{
	unsigned long *slot, old;

	slot = hmm_dma_find(m->map, head, &old);
	if (slot && old == head && (*slot & HMM_DMA_SAME) == entry)
		return true;
	if (slot || (end - head > PAGE_SIZE &&
		     hmm_dma_in_use(m->map, head, end)))
		hmm_range_dma_unmap(m->dev, m->map, head, end);
	return false;
}

/*
 * Map a leaf of more than one page, the part of it that is in the window. @end
 * is the leaf's, @entry that of @addr.
 */
static inline int hmm_dma_map_leaf(struct hmm_dma_mapper *m, unsigned long addr,
				   unsigned long end, unsigned int order,
				   unsigned long *pfn, unsigned long entry)
{
	struct hmm_dma_map *map = m->map;
	unsigned long head = max(end - (PAGE_SIZE << order), map->start);
	unsigned long chunk = hmm_dma_chunk(map, head);
	long kind;
	int ret;

	entry += (long)(head - addr) >> PAGE_SHIFT;
	end = min(end, map->end);

	/* With no block of another order only this same one can be there. */
	if (((map->orders & ~BIT(order)) || order < HMM_DMA_PMD_ORDER ||
	     test_bit(chunk, map->mapped)) &&
	    hmm_dma_is_mapped(m, head, end, entry))
		return 0;

	kind = hmm_dma_kind(m, entry);
	if (unlikely(kind)) {
		if (kind < 0)
			return kind == -ENXIO ? 0 : kind;
		entry |= kind;
	}

	if (!(kind & HMM_PFN_P2PDMA_BUS)) {
		ret = hmm_dma_add(m, entry, head, end);
		if (ret)
			return ret;
	}

	map->orders |= BIT(order);
	if (order >= HMM_DMA_PMD_ORDER)
		__set_bit(chunk, map->mapped);
	*hmm_dma_slot(map, head, order) = entry;
	*pfn |= HMM_PFN_DMA_MAPPED;
	return 0;
}

/*
 * Map single pages, up to the end of the PMD_SIZE or of the range, or to a leaf
 * or hole that is larger. Contiguous ones share a link.
 */
static int hmm_dma_map_pages(struct hmm_dma_mapper *m, unsigned long addr,
			     unsigned long end, unsigned long *pfn,
			     unsigned long *next)
{
	struct hmm_dma_map *map = m->map;
	struct hmm_dma_table *table = map->tables[hmm_dma_chunk(map, addr)];
	bool others = map->orders & ~1UL;
	unsigned long *slot;
	int ret = 0;

	map->orders |= 1;
	slot = &table->entry[hmm_dma_page(addr)];
	for (; addr < end; addr += PAGE_SIZE, pfn++, slot++) {
		unsigned long entry = *pfn & HMM_DMA_SAME;
		long kind;

		if (hmm_pfn_to_map_order(entry))
			break;
		*pfn = entry;
		if (!(entry & HMM_PFN_VALID))
			continue;
		if (unlikely(*slot || others) &&
		    hmm_dma_is_mapped(m, addr, addr + PAGE_SIZE, entry))
			continue;

		kind = hmm_dma_kind(m, entry);
		if (unlikely(kind)) {
			if (kind == -ENXIO)
				continue;
			if (kind < 0) {
				ret = kind;
				break;
			}
			entry |= kind;
		}

		if (!(kind & HMM_PFN_P2PDMA_BUS)) {
			ret = hmm_dma_add(m, entry, addr, addr + PAGE_SIZE);
			if (ret)
				break;
		}
		*slot = entry;
		*pfn |= HMM_PFN_DMA_MAPPED;
	}
	*next = addr;
	return ret;
}

static inline unsigned long hmm_dma_first(const struct hmm_range *range)
{
	if (range->start == range->mirror_start || !range->mirror_end)
		return range->start;
	return hmm_leaf_head(hmm_range_entry(range, range->mirror_start),
			     range->mirror_start, range->start);
}

/* Have a table for small blocks. */
static int hmm_dma_add_table(struct hmm_dma_map *map, unsigned long addr)
{
	unsigned long chunk = hmm_dma_chunk(map, addr);
	struct hmm_dma_table *table = map->tables[chunk];

	if (table)
		return 0;
	table = kzalloc(struct_size(table, dma, map->leaf_dma ? HMM_DMA_NR : 0),
			GFP_ATOMIC | __GFP_NOWARN);
	map->tables[chunk] = table;
	return table ? 0 : -ENOMEM;
}

/* Take back what this call has mapped before @end: its entries are marked. */
static void hmm_dma_unwind(struct hmm_dma_mapper *m, unsigned long end)
{
	unsigned long addr, *pfn;

	hmm_dma_drop_run(m);
	for (addr = hmm_dma_first(m->range); addr < end;
	     addr = hmm_leaf_end(*pfn, addr)) {
		pfn = hmm_range_entry(m->range, addr);
		if (!(*pfn & HMM_PFN_DMA_MAPPED))
			continue;
		*pfn &= ~HMM_PFN_DMA_MAPPED;
		hmm_range_dma_unmap(m->dev, m->map, max(addr, m->map->start),
				    max(addr, m->map->start) + PAGE_SIZE);
	}
}

/**
 * hmm_range_dma_map() - map what hmm_range_fault() found for a device
 * @dev: the device of the map
 * @map: the map
 * @range: a range after a successful hmm_range_fault(), dense or leaf-only, in
 *	the map's window
 *
 * Each leaf of which the range holds a part is mapped as far as it is in the
 * window: read-only ones DMA_TO_DEVICE, so that an IOMMU refuses a write to
 * them, others DMA_BIDIRECTIONAL. What is mapped already, to the same memory
 * with the same permission, is left as it is. If the memory or the permission
 * differs the old mapping is undone first; the device must not use it meanwhile.
 * The mm makes a page writable without a call of the notifier. So a driver whose
 * device has read-only entries in the range clears them before, as far as
 * hmm_range_dma_widen() says, and sets them anew from hmm_range_dma_addr().
 *
 * Entries that are not HMM_PFN_VALID and device-private memory are left out. All
 * other memory with a struct page is mapped: DAX like any other, and memory of
 * other PCI devices as far as the two can reach each other.
 *
 * On success HMM_PFN_DMA_MAPPED tells in the entries of @range which of the
 * leaves this call has mapped: the head's in a leaf-only array, in a dense one
 * that of the leaf's first page in the range. Nothing relies on it later. The
 * other sticky flags are cleared there. On an error these flags mean nothing.
 *
 * Context: Under the driver's lock, after mmu_interval_read_retry() returned
 * false for the range's notifier, which covers the window. Does not sleep, and
 * allocates GFP_ATOMIC.
 *
 * Return: 0, or a negative error code. On an error, what this call mapped is
 * unmapped, and nothing else is, except leaves whose memory or permission
 * differed.
 *
 * * %-EINVAL - The range is not in the window.
 * * %-ENOMEM - No memory for the record or the IOMMU's page table, or no DMA
 *   address to be had.
 * * %-EREMOTEIO - The range has memory of a PCI device that @dev cannot reach, or
 *   of a type that HMM does not know.
 */
int hmm_range_dma_map(struct device *dev, struct hmm_dma_map *map,
		      struct hmm_range *range)
{
	struct hmm_dma_mapper m = { .dev = dev, .map = map, .range = range };
	unsigned long addr, next;
	int ret = 0;

	if (range->start < map->start || range->end > map->end ||
	    range->start >= range->end)
		return -EINVAL;

	for (addr = hmm_dma_first(range); addr < range->end; addr = next) {
		unsigned long *pfn = hmm_range_entry(range, addr);
		unsigned long entry = *pfn & HMM_DMA_SAME;
		unsigned int order = hmm_pfn_to_map_order(entry);

		*pfn = entry;
		next = hmm_leaf_end(entry, addr);
		if (!(entry & HMM_PFN_VALID) || next <= map->start)
			continue;

		if (order < HMM_DMA_PMD_ORDER) {
			ret = hmm_dma_add_table(map, max(addr, map->start));
			if (ret)
				break;
		}
		if (order) {
			ret = hmm_dma_map_leaf(&m, addr, next, order, pfn, entry);
		} else {
			next = min(hmm_dma_chunk_end(addr), range->end);
			ret = hmm_dma_map_pages(&m, addr, next, pfn, &next);
		}
		if (ret)
			break;
	}

	if (!ret && m.run_start < m.run_end)
		ret = hmm_dma_link_run(&m);
	if (!ret && m.last)
		ret = dma_iova_sync(dev, &map->state,
				    hmm_dma_offset(map, m.first),
				    m.last - m.first);
	if (ret)
		hmm_dma_unwind(&m, min(next, range->end));
	return ret;
}
EXPORT_SYMBOL_GPL(hmm_range_dma_map);

/**
 * hmm_range_dma_addr() - the device's address of a mapped user address
 * @dev: the device of the map
 * @map: the map
 * @addr: user address in the map's window, in bytes
 * @hmm_pfn: (out) the entry of the page at @addr as hmm_range_fault() would give
 *	it: HMM_PFN_WRITE tells whether the device may write, the order how large
 *	the leaf is; 0 if nothing is mapped at @addr. May be NULL.
 *
 * DMA addresses are contiguous up to hmm_leaf_end() or the end of the window,
 * whichever comes first.
 *
 * Context: Any, under the driver's lock.
 *
 * Return: The DMA address, or DMA_MAPPING_ERROR if nothing is mapped at @addr.
 */
dma_addr_t hmm_range_dma_addr(struct device *dev, struct hmm_dma_map *map,
			      unsigned long addr, unsigned long *hmm_pfn)
{
	unsigned long entry, head, *slot = NULL;
	phys_addr_t phys;

	if (addr >= map->start && addr < map->end)
		slot = hmm_dma_find(map, addr, &head);
	if (!slot) {
		if (hmm_pfn)
			*hmm_pfn = 0;
		return DMA_MAPPING_ERROR;
	}
	entry = *slot + ((addr - head) >> PAGE_SHIFT);
	phys = hmm_pfn_to_phys(*slot) + (addr - head);
	if (hmm_pfn)
		*hmm_pfn = entry & HMM_DMA_SAME;

	if (entry & HMM_PFN_P2PDMA_BUS) {
		struct pci_p2pdma_map_state p2p = {};

		pci_p2pdma_state(&p2p, dev, hmm_pfn_to_page(entry));
		return pci_p2pdma_bus_addr_map(p2p.mem, phys);
	}
	if (dma_use_iova(&map->state))
		return map->state.addr + hmm_dma_offset(map, addr);
	if (map->leaf_dma)
		return *hmm_dma_stored(map, head, hmm_pfn_to_map_order(entry)) +
		       (addr - head);
	/* No state anywhere: the same address as when it was mapped. */
	return dma_map_phys(dev, phys, 1, hmm_dma_dir(entry),
			    hmm_dma_attrs(entry));
}
EXPORT_SYMBOL_GPL(hmm_range_dma_addr);

/**
 * hmm_range_dma_alloc() - make a map for a window of a process's addresses
 * @dev: the device
 * @map: the map, of any content
 * @start: first address of the window, in bytes, page aligned
 * @end: last address (exclusive), in bytes, page aligned
 *
 * Behind an IOMMU this takes IOVA space for the window, congruent to the user's
 * addresses modulo the largest leaf that fits into it: so a leaf is mapped by
 * large IOMMU entries wherever in a leaf the window begins. The record takes 16
 * bytes for each PMD_SIZE of the window, 24 for devices without IOMMU whose
 * mappings need to be undone. Where small leaves are mapped later it takes a
 * table for each PMD_SIZE, as large as the page table's, or twice that where
 * mappings need to be undone. Tables stay until hmm_range_dma_free().
 *
 * Context: Process context, may sleep.
 *
 * Return: 0, or a negative error code, after which there is nothing to be freed:
 *
 * * %-EINVAL - The window is empty or not page aligned.
 * * %-ENOMEM - No memory for the record.
 * * %-EOPNOTSUPP - The device cannot reach all memory, or needs cache
 *   maintenance. (Where bouncing is forced, by swiotlb=force or in a confidential
 *   guest, hmm_range_dma_map() fails with -ENOMEM instead.)
 */
int hmm_range_dma_alloc(struct device *dev, struct hmm_dma_map *map,
			unsigned long start, unsigned long end)
{
	bool dma_need_sync = false;
	unsigned long align = 1;
	size_t chunks;

	if (start >= end || !PAGE_ALIGNED(start | end))
		return -EINVAL;

#ifdef CONFIG_DMA_NEED_SYNC
	dma_need_sync = !dev_dma_skip_sync(dev);
#endif
	if (dma_need_sync || dma_addressing_limited(dev))
		return -EOPNOTSUPP;

	memset(map, 0, sizeof(*map));
	map->start = start;
	map->end = end;
	chunks = hmm_dma_chunk(map, end - 1) + 1;
	map->leaves = kvcalloc(chunks, sizeof(*map->leaves), GFP_KERNEL);
	map->tables = kvcalloc(chunks, sizeof(*map->tables), GFP_KERNEL);
	map->mapped = kvcalloc(BITS_TO_LONGS(chunks), sizeof(*map->mapped),
			       GFP_KERNEL);
	if (!map->leaves || !map->tables || !map->mapped)
		goto err_free;
	map->pgsizes = PAGE_SIZE;

	if (end - start >= PUD_SIZE)
		align = PUD_SIZE;
	else if (end - start >= PMD_SIZE)
		align = PMD_SIZE;
	map->iova_skew = start & (align - 1);
	/* The IOVA is aligned to the size, which is no less than @align. */
	if (dma_iova_try_alloc(dev, &map->state, 0,
			       map->iova_skew + (end - start))) {
		map->pgsizes = iommu_get_domain_for_dev(dev)->pgsize_bitmap;
		return 0;
	}

	if (dma_need_unmap(dev)) {
		map->leaf_dma = kvcalloc(chunks, sizeof(*map->leaf_dma),
					 GFP_KERNEL);
		if (!map->leaf_dma)
			goto err_free;
		map->pgsizes = 0;
		map->each = true;
	}
	return 0;

err_free:
	kvfree(map->mapped);
	kvfree(map->tables);
	kvfree(map->leaves);
	return -ENOMEM;
}
EXPORT_SYMBOL_GPL(hmm_range_dma_alloc);

static bool hmm_dma_is_empty(const struct hmm_dma_map *map, size_t chunks)
{
	size_t i;

	for (i = 0; i < chunks; i++)
		if (test_bit(i, map->mapped) ||
		    (map->tables[i] && memchr_inv(map->tables[i]->entry, 0,
						  sizeof(map->tables[i]->entry))))
			return false;
	return true;
}

/**
 * hmm_range_dma_free() - free a map
 * @dev: the device of the map
 * @map: the map, with nothing mapped
 *
 * The driver has unmapped the whole window by hmm_range_dma_unmap() before, and
 * after that removed its notifier. Not the other way round: without a notifier
 * pages can be freed while the device still reaches them.
 *
 * Context: Process context, may sleep.
 */
void hmm_range_dma_free(struct device *dev, struct hmm_dma_map *map)
{
	size_t chunks = hmm_dma_chunk(map, map->end - 1) + 1, i;

	if (WARN_ON_ONCE(!hmm_dma_is_empty(map, chunks)))
		hmm_range_dma_unmap(dev, map, map->start, map->end);
	if (dma_use_iova(&map->state))
		dma_iova_free(dev, &map->state);
	for (i = 0; i < chunks; i++)
		kfree(map->tables[i]);
	kvfree(map->leaf_dma);
	kvfree(map->mapped);
	kvfree(map->tables);
	kvfree(map->leaves);
}
EXPORT_SYMBOL_GPL(hmm_range_dma_free);
