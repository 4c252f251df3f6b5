// SPDX-License-Identifier: MIT
/*
 * KUnit tests of what xe does when the page tables of one tile cannot be updated:
 * xe_pt.c is the kernel's own, the update itself fails as it is told to.
 */
#include <xe_pt.c>

#include "mocks.h"

struct xe_pt_kunit {
	struct xe_device xe;
	struct xe_exec_queue q;
	struct xe_vm vm;
	struct drm_gem_object obj;
	struct xe_vma_ops vops;
	/* What the update ends with, and what was done then. */
	int err;
	unsigned int kills;
};

struct dma_fence *xe_migrate_update_pgtables(struct xe_migrate *m,
					     struct xe_migrate_pt_update *update)
{
	struct xe_pt_kunit *t = container_of(update->vops, struct xe_pt_kunit, vops);

	return ERR_PTR(t->err);
}

/* There are no such jobs: nothing is invalidated. */
void xe_tlb_inval_job_put(struct xe_tlb_inval_job *job)
{
}

const struct xe_range_fence_ops xe_range_fence_kfree_ops = {};

void xe_vm_kill(struct xe_vm *vm, bool unlocked)
{
	container_of(vm, struct xe_pt_kunit, vm)->kills++;
}

static const struct {
	const char *name;
	int err;
	unsigned int tile;
	u32 ops[2];
	unsigned int kills;
} failures[] = {
	{ "again, first tile", -EAGAIN, 0, { 1, 1 }, 0 },
	{ "again, second tile", -EAGAIN, 1, { 1, 1 }, 1 },
	{ "again, fault on the second tile", -EAGAIN, 1, { 0, 1 }, 0 },
	{ "no pages for a prefetch, second tile", -ENODATA, 1, { 1, 1 }, 0 },
	{ "no memory, first tile", -ENOMEM, 0, { 1, 1 }, 0 },
	{ "no memory, second tile", -ENOMEM, 1, { 1, 1 }, 1 },
};

KUNIT_ARRAY_PARAM_DESC(failures, failures, name);

static void test_run_fails(struct kunit *test)
{
	const typeof(failures[0]) *f = test->param_value;
	struct xe_pt_kunit *t = test->priv;
	struct dma_fence *fence;
	int i;

	for (i = 0; i < 2; i++)
		t->vops.pt_update_ops[i].current_op = f->ops[i];
	t->err = f->err;

	down_write(&t->vm.lock);
	dma_resv_lock(t->obj.resv, NULL);
	fence = xe_pt_update_ops_run(&t->xe.tiles[f->tile], &t->vops);
	dma_resv_unlock(t->obj.resv);
	up_write(&t->vm.lock);

	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(fence), f->err);
	KUNIT_EXPECT_EQ(test, t->kills, f->kills);
}

static int xe_pt_kunit_init(struct kunit *test)
{
	struct xe_pt_kunit *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->xe.info.tile_count = 2;
	t->vm.xe = &t->xe;
	t->vm.flags = XE_VM_FLAG_FAULT_MODE;
	init_rwsem(&t->vm.lock);
	t->vm.gpuvm.r_obj = &t->obj;
	t->obj.resv = &t->obj._resv;
	dma_resv_init(t->obj.resv);
	t->vops.vm = &t->vm;
	for (i = 0; i < 2; i++) {
		t->xe.tiles[i].xe = &t->xe;
		t->xe.tiles[i].id = i;
		t->vops.pt_update_ops[i].q = &t->q;
	}
	test->priv = t;
	return 0;
}

static void xe_pt_kunit_exit(struct kunit *test)
{
	struct xe_pt_kunit *t = test->priv;

	if (t)
		dma_resv_fini(t->obj.resv);
	mocks_exit(test);
}

static struct kunit_case xe_pt_cases[] = {
	KUNIT_CASE_PARAM(test_run_fails, failures_gen_params),
	{}
};

static struct kunit_suite xe_pt_suite = {
	.name = "xe_pt",
	.init = xe_pt_kunit_init,
	.exit = xe_pt_kunit_exit,
	.test_cases = xe_pt_cases,
};

kunit_test_suite(xe_pt_suite);

MODULE_DESCRIPTION("KUnit tests of xe's page table updates, without a GPU");
MODULE_LICENSE("Dual MIT/GPL");
