// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of mlx5's on-demand paging without the card: the driver's odp.c and
 * umr.c as they are, ib_umem_odp, real memory of a process, and the IOMMU of
 * QEMU's edu. Of the card there is the table that UMR work requests write, see
 * mlx5r_ring_db(). What is not there: commands, events, and page faults of the card.
 */
#include <linux/hmm-dma.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <rdma/ib_umem_odp.h>

#include "mlx5_ib.h"

/*
 * Memory is so fragmented that the buffer with the entries of one work request is a
 * page: a chunk is 2 MiB.
 */
#define CHUNK_PAGES	(PAGE_SIZE / sizeof(struct mlx5_mtt))
static inline void *mock_kmalloc(size_t size, gfp_t gfp)
{
	return size > PAGE_SIZE ? NULL : kmalloc(size, gfp);
}

#pragma push_macro("kmalloc")
#undef kmalloc
#define kmalloc mock_kmalloc
#include "umr.c"
#pragma pop_macro("kmalloc")

/*
 * No memory for the IOMMU's page table, say, at these calls, the first one first; at
 * others something is in the way that is gone by then.
 */
static unsigned long mock_map_fails, mock_map_exists;
static int mock_ib_umem_odp_map(struct ib_umem_odp *odp, struct ib_umem_odp_list *list)
{
	bool fails = mock_map_fails & 1, exists = mock_map_exists & 1;

	mock_map_fails >>= 1;
	mock_map_exists >>= 1;
	if (exists) {
		list->batch.stale_start = ib_umem_start(odp);
		list->batch.stale_end = ib_umem_start(odp);
		return -EEXIST;
	}
	return fails ? -ENOMEM : ib_umem_odp_map(odp, list);
}

/* What happens between a look at the memory and the lock, once. */
static void (*mock_meanwhile)(void);
static bool mock_ib_umem_odp_lock(struct ib_umem_odp *odp, struct ib_umem_odp_list *list)
{
	void (*meanwhile)(void) = mock_meanwhile;

	mock_meanwhile = NULL;
	if (meanwhile)
		meanwhile();
	return ib_umem_odp_lock(odp, list);
}

#define ib_umem_odp_map mock_ib_umem_odp_map
#define ib_umem_odp_lock mock_ib_umem_odp_lock
#include "odp.c"
#undef ib_umem_odp_map
#undef ib_umem_odp_lock

#include "mocks.h"
#include "mapping.h"

/* Everything is mapped there, aligned to any leaf. */
#define ADDR		SZ_16G
#define HALF		(CHUNK_PAGES * PAGE_SIZE)
#define RW		(PROT_READ | PROT_WRITE)
#define CHILD_SHIFT	24	/* of an implicit MR */

/* A memory key of the card and the table behind it. */
struct mock_mkey {
	u32 key;
	void *table;
	size_t size;
	bool enabled;
};

static struct mock_hca {
	struct pci_dev *edu;
	struct iommu_domain *domain;
	struct mlx5_ib_dev *dev;
	struct mlx5_core_dev *mdev;
	struct mlx5_hca_cap *cap;
	struct ib_cqe *cqe;
	struct mock_mkey mkey[4];
	unsigned int mkeys;
	/* The work request as it is being written. */
	u32 key;
	u8 wqe[sizeof(struct mlx5r_umr_wqe) + 64] __aligned(64);
	struct mlx5_wqe_ctrl_seg ctrl;
	u32 wr_data[1];
	/* What it has seen. */
	unsigned int wqes;
	unsigned int bad;	/* no such key or entry, or the key is not enabled */
	unsigned int late;	/* DMA was unmapped before the entry was changed */
	unsigned int early;	/* the entry was there before DMA was mapped */
	unsigned int destroyed;
} *hca;

static struct mock_mkey *mock_mkey(u32 key)
{
	unsigned int i;

	for (i = 0; i < hca->mkeys; i++)
		if (hca->mkey[i].key == key)
			return &hca->mkey[i];
	return NULL;
}

/* Where the card's DMA goes; 0 if the IOMMU does not let it through. */
static phys_addr_t mock_dma_phys(dma_addr_t dma)
{
	return iommu_iova_to_phys(hca->domain, dma);
}

int mlx5r_begin_wqe(struct mlx5_ib_qp *qp, void **seg,
		    struct mlx5_wqe_ctrl_seg **ctrl, unsigned int *idx,
		    int *size, void **cur_edge, int nreq, __be32 general_id,
		    bool send_signaled, bool solicited)
{
	hca->key = be32_to_cpu(general_id);
	*seg = hca->wqe;
	*ctrl = &hca->ctrl;
	*idx = 0;
	*size = 0;
	*cur_edge = hca->wqe + sizeof(hca->wqe);
	return 0;
}

void mlx5r_finish_wqe(struct mlx5_ib_qp *qp, struct mlx5_wqe_ctrl_seg *ctrl,
		      void *seg, u8 size, void *cur_edge, unsigned int idx,
		      u64 wr_id, int nreq, u8 fence, u32 mlx5_opcode)
{
	hca->cqe = (struct ib_cqe *)wr_id;
}

/* The card copies the entries into the key's table, and says that it has. */
void mlx5r_ring_db(struct mlx5_ib_qp *qp, unsigned int nreq,
		   struct mlx5_wqe_ctrl_seg *ctrl)
{
	struct ib_wc wc = { .wr_cqe = hca->cqe, .status = IB_WC_SUCCESS };
	struct mlx5r_umr_wqe *wqe = (void *)hca->wqe;
	struct mock_mkey *mkey = mock_mkey(hca->key);
	u64 offset = ((u64)be32_to_cpu(wqe->ctrl_seg.xlt_offset_47_16) << 16 |
		      be16_to_cpu(wqe->ctrl_seg.xlt_offset)) * MLX5_IB_UMR_OCTOWORD;
	size_t bytes = be32_to_cpu(wqe->data_seg.byte_count), i;
	u64 dma = be64_to_cpu(wqe->data_seg.addr);

	hca->wqes++;
	if (!mkey || offset + bytes > mkey->size ||
	    (!mkey->enabled && wqe->ctrl_seg.flags & MLX5_UMR_CHECK_FREE)) {
		hca->bad++;
		hca->cqe->done(NULL, &wc);
		return;
	}
	for (i = 0; i < bytes; i += sizeof(u64)) {
		__be64 *entry = mkey->table + offset + i;
		u64 old = be64_to_cpu(*entry) & PAGE_MASK;
		phys_addr_t phys = mock_dma_phys(dma + i);

		*entry = phys ? *(__be64 *)phys_to_virt(phys) : cpu_to_be64(~0ULL);
		if (!(mkey->key & 1))
			continue;
		if (old && !mock_dma_phys(old))
			hca->late++;
		if (*entry && !mock_dma_phys(be64_to_cpu(*entry) & PAGE_MASK))
			hca->early++;
	}
	if (be64_to_cpu(wqe->ctrl_seg.mkey_mask) & MLX5_MKEY_MASK_FREE)
		mkey->enabled = true;
	hca->cqe->done(NULL, &wc);
}

/* Keys of MTTs are odd, those of other keys (KSM) even. */
struct mlx5_ib_mr *mlx5_mr_cache_alloc(struct mlx5_ib_dev *dev, int access_flags,
				       int access_mode, int ndescs)
{
	bool mtt = access_mode == MLX5_MKC_ACCESS_MODE_MTT;
	struct mock_mkey *mkey = &hca->mkey[hca->mkeys];
	struct mlx5_ib_mr *mr;

	if (hca->mkeys == ARRAY_SIZE(hca->mkey))
		return ERR_PTR(-ENOSPC);
	mr = kzalloc_obj(*mr);
	if (!mr)
		return ERR_PTR(-ENOMEM);
	mkey->size = ALIGN((size_t)ndescs * (mtt ? sizeof(struct mlx5_mtt) :
						   sizeof(struct mlx5_ksm)),
			   MLX5_UMR_FLEX_ALIGNMENT);
	mkey->table = kvzalloc(mkey->size, GFP_KERNEL);
	if (!mkey->table) {
		kfree(mr);
		return ERR_PTR(-ENOMEM);
	}
	mkey->key = 0x100 * ++hca->mkeys + mtt;
	mkey->enabled = false;
	mr->mmkey.key = mkey->key;
	init_waitqueue_head(&mr->mmkey.wait);
	return mr;
}

int mlx5_ib_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata)
{
	struct mlx5_ib_mr *mr = to_mmr(ibmr);
	struct mock_mkey *mkey = mock_mkey(mr->mmkey.key);
	struct ib_umem_odp *odp = mr->umem ? to_ib_umem_odp(mr->umem) : NULL;

	/*
	 * As mlx5_revoke_mr(): the test's memory can be going away meanwhile, as
	 * its thread is about to exit.
	 */
	if (odp)
		mutex_lock(&odp->umem_mutex);
	if (mkey)
		mkey->enabled = false;
	if (odp) {
		odp->private = NULL;
		mutex_unlock(&odp->umem_mutex);
		ib_umem_odp_release(odp);
	}
	kfree(mr);
	hca->destroyed++;
	return 0;
}

struct mlx5_test {
	struct mlx5_ib_pd pd;
	struct mlx5_ib_mr *mr;
	struct mlx5_ib_mr *imr;
};

/* As create_user_odp_mr(), as far as it is about memory. */
static void get_mr(struct kunit *test, unsigned long addr, size_t len, int access)
{
	struct mlx5_test *t = test->priv;
	struct ib_umem_odp *odp;

	access |= IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE;
	odp = ib_umem_odp_get(&hca->dev->ib_dev, addr, len, access, &mlx5_mn_ops);
	KUNIT_ASSERT_FALSE(test, IS_ERR(odp));
	t->mr = mlx5_mr_cache_alloc(hca->dev, access, MLX5_MKC_ACCESS_MODE_MTT,
				    ib_umem_odp_num_pages(odp));
	if (IS_ERR(t->mr)) {
		t->mr = NULL;
		ib_umem_odp_release(odp);
		KUNIT_FAIL_AND_ABORT(test, "no key");
	}
	t->mr->access_flags = access;
	t->mr->umem = &odp->umem;
	t->mr->ibmr.pd = &t->pd.ibpd;
	t->mr->ibmr.device = &hca->dev->ib_dev;
	t->mr->ibmr.iova = addr;
	t->mr->ibmr.length = len;
	odp->private = t->mr;
	KUNIT_ASSERT_TRUE(test, dma_use_iova(&odp->window.state));
}

static void reg_mr(struct kunit *test, unsigned long addr, size_t len)
{
	struct mlx5_test *t = test->priv;

	get_mr(test, addr, len, 0);
	KUNIT_ASSERT_EQ(test, 0, mlx5_ib_init_odp_mr(t->mr, &t->pd.ibpd));
}

static struct ib_umem_odp *mr_odp(struct kunit *test)
{
	struct mlx5_test *t = test->priv;

	return to_ib_umem_odp(t->mr->umem);
}

static u64 mtt(struct kunit *test, unsigned long addr)
{
	struct mlx5_test *t = test->priv;
	__be64 *table = mock_mkey(t->mr->mmkey.key)->table;

	return be64_to_cpu(table[(addr - t->mr->ibmr.iova) >> PAGE_SHIFT]);
}

static int fault(struct kunit *test, unsigned long addr, size_t len, u32 flags)
{
	struct mlx5_test *t = test->priv;

	return pagefault_mr(t->mr, addr, len, NULL, flags, false);
}

static void touch(struct kunit *test, unsigned long addr, size_t len, bool write)
{
	for (; len; addr += PAGE_SIZE, len -= PAGE_SIZE)
		mapping_cpu_phys(test, addr, write);
}

/* The card reaches what the CPU has in these pages, for reading or for writing too. */
static void expect_mapped(struct kunit *test, unsigned long addr, size_t len, bool write)
{
	u64 want = write ? MLX5_IB_MTT_PRESENT : MLX5_IB_MTT_READ;

	for (; len; addr += PAGE_SIZE, len -= PAGE_SIZE) {
		u64 entry = mtt(test, addr);

		KUNIT_ASSERT_EQ_MSG(test, entry & ~PAGE_MASK, want, "page %lx", addr);
		KUNIT_ASSERT_EQ_MSG(test, mock_dma_phys(entry & PAGE_MASK),
				    mapping_present_phys(addr), "page %lx", addr);
	}
}

static void expect_none(struct kunit *test, unsigned long addr, size_t len)
{
	for (; len; addr += PAGE_SIZE, len -= PAGE_SIZE)
		KUNIT_ASSERT_EQ_MSG(test, mtt(test, addr), 0, "page %lx", addr);
}

/* What is counted is what the card has entries for, each page once. */
static void expect_npages(struct kunit *test, int want)
{
	struct ib_umem_odp *odp = mr_odp(test);

	KUNIT_EXPECT_EQ(test, bitmap_weight(odp->mapped, ib_umem_odp_num_pages(odp)), want);
	KUNIT_EXPECT_EQ(test, odp->npages, want);
}

/* A large leaf of a device-dax cannot be cut. */
static bool can_be_cut(const struct mapping_file *f)
{
	return !f || f->shift == PAGE_SHIFT || S_ISREG(file_inode(f->file)->i_mode);
}

/* How much of anonymous memory, or of a file, one leaf maps. */
static size_t leaf_size(const struct mapping_file *f)
{
	return f ? BIT(f->shift) : SZ_2M;
}

/*
 * The pages of one chunk are there, those of the next are not: the card gets nothing
 * for them, and nothing is left when the pages go.
 */
static void test_absent_after_present(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	size_t more = max(SZ_64K, leaf_size(f));

	if (f && !f->shift)
		kunit_skip(test, "not for this memory");
	mapping_map(test, f ? f->file : NULL, ADDR, 2 * HALF, RW, 0);
	touch(test, ADDR, HALF, true);
	reg_mr(test, ADDR, 2 * HALF);
	expect_mapped(test, ADDR, HALF, true);
	expect_none(test, ADDR + HALF, HALF);
	expect_npages(test, CHUNK_PAGES);

	/* The same pages again, and those around the edge. */
	KUNIT_EXPECT_EQ(test, SZ_128K / PAGE_SIZE,
			fault(test, ADDR + HALF - SZ_64K, SZ_128K, 0));
	expect_mapped(test, ADDR, HALF + more, true);
	expect_npages(test, CHUNK_PAGES + more / PAGE_SIZE);

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, HALF));
	expect_none(test, ADDR, HALF);
	expect_mapped(test, ADDR + HALF, more, true);
	expect_npages(test, more / PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR + HALF, HALF));
	expect_none(test, ADDR, 2 * HALF);
	expect_npages(test, 0);
}

/* The same where the absent pages are between, and one work request is for all. */
static void test_absent_between(struct kunit *test)
{
	unsigned long last = ADDR + 2 * HALF - PAGE_SIZE;

	mapping_map(test, NULL, ADDR, HALF, RW, 0);
	mapping_map(test, NULL, last, PAGE_SIZE, RW, 0);
	touch(test, ADDR, HALF, true);
	touch(test, last, PAGE_SIZE, true);
	reg_mr(test, ADDR, 2 * HALF);
	expect_mapped(test, ADDR, HALF, true);
	expect_none(test, ADDR + HALF, HALF - PAGE_SIZE);
	expect_mapped(test, last, PAGE_SIZE, true);
	expect_npages(test, CHUNK_PAGES + 1);
}

/* Faults on what is mapped already, one for reading and then for writing among them. */
static void test_refault(struct kunit *test)
{
	unsigned long addr = ADDR + 2 * PAGE_SIZE;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	reg_mr(test, ADDR, SZ_64K);
	expect_npages(test, 0);
	touch(test, addr, PAGE_SIZE, true);
	KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, MLX5_PF_FLAGS_DOWNGRADE));
	expect_mapped(test, addr, PAGE_SIZE, false);
	expect_npages(test, 1);
	KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, 0));
	expect_mapped(test, addr, PAGE_SIZE, true);
	expect_npages(test, 1);
	KUNIT_EXPECT_EQ(test, 2, fault(test, addr, 2 * PAGE_SIZE, 0));
	expect_npages(test, 2);

	/* Prefetch without a fault: what is not there stays so, what is there is kept. */
	KUNIT_EXPECT_EQ(test, 16, fault(test, ADDR, SZ_64K, MLX5_PF_FLAGS_SNAPSHOT));
	expect_npages(test, 2);
	expect_none(test, ADDR, 2 * PAGE_SIZE);
	expect_mapped(test, addr, 2 * PAGE_SIZE, true);

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	expect_none(test, addr, PAGE_SIZE);
	expect_npages(test, 1);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, SZ_64K));
	expect_none(test, ADDR, SZ_64K);
	expect_npages(test, 0);
	KUNIT_EXPECT_LT(test, fault(test, addr, 1, 0), 0);
	expect_none(test, ADDR, SZ_64K);
	expect_npages(test, 0);
}

/* A fault that could not map its page for DMA leaves nothing, and is tried again. */
static void test_failed_fault(struct kunit *test)
{
	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	reg_mr(test, ADDR, SZ_64K);
	mock_map_fails = ~0UL;
	KUNIT_EXPECT_EQ(test, -ENOMEM, fault(test, ADDR, 1, 0));
	mock_map_fails = 0;
	expect_none(test, ADDR, SZ_64K);
	expect_npages(test, 0);

	/* It is, once, before it fails. */
	mock_map_fails = BIT(0);
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR + PAGE_SIZE, 1, 0));
	KUNIT_EXPECT_EQ(test, mock_map_fails, 0);
	/* The page next to it was there by then. */
	expect_mapped(test, ADDR, 2 * PAGE_SIZE, true);
	expect_npages(test, 2);
}

/* A registration that fails half way: its key has no entries, and gets none. */
static void test_failed_registration(struct kunit *test)
{
	struct mlx5_test *t = test->priv;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	get_mr(test, ADDR, SZ_64K, 0);
	mock_map_fails = ~0UL;
	touch(test, ADDR, PAGE_SIZE, true);
	KUNIT_EXPECT_EQ(test, -ENOMEM, mlx5_ib_init_odp_mr(t->mr, &t->pd.ibpd));
	mock_map_fails = 0;
	KUNIT_EXPECT_EQ(test, hca->wqes, 1);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, hca->wqes, 1);
	expect_none(test, ADDR, SZ_64K);
	expect_npages(test, 0);
}

/* A fault gives the card all of a leaf, by one work request. A part of it takes all. */
static void test_leaf(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	unsigned long addr = ADDR + 300 * PAGE_SIZE, hole = ADDR + SZ_1M;

	if (leaf_size(f) != SZ_2M || !can_be_cut(f))
		kunit_skip(test, "not for this memory");
	mapping_map(test, f ? f->file : NULL, ADDR, SZ_4M, RW, 0);
	reg_mr(test, ADDR, SZ_4M);
	hca->wqes = 0;
	KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, 0));
	KUNIT_EXPECT_EQ(test, hca->wqes, 1);
	expect_mapped(test, ADDR, SZ_2M, true);
	expect_none(test, ADDR + SZ_2M, SZ_2M);
	expect_npages(test, 512);

	/* The mm tells of whole leaves. If it were told of one page, all goes. */
	mlx5_ib_invalidate_range(&mr_odp(test)->notifier, &(struct mmu_notifier_range){
		.start = hole, .end = hole + PAGE_SIZE,
		.flags = MMU_NOTIFIER_RANGE_BLOCKABLE,
	}, mr_odp(test)->notifier.invalidate_seq);
	KUNIT_EXPECT_EQ(test, hca->wqes, 2);
	expect_none(test, ADDR, SZ_2M);
	expect_npages(test, 0);

	KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, 0));
	expect_mapped(test, ADDR, SZ_2M, true);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(hole, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, hca->wqes, 4);
	expect_none(test, ADDR, SZ_2M);
	expect_npages(test, 0);

	/* Now there are pages, or none yet. */
	KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, 0));
	expect_mapped(test, addr, PAGE_SIZE, true);
	expect_none(test, hole, PAGE_SIZE);
}

/*
 * What is clean is mapped for reading. To be written it is mapped anew; on the way the
 * card sees no entry, and never one without DMA behind it.
 */
static void test_upgrade(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	unsigned long addr = ADDR + 5 * PAGE_SIZE;
	unsigned int i;

	if (!f->shift || !S_ISREG(file_inode(f->file)->i_mode))
		kunit_skip(test, "not for this memory");
	mapping_map(test, f->file, ADDR, SZ_4M, RW, 0);
	touch(test, ADDR, SZ_4M, false);
	reg_mr(test, ADDR, SZ_4M);
	expect_mapped(test, ADDR, SZ_4M, false);
	hca->wqes = 0;
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, 0));
		expect_mapped(test, ADDR, SZ_2M, true);
		expect_mapped(test, ADDR + SZ_2M, SZ_2M, false);
		expect_npages(test, 1024);
		/* One to clear and one to write, and then one to write. */
		KUNIT_EXPECT_EQ(test, hca->wqes, 2 + i);
	}
}

/*
 * There is no memory to map it anew: it is tried once more, and then the fault fails.
 * What was mapped for reading is gone, and comes back with the next fault.
 */
static void test_upgrade_fails(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	unsigned long addr = ADDR + 5 * PAGE_SIZE;

	if (leaf_size(f) != SZ_2M || !S_ISREG(file_inode(f->file)->i_mode))
		kunit_skip(test, "not for this memory");
	mapping_map(test, f->file, ADDR, SZ_4M, RW, 0);
	touch(test, ADDR, SZ_4M, false);
	reg_mr(test, ADDR, SZ_4M);
	expect_mapped(test, ADDR, SZ_4M, false);
	/* The second time something is in the way, too. */
	mock_map_fails = BIT(1) | BIT(3);
	mock_map_exists = BIT(2);
	KUNIT_EXPECT_EQ(test, -ENOMEM, fault(test, addr, 1, 0));
	KUNIT_EXPECT_EQ(test, mock_map_fails, 0);
	expect_none(test, ADDR, SZ_2M);
	expect_mapped(test, ADDR + SZ_2M, SZ_2M, false);
	expect_npages(test, 512);
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR, 1, 0));
	expect_mapped(test, ADDR, SZ_2M, true);

	mock_map_fails = BIT(1);
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR + SZ_2M, 1, 0));
	KUNIT_EXPECT_EQ(test, mock_map_fails, 0);
	expect_mapped(test, ADDR + SZ_2M, SZ_2M, true);
	mock_map_fails = 0;
}

/* The card does not say that its entries are cleared: they may be there, so DMA stays. */
static void test_upgrade_not_cleared(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;

	if (leaf_size(f) != SZ_2M || !S_ISREG(file_inode(f->file)->i_mode))
		kunit_skip(test, "not for this memory");
	mapping_map(test, f->file, ADDR, SZ_2M, RW, 0);
	touch(test, ADDR, SZ_2M, false);
	reg_mr(test, ADDR, SZ_2M);
	hca->dev->umrc.state = MLX5_UMR_STATE_ERR;
	/* What would be unmapped would not be mapped again. */
	mock_map_fails = BIT(1) | BIT(2);
	KUNIT_EXPECT_EQ(test, -EFAULT, fault(test, ADDR, 1, 0));
	mock_map_fails = 0;
	hca->dev->umrc.state = MLX5_UMR_STATE_ACTIVE;
	expect_mapped(test, ADDR, SZ_2M, false);
	expect_npages(test, 512);
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR, 1, 0));
	expect_mapped(test, ADDR, SZ_2M, true);
}

/* A neighbour that could be written by now keeps the entry that it has. */
static void test_neighbour_access(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;

	if (leaf_size(f) != SZ_2M || !S_ISREG(file_inode(f->file)->i_mode))
		kunit_skip(test, "not for this memory");
	/* By pages, of which the second one does not follow on the first. */
	mapping_map(test, f->file, ADDR, SZ_64K, RW, PAGE_SIZE);
	mapping_map(test, f->file, ADDR, PAGE_SIZE, RW, SZ_64K);
	touch(test, ADDR, SZ_64K, false);
	reg_mr(test, ADDR, SZ_64K);
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR, 1, 0));
	expect_mapped(test, ADDR, PAGE_SIZE, true);
	expect_mapped(test, ADDR + PAGE_SIZE, SZ_64K - PAGE_SIZE, false);
	touch(test, ADDR + PAGE_SIZE, PAGE_SIZE, true);
	hca->wqes = 0;
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR, 1, 0));
	KUNIT_EXPECT_EQ(test, hca->wqes, 1);
	expect_mapped(test, ADDR, PAGE_SIZE, true);
	expect_mapped(test, ADDR + PAGE_SIZE, SZ_64K - PAGE_SIZE, false);
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR + PAGE_SIZE, 1, 0));
	expect_mapped(test, ADDR, 2 * PAGE_SIZE, true);
}

/*
 * Another thread faults a page between the look at the memory, which does not find it,
 * and the lock. It keeps its entry.
 */
static struct kunit *meanwhile_test;
static unsigned long meanwhile_addr;
static void meanwhile_fault(void)
{
	KUNIT_EXPECT_EQ(meanwhile_test, 1, fault(meanwhile_test, meanwhile_addr, 1, 0));
}

static void test_meanwhile(struct kunit *test)
{
	unsigned long last = ADDR + 255 * PAGE_SIZE;
	struct ib_umem_odp *odp;

	meanwhile_test = test;
	mapping_map(test, NULL, ADDR, SZ_1M, RW, 0);
	/* All of it is to be pages. */
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR + SZ_64K, PAGE_SIZE));
	touch(test, ADDR, PAGE_SIZE, true);
	touch(test, last, PAGE_SIZE, true);
	reg_mr(test, ADDR, SZ_1M);
	odp = mr_odp(test);
	expect_npages(test, 2);

	/* In a list of what is there. */
	meanwhile_addr = ADDR + 100 * PAGE_SIZE;
	mock_meanwhile = meanwhile_fault;
	KUNIT_EXPECT_EQ(test, 256, fault(test, ADDR, SZ_1M, MLX5_PF_FLAGS_SNAPSHOT));
	expect_mapped(test, meanwhile_addr, PAGE_SIZE, true);
	expect_npages(test, 3);

	/* A neighbour, behind the page and before it. */
	meanwhile_addr = ADDR + 51 * PAGE_SIZE;
	mock_meanwhile = meanwhile_fault;
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR + 50 * PAGE_SIZE, 1, 0));
	expect_mapped(test, ADDR + 50 * PAGE_SIZE, 2 * PAGE_SIZE, true);
	meanwhile_addr = ADDR + 49 * PAGE_SIZE;
	mock_meanwhile = meanwhile_fault;
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR + 50 * PAGE_SIZE, 1, 0));
	expect_mapped(test, ADDR + 49 * PAGE_SIZE, 3 * PAGE_SIZE, true);
	expect_npages(test, 6);

	/* A page that is not there any more is looked for twice, and not for ever. */
	mutex_lock(&odp->umem_mutex);
	set_bit(200, odp->mapped);
	mutex_unlock(&odp->umem_mutex);
	KUNIT_EXPECT_EQ(test, 256, fault(test, ADDR, SZ_1M, MLX5_PF_FLAGS_SNAPSHOT));
	mutex_lock(&odp->umem_mutex);
	clear_bit(200, odp->mapped);
	mutex_unlock(&odp->umem_mutex);
}

/* A prefetch for reading makes read-only what it is for, and no other entry. */
static void test_prefetch(struct kunit *test)
{
	unsigned long addr = ADDR + SZ_1M;

	mapping_map(test, NULL, ADDR, SZ_2M, RW, 0);
	touch(test, ADDR, PAGE_SIZE, true);
	reg_mr(test, ADDR, SZ_2M);
	expect_mapped(test, ADDR, SZ_2M, true);
	KUNIT_EXPECT_EQ(test, 8, fault(test, addr, 8 * PAGE_SIZE, MLX5_PF_FLAGS_DOWNGRADE));
	expect_mapped(test, ADDR, SZ_1M, true);
	expect_mapped(test, addr, 8 * PAGE_SIZE, false);
	expect_mapped(test, addr + 8 * PAGE_SIZE, SZ_1M - 8 * PAGE_SIZE, true);
}

/* Neither end of the region is that of a leaf, or of a group of entries. */
static void test_unaligned(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	unsigned long addr = ADDR + 3 * PAGE_SIZE, len = SZ_4M - 8 * PAGE_SIZE;

	if (f && !f->shift)
		kunit_skip(test, "not for this memory");
	mapping_map(test, f ? f->file : NULL, ADDR, SZ_4M, RW, 0);
	reg_mr(test, addr, len);
	KUNIT_EXPECT_EQ(test, len / PAGE_SIZE, fault(test, addr, len, 0));
	expect_mapped(test, addr, len, true);
	expect_npages(test, len / PAGE_SIZE);
	if (!can_be_cut(f))
		return;
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR + SZ_1M, PAGE_SIZE));
	expect_none(test, ADDR + SZ_1M, PAGE_SIZE);
	/* Page by page, each of which finds its neighbours. */
	for (; len; addr += PAGE_SIZE, len -= PAGE_SIZE)
		if (addr != ADDR + SZ_1M)
			KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, 0));
	addr = ADDR + 3 * PAGE_SIZE;
	expect_mapped(test, addr, ADDR + SZ_1M - addr, true);
	expect_none(test, ADDR + SZ_1M, PAGE_SIZE);
	addr = ADDR + SZ_1M + PAGE_SIZE;
	expect_mapped(test, addr, ADDR + SZ_4M - 5 * PAGE_SIZE - addr, true);
	expect_npages(test, SZ_4M / PAGE_SIZE - 9);
}

/* So many holes that one list does not hold them. */
static void test_many_holes(struct kunit *test)
{
	const unsigned int pages = 700;
	unsigned long len = 2 * pages * PAGE_SIZE;
	unsigned int i;

	for (i = 0; i < pages; i++) {
		mapping_map(test, NULL, ADDR + 2 * i * PAGE_SIZE, PAGE_SIZE, RW, 0);
		touch(test, ADDR + 2 * i * PAGE_SIZE, PAGE_SIZE, true);
	}
	reg_mr(test, ADDR, len);
	for (i = 0; i < pages; i++) {
		expect_mapped(test, ADDR + 2 * i * PAGE_SIZE, PAGE_SIZE, true);
		expect_none(test, ADDR + (2 * i + 1) * PAGE_SIZE, PAGE_SIZE);
	}
	expect_npages(test, pages);
	/* One work request for all of it. */
	hca->wqes = 0;
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, len));
	KUNIT_EXPECT_LE(test, hca->wqes, 2 * pages / CHUNK_PAGES + 1);
	expect_none(test, ADDR, len);
	expect_npages(test, 0);
}

/* A child of an implicit region goes with its last page, however often that was faulted. */
static void test_implicit_child(struct kunit *test)
{
	struct mlx5_test *t = test->priv;
	unsigned long idx = ADDR >> CHILD_SHIFT;
	struct mlx5_ib_mr *imr;
	int i;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	imr = mlx5_ib_alloc_implicit_mr(&t->pd, IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(imr));
	t->imr = imr;
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, 4, pagefault_mr(imr, ADDR, SZ_16K, NULL, 0, false));
	t->mr = xa_load(&imr->implicit_children, idx);
	KUNIT_ASSERT_NOT_NULL(test, t->mr);
	expect_mapped(test, ADDR, SZ_16K, true);
	expect_npages(test, 4);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR + PAGE_SIZE, SZ_64K - PAGE_SIZE));
	expect_npages(test, 1);
	t->mr = NULL;
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, PAGE_SIZE));
	KUNIT_EXPECT_NULL(test, xa_load(&imr->implicit_children, idx));
	for (i = 0; i < 500 && !READ_ONCE(hca->destroyed); i++)
		msleep(10);
	KUNIT_EXPECT_EQ(test, hca->destroyed, 1);
}

static int hca_init(struct kunit *test)
{
	static struct ib_pd umr_pd;
	static struct mlx5_ib_qp umr_qp;
	struct mlx5_test *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	hca = kunit_kzalloc(test, sizeof(*hca), GFP_KERNEL);
	if (!hca)
		return -ENOMEM;
	hca->dev = kunit_kzalloc(test, sizeof(*hca->dev), GFP_KERNEL);
	hca->mdev = kunit_kzalloc(test, sizeof(*hca->mdev), GFP_KERNEL);
	hca->cap = kunit_kzalloc(test, sizeof(*hca->cap), GFP_KERNEL);
	if (!hca->dev || !hca->mdev || !hca->cap)
		return -ENOMEM;
	hca->edu = pci_get_device(0x1234, 0x11e8, NULL);
	if (!hca->edu)
		return -ENODEV;
	hca->domain = iommu_get_domain_for_dev(&hca->edu->dev);
	if (!hca->domain || dma_set_mask_and_coherent(&hca->edu->dev, DMA_BIT_MASK(48)))
		return -EOPNOTSUPP;

	hca->mdev->pdev = hca->edu;
	hca->mdev->caps.hca[MLX5_CAP_GENERAL] = hca->cap;
	hca->mdev->caps.hca[MLX5_CAP_GENERAL_2] = hca->cap;
	hca->mdev->caps.hca[MLX5_CAP_ODP] = hca->cap;
	hca->dev->mdev = hca->mdev;
	hca->dev->ib_dev.dma_device = &hca->edu->dev;
	xa_init(&hca->dev->odp_mkeys);
	spin_lock_init(&umr_qp.sq.lock);
	umr_qp.sq.wr_data = hca->wr_data;
	umr_qp.ibqp.device = &hca->dev->ib_dev;
	hca->dev->umrc.pd = &umr_pd;
	hca->dev->umrc.qp = &umr_qp.ibqp;
	sema_init(&hca->dev->umrc.sem, MAX_UMR_WR);
	mutex_init(&hca->dev->umrc.lock);
	hca->dev->umrc.state = MLX5_UMR_STATE_ACTIVE;
	t->pd.ibpd.device = &hca->dev->ib_dev;

	/* As mlx5_ib_odp_init(), with smaller children. */
	mlx5_imr_mtt_shift = CHILD_SHIFT;
	mlx5_imr_mtt_size = BIT_ULL(CHILD_SHIFT);
	mlx5_imr_mtt_entries = BIT_ULL(CHILD_SHIFT - PAGE_SHIFT);
	mlx5_imr_ksm_entries = SZ_32G >> CHILD_SHIFT;
	mlx5_imr_ksm_page_shift = CHILD_SHIFT;
	xlt_emergency_page = hca->cap; /* never used: there is always a page */
	test->priv = t;
	return 0;
}

static void hca_exit(struct kunit *test)
{
	struct mlx5_test *t = test->priv;
	unsigned int i;

	if (t && t->mr && !t->imr)
		mlx5_ib_dereg_mr(&t->mr->ibmr, NULL);
	if (t && t->imr) {
		mlx5r_deref_wait_odp_mkey(&t->imr->mmkey);
		mlx5_ib_free_odp_mr(t->imr);
		mlx5_ib_dereg_mr(&t->imr->ibmr, NULL);
	}
	KUNIT_EXPECT_EQ(test, hca->bad, 0);
	KUNIT_EXPECT_EQ(test, hca->late, 0);
	KUNIT_EXPECT_EQ(test, hca->early, 0);
	for (i = 0; i < hca->mkeys; i++)
		kvfree(hca->mkey[i].table);
	xa_destroy(&hca->dev->odp_mkeys);
	pci_dev_put(hca->edu);
	mocks_exit(test);
}

static struct kunit_case mlx5_cases[] = {
	KUNIT_CASE(test_absent_after_present),
	KUNIT_CASE_PARAM(test_absent_after_present, mapping_gen_params),
	KUNIT_CASE(test_absent_between),
	KUNIT_CASE(test_refault),
	KUNIT_CASE(test_failed_fault),
	KUNIT_CASE(test_failed_registration),
	KUNIT_CASE(test_leaf),
	KUNIT_CASE_PARAM(test_leaf, mapping_gen_params),
	KUNIT_CASE_PARAM(test_upgrade, mapping_gen_params),
	KUNIT_CASE_PARAM(test_upgrade_fails, mapping_gen_params),
	KUNIT_CASE_PARAM(test_upgrade_not_cleared, mapping_gen_params),
	KUNIT_CASE_PARAM(test_neighbour_access, mapping_gen_params),
	KUNIT_CASE(test_meanwhile),
	KUNIT_CASE(test_prefetch),
	KUNIT_CASE(test_unaligned),
	KUNIT_CASE_PARAM(test_unaligned, mapping_gen_params),
	KUNIT_CASE(test_many_holes),
	KUNIT_CASE(test_implicit_child),
	{}
};

static struct kunit_suite mlx5_suite = {
	.name = "mlx5_odp",
	.init = hca_init,
	.exit = hca_exit,
	.test_cases = mlx5_cases,
};

/* Memory of another device. */
static void test_p2pdma(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	int i;

	if (f->shift)
		kunit_skip(test, "not for this memory");
	mapping_map(test, f->file, ADDR, SZ_64K, RW, 0);
	reg_mr(test, ADDR, SZ_64K);
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, 16, fault(test, ADDR, SZ_64K, 0));
		KUNIT_EXPECT_NE(test, mtt(test, ADDR + 15 * PAGE_SIZE), 0);
		expect_npages(test, 16);
	}
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, SZ_64K));
	expect_none(test, ADDR, SZ_64K);
	expect_npages(test, 0);
}

/*
 * A page beside that of another device which this one cannot reach, as if it were of
 * a type that nobody knows.
 */
static void test_out_of_reach(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	unsigned long addr = ADDR + PAGE_SIZE;
	struct dev_pagemap *pgmap;
	enum memory_type type;
	phys_addr_t phys;

	if (f->shift)
		kunit_skip(test, "not for this memory");
	mapping_map(test, f->file, ADDR, SZ_64K, RW, 0);
	mapping_map(test, NULL, addr, 2 * PAGE_SIZE, RW, 0);
	touch(test, addr, 2 * PAGE_SIZE, true);
	reg_mr(test, ADDR, SZ_64K);
	phys = mock_dma_phys(mtt(test, ADDR) & PAGE_MASK);
	KUNIT_ASSERT_NE(test, phys, 0);
	pgmap = page_pgmap(pfn_to_page(PHYS_PFN(phys)));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, SZ_64K));

	mapping_map(test, f->file, ADDR, SZ_64K, RW, 0);
	mapping_map(test, NULL, addr, 2 * PAGE_SIZE, RW, 0);
	touch(test, addr, 2 * PAGE_SIZE, true);
	type = pgmap->type;
	pgmap->type = MEMORY_DEVICE_PCI_P2PDMA + 1;
	KUNIT_EXPECT_EQ(test, 1, fault(test, addr, 1, 0));
	/* Its neighbours have what they can have. */
	KUNIT_EXPECT_NE(test, 0, mtt(test, addr));
	KUNIT_EXPECT_NE(test, 0, mtt(test, addr + PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, mtt(test, ADDR));
	KUNIT_EXPECT_EQ(test, 0, mtt(test, addr + 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, mr_odp(test)->npages, 2);
	/* It is an error only where it is asked for. */
	KUNIT_EXPECT_EQ(test, -EFAULT, fault(test, ADDR, 1, 0));
	KUNIT_EXPECT_EQ(test, -EFAULT, fault(test, addr, 3 * PAGE_SIZE, 0));
	KUNIT_EXPECT_EQ(test, 2, fault(test, addr, 2 * PAGE_SIZE, 0));
	pgmap->type = type;
	expect_mapped(test, addr, 2 * PAGE_SIZE, true);
	expect_npages(test, 2);
	KUNIT_EXPECT_EQ(test, 1, fault(test, ADDR, 1, 0));
	KUNIT_EXPECT_NE(test, 0, mtt(test, ADDR));
}

/* A region of huge pages on memory that has none. */
static void test_huge_umem(struct kunit *test)
{
	int access = IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE | IB_ACCESS_HUGETLB;
	struct ib_umem_odp_list list = { .group = 8, .around = HPAGE_SIZE };
	struct ib_umem_odp *odp;

	mapping_map(test, NULL, ADDR, SZ_4M, RW, 0);
	/* Pages as small as possible: neighbours that are not mapped. */
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR + SZ_1M, PAGE_SIZE));
	mapping_map(test, NULL, ADDR + SZ_1M, PAGE_SIZE, PROT_READ, 0);
	odp = ib_umem_odp_get(&hca->dev->ib_dev, ADDR, SZ_4M, access, &mlx5_mn_ops);
	KUNIT_ASSERT_FALSE(test, IS_ERR(odp));
	KUNIT_EXPECT_EQ(test, odp->page_shift, HPAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, ib_umem_odp_fault(odp, &list, ADDR, 1, 0, true), -EINVAL);
	ib_umem_odp_list_free(&list);
	ib_umem_odp_release(odp);
}

/*
 * A region of huge pages, of which only the first is one. The other is no page of it,
 * and does not get into the IOMMU.
 */
static void test_huge_neighbour(struct kunit *test)
{
	unsigned long small = ADDR + SZ_2M, i;
	struct ib_umem_odp *odp;

	mapping_map(test, NULL, ADDR, SZ_2M, RW, 0);
	touch(test, ADDR, PAGE_SIZE, true);
	mapping_map(test, NULL, small, SZ_2M - PAGE_SIZE, RW, 0);
	touch(test, small, SZ_64K, true);
	get_mr(test, ADDR, SZ_4M, IB_ACCESS_HUGETLB);
	odp = mr_odp(test);
	mock_mkey(((struct mlx5_test *)test->priv)->mr->mmkey.key)->enabled = true;
	KUNIT_ASSERT_EQ(test, odp->page_shift, HPAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, 512, fault(test, ADDR, 1, 0));
	expect_npages(test, 1);
	KUNIT_EXPECT_EQ(test, mtt(test, ADDR) & ~PAGE_MASK, MLX5_IB_MTT_PRESENT);
	KUNIT_EXPECT_EQ(test, mtt(test, ADDR + PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, -EINVAL, fault(test, small, 1, 0));
	for (i = SZ_2M; i < SZ_4M; i += PAGE_SIZE)
		KUNIT_ASSERT_EQ(test, 0, mock_dma_phys(odp->window.state.addr +
						       odp->window.skew + i));

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, SZ_2M));
	KUNIT_EXPECT_EQ(test, mtt(test, ADDR), 0);
	expect_npages(test, 0);
	KUNIT_EXPECT_EQ(test, 0, mock_dma_phys(odp->window.state.addr + odp->window.skew));
}

/*
 * Two huge pages in one group, and so many small ones before them that a list is full:
 * neither takes the other's entry.
 */
static void test_huge_two(struct kunit *test)
{
	unsigned long huge = ADDR + SZ_4M, i;

	for (i = 0; i < SZ_4M; i += 2 * PAGE_SIZE) {
		mapping_map(test, NULL, ADDR + i, PAGE_SIZE, RW, 0);
		touch(test, ADDR + i, PAGE_SIZE, true);
	}
	mapping_map(test, NULL, huge, SZ_4M, RW, 0);
	get_mr(test, ADDR, SZ_8M, IB_ACCESS_HUGETLB);
	mock_mkey(((struct mlx5_test *)test->priv)->mr->mmkey.key)->enabled = true;
	KUNIT_EXPECT_EQ(test, 512, fault(test, huge, 1, 0));
	expect_npages(test, 1);
	KUNIT_EXPECT_EQ(test, 512, fault(test, huge + SZ_2M, 1, 0));
	expect_npages(test, 2);
	/* By entries of huge pages, the third and the fourth. */
	KUNIT_EXPECT_EQ(test, mtt(test, ADDR + PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, mtt(test, ADDR + 2 * PAGE_SIZE) & ~PAGE_MASK, MLX5_IB_MTT_PRESENT);
	KUNIT_EXPECT_EQ(test, mtt(test, ADDR + 3 * PAGE_SIZE) & ~PAGE_MASK, MLX5_IB_MTT_PRESENT);
}

/* A key that is being revoked takes no work requests. Its pages go all the same. */
static void test_revoked(struct kunit *test)
{
	struct ib_umem_odp *odp;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	touch(test, ADDR, SZ_64K, true);
	reg_mr(test, ADDR, SZ_64K);
	odp = mr_odp(test);
	mutex_lock(&odp->umem_mutex);
	odp->private = NULL;
	mutex_unlock(&odp->umem_mutex);
	hca->wqes = 0;
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(ADDR, SZ_64K));
	KUNIT_EXPECT_EQ(test, hca->wqes, 0);
	expect_npages(test, 0);
	KUNIT_EXPECT_EQ(test, 0, mock_dma_phys(odp->window.state.addr + odp->window.skew));
}

/* No region for a device that cannot do it, and it does not say that it can. */
static void test_device(struct kunit *test)
{
	int access = IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE;
	struct ib_odp_caps *caps = &hca->dev->odp_caps;
	struct ib_umem_odp *odp;

	MLX5_SET(cmd_hca_cap, hca->cap->cur, pg, 1);
	MLX5_SET(cmd_hca_cap, hca->cap->cur, umr_extended_translation_offset, 1);
	internal_fill_odp_caps(hca->dev);
	KUNIT_EXPECT_NE(test, caps->general_caps & IB_ODP_SUPPORT, 0);
	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	/* Behind an IOMMU 32 bits are said to reach everything. */
	KUNIT_ASSERT_EQ(test, 0, dma_set_mask(&hca->edu->dev, DMA_BIT_MASK(31)));
	odp = ib_umem_odp_get(&hca->dev->ib_dev, ADDR, SZ_64K, access, &mlx5_mn_ops);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(odp), -EOPNOTSUPP);
	internal_fill_odp_caps(hca->dev);
	KUNIT_EXPECT_EQ(test, caps->general_caps, 0);
	KUNIT_EXPECT_EQ(test, 0, dma_set_mask(&hca->edu->dev, DMA_BIT_MASK(48)));

	/* And none with more pages than drivers count. */
	odp = ib_umem_odp_get(&hca->dev->ib_dev, SZ_4G, BIT(31 + PAGE_SHIFT), access,
			      &mlx5_mn_ops);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(odp), -EOVERFLOW);
}

/* Behind the end there is nothing to be faulted, however the length came about. */
static void test_bounds(struct kunit *test)
{
	struct mlx5_test *t = test->priv;

	mapping_map(test, NULL, ADDR, SZ_64K, RW, 0);
	reg_mr(test, ADDR, SZ_64K);
	KUNIT_EXPECT_EQ(test, -EFAULT, pagefault_mr(t->mr, ADDR + SZ_64K, PAGE_SIZE, NULL, 0, true));
	KUNIT_EXPECT_EQ(test, -EFAULT, pagefault_mr(t->mr, ADDR + SZ_128K, PAGE_SIZE, NULL, 0, true));
	KUNIT_EXPECT_EQ(test, 1, pagefault_mr(t->mr, ADDR + SZ_64K - 1, SZ_64K, NULL, 0, true));
	KUNIT_EXPECT_EQ(test, 1, pagefault_mr(t->mr, ADDR + 100, 0, NULL, 0, false));
	expect_mapped(test, ADDR, PAGE_SIZE, true);
	expect_mapped(test, ADDR + SZ_64K - PAGE_SIZE, PAGE_SIZE, true);
}

static struct kunit_case umem_cases[] = {
	KUNIT_CASE_PARAM(test_p2pdma, mapping_gen_params),
	KUNIT_CASE_PARAM(test_out_of_reach, mapping_gen_params),
	KUNIT_CASE(test_huge_umem),
	KUNIT_CASE(test_huge_neighbour),
	KUNIT_CASE(test_huge_two),
	KUNIT_CASE(test_revoked),
	KUNIT_CASE(test_device),
	KUNIT_CASE(test_bounds),
	{}
};

static struct kunit_suite umem_suite = {
	.name = "umem_odp",
	.init = hca_init,
	.exit = hca_exit,
	.test_cases = umem_cases,
};

kunit_test_suites(&mlx5_suite, &umem_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_DESCRIPTION("KUnit tests of mlx5's on-demand paging");
MODULE_LICENSE("GPL");
