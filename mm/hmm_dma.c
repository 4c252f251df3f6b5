// SPDX-License-Identifier: GPL-2.0
/*
 * DMA mappings of what hmm_range_fault() found
 */

/**
 * DOC: overview
 *
 * A struct hmm_dma_window is a part of a process's addresses as one device sees it.
 * hmm_range_dma_map() makes reachable what hmm_range_fault() has listed,
 * hmm_range_dma_unmap() takes any part of it back. The cost of both is proportional
 * to the number of page table leaves, not of pages, and the IOMMU is flushed once
 * for each call, if its driver can flush several ranges at once.
 *
 * Behind an IOMMU the window has DMA addresses of its own, congruent to the
 * process's addresses, so that a large leaf is a large entry of the IOMMU. A leaf,
 * cut to the window, is mapped and unmapped as one block, because an IOMMU cannot
 * unmap a part of an entry. Therefore a driver asks hmm_range_dma_widen() what else
 * is unmapped, before it clears entries of its own page table. If the device's own
 * entries are larger than that, the driver has to widen the range further.
 *
 * A device without an IOMMU uses physical addresses. There is nothing to be
 * mapped, taken back, or remembered then, and the same calls cost next to nothing.
 *
 * The window remembers which pages are mapped, in which blocks, and whether the
 * device may write them. It does not remember the memory: as long as the notifier
 * has not said otherwise, that is what it was. Nor does it mark pages dirty:
 * hmm_range_fault() gives write access only to what is dirty already.
 *
 * DOC: locking
 *
 * The driver has a lock that its invalidate() callback takes. It is held
 * exclusively for all that has to do with what is mapped: hmm_range_dma_map(),
 * _mapped(), _widen(), _unmap(), and so on. None of them sleeps or takes a
 * lock of the mm, so the lock may be a spinlock, and unmapping is fine in the
 * callback, in reclaim too. The record of what is mapped is allocated before, by
 * hmm_range_dma_prepare(), which sleeps; the IOMMU's page table with GFP_ATOMIC.
 */
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/iommu.h>
#include <linux/memcontrol.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pci-p2pdma.h>
#include <linux/sched/mm.h>
#include <linux/swiotlb.h>

#include "hmm_blocks.h"

#define HMM_DMA_ATTRS	DMA_ATTR_REQUIRE_COHERENT
#define HMM_DMA_ORDER	((unsigned long)HMM_PFN_MAX_ORDER << HMM_PFN_ORDER_SHIFT)

static inline size_t window_offset(const struct hmm_dma_window *window,
				   unsigned long addr)
{
	return window->skew + (addr - window->start);
}

/*
 * How a device reaches memory: 0 through the IOMMU or at its physical address,
 * HMM_PFN_P2PDMA the same but it is a PCI BAR, HMM_PFN_P2PDMA_BUS at a bus
 * address, -ENXIO not at all, as it is device-private, or -EREMOTEIO.
 */
static long window_route_special(struct device *dev, unsigned long entry)
{
	struct page *page = hmm_pfn_to_page(entry);
	struct pci_p2pdma_map_state p2p = {};

	if (is_device_private_page(page))
		return -ENXIO;
	switch (pci_p2pdma_state(&p2p, dev, page)) {
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

static inline long window_route(struct device *dev, unsigned long entry)
{
	if (!(entry & HMM_PFN_VALID))
		return -ENXIO;
	switch (hmm_pfn_to_memory(entry)) {
	case HMM_MEMORY_SYSTEM:
		return 0;
	case HMM_MEMORY_DEVICE:
	case HMM_MEMORY_P2PDMA:
		return window_route_special(dev, entry);
	default:
		return -EREMOTEIO;
	}
}

/* ---- links ---- */

/* What is unlinked next, or linked, neighbours in the window. */
struct window_run {
	struct hmm_dma_window	*window;
	unsigned long		start, end;	/* addresses, in the window */
};

static void window_unlink(struct window_run *run, unsigned long start,
			  unsigned long end)
{
	dma_iova_unlink_nosync(run->window->dev, &run->window->state,
			       window_offset(run->window, start), end - start,
			       run->window->gather);
}

/* hmm_blocks_clear() has cleared some pages. */
static void window_gone(unsigned long start, unsigned long end, void *data)
{
	struct window_run *run = data;

	start = max(start << PAGE_SHIFT, run->window->start);
	end = min(end << PAGE_SHIFT, run->window->end);
	if (run->end != start) {
		if (run->start < run->end)
			window_unlink(run, run->start, run->end);
		run->start = start;
	}
	run->end = end;
}

/* Take back a range, or what was claimed in it. */
static void window_clear(struct hmm_dma_window *window, unsigned long start,
			 unsigned long end, bool fresh)
{
	struct window_run run = { .window = window };

	hmm_blocks_clear(&window->blocks, start >> PAGE_SHIFT,
			 end >> PAGE_SHIFT, fresh, window_gone, &run);
	if (run.start < run.end)
		window_unlink(&run, run.start, run.end);
}

/**
 * hmm_range_dma_widen() - what hmm_range_dma_unmap() takes back
 * @window: the window
 * @start: (in, out) first address, in bytes
 * @end: (in, out) last address (exclusive), in bytes
 *
 * Cuts the range to what is in the window, and moves its ends outwards to those of
 * the blocks that they cut.
 *
 * Context: Any, under the driver's lock.
 *
 * Return: Whether any of the range is in the window.
 */
bool hmm_range_dma_widen(struct hmm_dma_window *window,
			 unsigned long *start, unsigned long *end)
{
	unsigned long first, last;

	*start = max(*start, window->start);
	*end = min(*end, window->end);
	if (*start >= *end)
		return false;
	first = *start >> PAGE_SHIFT;
	last = DIV_ROUND_UP(*end, PAGE_SIZE);
	hmm_blocks_widen(&window->blocks, &first, &last);
	*start = max(first << PAGE_SHIFT, window->start);
	*end = min(last << PAGE_SHIFT, window->end);
	return true;
}
EXPORT_SYMBOL_GPL(hmm_range_dma_widen);

/**
 * hmm_range_dma_unmap_nosync() - hmm_range_dma_unmap() without its flush
 * @window: the window
 * @start: first address, in bytes
 * @end: last address (exclusive), in bytes
 *
 * For windows that share a gather, see hmm_dma_window_init(). What of it is mapped
 * may be reachable until hmm_range_dma_sync() has returned for any of them, which
 * flushes the IOMMU once for all, if its driver can. A notifier calls this in
 * invalidate_start(), and hmm_range_dma_sync() in invalidate_finish(), even if
 * there was nothing to unmap, since another invalidation may have unmapped it and
 * not flushed yet. Between the two calls nothing may be mapped there;
 * mmu_interval_set_seq() in invalidate_start() ensures that.
 *
 * Context: As for hmm_range_dma_unmap().
 */
void hmm_range_dma_unmap_nosync(struct hmm_dma_window *window,
				unsigned long start, unsigned long end)
{
	if (!window->direct && hmm_range_dma_widen(window, &start, &end))
		window_clear(window, start, end, false);
}
EXPORT_SYMBOL_GPL(hmm_range_dma_unmap_nosync);

/**
 * hmm_range_dma_sync() - the end of hmm_range_dma_unmap_nosync()
 * @window: any of the windows that share a gather
 *
 * Context: Any, under the driver's lock. Does not sleep.
 */
void hmm_range_dma_sync(struct hmm_dma_window *window)
{
	if (!window->direct)
		dma_iova_unlink_sync(window->dev, window->gather);
}
EXPORT_SYMBOL_GPL(hmm_range_dma_sync);

/**
 * hmm_range_dma_unmap() - take part of a window from the device
 * @window: the window
 * @start: first address, in bytes
 * @end: last address (exclusive), in bytes
 *
 * What of it is mapped is not reachable any more when this returns, nor is what
 * hmm_range_dma_widen() adds to it. The driver has cleared the device's own
 * entries for it before.
 *
 * Context: Any, under the driver's lock. Does not sleep. Allocates nothing, but some
 * IOMMU drivers do, for a request.
 */
void hmm_range_dma_unmap(struct hmm_dma_window *window, unsigned long start,
			 unsigned long end)
{
	hmm_range_dma_unmap_nosync(window, start, end);
	hmm_range_dma_sync(window);
}
EXPORT_SYMBOL_GPL(hmm_range_dma_unmap);

/* ---- mapping ---- */

/* Where all of the lists begin and end: @start and @end are those of the last one. */
static inline unsigned long list_start(const struct hmm_range *range)
{
	return range->extents[0].start;
}

static inline unsigned long list_end(const struct hmm_range *range)
{
	return range->extents[range->nr_extents - 1].end;
}

/* A stretch of blocks of one extent, or of some that follow on one another. */
struct window_part {
	unsigned long	start, end;	/* addresses, in the window */
	unsigned long	entry;		/* of @start */
	unsigned int	order;
	bool		write;
};

/*
 * Extent @i of a list as far as it is to be mapped: its first and last block are
 * completed, but not beyond the window. A block is a leaf, or a part of one that is
 * too large for the window to be congruent to it. Returns what window_route() does.
 */
static long window_part(const struct hmm_dma_window *window,
			const struct hmm_range *range, unsigned int i,
			enum dma_data_direction dir, struct window_part *part)
{
	const struct hmm_extent *extent = &range->extents[i];
	unsigned long entry = extent->hmm_pfn;
	unsigned int order = min(hmm_pfn_to_map_order(entry), window->order);
	unsigned long size = PAGE_SIZE << order;
	long route = window_route(window->dev, entry);

	if (route < 0)
		return route;
	part->start = max(ALIGN_DOWN(extent->start, size), window->start);
	part->end = min(ALIGN(extent->end, size), window->end);
	part->entry = entry - ((extent->start - part->start) >> PAGE_SHIFT);
	part->order = order;
	part->write = entry & HMM_PFN_WRITE && dir != DMA_TO_DEVICE;
	return route;
}

/*
 * The same of the extents from @i on that only differ in where they are, so that
 * the record is asked once for all. Returns the first extent behind them.
 */
static unsigned int window_parts(const struct hmm_dma_window *window,
				 const struct hmm_range *range, unsigned int i,
				 enum dma_data_direction dir,
				 struct window_part *part, long *route)
{
	const struct hmm_extent *extents = range->extents;
	unsigned long flags = extents[i].hmm_pfn;

	*route = window_part(window, range, i, dir, part);
	if (*route)
		return i + 1;
	/* The one before may have been completed to where this one is. */
	while (++i < range->nr_extents &&
	       extents[i].start == extents[i - 1].end &&
	       extents[i].start == part->end &&
	       !((extents[i].hmm_pfn ^ flags) & HMM_PFN_FLAGS) &&
	       !window_route(window->dev, extents[i].hmm_pfn))
		part->end = min(ALIGN(extents[i].end, PAGE_SIZE << part->order),
				window->end);
	return i;
}

/*
 * What is in the way of a list: pages of it that are mapped, but by other blocks, or
 * for reading and now for writing.
 */
static bool window_stale(struct hmm_dma_window *window,
			 const struct hmm_range *range,
			 struct hmm_dma_batch *batch)
{
	unsigned long size = PAGE_SIZE << window->order;
	struct hmm_blocks *blocks = &window->blocks;
	unsigned long addr, end, first, last;
	unsigned int i;

	/* Most often nothing is mapped there. */
	first = ALIGN_DOWN(list_start(range), size) >> PAGE_SHIFT;
	last = ALIGN(list_end(range), size) >> PAGE_SHIFT;
	if (!hmm_blocks_used(blocks, first, last))
		return false;
	batch->stale_start = ULONG_MAX;
	batch->stale_end = 0;
	for (i = 0; i < range->nr_extents;) {
		struct window_part part;
		long route;

		i = window_parts(window, range, i, batch->dir, &part, &route);
		if (route < 0 || route == HMM_PFN_P2PDMA_BUS)
			continue;
		addr = part.start >> PAGE_SHIFT;
		end = part.end >> PAGE_SHIFT;
		for (; hmm_blocks_missing(blocks, addr, end, part.order,
					  part.write, &first, &last);
		     addr = last) {
			if (!hmm_blocks_used(blocks, first, last))
				continue;
			batch->stale_start = min(batch->stale_start,
						 first << PAGE_SHIFT);
			batch->stale_end = max(batch->stale_end,
					       last << PAGE_SHIFT);
		}
	}
	if (batch->stale_start >= batch->stale_end)
		return false;
	return hmm_range_dma_widen(window, &batch->stale_start,
				   &batch->stale_end);
}

static void window_nothing(unsigned long start, unsigned long end, void *data)
{
}

/*
 * Link what is missing of the extents from @extent to @last. What is linked is
 * claimed, nothing else is.
 */
static int window_map_part(struct hmm_dma_window *window,
			   const struct window_part *part, long route,
			   const struct hmm_extent *extent,
			   const struct hmm_extent *last,
			   struct hmm_dma_batch *batch, struct window_run *linked)
{
	enum dma_data_direction dir = part->write ? DMA_BIDIRECTIONAL :
						    DMA_TO_DEVICE;
	unsigned long attrs = HMM_DMA_ATTRS | (route ? DMA_ATTR_MMIO : 0);
	unsigned long addr = part->start, stop, first, end;
	int ret;

	while (addr < part->end) {
		ret = hmm_blocks_claim(&window->blocks, addr >> PAGE_SHIFT,
				       part->end >> PAGE_SHIFT, part->order,
				       part->write, &batch->spare, &first, &end);
		if (ret <= 0)
			return ret;
		addr = first << PAGE_SHIFT;
		end <<= PAGE_SHIFT;
		linked->start = min(linked->start, addr);
		for (; addr < end; addr = stop) {
			while (extent < last && extent->end <= addr)
				extent++;
			stop = extent < last ? min(extent->end, end) : end;
			ret = dma_iova_link_units(window->dev, &window->state,
						  hmm_pfn_to_phys(extent->hmm_pfn) +
						  addr - extent->start,
						  window_offset(window, addr),
						  stop - addr,
						  PAGE_SIZE << part->order,
						  dir, attrs);
			if (ret) {
				hmm_blocks_clear(&window->blocks,
						 addr >> PAGE_SHIFT,
						 end >> PAGE_SHIFT, true,
						 window_nothing, NULL);
				/* Not -EEXIST, which has the driver unmap something. */
				return ret == -EEXIST ? -EADDRINUSE : ret;
			}
			linked->end = max(linked->end, stop);
		}
	}
	return 0;
}

/* Without an IOMMU: can the device use the physical addresses? */
static int window_reaches(const struct hmm_dma_window *window,
			  const struct hmm_range *range,
			  enum dma_data_direction dir)
{
	unsigned int i;

	for (i = 0; i < range->nr_extents; i++) {
		struct window_part part;
		long route = window_part(window, range, i, dir, &part);
		phys_addr_t phys;
		size_t size;

		if (route == -ENXIO || route == HMM_PFN_P2PDMA_BUS)
			continue;
		if (route < 0)
			return route;
		phys = hmm_pfn_to_phys(part.entry);
		size = part.end - part.start;
		if ((route || phys + size > window->reach) &&
		    dma_direct_addr(window->dev, phys, size,
				    route ? DMA_ATTR_MMIO : 0) == DMA_MAPPING_ERROR)
			return -EREMOTEIO;
	}
	return 0;
}

/**
 * hmm_range_dma_map() - map what hmm_range_fault() has listed
 * @window: the window
 * @range: after a successful hmm_range_fault(), with a list of extents in ascending
 *	order, or several lists one behind the other; all in the window. Where they
 *	begin and end is in the list only, not in @start and @end
 * @batch: what hmm_range_dma_prepare() has prepared for this list
 *
 * Maps the leaves that are listed, each of them as far as it is in the window: for
 * reading only if the direction of @batch is DMA_TO_DEVICE or the extent has no
 * HMM_PFN_WRITE, so that an IOMMU refuses a write, otherwise for reading and
 * writing. What is mapped already, for the same access at least, stays as it is.
 *
 * The mm makes a page writable without a call of the notifier. What is mapped for
 * reading only, and now to be for writing, has to be unmapped first: then this
 * returns %-EEXIST, the driver does from @stale_start to @stale_end of @batch what it
 * does in its invalidate() callback, and calls again. The device faults what was
 * there and is not part of @range.
 *
 * Extents that are not HMM_PFN_VALID and device-private memory are left out. All
 * other memory is mapped: DAX like any other, and memory of other PCI devices as
 * far as the two can reach each other.
 *
 * Context: Under the driver's lock, after mmu_interval_read_retry() has returned
 * false for the range's notifier, which covers the window. Does not sleep.
 *
 * Return: 0, or a negative error code. On an error, what this call has mapped is
 * taken back, and nothing else is.
 *
 * * %-EADDRINUSE - The IOMMU has a translation there that the window does not know
 *   of: a bug.
 * * %-EEXIST - Something is in the way, see above.
 * * %-EINVAL - The list is empty, or not in the window, or a list begins in the leaf
 *   that the one before ended in and says something else of it: fault again.
 * * %-ENOMEM - No memory for the IOMMU's page table, or nothing was prepared.
 * * %-EREMOTEIO - The range has memory that the device cannot reach, such as that of
 *   some other PCI device, or of a type that HMM does not know.
 * * Others, as for dma_iova_link_units() and dma_iova_sync()
 */
int hmm_range_dma_map(struct hmm_dma_window *window,
		      const struct hmm_range *range,
		      struct hmm_dma_batch *batch)
{
	struct window_run linked = { .start = ULONG_MAX };
	unsigned int i, next;
	int ret = 0;

	if (!range->nr_extents || list_start(range) < window->start ||
	    list_end(range) > window->end)
		return -EINVAL;
	if (window->direct)
		return window_reaches(window, range, batch->dir);
	if (window_stale(window, range, batch))
		return -EEXIST;

	for (i = 0; !ret && i < range->nr_extents; i = next) {
		struct window_part part;
		long route;

		next = window_parts(window, range, i, batch->dir, &part, &route);
		if (route == -ENXIO || route == HMM_PFN_P2PDMA_BUS)
			continue;
		ret = route < 0 ? route :
			window_map_part(window, &part, route,
					&range->extents[i],
					&range->extents[next - 1], batch,
					&linked);
	}
	if (linked.start < linked.end && !ret)
		ret = dma_iova_sync(window->dev, &window->state,
				    window_offset(window, linked.start),
				    linked.end - linked.start);
	if (!ret) {
		hmm_blocks_commit(&window->blocks, linked.start >> PAGE_SHIFT,
				  linked.end >> PAGE_SHIFT);
		return 0;
	}
	window_clear(window, linked.start, linked.end, true);
	hmm_range_dma_sync(window);
	return ret;
}
EXPORT_SYMBOL_GPL(hmm_range_dma_map);

/**
 * hmm_range_dma_mapped() - what hmm_range_dma_map() has mapped for an extent
 * @window: the window
 * @range: the range that it was successful with, or is to be called with
 * @batch: as for hmm_range_dma_map()
 * @i: which of the extents
 * @mapped: (out) the extent with its first and last block completed, as far as they
 *	are in the window; with the order of the blocks, and HMM_PFN_WRITE if the
 *	device may write
 * @dma: (out) the DMA address of @mapped->start; those of the rest follow on it
 *
 * Before hmm_range_dma_map() this is what it is going to map, so that a driver can
 * take an extent from the list for which it would fail.
 *
 * Context: Under the driver's lock, which is not unlocked between the two.
 *
 * Return: Whether anything is mapped; it is not if the extent is left out, or the
 * device cannot reach it.
 */
bool hmm_range_dma_mapped(const struct hmm_dma_window *window,
			  const struct hmm_range *range,
			  const struct hmm_dma_batch *batch, unsigned int i,
			  struct hmm_extent *mapped, dma_addr_t *dma)
{
	struct pci_p2pdma_map_state p2p = {};
	struct window_part part;
	phys_addr_t phys;
	long route;

	route = window_part(window, range, i, batch->dir, &part);
	if (route < 0)
		return false;
	mapped->start = part.start;
	mapped->end = part.end;
	mapped->hmm_pfn = part.entry & ~(HMM_PFN_WRITE | HMM_DMA_ORDER);
	mapped->hmm_pfn |= (part.order + 0UL) << HMM_PFN_ORDER_SHIFT;
	if (part.write)
		mapped->hmm_pfn |= HMM_PFN_WRITE;
	phys = hmm_pfn_to_phys(part.entry);
	if (route == HMM_PFN_P2PDMA_BUS) {
		pci_p2pdma_state(&p2p, window->dev, hmm_pfn_to_page(part.entry));
		*dma = pci_p2pdma_bus_addr_map(p2p.mem, phys);
	} else if (window->direct) {
		*dma = dma_direct_addr(window->dev, phys, part.end - part.start,
				       route ? DMA_ATTR_MMIO : 0);
	} else {
		*dma = window->state.addr + window_offset(window, part.start);
	}
	return *dma != DMA_MAPPING_ERROR;
}
EXPORT_SYMBOL_GPL(hmm_range_dma_mapped);

/* ---- what sleeps ---- */

/**
 * hmm_range_dma_prepare() - have the memory that hmm_range_dma_map() needs
 * @window: the window
 * @range: as for hmm_range_dma_map()
 * @batch: (in, out) with its direction set, and the rest zeroed before the first
 *	use; kept from one attempt to the next
 *
 * To be called before the driver's lock is taken. The memory is charged to the
 * memcg of the process.
 *
 * Context: Process context, may sleep.
 *
 * Return: 0 or -ENOMEM.
 */
int hmm_range_dma_prepare(const struct hmm_dma_window *window,
			  const struct hmm_range *range,
			  struct hmm_dma_batch *batch)
{
	unsigned long counted[HMM_BLOCKS_LEVELS] = {}, nr = 0;
	struct mem_cgroup *memcg, *old;
	unsigned int i;
	int ret;

	if (window->direct)
		return 0;
	for (i = 0; i < range->nr_extents; i++) {
		const struct hmm_extent *extent = &range->extents[i];
		unsigned int order = min(hmm_pfn_to_map_order(extent->hmm_pfn),
					 window->order);

		if (extent->hmm_pfn & HMM_PFN_VALID)
			nr += hmm_blocks_count_nodes(extent->start >> PAGE_SHIFT,
						     extent->end >> PAGE_SHIFT,
						     order, counted);
	}
	memcg = get_mem_cgroup_from_mm(range->notifier->mm);
	old = set_active_memcg(memcg);
	ret = hmm_blocks_spare_fill(&batch->spare, nr);
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	return ret;
}
EXPORT_SYMBOL_GPL(hmm_range_dma_prepare);

/**
 * hmm_range_dma_finish() - free what hmm_range_dma_map() did not need
 * @batch: what hmm_range_dma_prepare() has prepared; it can be used again
 *
 * Context: Any.
 */
void hmm_range_dma_finish(struct hmm_dma_batch *batch)
{
	hmm_blocks_spare_free(&batch->spare);
}
EXPORT_SYMBOL_GPL(hmm_range_dma_finish);

/**
 * hmm_dma_window_init() - make a window of a process's addresses for a device
 * @window: the window
 * @dev: the device
 * @start: first address, in bytes, page aligned
 * @end: last address (exclusive), in bytes, page aligned
 * @gather: what several windows of the device flush together by
 *	hmm_range_dma_sync(), initialized by iommu_iotlb_gather_init(); NULL: there
 *	is one window. Such windows have one lock.
 *
 * Behind an IOMMU this takes DMA address space as large as the window, congruent to
 * the addresses modulo PUD_SIZE or PMD_SIZE if the window is that large.
 *
 * Context: Process context, may sleep.
 *
 * Return: 0, or a negative error code:
 *
 * * %-EINVAL - The window is empty or not page aligned.
 * * %-ENOSPC - No DMA address space of that size is free, or drivers cannot choose
 *   DMA addresses of this device.
 * * %-EOPNOTSUPP - The device cannot reach all memory, or needs cache maintenance or
 *   bounce buffers, or its IOMMU has larger pages than the CPU.
 */
int hmm_dma_window_init(struct hmm_dma_window *window, struct device *dev,
			unsigned long start, unsigned long end,
			struct iommu_iotlb_gather *gather)
{
	size_t reach;

	if (start >= end || !PAGE_ALIGNED(start | end))
		return -EINVAL;

	/*
	 * Not dev_dma_skip_sync(): that changes for good when a buffer of the
	 * device bounces for the first time. The whole pages of a window do not.
	 */
	if (!dev_is_dma_coherent(dev) || dma_addressing_limited(dev) ||
	    is_swiotlb_force_bounce(dev) ||
	    dma_get_merge_boundary(dev) >= PAGE_SIZE)
		return -EOPNOTSUPP;

	memset(window, 0, sizeof(*window));
	window->dev = dev;
	window->start = start;
	window->end = end;
	iommu_iotlb_gather_init(&window->own);
	window->gather = gather ?: &window->own;
	if (end - start >= PUD_SIZE)
		window->order = PUD_SHIFT - PAGE_SHIFT;
	else if (end - start >= PMD_SIZE)
		window->order = PMD_SHIFT - PAGE_SHIFT;
	window->skew = start & ((PAGE_SIZE << window->order) - 1);
	/* The address is aligned to the size, which is no less than a block's. */
	if (!dma_iova_try_alloc(dev, &window->state, 0,
				window->skew + (end - start))) {
		if (dma_direct_addr(dev, page_to_phys(ZERO_PAGE(0)), PAGE_SIZE,
				    0) == DMA_MAPPING_ERROR) {
			memset(window, 0, sizeof(*window));
			return -ENOSPC;
		}
		window->direct = true;
		/* Nothing is a block, the order is the leaf's. */
		window->order = BITS_PER_LONG;
		/* For most devices that is more than there is memory. */
		reach = min((dma_get_mask(dev) >> 1) + 1, SIZE_MAX);
		if (dma_direct_addr(dev, 0, reach, 0) != DMA_MAPPING_ERROR)
			window->reach = reach;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(hmm_dma_window_init);

/**
 * hmm_dma_window_destroy() - the end of a window
 * @window: the window, with nothing mapped
 *
 * The driver has unmapped all of it before, and after that removed its notifier.
 * Not the other way round: without a notifier pages can be freed while the device
 * still reaches them.
 *
 * Context: Process context, may sleep.
 */
void hmm_dma_window_destroy(struct hmm_dma_window *window)
{
	if (WARN_ON_ONCE(!hmm_blocks_empty(&window->blocks)))
		hmm_range_dma_unmap(window, window->start, window->end);
	if (dma_use_iova(&window->state))
		dma_iova_free(window->dev, &window->state);
}
EXPORT_SYMBOL_GPL(hmm_dma_window_destroy);

/**
 * hmm_dma_check_device() - can a device have windows?
 * @dev: the device
 *
 * Tries a small one, so that a driver can say so before its users rely on it.
 *
 * Context: Process context, may sleep.
 *
 * Return: as for hmm_dma_window_init()
 */
int hmm_dma_check_device(struct device *dev)
{
	struct hmm_dma_window window;
	int ret;

	ret = hmm_dma_window_init(&window, dev, PMD_SIZE, 2 * PMD_SIZE, NULL);
	if (!ret)
		hmm_dma_window_destroy(&window);
	return ret;
}
EXPORT_SYMBOL_GPL(hmm_dma_check_device);
