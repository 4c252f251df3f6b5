// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of how amdkfd gets the pages of evicted userptrs again
 * (amdgpu_amdkfd_gpuvm.c), without a GPU.
 */
#include "amdgpu_amdkfd_gpuvm.c"

#include "mocks.h"

#define NR	3

static struct userptr_test {
	struct amdkfd_process_info process_info;
	struct kgd_mem mem[NR];
	struct amdgpu_bo *bo[NR];
	struct ttm_resource resource;
	struct ttm_tt ttm[NR];
	struct page *pages[NR];
	struct amdgpu_hmm_range ranges[NR];
	struct amdgpu_device *adev;
	int error;	/* of the first userptr */
	unsigned int calls;
} t;

bool no_system_mem_limit;
uint64_t amdgpu_amdkfd_total_mem_size;

struct amdgpu_hmm_range *amdgpu_hmm_range_alloc(struct amdgpu_bo *bo)
{
	int i;

	for (i = 0; i < NR && t.ranges[i].hmm_range.start; i++)
		;
	if (i == NR)
		return NULL;
	t.ranges[i].hmm_range.start = 1;
	return &t.ranges[i];
}

void amdgpu_hmm_range_free(struct amdgpu_hmm_range *range)
{
	if (range)
		range->hmm_range.start = 0;
}

int amdgpu_ttm_tt_get_user_pages(struct amdgpu_bo *bo, struct amdgpu_hmm_range *range)
{
	t.calls++;
	return bo == t.bo[0] ? t.error : 0;
}

void amdgpu_ttm_tt_set_user_pages(struct ttm_tt *ttm, struct amdgpu_hmm_range *range)
{
	ttm->pages[0] = range ? ZERO_PAGE(0) : NULL;
}

/* All are evicted; the first gets @error. */
static int update(int error)
{
	int i;

	t.error = error;
	t.calls = 0;
	for (i = 0; i < NR; i++) {
		t.mem[i].invalid = 1;
		t.pages[i] = ZERO_PAGE(0);
	}
	return update_invalid_user_pages(&t.process_info, NULL);
}

static void test_final(struct kunit *test)
{
	static const int errors[] = { -EFAULT, -EPERM, -ESRCH };
	int i, j;

	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		KUNIT_EXPECT_EQ(test, update(errors[i]), 0);
		KUNIT_EXPECT_EQ(test, t.calls, NR);
		/* No pages, so that its entries are cleared; it stays in the list. */
		KUNIT_EXPECT_NULL(test, t.pages[0]);
		KUNIT_EXPECT_NULL(test, t.mem[0].range);
		KUNIT_EXPECT_NE(test, t.mem[0].invalid, 0);
		for (j = 1; j < NR; j++) {
			KUNIT_EXPECT_NOT_NULL(test, t.pages[j]);
			KUNIT_EXPECT_NOT_NULL(test, t.mem[j].range);
			KUNIT_EXPECT_EQ(test, t.mem[j].invalid, 0);
		}
	}
	KUNIT_EXPECT_EQ(test, update(0), 0);
	KUNIT_EXPECT_NOT_NULL(test, t.pages[0]);
	KUNIT_EXPECT_EQ(test, t.mem[0].invalid, 0);
}

static void test_transient(struct kunit *test)
{
	static const int errors[] = { -EAGAIN, -EBUSY, -ENOMEM };
	int i;

	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		KUNIT_EXPECT_EQ(test, update(errors[i]), errors[i]);
		KUNIT_EXPECT_NULL(test, t.mem[0].range);
		KUNIT_EXPECT_NE(test, t.mem[0].invalid, 0);
		KUNIT_EXPECT_EQ(test, update(0), 0);
		KUNIT_EXPECT_EQ(test, t.mem[0].invalid, 0);
	}
}

static int userptr_init(struct kunit *test)
{
	int i;

	memset(&t, 0, sizeof(t));
	t.adev = kvzalloc(sizeof(*t.adev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t.adev);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, (kunit_action_t *)kvfree,
							   t.adev));
	mutex_init(&t.process_info.notifier_lock);
	INIT_LIST_HEAD(&t.process_info.userptr_valid_list);
	INIT_LIST_HEAD(&t.process_info.userptr_inval_list);
	t.resource.mem_type = TTM_PL_SYSTEM;
	for (i = 0; i < NR; i++) {
		t.bo[i] = kunit_kzalloc(test, sizeof(*t.bo[i]), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, t.bo[i]);
		t.bo[i]->tbo.resource = &t.resource;
		t.bo[i]->tbo.bdev = &t.adev->mman.bdev;
		t.bo[i]->tbo.ttm = &t.ttm[i];
		t.ttm[i].pages = &t.pages[i];
		t.ttm[i].num_pages = 1;
		t.mem[i].bo = t.bo[i];
		list_add_tail(&t.mem[i].validate_list,
			      &t.process_info.userptr_valid_list);
	}
	return 0;
}

static struct kunit_case userptr_cases[] = {
	KUNIT_CASE(test_final),
	KUNIT_CASE(test_transient),
	{}
};

static struct kunit_suite userptr_suite = {
	.name = "amdgpu_userptr",
	.init = userptr_init,
	.exit = mocks_exit,
	.test_cases = userptr_cases,
};

kunit_test_suite(userptr_suite);

MODULE_DESCRIPTION("KUnit tests of amdkfd's userptrs");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_LICENSE("GPL");
