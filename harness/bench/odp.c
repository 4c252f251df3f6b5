// SPDX-License-Identifier: GPL-2.0
/*
 * HMM_BENCH_ODP: what a page fault of an RDMA device costs, with the kernel's own
 * umem_odp, and the entries of mlx5, whose odp.c is compiled in here. They are
 * written to a buffer as large as that of a work request, and no card is told.
 */
#include <linux/hmm-dma.h>
#include <linux/ktime.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>
#include <rdma/ib_umem_odp.h>

#include <odp.c>

#include "hmm_bench.h"
#include "dma.h"
#include "notifier.h"

/* As MLX5_MAX_UMR_CHUNK. */
#define CHUNK	((SZ_1M - MLX5_UMR_FLEX_ALIGNMENT) / sizeof(struct mlx5_mtt))

#ifdef HAVE_ODP_WINDOW
static int write_entries(struct mlx5_ib_mr *mr, __be64 *pas,
			 const struct ib_umem_odp_list *list)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	size_t i = ib_umem_odp_index(odp, list->start);
	size_t end = ib_umem_odp_index(odp, list->end), nr;

	for (; i < end; i += nr) {
		nr = min(end - i, CHUNK);
		mlx5_odp_populate_xlt(pas, i, nr, mr, 0, list);
	}
	return 0;
}

/* As pagefault_real_mr(). */
static int fault(struct mlx5_ib_mr *mr, struct hmm_bench_dma *d, __be64 *pas)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	struct ib_umem_odp_list list = { .group = 8, .around = SZ_2M };
	u64 start = ktime_get_ns(), entries = 0, now;
	u64 va = d->addr, end = va + (d->npages << PAGE_SHIFT);
	int ret = 0;

	for (; !ret && va < end; va = list.next) {
		ret = ib_umem_odp_fault(odp, &list, va, end - va, HMM_PFN_WRITE, true);
		if (ret)
			break;
		if (!ib_umem_odp_lock(odp, &list)) {
			ret = -EAGAIN;
			break;
		}
		ret = ib_umem_odp_map(odp, &list);
		now = ktime_get_ns();
		if (!ret)
			ret = write_entries(mr, pas, &list);
		entries += ktime_get_ns() - now;
		mutex_unlock(&odp->umem_mutex);
	}
	ib_umem_odp_list_free(&list);
	d->map_ns = ktime_get_ns() - start;
	d->unmap_ns = entries;
	d->bytes = BITS_TO_LONGS(d->npages) * sizeof(long);
	return ret;
}
#else
static int write_entries(struct mlx5_ib_mr *mr, __be64 *pas)
{
	size_t i, nr, end = ib_umem_odp_num_pages(to_ib_umem_odp(mr->umem));
	int ret = 0;

	for (i = 0; i < end && !ret; i += nr) {
		nr = min(end - i, CHUNK);
		ret = mlx5_odp_populate_xlt(pas, i, nr, mr, 0);
	}
	return ret;
}

static int fault(struct mlx5_ib_mr *mr, struct hmm_bench_dma *d, __be64 *pas)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	u64 start = ktime_get_ns();
	int ret;

	ret = ib_umem_odp_map_dma_and_lock(odp, d->addr, d->npages << PAGE_SHIFT,
					   HMM_PFN_WRITE, true);
	if (ret < 0)
		return ret;
	/* The first time this maps for DMA, the second time it only writes. */
	ret = write_entries(mr, pas);
	d->map_ns = ktime_get_ns() - start;
	start = ktime_get_ns();
	if (!ret)
		ret = write_entries(mr, pas);
	d->unmap_ns = ktime_get_ns() - start;
	mutex_unlock(&odp->umem_mutex);
	d->bytes = d->npages * sizeof(long);
	return ret;
}
#endif

int bench_odp(struct device *dev, struct hmm_bench_dma *d)
{
	static struct ib_device ibdev;
	struct ib_umem_odp *odp;
	int ret;

	struct mlx5_ib_mr *mr __free(kfree) = kzalloc_obj(*mr);
	__be64 *pas __free(kvfree) = vzalloc(SZ_1M);
	if (!mr || !pas)
		return -ENOMEM;
	ibdev.dma_device = dev;
	odp = ib_umem_odp_get(&ibdev, d->addr, d->npages << PAGE_SHIFT,
			      IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE, &notifier_ops);
	if (IS_ERR(odp))
		return PTR_ERR(odp);
	mr->umem = &odp->umem;
	ret = fault(mr, d, pas);
	ib_umem_odp_release(odp);
	return ret;
}

/* HMM_BENCH_ODP_LIMIT: the loop that fills the buffer. */
int bench_odp_limit(struct hmm_bench_dma *d)
{
	u64 start, entry = SZ_4G | 3;
	size_t i;

	__be64 *pas __free(kvfree) = vzalloc(SZ_1M);
	if (!pas)
		return -ENOMEM;
	start = ktime_get_ns();
	for (i = 0; i < d->npages; i++, entry += PAGE_SIZE)
		WRITE_ONCE(pas[i % (SZ_1M / sizeof(*pas))], cpu_to_be64(entry));
	d->unmap_ns = ktime_get_ns() - start;
	d->map_ns = 1;
	return 0;
}
