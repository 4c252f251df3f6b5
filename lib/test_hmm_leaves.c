// SPDX-License-Identifier: GPL-2.0
/*
 * Compare what hmm_range_fault() says with the page table, as a page table walk
 * of this module's own reads it: while nothing else changes the memory
 * (HMM_LEAVES_CHECK), and as a driver among others that do (HMM_LEAVES_RACE).
 *
 * The memory is that of the process that calls. Its test program is
 * tools/testing/selftests/mm/hmm_leaves.c.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/leafops.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>

#include "test_hmm_leaves_uapi.h"

/* Enough for PMD leaves of 512 MiB. */
#define LEAVES_MAX_PAGES	(SZ_4G >> PAGE_SHIFT)
#define LEAVES_MAX_COUNT	1000000
#define LEAVES_MAX_TRIES	1000
#define LEAVES_TIMEOUT		(10 * HMM_RANGE_DEFAULT_TIMEOUT)

/* What hmm_range_fault() carries from input to output. */
#define LEAVES_STICKY	(HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | \
			 HMM_PFN_P2PDMA_BUS)

/* For the test of the test on a kernel before that was changed. */
static bool clean;
module_param(clean, bool, 0444);
MODULE_PARM_DESC(clean, "Expect write access to clean entries as well");

/*
 * What the page table says of [start, end): of a leaf, or of a stretch in which
 * no page is different.
 */
struct leaf {
	unsigned long	start;
	unsigned long	end;
	unsigned long	entry;		/* dense output for @start */
	bool		counts;		/* from page to page, the pfn goes up */
	vm_flags_t	vm_flags;	/* 0: no VMA */
	void		*owner;		/* of device-private memory */
};

/* A driver for one ioctl(). */
struct leaves {
	struct mmu_interval_notifier	notifier;
	struct mutex			mutex;	/* the output is current */
	unsigned int			flags;
	u64				seed;
	u64				random;
	u64				pages;
	u64				retries;
	unsigned long			start;
	unsigned long			npages;
	unsigned long			*pfns;	/* dense output of a range */
	void				*owner;
	struct hmm_leaves_diff		*diff;
	struct hmm_extent		*extents;	/* output as a list */
};

static u64 leaves_hash(u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* A number below @n. */
static unsigned long leaves_random(struct leaves *leaves, unsigned long n)
{
	leaves->random += 0x9e3779b97f4a7c15ULL;
	return leaves_hash(leaves->random) % n;
}

/* A part of the range: mostly a short one, and anywhere. */
static void leaves_random_part(struct leaves *leaves, unsigned long *start,
			       unsigned long *end)
{
	unsigned long most = leaves->npages >> leaves_random(leaves, 10);
	unsigned long n = 1 + leaves_random(leaves, max(most, 1UL));

	*start = leaves->start +
		 leaves_random(leaves, leaves->npages - n + 1) * PAGE_SIZE;
	*end = *start + n * PAGE_SIZE;
}

static int leaves_differ(struct leaves *leaves, enum hmm_leaves_what what,
			 unsigned long addr, unsigned long got,
			 unsigned long want)
{
	leaves->diff->what = what;
	leaves->diff->addr = addr;
	leaves->diff->got = got;
	leaves->diff->want = want;
	return -EUCLEAN;
}

/* ---- the page table ---- */

/* A naturally aligned block around @addr, whose first page is @pfn. */
static void leaf_set(struct leaf *leaf, unsigned long addr, unsigned long size,
		     unsigned long pfn)
{
	leaf->start = ALIGN_DOWN(addr, size);
	leaf->end = leaf->start + size;
	leaf->entry = pfn;
	leaf->counts = true;
}

/* Write access is to what is dirty, too. */
static unsigned long leaf_flags(unsigned long size, bool write, bool dirty)
{
	return HMM_PFN_VALID | (write && (dirty || clean) ? HMM_PFN_WRITE : 0) |
	       (unsigned long)ilog2(size >> PAGE_SHIFT) << HMM_PFN_ORDER_SHIFT;
}

/* What dense output has for @addr, which is in @leaf, but for sticky flags. */
static unsigned long leaf_entry(const struct leaf *leaf, unsigned long addr)
{
	return leaf->entry +
	       (leaf->counts ? (addr - leaf->start) >> PAGE_SHIFT : 0);
}

/*
 * HMM reports an order and a pfn even when nothing is mapped, as the empty entry
 * is there. On powerpc, huge_pte_offset() does not return empty entries, so HMM
 * sees a hole.
 */
static void leaf_set_hugetlb(struct leaf *leaf, unsigned long addr,
			     unsigned long size, pte_t pte)
{
	if (IS_ENABLED(CONFIG_PPC) && pte_none(pte))
		return;
	leaf_set(leaf, addr, size, pte_pfn(pte));
	leaf->entry |= leaf_flags(size, false, false) & ~HMM_PFN_VALID;
	if (pte_present(pte) && !pte_protnone(pte))
		leaf->entry |= leaf_flags(size, pte_write(pte), pte_dirty(pte));
}

static void leaf_set_device_private(struct leaf *leaf, unsigned long addr,
				    unsigned long size, softleaf_t entry,
				    void *owner)
{
	leaf->owner = page_pgmap(softleaf_to_page(entry))->owner;
	if (leaf->owner != owner)
		return;
	leaf_set(leaf, addr, size, softleaf_to_pfn(entry));
	leaf->entry |= leaf_flags(size, softleaf_is_device_private_write(entry),
				  true);
}

static void leaf_set_pte(struct leaf *leaf, unsigned long addr, pte_t pte,
			 void *owner)
{
	if (pte_none(pte))
		return;
	if (!pte_present(pte)) {
		const softleaf_t entry = softleaf_from_pte(pte);

		if (softleaf_is_device_private(entry))
			leaf_set_device_private(leaf, addr, PAGE_SIZE, entry,
						owner);
		return;
	}
	/* Neither I/O memory nor anything else without a struct page. */
	if (pte_special(pte) && !is_zero_pfn(pte_pfn(pte))) {
		leaf->entry = HMM_PFN_ERROR;
		return;
	}
	leaf_set(leaf, addr, PAGE_SIZE, pte_pfn(pte));
	if (!pte_protnone(pte))
		leaf->entry |= leaf_flags(PAGE_SIZE, pte_write(pte),
					  pte_dirty(pte));
}

/* The PMD lock is held: what the PMD points to remains a page table. */
static void leaf_read_pte(struct mm_struct *mm, pmd_t *pmdp, spinlock_t *pml,
			  unsigned long addr, void *owner, struct leaf *leaf)
{
	pte_t *ptep = pte_offset_kernel(pmdp, addr);
	/* As pte_lockptr(), which modules cannot call on powerpc. */
	spinlock_t *ptl = ptep_lockptr(mm, ptep);

	if (ptl != pml)
		spin_lock_nested(ptl, SINGLE_DEPTH_NESTING);
	leaf->end = addr + PAGE_SIZE;
	leaf_set_pte(leaf, addr, ptep_get(ptep), owner);
	if (ptl != pml)
		spin_unlock(ptl);
}

static void leaf_read_pmd(struct vm_area_struct *vma, pmd_t *pmdp,
			  unsigned long addr, void *owner, struct leaf *leaf)
{
	spinlock_t *pml = pmd_lock(vma->vm_mm, pmdp);
	pmd_t pmd = pmdp_get(pmdp);

	leaf->end = pmd_addr_end(addr, vma->vm_end);
	if (is_vm_hugetlb_page(vma)) {
		leaf_set_hugetlb(leaf, addr, PMD_SIZE, ptep_get((pte_t *)pmdp));
	} else if (pmd_none(pmd)) {
		;
	} else if (!pmd_present(pmd)) {
		const softleaf_t entry = softleaf_from_pmd(pmd);

		if (!softleaf_is_migration(entry))
			leaf->entry = HMM_PFN_ERROR;
		if (softleaf_is_device_private(entry))
			leaf_set_device_private(leaf, addr, PMD_SIZE, entry,
						owner);
	} else if (pmd_trans_huge(pmd)) {
		leaf_set(leaf, addr, PMD_SIZE, pmd_pfn(pmd));
		if (!pmd_protnone(pmd))
			leaf->entry |= leaf_flags(PMD_SIZE, pmd_write(pmd),
						  pmd_dirty(pmd));
	} else if (pmd_bad(pmd)) {
		leaf->entry = HMM_PFN_ERROR;
	} else {
		leaf_read_pte(vma->vm_mm, pmdp, pml, addr, owner, leaf);
	}
	spin_unlock(pml);
}

/* Is there a PMD table below? If not, @leaf has it. */
static bool leaf_read_pud(struct vm_area_struct *vma, pud_t *pudp,
			  unsigned long addr, struct leaf *leaf)
{
	spinlock_t *ptl = pud_lock(vma->vm_mm, pudp);
	pud_t pud = pudp_get(pudp);
	bool table = false;

	leaf->end = pud_addr_end(addr, vma->vm_end);
	if (is_vm_hugetlb_page(vma) &&
	    huge_page_size(hstate_vma(vma)) == PUD_SIZE) {
		leaf_set_hugetlb(leaf, addr, PUD_SIZE, ptep_get((pte_t *)pudp));
	} else if (pud_present(pud) && pud_leaf(pud)) {
		const pte_t pte = ptep_get((pte_t *)pudp);

		/* Not every architecture has pud_dirty(). */
		leaf_set(leaf, addr, PUD_SIZE, pud_pfn(pud));
		leaf->entry |= leaf_flags(PUD_SIZE, pte_write(pte),
					  pte_dirty(pte));
	} else {
		table = pud_present(pud);
	}
	spin_unlock(ptl);
	return table;
}

/* Is there no way for hmm_range_fault() to tell anything of such a VMA? */
static bool leaf_error(const struct leaf *leaf)
{
	return !(leaf->vm_flags & VM_READ) ||
	       leaf->vm_flags & (VM_IO | VM_PFNMAP);
}

/*
 * Look @addr up in the page table, with the mmap lock held: then no table above
 * a VMA goes away but for those of PTEs. Where there is no VMA any of them can:
 * munmap() frees tables with the lock held for reading only.
 */
static void leaf_read(struct mm_struct *mm, unsigned long addr, void *owner,
		      struct leaf *leaf)
{
	struct vm_area_struct *vma = find_vma(mm, addr);
	pgd_t *pgdp;
	p4d_t *p4dp;
	pud_t *pudp;

	*leaf = (struct leaf) { .start = addr, .entry = HMM_PFN_ERROR };
	if (!vma || vma->vm_start > addr) {
		leaf->end = vma ? vma->vm_start : TASK_SIZE;
		return;
	}
	leaf->vm_flags = vma->vm_flags;
	leaf->end = vma->vm_end;
	if (leaf_error(leaf))
		return;

	leaf->entry = 0;
	leaf->end = pgd_addr_end(addr, vma->vm_end);
	pgdp = pgd_offset(mm, addr);
	if (pgd_none(pgdp_get(pgdp)))
		return;
	leaf->end = p4d_addr_end(addr, vma->vm_end);
	p4dp = p4d_offset(pgdp, addr);
	if (p4d_none(p4dp_get(p4dp)))
		return;
	pudp = pud_offset(p4dp, addr);
	if (leaf_read_pud(vma, pudp, addr, leaf))
		leaf_read_pmd(vma, pmd_offset(pudp, addr), addr, owner, leaf);
}

/* ---- the driver ---- */

static bool leaves_invalidate(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range,
			      unsigned long cur_seq)
{
	struct leaves *leaves = container_of(notifier, struct leaves, notifier);

	if (leaves->flags & HMM_LEAVES_NO_INVALIDATE)
		return true;
	if (mmu_notifier_range_blockable(range))
		mutex_lock(&leaves->mutex);
	else if (!mutex_trylock(&leaves->mutex))
		return false;
	mmu_interval_set_seq(notifier, cur_seq);
	mutex_unlock(&leaves->mutex);
	return true;
}

static const struct mmu_interval_notifier_ops leaves_ops = {
	.invalidate = leaves_invalidate,
};

static bool leaves_bad_range(unsigned long long addr, unsigned long long npages)
{
	return !npages || npages > LEAVES_MAX_PAGES ||
	       !PAGE_ALIGNED(addr) || addr >= TASK_SIZE ||
	       npages << PAGE_SHIFT > TASK_SIZE - addr;
}

/* Mirror @leaves->npages from @leaves->start on. */
static int leaves_init(struct leaves *leaves)
{
	unsigned long start = leaves->start;
	unsigned long size = leaves->npages << PAGE_SHIFT;
	int ret;

	mutex_init(&leaves->mutex);
	leaves->random = leaves->seed;
	leaves->pfns = kvcalloc(leaves->npages, sizeof(*leaves->pfns),
				GFP_KERNEL);
	if (!leaves->pfns)
		return -ENOMEM;
	ret = mmu_interval_notifier_insert(&leaves->notifier, current->mm,
					   start, size, &leaves_ops);
	if (ret)
		kvfree(leaves->pfns);
	return ret;
}

static void leaves_fini(struct leaves *leaves)
{
	mmu_interval_notifier_remove(&leaves->notifier);
	kvfree(leaves->pfns);
}

static unsigned long leaves_request(unsigned int flags)
{
	if (flags & HMM_LEAVES_WRITE)
		return HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;
	return flags & HMM_LEAVES_READ ? HMM_PFN_REQ_FAULT : 0;
}

/* Both ways there are for a driver. */
static int leaves_fault(struct hmm_range *range, bool unlocked)
{
	struct mm_struct *mm = range->notifier->mm;
	int ret;

	if (unlocked)
		return hmm_range_fault_unlocked_timeout(range,
				msecs_to_jiffies(LEAVES_TIMEOUT));

	range->notifier_seq = mmu_interval_read_begin(range->notifier);
	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	ret = hmm_range_fault(range);
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Stop all that would invalidate. The mmap lock is only for the walk through the
 * page table. It comes first: invalidate() may be called with it.
 *
 * Returns a negative error code or, with both locks held, whether the output is
 * still current.
 */
static int leaves_lock(struct leaves *leaves, const struct hmm_range *range)
{
	int ret = mmap_read_lock_killable(leaves->notifier.mm);

	if (ret)
		return ret;
	mutex_lock(&leaves->mutex);
	return !mmu_interval_read_retry(range->notifier, range->notifier_seq);
}

static void leaves_unlock(struct leaves *leaves)
{
	mutex_unlock(&leaves->mutex);
	mmap_read_unlock(leaves->notifier.mm);
}

/* ---- HMM_LEAVES_CHECK ---- */

/* Input that must not matter, but for the sticky flags of dense output. */
static unsigned long leaves_garbage(struct leaves *leaves, unsigned long addr)
{
	return leaves_hash(leaves->seed ^ addr);
}

/*
 * Before a call: find out whose device-private memory there is, and which error
 * the VMAs call for.
 */
static int leaves_expect(struct leaves *leaves, unsigned long start,
			 unsigned long end)
{
	struct mm_struct *mm = leaves->notifier.mm;
	unsigned long request = leaves_request(leaves->flags);
	struct leaf leaf;
	int ret = 0;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	for (; start < end; start = leaf.end) {
		leaf_read(mm, start, NULL, &leaf);
		if (!leaves->owner && !(leaves->flags & HMM_LEAVES_NO_OWNER))
			leaves->owner = leaf.owner;
		/* The owner's device-private memory is never faulted in. */
		if (ret || !request ||
		    (leaf.owner && leaf.owner == leaves->owner))
			continue;
		if (leaf_error(&leaf))
			ret = -EFAULT;
		else if (request & HMM_PFN_REQ_WRITE &&
			 !(leaf.vm_flags & VM_WRITE))
			ret = -EPERM;
	}
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Pages that asked for something by themselves have got it. hugetlb only looks
 * at what the first of a leaf's pages asks for, and the owner's device-private
 * memory is given as it is, even read-only to who wants to write.
 */
static int leaves_compare_request(struct leaves *leaves, unsigned long addr,
				  const struct leaf *leaf, unsigned long got)
{
	unsigned long request = leaves_request(leaves->flags) &
				leaves_garbage(leaves, addr);

	if (!(leaves->flags & HMM_LEAVES_PER_PAGE) ||
	    leaf->vm_flags & VM_HUGETLB || !(request & HMM_PFN_REQ_FAULT))
		return 0;
	if (leaf->owner && leaf->owner == leaves->owner)
		request = HMM_PFN_REQ_FAULT;
	if ((got & request) != request)
		return leaves_differ(leaves, HMM_LEAVES_REQUEST, addr, got,
				     request);
	return 0;
}

/*
 * A fault can map pages around the one that it is for, also pages that the walk
 * has already passed: it did not ask for these, and reported them as missing.
 * Nothing is invalidated for that.
 */
static bool leaves_appeared(struct leaves *leaves, unsigned long addr,
			    unsigned long got, unsigned long want)
{
	return leaves->flags & HMM_LEAVES_PER_PAGE &&
	       !(leaves_request(leaves->flags) & HMM_PFN_REQ_FAULT &
		 leaves_garbage(leaves, addr)) &&
	       !(got & (HMM_PFN_VALID | HMM_PFN_ERROR)) && want & HMM_PFN_VALID;
}

/*
 * Compare the output with the page table, bit for bit. With @may_appear, -EBUSY
 * is for a page that may have appeared during the call.
 */
static int leaves_compare(struct leaves *leaves, unsigned long start,
			  unsigned long end, bool may_appear)
{
	const unsigned long *pfns = leaves->pfns;
	unsigned long addr = start;
	struct leaf leaf;
	int ret;

	while (addr < end) {
		leaf_read(leaves->notifier.mm, addr, leaves->owner, &leaf);
		for (; addr < min(leaf.end, end); addr += PAGE_SIZE, pfns++) {
			unsigned long want = leaf_entry(&leaf, addr);

			want |= leaves_garbage(leaves, addr) & LEAVES_STICKY;
			if (*pfns != want && may_appear &&
			    leaves_appeared(leaves, addr, *pfns, want))
				return -EBUSY;
			if (*pfns != want)
				return leaves_differ(leaves, HMM_LEAVES_ENTRY,
						     addr, *pfns, want);
			ret = leaves_compare_request(leaves, addr, &leaf,
						     *pfns);
			if (ret)
				return ret;
		}
	}
	leaves->pages += (end - start) >> PAGE_SHIFT;
	return 0;
}

/* Other errors are hmm_range_fault()'s, which may be right to fail. */
static bool leaves_check_over(int ret)
{
	return ret == -EUCLEAN || ret == -EINTR || ret == -EAGAIN;
}

/* One call for dense output; returns what hmm_range_fault() did, or -EUCLEAN */
static int leaves_check_dense(struct leaves *leaves, unsigned long start,
			      unsigned long end)
{
	struct hmm_range range = {
		.notifier = &leaves->notifier,
		.start = start,
		.end = end,
		.hmm_pfns = leaves->pfns,
	};
	int expected = leaves_expect(leaves, start, end);
	unsigned long appeared = 0;	/* the sequence of that call; never 0 */
	unsigned int tries;
	int ret, valid;

	range.dev_private_owner = leaves->owner;
	if (leaves->flags & HMM_LEAVES_PER_PAGE)
		range.pfn_flags_mask = leaves_request(leaves->flags);
	else
		range.default_flags = leaves_request(leaves->flags);

	for (tries = 0; tries < LEAVES_MAX_TRIES; tries++) {
		unsigned long i, n = (end - start) >> PAGE_SHIFT;

		if (fatal_signal_pending(current))
			return -EINTR;
		for (i = 0; i < n; i++)
			leaves->pfns[i] = leaves_garbage(leaves, start +
							 i * PAGE_SIZE);
		ret = leaves_fault(&range, leaves_random(leaves, 2));
		if (ret == -EBUSY) {
			leaves->retries++;
			continue;
		}
		if (!range.pfn_flags_mask && expected && ret != expected)
			return leaves_differ(leaves, HMM_LEAVES_ERROR, start,
					     ret, expected);
		if (ret)
			return ret;

		valid = leaves_lock(leaves, &range);
		if (valid < 0)
			return valid;
		/*
		 * All that was asked for is there, so the next call makes no fault
		 * and must see everything, unless memory is invalidated.
		 */
		if (valid)
			ret = leaves_compare(leaves, start, end,
					     appeared != range.notifier_seq);
		leaves_unlock(leaves);
		if (valid) {
			if (ret != -EBUSY)
				return ret;
			appeared = range.notifier_seq;
		}
		leaves->retries++;
	}
	return -EAGAIN;
}

/* What a list can say of an entry of dense output. */
static unsigned long list_comparable(unsigned long pfn)
{
	if (pfn & HMM_PFN_VALID)
		return pfn & ~LEAVES_STICKY;
	return pfn & (HMM_PFN_ERROR | HMM_PFN_WRITE);
}

/* Is @leaves->pfns what the page table and dense output say? */
static int leaves_compare_dense(struct leaves *leaves, unsigned long start,
				unsigned long end, const unsigned long *dense)
{
	unsigned long addr = start, i = 0;
	struct leaf leaf;

	while (addr < end) {
		leaf_read(leaves->notifier.mm, addr, leaves->owner, &leaf);
		for (; addr < min(leaf.end, end); addr += PAGE_SIZE, i++) {
			unsigned long got = leaves->pfns[i];
			unsigned long want = leaf_entry(&leaf, addr);

			want = list_comparable(want);
			if (got != want)
				return leaves_differ(leaves, HMM_LEAVES_ENTRY,
						     addr, got, want);
			want = list_comparable(dense[i]);
			if (got != want)
				return leaves_differ(leaves, HMM_LEAVES_DENSE,
						     addr, got, want);
		}
	}
	leaves->pages += i;
	return 0;
}

/* After a call for other output: dense output of the same. */
static int leaves_snapshot(const struct hmm_range *range, unsigned long *dense)
{
	struct mm_struct *mm = range->notifier->mm;
	struct hmm_range snapshot = *range;
	int ret;

	snapshot.extents = NULL;
	snapshot.default_flags = 0;
	snapshot.hmm_pfns = dense;
	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	ret = hmm_range_fault(&snapshot);
	mmap_read_unlock(mm);
	return ret;
}

/* ---- HMM_LEAVES_CHECK and RACE of output as a list ---- */

/* Room for a random number of extents, often for very few, and one that guards. */
static void list_prepare(struct leaves *leaves, struct hmm_range *range)
{
	unsigned long npages = (range->end - range->start) >> PAGE_SHIFT;
	unsigned long most = max(npages >> leaves_random(leaves, 20), 1UL);

	range->extents = leaves->extents;
	range->max_extents = 1 + leaves_random(leaves, most);
	range->nr_extents = 0;
	memset(leaves->extents, 0xa5,
	       (range->max_extents + 1) * sizeof(*leaves->extents));
}

static bool list_could_join(const struct hmm_extent *a,
			    const struct hmm_extent *b)
{
	if (hmm_extent_entry(a, b->start) != b->hmm_pfn)
		return false;
	return !(b->hmm_pfn & HMM_PFN_VALID) ||
	       zone_device_pages_have_same_pgmap(hmm_pfn_to_page(a->hmm_pfn),
						 hmm_pfn_to_page(b->hmm_pfn));
}

/* All of an extent is one kind of memory. */
static bool list_one_kind(const struct hmm_extent *extent)
{
	struct page *first = hmm_pfn_to_page(extent->hmm_pfn);
	unsigned long addr;

	if (!(extent->hmm_pfn & HMM_PFN_VALID))
		return true;
	for (addr = extent->start; addr < extent->end;
	     addr = ALIGN(addr + 1, SUBSECTION_SIZE)) {
		unsigned long entry = hmm_extent_entry(extent, addr);

		if (!zone_device_pages_have_same_pgmap(first,
						       hmm_pfn_to_page(entry)))
			return false;
	}
	return true;
}

/* The list by itself, before the range is known to be current. */
static int list_check_extents(struct leaves *leaves,
			      const struct hmm_range *range, int ret)
{
	const struct hmm_extent *extent = range->extents;
	const u8 *guard = (const u8 *)(extent + range->max_extents);
	unsigned long addr = range->start;
	unsigned int i;

	if (!ret != !!range->nr_extents ||
	    range->nr_extents > range->max_extents)
		return leaves_differ(leaves, HMM_LEAVES_EXTENTS, addr,
				     range->nr_extents, range->max_extents);
	if (memchr_inv(guard, 0xa5, sizeof(*extent)))
		return leaves_differ(leaves, HMM_LEAVES_EXTENTS, addr,
				     range->nr_extents, range->max_extents);
	for (i = 0; i < range->nr_extents; i++, extent++) {
		if (extent->start != addr || extent->end <= addr ||
		    extent->end > range->end ||
		    (i && list_could_join(extent - 1, extent)))
			return leaves_differ(leaves, HMM_LEAVES_EXTENTS, addr,
					     extent->start, extent->end);
		addr = extent->end;
	}
	return 0;
}

/* Write what the list says of each page to @leaves->pfns; returns where it ends. */
static unsigned long list_expand(struct leaves *leaves,
				 const struct hmm_range *range)
{
	unsigned long addr = range->start, *out = leaves->pfns;
	unsigned int i;

	for (i = 0; i < range->nr_extents; i++)
		for (; addr < range->extents[i].end; addr += PAGE_SIZE)
			*out++ = hmm_extent_entry(&range->extents[i], addr);
	return addr;
}

/* All of a range, list by list. */
static int list_check_range(struct leaves *leaves, unsigned long start,
			    unsigned long end, unsigned long *dense)
{
	struct hmm_range range = {
		.notifier = &leaves->notifier,
		.default_flags = leaves_request(leaves->flags),
	};
	unsigned int tries = 0;
	int ret, err, expected;
	unsigned int i;

	expected = leaves_expect(leaves, start, end);
	range.dev_private_owner = leaves->owner;
	while (start < end) {
		if (fatal_signal_pending(current))
			return -EINTR;
		range.start = start;
		range.end = end;
		list_prepare(leaves, &range);
		ret = leaves_fault(&range, leaves_random(leaves, 2));
		err = list_check_extents(leaves, &range, ret);
		if (err)
			return err;
		if (!ret) {
			/* Only what cannot be had ends it before it is full. */
			range.end = list_expand(leaves, &range);
			if (range.end < end && !expected &&
			    range.nr_extents < range.max_extents)
				return leaves_differ(leaves, HMM_LEAVES_EXTENTS,
						     range.end,
						     range.nr_extents,
						     range.max_extents);
			ret = leaves_snapshot(&range, dense);
		} else if (ret != -EBUSY) {
			err = leaves_expect(leaves, start, start + PAGE_SIZE);
			if (ret != err)
				return leaves_differ(leaves, HMM_LEAVES_ERROR,
						     start, ret, err);
			return ret;
		}
		if (!ret) {
			err = leaves_lock(leaves, &range);
			if (err < 0)
				return err;
			if (err)
				ret = leaves_compare_dense(leaves, start,
							   range.end, dense);
			for (i = 0; err && !ret && i < range.nr_extents; i++)
				if (!list_one_kind(&range.extents[i]))
					ret = leaves_differ(leaves,
							    HMM_LEAVES_EXTENTS,
							    range.extents[i].start,
							    range.extents[i].hmm_pfn,
							    0);
			leaves_unlock(leaves);
			if (ret)
				return ret;
			if (err) {
				start = range.end;
				tries = 0;
				continue;
			}
			ret = -EBUSY;
		}
		if (ret != -EBUSY)
			return ret;
		leaves->retries++;
		if (++tries == LEAVES_MAX_TRIES)
			return -EAGAIN;
	}
	if (expected)
		return leaves_differ(leaves, HMM_LEAVES_ERROR, start, 0,
				     expected);
	return 0;
}

/* Arguments that hmm_range_fault() has to refuse. */
static int list_check_einval(struct leaves *leaves)
{
	const struct {
		unsigned long npages, mask;
		unsigned int max;
	} bad[] = {
		{ leaves->npages, 0, 0 },
		{ 0, 0, 1 },
		{ leaves->npages, HMM_PFN_REQ_FAULT, 1 },
		{ leaves->npages, HMM_PFN_DMA_MAPPED, 1 },
	};
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct hmm_range range = {
			.notifier = &leaves->notifier,
			.start = leaves->start,
			.end = leaves->start + bad[i].npages * PAGE_SIZE,
			.pfn_flags_mask = bad[i].mask,
			.extents = leaves->extents,
			.max_extents = bad[i].max,
		};

		ret = leaves_fault(&range, i % 2);
		if (ret != -EINVAL)
			return leaves_differ(leaves, HMM_LEAVES_EINVAL,
					     range.start, ret, -EINVAL);
	}
	return 0;
}

static int list_check(struct leaves *leaves, unsigned int count)
{
	const unsigned long end = leaves->start +
				  (leaves->npages << PAGE_SHIFT);
	unsigned long *dense;
	int ret;

	dense = kvcalloc(leaves->npages, sizeof(*dense), GFP_KERNEL);
	leaves->extents = kvcalloc(leaves->npages + 1, sizeof(*leaves->extents),
				   GFP_KERNEL);
	ret = dense && leaves->extents ? leaves_init(leaves) : -ENOMEM;
	if (ret)
		goto out;
	ret = list_check_einval(leaves);
	while (!leaves_check_over(ret) && count--) {
		unsigned long part, part_end;

		leaves_random_part(leaves, &part, &part_end);
		ret = list_check_range(leaves, part, part_end, dense);
		cond_resched();
	}
	if (!leaves_check_over(ret))
		ret = list_check_range(leaves, leaves->start, end, dense);
	leaves_fini(leaves);
out:
	kvfree(leaves->extents);
	kvfree(dense);
	return ret;
}

static int leaves_check_calls(struct leaves *leaves, unsigned int count)
{
	int ret = 0;

	while (!leaves_check_over(ret) && count--) {
		unsigned long part, end;

		leaves_random_part(leaves, &part, &end);
		ret = leaves_check_dense(leaves, part, end);
		cond_resched();
	}
	if (leaves_check_over(ret))
		return ret;
	return leaves_check_dense(leaves, leaves->start, leaves->start +
				  (leaves->npages << PAGE_SHIFT));
}

static int leaves_check(struct hmm_leaves_check *cmd)
{
	const unsigned int flags = HMM_LEAVES_READ | HMM_LEAVES_WRITE |
				   HMM_LEAVES_NO_OWNER | HMM_LEAVES_PER_PAGE |
				   HMM_LEAVES_LIST;
	struct leaves leaves = {
		.flags = cmd->flags,
		.seed = cmd->seed,
		.start = cmd->addr,
		.npages = cmd->npages,
		.diff = &cmd->diff,
	};
	int ret;

	memset(&cmd->diff, 0, sizeof(cmd->diff));
	if (leaves_bad_range(cmd->addr, cmd->npages) || cmd->flags & ~flags ||
	    cmd->count > LEAVES_MAX_COUNT || cmd->reserved)
		return -EINVAL;
	if (cmd->flags & HMM_LEAVES_LIST) {
		if (cmd->flags & HMM_LEAVES_PER_PAGE)
			return -EINVAL;
		ret = list_check(&leaves, cmd->count);
		goto out;
	}
	ret = leaves_init(&leaves);
	if (ret)
		return ret;
	ret = leaves_check_calls(&leaves, cmd->count);
	leaves_fini(&leaves);
out:
	cmd->pages = leaves.pages;
	cmd->retries = leaves.retries;
	cmd->error = 0;
	/* That a range fault fails can be right. */
	if (ret == -EFAULT || ret == -EPERM) {
		cmd->error = ret;
		ret = 0;
	}
	return ret;
}

/* ---- HMM_LEAVES_RACE ---- */

/* Success means that all that was asked for is there. */
static int leaves_race_request(struct leaves *leaves,
			       const struct hmm_range *range,
			       const unsigned long *pfns)
{
	unsigned long addr;

	for (addr = range->start; addr < range->end; addr += PAGE_SIZE, pfns++)
		if ((*pfns & range->default_flags) != range->default_flags)
			return leaves_differ(leaves, HMM_LEAVES_REQUEST, addr,
					     *pfns, range->default_flags);
	return 0;
}

/*
 * The output is current, says mmu_interval_read_retry(), and invalidate() waits:
 * what the device would use is in the page table, and as large, and as writable
 * at least. Pages that are missing in the output can have appeared since.
 *
 * munmap() makes do with the mmap lock for reading between the removal of a VMA
 * and invalidate(). Unless that has @finished, -EAGAIN is for no VMA.
 */
static int leaves_race_compare(struct leaves *leaves,
			       const struct hmm_range *range,
			       const unsigned long *pfns, bool finished)
{
	unsigned long addr = range->start;
	struct leaf leaf;

	while (addr < range->end) {
		leaf_read(range->notifier->mm, addr, NULL, &leaf);
		for (; addr < min(leaf.end, range->end);
		     addr += PAGE_SIZE, pfns++) {
			unsigned long live = leaf_entry(&leaf, addr);
			unsigned long got = *pfns;

			if (!(got & HMM_PFN_VALID))
				continue;
			if (!leaf.vm_flags && !finished)
				return -EAGAIN;
			if (!(live & HMM_PFN_VALID) ||
			    (got ^ live) & ~HMM_PFN_FLAGS ||
			    (got & HMM_PFN_WRITE && !(live & HMM_PFN_WRITE)) ||
			    hmm_pfn_to_map_order(got) >
			    hmm_pfn_to_map_order(live))
				return leaves_differ(leaves, HMM_LEAVES_ENTRY,
						     addr, got, live);
		}
	}
	leaves->pages += (range->end - range->start) >> PAGE_SHIFT;
	return 0;
}

/* Time for others to change what the output says. */
static void leaves_race_pause(struct leaves *leaves)
{
	cond_resched();
	switch (leaves_random(leaves, 4)) {
	case 0:
		udelay(leaves_random(leaves, 50));
		break;
	case 1:
		usleep_range(10, 200);
		break;
	}
}

static int leaves_race_once(struct leaves *leaves, struct hmm_leaves_race *cmd)
{
	struct hmm_range range = {
		.notifier = &leaves->notifier,
		.hmm_pfns = leaves->pfns,
	};
	/* A snapshot is rare: it changes nothing. */
	static const unsigned int requests[] = {
		HMM_LEAVES_READ, HMM_LEAVES_WRITE, HMM_LEAVES_READ,
		HMM_LEAVES_WRITE, HMM_LEAVES_READ, HMM_LEAVES_WRITE,
		HMM_LEAVES_WRITE, 0,
	};
	unsigned long i = leaves_random(leaves, ARRAY_SIZE(requests));
	int ret, valid;
	int err;

	range.default_flags = leaves_request(requests[i]);
	leaves_random_part(leaves, &range.start, &range.end);
	if (leaves->extents && cmd->faults % 2)
		list_prepare(leaves, &range);
	ret = leaves_fault(&range, leaves_random(leaves, 2));
	if (ret == -EINTR)
		return ret;
	cmd->faults++;
	if (range.extents) {
		err = list_check_extents(leaves, &range, ret);
		if (err)
			return err;
		range.end = list_expand(leaves, &range);
	}
	switch (ret) {
	case 0:
		break;
	case -EFAULT:
	case -EPERM:
	case -EBUSY:
	case -ENOMEM:
		cmd->errors++;
		return 0;
	default:
		return ret;
	}
	ret = leaves_race_request(leaves, &range, leaves->pfns);
	if (ret)
		return ret;

	leaves_race_pause(leaves);
	valid = leaves_lock(leaves, &range);
	if (valid < 0)
		return valid;
	valid |= !!(leaves->flags & HMM_LEAVES_NO_RETRY);
	if (valid)
		ret = leaves_race_compare(leaves, &range, leaves->pfns, false);
	leaves_unlock(leaves);

	if (ret == -EAGAIN) {
		if (mmap_write_lock_killable(range.notifier->mm))
			return -EINTR;
		mutex_lock(&leaves->mutex);
		valid = leaves->flags & HMM_LEAVES_NO_RETRY ||
			!mmu_interval_read_retry(range.notifier,
						 range.notifier_seq);
		ret = 0;
		if (valid)
			ret = leaves_race_compare(leaves, &range, leaves->pfns,
						  true);
		mutex_unlock(&leaves->mutex);
		mmap_write_unlock(range.notifier->mm);
	}
	if (valid)
		cmd->checked++;
	else
		cmd->retries++;
	return ret;
}

static int leaves_race(struct hmm_leaves_race *cmd)
{
	const unsigned int flags = HMM_LEAVES_NO_RETRY |
				   HMM_LEAVES_LIST |
				   HMM_LEAVES_NO_INVALIDATE;
	struct leaves leaves = {
		.flags = cmd->flags,
		.seed = cmd->seed,
		.start = cmd->addr,
		.npages = cmd->npages,
		.diff = &cmd->diff,
	};
	int ret;

	memset(&cmd->diff, 0, sizeof(cmd->diff));
	cmd->faults = 0;
	cmd->checked = 0;
	cmd->retries = 0;
	cmd->errors = 0;
	if (leaves_bad_range(cmd->addr, cmd->npages) || cmd->flags & ~flags ||
	    !cmd->count || cmd->count > LEAVES_MAX_COUNT)
		return -EINVAL;
	if (cmd->flags & HMM_LEAVES_LIST) {
		leaves.extents = kvcalloc(leaves.npages + 1,
					  sizeof(*leaves.extents), GFP_KERNEL);
		if (!leaves.extents)
			return -ENOMEM;
	}
	ret = leaves_init(&leaves);
	if (ret)
		goto out;
	while (!ret && cmd->faults < cmd->count) {
		if (fatal_signal_pending(current))
			ret = -EINTR;
		else
			ret = leaves_race_once(&leaves, cmd);
	}
	leaves_fini(&leaves);
out:
	kvfree(leaves.extents);
	cmd->pages = leaves.pages;
	return ret;
}

/* ---- /dev/hmm_leaves ---- */

static long leaves_ioctl(struct file *file, unsigned int command,
			 unsigned long arg)
{
	void __user *user = (void __user *)arg;
	union {
		struct hmm_leaves_check check;
		struct hmm_leaves_race race;
	} cmd;
	const size_t size = _IOC_SIZE(command);
	int ret;

	if (command != HMM_LEAVES_CHECK && command != HMM_LEAVES_RACE)
		return -ENOTTY;
	if (copy_from_user(&cmd, user, size))
		return -EFAULT;
	if (command == HMM_LEAVES_CHECK)
		ret = leaves_check(&cmd.check);
	else
		ret = leaves_race(&cmd.race);
	if (copy_to_user(user, &cmd, size))
		return -EFAULT;
	return ret;
}

static const struct file_operations leaves_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= leaves_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice leaves_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "hmm_leaves",
	.fops	= &leaves_fops,
};
module_misc_device(leaves_device);

MODULE_DESCRIPTION("Test of hmm_range_fault() against the page table");
MODULE_LICENSE("GPL");
