// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of amdkfd's SVM (kfd_svm.c and amdgpu_hmm.c of the drivers/gpu/drm/amd
 * folders) without a GPU, XNACK off: the driver fills a GPU's page table, which is
 * then compared with what the process has at the same addresses.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>

static struct mm_struct *mock_get_task_mm(struct task_struct *task);
static int mock_hmm_range_fault(struct hmm_range *range);
static ktime_t mock_ktime_get_boottime(void);
static dma_addr_t mock_dma_map_phys(struct device *dev, phys_addr_t phys,
				    size_t size, enum dma_data_direction dir,
				    unsigned long attrs);
static void mock_dma_unmap_phys(struct device *dev, dma_addr_t addr,
				size_t size, enum dma_data_direction dir,
				unsigned long attrs);

/* The thread of a test is a kernel thread, and they have no mm for this. */
#define get_task_mm mock_get_task_mm
#define hmm_range_fault mock_hmm_range_fault
#define ktime_get_boottime mock_ktime_get_boottime
#define dma_map_phys mock_dma_map_phys
#define dma_unmap_phys mock_dma_unmap_phys

#include "amdgpu_hmm.c"
#undef dev_fmt
#include "kfd_svm.c"

#undef get_task_mm
#undef hmm_range_fault
#undef ktime_get_boottime
#undef dma_map_phys
#undef dma_unmap_phys

#include "mocks.h"
#include "mapping.h"

/* Everything is mapped there, aligned to any leaf. */
#define ADDR	SZ_16G
#define START	(ADDR >> PAGE_SHIFT)
#define NR	1024
#define RW	(PROT_READ | PROT_WRITE)

static struct kfd_svm_test {
	struct kfd_process *p;
	struct kfd_process_device *pdd;
	struct kfd_node *node;
	struct amdgpu_device *adev, *other;
	struct pci_dev *pdev;
	struct amdgpu_fpriv *fpriv;
	struct drm_file drm_file;
	struct amdkfd_process_info process_info;
	struct amdgpu_gmc_funcs gmc_funcs;
	struct mm_struct *mm;
	struct kunit *test;

	phys_addr_t gpu[NR];	/* the GPU's page table; 0 for none */
	long dma_mapped;	/* pages */
	long dma_maps;		/* pages, unmapped or not */
	int dma_error_after;	/* as many pages can be mapped; 0: no limit */
	atomic_t quiesced, resumed, rescheduled;
	int fault_error;	/* of range faults that begin at fault_error_at */
	unsigned long fault_error_at;
	int fault_errors;	/* as many of them */
	int unmap_errors;	/* as many attempts to unmap from the GPU fail */
	unsigned int delays[16];
	/* Of this file, all pages are lost once, by what asks for it. */
	struct inode *lose_after_fault, *lose_after_map;
} t;

static struct mm_struct *mock_get_task_mm(struct task_struct *task)
{
	mmget(t.mm);
	return t.mm;
}

static void lose(struct inode **inode)
{
	if (*inode)
		shmem_truncate_range(*inode, 0, NR * PAGE_SIZE - 1);
	*inode = NULL;
}

/* The time is taken when all of a range has been mapped. */
static ktime_t mock_ktime_get_boottime(void)
{
	lose(&t.lose_after_map);
	return ktime_get_boottime();
}

static int mock_hmm_range_fault(struct hmm_range *range)
{
	int r;

	if (t.fault_errors && range->start == t.fault_error_at) {
		t.fault_errors--;
		return t.fault_error;
	}
	r = hmm_range_fault(range);
	lose(&t.lose_after_fault);
	return r;
}

static dma_addr_t mock_dma_map_phys(struct device *dev, phys_addr_t phys,
				    size_t size, enum dma_data_direction dir,
				    unsigned long attrs)
{
	KUNIT_EXPECT_EQ(t.test, size, PAGE_SIZE);
	if (t.dma_error_after && !--t.dma_error_after)
		return DMA_MAPPING_ERROR;
	t.dma_mapped++;
	t.dma_maps++;
	return phys;
}

static void mock_dma_unmap_phys(struct device *dev, dma_addr_t addr,
				size_t size, enum dma_data_direction dir,
				unsigned long attrs)
{
	t.dma_mapped--;
}

/* What kfd_svm.c asks of the rest of the driver. */
int amdgpu_mtype_local;
uint amdgpu_svm_default_granularity = 9;

int amdgpu_vm_update_range(struct amdgpu_device *adev, struct amdgpu_vm *vm,
			   bool immediate, bool unlocked, bool flush_tlb,
			   bool allow_override, struct amdgpu_sync *sync,
			   uint64_t start, uint64_t last, uint64_t flags,
			   uint64_t offset, uint64_t vram_base,
			   struct ttm_resource *res, dma_addr_t *pages_addr,
			   struct dma_fence **fence)
{
	uint64_t i;

	if (start < START || last >= START + NR || start > last) {
		KUNIT_FAIL(t.test, "the GPU's pages %#llx to %#llx", start, last);
		return -EINVAL;
	}
	if (!pages_addr && t.unmap_errors) {
		t.unmap_errors--;
		return -ENOMEM;
	}
	for (i = start; i <= last; i++)
		t.gpu[i - START] = pages_addr && flags & AMDGPU_PTE_VALID ?
			pages_addr[(offset >> PAGE_SHIFT) + i - start] : 0;
	return 0;
}

int amdgpu_vm_update_pdes(struct amdgpu_device *adev, struct amdgpu_vm *vm,
			  bool immediate)
{
	return 0;
}

bool amdgpu_vm_ready(struct amdgpu_vm *vm)
{
	return true;
}

int amdgpu_vm_lock_pd(struct amdgpu_vm *vm, struct drm_exec *exec,
		      unsigned int num_fences)
{
	return 0;
}

int amdgpu_vm_validate(struct amdgpu_device *adev, struct amdgpu_vm *vm,
		       struct ww_acquire_ctx *ticket,
		       int (*callback)(void *p, struct amdgpu_bo *bo), void *param)
{
	return 0;
}

int amdgpu_vm_flush_compute_tlb(struct amdgpu_device *adev, struct amdgpu_vm *vm,
				uint32_t flush_type, uint32_t xcc_mask)
{
	return 0;
}

struct kfd_process_device *kfd_bind_process_to_device(struct kfd_node *dev,
						      struct kfd_process *p)
{
	return t.pdd;
}

struct kfd_process *kfd_lookup_process_by_mm(const struct mm_struct *mm)
{
	return t.p;
}

void kfd_unref_process(struct kfd_process *p)
{
}

void amdgpu_amdkfd_unreserve_mem_limit(struct amdgpu_device *adev, uint64_t size,
				       u32 alloc_flag, int8_t xcp_id)
{
}

struct amdgpu_bo *amdgpu_bo_ref(struct amdgpu_bo *bo)
{
	return bo;
}

void amdgpu_bo_unref(struct amdgpu_bo **bo)
{
	*bo = NULL;
}

int kgd2kfd_quiesce_mm(struct mm_struct *mm, uint32_t trigger)
{
	atomic_inc(&t.quiesced);
	return 0;
}

int kgd2kfd_resume_mm(struct mm_struct *mm)
{
	atomic_inc(&t.resumed);
	return 0;
}

void kfd_smi_event_unmap_from_gpu(struct kfd_node *node, struct task_struct *task,
				  unsigned long address, unsigned long last,
				  uint32_t trigger)
{
}

/* The work goes on: once more, and after which delay. */
void kfd_smi_event_queue_restore_rescheduled(struct mm_struct *mm)
{
	int n = atomic_inc_return(&t.rescheduled);

	if (n <= ARRAY_SIZE(t.delays))
		t.delays[n - 1] = t.p->svms.restore_delay_ms;
}

static void mock_get_vm_pte(struct amdgpu_device *adev, struct amdgpu_vm *vm,
			    struct amdgpu_bo *bo, uint32_t vm_flags,
			    uint64_t *pte_flags)
{
}

/* Register @nr pages, from page @first on, and map them on the GPU. */
static struct svm_range *range_new(struct kunit *test, unsigned long first,
				   unsigned long nr)
{
	struct svm_range_list *svms = &t.p->svms;
	struct svm_range *prange;
	int r;

	prange = svm_range_new(svms, START + first, START + first + nr - 1, false);
	KUNIT_ASSERT_NOT_NULL(test, prange);
	bitmap_set(prange->bitmap_access, 0, 1);

	mmap_write_lock(t.mm);
	mutex_lock(&svms->lock);
	svm_range_add_to_svms(prange);
	svm_range_add_notifier_locked(t.mm, prange);
	mmap_write_downgrade(t.mm);
	mutex_lock(&prange->migrate_mutex);
	r = svm_range_validate_and_map(t.mm, prange->start, prange->last, prange,
				       MAX_GPU_INSTANCE, true, true, false);
	mutex_unlock(&prange->migrate_mutex);
	mutex_unlock(&svms->lock);
	mmap_read_unlock(t.mm);
	KUNIT_ASSERT_EQ(test, r, 0);
	return prange;
}

/* Pages @first to @last: the GPU has what the process has. */
static void expect_same(struct kunit *test, unsigned long first,
			unsigned long last)
{
	unsigned long i, wrong = 0;

	for (i = first; i <= last; i++) {
		phys_addr_t phys = mapping_present_phys(ADDR + i * PAGE_SIZE);

		if ((!phys || phys != t.gpu[i]) && !wrong++)
			kunit_info(test, "page %lu: the process has %pa, the GPU %pa\n",
				   i, &phys, &t.gpu[i]);
	}
	KUNIT_EXPECT_EQ(test, wrong, 0);
}

static void expect_none(struct kunit *test, unsigned long first,
			unsigned long last)
{
	unsigned long i, mapped = 0;

	for (i = first; i <= last; i++)
		mapped += !!t.gpu[i];
	KUNIT_EXPECT_EQ(test, mapped, 0);
}

/* The queues were stopped, and are resumed. */
static void expect_resumed(struct kunit *test, int times)
{
	unsigned long end = jiffies + 2 * HZ;

	KUNIT_EXPECT_EQ(test, atomic_read(&t.quiesced), times);
	while (atomic_read(&t.resumed) < times && time_before(jiffies, end))
		msleep(20);
	flush_delayed_work(&t.p->svms.restore_work);
	KUNIT_EXPECT_EQ(test, atomic_read(&t.resumed), times);
}

static struct file *shmem(struct kunit *test)
{
	struct file *file = shmem_file_setup("kfd_svm", NR * PAGE_SIZE,
					     mk_vma_flags(VMA_NORESERVE_BIT));

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	return file;
}

/* The process loses pages for a moment, as it does by reclaim or migration. */
static void zap(struct file *file, unsigned long first, unsigned long nr)
{
	unmap_mapping_range(file->f_mapping, first * PAGE_SIZE, nr * PAGE_SIZE, 1);
}

static void test_restore(struct kunit *test)
{
	struct file *file = shmem(test);

	mapping_map(test, file, ADDR, NR * PAGE_SIZE, RW, 0);
	range_new(test, 0, 100);
	range_new(test, 200, 100);
	expect_same(test, 0, 99);
	expect_none(test, 100, 199);
	expect_same(test, 200, 299);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 200);

	/* Pages that nobody has registered do not matter. */
	zap(file, 100, 100);
	KUNIT_EXPECT_EQ(test, atomic_read(&t.quiesced), 0);

	shmem_truncate_range(file_inode(file), 10 * PAGE_SIZE, 20 * PAGE_SIZE - 1);
	expect_resumed(test, 1);
	expect_same(test, 0, 99);
	expect_same(test, 200, 299);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 200);

	zap(file, 90, 120);
	expect_resumed(test, 2);
	expect_same(test, 0, 99);
	expect_same(test, 200, 299);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 200);
	fput(file);
}

/* A file is truncated below a range: that range is lost, and no other. */
static void truncated(struct kunit *test, struct file *file)
{
	loff_t size = i_size_read(file_inode(file));

	mapping_map(test, file, ADDR, NR / 2 * PAGE_SIZE, RW, 0);
	mapping_map(test, NULL, ADDR + NR / 2 * PAGE_SIZE, NR / 2 * PAGE_SIZE, RW, 0);
	range_new(test, 0, 50);
	range_new(test, 50, 100);
	range_new(test, 200, 50);
	range_new(test, NR / 2, 100);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 300);

	KUNIT_ASSERT_EQ(test, vfs_truncate(&file->f_path, 100 * PAGE_SIZE), 0);
	expect_resumed(test, 1);
	expect_none(test, 50, 149);
	expect_none(test, 200, 249);
	expect_same(test, 0, 49);
	expect_same(test, NR / 2, NR / 2 + 99);
	/* No page that is lost can be reached in another way. */
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 150);

	/* The others go on as ever. */
	zap(file, 0, 50);
	expect_resumed(test, 2);
	expect_same(test, 0, 49);
	expect_none(test, 50, 149);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 150);
	KUNIT_EXPECT_EQ(test, vfs_truncate(&file->f_path, size), 0);
}

static void test_truncate(struct kunit *test)
{
	struct file *file = shmem(test);

	truncated(test, file);
	fput(file);
}

static void test_dax(struct kunit *test)
{
	const struct mapping_file *f = test->param_value;
	unsigned long len = max(BIT(f->shift), SZ_4M);

	if (S_ISREG(file_inode(f->file)->i_mode)) {
		truncated(test, f->file);
		return;
	}
	mapping_map(test, f->file, ADDR, len, RW, 0);
	range_new(test, 0, NR);
	expect_same(test, 0, NR - 1);
	zap(f->file, 0, len >> PAGE_SHIFT);
	expect_resumed(test, 1);
	expect_same(test, 0, NR - 1);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, NR);
}

/* Pages are lost once more while they are mapped again. */
static void test_evicted_again(struct kunit *test)
{
	struct file *file = shmem(test);
	struct svm_range *prange;
	long maps;

	mapping_map(test, file, ADDR, NR * PAGE_SIZE, RW, 0);
	prange = range_new(test, 0, 100);

	t.lose_after_fault = file_inode(file);
	zap(file, 0, NR);
	expect_resumed(test, 1);
	expect_same(test, 0, 99);
	KUNIT_EXPECT_EQ(test, atomic_read(&t.rescheduled), 1);

	/* Nor is anything mapped that is lost already, for DMA neither. */
	t.lose_after_fault = file_inode(file);
	maps = t.dma_maps;
	mmap_read_lock(t.mm);
	mutex_lock(&t.p->svms.lock);
	mutex_lock(&prange->migrate_mutex);
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			svm_range_validate_and_map(t.mm, prange->start, prange->last,
						   prange, MAX_GPU_INSTANCE, true, true,
						   false));
	KUNIT_EXPECT_EQ(test, t.dma_maps, maps);
	mutex_unlock(&prange->migrate_mutex);
	mutex_unlock(&t.p->svms.lock);
	mmap_read_unlock(t.mm);
	expect_resumed(test, 2);
	expect_same(test, 0, 99);

	t.lose_after_map = file_inode(file);
	zap(file, 0, NR);
	expect_resumed(test, 3);
	expect_same(test, 0, 99);
	KUNIT_EXPECT_EQ(test, atomic_read(&t.rescheduled), 2);

	KUNIT_EXPECT_EQ(test, t.dma_mapped, 100);
	KUNIT_EXPECT_NULL(test, t.lose_after_fault);
	KUNIT_EXPECT_NULL(test, t.lose_after_map);
	fput(file);
}

/* Errors that stay are not tried again. */
static void test_final_errors(struct kunit *test)
{
	static const int errors[] = { -EFAULT, -EPERM, -EOPNOTSUPP, -EINVAL };
	struct file *file = shmem(test);
	int i;

	mapping_map(test, file, ADDR, NR * PAGE_SIZE, RW, 0);
	range_new(test, NR / 2, 100);
	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		range_new(test, i * 100, 50);
		t.fault_error = errors[i];
		t.fault_error_at = ADDR + i * 100 * PAGE_SIZE;
		t.fault_errors = INT_MAX;
		zap(file, 0, NR);
		expect_resumed(test, i + 1);
		expect_none(test, i * 100, i * 100 + 49);
		expect_same(test, NR / 2, NR / 2 + 99);
		t.fault_errors = 0;
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&t.rescheduled), 0);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 100);
	fput(file);
}

/* Errors that go away are, ever later, and nobody else waits for it. */
static void transient(struct kunit *test, int error, bool later)
{
	struct file *file = shmem(test);
	unsigned int delay;
	int i;

	mapping_map(test, file, ADDR, NR * PAGE_SIZE, RW, 0);
	range_new(test, 0, 50);
	range_new(test, 100, 50);
	t.fault_error = error;
	t.fault_error_at = ADDR;
	t.fault_errors = 5;
	shmem_truncate_range(file_inode(file), 0, NR * PAGE_SIZE - 1);
	expect_resumed(test, 1);
	expect_same(test, 0, 49);
	expect_same(test, 100, 149);
	KUNIT_EXPECT_EQ(test, atomic_read(&t.rescheduled), 5);
	/* The truncation's second invalidation can make the first try no failure. */
	delay = later ? t.delays[0] : 1;
	KUNIT_EXPECT_LE(test, delay, 2);
	for (i = 0; i < 5; i++) {
		KUNIT_EXPECT_EQ(test, t.delays[i], delay);
		if (later)
			delay *= 2;
	}
	KUNIT_EXPECT_EQ(test, t.p->svms.restore_delay_ms, 1);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 100);
	fput(file);
}

static void test_no_memory(struct kunit *test)
{
	transient(test, -ENOMEM, true);
}

static void test_again(struct kunit *test)
{
	transient(test, -EBUSY, false);
}

/* One range waits for memory, but not the one behind it. */
static void test_later_range(struct kunit *test)
{
	struct file *file = shmem(test);
	unsigned long end = jiffies + 2 * HZ;

	mapping_map(test, file, ADDR, NR * PAGE_SIZE, RW, 0);
	range_new(test, 0, 50);
	range_new(test, 100, 50);
	t.fault_error = -ENOMEM;
	t.fault_error_at = ADDR;
	t.fault_errors = INT_MAX;
	shmem_truncate_range(file_inode(file), 0, NR * PAGE_SIZE - 1);
	while (atomic_read(&t.rescheduled) < 2 && time_before(jiffies, end))
		msleep(20);
	expect_same(test, 100, 149);
	KUNIT_EXPECT_EQ(test, atomic_read(&t.resumed), 0);
	t.fault_errors = 0;
	expect_resumed(test, 1);
	expect_same(test, 0, 49);
	expect_same(test, 100, 149);
	fput(file);
}

/* Nothing runs before what is lost has been unmapped. */
static void test_unmap_fails(struct kunit *test)
{
	struct file *file = shmem(test);
	struct svm_range *prange;

	mapping_map(test, file, ADDR, NR * PAGE_SIZE, RW, 0);
	prange = range_new(test, 0, 100);
	t.unmap_errors = 3;
	KUNIT_ASSERT_EQ(test, vfs_truncate(&file->f_path, 50 * PAGE_SIZE), 0);
	expect_resumed(test, 1);
	expect_none(test, 0, 99);
	KUNIT_EXPECT_EQ(test, t.unmap_errors, 0);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(prange->bitmap_mapped, MAX_GPU_INSTANCE));
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 0);
	fput(file);
}

/* As mprotect() does it for all of the memory at page @page, but for the CPU. */
static void protect(struct kunit *test, struct file *file, unsigned long page,
		    bool readable)
{
	struct vm_area_struct *vma;

	mmap_write_lock(t.mm);
	vma = vma_lookup(t.mm, ADDR + page * PAGE_SIZE);
	KUNIT_EXPECT_NOT_NULL(test, vma);
	if (vma && readable)
		vm_flags_set(vma, VM_READ | VM_WRITE);
	else if (vma)
		vm_flags_clear(vma, VM_READ | VM_WRITE);
	mmap_write_unlock(t.mm);
	zap(file, page, 1);
}

static void test_prot_none(struct kunit *test)
{
	struct file *file = shmem(test);

	mapping_map(test, file, ADDR, 100 * PAGE_SIZE, RW, 0);
	/* Another permission, or the two are one mapping. */
	mapping_map(test, file, ADDR + 100 * PAGE_SIZE, 100 * PAGE_SIZE,
		    RW | PROT_EXEC, 100 * PAGE_SIZE);
	mapping_map(test, file, ADDR + 200 * PAGE_SIZE, 100 * PAGE_SIZE, RW,
		    200 * PAGE_SIZE);
	range_new(test, 50, 200);	/* a part of all three */
	range_new(test, 0, 50);

	protect(test, file, 100, false);
	expect_resumed(test, 1);
	expect_same(test, 0, 99);
	expect_none(test, 100, 199);
	expect_same(test, 200, 249);

	protect(test, file, 100, true);
	expect_resumed(test, 2);
	expect_same(test, 0, 249);

	/* All of a range, and back. */
	range_new(test, 260, 10);
	expect_same(test, 260, 269);
	protect(test, file, 265, false);
	expect_resumed(test, 3);
	expect_same(test, 0, 199);
	expect_none(test, 260, 269);
	protect(test, file, 265, true);
	expect_resumed(test, 4);
	expect_same(test, 0, 249);
	expect_same(test, 260, 269);
	fput(file);
}

static vm_fault_t no_migration(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static void no_folio_free(struct folio *folio)
{
}

static const struct dev_pagemap_ops vram_ops = {
	.migrate_to_ram = no_migration,
	.folio_free = no_folio_free,
};

/* Struct pages for VRAM of @adev. */
static void vram_new(struct kunit *test, struct amdgpu_device *adev)
{
	struct dev_pagemap *pgmap = &adev->kfd.pgmap;
	struct resource *res = request_free_mem_region(&iomem_resource, SZ_128M, "vram");
	void *addr;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, res);
	pgmap->type = MEMORY_DEVICE_PRIVATE;
	pgmap->nr_range = 1;
	pgmap->range.start = res->start;
	pgmap->range.end = res->end;
	pgmap->ops = &vram_ops;
	pgmap->owner = SVM_ADEV_PGMAP_OWNER(adev);
	addr = memremap_pages(pgmap, NUMA_NO_NODE);
	if (IS_ERR(addr))
		pgmap->type = 0;
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, addr);
}

static void vram_free(struct amdgpu_device *adev)
{
	struct dev_pagemap *pgmap = &adev->kfd.pgmap;
	u64 start = pgmap->range.start;

	if (!pgmap->type)
		return;
	memunmap_pages(pgmap);
	release_mem_region(start, SZ_128M);
	pgmap->type = 0;
}

/* svm_range_dma_map_dev(): what is mapped, what is VRAM, and what is refused. */
static void test_dma_map_dev(struct kunit *test)
{
	struct svm_range_bo *svm_bo = kunit_kzalloc(test, sizeof(*svm_bo), GFP_KERNEL);
	struct svm_range_bo *none = NULL;
	unsigned long pfns[4], vram, others;
	struct file *file = shmem(test);
	struct svm_range *prange;
	dma_addr_t *dma;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, svm_bo);
	svm_bo->node = t.node;
	vram_new(test, t.adev);
	vram_new(test, t.other);
	vram = PHYS_PFN(t.adev->kfd.pgmap.range.start) + 7;
	others = PHYS_PFN(t.other->kfd.pgmap.range.start);
	t.adev->vm_manager.vram_base_offset = SZ_1T;

	mapping_map(test, file, ADDR, NR * PAGE_SIZE, RW, 0);
	prange = range_new(test, 0, 4);
	dma = prange->dma_addr[0];
	for (i = 0; i < 4; i++)
		pfns[i] = PHYS_PFN(mapping_present_phys(ADDR + i * PAGE_SIZE)) |
			  HMM_PFN_VALID | HMM_PFN_WRITE;
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 4);

	/* Again: each page is mapped once. */
	KUNIT_EXPECT_EQ(test, 0, svm_range_dma_map_dev(t.adev, prange, 0, 4, pfns, 0));
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 4);

	/* A page that cannot be mapped: none is unmapped twice afterwards. */
	t.dma_error_after = 3;
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			svm_range_dma_map_dev(t.adev, prange, 0, 4, pfns, 0));
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 3);
	KUNIT_EXPECT_EQ(test, 0, svm_range_dma_map_dev(t.adev, prange, 0, 4, pfns, 0));
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 4);

	/* VRAM of another device, and any without a BO: mremap() can bring it. */
	pfns[1] = vram | HMM_PFN_VALID | HMM_PFN_WRITE;
	swap(prange->svm_bo, none);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			svm_range_dma_map_dev(t.adev, prange, 0, 4, pfns, 0));
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 3);
	KUNIT_EXPECT_EQ(test, dma[1], 0);

	prange->svm_bo = svm_bo;
	KUNIT_EXPECT_EQ(test, 0, svm_range_dma_map_dev(t.adev, prange, 0, 4, pfns, 0));
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 3);
	KUNIT_EXPECT_EQ(test, dma[1], (SZ_1T + 7 * PAGE_SIZE) | SVM_RANGE_VRAM_DOMAIN);
	KUNIT_EXPECT_EQ(test, dma[2], mapping_present_phys(ADDR + 2 * PAGE_SIZE));

	pfns[1] = others | HMM_PFN_VALID | HMM_PFN_WRITE;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			svm_range_dma_map_dev(t.adev, prange, 0, 4, pfns, 0));
	KUNIT_EXPECT_EQ(test, dma[1], 0);
	prange->svm_bo = NULL;

	svm_range_dma_unmap(prange);
	KUNIT_EXPECT_EQ(test, t.dma_mapped, 0);
	fput(file);
}

static void *new(struct kunit *test, size_t size)
{
	void *p = kvzalloc(size, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, (kunit_action_t *)kvfree, p));
	return p;
}

static int kfd_svm_init(struct kunit *test)
{
	memset(&t, 0, sizeof(t));
	t.test = test;
	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	t.mm = current->mm;
	t.adev = new(test, sizeof(*t.adev));
	t.other = new(test, sizeof(*t.other));
	t.pdev = new(test, sizeof(*t.pdev));
	t.node = new(test, sizeof(*t.node));
	t.pdd = new(test, sizeof(*t.pdd));
	t.fpriv = new(test, sizeof(*t.fpriv));
	t.gmc_funcs.get_vm_pte = mock_get_vm_pte;
	t.adev->gmc.gmc_funcs = &t.gmc_funcs;
	t.adev->pdev = t.pdev;
	t.adev->dev = &t.pdev->dev;
	t.node->adev = t.adev;
	t.drm_file.driver_priv = t.fpriv;
	t.pdd->dev = t.node;
	t.pdd->drm_priv = &t.drm_file;
	mutex_init(&t.process_info.lock);

	t.p = new(test, sizeof(*t.p));
	t.p->lead_thread = current;
	t.p->n_pdds = 1;
	t.p->pdds[0] = t.pdd;
	t.p->kgd_process_info = &t.process_info;
	t.pdd->process = t.p;
	return svm_range_list_init(t.p);
}

static void kfd_svm_exit(struct kunit *test)
{
	t.fault_errors = 0;
	t.unmap_errors = 0;
	if (t.p) {
		svm_range_list_fini(t.p);
		KUNIT_EXPECT_EQ(test, t.dma_mapped, 0);
		vram_free(t.adev);
		vram_free(t.other);
	}
	mocks_exit(test);
}

static struct kunit_case kfd_svm_cases[] = {
	KUNIT_CASE(test_restore),
	KUNIT_CASE(test_truncate),
	KUNIT_CASE_PARAM(test_dax, mapping_gen_params),
	KUNIT_CASE(test_evicted_again),
	KUNIT_CASE(test_final_errors),
	KUNIT_CASE(test_no_memory),
	KUNIT_CASE(test_again),
	KUNIT_CASE(test_later_range),
	KUNIT_CASE(test_unmap_fails),
	KUNIT_CASE(test_prot_none),
	KUNIT_CASE(test_dma_map_dev),
	{}
};

static struct kunit_suite kfd_svm_suite = {
	.name = "kfd_svm",
	.init = kfd_svm_init,
	.exit = kfd_svm_exit,
	.test_cases = kfd_svm_cases,
};

kunit_test_suite(kfd_svm_suite);

MODULE_DESCRIPTION("KUnit tests of amdkfd's SVM");
MODULE_LICENSE("GPL");
