/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MM_HMM_BLOCKS_H
#define _MM_HMM_BLOCKS_H

#include <linux/hmm-dma.h>

/**
 * DOC: blocks
 *
 * Which pages of an address space are in use, and in which blocks: naturally
 * aligned groups of 2^order pages that are only taken back whole. It is data and
 * nothing else, so that KUnit can test it without a device.
 *
 * A node has four bits for each of 512 units. On the lowest level a unit is a
 * page, on each further one it is what a node below spans: with pages of 4 KiB and
 * page tables of 512 entries that is 2 MiB and 1 GiB, and so a PUD leaf is one
 * unit, as is a PMD leaf, or a page. A block of another order is several units of
 * the level below.
 *
 * Nodes are allocated before they are needed, by hmm_blocks_spare_fill(), and freed as
 * soon as nothing in them is in use. All numbers are pages.
 *
 * Context: Any; the caller has a lock for whatever changes.
 */
#define HMM_BLOCKS_SHIFT	9
#define HMM_BLOCKS_UNITS	BIT(HMM_BLOCKS_SHIFT)

bool hmm_blocks_empty(const struct hmm_blocks *blocks);
unsigned long hmm_blocks_count_nodes(unsigned long start, unsigned long end,
				     unsigned int order,
				     unsigned long counted[HMM_BLOCKS_LEVELS]);
int hmm_blocks_spare_fill(struct hmm_blocks_spare *spare, unsigned long nr);
void hmm_blocks_spare_free(struct hmm_blocks_spare *spare);

int hmm_blocks_claim(struct hmm_blocks *blocks, unsigned long start,
		     unsigned long end, unsigned int order, bool write,
		     struct hmm_blocks_spare *spare, unsigned long *first,
		     unsigned long *last);
void hmm_blocks_commit(struct hmm_blocks *blocks, unsigned long start,
		       unsigned long end);
bool hmm_blocks_missing(struct hmm_blocks *blocks, unsigned long start,
			unsigned long end, unsigned int order, bool write,
			unsigned long *first, unsigned long *last);
bool hmm_blocks_used(const struct hmm_blocks *blocks, unsigned long start,
		     unsigned long end);
void hmm_blocks_widen(struct hmm_blocks *blocks, unsigned long *start,
		      unsigned long *end);
void hmm_blocks_clear(struct hmm_blocks *blocks, unsigned long start,
		      unsigned long end, bool fresh,
		      void (*gone)(unsigned long start, unsigned long end,
				   void *data), void *data);

#endif /* _MM_HMM_BLOCKS_H */
