// SPDX-License-Identifier: MIT
/*
 * KUnit tests of pages that nouveau migrates to VRAM and back, without a GPU:
 * nouveau_dmem.c is the kernel's own, VRAM is a buffer, and the copy engine
 * memcpy(). The process's memory is real, and so are the device-private pages.
 */
#include <linux/pm_runtime.h>

/* The GPU is suspended, or resumed by so many; or it cannot be. */
static atomic_t awake;
static int resume_error;

static int mock_get_sync(struct device *dev)
{
	if (!resume_error)
		atomic_inc(&awake);
	return resume_error;
}

static int mock_put_autosuspend(struct device *dev)
{
	atomic_dec_if_positive(&awake);
	return 0;
}

#define pm_runtime_get_sync mock_get_sync
#define pm_runtime_put_autosuspend mock_put_autosuspend

#include <nouveau_dmem.c>

#include <kunit/device.h>

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/kthread.h>
#include <linux/uaccess.h>

#include "mapping.h"
#include "mocks.h"

#define ADDR	SZ_16G
#define RW	(PROT_READ | PROT_WRITE)
/* As much of VRAM as the tests use at a time, and where it begins. */
#define VRAM	SZ_4M
#define OFFSET	SZ_16M

struct dmem_kunit {
	struct nouveau_drm drm;
	struct nvkm_device nvkm;
	struct drm_device dev;
	struct nouveau_bo bo;
	void *vram;
	unsigned int to_vram, to_ram, clears;
	unsigned int suspended;		/* copies to RAM by a GPU that is not awake */
	unsigned int evicted;		/* or from VRAM that is not pinned */
	int pinned;
	int error;			/* of copies to RAM */
	struct completion copying, *go;	/* go: a copy to RAM waits for that */
};

static struct dmem_kunit *to_kunit(struct nouveau_drm *drm)
{
	return container_of(drm, struct dmem_kunit, drm);
}

/* Pages are handed out one beside the other, beginning with the last one. */
static void *vram(struct dmem_kunit *t, u64 addr, u64 size)
{
	u64 offset = (addr - OFFSET) & (VRAM - 1);

	if (addr < OFFSET || offset + size > VRAM)
		return NULL;
	return t->vram + offset;
}

static int copy(struct nouveau_drm *drm, u64 npages, enum nouveau_aper dst_aper,
		u64 dst_addr, enum nouveau_aper src_aper, u64 src_addr)
{
	struct dmem_kunit *t = to_kunit(drm);
	u64 size = npages << PAGE_SHIFT;
	void *dst, *src;

	if (dst_aper == NOUVEAU_APER_VRAM) {
		t->to_vram += npages;
		dst = vram(t, dst_addr, size);
		src = phys_to_virt(dma_to_phys(drm->dev->dev, src_addr));
	} else {
		if (t->error)
			return t->error;
		t->to_ram += npages;
		complete(&t->copying);
		if (t->go)
			wait_for_completion_timeout(t->go, 20 * HZ);
		if (!atomic_read(&awake))
			t->suspended++;
		if (READ_ONCE(t->pinned) <= 0)
			t->evicted++;
		dst = phys_to_virt(dma_to_phys(drm->dev->dev, dst_addr));
		src = vram(t, src_addr, size);
	}
	if (!dst || !src)
		return -EINVAL;
	memcpy(dst, src, size);
	return 0;
}

static int clear(struct nouveau_drm *drm, u32 length, enum nouveau_aper dst_aper,
		 u64 dst_addr)
{
	struct dmem_kunit *t = to_kunit(drm);
	void *dst = vram(t, dst_addr, length);

	t->clears += length >> PAGE_SHIFT;
	if (!dst)
		return -EINVAL;
	memset(dst, 0, length);
	return 0;
}

int nouveau_bo_new_pin(struct nouveau_cli *cli, u32 domain, u32 size,
		       struct nouveau_bo **pnvbo)
{
	struct dmem_kunit *t = container_of(cli, struct dmem_kunit, drm.client);

	t->bo.offset = OFFSET;
	t->pinned++;
	*pnvbo = &t->bo;
	return 0;
}

int nouveau_bo_pin(struct nouveau_bo *bo, u32 domain, bool contig)
{
	container_of(bo, struct dmem_kunit, bo)->pinned++;
	return 0;
}

int nouveau_bo_unpin(struct nouveau_bo *bo)
{
	container_of(bo, struct dmem_kunit, bo)->pinned--;
	return 0;
}

int nouveau_fence_new(struct nouveau_fence **pfence, struct nouveau_channel *chan)
{
	*pfence = NULL;
	return 0;
}

int nouveau_fence_wait(struct nouveau_fence *fence, bool lazy, bool intr)
{
	return 0;
}

void nouveau_fence_unref(struct nouveau_fence **pfence)
{
}

static void to_vram(struct kunit *test, unsigned long start, unsigned long end)
{
	struct dmem_kunit *t = test->priv;
	struct vm_area_struct *vma;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, start);
	KUNIT_EXPECT_NOT_NULL(test, vma);
	if (vma)
		KUNIT_EXPECT_EQ(test, 0,
				nouveau_dmem_migrate_vma(&t->drm, vma, start, end));
	mmap_read_unlock(current->mm);
}

/* The process writes @val, and the page goes to VRAM. */
static void write_to_vram(struct kunit *test, u64 val)
{
	KUNIT_ASSERT_EQ(test, put_user(val, (u64 __user *)ADDR), 0);
	to_vram(test, ADDR, ADDR + PAGE_SIZE);
}

/*
 * What was migrated comes back when the CPU touches it, also when whoever had it
 * migrated is gone: all that is left of that is the page.
 */
static void test_migrate(struct kunit *test)
{
	struct dmem_kunit *t = test->priv;
	u64 __user *p = (u64 __user *)ADDR;
	u64 val;
	int i;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	for (i = 0; i < 8; i++)
		KUNIT_ASSERT_EQ(test, put_user(0x1234567890000ULL + i, p + i * 512), 0);
	to_vram(test, ADDR, ADDR + SZ_64K);
	KUNIT_EXPECT_EQ(test, t->to_vram, 8);
	KUNIT_EXPECT_EQ(test, t->clears, 8);
	for (i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, mapping_present_phys(ADDR + i * PAGE_SIZE), 0);

	for (i = 0; i < 16; i++) {
		KUNIT_ASSERT_EQ(test, get_user(val, p + i * 512), 0);
		KUNIT_EXPECT_EQ(test, val, i < 8 ? 0x1234567890000ULL + i : 0);
		KUNIT_EXPECT_EQ(test, t->to_ram, i + 1);
	}

	/* The pages are free again, and can be had by others. */
	t->to_vram = 0;
	to_vram(test, ADDR, ADDR + SZ_64K);
	KUNIT_EXPECT_EQ(test, t->to_vram, 16);
	KUNIT_EXPECT_EQ(test, vm_munmap(ADDR, SZ_64K), 0);
}

/* A GPU that is suspended is resumed for that, and may be suspended again. */
static void test_suspended(struct kunit *test)
{
	struct dmem_kunit *t = test->priv;
	u64 __user *p = (u64 __user *)ADDR;
	u64 val;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	write_to_vram(test, 0x1234567890000ULL);
	KUNIT_EXPECT_EQ(test, t->to_vram, 1);

	resume_error = -EIO;
	KUNIT_EXPECT_EQ(test, get_user(val, p), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->to_ram, 0);

	resume_error = 0;
	KUNIT_EXPECT_EQ(test, get_user(val, p), 0);
	KUNIT_EXPECT_EQ(test, val, 0x1234567890000ULL);
	KUNIT_EXPECT_EQ(test, t->to_ram, 1);
	KUNIT_EXPECT_EQ(test, t->suspended, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&awake), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(ADDR, SZ_64K), 0);
}

/* A thread of the kernel that touches a page of the process, or suspends the GPU. */
struct dmem_kunit_work {
	struct work_struct work;
	struct nouveau_drm *drm;
	struct mm_struct *mm;
	u64 val;
	int ret;
};

static void read_work(struct work_struct *work)
{
	struct dmem_kunit_work *w = container_of(work, typeof(*w), work);

	kthread_use_mm(w->mm);
	w->ret = get_user(w->val, (u64 __user *)ADDR);
	kthread_unuse_mm(w->mm);
}

static void suspend_work(struct work_struct *work)
{
	nouveau_dmem_suspend(container_of(work, struct dmem_kunit_work, work)->drm);
}

static struct dmem_kunit_work *start(struct kunit *test, work_func_t func)
{
	struct dmem_kunit_work *w = kunit_kzalloc(test, sizeof(*w), GFP_KERNEL);
	struct dmem_kunit *t = test->priv;

	KUNIT_ASSERT_NOT_NULL(test, w);
	INIT_WORK(&w->work, func);
	w->drm = &t->drm;
	w->mm = current->mm;
	queue_work(system_dfl_wq, &w->work);
	return w;
}

/* Has it come to its end within 3 s? */
static bool ends(struct dmem_kunit_work *w)
{
	int i;

	for (i = 0; i < 150 && work_busy(&w->work); i++)
		msleep(20);
	return !work_busy(&w->work);
}

/*
 * A page that cannot be copied stays in VRAM, with what the process has written. If its
 * migration has no end, whoever touches it waits for that until it is unmapped.
 */
static void test_copy_fails(struct kunit *test)
{
	struct dmem_kunit *t = test->priv;
	struct dmem_kunit_work *reader;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	write_to_vram(test, 0x1234567890000ULL);
	KUNIT_EXPECT_EQ(test, t->to_vram, 1);

	t->error = -EIO;
	reader = start(test, read_work);
	flush_work(&reader->work);
	KUNIT_EXPECT_EQ(test, reader->ret, -EFAULT);
	KUNIT_EXPECT_EQ(test, mapping_present_phys(ADDR), 0);
	t->error = 0;
	reader = start(test, read_work);
	KUNIT_EXPECT_TRUE(test, ends(reader));
	KUNIT_EXPECT_EQ(test, vm_munmap(ADDR, SZ_64K), 0);
	flush_work(&reader->work);
	KUNIT_EXPECT_EQ(test, reader->ret, 0);
	KUNIT_EXPECT_EQ(test, reader->val, 0x1234567890000ULL);
	KUNIT_EXPECT_EQ(test, t->to_ram, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&awake), 0);
}

/*
 * While the system is suspended VRAM is not there, but the kernel's own threads still
 * are: what they touch is copied when VRAM is back. A copy that has begun is finished
 * before VRAM goes.
 */
static void test_system_suspend(struct kunit *test)
{
	struct dmem_kunit *t = test->priv;
	struct dmem_kunit_work *reader, *suspend;
	DECLARE_COMPLETION_ONSTACK(go);
	int i;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	for (i = 0; i < 2; i++) {
		write_to_vram(test, 0x1234567890000ULL + i);
		KUNIT_EXPECT_EQ(test, t->pinned, 1);

		/* In late suspend nothing can be resumed. That takes more than 1 s. */
		resume_error = i ? -EACCES : 0;
		nouveau_dmem_suspend(&t->drm);
		KUNIT_EXPECT_EQ(test, t->pinned, 0);
		reader = start(test, read_work);
		msleep(i ? 1500 : 200);
		KUNIT_EXPECT_EQ(test, READ_ONCE(t->to_ram), i);
		KUNIT_EXPECT_TRUE(test, work_busy(&reader->work));

		resume_error = 0;
		if (i)
			msleep(1500);
		KUNIT_EXPECT_EQ(test, READ_ONCE(t->to_ram), i);
		nouveau_dmem_resume(&t->drm);
		flush_work(&reader->work);
		KUNIT_EXPECT_EQ(test, reader->ret, 0);
		KUNIT_EXPECT_EQ(test, reader->val, 0x1234567890000ULL + i);
		KUNIT_EXPECT_EQ(test, t->to_ram, i + 1);
		KUNIT_EXPECT_EQ(test, atomic_read(&awake), 0);
	}

	write_to_vram(test, 0x1234567890000ULL);
	reinit_completion(&t->copying);
	t->go = &go;
	reader = start(test, read_work);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&t->copying, 20 * HZ));
	suspend = start(test, suspend_work);
	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&suspend->work));
	KUNIT_EXPECT_EQ(test, READ_ONCE(t->pinned), 1);
	complete(&go);
	flush_work(&suspend->work);
	flush_work(&reader->work);
	t->go = NULL;
	KUNIT_EXPECT_EQ(test, t->pinned, 0);
	KUNIT_EXPECT_EQ(test, reader->ret, 0);
	KUNIT_EXPECT_EQ(test, reader->val, 0x1234567890000ULL);
	nouveau_dmem_resume(&t->drm);

	KUNIT_EXPECT_EQ(test, t->suspended, 0);
	KUNIT_EXPECT_EQ(test, t->evicted, 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(ADDR, SZ_64K), 0);
}

/* A GPU that does not come back is waited for until the driver is unbound. */
static void test_resume_fails(struct kunit *test)
{
	struct dmem_kunit *t = test->priv;
	u64 __user *p = (u64 __user *)ADDR;
	struct dmem_kunit_work *reader;
	u64 val;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	write_to_vram(test, 0x1234567890000ULL);
	KUNIT_EXPECT_EQ(test, t->to_vram, 1);

	nouveau_dmem_suspend(&t->drm);
	reader = start(test, read_work);
	msleep(1500);
	KUNIT_EXPECT_TRUE(test, work_busy(&reader->work));
	WRITE_ONCE(t->dev.unplugged, true);
	KUNIT_EXPECT_TRUE(test, ends(reader));
	KUNIT_EXPECT_EQ(test, READ_ONCE(t->to_ram), 0);

	nouveau_dmem_resume(&t->drm);
	flush_work(&reader->work);
	KUNIT_EXPECT_EQ(test, reader->ret, -EFAULT);
	t->dev.unplugged = false;
	KUNIT_EXPECT_EQ(test, get_user(val, p), 0);
	KUNIT_EXPECT_EQ(test, val, 0x1234567890000ULL);
	KUNIT_EXPECT_EQ(test, atomic_read(&awake), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(ADDR, SZ_64K), 0);
}

static int dmem_kunit_init(struct kunit *test)
{
	struct dmem_kunit *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct nouveau_dmem *dmem;

	KUNIT_ASSERT_NOT_NULL(test, t);
	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	t->vram = kvzalloc(VRAM, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->vram);
	t->dev.dev = kunit_device_register(test, "nouveau_dmem");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->dev.dev);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(t->dev.dev,
							      DMA_BIT_MASK(64)));
	dmem = kunit_kzalloc(test, sizeof(*dmem), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, dmem);
	dmem->drm = &t->drm;
	dmem->migrate.copy_func = copy;
	dmem->migrate.clear_func = clear;
	mutex_init(&dmem->mutex);
	INIT_LIST_HEAD(&dmem->chunks);
	spin_lock_init(&dmem->lock);
	init_waitqueue_head(&dmem->wait);
	init_completion(&t->copying);
	t->nvkm.dev = t->dev.dev;
	t->drm.nvkm = &t->nvkm;
	t->drm.dev = &t->dev;
	t->drm.dmem = dmem;
	test->priv = t;
	return 0;
}

static void dmem_kunit_exit(struct kunit *test)
{
	struct nouveau_dmem_chunk *chunk, *next;
	struct dmem_kunit *t = test->priv;
	int i;

	if (!t)
		return;
	list_for_each_entry_safe(chunk, next, &t->drm.dmem->chunks, list) {
		/* The process that ran the test is about to be gone, or is. */
		for (i = 0; i < 500 && READ_ONCE(chunk->callocated); i++)
			msleep(20);
		KUNIT_EXPECT_EQ(test, chunk->callocated, 0);
		memunmap_pages(&chunk->pagemap);
		release_mem_region(chunk->pagemap.range.start,
				   range_len(&chunk->pagemap.range));
		kfree(chunk);
	}
	kvfree(t->vram);
	mocks_exit(test);
}

static struct kunit_case dmem_kunit_cases[] = {
	KUNIT_CASE(test_migrate),
	KUNIT_CASE(test_suspended),
	KUNIT_CASE(test_copy_fails),
	KUNIT_CASE(test_system_suspend),
	KUNIT_CASE(test_resume_fails),
	{}
};

static struct kunit_suite dmem_kunit_suite = {
	.name = "nouveau_dmem",
	.init = dmem_kunit_init,
	.exit = dmem_kunit_exit,
	.test_cases = dmem_kunit_cases,
};

kunit_test_suite(dmem_kunit_suite);

MODULE_DESCRIPTION("KUnit tests of nouveau's migration, without a GPU");
MODULE_LICENSE("Dual MIT/GPL");
