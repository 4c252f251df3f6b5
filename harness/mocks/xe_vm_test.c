// SPDX-License-Identifier: MIT
/*
 * KUnit tests of xe's VM_BIND: for which devices it does what, and which ranges of
 * an SVM prefetch are left to be bound. xe_vm.c is the kernel's own; each range says
 * whether it has VRAM and pages.
 */
#include <xe_vm.c>

#include <kunit/device.h>
#include <kunit/test-bug.h>

#include "mocks.h"

struct prefetch_range {
	struct xe_svm_range base;
	bool wants_vram, moved;
	int vram_err, pages_err;
};

struct xe_vm_kunit {
	struct xe_device xe;
	struct xe_vm vm;
	struct xe_vma vma;
	struct drm_pagemap dpagemap;
	struct xe_vma_ops vops;
	struct xe_vma_op op;
	struct prefetch_range ranges[4];
	unsigned int tries;	/* to get pages */
};

static struct xe_vm_kunit *to_kunit(struct xe_vm *vm)
{
	return container_of(vm, struct xe_vm_kunit, vm);
}

static struct prefetch_range *to_prefetch(struct xe_svm_range *range)
{
	return container_of(range, struct prefetch_range, base);
}

bool xe_svm_range_needs_migrate_to_vram(struct xe_svm_range *range, struct xe_vma *vma,
					const struct drm_pagemap *dpagemap)
{
	return dpagemap && to_prefetch(range)->wants_vram;
}

int xe_svm_alloc_vram(struct xe_svm_range *range, const struct drm_gpusvm_ctx *ctx,
		      struct drm_pagemap *dpagemap)
{
	to_prefetch(range)->moved = !to_prefetch(range)->vram_err;
	return to_prefetch(range)->vram_err;
}

int xe_svm_range_get_pages(struct xe_vm *vm, struct xe_svm_range *range,
			   struct drm_gpusvm_ctx *ctx)
{
	to_kunit(vm)->tries++;
	return to_prefetch(range)->pages_err;
}

void *xe_svm_private_page_owner(struct xe_vm *vm, bool force_smem)
{
	return NULL;
}

void xe_svm_range_migrate_to_smem(struct xe_vm *vm, struct xe_svm_range *range)
{
}

void xe_svm_range_debug(struct xe_svm_range *range, const char *operation)
{
}

u16 xe_pat_index_get_coh_mode(struct xe_device *xe, u16 pat_index)
{
	return XE_COH_2WAY;
}

bool xe_pat_index_get_comp_en(struct xe_device *xe, u16 pat_index)
{
	return false;
}

bool xe_device_is_l2_flush_optimized(struct xe_device *xe)
{
	return false;
}

/* Ask for all ranges, which are for both of two tiles, and get those of @left. */
static void expect_left(struct kunit *test, int ret, unsigned long left)
{
	struct xe_vm_kunit *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(t->ranges); i++)
		KUNIT_ASSERT_EQ(test, 0,
				xa_err(xa_store(&t->op.prefetch_range.range, i,
						&t->ranges[i].base, GFP_KERNEL)));
	t->op.prefetch_range.ranges_count = ARRAY_SIZE(t->ranges);
	for (i = 0; i < 2; i++)
		t->vops.pt_update_ops[i].num_ops = ARRAY_SIZE(t->ranges) + i;

	KUNIT_EXPECT_EQ(test, ret, vm_bind_ioctl_ops_prefetch_ranges(&t->vm, &t->vops));
	if (ret)
		return;
	for (i = 0; i < ARRAY_SIZE(t->ranges); i++)
		KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->op.prefetch_range.range, i),
				    left & BIT(i) ? &t->ranges[i].base : NULL);
	KUNIT_EXPECT_EQ(test, t->op.prefetch_range.ranges_count, hweight_long(left));
	for (i = 0; i < 2; i++)
		KUNIT_EXPECT_EQ(test, t->vops.pt_update_ops[i].num_ops,
				hweight_long(left) + i);
}

static void test_prefetch(struct kunit *test)
{
	struct xe_vm_kunit *t = test->priv;
	int i;

	expect_left(test, 0, 0xf);

	/* One is behind the end of a file, one may not be written, one is P2PDMA. */
	t->ranges[1].pages_err = -EFAULT;
	expect_left(test, 0, 0xd);
	t->ranges[2].pages_err = -EPERM;
	t->ranges[0].pages_err = -EOPNOTSUPP;
	expect_left(test, 0, 0x8);
	/* None is left: that is no error either. */
	t->ranges[3].pages_err = -EFAULT;
	expect_left(test, 0, 0);

	/* Errors that are not of the memory are reported. */
	for (i = 0; i < ARRAY_SIZE(t->ranges); i++)
		t->ranges[i].pages_err = 0;
	t->ranges[2].pages_err = -ENOMEM;
	expect_left(test, -ENOMEM, 0);
}

/* No range is tried for a process that is killed. */
static void test_prefetch_killed(struct kunit *test)
{
	struct xe_vm_kunit *t = test->priv;

	sigaddset(&current->pending.signal, SIGKILL);
	set_thread_flag(TIF_SIGPENDING);
	expect_left(test, -EINTR, 0);
	sigdelset(&current->pending.signal, SIGKILL);
	clear_thread_flag(TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, t->tries, 0);
	expect_left(test, 0, 0xf);
	KUNIT_EXPECT_EQ(test, t->tries, 4);
}

/* No VRAM for one: others have it already, or do not want it, or do not get it. */
static void test_prefetch_vram(struct kunit *test)
{
	struct xe_vm_kunit *t = test->priv;

	t->op.prefetch_range.dpagemap = &t->dpagemap;
	t->ranges[0].wants_vram = true;
	t->ranges[1].wants_vram = true;
	t->ranges[1].vram_err = -ENOSPC;
	t->ranges[3].wants_vram = true;
	expect_left(test, 0, 0x5);
	KUNIT_EXPECT_TRUE(test, t->ranges[0].moved);
	KUNIT_EXPECT_FALSE(test, t->ranges[3].moved);
	KUNIT_EXPECT_EQ(test, t->tries, 2);
	t->ranges[0].vram_err = -EBUSY;
	expect_left(test, 0, 0x4);
}

/* Bind what @op says, of no object. */
static int check_args(struct xe_vm_kunit *t, u32 op, u32 flags)
{
	struct drm_xe_vm_bind args = {
		.num_binds = 1,
		.bind = { .op = op, .flags = flags, .range = SZ_2M },
	};
	struct drm_xe_vm_bind_op *ops;

	return vm_bind_ioctl_check_args(&t->xe, &t->vm, &args, &ops);
}

/* A device that cannot have SVM has userptrs, and all else. */
static void test_device(struct kunit *test)
{
	struct xe_vm_kunit *t = test->priv;
	u32 map = DRM_XE_VM_BIND_OP_MAP, userptr = DRM_XE_VM_BIND_OP_MAP_USERPTR;
	u32 mirror = DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR;

	KUNIT_EXPECT_EQ(test, check_args(t, map, mirror), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_args(t, userptr, 0), 0);
	KUNIT_EXPECT_EQ(test, check_args(t, map, DRM_XE_VM_BIND_FLAG_NULL), 0);
	KUNIT_EXPECT_EQ(test, check_args(t, DRM_XE_VM_BIND_OP_UNMAP, 0), 0);
	t->xe.info.has_cpu_addr_mirror = true;
	KUNIT_EXPECT_EQ(test, check_args(t, map, mirror), 0);
	KUNIT_EXPECT_EQ(test, check_args(t, userptr, 0), 0);
}

static int xe_vm_kunit_init(struct kunit *test)
{
	struct xe_vm_kunit *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->xe.drm.dev = kunit_device_register(test, "xe_vm");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->xe.drm.dev);
	t->xe.info.tile_count = 2;
	t->xe.info.mem_region_mask = 1;
	t->xe.pat.n_entries = 1;
	t->vm.flags = XE_VM_FLAG_FAULT_MODE;
	t->vm.xe = &t->xe;
	t->vma.gpuva.flags = XE_VMA_SYSTEM_ALLOCATOR;
	INIT_LIST_HEAD(&t->vops.list);
	t->vops.vm = &t->vm;
	t->vops.flags = XE_VMA_OPS_FLAG_HAS_SVM_PREFETCH;
	t->op.base.op = DRM_GPUVA_OP_PREFETCH;
	t->op.base.prefetch.va = &t->vma.gpuva;
	t->op.tile_mask = 3;
	xa_init_flags(&t->op.prefetch_range.range, XA_FLAGS_ALLOC);
	list_add_tail(&t->op.link, &t->vops.list);
	test->priv = t;
	return 0;
}

static void xe_vm_kunit_exit(struct kunit *test)
{
	struct xe_vm_kunit *t = test->priv;

	if (t)
		xa_destroy(&t->op.prefetch_range.range);
	mocks_exit(test);
}

static struct kunit_case xe_vm_cases[] = {
	KUNIT_CASE(test_prefetch),
	KUNIT_CASE(test_prefetch_killed),
	KUNIT_CASE(test_prefetch_vram),
	KUNIT_CASE(test_device),
	{}
};

static struct kunit_suite xe_vm_suite = {
	.name = "xe_vm",
	.init = xe_vm_kunit_init,
	.exit = xe_vm_kunit_exit,
	.test_cases = xe_vm_cases,
};

kunit_test_suite(xe_vm_suite);

MODULE_DESCRIPTION("KUnit tests of xe's VM_BIND, without a GPU");
MODULE_LICENSE("Dual MIT/GPL");
