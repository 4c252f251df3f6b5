// SPDX-License-Identifier: MIT
/*
 * KUnit tests of xe's page faults on SVM memory, without a GPU: xe_svm.c is the
 * kernel's own, drm_gpusvm is the real one, and so is the memory. Binding does
 * nothing but check, as xe_pt.c does, whether the pages are still there. What is
 * migrated to VRAM goes nowhere, or is back again before anybody looks.
 */
#include <xe_svm.c>

#include <kunit/device.h>

#include <linux/falloc.h>
#include <linux/shmem_fs.h>
#include <linux/swiotlb.h>

#include "mapping.h"
#include "mocks.h"

#define ADDR	SZ_16G
#define RW	(PROT_READ | PROT_WRITE)
/* Of a file's 2 MiB: more would be two ranges, and the end is in a page of 64 KiB. */
#define TAIL	(SZ_1M + 2 * SZ_4K)

struct xe_svm_kunit {
	struct kunit *test;
	struct xe_device xe;
	struct xe_gt gt;
	struct xe_vm vm;
	struct xe_vma vma;
	struct drm_gem_object obj;
	struct dev_pagemap pagemap;
	struct drm_pagemap dpagemap;
	struct file *file;
	unsigned long unmap;
	/* What the mocks answer. */
	int need_vram, populate_err, unbind_err;
	/* What happens before each of them. */
	void (*at_try)(struct kunit *test), (*at_bind)(struct kunit *test),
	     (*at_unbind)(struct kunit *test);
	/* What they were asked. */
	unsigned int tries, binds, unbinds, populates, finds, kills;
};

struct xe_modparam xe_modparam = { .svm_notifier_size = 512 };

static struct xe_svm_kunit *to_kunit(struct xe_vm *vm)
{
	return container_of(vm, struct xe_svm_kunit, vm);
}

void xe_gt_stats_incr(struct xe_gt *gt, const enum xe_gt_stats_id id, int incr)
{
	struct xe_svm_kunit *t = container_of(gt, struct xe_svm_kunit, gt);

	if (id == XE_GT_STATS_ID_SVM_4K_PAGEFAULT_COUNT ||
	    id == XE_GT_STATS_ID_SVM_64K_PAGEFAULT_COUNT ||
	    id == XE_GT_STATS_ID_SVM_2M_PAGEFAULT_COUNT) {
		t->tries++;
		if (t->at_try)
			t->at_try(t->test);
	}
	/* A fault without an end has one. */
	if (t->tries > 100)
		t->vm.size = 0;
}

struct dma_fence *xe_vm_range_rebind(struct xe_vm *vm, struct xe_vma *vma,
				     struct xe_svm_range *range, u8 tile_mask)
{
	struct xe_svm_kunit *t = to_kunit(vm);
	bool valid;

	t->binds++;
	if (t->at_bind)
		t->at_bind(t->test);

	xe_svm_notifier_lock(vm);
	valid = xe_svm_range_pages_valid(range);
	if (valid) {
		WRITE_ONCE(range->tile_present, range->tile_present | tile_mask);
		WRITE_ONCE(range->tile_invalidated,
			   range->tile_invalidated & ~tile_mask);
	}
	xe_svm_notifier_unlock(vm);
	return valid ? dma_fence_get_stub() : ERR_PTR(-EAGAIN);
}

struct dma_fence *xe_vm_range_unbind(struct xe_vm *vm, struct xe_svm_range *range)
{
	struct xe_svm_kunit *t = to_kunit(vm);

	t->unbinds++;
	if (t->at_unbind)
		t->at_unbind(t->test);
	if (t->unbind_err)
		return ERR_PTR(t->unbind_err);
	range->tile_present = 0;
	return dma_fence_get_stub();
}

bool xe_pt_zap_ptes_range(struct xe_tile *tile, struct xe_vm *vm,
			  struct xe_svm_range *range)
{
	return range->tile_present & ~range->tile_invalidated & BIT(tile->id);
}

int xe_tlb_inval_range_tilemask_submit(struct xe_device *xe, u32 asid, u64 start,
				       u64 end, u8 tile_mask,
				       struct xe_tlb_inval_batch *batch)
{
	return 0;
}

void xe_tlb_inval_batch_wait(struct xe_tlb_inval_batch *batch)
{
}

void xe_device_wmb(struct xe_device *xe)
{
}

int xe_vm_lock(struct xe_vm *vm, bool intr)
{
	return 0;
}

void xe_vm_unlock(struct xe_vm *vm)
{
}

int xe_vm_drm_exec_lock(struct xe_vm *vm, struct drm_exec *exec)
{
	return drm_exec_lock_obj(exec, vm->gpuvm.r_obj);
}

void xe_vm_kill(struct xe_vm *vm, bool unlocked)
{
	to_kunit(vm)->kills++;
}

int xe_validation_ctx_init(struct xe_validation_ctx *ctx, struct xe_validation_device *val,
			   struct drm_exec *exec, const struct xe_val_flags flags)
{
	drm_exec_init(exec, 0, 0);
	ctx->exec = exec;
	return 0;
}

void xe_validation_ctx_fini(struct xe_validation_ctx *ctx)
{
	drm_exec_fini(ctx->exec);
}

bool xe_validation_should_retry(struct xe_validation_ctx *ctx, int *ret)
{
	return false;
}

struct xe_vma *xe_vm_find_vma_by_addr(struct xe_vm *vm, u64 page_addr)
{
	to_kunit(vm)->finds++;
	return &to_kunit(vm)->vma;
}

int xe_vma_need_vram_for_atomic(struct xe_device *xe, struct xe_vma *vma, bool is_atomic)
{
	return container_of(xe, struct xe_svm_kunit, xe)->need_vram;
}

struct drm_pagemap *xe_tile_local_pagemap(struct xe_tile *tile)
{
	return &container_of(tile->xe, struct xe_svm_kunit, xe)->dpagemap;
}

static int populate(struct drm_pagemap *dpagemap, unsigned long start,
		    unsigned long end, struct mm_struct *mm, unsigned long timeslice_ms)
{
	struct xe_svm_kunit *t = container_of(dpagemap, struct xe_svm_kunit, dpagemap);

	t->populates++;
	return t->populate_err;
}

static const struct drm_pagemap_ops pagemap_ops = {
	.populate_mm = populate,
};

static const struct drm_gpuvm_ops gpuvm_ops = {};

static int fault(struct kunit *test, unsigned long addr)
{
	struct xe_svm_kunit *t = test->priv;
	int ret;

	t->tries = 0;
	t->binds = 0;
	t->unbinds = 0;
	t->populates = 0;
	t->finds = 0;
	down_write(&t->vm.lock);
	ret = xe_svm_handle_pagefault(&t->vm, &t->vma, &t->gt, addr, false);
	up_write(&t->vm.lock);
	KUNIT_EXPECT_NE(test, t->vm.size, 0);
	return ret;
}

static struct xe_svm_range *range_at(struct xe_svm_kunit *t, unsigned long addr)
{
	struct drm_gpusvm_notifier *notifier;
	struct drm_gpusvm_range *range;

	notifier = drm_gpusvm_notifier_find(&t->vm.svm.gpusvm, addr, addr + 1);
	range = notifier ? drm_gpusvm_range_find(notifier, addr, addr + 1) : NULL;
	return range ? to_xe_range(range) : NULL;
}

/* The GPU has what the CPU has at @addr, by a range of @size. */
static void expect_bound(struct kunit *test, unsigned long addr, unsigned long size)
{
	struct xe_svm_kunit *t = test->priv;
	struct xe_svm_range *range = range_at(t, addr);
	const struct drm_pagemap_addr *entry;
	unsigned long at;

	KUNIT_ASSERT_NOT_NULL(test, range);
	KUNIT_EXPECT_EQ(test, xe_svm_range_size(range), size);
	KUNIT_ASSERT_EQ(test, range->tile_present & ~range->tile_invalidated, 1);
	KUNIT_ASSERT_NOT_NULL(test, range->pages.dma_addr);
	entry = range->pages.dma_addr;
	at = xe_svm_range_start(range);
	while (at + (PAGE_SIZE << entry->order) <= addr)
		at += PAGE_SIZE << entry++->order;
	KUNIT_EXPECT_EQ(test, entry->addr + (addr - at),
			mapping_cpu_phys(test, addr, false));
}

static void expect_not_bound(struct kunit *test, unsigned long addr)
{
	struct xe_svm_range *range = range_at(test->priv, addr);

	if (range)
		KUNIT_EXPECT_EQ(test, range->tile_present & ~range->tile_invalidated, 0);
}

static void test_anon(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	mapping_map(test, NULL, ADDR, SZ_4M, RW, 0);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_64K), 0);
	KUNIT_EXPECT_EQ(test, t->tries, 1);
	KUNIT_EXPECT_EQ(test, t->binds, 1);
	expect_bound(test, ADDR + SZ_64K, SZ_2M);
	expect_not_bound(test, ADDR + SZ_2M);
	/* It is there already. */
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_2M - SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, t->binds, 0);
	/* No memory at all. */
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_4M), -ENOENT);
}

/*
 * One page less: the garbage collector takes the range, and the rest of its pages
 * get others.
 */
static void test_unmap(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	mapping_map(test, NULL, ADDR, SZ_2M, RW, 0);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), 0);
	expect_bound(test, ADDR, SZ_2M);
	KUNIT_ASSERT_EQ(test, vm_munmap(ADDR + SZ_1M, SZ_4K), 0);
	expect_not_bound(test, ADDR);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), 0);
	expect_bound(test, ADDR, SZ_64K);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_1M + SZ_4K), 0);
	expect_bound(test, ADDR + SZ_1M + SZ_4K, SZ_4K);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_1M), -ENOENT);
	KUNIT_EXPECT_EQ(test, t->kills, 0);
}

static void unmap_once(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	t->at_try = NULL;
	t->at_unbind = NULL;
	KUNIT_EXPECT_EQ(test, vm_munmap(t->unmap, SZ_4K), 0);
}

/*
 * The same before the range has its pages: that is still the garbage collector's,
 * which looks up the VMA for its attributes.
 */
static void test_unmap_late(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	mapping_map(test, NULL, ADDR, SZ_2M, RW, 0);
	t->unmap = ADDR + SZ_1M;
	t->at_try = unmap_once;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), 0);
	KUNIT_EXPECT_EQ(test, t->finds, 1);
	KUNIT_EXPECT_EQ(test, t->unbinds, 1);
	expect_bound(test, ADDR, SZ_64K);
}

static void end_of_file(struct kunit *test, struct file *file)
{
	loff_t size = i_size_read(file_inode(file));
	struct xe_svm_kunit *t = test->priv;

	KUNIT_ASSERT_EQ(test, vfs_truncate(&file->f_path, TAIL), 0);
	t->file = file;
	mapping_map(test, file, ADDR, SZ_4M, RW, 0);

	/* The page is there, as is the rest of its 64 KiB. */
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_4K), 0);
	expect_bound(test, ADDR + SZ_4K, SZ_64K);
	KUNIT_EXPECT_EQ(test, t->binds, 1);
	KUNIT_EXPECT_LE(test, t->tries, 3);
	/* The end is in its 64 KiB. */
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + TAIL - SZ_4K), 0);
	expect_bound(test, ADDR + TAIL - SZ_4K, SZ_4K);
	KUNIT_EXPECT_LE(test, t->tries, 3);
	/* The next one is not there, soon and for good, like all others. */
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + TAIL), -EFAULT);
	KUNIT_EXPECT_LE(test, t->tries, 10);
	KUNIT_EXPECT_EQ(test, t->binds, 0);
	KUNIT_EXPECT_NULL(test, range_at(t, ADDR + TAIL));
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_2M), -EFAULT);
	KUNIT_EXPECT_LE(test, t->tries, 10);
	KUNIT_EXPECT_NULL(test, range_at(t, ADDR + SZ_2M));
	/* Nobody has lost anything by that. */
	expect_bound(test, ADDR + SZ_4K, SZ_64K);
	expect_bound(test, ADDR + TAIL - SZ_4K, SZ_4K);

	KUNIT_ASSERT_EQ(test, vfs_truncate(&file->f_path, SZ_4M), 0);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + TAIL), 0);
	expect_bound(test, ADDR + TAIL, SZ_4K);

	/* A range that cannot be unbound stays. */
	KUNIT_ASSERT_EQ(test, fault(test, ADDR + SZ_1M - SZ_64K), 0);
	KUNIT_ASSERT_EQ(test, vfs_truncate(&file->f_path, SZ_1M - SZ_4K), 0);
	expect_not_bound(test, ADDR + SZ_1M - SZ_64K);
	t->unbind_err = -ENOMEM;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_1M - SZ_64K), -ENOMEM);
	KUNIT_EXPECT_EQ(test, t->unbinds, 1);
	KUNIT_EXPECT_EQ(test, t->binds, 0);
	KUNIT_EXPECT_NOT_NULL(test, range_at(t, ADDR + SZ_1M - SZ_64K));
	t->unbind_err = 0;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_1M - SZ_64K), 0);
	expect_bound(test, ADDR + SZ_1M - SZ_64K, SZ_4K);

	/* A range that is removed by the fault and by munmap() goes once. */
	t->unmap = ADDR + SZ_1M + SZ_2M + SZ_4K;
	t->at_unbind = unmap_once;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_1M + SZ_2M), -EFAULT);
	KUNIT_EXPECT_NULL(test, t->at_unbind);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->vm.svm.garbage_collector.range_list));

	KUNIT_ASSERT_EQ(test, vm_munmap(ADDR, SZ_4M), 0);
	KUNIT_ASSERT_EQ(test, vfs_truncate(&file->f_path, size), 0);
	KUNIT_EXPECT_EQ(test, t->kills, 0);
}

KUNIT_DEFINE_ACTION_WRAPPER(put_file, fput, struct file *);

static void test_end_of_file(struct kunit *test)
{
	struct file *file = shmem_file_setup("xe_svm", SZ_4M, EMPTY_VMA_FLAGS);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, put_file, file), 0);
	end_of_file(test, file);
}

static void test_end_of_dax_file(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;

	if (!f->shift || !S_ISREG(file_inode(f->file)->i_mode))
		kunit_skip(test, "not for this memory");
	end_of_file(test, f->file);
}

/* The whole of a leaf is there, also where it ends. */
static void test_dax(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;

	if (!f->shift)
		kunit_skip(test, "not for this memory");
	mapping_map(test, f->file, ADDR, max(SZ_4M, BIT(f->shift)), RW, 0);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_64K), 0);
	expect_bound(test, ADDR + SZ_64K, SZ_2M);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_2M), 0);
	expect_bound(test, ADDR + SZ_4M - SZ_4K, SZ_2M);
}

/* Memory that no device may have, P2PDMA for instance, is refused in the end. */
static void test_refused(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	struct xe_svm_kunit *t = test->priv;

	if (f->shift)
		kunit_skip(test, "not for this memory");
	mapping_map(test, f->file, ADDR, SZ_64K, RW, 0);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), -EOPNOTSUPP);
	KUNIT_EXPECT_LE(test, t->tries, 10);
	KUNIT_EXPECT_EQ(test, t->binds, 0);
}

static void test_read_only(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	mapping_map(test, NULL, ADDR, SZ_2M, PROT_READ, 0);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), -EPERM);
	KUNIT_EXPECT_EQ(test, t->binds, 0);
	t->vma.gpuva.flags |= XE_VMA_READ_ONLY;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), 0);
	expect_bound(test, ADDR, SZ_2M);
}

/* Pages go after they were looked up and before they are bound, twice. */
static void lose_pages(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	if (t->binds <= 2)
		KUNIT_EXPECT_EQ(test, 0,
				vfs_fallocate(t->file, FALLOC_FL_PUNCH_HOLE |
					      FALLOC_FL_KEEP_SIZE, SZ_64K, SZ_4K));
}

static void again(struct kunit *test, struct file *file)
{
	struct xe_svm_kunit *t = test->priv;

	t->file = file;
	t->at_bind = lose_pages;
	mapping_map(test, file, ADDR, SZ_2M, RW, 0);
	KUNIT_EXPECT_EQ(test, fault(test, ADDR + SZ_64K), 0);
	KUNIT_EXPECT_EQ(test, t->binds, 3);
	expect_bound(test, ADDR + SZ_64K, SZ_2M);
	KUNIT_ASSERT_EQ(test, vm_munmap(ADDR, SZ_2M), 0);
}

static void test_again(struct kunit *test)
{
	struct file *file = shmem_file_setup("xe_svm", SZ_4M, EMPTY_VMA_FLAGS);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, put_file, file), 0);
	again(test, file);
}

static void test_again_dax(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;

	if (!f->shift || !S_ISREG(file_inode(f->file)->i_mode))
		kunit_skip(test, "not for this memory");
	again(test, f->file);
}

/* An atomic access that wants VRAM. */
static void test_vram_only(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	t->xe.info.is_dgfx = true;
	t->need_vram = 1;
	mapping_map(test, NULL, ADDR, SZ_4M, RW, 0);
	mapping_cpu_phys(test, ADDR, true);

	/* The CPU has the pages back each time: the GPU asks again. */
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), 0);
	KUNIT_EXPECT_EQ(test, t->populates, 3);
	KUNIT_EXPECT_EQ(test, t->binds, 0);
	expect_not_bound(test, ADDR);
	/* The range is as it was. */
	KUNIT_ASSERT_NOT_NULL(test, range_at(t, ADDR));
	KUNIT_EXPECT_EQ(test, xe_svm_range_size(range_at(t, ADDR)), SZ_2M);

	/* No VRAM is an error. */
	t->populate_err = -ENOSPC;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), -ENOSPC);
	KUNIT_EXPECT_EQ(test, t->populates, 3);
	KUNIT_EXPECT_EQ(test, t->binds, 0);

	/* Where it is only preferred, there is the memory of the CPU. */
	t->need_vram = 0;
	t->vma.attr.preferred_loc.devmem_fd = DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), 0);
	KUNIT_EXPECT_EQ(test, t->populates, 1);
	KUNIT_EXPECT_EQ(test, t->binds, 1);
	KUNIT_EXPECT_NOT_NULL(test, range_at(t, ADDR));
}

/* No DMA mapping is to be had, only bounce buffers: an error, at once. */
static void test_no_dma(struct kunit *test)
{
	static struct io_tlb_mem forced = { .force_bounce = true };
	struct xe_svm_kunit *t = test->priv;
	struct io_tlb_mem *mem = t->xe.drm.dev->dma_io_tlb_mem;

	mapping_map(test, NULL, ADDR, SZ_2M, RW, 0);
	t->xe.drm.dev->dma_io_tlb_mem = &forced;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), -ENOMEM);
	KUNIT_EXPECT_EQ(test, t->tries, 1);
	KUNIT_EXPECT_EQ(test, t->binds, 0);
	KUNIT_EXPECT_EQ(test, t->unbinds, 0);
	expect_not_bound(test, ADDR);
	t->xe.drm.dev->dma_io_tlb_mem = mem;
	KUNIT_EXPECT_EQ(test, fault(test, ADDR), 0);
	expect_bound(test, ADDR, SZ_2M);
}

/* The pages of a range are mapped by one task at a time, as lockdep sees. */
static void test_lock(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;
	struct drm_gpusvm_ctx ctx = {};

	mapping_map(test, NULL, ADDR, SZ_2M, RW, 0);
	KUNIT_ASSERT_EQ(test, fault(test, ADDR), 0);
	KUNIT_ASSERT_NOT_NULL(test, range_at(t, ADDR));
	kunit_warning_suppress(test) {
		down_read(&t->vm.lock);
		KUNIT_EXPECT_EQ(test, 0, xe_svm_range_get_pages(&t->vm, range_at(t, ADDR), &ctx));
		up_read(&t->vm.lock);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, IS_ENABLED(CONFIG_LOCKDEP));
	}
}

static int xe_svm_kunit_init(struct kunit *test)
{
	struct xe_svm_kunit *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct xe_tile *tile;
	struct xe_vm *vm;

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->test = test;
	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);

	t->xe.drm.dev = kunit_device_register(test, "xe_svm");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->xe.drm.dev);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(t->xe.drm.dev,
							      DMA_BIT_MASK(64)));
	t->xe.info.tile_count = 1;
	t->xe.usm.pf_wq = system_percpu_wq;
	t->xe.atomic_svm_timeslice_ms = 5;
	tile = &t->xe.tiles[0];
	tile->xe = &t->xe;
	tile->primary_gt = &t->gt;
	t->gt.tile = tile;
	t->dpagemap.drm = &t->xe.drm;
	t->dpagemap.ops = &pagemap_ops;
	t->dpagemap.pagemap = &t->pagemap;

	vm = &t->vm;
	vm->xe = &t->xe;
	vm->size = TASK_SIZE;
	vm->flags = XE_VM_FLAG_FAULT_MODE;
	init_rwsem(&vm->lock);
	kref_init(&vm->gpuvm.kref);
	vm->gpuvm.ops = &gpuvm_ops;
	vm->gpuvm.r_obj = &t->obj;
	kref_init(&t->obj.refcount);
	t->obj.resv = &t->obj._resv;
	dma_resv_init(t->obj.resv);
	spin_lock_init(&vm->svm.garbage_collector.lock);
	INIT_LIST_HEAD(&vm->svm.garbage_collector.range_list);
	INIT_WORK(&vm->svm.garbage_collector.work, xe_svm_garbage_collector_work_func);
	t->vma.gpuva.vm = &vm->gpuvm;
	t->vma.gpuva.va.range = TASK_SIZE;
	t->vma.gpuva.flags = XE_VMA_SYSTEM_ALLOCATOR;
	t->vma.attr.preferred_loc.devmem_fd = DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM;
	KUNIT_ASSERT_EQ(test, 0,
			drm_gpusvm_init(&vm->svm.gpusvm, "kunit", current->mm, 0,
					vm->size, SZ_512M, &gpusvm_ops,
					fault_chunk_sizes,
					ARRAY_SIZE(fault_chunk_sizes)));
	drm_gpusvm_driver_set_lock(&vm->svm.gpusvm, &vm->lock);
	test->priv = t;
	return 0;
}

static void xe_svm_kunit_exit(struct kunit *test)
{
	struct xe_svm_kunit *t = test->priv;

	if (t) {
		disable_work_sync(&t->vm.svm.garbage_collector.work);
		t->vm.size = 0;
		down_write(&t->vm.lock);
		xe_svm_fini(&t->vm);
		up_write(&t->vm.lock);
		/* Each range had a reference. */
		KUNIT_EXPECT_EQ(test, kref_read(&t->vm.gpuvm.kref), 1);
		dma_resv_fini(t->obj.resv);
	}
	mocks_exit(test);
}

static struct kunit_case xe_svm_cases[] = {
	KUNIT_CASE(test_anon),
	KUNIT_CASE(test_unmap),
	KUNIT_CASE(test_unmap_late),
	KUNIT_CASE(test_end_of_file),
	KUNIT_CASE_PARAM(test_end_of_dax_file, mapping_gen_params),
	KUNIT_CASE_PARAM(test_dax, mapping_gen_params),
	KUNIT_CASE_PARAM(test_refused, mapping_gen_params),
	KUNIT_CASE(test_read_only),
	KUNIT_CASE(test_again),
	KUNIT_CASE_PARAM(test_again_dax, mapping_gen_params),
	KUNIT_CASE(test_vram_only),
	KUNIT_CASE(test_no_dma),
	KUNIT_CASE(test_lock),
	{}
};

static struct kunit_suite xe_svm_suite = {
	.name = "xe_svm",
	.init = xe_svm_kunit_init,
	.exit = xe_svm_kunit_exit,
	.test_cases = xe_svm_cases,
};

kunit_test_suite(xe_svm_suite);

MODULE_DESCRIPTION("KUnit tests of xe's faults on SVM memory, without a GPU");
MODULE_LICENSE("Dual MIT/GPL");
