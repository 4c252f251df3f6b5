/* SPDX-License-Identifier: MIT */
#ifndef __NVKM_MMU_KUNIT_H__
#define __NVKM_MMU_KUNIT_H__
#include "vmm.h"

struct kunit;

/**
 * struct nvkm_mmu_kunit - a GPU that has nothing but page tables, in memory
 *
 * @vmm: its address space, of the client's but for the unmanaged part
 * @dev: what DMA is mapped for
 * @mem: the page tables that there are
 * @fail: this many page tables can still be allocated; negative for any number
 * @nowait: memory must not be allocated
 * @waits: how often an access to a page table could have done so all the same
 * @flushes: TLB flushes so far
 * @gone_start: first address, in bytes, of what is being unmapped
 * @gone_limit: its end
 * @gone: nothing of it was there at the last flush
 * @bad_flushes: flushes that found something other than pages in it
 */
struct nvkm_mmu_kunit {
	struct nvkm_vmm *vmm;
	struct device *dev;
	struct list_head mem;
	int fail;
	bool nowait;
	unsigned int waits;
	unsigned int flushes;
	u64 gone_start, gone_limit;
	bool gone;
	unsigned int bad_flushes;

	/* private: the rest of what a GPU needs to have page tables */
	struct nvkm_device *device;
	struct nvkm_mmu *mmu;
	struct nvkm_instmem *imem;
	struct nvkm_mmu_func *mmu_func;
	struct nvkm_vmm_func *vmm_func;
	u64 next_addr;
};

/* What a GPU of gp100's page table format finds at an address. */
enum nvkm_mmu_kunit_kind {
	KUNIT_NONE,
	KUNIT_SPARSE,
	KUNIT_SMALL,	/* a 4 KiB page */
	KUNIT_LARGE,	/* a 2 MiB page */
	KUNIT_LPT,	/* a table of 64 KiB pages, which nothing here makes */
	KUNIT_DANGLING,	/* a page table that has been freed */
};

struct nvkm_mmu_kunit_pte {
	enum nvkm_mmu_kunit_kind kind;
	u64 data;
};

/* The generations that have pfn mappings, as test parameters. */
struct nvkm_mmu_kunit_gen {
	const char *name;
	int (*ctor)(struct nvkm_mmu *mmu, bool managed, u64 addr, u64 size,
		    void *argv, u32 argc, struct lock_class_key *key,
		    const char *name, struct nvkm_vmm **pvmm);
};

extern const struct nvkm_mmu_kunit_gen nvkm_mmu_kunit_gens[];
extern const int nvkm_mmu_kunit_gens_nr;

struct nvkm_mmu_kunit *
nvkm_mmu_kunit_new(struct kunit *test, const struct nvkm_mmu_kunit_gen *gen,
		   u64 unmanaged_addr, u64 unmanaged_size);
void nvkm_mmu_kunit_del(struct kunit *test, struct nvkm_mmu_kunit *gpu);

struct nvkm_mmu_kunit_pte
nvkm_mmu_kunit_walk(struct nvkm_mmu_kunit *gpu, u64 addr);
u64 nvkm_mmu_kunit_data(u64 pfn);
#endif
