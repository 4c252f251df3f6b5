// SPDX-License-Identifier: MIT
/*
 * KUnit tests of the way from a GPU's fault to its page table: real mappings of
 * a process, hmm_range_fault(), hmm_range_dma_map(), and nvkm's page tables of a
 * GPU that has nothing else, see nvkm/subdev/mmu/kunit.c. Included by
 * nouveau_svm.c.
 *
 * What is not there: the fault buffer, replay and cancelling, VRAM.
 *
 * With svm_kunit_pci=ADDRESS, say 0000:00:05.0, memory is mapped for DMA of this PCI
 * device, which has to be behind an IOMMU. Without, there is no IOMMU.
 *
 * Tests of DAX are skipped unless the module is loaded with
 *   svm_kunit_dax=FILE:SHIFT[,FILE:SHIFT...]
 * Each FILE is one to be mapped shared, 4 MiB or 1 << SHIFT bytes of it, whatever
 * is more, with leaves of 1 << SHIFT bytes. What is in it does not change; pages
 * of files of a file system are punched out.
 */
#include "nvkm/subdev/mmu/kunit.h"

#include <nvif/driver.h>

#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/migrate.h>
#include <linux/mman.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

static char *svm_kunit_pci;
module_param(svm_kunit_pci, charp, 0);
MODULE_PARM_DESC(svm_kunit_pci, "PCI device with an IOMMU that KUnit tests map for");

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
	struct nouveau_pfnmap_args *args;
	unsigned int maps, clears, replays, cancels;
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

/* Is @addr mapped for DMA, or not? Without an IOMMU there is nothing to see. */
static void expect_dma(struct kunit *test, unsigned long addr, bool mapped)
{
	struct svm_kunit *t = test->priv;
	dma_addr_t dma = svm_kunit_iova(t, addr);

	if (t->iommu)
		KUNIT_EXPECT_EQ(test, mapped,
				dma && iommu_iova_to_phys(t->iommu, dma));
}

static int svm_kunit_clear(struct svm_kunit *t, u64 start, u64 size)
{
	u64 addr, step = max(SZ_4K, size / 64);
	int ret;

	t->clears++;
	t->gpu->gone_start = start;
	t->gpu->gone_limit = start + min(size, SZ_4M);
	t->gpu->gone = true;

	/* What the GPU has is mapped for DMA until the GPU's TLB is flushed. */
	for (addr = start; addr < start + size; addr += step) {
		if (nvkm_mmu_kunit_walk(t->gpu, addr).kind == KUNIT_NONE)
			continue;
		expect_dma(t->test, addr, true);
		if (addr < t->gpu->gone_limit)
			t->gpu->gone = false;
	}
	ret = nvkm_vmm_pfn_unmap(t->gpu->vmm, start, size);
	t->gpu->gone_limit = 0;
	KUNIT_EXPECT_TRUE(t->test, t->gpu->gone);
	KUNIT_EXPECT_EQ(t->test, t->gpu->bad_flushes, 0);
	for (addr = start; addr < start + size; addr += step)
		KUNIT_EXPECT_EQ(t->test, nvkm_mmu_kunit_walk(t->gpu, addr).kind,
				KUNIT_NONE);
	return ret;
}

/* The methods of NVIF's VMM that SVM has use for. */
static int svm_kunit_ioctl(void *priv, void *data, u32 size, void **hack)
{
	struct svm_kunit *t = priv;
	struct nvkm_vmm *vmm = t->gpu->vmm;
	struct nouveau_pfnmap_args *args = data;
	struct nvif_vmm_pfnclr_v0 *clr = data + offsetof(typeof(*args), p);
	struct gp100_vmm_fault_cancel_v0 *cancel = (void *)clr;

	KUNIT_EXPECT_EQ(t->test, args->i.type, NVIF_IOCTL_V0_MTHD);
	switch (args->m.method) {
	case NVIF_VMM_V0_PFNMAP:
		t->maps++;
		KUNIT_EXPECT_EQ(t->test, size,
				struct_size(args, p.phys,
					    args->p.size >> args->p.page));
		return nvkm_vmm_pfn_map(vmm, args->p.page, args->p.addr,
					args->p.size, args->p.phys);
	case NVIF_VMM_V0_PFNCLR:
		return svm_kunit_clear(t, clr->addr, clr->size);
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
		t->iommu = iommu_get_domain_for_dev(t->pci);
		KUNIT_ASSERT_NOT_NULL(test, t->iommu);
		KUNIT_ASSERT_EQ(test, 0,
				dma_set_mask_and_coherent(t->pci,
							  DMA_BIT_MASK(64)));
		t->dev->dev = t->pci;
	}
	t->drm->dev = t->dev;
	t->drm->nvkm = t->gpu->device;
	t->cli = svm_kunit_zalloc(test, sizeof(*t->cli));
	t->cli->drm = t->drm;
	t->driver.ioctl = svm_kunit_ioctl;
	t->cli->base.driver = &t->driver;
	t->cli->base.object.priv = t;
	t->cli->svm.cli = t->cli;
	t->cli->svm.vmm.object.client = &t->cli->base;

	/* nouveau_svmm_fini() frees it. */
	t->svmm = kzalloc_obj(*t->svmm);
	KUNIT_ASSERT_NOT_NULL(test, t->svmm);
	t->svmm->vmm = &t->cli->svm;
	t->svmm->unmanaged.start = SVM_KUNIT_UNMANAGED;
	t->svmm->unmanaged.limit = SVM_KUNIT_UNMANAGED + SVM_KUNIT_UNMANAGED_SIZE;
	mutex_init(&t->svmm->mutex);
	mt_init(&t->svmm->windows);
	iommu_iotlb_gather_init(&t->svmm->gather);
	mmgrab(current->mm);
	t->svmm->mm = current->mm;

	t->svm = svm_kunit_zalloc(test, struct_size(t->svm, buffer, 1));
	t->svm->drm = t->drm;
	mutex_init(&t->svm->mutex);
	INIT_LIST_HEAD(&t->svm->inst);
	INIT_LIST_HEAD(&t->svm->svmms);
	INIT_WORK(&t->svm->buffer[0].work, nouveau_svm_fault);
	t->drm->svm = t->svm;
	list_add(&t->svmm->head, &t->svm->svmms);
	t->drm->client.vmm.vmm.object.client = &t->cli->base;

	t->args = svm_kunit_zalloc(test, struct_size(t->args, p.phys,
						     NOUVEAU_SVM_PFNS));
	t->args->i.type = NVIF_IOCTL_V0_MTHD;
	t->args->m.method = NVIF_VMM_V0_PFNMAP;
	return 0;
}

static void svm_kunit_exit(struct kunit *test)
{
	struct svm_kunit *t = test->priv;
	int i;

	if (!t)
		return;
	if (t->svmm) {
		/* The process that ran the test is about to be gone, or is. */
		for (i = 0; i < 500 && t->gpu->vmm->pd->refs[0] > 1; i++)
			msleep(20);
		KUNIT_EXPECT_EQ(test, t->gpu->vmm->pd->refs[0], 1);
		nouveau_svmm_fini(&t->svmm);
	}
	KUNIT_EXPECT_TRUE(test, !t->svm || list_empty(&t->svm->inst));
	if (t->gpu)
		nvkm_mmu_kunit_del(test, t->gpu);
	put_device(t->pci);
}

enum { FAULT_READ, FAULT_WRITE, FAULT_ATOMIC };

/* A fault of the GPU, as nouveau_svm_fault() handles it. */
static int svm_kunit_fault(struct kunit *test, unsigned long addr, int how)
{
	struct svm_kunit *t = test->priv;
	struct nouveau_svm_window *window = nouveau_svm_window_get(t->svmm, addr);

	if (IS_ERR(window))
		return PTR_ERR(window);
	if (how == FAULT_ATOMIC)
		return nouveau_atomic_fault(window, addr, t->args);
	return nouveau_range_fault(window, addr, HMM_PFN_REQ_FAULT |
				   (how == FAULT_WRITE ? HMM_PFN_REQ_WRITE : 0),
				   t->args);
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

/* A GPU that is suspended has nothing that a notifier would have to clear. */
static void test_suspend(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv;

	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, SZ_1M + addr - SZ_4K,
					      FAULT_WRITE), 0);
	nouveau_svm_suspend(t->drm);
	expect_no_page(test, addr);
	expect_no_page(test, SZ_1M + addr - SZ_4K);
	KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
}

/* At SVM_INIT a device is refused that the first fault would fail for. */
static void test_device(struct kunit *test)
{
	struct svm_kunit *t = test->priv;

	KUNIT_EXPECT_EQ(test, nouveau_svm_check_device(t->drm), 0);
	/* Behind an IOMMU 32 bits are said to reach everything. */
	KUNIT_ASSERT_EQ(test, dma_set_mask(t->dev->dev, DMA_BIT_MASK(31)), 0);
	KUNIT_EXPECT_EQ(test, nouveau_svm_check_device(t->drm), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, dma_set_mask(t->dev->dev, DMA_BIT_MASK(64)), 0);
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
	nouveau_svm_faults(t->svm, pointers, nr, t->args);
}

#define svm_kunit_batch(test, ...) ({					\
	const struct nouveau_svm_fault batch[] = { __VA_ARGS__ };	\
									\
	svm_kunit_faults(test, ARRAY_SIZE(batch), batch);		\
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

	/*
	 * The low 32 bits of two addresses are the same. No sort that takes them
	 * for equal has both batches right by chance.
	 */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, addr, READ),
			FAULT(0x1000, addr + SZ_4G, READ),
			FAULT(0x1000, addr, READ),
			FAULT(0x1000, addr + SZ_4G, READ));
	expect_handled(test, 2, 1, 0);
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

	/* What cannot be had is between what can. */
	addr += SZ_64K;
	svm_kunit_batch(test, FAULT(0x1000, far, WRITE),
			FAULT(0x2000, SZ_16G + SZ_1M, READ),
			FAULT(0x1000, addr, WRITE));
	expect_handled(test, 2, 1, 1);
	KUNIT_EXPECT_EQ(test, t->cancelled, 0x2000);
	expect_page(test, addr, KUNIT_SMALL, NVKM_VMM_PFN_W);
	expect_page(test, far, KUNIT_SMALL, NVKM_VMM_PFN_W);

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

/* A fault that fails, the next one does not. */
static void test_errors(struct kunit *test)
{
	unsigned long addr = svm_kunit_mmap(test, NULL, 0, SZ_1M, RW, MAP_PRIVATE);
	struct svm_kunit *t = test->priv;
	int fail, ret = -ENOMEM;
	unsigned int nr;

	for (fail = 0; ret && fail < 8; fail++) {
		t->gpu->fail = fail;
		ret = svm_kunit_fault(test, addr, FAULT_WRITE);
		if (ret) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
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
	nr = t->svmm->nr_windows;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, SZ_32G, FAULT_READ), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->svmm->nr_windows, nr);

	/* One window too many; the one that is there still serves. */
	svm_kunit_mmap(test, NULL, SZ_32G, SZ_4K, RW, MAP_PRIVATE | MAP_FIXED);
	t->svmm->nr_windows += NOUVEAU_SVM_WINDOWS_MAX;
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, SZ_32G, FAULT_READ), -ENOSPC);
	KUNIT_EXPECT_EQ(test, svm_kunit_fault(test, addr, FAULT_WRITE), 0);
	t->svmm->nr_windows -= NOUVEAU_SVM_WINDOWS_MAX;
}

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
			KUNIT_ASSERT_EQ(test, nouveau_svmm_join(t->svmm, 0x1000), 0);
			svm_kunit_batch(test, FAULT(0x1000, addr, READ),
					FAULT(0x1000, addr + SZ_4K, WRITE));
			nouveau_svmm_part(t->svmm, 0x1000);
			expect_handled(test, 2, 1, 0);
			expect_page(test, addr, kind, NVKM_VMM_PFN_W);
			KUNIT_EXPECT_EQ(test, t->clears, 1);
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

static const struct iommu_domain_ops *svm_kunit_iommu_ops;
static unsigned int svm_kunit_syncs;

static void svm_kunit_iotlb_sync(struct iommu_domain *domain,
				 struct iommu_iotlb_gather *gather)
{
	svm_kunit_syncs++;
	svm_kunit_iommu_ops->iotlb_sync(domain, gather);
}

/* However many windows are unmapped, the IOMMU is flushed once. */
static void test_many_windows(struct kunit *test)
{
	unsigned int nr = *(const unsigned int *)test->param_value;
	unsigned long addr, start, end, size = NOUVEAU_SVM_WINDOW;
	struct svm_kunit *t = test->priv;
	struct iommu_domain_ops ops;

	start = ALIGN(svm_kunit_mmap(test, NULL, 0, (nr + 1) * size, RW,
				     MAP_PRIVATE | MAP_NORESERVE), size);
	end = start + nr * size;
	for (addr = start; addr < end; addr += size) {
		KUNIT_ASSERT_EQ(test, svm_kunit_fault(test, addr, FAULT_READ), 0);
		expect_dma(test, addr, true);
	}
	KUNIT_EXPECT_EQ(test, t->svmm->nr_windows, nr);
	if (t->iommu) {
		svm_kunit_iommu_ops = t->iommu->ops;
		ops = *t->iommu->ops;
		ops.iotlb_sync = svm_kunit_iotlb_sync;
		t->iommu->ops = &ops;
		svm_kunit_syncs = 0;
	}
	KUNIT_EXPECT_EQ(test, vm_munmap(start, end - start), 0);
	if (t->iommu) {
		t->iommu->ops = svm_kunit_iommu_ops;
		KUNIT_EXPECT_EQ(test, svm_kunit_syncs, 1);
	}
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

static struct kunit_case svm_kunit_cases[] = {
	KUNIT_CASE(test_anon),
	KUNIT_CASE(test_read_only),
	KUNIT_CASE(test_atomic),
	KUNIT_CASE(test_migrate),
	KUNIT_CASE(test_errors),
	KUNIT_CASE(test_device),
	KUNIT_CASE(test_suspend),
	KUNIT_CASE(test_batches),
	KUNIT_CASE_PARAM(test_many_windows, svm_kunit_windows_gen_params),
	/* Before test_dax punches holes. */
	KUNIT_CASE(test_dax_edge),
	KUNIT_CASE(test_dax),
	{}
};

static struct kunit_suite svm_kunit_suite = {
	.name = "nouveau_svm",
	.init = svm_kunit_init,
	.exit = svm_kunit_exit,
	.test_cases = svm_kunit_cases,
};

kunit_test_suite(svm_kunit_suite);
