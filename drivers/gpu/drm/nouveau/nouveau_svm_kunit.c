// SPDX-License-Identifier: MIT
/*
 * KUnit tests of the way from a GPU's fault to its page table: real mappings of
 * a process, hmm_range_fault(), hmm_range_dma_map(), and nvkm's page tables of a
 * GPU that has nothing else, see nvkm/subdev/mmu/kunit.c. Included by
 * nouveau_svm.c.
 *
 * What is not there: the fault buffer, replay and cancelling, and VRAM, but for the
 * entries that pages in it would get.
 *
 * With svm_kunit_pci=ADDRESS, say 0000:00:05.0, memory is mapped for DMA of this PCI
 * device, by its IOMMU if that translates. Without, there is no IOMMU.
 *
 * Tests of DAX are skipped unless the module is loaded with
 *   svm_kunit_dax=FILE:SHIFT[,FILE:SHIFT...]
 * Each FILE is one to be mapped shared, 4 MiB or 1 << SHIFT bytes of it, whatever
 * is more, with leaves of 1 << SHIFT bytes. What is in it does not change; pages
 * of files of a file system are punched out.
 */
#include "nvkm/subdev/mmu/kunit.h"

#include <nvif/driver.h>

#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/anon_inodes.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/kthread.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mman.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/uaccess.h>

static char *svm_kunit_pci;
module_param(svm_kunit_pci, charp, 0);
MODULE_PARM_DESC(svm_kunit_pci, "PCI device that KUnit tests map for");

static struct svm_kunit_file {
	struct file *file;
	unsigned int shift;
	unsigned long len;
} svm_kunit_files[8];
static int svm_kunit_nr;

static void svm_kunit_dax_free(void *arg)
{
	while (svm_kunit_nr)
		filp_close(svm_kunit_files[--svm_kunit_nr].file, NULL);
}

/* Files are opened here, in modprobe: a test's thread has another root folder. */
static int svm_kunit_dax_set(const char *val, const struct kernel_param *kp)
{
	char *copy, *next, *name, *colon;
	int ret = 0;

	/* The command line is parsed before there is memory, or any file. */
	if (system_state < SYSTEM_RUNNING)
		return -EINVAL;

	copy = kstrdup(val, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	next = copy;
	while (!ret && (name = strsep(&next, ","))) {
		struct svm_kunit_file *f = &svm_kunit_files[svm_kunit_nr];

		colon = strrchr(name, ':');
		if (!colon || svm_kunit_nr == ARRAY_SIZE(svm_kunit_files)) {
			ret = -EINVAL;
			break;
		}
		*colon = '\0';
		ret = kstrtouint(colon + 1, 0, &f->shift);
		if (ret)
			break;
		f->len = max(BIT(f->shift), SZ_4M);
		f->file = filp_open(name, O_RDWR, 0);
		if (IS_ERR(f->file))
			ret = PTR_ERR(f->file);
		else
			svm_kunit_nr++;
	}
	if (ret) {
		pr_err("svm_kunit_dax wants FILE:SHIFT[,FILE:SHIFT...], not %s: %pe\n",
		       name, ERR_PTR(ret));
		svm_kunit_dax_free(NULL);
	}
	kfree(copy);
	return ret;
}

static const struct kernel_param_ops svm_kunit_dax_ops = {
	.set = svm_kunit_dax_set,
	.free = svm_kunit_dax_free,
};
module_param_cb(svm_kunit_dax, &svm_kunit_dax_ops, NULL, 0);
MODULE_PARM_DESC(svm_kunit_dax, "KUnit: DAX files to map, FILE:SHIFT of the leaves");

/* nouveau's own part of the address space, in the middle of 2 MiB. */
#define SVM_KUNIT_UNMANAGED	(SZ_8G + SZ_1M)
#define SVM_KUNIT_UNMANAGED_SIZE SZ_1G

struct svm_kunit {
	struct kunit *test;
	struct nvkm_mmu_kunit *gpu;
	struct nouveau_drm *drm;
	struct drm_device *dev;
	struct nouveau_cli *cli;
	struct nvif_driver driver;
	struct nouveau_svmm *svmm;
	struct nouveau_svm *svm;
	struct svm_kunit *other;	/* a second client, with a GPU of its own */
	unsigned int maps, clears, replays, cancels;
	unsigned long reclaim;		/* what page tables are allocated at the cost of */
	u64 cancelled;			/* the last one's instance */
	struct device *pci;		/* NULL: no IOMMU */
	struct iommu_domain *iommu;
};

/* Where the IOMMU has what the process has at @addr. */
static dma_addr_t svm_kunit_iova(struct svm_kunit *t, unsigned long addr)
{
	struct nouveau_svm_window *window = mtree_load(&t->svmm->windows, addr);

	if (!window)
		return 0;
	return window->dma.state.addr + window->dma.skew +
	       (addr - window->dma.start);
}

/* Can the GPU reach through the IOMMU what its page table has at @addr? */
static void expect_reachable(struct svm_kunit *t, struct nvkm_mmu_kunit_pte pte)
{
	if (t->iommu)
		KUNIT_EXPECT_TRUE(t->test,
				  iommu_iova_to_phys(t->iommu,
						     (pte.data & ~0xffULL) << 4));
}

/* Is @addr mapped for DMA, or not? Without an IOMMU there is nothing to see. */
static void expect_dma(struct kunit *test, unsigned long addr, bool mapped)
{
	struct svm_kunit *t = test->priv;
	dma_addr_t dma = svm_kunit_iova(t, addr);

	if (t->iommu)
		KUNIT_EXPECT_EQ(test, mapped,
				dma && iommu_iova_to_phys(t->iommu, dma));
}

/* Page tables are written where nothing may be allocated. */
static void svm_kunit_nowait(struct svm_kunit *t, bool nowait)
{
	KUNIT_EXPECT_TRUE(t->test, mutex_is_locked(&t->svmm->mutex));
	t->gpu->nowait = nowait;
	KUNIT_EXPECT_EQ(t->test, t->gpu->waits, 0);
}

static int svm_kunit_clear(struct svm_kunit *t, u8 page, u64 start, u64 size)
{
	u64 addr, step = max(SZ_4K, size / 64);
	int ret;

	t->clears++;
	t->gpu->gone_start = start;
	t->gpu->gone_limit = start + min(size, SZ_4M);
	t->gpu->gone = true;

	/* What the GPU has is mapped for DMA until the GPU's TLB is flushed. */
	for (addr = start; addr < start + size; addr += step) {
		struct nvkm_mmu_kunit_pte pte = nvkm_mmu_kunit_walk(t->gpu, addr);

		if (pte.kind == KUNIT_NONE)
			continue;
		expect_reachable(t, pte);
		if (addr < t->gpu->gone_limit)
			t->gpu->gone = false;
	}
	svm_kunit_nowait(t, true);
	ret = nvkm_vmm_pfn_unmap(t->gpu->vmm, page, start, size);
	svm_kunit_nowait(t, false);
	KUNIT_EXPECT_EQ(t->test, ret, 0);
	t->gpu->gone_limit = 0;
	KUNIT_EXPECT_TRUE(t->test, t->gpu->gone);
	KUNIT_EXPECT_EQ(t->test, t->gpu->bad_flushes, 0);
	for (addr = start; addr < start + size; addr += step)
		KUNIT_EXPECT_EQ(t->test, nvkm_mmu_kunit_walk(t->gpu, addr).kind,
				KUNIT_NONE);
	return ret;
}

struct svm_kunit_reclaim {
	struct work_struct work;
	struct completion done;
	struct mm_struct *mm;
	unsigned long addr;
};

static void svm_kunit_reclaim_work(struct work_struct *work)
{
	struct svm_kunit_reclaim *reclaim = container_of(work, typeof(*reclaim), work);

	kthread_use_mm(reclaim->mm);
	vm_munmap(reclaim->addr, PAGE_SIZE);
	kthread_unuse_mm(reclaim->mm);
	complete(&reclaim->done);
}

/* To have memory for a page table, a page is taken from the process, and its GPU. */
static void svm_kunit_reclaim(struct svm_kunit *t)
{
	struct svm_kunit_reclaim *reclaim;

	if (!t->reclaim)
		return;
	reclaim = kunit_kzalloc(t->test, sizeof(*reclaim), GFP_KERNEL);
	KUNIT_EXPECT_NOT_NULL(t->test, reclaim);
	if (!reclaim)
		return;
	INIT_WORK(&reclaim->work, svm_kunit_reclaim_work);
	init_completion(&reclaim->done);
	reclaim->mm = t->svmm->mm;
	reclaim->addr = t->reclaim;
	t->reclaim = 0;
	queue_work(system_dfl_wq, &reclaim->work);
	KUNIT_EXPECT_TRUE(t->test, wait_for_completion_timeout(&reclaim->done, 10 * HZ));
}

/* The methods of NVIF's VMM that SVM has use for. */
static int svm_kunit_ioctl(void *priv, void *data, u32 size, void **hack)
{
	struct svm_kunit *t = priv;
	struct nvkm_vmm *vmm = t->gpu->vmm;
	struct nouveau_pfnmap_args *args = data;
	struct nvif_vmm_pfnclr_v0 *clr = data + offsetof(typeof(*args), p);
	struct gp100_vmm_fault_cancel_v0 *cancel = (void *)clr;
	struct nvif_vmm_pfnget_v0 *get = (void *)clr;
	struct nvif_vmm_pfnput_v0 *put = (void *)clr;
	int ret;

	KUNIT_EXPECT_EQ(t->test, args->i.type, NVIF_IOCTL_V0_MTHD);
	switch (args->m.method) {
	case NVIF_VMM_V0_PFNMAP:
		t->maps++;
		KUNIT_EXPECT_EQ(t->test, size,
				struct_size(args, p.phys,
					    args->p.size >> args->p.page));
		svm_kunit_nowait(t, true);
		ret = nvkm_vmm_pfn_map(vmm, args->p.page, args->p.addr,
				       args->p.size, args->p.phys);
		svm_kunit_nowait(t, false);
		return ret;
	case NVIF_VMM_V0_PFNCLR:
		return svm_kunit_clear(t, clr->page, clr->addr, clr->size);
	case NVIF_VMM_V0_PFNGET:
		mutex_lock(&vmm->mutex.vmm);
		ret = nvkm_vmm_pfn_get(vmm, get->page, get->addr, get->size);
		mutex_unlock(&vmm->mutex.vmm);
		svm_kunit_reclaim(t);
		return ret;
	case NVIF_VMM_V0_PFNPUT:
		mutex_lock(&vmm->mutex.vmm);
		ret = nvkm_vmm_pfn_put(vmm, put->addr, put->size);
		mutex_unlock(&vmm->mutex.vmm);
		KUNIT_EXPECT_EQ(t->test, ret, 0);
		return ret;
	case GP100_VMM_VN_FAULT_REPLAY:
		t->replays++;
		return 0;
	case GP100_VMM_VN_FAULT_CANCEL:
		t->cancels++;
		t->cancelled = cancel->inst;
		return 0;
	default:
		KUNIT_FAIL(t->test, "method %x", args->m.method);
		return -EINVAL;
	}
}

static void *svm_kunit_zalloc(struct kunit *test, size_t size)
{
	void *p = kunit_kzalloc(test, size, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);
	return p;
}

/* What a client has that has called SVM_INIT. */
static void svm_kunit_client(struct svm_kunit *t)
{
	struct kunit *test = t->test;

	t->cli = svm_kunit_zalloc(test, sizeof(*t->cli));
	t->cli->drm = t->drm;
	t->driver.ioctl = svm_kunit_ioctl;
	t->cli->base.driver = &t->driver;
	t->cli->base.object.priv = t;
	t->cli->svm.cli = t->cli;
	t->cli->svm.vmm.object.client = &t->cli->base;

	t->svmm = nouveau_svmm_new(t->drm, &t->cli->svm, SVM_KUNIT_UNMANAGED,
				   SVM_KUNIT_UNMANAGED + SVM_KUNIT_UNMANAGED_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, t->svmm);
	list_add(&t->svmm->head, &t->svm->svmms);
}

static int svm_kunit_init(struct kunit *test)
{
	struct svm_kunit *t = svm_kunit_zalloc(test, sizeof(*t));

	test->priv = t;
	t->test = test;
	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	t->gpu = nvkm_mmu_kunit_new(test, &nvkm_mmu_kunit_gens[0],
				    SVM_KUNIT_UNMANAGED, SVM_KUNIT_UNMANAGED_SIZE);

	t->drm = svm_kunit_zalloc(test, sizeof(*t->drm));
	t->dev = svm_kunit_zalloc(test, sizeof(*t->dev));
	t->dev->dev = t->gpu->dev;
	if (svm_kunit_pci) {
		t->pci = bus_find_device_by_name(&pci_bus_type, NULL,
						 svm_kunit_pci);
		KUNIT_ASSERT_NOT_NULL(test, t->pci);
		if (use_dma_iommu(t->pci))
			t->iommu = iommu_get_domain_for_dev(t->pci);
		KUNIT_ASSERT_EQ(test, 0,
				dma_set_mask_and_coherent(t->pci,
							  DMA_BIT_MASK(64)));
		t->dev->dev = t->pci;
	}
	t->drm->dev = t->dev;
	t->drm->nvkm = t->gpu->device;
	t->svm = nouveau_svm_new(t->drm);
	KUNIT_ASSERT_NOT_NULL(test, t->svm);
	INIT_WORK(&t->svm->buffer[0].work, nouveau_svm_fault);
	t->drm->svm = t->svm;
	svm_kunit_client(t);
	t->drm->client.vmm.vmm.object.client = &t->cli->base;
	return 0;
}

/* A second client of the same device; the first one sees its replays and cancels. */
static struct svm_kunit *svm_kunit_other(struct kunit *test)
{
	struct svm_kunit *t = test->priv, *u = svm_kunit_zalloc(test, sizeof(*u));

	u->test = test;
	u->drm = t->drm;
	u->dev = t->dev;
	u->svm = t->svm;
	u->iommu = t->iommu;
	u->gpu = nvkm_mmu_kunit_new(test, &nvkm_mmu_kunit_gens[0],
				    SVM_KUNIT_UNMANAGED, SVM_KUNIT_UNMANAGED_SIZE);
	t->other = u;
	svm_kunit_client(u);
	return u;
}

/* Does a client's GPU have anything in one of its windows? */
static bool svm_kunit_has_any(struct svm_kunit *t)
{
	struct nouveau_svm_window *window;
	unsigned long addr, at = 0;
	bool ret = false;

	mutex_lock(&t->svmm->mutex);
	mt_for_each(&t->svmm->windows, window, at, ULONG_MAX) {
		for (addr = window->dma.start; addr < window->dma.end && !ret;) {
			u8 page = *nouveau_svm_window_table(window, addr);

			if (!page) {
				addr = nouveau_svm_window_tables_end(window, addr,
								     window->dma.end);
				continue;
			}
			ret = nvkm_mmu_kunit_walk(t->gpu, addr).kind != KUNIT_NONE;
			addr += BIT(page);
		}
	}
	mutex_unlock(&t->svmm->mutex);
	return ret;
}

static void svm_kunit_client_exit(struct svm_kunit *t)
{
	int i;

	if (!t || !t->svmm)
		return;
	/* The process that ran the test is about to be gone, or is. */
	for (i = 0; i < 500 && svm_kunit_has_any(t); i++)
		msleep(20);
	KUNIT_EXPECT_FALSE(t->test, svm_kunit_has_any(t));
	nouveau_svmm_fini(&t->svmm);
}

static void svm_kunit_exit(struct kunit *test)
{
	struct svm_kunit *t = test->priv;

	if (!t)
		return;
	svm_kunit_client_exit(t->other);
	svm_kunit_client_exit(t);
	if (t->svm) {
		KUNIT_EXPECT_TRUE(test, list_empty(&t->svm->inst));
		flush_workqueue(t->svm->wq);
		KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 0);
		KUNIT_EXPECT_TRUE(test, list_empty(&t->svm->lru));
		nouveau_svm_free(t->svm);
	}
	if (t->other && t->other->gpu)
		nvkm_mmu_kunit_del(test, t->other->gpu);
	if (t->gpu)
		nvkm_mmu_kunit_del(test, t->gpu);
	put_device(t->pci);
}

enum { FAULT_READ, FAULT_WRITE, FAULT_ATOMIC };

/* A fault of a client's GPU, tried once. */
static int svm_kunit_fault_of(struct svm_kunit *t, unsigned long addr, int how)
{
	const struct nouveau_svm_fault fault = { .addr = addr, .access = how };

	return nouveau_svm_fault_try(t->svmm, &fault);
}

static int svm_kunit_fault(struct kunit *test, unsigned long addr, int how)
{
	return svm_kunit_fault_of(test->priv, addr, how);
}

/* Does a client's GPU have anything at @addr? */
static bool svm_kunit_has(struct svm_kunit *t, unsigned long addr)
{
	return nvkm_mmu_kunit_walk(t->gpu, addr).kind != KUNIT_NONE;
}

/* Does the GPU have the page that the process has at @addr? */
static void expect_page(struct kunit *test, unsigned long addr,
			enum nvkm_mmu_kunit_kind kind, u64 flags)
{
	struct svm_kunit *t = test->priv;
	struct nvkm_mmu_kunit_pte pte = nvkm_mmu_kunit_walk(t->gpu, addr);
	struct page *page;
	u64 phys;

	KUNIT_ASSERT_EQ(test, get_user_pages_fast(addr, 1, 0, &page), 1);
	phys = page_to_phys(page);
	put_page(page);
	if (t->iommu) {
		dma_addr_t dma = svm_kunit_iova(t, ALIGN_DOWN(addr, PAGE_SIZE));

		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, dma), phys);
		phys = dma;
	}
	if (kind == KUNIT_LARGE)
		phys -= ALIGN_DOWN(addr, SZ_4K) & (SZ_2M - 1);
	KUNIT_EXPECT_EQ(test, pte.kind, kind);
	KUNIT_EXPECT_EQ(test, pte.data,
			nvkm_mmu_kunit_data(phys | NVKM_VMM_PFN_V | flags));
	expect_dma(test, addr, true);
}

static void expect_no_page(struct kunit *test, unsigned long addr)
{
	struct svm_kunit *t = test->priv;

	KUNIT_EXPECT_EQ(test, nvkm_mmu_kunit_walk(t->gpu, addr).kind, KUNIT_NONE);
	expect_dma(test, addr, false);
}

static unsigned long svm_kunit_mmap(struct kunit *test, struct file *file,
				    unsigned long addr, unsigned long len,
				    unsigned long prot, unsigned long flags)
{
	addr = kunit_vm_mmap(test, file, addr, len, prot,
			     flags | (file ? 0 : MAP_ANONYMOUS), 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	return addr;
}

#define RW (PROT_READ | PROT_WRITE)

/* At SVM_INIT a device is refused that the first fault would fail for. */
static void test_device(struct kunit *test)
{
	struct svm_kunit *t = test->priv;

	KUNIT_EXPECT_EQ(test, nouveau_svm_check_device(t->drm), 0);
	/* One bit too few. */
	KUNIT_ASSERT_EQ(test, dma_set_mask(t->dev->dev,
					   dma_get_required_mask(t->dev->dev) >> 1), 0);
	KUNIT_EXPECT_EQ(test, nouveau_svm_check_device(t->drm), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, dma_set_mask(t->dev->dev, DMA_BIT_MASK(64)), 0);
	/* Not enough for all threads of a warp. */
	t->svm->max_windows = 31;
	KUNIT_EXPECT_EQ(test, nouveau_svm_check_device(t->drm), -EOPNOTSUPP);
	t->svm->max_windows = 32;
	KUNIT_EXPECT_EQ(test, nouveau_svm_check_device(t->drm), 0);
}

#define FAULTS_MAX 8

/* A batch, in any order, as the fault buffer has it. */
static void svm_kunit_faults(struct kunit *test, unsigned int nr,
			     const struct nouveau_svm_fault *faults)
{
	struct nouveau_svm_fault copies[FAULTS_MAX], *pointers[FAULTS_MAX];
	struct svm_kunit *t = test->priv;
	unsigned int i;

	KUNIT_ASSERT_LE(test, nr, FAULTS_MAX);
	t->maps = 0;
	t->replays = 0;
	t->cancels = 0;
	for (i = 0; i < nr; i++) {
		copies[i] = faults[i];
		pointers[i] = &copies[i];
	}
	nouveau_svm_faults(t->svm, pointers, nr);
}

/* And when this returns they have been handled. */
static void svm_kunit_faults_flush(struct kunit *test, unsigned int nr,
				   const struct nouveau_svm_fault *faults)
{
	struct svm_kunit *t = test->priv;

	svm_kunit_faults(test, nr, faults);
	flush_workqueue(t->svm->wq);
}

#define svm_kunit_batch(test, ...) ({					\
	const struct nouveau_svm_fault batch[] = { __VA_ARGS__ };	\
									\
	svm_kunit_faults_flush(test, ARRAY_SIZE(batch), batch);		\
})

#define FAULT(instance, address, kind) \
	{ .inst = instance, .addr = address, .access = FAULT_ACCESS_##kind }

static void expect_handled(struct kunit *test, unsigned int maps,
			   unsigned int replays, unsigned int cancels)
{
	struct svm_kunit *t = test->priv;

	KUNIT_EXPECT_EQ(test, t->maps, maps);
	KUNIT_EXPECT_EQ(test, t->replays, replays);
	KUNIT_EXPECT_EQ(test, t->cancels, cancels);
}

/* A GPU that is suspended has nothing that a notifier would have to clear. */
static void test_suspend(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv;

	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, SZ_1M + addr - SZ_4K,
					      FAULT_WRITE), 0);
	nouveau_svm_suspend(t->drm);
	expect_no_page(test, addr);
	expect_no_page(test, SZ_1M + addr - SZ_4K);

	/* A fault that has been waiting since before that, and one to be killed. */
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), -ESHUTDOWN);
	svm_kunit_batch(test, FAULT(0x1000, addr, READ),
			FAULT(0x2000, addr, READ));
	expect_handled(test, 0, 0, 0);
	expect_no_page(test, addr);

	/* They come again afterwards. */
	nouveau_svm_start(t->svm);
	expect_handled(test, 0, 1, 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	nouveau_svmm_part(t->svmm, 0x1000);
}

/* None is forgotten, none handled twice, and the right one is cancelled. */
static void test_batches(struct kunit *test)
{
	/* Too small for THP. */
	unsigned long addr = svm_kunit_mmap(test, NULL, SZ_16G, SZ_1M, RW,
					    MAP_PRIVATE | MAP_FIXED);
	unsigned long far = svm_kunit_mmap(test, NULL, SZ_16G + SZ_4G, SZ_1M, RW,
					   MAP_PRIVATE | MAP_FIXED);
	struct svm_kunit *t = test->priv;
	struct nvkm_mmu_kunit_pte pte;
	unsigned long thp;

	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x2000), 0);

	/* The same again and again. */
	svm_kunit_batch(test, FAULT(0x1000, addr, READ),
			FAULT(0x1000, addr + 8, READ),
			FAULT(0x2000, addr, READ));
	expect_handled(test, 1, 1, 0);
	expect_page(test, addr, KUNIT_SMALL, 0);

	/* All kinds at one page: the first serves all. */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, addr, PREFETCH),
			FAULT(0x1000, addr, READ),
			FAULT(0x1000, addr, ATOMIC),
			FAULT(0x1000, addr, WRITE));
	expect_handled(test, 1, 1, 0);
	pte = nvkm_mmu_kunit_walk(t->gpu, addr);
	KUNIT_EXPECT_EQ(test, pte.data & 0xff,
			nvkm_mmu_kunit_data(NVKM_VMM_PFN_W | NVKM_VMM_PFN_A));

	/* Nothing is there to be fetched ahead, but there is for the read. */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, addr, PREFETCH),
			FAULT(0x1000, addr + SZ_4K, READ),
			FAULT(0x1000, addr, READ));
	expect_handled(test, 2, 1, 0);
	expect_page(test, addr, KUNIT_SMALL, 0);
	expect_page(test, addr + SZ_4K, KUNIT_SMALL, 0);

	/* Two instances of one process, the second lower, and served already. */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, addr + SZ_8K, WRITE),
			FAULT(0x1000, addr, WRITE),
			FAULT(0x2000, addr, WRITE));
	expect_handled(test, 2, 1, 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_page(test, addr + SZ_8K, KUNIT_SMALL, NVKM_VMM_PFN_W);

	/* The low 32 bits of two addresses are the same. */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, addr, READ),
			FAULT(0x1000, addr, READ),
			FAULT(0x1000, addr + SZ_4G, READ),
			FAULT(0x1000, addr + SZ_4G, READ));
	expect_handled(test, 2, 1, 0);
	expect_page(test, addr, KUNIT_SMALL, 0);
	expect_page(test, addr + SZ_4G, KUNIT_SMALL, 0);

	/* An atomic access among reads. */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, addr, READ),
			FAULT(0x1000, addr + SZ_4K, ATOMIC),
			FAULT(0x1000, addr + SZ_4K, READ),
			FAULT(0x1000, addr + SZ_8K, READ));
	expect_handled(test, 3, 1, 0);

	/* A THP is there for both, but not for what the second wants. */
	thp = ALIGN(svm_kunit_mmap(test, NULL, 0, SZ_4M, RW, MAP_PRIVATE), SZ_2M);
	svm_kunit_batch(test, FAULT(0x1000, thp, WRITE),
			FAULT(0x1000, thp + SZ_4K, ATOMIC));
	expect_handled(test, 2, 1, 0);
	pte = nvkm_mmu_kunit_walk(t->gpu, thp + SZ_4K);
	KUNIT_EXPECT_EQ(test, pte.data & 0xff,
			nvkm_mmu_kunit_data(NVKM_VMM_PFN_W | NVKM_VMM_PFN_A));

	/* What cannot be had is between what can. */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, far, WRITE),
			FAULT(0x2000, SZ_16G + SZ_1M, READ),
			FAULT(0x1000, addr, WRITE));
	expect_handled(test, 2, 1, 1);
	KUNIT_EXPECT_EQ(test, t->cancelled, 0x2000);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_page(test, far, KUNIT_SMALL, NVKM_VMM_PFN_W);

	/* Nothing is there, far from all else, for what nobody has asked for. */
	svm_kunit_batch(test, FAULT(0x1000, SZ_16G + 8UL * SZ_1G, PREFETCH));
	expect_handled(test, 0, 1, 0);

	/* An instance that nobody knows, or not any more. */
	nouveau_svmm_part(t->svmm, 0x2000);
	svm_kunit_batch(test, FAULT(0x2000, addr, READ),
			FAULT(0x3000, addr, READ));
	expect_handled(test, 0, 0, 2);
	nouveau_svmm_part(t->svmm, 0x1000);
}

static void test_anon(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);

	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_no_page(test, addr + SZ_4K);

	/* The zero page, and then one of its own. */
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_4K, FAULT_READ), 0);
	expect_page(test, addr + SZ_4K, KUNIT_SMALL, 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_4K, FAULT_WRITE), 0);
	expect_page(test, addr + SZ_4K, KUNIT_SMALL, NVKM_VMM_PFN_W);
	/* A second time makes no difference. */
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_4K, FAULT_READ), 0);
	expect_page(test, addr + SZ_4K, KUNIT_SMALL, NVKM_VMM_PFN_W);

	KUNIT_ASSERT_EQ(test, vm_munmap(addr, SZ_4K), 0);
	expect_no_page(test, addr);
	expect_page(test, addr + SZ_4K, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), -EFAULT);
	expect_no_page(test, addr);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + SZ_4K, SZ_1M - SZ_4K), 0);
	expect_no_page(test, addr + SZ_4K);
}

/* Page tables are made while the notifier may run, and stay as long as the window. */
static void test_tables(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, SZ_16G, SZ_1M, RW,
					    MAP_PRIVATE | MAP_FIXED);
	unsigned long far = svm_kunit_mmap(test, NULL, SZ_16G + SZ_512M, SZ_1M, RW,
					   MAP_PRIVATE | MAP_FIXED);
	struct svm_kunit *t = test->priv;

	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	t->reclaim = addr;
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, far, FAULT_WRITE), 0);
	KUNIT_EXPECT_EQ(test, t->reclaim, 0);
	expect_no_page(test, addr);
	expect_page(test, far, KUNIT_SMALL, NVKM_VMM_PFN_W);

	/* It is the page itself: the fault finds another one there. */
	KUNIT_ASSERT_EQ(test, vm_munmap(far, SZ_1M), 0);
	expect_no_page(test, far);
	KUNIT_EXPECT_TRUE(test, nouveau_svm_evict(t->svm));
	KUNIT_EXPECT_EQ(test, t->gpu->vmm->pd->refs[0], 1);
	addr += SZ_64K;
	t->reclaim = addr;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->reclaim, 0);
	expect_no_page(test, addr);
	/* Once they are there, none are made. */
	t->reclaim = addr + SZ_8K;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr + SZ_4K, FAULT_ATOMIC), 0);
	KUNIT_EXPECT_GT(test, t->reclaim, 0);

	/* A page of 2 MiB gives way to a page table, while a part of it goes. */
	addr = ALIGN(svm_kunit_mmap(test, NULL, 0, SZ_4M, RW, MAP_PRIVATE), SZ_2M);
	t->reclaim = 0;
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	t->reclaim = addr + SZ_1M;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr + SZ_4K, FAULT_ATOMIC), 0);
	if (t->reclaim)
		kunit_info(test, "no THP");
	t->reclaim = 0;
	KUNIT_EXPECT_EQ(test, nvkm_mmu_kunit_walk(t->gpu, addr + SZ_4K).kind,
			KUNIT_SMALL);
	expect_no_page(test, addr + SZ_1M);
}

static void test_read_only(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, PROT_READ,
					    MAP_PRIVATE);

	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
	expect_page(test, addr, KUNIT_SMALL, 0);
	KUNIT_EXPECT_LT(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	expect_page(test, addr, KUNIT_SMALL, 0);
}

/* An atomic access takes the page from the CPU, whose access takes it back. */
static void test_atomic(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv;
	struct nvkm_mmu_kunit_pte pte;
	int how;
	u32 x = 1;

	for (how = FAULT_READ; how <= FAULT_ATOMIC; how++) {
		KUNIT_ASSERT_EQ(test, copy_to_user((void __user *)addr, &x, 4), 0);
		if (how < FAULT_ATOMIC)
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, how), 0);

		/* The second finds it exclusive. */
		KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
		KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
		pte = nvkm_mmu_kunit_walk(t->gpu, addr);
		KUNIT_EXPECT_EQ(test, pte.kind, KUNIT_SMALL);
		KUNIT_EXPECT_EQ(test, pte.data & 0xff,
				nvkm_mmu_kunit_data(NVKM_VMM_PFN_W | NVKM_VMM_PFN_A));

		KUNIT_ASSERT_EQ(test, copy_from_user(&x, (void __user *)addr, 4), 0);
		expect_no_page(test, addr);
	}

	/* Nothing there yet, the zero page, and a part of a THP. */
	addr += SZ_64K;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
	addr += SZ_64K;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
	addr = ALIGN(svm_kunit_mmap(test, NULL, 0, SZ_4M, RW, MAP_PRIVATE), SZ_2M);
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	pte = nvkm_mmu_kunit_walk(t->gpu, addr);
	if (pte.kind == KUNIT_LARGE)
		kunit_info(test, "a THP");
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
	KUNIT_EXPECT_EQ(test, nvkm_mmu_kunit_walk(t->gpu, addr).kind, KUNIT_SMALL);
}

/* An atomic access by one SVMM is none by another one of the same process. */
static void test_exclusive_owner(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv, *u = svm_kunit_other(test);
	struct mmu_interval_notifier *mine, *others;
	unsigned long seq, other_seq;
	u32 x = 1;

	KUNIT_ASSERT_EQ(test, copy_to_user((void __user *)addr, &x, 4), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault_of(u, addr, FAULT_WRITE), 0);
	mine = &((struct nouveau_svm_window *)mtree_load(&t->svmm->windows, addr))->notifier;
	others = &((struct nouveau_svm_window *)mtree_load(&u->svmm->windows, addr))->notifier;
	seq = mmu_interval_read_begin(mine);
	other_seq = mmu_interval_read_begin(others);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(mine, seq));
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(others, other_seq));
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(t, addr));
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(u, addr));
}

/* What nouveau itself migrates is taken from the GPU before it is copied. */
static void test_migrate(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv;
	unsigned long src = 0, dst = 0;
	struct migrate_vma args = {
		.start		= addr,
		.end		= addr + SZ_4K,
		.src		= &src,
		.dst		= &dst,
		.pgmap_owner	= t->drm->dev,
		.flags		= MIGRATE_VMA_SELECT_SYSTEM,
	};

	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);

	mmap_read_lock(current->mm);
	args.vma = vma_lookup(current->mm, addr);
	KUNIT_EXPECT_EQ(test, migrate_vma_setup(&args), 0);
	KUNIT_EXPECT_EQ(test, args.cpages, 1);
	expect_no_page(test, addr);
	/* There is nowhere to go: it stays. */
	migrate_vma_finalize(&args);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
}

/* ----- VRAM ----- */

#define SVM_KUNIT_VRAM SZ_16M

static void svm_kunit_vram_free(struct folio *folio)
{
}

static vm_fault_t svm_kunit_vram_to_ram(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct dev_pagemap_ops svm_kunit_vram_ops = {
	.folio_free = svm_kunit_vram_free,
	.migrate_to_ram = svm_kunit_vram_to_ram,
};

/* In place of nouveau_dmem_page_addr(), whose chunks have a buffer object each. */
static unsigned long svm_kunit_vram_addr(struct page *page)
{
	return SVM_KUNIT_VRAM + (page_to_pfn(page) << PAGE_SHIFT) -
	       page_pgmap(page)->range.start;
}

static void svm_kunit_vram_unmap(void *data)
{
	struct dev_pagemap *pgmap = data;

	memunmap_pages(pgmap);
	release_mem_region(pgmap->range.start, range_len(&pgmap->range));
}

/* The first of many pages of device-private memory that has only struct pages. */
static unsigned long svm_kunit_vram_pfn(struct kunit *test)
{
	struct dev_pagemap *pgmap = svm_kunit_zalloc(test, sizeof(*pgmap));
	struct resource *res;
	void *ptr;

	res = request_free_mem_region(&iomem_resource, SZ_4M, "svm_kunit");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, res);
	pgmap->type = MEMORY_DEVICE_PRIVATE;
	pgmap->range.start = res->start;
	pgmap->range.end = res->end;
	pgmap->nr_range = 1;
	pgmap->ops = &svm_kunit_vram_ops;
	pgmap->owner = test;
	ptr = memremap_pages(pgmap, numa_node_id());
	if (IS_ERR(ptr))
		release_mem_region(pgmap->range.start, range_len(&pgmap->range));
	KUNIT_ASSERT_FALSE(test, IS_ERR(ptr));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, svm_kunit_vram_unmap,
							   pgmap));
	kunit_activate_static_stub(test, nouveau_dmem_page_addr, svm_kunit_vram_addr);
	return PHYS_PFN(res->start);
}

/* All that is contiguous around a fault in VRAM is mapped. */
static void test_vram(struct kunit *test)
{
	unsigned long addr = SZ_16G + SZ_2M + SZ_64K, pfn = svm_kunit_vram_pfn(test);
	const u64 flags = NVIF_VMM_PFNMAP_V0_V | NVIF_VMM_PFNMAP_V0_W |
			  NVIF_VMM_PFNMAP_V0_VRAM;
	struct nouveau_svm_window *window;
	struct svm_kunit *t = test->priv;
	struct nouveau_pfnmap_args *args = t->svmm->args;
	struct hmm_extent extent = {
		.start = addr,
		.end = addr + SZ_64K,
		.hmm_pfn = (pfn + 3) | HMM_PFN_VALID | HMM_PFN_WRITE,
	};
	struct hmm_range range = { .extents = &extent, .nr_extents = 1 };
	int i;

	window = svm_kunit_zalloc(test, sizeof(*window));
	window->svmm = t->svmm;
	window->dma.start = SZ_16G;
	window->dma.end = SZ_16G + SZ_1G;

	/* Pages, and the fault is in the middle of them. */
	nouveau_svm_pfnmap_args(window, &range, NULL, addr + 5 * SZ_4K, 0, args);
	KUNIT_EXPECT_EQ(test, args->p.page, NOUVEAU_SVM_PAGE_SMALL);
	KUNIT_EXPECT_EQ(test, args->p.addr, addr);
	KUNIT_ASSERT_EQ(test, args->p.size, SZ_64K);
	for (i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, args->p.phys[i],
				(SVM_KUNIT_VRAM + (3 + i) * SZ_4K) | flags);

	/* A page of a leaf of 2 MiB, which is mapped as a whole. */
	extent.end = addr + SZ_4K;
	extent.hmm_pfn = (pfn + SZ_64K / PAGE_SIZE) | HMM_PFN_VALID | HMM_PFN_WRITE |
			 (u64)(NOUVEAU_SVM_PAGE_LARGE - PAGE_SHIFT) << HMM_PFN_ORDER_SHIFT;
	nouveau_svm_pfnmap_args(window, &range, NULL, addr, 0, args);
	KUNIT_EXPECT_EQ(test, args->p.page, NOUVEAU_SVM_PAGE_LARGE);
	KUNIT_EXPECT_EQ(test, args->p.addr, SZ_16G + SZ_2M);
	KUNIT_EXPECT_EQ(test, args->p.size, SZ_2M);
	KUNIT_EXPECT_EQ(test, args->p.phys[0], SVM_KUNIT_VRAM | flags);
}

/* A fault that fails, the next one does not. */
static void test_errors(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv;
	int fail, ret = -ENOBUFS;
	unsigned int nr;

	for (fail = 0; ret && fail < 8; fail++) {
		t->gpu->fail = fail;
		ret = svm_kunit_fault(test, addr, FAULT_WRITE);
		if (ret) {
			KUNIT_EXPECT_EQ(test, ret, -ENOBUFS);
			KUNIT_EXPECT_EQ(test, nvkm_mmu_kunit_walk(t->gpu, addr).kind,
					KUNIT_NONE);
		}
	}
	t->gpu->fail = -1;
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_GT(test, fail, 1);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);

	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, SVM_KUNIT_UNMANAGED, FAULT_READ),
			-EINVAL);

	/* A wild pointer takes no window. */
	nr = t->svm->nr_windows;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, SZ_32G, FAULT_READ), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, nr);
}

#ifdef CONFIG_FAULT_INJECTION
/*
 * A fault finds no memory, at one place after the other where it takes some: nothing of
 * it stays, and the next one is served. Allocations that may sleep only fail with N in
 * ignore-gfp-wait of failslab and fail_page_alloc in debugfs, and pages with 0 in
 * fail_page_alloc/min-order.
 */
static void test_no_memory(struct kunit *test)
{
	unsigned int n, failed = 0;
	bool reached = true;

	for (n = 1; reached && n < 1000; n++) {
		/* Too small for THP. */
		unsigned long addr = svm_kunit_mmap(test, NULL, SZ_16G, SZ_1M, RW,
						    MAP_PRIVATE | MAP_FIXED);
		int ret;

		WRITE_ONCE(current->fail_nth, n);
		ret = svm_kunit_fault(test, addr, FAULT_WRITE);
		reached = !READ_ONCE(current->fail_nth);
		WRITE_ONCE(current->fail_nth, 0);
		if (ret) {
			failed++;
			KUNIT_EXPECT_TRUE(test, reached);
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			expect_no_page(test, addr);
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr,
							      FAULT_WRITE), 0);
		}
		expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
		KUNIT_ASSERT_EQ(test, vm_munmap(addr, SZ_1M), 0);
		expect_no_page(test, addr);
	}
	KUNIT_EXPECT_FALSE(test, reached);
	kunit_info(test, "%u of %u failures", failed, n - 2);
}
#endif

static void test_dax(struct kunit *test)
{
	struct svm_kunit *t = test->priv;
	unsigned long addr, leaf;
	int i, j;
	u8 byte;

	if (!svm_kunit_nr)
		kunit_skip(test, "no svm_kunit_dax");

	for (i = 0; i < svm_kunit_nr; i++) {
		const struct svm_kunit_file f = svm_kunit_files[i];
		enum nvkm_mmu_kunit_kind kind = f.shift < 21 ? KUNIT_SMALL : KUNIT_LARGE;
		unsigned long at[] = {
			0, SZ_1M + SZ_4K, SZ_2M - SZ_4K, SZ_2M,
			f.len / 2 + SZ_4K, f.len - SZ_4K,
		};

		kunit_info(test, "%pD: leaves of %lu KiB\n", f.file,
			   BIT(f.shift) / SZ_1K);
		leaf = BIT(f.shift);
		/* At 16 GiB, so that it is aligned to its leaves. */
		addr = svm_kunit_mmap(test, f.file, SZ_16G, f.len, RW,
				      MAP_SHARED | MAP_FIXED);

		/* One fault for each leaf, and one for all of them. */
		KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
		svm_kunit_batch(test, FAULT(0x1000, addr + at[0], READ),
				FAULT(0x1000, addr + at[1], READ),
				FAULT(0x1000, addr + at[2], READ),
				FAULT(0x1000, addr + at[3], READ),
				FAULT(0x1000, addr + at[4], READ),
				FAULT(0x1000, addr + at[5], READ));
		expect_handled(test, f.shift < 21 ? 6 : f.len >> f.shift, 1, 0);
		for (j = 0; j < ARRAY_SIZE(at); j++)
			KUNIT_EXPECT_EQ(test, kind,
					nvkm_mmu_kunit_walk(t->gpu, addr + at[j]).kind);
		nouveau_svmm_part(t->svmm, 0x1000);
		KUNIT_ASSERT_EQ(test, vm_munmap(addr, f.len), 0);
		addr = svm_kunit_mmap(test, f.file, SZ_16G, f.len, RW,
				      MAP_SHARED | MAP_FIXED);

		/* What the CPU has by pages, if they are contiguous: one fault. */
		if (f.shift < 21) {
			for (j = 0; j < 16; j++)
				KUNIT_ASSERT_EQ(test, 0,
						copy_from_user(&byte, (void __user *)addr +
							       SZ_64K + j * SZ_4K, 1));
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_64K +
							      5 * SZ_4K, FAULT_READ), 0);
			for (j = 0; j < 16; j++)
				expect_page(test, addr + SZ_64K + j * SZ_4K, KUNIT_SMALL,
					    0);
			expect_no_page(test, addr + SZ_64K - SZ_4K);
			expect_no_page(test, addr + SZ_128K);
		}

		/* A leaf that becomes writable replaces what is mapped of it. */
		if (S_ISREG(file_inode(f.file)->i_mode)) {
			t->clears = 0;
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
			expect_page(test, addr, kind, 0);
			KUNIT_EXPECT_EQ(test, t->clears, 0);
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
			expect_page(test, addr, kind, NVKM_VMM_PFN_W);
			/* Without an IOMMU the entry is written over. */
			KUNIT_EXPECT_EQ(test, t->clears, t->iommu ? 1 : 0);
		}

		t->clears = 0;
		for (j = 0; j < ARRAY_SIZE(at); j++) {
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + at[j],
							      FAULT_WRITE), 0);
			expect_page(test, addr + at[j], kind, NVKM_VMM_PFN_W);
		}
		/* An atomic access is refused, and costs nobody the leaf. */
		for (j = 0; j < ARRAY_SIZE(at); j++)
			KUNIT_EXPECT_LT(test, svm_kunit_fault(test, addr + at[j],
							      FAULT_ATOMIC), 0);
		/* None of them has been in the way of another. */
		KUNIT_EXPECT_EQ(test, t->clears, 0);
		for (j = 0; j < ARRAY_SIZE(at); j++)
			expect_page(test, addr + at[j], kind, NVKM_VMM_PFN_W);
		/* For DMA a leaf is mapped as a whole. */
		for (j = 0; j < 8; j++)
			expect_dma(test, addr + j * leaf / 8, true);

		if (S_ISREG(file_inode(f.file)->i_mode)) {
			int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

			KUNIT_ASSERT_EQ(test, vfs_fallocate(f.file, punch,
							    SZ_1M + SZ_4K, SZ_4K), 0);
			expect_no_page(test, addr + SZ_1M + SZ_4K);
			if (kind == KUNIT_LARGE)
				expect_no_page(test, addr);
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_1M + SZ_4K,
							      FAULT_WRITE), 0);
			expect_page(test, addr + SZ_1M + SZ_4K, KUNIT_SMALL,
				    NVKM_VMM_PFN_W);
			KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_2M,
							      FAULT_WRITE), 0);
			expect_page(test, addr + SZ_2M, kind, NVKM_VMM_PFN_W);
		}

		KUNIT_ASSERT_EQ(test, vm_munmap(addr, f.len), 0);
		for (j = 0; j < ARRAY_SIZE(at); j++)
			expect_no_page(test, addr + at[j]);
	}
}

/* A leaf that is partly nouveau's own: small pages up to there. */
static void test_dax_edge(struct kunit *test)
{
	unsigned long start = ALIGN_DOWN(SVM_KUNIT_UNMANAGED, SZ_2M);
	struct svm_kunit *t = test->priv;
	int i, nr = 0;

	for (i = 0; i < svm_kunit_nr; i++) {
		if (svm_kunit_files[i].shift == 21) {
			struct file *file = svm_kunit_files[i].file;

			nr++;
			svm_kunit_mmap(test, file, start, SZ_2M, RW,
				       MAP_SHARED | MAP_FIXED);
			KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, start + SZ_4K,
							      FAULT_WRITE), 0);
			expect_page(test, start + SZ_4K, KUNIT_SMALL, NVKM_VMM_PFN_W);
			KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, SVM_KUNIT_UNMANAGED -
							      SZ_4K, FAULT_READ), 0);
			expect_page(test, SVM_KUNIT_UNMANAGED - SZ_4K, KUNIT_SMALL,
				    NVKM_VMM_PFN_W);
			expect_page(test, start + SZ_4K, KUNIT_SMALL, NVKM_VMM_PFN_W);
			KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, SVM_KUNIT_UNMANAGED,
							      FAULT_READ), -EINVAL);
			KUNIT_ASSERT_EQ(test, vm_munmap(start, SZ_2M), 0);
			expect_no_page(test, start + SZ_4K);
			expect_no_page(test, SVM_KUNIT_UNMANAGED - SZ_4K);
		}
	}
	if (!nr)
		kunit_skip(test, "no file with leaves of 2 MiB in svm_kunit_dax");
	KUNIT_EXPECT_GT(test, t->clears, 0);
}

/* ----- waiting ----- */

/*
 * A file whose pages are there when the gate opens, as with a userfaultfd; in an even
 * page there is nothing then.
 */
struct svm_kunit_gate {
	struct completion there, go;
	struct page *page;
	bool waiting;
	bool nomem;			/* there are none */
};

/* Nothing waits longer than this, if what is tested does not work. */
#define GATE_TIMEOUT (20 * HZ)

static vm_fault_t svm_kunit_gate_fault(struct vm_fault *vmf)
{
	struct svm_kunit_gate *gate = vmf->vma->vm_file->private_data;

	WRITE_ONCE(gate->waiting, true);
	complete(&gate->there);
	wait_for_completion_timeout(&gate->go, GATE_TIMEOUT);
	WRITE_ONCE(gate->waiting, false);
	if (READ_ONCE(gate->nomem))
		return VM_FAULT_OOM;
	if (!(vmf->pgoff & 1))
		return VM_FAULT_SIGBUS;
	get_page(gate->page);
	vmf->page = gate->page;
	return 0;
}

static const struct vm_operations_struct svm_kunit_gate_vm_ops = {
	.fault = svm_kunit_gate_fault,
};

static int svm_kunit_gate_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &svm_kunit_gate_vm_ops;
	return 0;
}

static const struct file_operations svm_kunit_gate_fops = {
	.owner = THIS_MODULE,
	.mmap = svm_kunit_gate_mmap,
};

static void svm_kunit_gate_free(void *data)
{
	struct svm_kunit_gate *gate = data;

	__free_page(gate->page);
}

static unsigned long svm_kunit_gate(struct kunit *test, struct svm_kunit_gate **pgate)
{
	struct svm_kunit_gate *gate = svm_kunit_zalloc(test, sizeof(*gate));
	unsigned long addr;
	struct file *file;

	init_completion(&gate->there);
	init_completion(&gate->go);
	gate->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	KUNIT_ASSERT_NOT_NULL(test, gate->page);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, svm_kunit_gate_free,
							   gate));
	file = anon_inode_getfile("svm_kunit", &svm_kunit_gate_fops, gate, O_RDWR);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	addr = svm_kunit_mmap(test, file, 0, SZ_1M, RW, MAP_SHARED);
	fput(file);
	*pgate = gate;
	return addr;
}

/* Faults that are on their way, one of them up to a gate. */
static void svm_kunit_faults_wait(struct kunit *test,
				  struct svm_kunit_gate *gate, unsigned int nr,
				  const struct nouveau_svm_fault *faults)
{
	reinit_completion(&gate->there);
	reinit_completion(&gate->go);
	svm_kunit_faults(test, nr, faults);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&gate->there,
							    GATE_TIMEOUT));
}

#define svm_kunit_wait(test, gate, ...) ({				\
	const struct nouveau_svm_fault batch[] = { __VA_ARGS__ };	\
									\
	svm_kunit_faults_wait(test, gate, ARRAY_SIZE(batch), batch);	\
})

/* A process that waits for its memory holds up nobody else. */
static void test_waiting(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv, *u = svm_kunit_other(test);
	struct svm_kunit_gate *gate;
	unsigned long far = svm_kunit_gate(test, &gate);

	/* That is also the order in which they are handled. */
	KUNIT_ASSERT_LT(test, far, addr);
	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(u->svmm, 0x2000), 0);

	/* The second fault of the one that waits is forgotten till it has done. */
	svm_kunit_wait(test, gate, FAULT(0x2000, far + SZ_4K, READ));
	svm_kunit_faults(test, 2, (struct nouveau_svm_fault []) {
		FAULT(0x1000, addr, WRITE), FAULT(0x2000, far + SZ_4K, READ),
	});
	flush_work(&t->svmm->work);
	KUNIT_EXPECT_TRUE(test, READ_ONCE(gate->waiting));
	expect_handled(test, 1, 1, 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(u, far + SZ_4K));
	KUNIT_EXPECT_EQ(test, u->svmm->nr_faults, 1);
	complete_all(&gate->go);
	flush_work(&u->svmm->work);
	expect_handled(test, 1, 2, 0);
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(u, far + SZ_4K));
	KUNIT_EXPECT_FALSE(test, u->svmm->missed);

	/* What fails is replayed all the same if there was more. */
	svm_kunit_wait(test, gate, FAULT(0x2000, far + SZ_8K, READ));
	svm_kunit_faults(test, 1, (struct nouveau_svm_fault []) {
		FAULT(0x2000, far + SZ_4K, READ),
	});
	complete_all(&gate->go);
	flush_work(&u->svmm->work);
	expect_handled(test, 0, 1, 1);

	/* Nor is it waited for when the GPU is suspended. */
	svm_kunit_wait(test, gate, FAULT(0x2000, far + SZ_4K + SZ_8K, READ));
	nouveau_svm_suspend(t->drm);
	KUNIT_EXPECT_TRUE(test, READ_ONCE(gate->waiting));
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(u, far + SZ_4K));
	u->maps = 0;
	complete_all(&gate->go);
	flush_work(&u->svmm->work);
	KUNIT_EXPECT_EQ(test, u->maps, 0);
	expect_handled(test, 0, 0, 0);
	nouveau_svm_start(t->svm);
	expect_handled(test, 0, 1, 0);

	/*
	 * Nor when its client goes. The second of its faults is that of an instance
	 * whose address another client's has then: that is not cancelled.
	 */
	svm_kunit_wait(test, gate, FAULT(0x2000, far + SZ_16K, READ),
		       FAULT(0x2000, addr, READ));
	nouveau_svmm_part(u->svmm, 0x2000);
	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x2000), 0);
	nouveau_svmm_fini(&u->svmm);
	KUNIT_EXPECT_TRUE(test, READ_ONCE(gate->waiting));
	complete_all(&gate->go);
	flush_workqueue(t->svm->wq);
	KUNIT_EXPECT_EQ(test, u->maps, 0);
	KUNIT_EXPECT_EQ(test, t->cancels, 0);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(u, addr));

	nouveau_svmm_part(t->svmm, 0x1000);
	nouveau_svmm_part(t->svmm, 0x2000);
}

/* A fault without memory is tried for some time; no other client waits for that. */
static void test_tries(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, SZ_16G, SZ_1M, RW,
					    MAP_PRIVATE | MAP_FIXED);
	unsigned long far = svm_kunit_mmap(test, NULL, SZ_16G + SZ_4G, SZ_1M, RW,
					   MAP_PRIVATE | MAP_FIXED);
	struct svm_kunit *t = test->priv, *u = svm_kunit_other(test);
	unsigned long then;

	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(u->svmm, 0x2000), 0);

	/* Memory comes back, or what is busy becomes free. */
	WRITE_ONCE(t->gpu->fail, 0);
	svm_kunit_faults(test, 2, (struct nouveau_svm_fault []) {
		FAULT(0x1000, addr, WRITE), FAULT(0x2000, addr, WRITE),
	});
	flush_work(&u->svmm->work);
	KUNIT_EXPECT_GE(test, u->maps, 1);
	KUNIT_EXPECT_EQ(test, t->svmm->nr_faults, 1);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(t, addr));
	msleep(300);
	WRITE_ONCE(t->gpu->fail, -1);
	flush_work(&t->svmm->work);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_EQ(test, t->cancels, 0);

	flush_workqueue(t->svm->wq);
	WRITE_ONCE(t->svmm->nr_dead, NOUVEAU_SVM_WINDOWS_DEAD);
	svm_kunit_faults(test, 1, (struct nouveau_svm_fault []) {
		FAULT(0x1000, far, WRITE),
	});
	msleep(50);
	KUNIT_EXPECT_EQ(test, t->maps, 0);
	WRITE_ONCE(t->svmm->nr_dead, 0);
	flush_work(&t->svmm->work);
	expect_page(test, far, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_handled(test, 1, 1, 0);

	/* Or it does not: only this one is killed, after 10 s. */
	far = svm_kunit_mmap(test, NULL, SZ_16G + SZ_8G, SZ_1M, RW,
			     MAP_PRIVATE | MAP_FIXED);
	flush_workqueue(t->svm->wq);
	WRITE_ONCE(t->svmm->nr_dead, NOUVEAU_SVM_WINDOWS_DEAD);
	then = jiffies;
	svm_kunit_batch(test, FAULT(0x1000, addr, READ), FAULT(0x1000, far, WRITE));
	KUNIT_EXPECT_GE(test, jiffies - then, 10 * HZ);
	WRITE_ONCE(t->svmm->nr_dead, 0);
	KUNIT_EXPECT_EQ(test, t->replays, 1);
	KUNIT_EXPECT_EQ(test, t->cancels, 1);
	KUNIT_EXPECT_EQ(test, t->cancelled, 0x1000);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(t, far));
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);

	nouveau_svmm_part(t->svmm, 0x1000);
	nouveau_svmm_part(u->svmm, 0x2000);
}

/*
 * The driver is unbound while a client has a channel, and a fault of it is tried again
 * and again. The client goes after that.
 */
static void test_unbind(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, SZ_16G, SZ_1M, RW,
					    MAP_PRIVATE | MAP_FIXED);
	struct svm_kunit *t = test->priv;
	unsigned long then;

	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);

	svm_kunit_mmap(test, NULL, addr + NOUVEAU_SVM_WINDOW, SZ_1M, RW,
		       MAP_PRIVATE | MAP_FIXED);
	WRITE_ONCE(t->svmm->nr_dead, NOUVEAU_SVM_WINDOWS_DEAD);
	svm_kunit_faults(test, 1, (struct nouveau_svm_fault []) {
		FAULT(0x1000, addr + NOUVEAU_SVM_WINDOW, WRITE),
	});
	msleep(300);
	KUNIT_EXPECT_EQ(test, t->svmm->nr_faults, 1);
	then = jiffies;
	nouveau_svm_fini(t->drm);
	t->svm = NULL;
	KUNIT_EXPECT_LT(test, jiffies - then, 4 * HZ);
	WRITE_ONCE(t->svmm->nr_dead, 0);
	KUNIT_EXPECT_EQ(test, t->replays, 0);
	KUNIT_EXPECT_EQ(test, t->cancels, 0);
	expect_no_page(test, addr);

	nouveau_svmm_part(t->svmm, 0x1000);
	nouveau_svmm_fini(&t->svmm);
}

static const struct iommu_domain_ops *svm_kunit_iommu_ops;
static struct iommu_domain_ops svm_kunit_ops;
static unsigned int svm_kunit_syncs;

static void svm_kunit_iotlb_sync(struct iommu_domain *domain,
				 struct iommu_iotlb_gather *gather)
{
	svm_kunit_syncs++;
	svm_kunit_iommu_ops->iotlb_sync(domain, gather);
}

/* Count how often the IOMMU is flushed, from here on. */
static void svm_kunit_count_syncs(struct svm_kunit *t, bool on)
{
	if (!t->iommu)
		return;
	if (on) {
		svm_kunit_iommu_ops = t->iommu->ops;
		svm_kunit_ops = *t->iommu->ops;
		svm_kunit_ops.iotlb_sync = svm_kunit_iotlb_sync;
		svm_kunit_syncs = 0;
	}
	t->iommu->ops = on ? &svm_kunit_ops : svm_kunit_iommu_ops;
}

static void expect_syncs(struct svm_kunit *t, unsigned int nr)
{
	unsigned int syncs = READ_ONCE(svm_kunit_syncs);

	if (t->iommu)
		KUNIT_EXPECT_EQ(t->test, syncs, nr);
}

/*
 * Is one flush enough for two ranges with a gap between them? Not for AMD's IOMMU under
 * a hypervisor, which would have to look at all of the gap.
 */
static bool svm_kunit_one_sync(struct svm_kunit *t)
{
	const phys_addr_t phys = page_to_phys(ZERO_PAGE(0));
	struct iommu_iotlb_gather gather;
	struct iommu_domain *domain;
	unsigned long iova;
	bool one;

	if (!t->iommu)
		return true;
	domain = iommu_paging_domain_alloc(t->pci);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(t->test, domain);
	iommu_iotlb_gather_init(&gather);
	for (iova = SZ_4M; iova <= SZ_8M; iova += SZ_4M)
		KUNIT_EXPECT_EQ(t->test, 0, iommu_map(domain, iova, phys,
						      PAGE_SIZE, IOMMU_READ,
						      GFP_KERNEL));
	for (iova = SZ_4M; iova <= SZ_8M; iova += SZ_4M)
		KUNIT_EXPECT_EQ(t->test, iommu_unmap_fast(domain, iova,
							  PAGE_SIZE, &gather),
				PAGE_SIZE);
	one = gather.start == SZ_4M;
	iommu_iotlb_sync(domain, &gather);
	iommu_domain_free(domain);
	return one;
}

/*
 * Somebody else's notifier, which keeps an invalidation from coming to its end: after
 * the window's, as it starts behind that.
 */
struct svm_kunit_park {
	struct mmu_interval_notifier notifier;
	struct completion there, go;
	struct work_struct work;
	struct mm_struct *mm;
	struct file *file;		/* punch a hole into it, or ... */
	unsigned long addr, len;	/* ... unmap this, or read from there */
	long ret;
};

static bool svm_kunit_park_invalidate(struct mmu_interval_notifier *mni,
				      const struct mmu_notifier_range *update,
				      unsigned long seq)
{
	struct svm_kunit_park *park = container_of(mni, typeof(*park), notifier);

	complete(&park->there);
	wait_for_completion_timeout(&park->go, GATE_TIMEOUT);
	mmu_interval_set_seq(mni, seq);
	return true;
}

static const struct mmu_interval_notifier_ops svm_kunit_park_ops = {
	.invalidate = svm_kunit_park_invalidate,
};

static void svm_kunit_park_work(struct work_struct *work)
{
	struct svm_kunit_park *park = container_of(work, typeof(*park), work);
	u32 x;

	if (park->file) {
		park->ret = vfs_fallocate(park->file, FALLOC_FL_PUNCH_HOLE |
					  FALLOC_FL_KEEP_SIZE, 0, SZ_4K);
		return;
	}
	kthread_use_mm(park->mm);
	if (park->len)
		park->ret = vm_munmap(park->addr, park->len);
	else
		park->ret = copy_from_user(&x, (void __user *)park->addr, 4);
	kthread_unuse_mm(park->mm);
}

/* The invalidation of a page is under way, and does not end. */
static struct svm_kunit_park *svm_kunit_park(struct kunit *test, unsigned long addr,
					     unsigned long len, struct file *file)
{
	struct svm_kunit_park *park = svm_kunit_zalloc(test, sizeof(*park));

	init_completion(&park->there);
	init_completion(&park->go);
	park->mm = current->mm;
	park->addr = addr;
	park->len = len;
	park->file = file;
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&park->notifier, park->mm, addr,
						     SZ_4K, &svm_kunit_park_ops));
	INIT_WORK(&park->work, svm_kunit_park_work);
	queue_work(system_dfl_wq, &park->work);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&park->there,
							    GATE_TIMEOUT));
	return park;
}

static void svm_kunit_unpark(struct kunit *test, struct svm_kunit_park *park)
{
	complete_all(&park->go);
	flush_work(&park->work);
	KUNIT_EXPECT_EQ(test, park->ret, 0);
	mmu_interval_notifier_remove(&park->notifier);
}

/*
 * One invalidation has not finished when another one comes, which cannot leave it to
 * the first to flush the IOMMU. A read by the CPU takes a page back that is exclusive
 * to the GPU.
 */
static void test_finish(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, SZ_16G + SZ_1M, SZ_1M, RW,
					    MAP_PRIVATE | MAP_FIXED);
	struct svm_kunit *t = test->priv;
	struct svm_kunit_park *park;
	int i;
	u32 x;

	for (i = 0; i < 3; i++)
		KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + i * SZ_4K,
						      FAULT_ATOMIC), 0);
	svm_kunit_count_syncs(t, true);
	park = svm_kunit_park(test, addr, 0, NULL);
	expect_syncs(t, 0);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(t, addr));

	KUNIT_EXPECT_EQ(test, copy_from_user(&x, (void __user *)addr + SZ_4K, 4), 0);
	expect_syncs(t, 1);
	expect_no_page(test, addr + SZ_4K);

	/* That was for both: there is nothing left of the first one's. */
	svm_kunit_unpark(test, park);
	expect_syncs(t, 1);
	expect_no_page(test, addr);

	/* Alone again. */
	KUNIT_EXPECT_EQ(test, copy_from_user(&x, (void __user *)addr + SZ_8K, 4), 0);
	expect_syncs(t, 2);
	expect_no_page(test, addr + SZ_8K);
	svm_kunit_count_syncs(t, false);
}

/* An atomic fault that waits for an invalidation does not have the mmap lock. */
static void test_atomic_waits(struct kunit *test)
{
	struct svm_kunit *t = test->priv;
	struct svm_kunit_park *park;
	struct file *file = NULL;
	unsigned long addr;
	int i;

	for (i = 0; i < svm_kunit_nr; i++)
		if (S_ISREG(file_inode(svm_kunit_files[i].file)->i_mode))
			file = svm_kunit_files[i].file;
	if (!file)
		kunit_skip(test, "no file of a file system in svm_kunit_dax");

	addr = svm_kunit_mmap(test, file, SZ_16G + SZ_32M, SZ_2M, RW,
			      MAP_SHARED | MAP_FIXED);
	svm_kunit_mmap(test, NULL, SZ_16G + SZ_1M, SZ_1M, RW, MAP_PRIVATE | MAP_FIXED);
	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);

	park = svm_kunit_park(test, addr, 0, file);
	svm_kunit_faults(test, 1, (struct nouveau_svm_fault []) {
		FAULT(0x1000, SZ_16G + SZ_1M, ATOMIC),
	});
	msleep(200);
	KUNIT_EXPECT_EQ(test, t->maps, 0);
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&current->mm->mmap_lock));
	svm_kunit_unpark(test, park);
	flush_work(&t->svmm->work);
	expect_handled(test, 1, 1, 0);
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(t, SZ_16G + SZ_1M));
	nouveau_svmm_part(t->svmm, 0x1000);
}

/* ----- windows ----- */

/* An address of its own in each of several windows. */
static unsigned long svm_kunit_many(struct kunit *test, unsigned int nr)
{
	unsigned long addr = SZ_16G + SZ_1M;

	/* Too small for THP. */
	while (nr--)
		svm_kunit_mmap(test, NULL, addr + nr * NOUVEAU_SVM_WINDOW, SZ_1M, RW,
			       MAP_PRIVATE | MAP_FIXED);
	return addr;
}

/* With more windows than there may be, the one goes that was used the longest ago. */
static void test_evict(struct kunit *test)
{
	const unsigned long size = NOUVEAU_SVM_WINDOW;
	unsigned long addr = svm_kunit_many(test, 5);
	struct svm_kunit *t = test->priv;
	int i;

	KUNIT_EXPECT_GE(test, t->svm->max_windows, 64);
	t->svm->max_windows = 3;
	for (i = 0; i < 4; i++) {
		KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + i * size,
						      FAULT_WRITE), 0);
		expect_page(test, addr + i * size, KUNIT_SMALL, NVKM_VMM_PFN_W);
		KUNIT_EXPECT_EQ(test, t->svm->nr_windows, min(i + 1, 3));
	}
	expect_no_page(test, addr);
	expect_page(test, addr + size, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_page(test, addr + 2 * size, KUNIT_SMALL, NVKM_VMM_PFN_W);

	/* Use the next one, and it is not the next one any more. */
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + size + SZ_4K,
					      FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_page(test, addr + size, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_no_page(test, addr + 2 * size);
	expect_page(test, addr + 3 * size, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 3);

	flush_workqueue(t->svm->wq);
	KUNIT_EXPECT_EQ(test, t->svmm->nr_dead, 0);

	/* What is new is invalidated as what was there before. */
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, 4 * size), 0);
	for (i = 0; i < 4; i++)
		expect_no_page(test, addr + i * size);
}

/* The same if the IOVA space ends before that. */
static void test_evict_iova(struct kunit *test)
{
	const unsigned long size = NOUVEAU_SVM_WINDOW;
	unsigned long addr = svm_kunit_many(test, 12);
	struct svm_kunit *t = test->priv;
	int i;

	if (!t->iommu)
		kunit_skip(test, "no IOMMU");
	KUNIT_ASSERT_EQ(test, dma_set_mask(t->pci, DMA_BIT_MASK(33)), 0);
	KUNIT_EXPECT_EQ(test, nouveau_svm_max_windows(t->pci), 4);
	for (i = 0; i < 12; i++) {
		KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr + i * size,
						      FAULT_WRITE), 0);
		expect_page(test, addr + i * size, KUNIT_SMALL, NVKM_VMM_PFN_W);
	}
	KUNIT_EXPECT_GE(test, t->svm->nr_windows, 2);
	KUNIT_EXPECT_LE(test, t->svm->nr_windows, 8);
	for (i = 0; i < 4; i++)
		expect_no_page(test, addr + i * size);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_EQ(test, dma_set_mask(t->pci, DMA_BIT_MASK(64)), 0);
}

/* The same if there is no memory for page tables: others have them to give. */
static void test_evict_nomem(struct kunit *test)
{
	unsigned long addr = svm_kunit_many(test, 1);
	struct svm_kunit *t = test->priv, *u = svm_kunit_other(test);
	struct svm_kunit_gate *gate;
	unsigned long far = svm_kunit_gate(test, &gate);
	int i;

	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(u->svmm, 0x2000), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_EXPECT_GT(test, t->gpu->vmm->pd->refs[0], 1);

	WRITE_ONCE(u->gpu->fail, 0);
	svm_kunit_faults(test, 1, (struct nouveau_svm_fault []) {
		FAULT(0x2000, addr, WRITE),
	});
	for (i = 0; i < 100 && mtree_load(&t->svmm->windows, addr); i++)
		msleep(20);
	KUNIT_EXPECT_NULL(test, mtree_load(&t->svmm->windows, addr));
	WRITE_ONCE(u->gpu->fail, -1);
	flush_workqueue(t->svm->wq);
	expect_no_page(test, addr);
	KUNIT_EXPECT_EQ(test, t->gpu->vmm->pd->refs[0], 1);
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(u, addr));
	expect_handled(test, 0, 1, 0);

	/* A process that has no memory itself gets none from others' page tables. */
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	gate->nomem = true;
	complete_all(&gate->go);
	svm_kunit_faults(test, 1, (struct nouveau_svm_fault []) {
		FAULT(0x2000, far + SZ_4K, READ),
	});
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&gate->there,
								    GATE_TIMEOUT));
	KUNIT_EXPECT_NOT_NULL(test, mtree_load(&t->svmm->windows, addr));
	KUNIT_EXPECT_NOT_NULL(test, mtree_load(&u->svmm->windows, addr));
	WRITE_ONCE(gate->nomem, false);
	flush_workqueue(t->svm->wq);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(u, far + SZ_4K));
	expect_handled(test, 0, 1, 0);
	nouveau_svmm_part(u->svmm, 0x2000);
}

/* Windows are the device's, whoever has them; what a fault is using goes last. */
static void test_evict_shared(struct kunit *test)
{
	const unsigned long size = NOUVEAU_SVM_WINDOW;
	unsigned long addr = svm_kunit_many(test, 3);
	struct svm_kunit *t = test->priv, *u = svm_kunit_other(test);
	struct svm_kunit_gate *gate;
	unsigned long far = svm_kunit_gate(test, &gate);

	t->svm->max_windows = 2;
	KUNIT_ASSERT_EQ(test, nouveau_svmm_join(u->svmm, 0x2000), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + size, FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault_of(u, addr, FAULT_WRITE), 0);
	expect_no_page(test, addr);
	expect_page(test, addr + size, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(u, addr));
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 2);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault_of(u, addr + size, FAULT_WRITE), 0);
	expect_no_page(test, addr + size);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(u, addr));
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(u, addr + size));

	/* One window has a fault in it that waits: another one goes, */
	svm_kunit_wait(test, gate, FAULT(0x2000, far + SZ_4K, READ));
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr + size, FAULT_WRITE), 0);
	expect_no_page(test, addr);
	KUNIT_EXPECT_NOT_NULL(test, mtree_load(&u->svmm->windows, far));
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 2);

	/* but if there is none, this one. The fault is not lost. */
	t->svm->max_windows = 1;
	KUNIT_EXPECT_TRUE(test, nouveau_svm_evict(t->svm));
	expect_no_page(test, addr + size);
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	KUNIT_EXPECT_NULL(test, mtree_load(&u->svmm->windows, far));
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 1);
	KUNIT_EXPECT_TRUE(test, READ_ONCE(gate->waiting));
	complete_all(&gate->go);
	flush_workqueue(t->svm->wq);
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(u, far + SZ_4K));
	KUNIT_EXPECT_EQ(test, t->cancels, 0);
	expect_no_page(test, addr);
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 1);

	/* The same where it is not the first one. */
	svm_kunit_wait(test, gate, FAULT(0x2000, far + SZ_4K + SZ_8K, READ));
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(u, far + SZ_4K));
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	complete_all(&gate->go);
	flush_workqueue(t->svm->wq);
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(u, far + SZ_4K + SZ_8K));
	KUNIT_EXPECT_EQ(test, t->cancels, 0);
	KUNIT_EXPECT_EQ(test, u->svmm->nr_dead, 0);
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(u, far + SZ_4K + SZ_8K));
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);

	/* With its client all of a process's windows go. */
	t->svm->max_windows = 2;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault_of(u, addr, FAULT_WRITE), 0);
	nouveau_svmm_part(u->svmm, 0x2000);
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 2);
	flush_workqueue(t->svm->wq);
	nouveau_svmm_fini(&u->svmm);
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 1);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
}

/* The window goes with which an invalidation is to be finished. */
static void test_evict_finish(struct kunit *test)
{
	const unsigned long size = NOUVEAU_SVM_WINDOW;
	unsigned long addr = svm_kunit_many(test, 2);
	struct svm_kunit *t = test->priv;
	struct svm_kunit_park *park;
	dma_addr_t dma;
	u32 x;

	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_4K, FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + SZ_8K, FAULT_ATOMIC), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + size, FAULT_ATOMIC), 0);
	svm_kunit_count_syncs(t, true);
	park = svm_kunit_park(test, addr, 0, NULL);
	expect_syncs(t, 0);

	dma = svm_kunit_iova(t, addr + SZ_4K);
	expect_dma(test, addr + SZ_4K, true);
	KUNIT_EXPECT_TRUE(test, nouveau_svm_evict(t->svm));
	expect_syncs(t, 1);
	expect_no_page(test, addr + SZ_4K);
	if (t->iommu)
		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(t->iommu, dma), 0);
	msleep(50);
	/* The notifier waits for that, and has nothing to do any more. */
	KUNIT_EXPECT_EQ(test, t->svmm->nr_dead, 1);
	t->clears = 0;
	KUNIT_EXPECT_EQ(test, 0, copy_from_user(&x, (void __user *)addr + SZ_8K, 4));
	KUNIT_EXPECT_EQ(test, t->clears, 0);
	expect_syncs(t, 1);

	KUNIT_EXPECT_EQ(test, 0, copy_from_user(&x, (void __user *)addr + size, 4));
	expect_syncs(t, 2);
	expect_no_page(test, addr + size);

	svm_kunit_unpark(test, park);
	expect_syncs(t, 2);
	flush_workqueue(t->svm->wq);
	KUNIT_EXPECT_EQ(test, t->svmm->nr_dead, 0);
	svm_kunit_count_syncs(t, false);

	/* It goes while the same invalidation has another window before it. */
	KUNIT_EXPECT_TRUE(test, nouveau_svm_evict(t->svm));
	flush_workqueue(t->svm->wq);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr + size, FAULT_WRITE), 0);
	svm_kunit_count_syncs(t, true);
	park = svm_kunit_park(test, addr, size + SZ_1M, NULL);
	expect_syncs(t, 0);
	KUNIT_EXPECT_FALSE(test, svm_kunit_has(t, addr));
	KUNIT_EXPECT_TRUE(test, svm_kunit_has(t, addr + size));
	KUNIT_EXPECT_TRUE(test, nouveau_svm_evict(t->svm));
	expect_syncs(t, 1);
	svm_kunit_unpark(test, park);
	expect_syncs(t, 2);
	expect_no_page(test, addr + size);
	svm_kunit_count_syncs(t, false);
}

struct svm_kunit_call {
	struct work_struct work;
	struct nouveau_svm *svm;
};

static void svm_kunit_stop_work(struct work_struct *work)
{
	nouveau_svm_stop(container_of(work, struct svm_kunit_call, work)->svm);
}

static void svm_kunit_evict_work(struct work_struct *work)
{
	nouveau_svm_evict(container_of(work, struct svm_kunit_call, work)->svm);
}

/*
 * The GPU is suspended while a window is being taken: whoever is first clears it. The
 * one that is to come first to svmm->mutex is there first.
 */
static void test_evict_stop(struct kunit *test)
{
	unsigned long addr = svm_kunit_many(test, 1);
	struct svm_kunit *t = test->priv;
	struct svm_kunit_call *stop = svm_kunit_zalloc(test, sizeof(*stop));
	struct svm_kunit_call *evict = svm_kunit_zalloc(test, sizeof(*evict));
	int i;

	INIT_WORK(&stop->work, svm_kunit_stop_work);
	INIT_WORK(&evict->work, svm_kunit_evict_work);
	stop->svm = t->svm;
	evict->svm = t->svm;
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
		mutex_lock(&t->svmm->mutex);
		queue_work(system_dfl_wq, i ? &evict->work : &stop->work);
		msleep(100);
		queue_work(system_dfl_wq, i ? &stop->work : &evict->work);
		msleep(100);
		KUNIT_EXPECT_TRUE(test, svm_kunit_has(t, addr));
		mutex_unlock(&t->svmm->mutex);
		flush_work(&stop->work);
		flush_work(&evict->work);
		expect_no_page(test, addr);
		KUNIT_EXPECT_FALSE(test, svm_kunit_has(t, addr));
		nouveau_svm_start(t->svm);
		flush_workqueue(t->svm->wq);
	}
}

/* The last reference of a client that has gone is put by somebody who cannot wait. */
static void test_put_async(struct kunit *test)
{
	unsigned long addr = svm_kunit_many(test, 1);
	struct svm_kunit *t = test->priv, *u = svm_kunit_other(test);
	struct nouveau_svmm *svmm = u->svmm;
	struct svm_kunit_park *park;

	KUNIT_ASSERT_EQ(test, svm_kunit_fault_of(u, addr, FAULT_READ), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_ATOMIC), 0);
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 2);
	park = svm_kunit_park(test, addr, 0, NULL);
	kref_get(&svmm->ref);
	nouveau_svmm_fini(&u->svmm);
	nouveau_svmm_put_async(svmm);
	KUNIT_EXPECT_TRUE(test, work_busy(&park->work));
	svm_kunit_unpark(test, park);
	flush_workqueue(t->svm->wq);
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, 1);
}

/* However many windows are unmapped, the IOMMU is flushed once. */
static void test_many_windows(struct kunit *test)
{
	unsigned int nr = *(const unsigned int *)test->param_value;
	unsigned long addr, start, end, size = NOUVEAU_SVM_WINDOW;
	struct svm_kunit *t = test->priv;

	start = ALIGN(svm_kunit_mmap(test, NULL, 0, (nr + 1) * size, RW,
				     MAP_PRIVATE | MAP_NORESERVE), size);
	end = start + nr * size;
	for (addr = start; addr < end; addr += size) {
		KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
		expect_dma(test, addr, true);
	}
	KUNIT_EXPECT_EQ(test, t->svm->nr_windows, nr);
	svm_kunit_count_syncs(t, true);
	KUNIT_EXPECT_EQ(test, vm_munmap(start, end - start), 0);
	svm_kunit_count_syncs(t, false);
	expect_syncs(t, svm_kunit_one_sync(t) ? 1 : nr);
	for (addr = start; addr < end; addr += size)
		expect_no_page(test, addr);
	KUNIT_EXPECT_EQ(test, t->clears, nr);
}

static const unsigned int svm_kunit_windows[] = { 1, 8, 64 };

static void svm_kunit_windows_desc(const unsigned int *nr, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u windows", *nr);
}

KUNIT_ARRAY_PARAM(svm_kunit_windows, svm_kunit_windows, svm_kunit_windows_desc);

/* get_task_mm() has nothing for a kernel thread, even if it uses a process's memory. */
static int svm_kunit_bind(struct svm_kunit *t, struct drm_file *file,
			  struct drm_nouveau_svm_bind *args)
{
	int ret;

	current->flags &= ~PF_KTHREAD;
	ret = nouveau_svmm_bind(t->dev, args, file);
	current->flags |= PF_KTHREAD;
	return ret;
}

static u64 svm_kunit_random(struct rnd_state *rnd)
{
	return (u64)prandom_u32_state(rnd) << 32 | prandom_u32_state(rnd);
}

/* Whatever an application passes to SVM_BIND and SVM_INIT, it gets the right answer. */
static void test_bad_input(struct kunit *test)
{
	const u64 good = NOUVEAU_SVM_BIND_COMMAND__MIGRATE << NOUVEAU_SVM_BIND_COMMAND_SHIFT |
			 (u64)NOUVEAU_SVM_BIND_TARGET__GPU_VRAM << NOUVEAU_SVM_BIND_TARGET_SHIFT;
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_4M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv;
	struct drm_file *file = svm_kunit_zalloc(test, sizeof(*file));
	unsigned int i, done = 0, refused = 0;
	int busy = nouveau_svm_check_device(t->drm) ?: -EBUSY;
	struct rnd_state rnd;

	file->driver_priv = t->cli;
	mutex_init(&t->cli->mutex);
	t->cli->svm.svmm = t->svmm;
	prandom_seed_state(&rnd, 1);
	for (i = 0; i < 20000; i++) {
		const u64 corner[] = { 0, 1, ~0ULL, PAGE_SIZE, addr, addr + SZ_4M, TASK_SIZE,
				       PAGE_OFFSET, ~0ULL - PAGE_SIZE, svm_kunit_random(&rnd) };
		struct drm_nouveau_svm_bind args = {
			.header = good,
			.va_start = addr,
			.va_end = addr + SZ_4M,
			.npages = svm_kunit_random(&rnd),
			.result = svm_kunit_random(&rnd),
		};
		u64 *word = (u64 *)&args, flip = svm_kunit_random(&rnd);
		struct drm_nouveau_svm_init init;
		u64 start, end;
		int want = 0;

		/* One word or two are something else, or have a wrong bit. */
		if (flip & 1)
			word[flip >> 8 & 7] = corner[(flip >> 16) % ARRAY_SIZE(corner)];
		if (flip & 2)
			word[flip >> 24 & 7] ^= BIT_ULL(flip >> 32 & 63);
		start = args.va_start & PAGE_MASK;
		end = ALIGN(args.va_end, PAGE_SIZE);
		if (args.header != (good | (args.header & 0xff00)) || start >= end ||
		    args.stride || args.reserved0 || args.reserved1)
			want = -EINVAL;
		KUNIT_ASSERT_EQ(test, svm_kunit_bind(t, file, &args), want);
		if (want) {
			refused++;
		} else {
			KUNIT_ASSERT_EQ(test, args.result, 0);
			done++;
		}

		if (i % 16)
			continue;
		init.unmanaged_addr = corner[(flip >> 40) % ARRAY_SIZE(corner)];
		init.unmanaged_size = corner[(flip >> 48) % ARRAY_SIZE(corner)];
		KUNIT_ASSERT_EQ(test, nouveau_svmm_init(t->dev, &init, file), busy);
		cond_resched();
	}
	KUNIT_EXPECT_GT(test, done, 1000);
	KUNIT_EXPECT_GT(test, refused, 1000);
	t->cli->svm.svmm = NULL;
	mutex_destroy(&t->cli->mutex);
}

static struct kunit_case svm_kunit_cases[] = {
	KUNIT_CASE(test_anon),
	KUNIT_CASE(test_tables),
	KUNIT_CASE(test_read_only),
	KUNIT_CASE(test_atomic),
	KUNIT_CASE(test_exclusive_owner),
	KUNIT_CASE(test_migrate),
	KUNIT_CASE(test_vram),
	KUNIT_CASE(test_errors),
	KUNIT_CASE(test_bad_input),
#ifdef CONFIG_FAULT_INJECTION
	KUNIT_CASE(test_no_memory),
#endif
	KUNIT_CASE(test_device),
	KUNIT_CASE(test_suspend),
	KUNIT_CASE(test_batches),
	KUNIT_CASE(test_waiting),
	KUNIT_CASE(test_tries),
	KUNIT_CASE(test_unbind),
	KUNIT_CASE(test_finish),
	KUNIT_CASE(test_evict),
	KUNIT_CASE(test_evict_iova),
	KUNIT_CASE(test_evict_nomem),
	KUNIT_CASE(test_evict_shared),
	KUNIT_CASE(test_evict_finish),
	KUNIT_CASE(test_evict_stop),
	KUNIT_CASE(test_put_async),
	KUNIT_CASE_PARAM(test_many_windows, svm_kunit_windows_gen_params),
	/* Before test_dax punches holes. */
	KUNIT_CASE(test_dax_edge),
	KUNIT_CASE(test_dax),
	KUNIT_CASE(test_atomic_waits),
	{}
};

static struct kunit_suite svm_kunit_suite = {
	.name = "nouveau_svm",
	.init = svm_kunit_init,
	.exit = svm_kunit_exit,
	.test_cases = svm_kunit_cases,
};

kunit_test_suite(svm_kunit_suite);
