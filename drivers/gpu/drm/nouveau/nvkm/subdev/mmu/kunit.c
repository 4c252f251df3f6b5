// SPDX-License-Identifier: MIT
/*
 * KUnit tests of the interface by which SVM maps pfns: nvkm_vmm_pfn_get() and
 * nvkm_vmm_pfn_put() make and free page tables, nvkm_vmm_pfn_map() and
 * nvkm_vmm_pfn_unmap() write them, those of gp100 and what came after it.
 *
 * The page tables are in ordinary memory, and nvkm_mmu_kunit_walk() reads them
 * as the GPU would. What that cannot show is whether a GPU agrees: the bits are
 * those that the functions under test write, put down a second time, and a flush
 * is counted, not seen to have an effect.
 */
#include "kunit.h"
#include "../instmem/priv.h"

#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/platform_device.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <trace/events/kmem.h>

/* ----- the GPU ----- */

struct vmm_kunit_mem {
	struct nvkm_instobj base;
	struct nvkm_mmu_kunit *gpu;
	struct list_head head;
	u64 addr;
	u32 size;
	unsigned int users;
	u32 data[];
};

struct vmm_kunit_imem {
	struct nvkm_instmem base;
	struct nvkm_mmu_kunit *gpu;
};

static struct vmm_kunit_mem *vmm_kunit_mem(struct nvkm_memory *memory)
{
	return container_of(memory, struct vmm_kunit_mem, base.memory);
}

static void *vmm_kunit_mem_dtor(struct nvkm_memory *memory)
{
	struct vmm_kunit_mem *mem = vmm_kunit_mem(memory);

	nvkm_instobj_dtor(mem->gpu->imem, &mem->base);
	list_del(&mem->head);
	return mem;
}

static enum nvkm_memory_target vmm_kunit_mem_target(struct nvkm_memory *memory)
{
	return NVKM_MEM_TARGET_VRAM;
}

static u64 vmm_kunit_mem_addr(struct nvkm_memory *memory)
{
	return vmm_kunit_mem(memory)->addr;
}

static u64 vmm_kunit_mem_size(struct nvkm_memory *memory)
{
	return vmm_kunit_mem(memory)->size;
}

static void __iomem *vmm_kunit_mem_acquire(struct nvkm_memory *memory)
{
	struct vmm_kunit_mem *mem = vmm_kunit_mem(memory);

	if (!mem->users++ && mem->gpu->nowait)
		mem->gpu->waits++;
	return NULL;
}

static void __iomem *vmm_kunit_mem_acquire_nowait(struct nvkm_memory *memory)
{
	vmm_kunit_mem(memory)->users++;
	return NULL;
}

static void vmm_kunit_mem_release(struct nvkm_memory *memory)
{
	vmm_kunit_mem(memory)->users--;
}

static const struct nvkm_memory_func vmm_kunit_mem_func = {
	.dtor = vmm_kunit_mem_dtor,
	.target = vmm_kunit_mem_target,
	.addr = vmm_kunit_mem_addr,
	.size = vmm_kunit_mem_size,
	.acquire = vmm_kunit_mem_acquire,
	.acquire_nowait = vmm_kunit_mem_acquire_nowait,
	.release = vmm_kunit_mem_release,
};

static u32 vmm_kunit_rd32(struct nvkm_memory *memory, u64 offset)
{
	return vmm_kunit_mem(memory)->data[offset / 4];
}

static void vmm_kunit_wr32(struct nvkm_memory *memory, u64 offset, u32 data)
{
	struct vmm_kunit_mem *mem = vmm_kunit_mem(memory);

	if (WARN_ON(offset >= mem->size))
		return;
	mem->data[offset / 4] = data;
}

static const struct nvkm_memory_ptrs vmm_kunit_mem_ptrs = {
	.rd32 = vmm_kunit_rd32,
	.wr32 = vmm_kunit_wr32,
};

static int vmm_kunit_memory_new(struct nvkm_instmem *imem, u32 size, u32 align,
				bool zero, struct nvkm_memory **pmemory)
{
	struct nvkm_mmu_kunit *gpu =
		container_of(imem, struct vmm_kunit_imem, base)->gpu;
	struct vmm_kunit_mem *mem;

	if (!gpu->fail)
		return -ENOMEM;
	if (gpu->fail > 0)
		gpu->fail--;

	mem = kmalloc_flex(*mem, data, size / 4);
	if (!mem)
		return -ENOMEM;
	nvkm_instobj_ctor(&vmm_kunit_mem_func, imem, &mem->base);
	mem->base.memory.ptrs = &vmm_kunit_mem_ptrs;
	mem->base.memory.tags = NULL;
	mem->gpu = gpu;
	mem->addr = gpu->next_addr;
	gpu->next_addr += ALIGN(size, SZ_4K) + SZ_4K;
	mem->size = size;
	mem->users = 0;
	memset(mem->data, 0xa5, size);
	list_add(&mem->head, &gpu->mem);
	*pmemory = &mem->base.memory;
	return 0;
}

static const struct nvkm_instmem_func vmm_kunit_imem_func = {
	.memory_new = vmm_kunit_memory_new,
};

static bool vmm_kunit_read(struct nvkm_mmu_kunit *gpu, u64 addr, u64 *data)
{
	struct vmm_kunit_mem *mem;

	list_for_each_entry(mem, &gpu->mem, head) {
		if (addr >= mem->addr && addr < mem->addr + mem->size) {
			u32 *at = &mem->data[(addr - mem->addr) / 4];

			*data = (u64)at[1] << 32 | at[0];
			return true;
		}
	}
	return false;
}

#define VMM_VALID	BIT_ULL(0)
#define VMM_APERTURE	(3ULL << 1)
#define VMM_HOST	(2ULL << 1)
#define VMM_VOL		BIT_ULL(3)
#define VMM_RO		BIT_ULL(6)
#define VMM_NO_ATOMIC	BIT_ULL(7)

static u64 vmm_kunit_table(u64 pde)
{
	return (pde & ~0xffULL) << 4;
}

/* Two bits of the address for the first table, nine for the next two, eight for
 * the one of 2 MiB pages, nine for the last.
 */
struct nvkm_mmu_kunit_pte
nvkm_mmu_kunit_walk(struct nvkm_mmu_kunit *gpu, u64 addr)
{
	static const struct { u8 shift, bits; } levels[] = {
		{ 47, 2 }, { 38, 9 }, { 29, 9 },
	};
	u64 table = gpu->vmm->pd->pt[0]->addr, lo = 0, hi = 0;
	struct nvkm_mmu_kunit_pte pte = { KUNIT_DANGLING };
	int i;

	for (i = 0; i < ARRAY_SIZE(levels); i++) {
		u64 index = (addr >> levels[i].shift) &
			    (BIT_ULL(levels[i].bits) - 1);

		if (!vmm_kunit_read(gpu, table + index * 8, &lo))
			return pte;
		if (!(lo & VMM_APERTURE))
			goto none;
		table = vmm_kunit_table(lo);
	}

	table += (addr >> 21 & 0xff) * 16;
	if (!vmm_kunit_read(gpu, table, &lo) ||
	    !vmm_kunit_read(gpu, table + 8, &hi))
		return pte;
	if (lo & VMM_VALID) {
		pte.kind = KUNIT_LARGE;
		goto valid;
	}
	if (lo & VMM_APERTURE) {
		pte.kind = KUNIT_LPT;
		return pte;
	}
	if (!(hi & VMM_APERTURE))
		goto none;
	if (!vmm_kunit_read(gpu, vmm_kunit_table(hi) + (addr >> 12 & 0x1ff) * 8,
			    &lo))
		return pte;
	if (!(lo & VMM_VALID))
		goto none;
	pte.kind = KUNIT_SMALL;
valid:
	pte.data = lo;
	return pte;
none:
	pte.kind = lo & VMM_VOL ? KUNIT_SPARSE : KUNIT_NONE;
	return pte;
}

/* The entry that is to come of a pfn of nvkm_vmm_pfn_map(). */
u64 nvkm_mmu_kunit_data(u64 pfn)
{
	u64 data = (pfn & NVKM_VMM_PFN_ADDR) >> 4 | VMM_VALID;

	if (!(pfn & NVKM_VMM_PFN_VRAM))
		data |= VMM_HOST | VMM_VOL;
	if (!(pfn & NVKM_VMM_PFN_W))
		data |= VMM_RO;
	if (!(pfn & NVKM_VMM_PFN_A))
		data |= VMM_NO_ATOMIC;
	return data;
}

static void vmm_kunit_flush(struct nvkm_vmm *vmm, int depth)
{
	struct nvkm_mmu_kunit *gpu =
		container_of(vmm->mmu->subdev.device->imem,
			     struct vmm_kunit_imem, base)->gpu;
	u64 addr;

	gpu->flushes++;
	gpu->gone = true;
	for (addr = gpu->gone_start; addr < gpu->gone_limit; addr += SZ_4K) {
		switch (nvkm_mmu_kunit_walk(gpu, addr).kind) {
		case KUNIT_NONE:
			break;
		case KUNIT_SMALL:
		case KUNIT_LARGE:
			gpu->gone = false;
			break;
		default:
			gpu->bad_flushes++;
			return;
		}
	}
}

const struct nvkm_mmu_kunit_gen nvkm_mmu_kunit_gens[] = {
	{ "gp100", gp100_vmm_new },
	{ "gv100", gv100_vmm_new },
	{ "tu102", tu102_vmm_new },
};

const int nvkm_mmu_kunit_gens_nr = ARRAY_SIZE(nvkm_mmu_kunit_gens);

struct nvkm_mmu_kunit *
nvkm_mmu_kunit_new(struct kunit *test, const struct nvkm_mmu_kunit_gen *gen,
		   u64 unmanaged_addr, u64 unmanaged_size)
{
	struct nvkm_mmu_kunit *gpu = kunit_kzalloc(test, sizeof(*gpu), GFP_KERNEL);
	struct platform_device *pdev;
	struct vmm_kunit_imem *imem;
	int nr = 0;

	KUNIT_ASSERT_NOT_NULL(test, gpu);
	INIT_LIST_HEAD(&gpu->mem);
	gpu->fail = -1;
	gpu->next_addr = SZ_1G;

	pdev = platform_device_register_simple("nvkm_mmu_kunit",
					       PLATFORM_DEVID_AUTO, NULL, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pdev);
	gpu->dev = &pdev->dev;
	dma_set_mask_and_coherent(gpu->dev, DMA_BIT_MASK(64));

	gpu->device = kunit_kzalloc(test, sizeof(*gpu->device), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, gpu->device);
	gpu->device->dev = gpu->dev;
	INIT_LIST_HEAD(&gpu->device->subdev);

	imem = kunit_kzalloc(test, sizeof(*imem), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, imem);
	imem->gpu = gpu;
	gpu->imem = &imem->base;
	gpu->device->imem = gpu->imem;
	nvkm_instmem_ctor(&vmm_kunit_imem_func, gpu->device,
			  NVKM_SUBDEV_INSTMEM, 0, gpu->imem);
	/* Running out of it is part of the test, and not worth a message. */
	gpu->imem->subdev.debug = 0;

	gpu->mmu_func = kunit_kzalloc(test, sizeof(*gpu->mmu_func), GFP_KERNEL);
	gpu->mmu = kunit_kzalloc(test, sizeof(*gpu->mmu), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, gpu->mmu_func);
	KUNIT_ASSERT_NOT_NULL(test, gpu->mmu);
	nvkm_mmu_ctor(gpu->mmu_func, gpu->device, NVKM_SUBDEV_MMU, 0, gpu->mmu);

	KUNIT_ASSERT_EQ(test, gen->ctor(gpu->mmu, true, unmanaged_addr,
					unmanaged_size, NULL, 0, NULL, "kunit",
					&gpu->vmm), 0);

	/* All of the real one, but for the flush. */
	while (gpu->vmm->func->page[nr].shift)
		nr++;
	gpu->vmm_func = kunit_kzalloc(test, struct_size(gpu->vmm_func, page, nr + 1),
				      GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, gpu->vmm_func);
	memcpy(gpu->vmm_func, gpu->vmm->func,
	       struct_size(gpu->vmm_func, page, nr + 1));
	gpu->vmm_func->flush = vmm_kunit_flush;
	gpu->vmm->func = gpu->vmm_func;
	return gpu;
}

void nvkm_mmu_kunit_del(struct kunit *test, struct nvkm_mmu_kunit *gpu)
{
	struct nvkm_mmu *mmu = gpu->mmu;

	gpu->gone_limit = 0;
	if (gpu->vmm) {
		nvkm_vmm_unref(&gpu->vmm);
		nvkm_mmu_ptc_dump(mmu);
		KUNIT_EXPECT_TRUE(test, list_empty(&gpu->mem));
	}
	if (mmu && mmu->subdev.func)
		mmu->subdev.func->dtor(&mmu->subdev);
	if (gpu->dev)
		platform_device_unregister(to_platform_device(gpu->dev));
}

/* ----- the tests ----- */

/* Of 4 KiB, up to the middle of a 2 MiB page. */
#define UNMANAGED	(SZ_4G + SZ_1M)
#define UNMANAGED_SIZE	SZ_1G

#define BASE		0x7f0000000000ULL
#define HOST		(NVKM_VMM_PFN_V | NVKM_VMM_PFN_HOST)
#define HOST_W		(HOST | NVKM_VMM_PFN_W)
#define HOST_A		(HOST_W | NVKM_VMM_PFN_A)
#define VRAM		(NVKM_VMM_PFN_V | NVKM_VMM_PFN_VRAM)
#define VRAM_W		(VRAM | NVKM_VMM_PFN_W)

#define PAGES		(SZ_2M / SZ_4K)

struct vmm_kunit {
	struct nvkm_mmu_kunit *gpu;
	struct page *page;	/* 2 MiB of them */
	u64 pfn[2 * PAGES];
};

static void vmm_kunit_gen_desc(const struct nvkm_mmu_kunit_gen *gen, char *desc)
{
	strscpy(desc, gen->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(vmm_kunit_gen, nvkm_mmu_kunit_gens, vmm_kunit_gen_desc);

static int vmm_kunit_init(struct kunit *test)
{
	struct vmm_kunit *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	t->page = alloc_pages(GFP_KERNEL, get_order(SZ_2M));
	KUNIT_ASSERT_NOT_NULL(test, t->page);
	t->gpu = nvkm_mmu_kunit_new(test, test->param_value, UNMANAGED,
				    UNMANAGED_SIZE);
	return 0;
}

static void vmm_kunit_exit(struct kunit *test)
{
	struct vmm_kunit *t = test->priv;

	if (!t)
		return;
	if (t->gpu)
		nvkm_mmu_kunit_del(test, t->gpu);
	if (t->page)
		__free_pages(t->page, get_order(SZ_2M));
}

/* Where the pfn of a page says that it is. */
static u64 vmm_kunit_pfn(struct vmm_kunit *t, u8 shift, int i, u64 flags)
{
	u64 addr = page_to_phys(t->page);

	if (shift == 12)
		addr += (i % PAGES) * SZ_4K;
	if (flags & NVKM_VMM_PFN_VRAM)
		addr += SZ_16G;
	return addr | flags;
}

/* Write entries for @nr pages in a row, whose page tables are there. */
static int vmm_kunit_write(struct vmm_kunit *t, u8 shift, u64 addr, int nr, u64 flags)
{
	struct nvkm_vmm *vmm = t->gpu->vmm;
	int i;

	for (i = 0; i < nr; i++)
		t->pfn[i] = vmm_kunit_pfn(t, shift, i, flags);
	return nvkm_vmm_pfn_map(vmm, shift, addr, (u64)nr << shift, t->pfn);
}

/* Make page tables, and map @nr pages in a row. */
static int vmm_kunit_map(struct vmm_kunit *t, u8 shift, u64 addr, int nr, u64 flags)
{
	return nvkm_vmm_pfn_get(t->gpu->vmm, shift, addr, (u64)nr << shift) ?:
	       vmm_kunit_write(t, shift, addr, nr, flags);
}

/* Free page tables. At the last flush all entries are gone; until then each is either
 * as it was or not there, and nothing else.
 */
static void vmm_kunit_unmap(struct kunit *test, u64 addr, u64 size)
{
	struct vmm_kunit *t = test->priv;
	struct nvkm_vmm *vmm = t->gpu->vmm;

	t->gpu->gone_start = addr;
	t->gpu->gone_limit = addr + size;
	t->gpu->flushes = 0;
	KUNIT_EXPECT_EQ(test, nvkm_vmm_pfn_put(vmm, addr, size), 0);
	t->gpu->gone_limit = 0;
	KUNIT_EXPECT_EQ(test, t->gpu->bad_flushes, 0);
	if (t->gpu->flushes)
		KUNIT_EXPECT_TRUE(test, t->gpu->gone);
	t->gpu->bad_flushes = 0;
}

#define EXPECT_KIND(test, addr, expected)				\
	KUNIT_EXPECT_EQ(test, nvkm_mmu_kunit_walk(t->gpu, addr).kind,	\
			expected)

/* Are @nr pages there as vmm_kunit_map() was to map them? */
static void expect_mapped(struct kunit *test, u8 shift, u64 addr, int nr, u64 flags)
{
	struct vmm_kunit *t = test->priv;
	struct nvkm_mmu_kunit_pte pte;
	int i;

	for (i = 0; i < nr; i++, addr += BIT_ULL(shift)) {
		pte = nvkm_mmu_kunit_walk(t->gpu, addr + BIT_ULL(shift) - 1);
		KUNIT_EXPECT_EQ(test, pte.kind,
				shift == 12 ? KUNIT_SMALL : KUNIT_LARGE);
		KUNIT_EXPECT_EQ(test, pte.data,
				nvkm_mmu_kunit_data(vmm_kunit_pfn(t, shift, i, flags)));
	}
}

static void expect_none(struct kunit *test, u64 addr, u64 size)
{
	struct vmm_kunit *t = test->priv;
	u64 at;

	for (at = addr; at < addr + size; at += SZ_4K)
		EXPECT_KIND(test, at, KUNIT_NONE);
}

/* Nothing is mapped, so there is no page table but the first one. */
static void expect_empty(struct kunit *test)
{
	struct vmm_kunit *t = test->priv;

	KUNIT_EXPECT_EQ(test, t->gpu->vmm->pd->refs[0], 1);
	expect_none(test, BASE - SZ_4M, SZ_8M);
}

static void test_small(struct kunit *test)
{
	static const u64 flags[] = { HOST, HOST_W, HOST_A, VRAM, VRAM_W };
	struct vmm_kunit *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, BASE, 3, flags[i]), 0);
		expect_mapped(test, 12, BASE, 3, flags[i]);
		expect_none(test, BASE - SZ_4K, SZ_4K);
		expect_none(test, BASE + 3 * SZ_4K, SZ_4K);

		vmm_kunit_unmap(test, BASE + SZ_4K, SZ_4K);
		KUNIT_EXPECT_GT(test, t->gpu->flushes, 0);
		expect_mapped(test, 12, BASE, 1, flags[i]);
		expect_none(test, BASE + SZ_4K, SZ_4K);
		EXPECT_KIND(test, BASE + 2 * SZ_4K, KUNIT_SMALL);
		vmm_kunit_unmap(test, BASE, 3 * SZ_4K);
		expect_empty(test);
	}
}

static void test_large(struct kunit *test)
{
	static const u64 flags[] = { HOST, HOST_W, VRAM, VRAM_W };
	struct vmm_kunit *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 21, BASE, 3, flags[i]), 0);
		expect_mapped(test, 21, BASE, 3, flags[i]);
		expect_none(test, BASE - SZ_4K, SZ_4K);
		expect_none(test, BASE + 3 * SZ_2M, SZ_4K);

		vmm_kunit_unmap(test, BASE + SZ_2M, SZ_2M);
		KUNIT_EXPECT_GT(test, t->gpu->flushes, 0);
		expect_mapped(test, 21, BASE, 1, flags[i]);
		expect_none(test, BASE + SZ_2M, SZ_2M);
		expect_mapped(test, 21, BASE + 2 * SZ_2M, 1, flags[i]);
		vmm_kunit_unmap(test, BASE, 3 * SZ_2M);
		expect_empty(test);
	}
}

/* Pages of both sizes side by side, of system memory and VRAM. */
static void test_mixed(struct kunit *test)
{
	struct vmm_kunit *t = test->priv;
	u64 small = BASE - 4 * SZ_4K, behind = BASE + SZ_4M;
	int i;

	for (i = 0; i < 3; i++) {
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, small, 4, HOST_W), 0);
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 21, BASE, 1, HOST), 0);
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, behind, 4, VRAM), 0);
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 21, BASE + SZ_2M, 1, VRAM_W),
				0);
		expect_mapped(test, 12, small, 4, HOST_W);
		expect_mapped(test, 21, BASE, 1, HOST);
		expect_mapped(test, 21, BASE + SZ_2M, 1, VRAM_W);
		expect_mapped(test, 12, behind, 4, VRAM);

		/* One by one, in one go, and from within. */
		if (i == 0) {
			vmm_kunit_unmap(test, small, 4 * SZ_4K);
			expect_none(test, small, 4 * SZ_4K);
			expect_mapped(test, 21, BASE, 1, HOST);
			vmm_kunit_unmap(test, BASE, SZ_2M);
			expect_none(test, BASE, SZ_2M);
			expect_mapped(test, 21, BASE + SZ_2M, 1, VRAM_W);
			vmm_kunit_unmap(test, BASE + SZ_2M, SZ_2M);
			expect_mapped(test, 12, behind, 4, VRAM);
			vmm_kunit_unmap(test, behind, 4 * SZ_4K);
		} else if (i == 1) {
			vmm_kunit_unmap(test, small, SZ_8M);
		} else {
			vmm_kunit_unmap(test, BASE - SZ_4K,
					SZ_4K + SZ_4M + SZ_4K);
			expect_mapped(test, 12, small, 3, HOST_W);
			EXPECT_KIND(test, behind + SZ_4K, KUNIT_SMALL);
			vmm_kunit_unmap(test, BASE - SZ_2M, SZ_8M);
		}
		expect_empty(test);
	}
}

/* A part of a 2 MiB page takes all of it, and nothing else. */
static void test_part(struct kunit *test)
{
	static const struct { u64 start, size; } parts[] = {
		{ 0, SZ_4K },
		{ SZ_1M, SZ_4K },
		{ SZ_2M - SZ_4K, SZ_4K },
		{ SZ_4K, SZ_2M - 2 * SZ_4K },
		{ 0, SZ_1M },
		{ SZ_1M, SZ_1M },
	};
	struct vmm_kunit *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 21, BASE, 3, HOST_W), 0);
		vmm_kunit_unmap(test, BASE + SZ_2M + parts[i].start,
				parts[i].size);
		KUNIT_EXPECT_GT(test, t->gpu->flushes, 0);
		expect_mapped(test, 21, BASE, 1, HOST_W);
		expect_none(test, BASE + SZ_2M, SZ_2M);
		expect_mapped(test, 21, BASE + SZ_4M, 1, HOST_W);

		/* Two of them, in part. */
		KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 21, BASE + SZ_2M, 1, HOST), 0);
		vmm_kunit_unmap(test, BASE + SZ_4M - SZ_4K, 2 * SZ_4K);
		expect_mapped(test, 21, BASE, 1, HOST_W);
		expect_none(test, BASE + SZ_2M, SZ_4M);

		vmm_kunit_unmap(test, BASE + SZ_2M - SZ_4K, SZ_8M);
		expect_empty(test);
	}
}

/* What is there already makes room. */
static void test_again(struct kunit *test)
{
	struct vmm_kunit *t = test->priv;

	/* The same page with other permissions, or elsewhere. */
	KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, BASE, 3, HOST), 0);
	KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, BASE, 2, HOST_A), 0);
	expect_mapped(test, 12, BASE, 2, HOST_A);
	EXPECT_KIND(test, BASE + 2 * SZ_4K, KUNIT_SMALL);
	KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, BASE, 2, VRAM), 0);
	expect_mapped(test, 12, BASE, 2, VRAM);

	/* A large one where small ones are, */
	KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, BASE + SZ_2M - SZ_4K, 2, HOST), 0);
	KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 21, BASE, 1, HOST_W), 0);
	expect_mapped(test, 21, BASE, 1, HOST_W);
	EXPECT_KIND(test, BASE + SZ_2M, KUNIT_SMALL);
	EXPECT_KIND(test, BASE + SZ_2M + SZ_4K, KUNIT_NONE);

	/* and the other way round. */
	KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, BASE + SZ_1M, 1, HOST), 0);
	expect_none(test, BASE, SZ_1M);
	expect_mapped(test, 12, BASE + SZ_1M, 1, HOST);
	expect_none(test, BASE + SZ_1M + SZ_4K, SZ_1M - SZ_4K);
	EXPECT_KIND(test, BASE + SZ_2M, KUNIT_SMALL);

	vmm_kunit_unmap(test, BASE, SZ_4M);
	expect_empty(test);
}

/* An array that says to map some, and to unmap others. */
static void test_holes(struct kunit *test)
{
	struct vmm_kunit *t = test->priv;
	struct nvkm_vmm *vmm = t->gpu->vmm;
	u64 pfn[6];
	int i;

	KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, 12, BASE, 6, HOST), 0);
	for (i = 0; i < 6; i++)
		pfn[i] = i % 3 == 1 ? NVKM_VMM_PFN_NONE :
				      vmm_kunit_pfn(t, 12, i, HOST_W);
	KUNIT_EXPECT_EQ(test, nvkm_vmm_pfn_map(vmm, 12, BASE, 6 * SZ_4K, pfn), 0);
	for (i = 0; i < 6; i++) {
		struct nvkm_mmu_kunit_pte pte =
			nvkm_mmu_kunit_walk(t->gpu, BASE + i * SZ_4K);

		KUNIT_EXPECT_EQ(test, pte.kind,
				i % 3 == 1 ? KUNIT_NONE : KUNIT_SMALL);
		if (i % 3 != 1)
			KUNIT_EXPECT_EQ(test, pte.data,
					nvkm_mmu_kunit_data(pfn[i]));
	}
	vmm_kunit_unmap(test, BASE, SZ_2M);
	expect_empty(test);
}

/* 2 MiB pages at the edge of what the client manages, and beyond it. */
static void test_edge(struct kunit *test)
{
	u64 edge = ALIGN_DOWN(UNMANAGED, SZ_2M);
	u64 limit = UNMANAGED + UNMANAGED_SIZE;
	struct vmm_kunit *t = test->priv;

	KUNIT_EXPECT_EQ(test, vmm_kunit_map(t, 21, edge - SZ_2M, 4, HOST_W), -EINVAL);
	expect_empty(test);
	expect_none(test, edge - SZ_2M, SZ_8M);
	KUNIT_EXPECT_EQ(test, vmm_kunit_map(t, 21, edge, 1, HOST_W), -EINVAL);
	KUNIT_EXPECT_EQ(test, vmm_kunit_map(t, 21, edge - SZ_2M, 1, HOST_W), 0);
	expect_mapped(test, 21, edge - SZ_2M, 1, HOST_W);

	/* From the other side: what fits behind the edge is mapped. */
	KUNIT_EXPECT_EQ(test, vmm_kunit_map(t, 21, ALIGN_DOWN(limit, SZ_2M), 2,
					    HOST_W), -EINVAL);
	expect_none(test, ALIGN_DOWN(limit, SZ_2M), SZ_4M);
	KUNIT_EXPECT_EQ(test, vmm_kunit_map(t, 21, ALIGN(limit, SZ_2M), 1, HOST_W), 0);
	expect_mapped(test, 21, ALIGN(limit, SZ_2M), 1, HOST_W);

	/* Small ones fit up to it. */
	KUNIT_EXPECT_EQ(test, vmm_kunit_map(t, 12, UNMANAGED - SZ_4K, 2, HOST_W),
			-EINVAL);
	expect_none(test, UNMANAGED - SZ_4K, SZ_8K);
	KUNIT_EXPECT_EQ(test, vmm_kunit_map(t, 12, UNMANAGED - SZ_4K, 1, HOST_W), 0);
	expect_mapped(test, 12, UNMANAGED - SZ_4K, 1, HOST_W);
	vmm_kunit_unmap(test, edge - SZ_2M, limit + SZ_4M - edge);
	expect_empty(test);
}

static int vmm_kunit_vmas(struct vmm_kunit *t)
{
	return list_count_nodes(&t->gpu->vmm->list);
}

/* Every page table on the way fails once to be allocated. */
static void test_no_memory(struct kunit *test)
{
	struct vmm_kunit *t = test->priv;
	/* Across two page tables of each size, next to what is mapped. */
	static const struct { u8 shift; u64 addr; int nr; } maps[] = {
		{ 12, BASE + SZ_2M - SZ_4K, 2 },
		{ 21, BASE + SZ_512M - SZ_2M, 2 },
	};
	int i, fail, ret, vmas;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		u64 addr = maps[i].addr, size = (u64)maps[i].nr << maps[i].shift;

		for (fail = 0, ret = -ENOMEM; ret && fail < 20; fail++) {
			/* Nothing to be had from the cache. */
			nvkm_mmu_ptc_dump(t->gpu->mmu);
			KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, maps[i].shift,
							    addr - size, 1,
							    HOST), 0);
			vmas = vmm_kunit_vmas(t);

			t->gpu->fail = fail;
			ret = vmm_kunit_map(t, maps[i].shift, addr, maps[i].nr,
					    HOST_W);
			t->gpu->fail = -1;
			if (ret) {
				KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
				KUNIT_EXPECT_EQ(test, vmm_kunit_vmas(t), vmas);
				expect_none(test, addr, size);
			} else {
				expect_mapped(test, maps[i].shift, addr,
					      maps[i].nr, HOST_W);
			}
			expect_mapped(test, maps[i].shift, addr - size, 1, HOST);
			vmm_kunit_unmap(test, addr - size, 2 * size);
			expect_empty(test);
		}
		KUNIT_EXPECT_EQ(test, ret, 0);
		KUNIT_EXPECT_GT(test, fail, 1);
	}
}

struct vmm_kunit_call {
	struct work_struct work;
	struct completion done;
	struct vmm_kunit *t;
	struct task_struct *task;
	bool map;
	int ret;
	unsigned int allocs;
};

static void vmm_kunit_kmalloc(void *data, unsigned long call_site, const void *ptr,
			      size_t bytes_req, size_t bytes_alloc, gfp_t gfp, int node)
{
	struct vmm_kunit_call *call = data;

	if (current == READ_ONCE(call->task))
		call->allocs++;
}

static void vmm_kunit_call_work(struct work_struct *work)
{
	struct vmm_kunit_call *call = container_of(work, typeof(*call), work);
	struct vmm_kunit *t = call->t;
	struct nvkm_vmm *vmm = t->gpu->vmm;

	WRITE_ONCE(call->task, current);
	t->gpu->nowait = true;
	if (call->map)
		call->ret = vmm_kunit_write(t, 12, BASE + SZ_2M - SZ_8K, 4, HOST_W) ?:
			    vmm_kunit_write(t, 21, BASE + SZ_4M, 2, VRAM);
	else
		call->ret = nvkm_vmm_pfn_unmap(vmm, 12, BASE + SZ_2M - SZ_4K, SZ_8K) ?:
			    nvkm_vmm_pfn_unmap(vmm, 21, BASE + SZ_4M, SZ_2M);
	t->gpu->nowait = false;
	WRITE_ONCE(call->task, NULL);
	complete(&call->done);
}

/* Write entries while somebody holds every mutex under which memory is allocated. */
static void vmm_kunit_call(struct kunit *test, struct vmm_kunit_call *call, bool map)
{
	struct vmm_kunit *t = test->priv;
	struct nvkm_vmm *vmm = t->gpu->vmm;

	init_completion(&call->done);
	call->map = map;
	mutex_lock(&vmm->mutex.vmm);
	mutex_lock(&vmm->mutex.ref);
	mutex_lock(&vmm->mutex.map);
	mutex_lock(&t->gpu->mmu->ptp.mutex);
	mutex_lock(&t->gpu->mmu->ptc.mutex);
	queue_work(system_dfl_wq, &call->work);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&call->done, 10 * HZ));
	mutex_unlock(&t->gpu->mmu->ptc.mutex);
	mutex_unlock(&t->gpu->mmu->ptp.mutex);
	mutex_unlock(&vmm->mutex.map);
	mutex_unlock(&vmm->mutex.ref);
	mutex_unlock(&vmm->mutex.vmm);
	flush_work(&call->work);
	KUNIT_EXPECT_EQ(test, call->ret, 0);
}

/*
 * What a notifier does, and what is done under its locks, waits for nobody who waits
 * for memory, which may be waiting for the notifier.
 */
static void test_notifier(struct kunit *test)
{
	struct vmm_kunit_call *call = kunit_kzalloc(test, sizeof(*call), GFP_KERNEL);
	struct vmm_kunit *t = test->priv;
	struct nvkm_vmm *vmm = t->gpu->vmm;

	KUNIT_ASSERT_NOT_NULL(test, call);
	INIT_WORK(&call->work, vmm_kunit_call_work);
	call->t = t;
	if (register_trace_kmalloc(vmm_kunit_kmalloc, call))
		kunit_skip(test, "no tracepoints");

	KUNIT_EXPECT_EQ(test, nvkm_vmm_pfn_get(vmm, 12, BASE, SZ_4M), 0);
	KUNIT_EXPECT_EQ(test, nvkm_vmm_pfn_get(vmm, 21, BASE + SZ_4M, SZ_4M), 0);
	expect_none(test, BASE, SZ_8M);
	t->gpu->flushes = 0;
	vmm_kunit_call(test, call, true);
	KUNIT_EXPECT_GT(test, t->gpu->flushes, 0);
	expect_none(test, BASE, SZ_2M - SZ_8K);
	expect_mapped(test, 12, BASE + SZ_2M - SZ_8K, 4, HOST_W);
	expect_none(test, BASE + SZ_2M + SZ_8K, SZ_2M - SZ_8K);
	expect_mapped(test, 21, BASE + SZ_4M, 2, VRAM);

	t->gpu->gone_start = BASE + SZ_2M - SZ_4K;
	t->gpu->gone_limit = BASE + SZ_2M + SZ_4K;
	vmm_kunit_call(test, call, false);
	KUNIT_EXPECT_TRUE(test, t->gpu->gone);
	t->gpu->gone_limit = 0;
	expect_mapped(test, 12, BASE + SZ_2M - SZ_8K, 1, HOST_W);
	expect_none(test, BASE + SZ_2M - SZ_4K, SZ_8K);
	EXPECT_KIND(test, BASE + SZ_2M + SZ_4K, KUNIT_SMALL);
	expect_none(test, BASE + SZ_4M, SZ_2M);
	EXPECT_KIND(test, BASE + SZ_4M + SZ_2M, KUNIT_LARGE);
	KUNIT_EXPECT_EQ(test, call->allocs, 0);
	KUNIT_EXPECT_EQ(test, t->gpu->waits, 0);

	unregister_trace_kmalloc(vmm_kunit_kmalloc, call);
	tracepoint_synchronize_unregister();
	vmm_kunit_unmap(test, BASE, SZ_8M);
	expect_empty(test);
}

/* Anything in any order, compared with what it should be. */
static void test_random(struct kunit *test)
{
	static const u64 flags[] = { HOST, HOST_W, HOST_A, VRAM, VRAM_W };
	struct vmm_kunit *t = test->priv;
	int pages = 4 * PAGES, i, j, op;
	struct rnd_state rnd;
	u64 *shadow;

	shadow = kunit_kcalloc(test, pages, sizeof(*shadow), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, shadow);
	prandom_seed_state(&rnd, 1);

	for (op = 0; op < 60; op++) {
		bool large = prandom_u32_state(&rnd) % 3 == 0;
		u64 flag = flags[prandom_u32_state(&rnd) % ARRAY_SIZE(flags)];
		int nr = 1 + prandom_u32_state(&rnd) % (large ? 2 : PAGES + PAGES / 2);
		int per = large ? PAGES : 1, start, wide, limit;

		start = prandom_u32_state(&rnd) % (pages / per - nr + 1) * per;
		limit = start + nr * per;
		/* A large page that is hit goes; bit 0 of the shadow is that. */
		wide = shadow[start] & 1 ? ALIGN_DOWN(start, PAGES) : start;
		memset(&shadow[wide], 0, (limit - wide) * sizeof(*shadow));
		for (i = limit; i % PAGES && shadow[i] & 1; i++)
			shadow[i] = 0;
		if (prandom_u32_state(&rnd) % 3) {
			for (i = 0; i < nr; i++) {
				u64 pfn = vmm_kunit_pfn(t, large ? 21 : 12, i,
							flag);

				for (j = 0; j < per; j++)
					shadow[start + i * per + j] = large |
						nvkm_mmu_kunit_data(pfn) << 1;
			}
			KUNIT_ASSERT_EQ(test, vmm_kunit_map(t, large ? 21 : 12,
							    BASE + start * (u64)SZ_4K,
							    nr, flag), 0);
		} else {
			vmm_kunit_unmap(test, BASE + start * (u64)SZ_4K,
					nr * per * (u64)SZ_4K);
		}

		for (i = 0; i < pages; i++) {
			struct nvkm_mmu_kunit_pte pte =
				nvkm_mmu_kunit_walk(t->gpu, BASE + i * (u64)SZ_4K);

			if (pte.kind != (!shadow[i] ? KUNIT_NONE :
					 shadow[i] & 1 ? KUNIT_LARGE : KUNIT_SMALL) ||
			    pte.data << 1 != (shadow[i] & ~1ULL))
				KUNIT_FAIL_AND_ABORT(test, "%d, page %d: %d %llx, not %llx",
						     op, i, pte.kind, pte.data,
						     shadow[i] >> 1);
		}
	}
	vmm_kunit_unmap(test, BASE, pages * (u64)SZ_4K);
	expect_empty(test);
}

static struct kunit_case vmm_kunit_cases[] = {
	KUNIT_CASE_PARAM(test_small, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_large, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_mixed, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_part, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_again, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_holes, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_edge, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_no_memory, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_notifier, vmm_kunit_gen_gen_params),
	KUNIT_CASE_PARAM(test_random, vmm_kunit_gen_gen_params),
	{}
};

static struct kunit_suite vmm_kunit_suite = {
	.name = "nouveau_vmm_pfn",
	.init = vmm_kunit_init,
	.exit = vmm_kunit_exit,
	.test_cases = vmm_kunit_cases,
};

kunit_test_suite(vmm_kunit_suite);
