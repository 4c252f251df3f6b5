// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of how amdxdna keeps a BO where the device finds it by its PASID, without
 * an NPU: whatever mappings of it have lost is there again for the next command.
 * amdxdna_gem.c and aie2_ctx.c are the kernel's own; the BO is a shmem file.
 */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/hmm.h>
#include <linux/shmem_fs.h>

static int mock_range_fault(struct hmm_range *range, unsigned long timeout);

#define hmm_range_fault_unlocked_timeout mock_range_fault

#include "amdxdna_gem.c"
#include "aie2_ctx.c"

#undef hmm_range_fault_unlocked_timeout

#include "mocks.h"
#include "mapping.h"

#define ADDR	SZ_16G
#define OTHER	(ADDR + SZ_1G)
#define NR	256
#define SIZE	(NR * PAGE_SIZE)
#define RW	(PROT_READ | PROT_WRITE)

static struct xdna_test {
	struct amdxdna_dev *xdna;
	struct amdxdna_gem_obj *abo;
	struct file *file;
	unsigned int calls;	/* of HMM */
	unsigned int lose;	/* the first page, after each of so many */
	struct kunit *test;
} t;

static const struct amdxdna_dev_ops ops;
static const struct amdxdna_dev_info info = { .ops = &ops };

static void punch(unsigned long page)
{
	KUNIT_EXPECT_EQ(t.test, 0, vfs_fallocate(t.file,
						 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						 page * PAGE_SIZE, PAGE_SIZE));
}

static int mock_range_fault(struct hmm_range *range, unsigned long timeout)
{
	int ret = hmm_range_fault_unlocked_timeout(range, timeout);

	t.calls++;
	if (t.lose) {
		t.lose--;
		punch(0);
	}
	return ret;
}

static int populate(void)
{
	t.calls = 0;
	return aie2_populate_range(t.abo);
}

/* Register what is mapped at @addr, as mmap() does. */
static void register_at(struct kunit *test, unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int ret = -ENOENT;

	mmap_write_lock(mm);
	vma = vma_lookup(mm, addr);
	if (vma)
		ret = amdxdna_hmm_register(t.abo, vma);
	mmap_write_unlock(mm);
	KUNIT_ASSERT_EQ(test, ret, 0);
}

/* As if mmap() had failed to fault it in. */
static void invalidate_at(unsigned long addr)
{
	struct mm_struct *mm = current->mm;

	mmap_read_lock(mm);
	amdxdna_mark_mapp_invalid(t.abo, vma_lookup(mm, addr));
	mmap_read_unlock(mm);
}

static void map_at(struct kunit *test, unsigned long addr)
{
	mapping_map(test, t.file, addr, SIZE, RW, 0);
	register_at(test, addr);
}

static unsigned long present(unsigned long addr)
{
	unsigned long i, n = 0;

	for (i = 0; i < NR; i++)
		n += !!mapping_present_phys(addr + i * PAGE_SIZE);
	return n;
}

static void test_populate(struct kunit *test)
{
	map_at(test, ADDR);
	KUNIT_EXPECT_EQ(test, present(ADDR), 0);
	invalidate_at(ADDR);
	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, present(ADDR), NR);
	KUNIT_EXPECT_FALSE(test, t.abo->mem.map_invalid);
	/* It was too much for one list. */
	KUNIT_EXPECT_GT(test, t.calls, 1);

	punch(5);
	KUNIT_EXPECT_TRUE(test, t.abo->mem.map_invalid);
	KUNIT_EXPECT_EQ(test, present(ADDR), NR - 1);
	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, present(ADDR), NR);
	KUNIT_EXPECT_FALSE(test, t.abo->mem.map_invalid);

	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, t.calls, 0);
}

/* A page of the first list is lost while the rest is faulted in. */
static void test_lost_between(struct kunit *test)
{
	map_at(test, ADDR);
	invalidate_at(ADDR);
	t.lose = 1;
	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, present(ADDR), NR);
	KUNIT_EXPECT_FALSE(test, t.abo->mem.map_invalid);
}

/* It never holds still: somebody else may see to that. */
static void test_never_still(struct kunit *test)
{
	map_at(test, ADDR);
	invalidate_at(ADDR);
	t.lose = 400000;
	KUNIT_EXPECT_EQ(test, populate(), -ETIME);
	KUNIT_EXPECT_TRUE(test, t.abo->mem.map_invalid);
	t.lose = 0;
	KUNIT_EXPECT_EQ(test, populate(), 0);
}

static void test_no_memory_there(struct kunit *test)
{
	map_at(test, ADDR);
	invalidate_at(ADDR);
	KUNIT_ASSERT_EQ(test, 0, vfs_truncate(&t.file->f_path, SIZE / 2));
	KUNIT_EXPECT_EQ(test, populate(), -EFAULT);
	KUNIT_EXPECT_EQ(test, present(ADDR), NR / 2);
	KUNIT_EXPECT_TRUE(test, t.abo->mem.map_invalid);
	KUNIT_EXPECT_EQ(test, populate(), -EFAULT);

	KUNIT_ASSERT_EQ(test, 0, vfs_truncate(&t.file->f_path, SIZE));
	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, present(ADDR), NR);
}

static void test_two_mappings(struct kunit *test)
{
	map_at(test, ADDR);
	map_at(test, OTHER);
	KUNIT_EXPECT_EQ(test, list_count_nodes(&t.abo->mem.umap_list), 2);
	register_at(test, ADDR);
	register_at(test, OTHER);
	KUNIT_EXPECT_EQ(test, list_count_nodes(&t.abo->mem.umap_list), 2);

	invalidate_at(ADDR);
	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, present(ADDR), NR);
	KUNIT_EXPECT_EQ(test, present(OTHER), 0);
	invalidate_at(OTHER);
	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, present(OTHER), NR);

	/* What is unmapped is nobody's any more; the other one stays. */
	punch(7);
	KUNIT_ASSERT_EQ(test, vm_munmap(ADDR, SIZE), 0);
	flush_workqueue(t.xdna->notifier_wq);
	KUNIT_EXPECT_EQ(test, list_count_nodes(&t.abo->mem.umap_list), 1);
	KUNIT_EXPECT_EQ(test, populate(), 0);
	KUNIT_EXPECT_EQ(test, present(ADDR), 0);
	KUNIT_EXPECT_EQ(test, present(OTHER), NR);
	KUNIT_ASSERT_EQ(test, vm_munmap(OTHER, SIZE), 0);
	flush_workqueue(t.xdna->notifier_wq);
	KUNIT_EXPECT_TRUE(test, list_empty(&t.abo->mem.umap_list));
	KUNIT_EXPECT_EQ(test, t.abo->mem.uva, AMDXDNA_INVALID_ADDR);
}

static int xdna_init(struct kunit *test)
{
	unsigned long i;
	int ret = kunit_attach_mm();

	if (ret)
		return ret;
	memset(&t, 0, sizeof(t));
	t.test = test;
	t.xdna = kunit_kzalloc(test, sizeof(*t.xdna), GFP_KERNEL);
	t.abo = kunit_kzalloc(test, sizeof(*t.abo), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t.xdna);
	KUNIT_ASSERT_NOT_NULL(test, t.abo);
	init_rwsem(&t.xdna->notifier_lock);
	t.xdna->dev_info = &info;
	t.xdna->notifier_wq = alloc_ordered_workqueue("xdna", WQ_MEM_RECLAIM);
	KUNIT_ASSERT_NOT_NULL(test, t.xdna->notifier_wq);
	to_gobj(t.abo)->dev = &t.xdna->ddev;
	t.abo->mem.dma_addr = AMDXDNA_INVALID_ADDR;
	t.abo->mem.uva = AMDXDNA_INVALID_ADDR;
	INIT_LIST_HEAD(&t.abo->mem.umap_list);

	t.file = shmem_file_setup("xdna", SIZE, mk_vma_flags(VMA_NORESERVE_BIT));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t.file);
	/* Pages that are neighbours were not allocated one after the other. */
	mapping_map(test, t.file, ADDR, SIZE, RW, 0);
	for (i = 0; i < NR; i++)
		mapping_cpu_phys(test, ADDR + i * 37 % NR * PAGE_SIZE, true);
	return vm_munmap(ADDR, SIZE);
}

static void xdna_exit(struct kunit *test)
{
	if (t.xdna && t.xdna->notifier_wq) {
		amdxdna_hmm_unregister(t.abo, NULL);
		destroy_workqueue(t.xdna->notifier_wq);
	}
	if (!IS_ERR_OR_NULL(t.file))
		fput(t.file);
	mocks_exit(test);
}

static struct kunit_case xdna_cases[] = {
	KUNIT_CASE(test_populate),
	KUNIT_CASE(test_lost_between),
	KUNIT_CASE(test_never_still),
	KUNIT_CASE(test_no_memory_there),
	KUNIT_CASE(test_two_mappings),
	{}
};

static struct kunit_suite xdna_suite = {
	.name = "amdxdna",
	.init = xdna_init,
	.exit = xdna_exit,
	.test_cases = xdna_cases,
};

kunit_test_suite(xdna_suite);

MODULE_DESCRIPTION("KUnit tests of amdxdna's mappings");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_LICENSE("GPL");
