// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of mshv's memory regions (drivers/hv/mshv_regions.c) without a
 * hypervisor: the hypercalls fill a guest's page table, which is then compared with
 * what the process has at the same place.
 */
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/hyperv.h>
#include <linux/mm.h>
#include <linux/shmem_fs.h>
#include <linux/vmalloc.h>

#include <asm/mshyperv.h>

#include "mshv_root.h"

static int mock_range_fault(struct hmm_range *range, unsigned long timeout);
static int mock_notifier_insert(struct mmu_interval_notifier *mni,
				struct mm_struct *mm, unsigned long start,
				unsigned long length,
				const struct mmu_interval_notifier_ops *ops);
static void mock_notifier_remove(struct mmu_interval_notifier *mni);
static bool mock_warn(bool warn);

#define hmm_range_fault_unlocked_timeout mock_range_fault
#define mmu_interval_notifier_insert mock_notifier_insert
#define mmu_interval_notifier_remove mock_notifier_remove
#undef WARN_ONCE
#define WARN_ONCE(condition, ...) mock_warn(condition)

#include "mshv_regions.c"

#undef hmm_range_fault_unlocked_timeout
#undef mmu_interval_notifier_insert
#undef mmu_interval_notifier_remove

#include "mocks.h"
#include "mapping.h"

/* Everything is mapped there, aligned to any leaf. */
#define ADDR	SZ_16G
#define GFN	0x100000ULL
#define RW	(PROT_READ | PROT_WRITE)

#define CHUNK	MSHV_MAP_FAULT_IN_PAGES
#define NR	(2 * CHUNK)

/* What the hypervisor has for a page of the guest. */
struct guest_page {
	unsigned long pfn;	/* 0 for none */
	u32 flags;
};

static struct mshv_test {
	struct mshv_partition partition;
	struct mshv_mem_region *region;
	struct guest_page guest[NR];
	unsigned int warnings;
	unsigned int large;	/* how often 2 MiB were mapped at once */
	int hypercall_error;	/* of the next one that maps */
	int fault_error;	/* of the next range fault */
	unsigned int faults;
	unsigned long zap;	/* unmapped by the process after the next one */
	bool locked_in_insert, mapped_at_remove;
	struct kunit *test;
} t;

static bool mock_warn(bool warn)
{
	t.warnings += warn;
	return warn;
}

static int mock_range_fault(struct hmm_range *range, unsigned long timeout)
{
	int ret = t.fault_error;
	unsigned long zap = t.zap;

	t.faults++;
	t.fault_error = 0;
	t.zap = 0;
	if (!ret)
		ret = hmm_range_fault_unlocked_timeout(range, timeout);
	if (zap)
		KUNIT_EXPECT_EQ(t.test, 0, vm_munmap(zap, PAGE_SIZE));
	return ret;
}

static int mock_notifier_insert(struct mmu_interval_notifier *mni,
				struct mm_struct *mm, unsigned long start,
				unsigned long length,
				const struct mmu_interval_notifier_ops *ops)
{
	struct mshv_mem_region *region =
		container_of(mni, struct mshv_mem_region, mreg_mni);

	int ret = mmu_interval_notifier_insert(mni, mm, start, length, ops);

	/* An invalidation as soon as the notifier is there. */
	if (t.locked_in_insert)
		mutex_lock(&region->mreg_mutex);
	return ret;
}

static void mock_notifier_remove(struct mmu_interval_notifier *mni)
{
	int i;

	for (i = 0; i < NR; i++)
		t.mapped_at_remove |= t.guest[i].pfn;
	mmu_interval_notifier_remove(mni);
}

static struct guest_page *guest_pages(u64 gfn, u64 count)
{
	if (gfn < GFN || gfn + count > GFN + NR) {
		KUNIT_FAIL(t.test, "hypercall for gfn %#llx, %llu pages", gfn, count);
		return NULL;
	}
	return t.guest + (gfn - GFN);
}

/* The hypervisor takes or gives back 2 MiB at once only where it has 2 MiB. */
static bool large_ok(struct guest_page *guest, u64 gfn, u64 count)
{
	u64 i;

	for (i = 0; i < count; i++)
		if (guest[i].pfn != guest[ALIGN_DOWN(i, 512)].pfn + i % 512)
			return false;
	return IS_ALIGNED(gfn, 512) && IS_ALIGNED(count, 512);
}

int hv_call_map_gpa_pages(u64 partition_id, u64 gfn, u64 count, u32 flags,
			  struct page **pages)
{
	struct guest_page *guest = guest_pages(gfn, count);
	int ret = t.hypercall_error;
	u64 i;

	if (!guest)
		return -EINVAL;
	if (flags & HV_MAP_GPA_NO_ACCESS) {
		if (flags & HV_MAP_GPA_LARGE_PAGE)
			KUNIT_EXPECT_TRUE(t.test, large_ok(guest, gfn, count));
		memset(guest, 0, count * sizeof(*guest));
		return 0;
	}
	t.hypercall_error = 0;
	if (ret)
		return ret;
	for (i = 0; i < count; i++) {
		/* Of 2 MiB, the first page is all that the hypervisor is told. */
		guest[i].pfn = flags & HV_MAP_GPA_LARGE_PAGE ?
			page_to_pfn(pages[ALIGN_DOWN(i, 512)]) + i % 512 :
			page_to_pfn(pages[i]);
		guest[i].flags = flags;
	}
	if (flags & HV_MAP_GPA_LARGE_PAGE) {
		KUNIT_EXPECT_TRUE(t.test, large_ok(guest, gfn, count));
		KUNIT_EXPECT_TRUE(t.test, IS_ALIGNED(guest[0].pfn, 512));
		t.large += count / 512;
	}
	return 0;
}

int hv_call_unmap_gpa_pages(u64 partition_id, u64 gfn, u64 count, u32 flags)
{
	struct guest_page *guest = guest_pages(gfn, count);

	if (!guest)
		return -EINVAL;
	if (flags & HV_UNMAP_GPA_LARGE_PAGE)
		KUNIT_EXPECT_TRUE(t.test, large_ok(guest, gfn, count));
	memset(guest, 0, count * sizeof(*guest));
	return 0;
}

/* Encrypted partitions: not tested. */
int hv_call_modify_spa_host_access(u64 partition_id, struct page **pages,
				   u64 count, u32 host_access, u32 flags,
				   u8 acquire)
{
	mock_called(__func__);
	return -EINVAL;
}

static bool fault(unsigned long page)
{
	return mshv_region_handle_gfn_fault(t.region, GFN + page);
}

/* Pages @first to @last: the guest sees what the process sees. */
static void expect_same(struct kunit *test, unsigned long first,
			unsigned long last)
{
	unsigned long i, wrong = 0;

	for (i = first; i <= last; i++) {
		unsigned long pfn = PHYS_PFN(mapping_present_phys(ADDR + i * PAGE_SIZE));

		if ((!pfn || pfn != t.guest[i].pfn) && !wrong++)
			kunit_info(test, "page %lu: the process has pfn %#lx, the guest %#lx\n",
				   i, pfn, t.guest[i].pfn);
	}
	KUNIT_EXPECT_EQ(test, wrong, 0);
}

static void expect_none(struct kunit *test, unsigned long first,
			unsigned long last)
{
	unsigned long i, mapped = 0;

	for (i = first; i <= last; i++)
		mapped += !!t.guest[i].pfn;
	KUNIT_EXPECT_EQ(test, mapped, 0);
}

/*
 * The guest has nothing that the process has not: the rest can be gone as well, as
 * all of a THP is when the CPU's leaf is split.
 */
static void expect_no_other(struct kunit *test, unsigned long first,
			    unsigned long last)
{
	unsigned long i, wrong = 0;

	for (i = first; i <= last; i++)
		wrong += t.guest[i].pfn && t.guest[i].pfn !=
			 PHYS_PFN(mapping_present_phys(ADDR + i * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, wrong, 0);
}

/* A region for @nr pages, from the guest's page @gfn and the process's @page on. */
static void region_new_at(struct kunit *test, unsigned long nr, u32 flags,
			  bool movable, unsigned long gfn, unsigned long page)
{
	struct mshv_mem_region *region =
		mshv_region_create(GFN + gfn, nr, ADDR + page * PAGE_SIZE, flags);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, region);
	region->partition = &t.partition;
	t.region = region;
	if (movable) {
		region->mreg_type = MSHV_REGION_TYPE_MEM_MOVABLE;
		KUNIT_ASSERT_TRUE(test, mshv_region_movable_init(region));
	} else {
		region->mreg_type = MSHV_REGION_TYPE_MEM_PINNED;
	}
}

static void region_new(struct kunit *test, unsigned long nr, u32 flags,
		       bool movable)
{
	region_new_at(test, nr, flags, movable, 0, 0);
}

static void region_end(void)
{
	if (t.region)
		mshv_region_put(t.region);
	t.region = NULL;
}

static const u32 writable = BIT(MSHV_SET_MEM_BIT_WRITABLE);

/* Another page instead of the one that is there. */
static void replace(struct kunit *test, unsigned long page)
{
	unsigned long addr = ADDR + page * PAGE_SIZE;
	phys_addr_t old = mapping_present_phys(addr);

	KUNIT_ASSERT_EQ(test, vm_munmap(addr, PAGE_SIZE), 0);
	mapping_map(test, NULL, addr, PAGE_SIZE, RW, 0);
	KUNIT_ASSERT_NE(test, mapping_cpu_phys(test, addr, true), old);
}

static void test_anon(struct kunit *test)
{
	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	region_new(test, NR, writable, true);
	KUNIT_EXPECT_TRUE(test, fault(CHUNK + 5));
	expect_none(test, 0, CHUNK - 1);
	expect_same(test, CHUNK, NR - 1);
	KUNIT_EXPECT_EQ(test, t.guest[CHUNK].flags & (HV_MAP_GPA_READABLE |
						      HV_MAP_GPA_WRITABLE |
						      HV_MAP_GPA_EXECUTABLE),
			HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE);
	KUNIT_EXPECT_EQ(test, t.faults, 1);

	/* What the process loses, the guest loses. */
	KUNIT_ASSERT_EQ(test, vm_munmap(ADDR + (CHUNK + 7) * PAGE_SIZE,
					2 * PAGE_SIZE), 0);
	expect_none(test, CHUNK + 7, CHUNK + 8);
	expect_no_other(test, CHUNK, NR - 1);
	KUNIT_EXPECT_TRUE(test, fault(CHUNK + 6));
	KUNIT_EXPECT_TRUE(test, fault(CHUNK + 9));
	expect_same(test, CHUNK + 6, CHUNK + 6);
	expect_none(test, CHUNK + 7, CHUNK + 8);
	expect_same(test, CHUNK + 9, CHUNK + 9);

	/* And so page by page. */
	KUNIT_ASSERT_EQ(test, vm_munmap(ADDR + (CHUNK + 9) * PAGE_SIZE, PAGE_SIZE), 0);
	expect_same(test, CHUNK + 6, CHUNK + 6);
	expect_none(test, CHUNK + 7, NR - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
}

static void test_thp(struct kunit *test)
{
	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	region_new(test, NR, writable, true);
	KUNIT_EXPECT_TRUE(test, fault(0));
	if (!t.large)
		kunit_skip(test, "no THP");
	expect_same(test, 0, CHUNK - 1);

	/* One page of the 2 MiB is another, and all is faulted again. */
	replace(test, 5);
	expect_no_other(test, 0, CHUNK - 1);
	KUNIT_EXPECT_TRUE(test, fault(5));
	expect_same(test, 0, CHUNK - 1);
	KUNIT_EXPECT_EQ(test, t.large, 1);

	/* What follows is large, or small, on its own. */
	KUNIT_EXPECT_TRUE(test, fault(CHUNK));
	KUNIT_EXPECT_EQ(test, t.large, 2);
	KUNIT_ASSERT_EQ(test, mshv_region_map(t.region), 0);
	KUNIT_EXPECT_EQ(test, t.large, 3);
	expect_same(test, 0, NR - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
}

/* A hole is no part of 2 MiB: not of what is mapped, unmapped or taken away. */
static void test_hole(struct kunit *test)
{
	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	region_new(test, NR, writable, true);
	KUNIT_EXPECT_TRUE(test, fault(0));
	KUNIT_EXPECT_TRUE(test, fault(CHUNK));
	if (t.large < 2)
		kunit_skip(test, "no THP");

	/* As an invalidation of one page leaves it. */
	mutex_lock(&t.region->mreg_mutex);
	KUNIT_EXPECT_EQ(test, 0, mshv_region_remap_pages(t.region, HV_MAP_GPA_NO_ACCESS,
							 5, 1));
	t.region->mreg_pages[5] = NULL;
	expect_none(test, 5, 5);
	KUNIT_EXPECT_EQ(test, 0, mshv_region_map(t.region));
	expect_none(test, 5, 5);
	expect_same(test, 0, 4);
	expect_same(test, 6, NR - 1);
	KUNIT_EXPECT_EQ(test, t.large, 3);
	KUNIT_EXPECT_EQ(test, 0, mshv_region_remap_pages(t.region, HV_MAP_GPA_NO_ACCESS,
							 0, CHUNK));
	expect_none(test, 0, CHUNK - 1);
	KUNIT_EXPECT_EQ(test, 0, mshv_region_map(t.region));
	mutex_unlock(&t.region->mreg_mutex);
	region_end();
	expect_none(test, 0, NR - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
}

static void test_pinned(struct kunit *test)
{
	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	mapping_cpu_phys(test, ADDR, true);
	replace(test, 5);
	region_new(test, NR, writable, false);
	KUNIT_ASSERT_EQ(test, mshv_region_pin(t.region), 0);
	KUNIT_ASSERT_EQ(test, mshv_region_map(t.region), 0);
	expect_same(test, 0, NR - 1);
	region_end();
	expect_none(test, 0, NR - 1);
}

static void test_read_only(struct kunit *test)
{
	struct file *file = shmem_file_setup("mshv", NR * PAGE_SIZE,
					     mk_vma_flags(VMA_NORESERVE_BIT));

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	mapping_map(test, file, ADDR, NR * PAGE_SIZE, PROT_READ, 0);
	fput(file);
	region_new(test, NR, 0, true);
	KUNIT_EXPECT_TRUE(test, fault(5));
	expect_same(test, 0, CHUNK - 1);
	KUNIT_EXPECT_EQ(test, t.guest[5].flags & (HV_MAP_GPA_READABLE |
						  HV_MAP_GPA_WRITABLE),
			HV_MAP_GPA_READABLE);
	region_end();

	region_new(test, NR, writable, true);
	KUNIT_EXPECT_FALSE(test, fault(5));
	expect_none(test, 0, NR - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
	region_end();

	/* Nothing there at all. */
	KUNIT_ASSERT_EQ(test, vm_munmap(ADDR, NR * PAGE_SIZE), 0);
	region_new(test, NR, 0, true);
	KUNIT_EXPECT_FALSE(test, fault(5));
	expect_none(test, 0, NR - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
}

static void test_errors(struct kunit *test)
{
	static const int own[] = { -EFAULT, -EPERM, -EINTR, -ENOMEM };
	int i;

	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	region_new(test, NR, writable, true);
	for (i = 0; i < ARRAY_SIZE(own); i++) {
		t.fault_error = own[i];
		KUNIT_EXPECT_TRUE(test, fault(9));
		KUNIT_EXPECT_EQ(test, t.warnings, 0);
		/* The one page was served. */
		expect_none(test, 0, 8);
		expect_same(test, 9, 9);
		expect_none(test, 10, NR - 1);
	}

	/* For want of memory, and for good. */
	t.hypercall_error = -ENOMEM;
	KUNIT_EXPECT_EQ(test, mshv_region_range_fault(t.region, 0, CHUNK), -ENOMEM);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
	t.hypercall_error = -EIO;
	KUNIT_EXPECT_EQ(test, mshv_region_range_fault(t.region, 0, CHUNK), -EIO);
	KUNIT_EXPECT_EQ(test, t.warnings, 1);
	KUNIT_EXPECT_EQ(test, mshv_region_range_fault(t.region, 0, CHUNK), 0);
	expect_same(test, 0, CHUNK - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 1);
}

/* The process loses a page after it has been looked at. */
static void test_retry(struct kunit *test)
{
	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	region_new(test, NR, writable, true);
	t.zap = ADDR + 3 * PAGE_SIZE;
	KUNIT_EXPECT_TRUE(test, fault(0));
	/* All, all again, and the one. */
	KUNIT_EXPECT_EQ(test, t.faults, 3);
	expect_same(test, 0, 0);
	expect_none(test, 1, CHUNK - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
}

static void test_busy(struct kunit *test)
{
	struct mmu_notifier_range range = { .start = ADDR, .end = ADDR + SZ_1M, };
	unsigned long seq;

	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	region_new(test, NR, writable, true);
	KUNIT_EXPECT_TRUE(test, fault(0));
	seq = mmu_interval_read_begin(&t.region->mreg_mni);

	mutex_lock(&t.region->mreg_mutex);
	KUNIT_EXPECT_FALSE(test, mshv_region_interval_invalidate(&t.region->mreg_mni,
								 &range, seq));
	mutex_unlock(&t.region->mreg_mutex);
	expect_same(test, 0, CHUNK - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);

	KUNIT_EXPECT_TRUE(test, mshv_region_interval_invalidate(&t.region->mreg_mni,
								&range, seq));
	expect_none(test, 0, 255);
	expect_same(test, 256, CHUNK - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
}

static void test_destroy(struct kunit *test)
{
	mapping_map(test, NULL, ADDR, NR * PAGE_SIZE, RW, 0);
	t.locked_in_insert = true;
	region_new(test, NR, writable, true);
	KUNIT_EXPECT_TRUE(test, mutex_is_locked(&t.region->mreg_mutex));
	if (mutex_is_locked(&t.region->mreg_mutex))
		mutex_unlock(&t.region->mreg_mutex);

	/* Whatever has no notifier is not mapped. */
	KUNIT_EXPECT_TRUE(test, fault(0));
	region_end();
	KUNIT_EXPECT_FALSE(test, t.mapped_at_remove);
	expect_none(test, 0, NR - 1);
}

static void test_dax(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	unsigned long len = max(BIT(f->shift), SZ_4M);
	bool regular = S_ISREG(file_inode(f->file)->i_mode);
	loff_t size = i_size_read(file_inode(f->file));
	const unsigned long end = CHUNK + 3;	/* a file ends behind that page */

	mapping_map(test, f->file, ADDR, len, RW, 0);
	region_new(test, NR, writable, true);
	KUNIT_EXPECT_TRUE(test, fault(0));
	KUNIT_EXPECT_TRUE(test, fault(CHUNK));
	expect_same(test, 0, NR - 1);
	KUNIT_EXPECT_EQ(test, t.large, f->shift >= PMD_SHIFT ? 2 : 0);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);

	/* What is not aligned for the guest, or in memory, is not 2 MiB. */
	region_end();
	t.large = 0;
	region_new_at(test, CHUNK, writable, true, 1, 0);
	KUNIT_EXPECT_TRUE(test, fault(1));
	KUNIT_EXPECT_EQ(test, t.guest[CHUNK].pfn,
			PHYS_PFN(mapping_present_phys(ADDR + (CHUNK - 1) * PAGE_SIZE)));
	region_end();
	region_new_at(test, CHUNK, writable, true, 0, 1);
	KUNIT_EXPECT_TRUE(test, fault(0));
	KUNIT_EXPECT_EQ(test, t.guest[CHUNK - 1].pfn,
			PHYS_PFN(mapping_present_phys(ADDR + CHUNK * PAGE_SIZE)));
	KUNIT_EXPECT_EQ(test, t.large, 0);
	if (!regular)
		return;

	region_end();
	region_new(test, NR, writable, true);
	KUNIT_EXPECT_TRUE(test, fault(0));
	KUNIT_EXPECT_TRUE(test, fault(CHUNK));
	KUNIT_ASSERT_EQ(test, 0, vfs_truncate(&f->file->f_path,
					      (end + 1) * PAGE_SIZE));
	expect_none(test, end + 1, NR - 1);
	expect_no_other(test, 0, end);
	KUNIT_EXPECT_TRUE(test, fault(0));
	KUNIT_EXPECT_TRUE(test, fault(CHUNK));
	KUNIT_EXPECT_TRUE(test, fault(end));
	expect_same(test, 0, CHUNK);
	expect_same(test, end, end);
	KUNIT_EXPECT_FALSE(test, fault(end + 1));
	expect_none(test, end + 1, NR - 1);
	KUNIT_EXPECT_EQ(test, t.warnings, 0);
	KUNIT_ASSERT_EQ(test, vfs_truncate(&f->file->f_path, size), 0);
}

static int mshv_init(struct kunit *test)
{
	memset(&t, 0, sizeof(t));
	t.test = test;
	return kunit_attach_mm();
}

static void mshv_exit(struct kunit *test)
{
	region_end();
	mocks_exit(test);
}

static struct kunit_case mshv_cases[] = {
	KUNIT_CASE(test_anon),
	KUNIT_CASE(test_thp),
	KUNIT_CASE(test_hole),
	KUNIT_CASE(test_pinned),
	KUNIT_CASE(test_read_only),
	KUNIT_CASE(test_errors),
	KUNIT_CASE(test_retry),
	KUNIT_CASE(test_busy),
	KUNIT_CASE(test_destroy),
	KUNIT_CASE_PARAM(test_dax, mapping_gen_params),
	{}
};

static struct kunit_suite mshv_suite = {
	.name = "mshv",
	.init = mshv_init,
	.exit = mshv_exit,
	.test_cases = mshv_cases,
};

kunit_test_suite(mshv_suite);

MODULE_DESCRIPTION("KUnit tests of mshv's memory regions");
MODULE_LICENSE("GPL");
