// SPDX-License-Identifier: GPL-2.0
/*
 * DMA of what HMM mirrors: a device behind an IOMMU reads and writes the memory
 * of this process, files on persistent memory among it, with page table leaves
 * of every size, and is stopped when that memory is taken away.
 *
 * The device is QEMU's edu (-device edu,dma_mask=0xffffffffffff), its driver
 * lib/test_hmm_dma.c; with -device intel-iommu and intel_iommu=on. The memory is
 * named in the environment as for hmm_dax.c: HMM_DAX_EXT4, HMM_DAX_XFS,
 * HMM_DAX_DEV_PTE, _PMD and _PUD. A device-dax is overwritten from its start.
 *
 * What is not there is skipped. A transfer of the device takes 200 ms, so few
 * bytes are moved, at the places that matter. The tests hwpoison and namespace
 * leave memory that nobody should use before the next boot, and only run where
 * HMM_DMA_DESTROY is set. Where the device is to be stopped
 * the IOMMU reports a fault in the kernel log; the driver announces each by "the
 * IOMMU is expected to refuse", with the address.
 */
#include "kselftest_harness.h"
#include "hmm_memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * This is a private UAPI to the kernel test module so it isn't exported
 * in the usual include/uapi/... directory.
 */
#include <lib/test_hmm_dma_uapi.h>
#include <lib/test_hmm_uapi.h>

/* A skipped test that means nothing for a backing begins with this. */
#define NOT_HERE	"not for this memory: "

#define EDU		"/dev/hmm_dma_edu"
#define DIRECT		"/dev/hmm_dma_direct"

/* What a transfer moves. */
#define BYTES		16

/* SYNC is a shared mapping of a file with MAP_SYNC, PRIVATE a private one. */
enum backing { FS, SYNC, PRIVATE, DEV, ANON, THP, HUGETLB };

static void __attribute__((constructor)) setup_hugetlb(void)
{
	setup_hugetlb_pmds(8);
}

FIXTURE(hmm_dma)
{
	int dma;		/* the device with the IOMMU */
	int fd;			/* the file or device-dax; -1: none */
	bool file;		/* on a file system with DAX */
	size_t page;
	size_t leaf;		/* of a mapping that can be written */
	size_t size;
	char *map;		/* the mapping under test, page tables empty */
	char *alias;		/* the same memory elsewhere; NULL: anonymous */
};

FIXTURE_VARIANT(hmm_dma)
{
	enum backing backing;
	const char *env;
	enum leaf leaf;
	size_t leaves;		/* see leaf_count() */
};

FIXTURE_VARIANT_ADD(hmm_dma, ext4_pte)
{
	FS, "HMM_DAX_EXT4", PTE, 1024
};

FIXTURE_VARIANT_ADD(hmm_dma, ext4_pmd)
{
	FS, "HMM_DAX_EXT4", PMD, 4
};

FIXTURE_VARIANT_ADD(hmm_dma, ext4_pmd_sync)
{
	SYNC, "HMM_DAX_EXT4", PMD, 4
};

FIXTURE_VARIANT_ADD(hmm_dma, ext4_private)
{
	PRIVATE, "HMM_DAX_EXT4", PTE, 1024
};

FIXTURE_VARIANT_ADD(hmm_dma, xfs_pte)
{
	FS, "HMM_DAX_XFS", PTE, 1024
};

FIXTURE_VARIANT_ADD(hmm_dma, xfs_pmd)
{
	FS, "HMM_DAX_XFS", PMD, 4
};

FIXTURE_VARIANT_ADD(hmm_dma, xfs_pmd_sync)
{
	SYNC, "HMM_DAX_XFS", PMD, 4
};

FIXTURE_VARIANT_ADD(hmm_dma, xfs_private)
{
	PRIVATE, "HMM_DAX_XFS", PTE, 1024
};

FIXTURE_VARIANT_ADD(hmm_dma, devdax_pte)
{
	DEV, "HMM_DAX_DEV_PTE", PTE, 1024
};

FIXTURE_VARIANT_ADD(hmm_dma, devdax_pmd)
{
	DEV, "HMM_DAX_DEV_PMD", PMD, 4
};

FIXTURE_VARIANT_ADD(hmm_dma, devdax_pud)
{
	DEV, "HMM_DAX_DEV_PUD", PUD, 2
};

FIXTURE_VARIANT_ADD(hmm_dma, anon_pte)
{
	ANON, NULL, PTE, 1024
};

FIXTURE_VARIANT_ADD(hmm_dma, anon_thp)
{
	THP, NULL, PMD, 4
};

FIXTURE_VARIANT_ADD(hmm_dma, hugetlb_pmd)
{
	HUGETLB, NULL, PMD, 4
};

/* BYTES that were never used before. */
static void stamp(void *buf)
{
	static __u64 n;
	__u64 v[2] = { ++n * 0x9e3779b97f4a7c15ULL, ~n };

	memcpy(buf, v, BYTES);
}

static bool zeroes(const char *buf, size_t size)
{
	while (size--)
		if (*buf++)
			return false;
	return true;
}

static int request(int fd, unsigned long req, void *args)
{
	while (ioctl(fd, req, args))
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int dma_mirror(int fd, char *addr, size_t size)
{
	struct test_hmm_dma_window win = {
		.addr = (uintptr_t)addr,
		.npages = size / psize(),
	};

	return request(fd, HMM_DMA_MIRROR, &win);
}

/* The number of leaves that were mapped anew, or -errno. */
static long dma_map(int fd, char *addr, size_t size, __u64 flags)
{
	struct test_hmm_dma_window win = {
		.addr = (uintptr_t)addr,
		.npages = size / psize(),
		.flags = flags,
	};
	int ret = request(fd, HMM_DMA_MAP, &win);

	return ret ?: (long)win.mapped;
}

static int dma_unmap(int fd, char *addr, size_t size)
{
	struct test_hmm_dma_window win = {
		.addr = (uintptr_t)addr,
		.npages = size / psize(),
	};

	return request(fd, HMM_DMA_UNMAP, &win);
}

static int dma_xfer(int fd, unsigned long req, __u64 addr, void *buf,
		    size_t size)
{
	struct test_hmm_dma_xfer xfer = {
		.addr = addr,
		.ptr = (uintptr_t)buf,
		.size = size,
	};

	return request(fd, req, &xfer);
}

static int dma_read(int fd, char *addr, void *buf)
{
	return dma_xfer(fd, HMM_DMA_READ, (uintptr_t)addr, buf, BYTES);
}

/*
 * To copy a large leaf may take longer than the driver waits for a fault: where
 * QEMU emulates each access, as with CXL, or where a leaf has 512 MiB.
 */
#define repeat_while_busy(call)				\
({							\
	int tries_ = 10;				\
	long ret_;					\
							\
	do {						\
		ret_ = (call);				\
	} while (ret_ == -EBUSY && --tries_);		\
	ret_;						\
})

static int dma_write(int fd, char *addr, void *buf)
{
	return dma_xfer(fd, HMM_DMA_WRITE, (uintptr_t)addr, buf, BYTES);
}

/* Have the device write where it should not be able to; what, does not matter. */
static int dma_intrude(int fd, __u64 dma)
{
	char buf[BYTES];

	stamp(buf);
	return dma_xfer(fd, HMM_DMA_RAW_WRITE, dma, buf, BYTES);
}

static struct test_hmm_dma_query dma_query(int fd, char *addr)
{
	struct test_hmm_dma_query query = { .addr = (uintptr_t)addr };

	if (request(fd, HMM_DMA_QUERY, &query))
		query.flags = 0;
	return query;
}

static bool dma_mapped(int fd, char *addr)
{
	return dma_query(fd, addr).flags & HMM_DMA_IS_MAPPED;
}

static bool dma_writable(int fd, char *addr)
{
	return dma_query(fd, addr).flags & HMM_DMA_IS_WRITABLE;
}

/* What the IOMMU has at a DMA address; 0: nothing. */
static __u64 iommu_phys(int fd, __u64 dma)
{
	struct test_hmm_dma_query query = { .dma = dma };

	return request(fd, HMM_DMA_IOVA, &query) ? ~0ULL : query.iommu_phys;
}

/* Has the IOMMU nothing for @size bytes, as far as three places can tell? */
static bool gone(int fd, __u64 dma, size_t size)
{
	size_t at[3] = { 0, size / 2, size - 1 };

	for (int i = 0; i < 3; i++) {
		__u64 phys = iommu_phys(fd, dma + at[i]);

		if (phys) {
			ksft_print_msg("DMA address %#llx is still translated, to %#llx\n",
				       dma + at[i], phys);
			return false;
		}
	}
	return true;
}

/*
 * Is [@addr, @addr + @size), a leaf or what of it is in the window, mapped as one
 * piece, and to the same memory in the IOMMU, in the record and, where @pagemap
 * is a file, in the CPU's page table? Looks at the first, middle and last page.
 */
static bool translated(int fd, char *addr, size_t size, bool write, int pagemap)
{
	size_t page = psize();
	size_t at[3] = { 0, size / 2 / page * page, size - page };
	struct test_hmm_dma_query first = dma_query(fd, addr);

	for (int i = 0; i < 3; i++) {
		struct test_hmm_dma_query q = dma_query(fd, addr + at[i]);
		unsigned long pfn = 0;

		if (pagemap >= 0)
			pfn = pagemap_get_pfn(pagemap, addr + at[i]);
		if (!(q.flags & HMM_DMA_IS_MAPPED) ||
		    !!(q.flags & HMM_DMA_IS_WRITABLE) != write ||
		    q.phys != q.iommu_phys || q.order != first.order ||
		    q.phys != first.phys + at[i] ||
		    q.dma != first.dma + at[i] ||
		    /* Without the privilege there are no PFNs. */
		    (pfn && pfn != -1UL && q.phys != pfn * page)) {
			ksft_print_msg("%p + %#zx: %#x order %u, dma %#llx\n",
				       addr, at[i], q.flags, q.order, q.dma);
			ksft_print_msg("phys %#llx, iommu %#llx, cpu %#lx\n",
				       q.phys, q.iommu_phys, pfn * page);
			return false;
		}
	}
	return true;
}

/* Map the memory of a variant; with page tables empty, if there is a file. */
static bool map_at(char *at, size_t size, enum backing backing, int fd)
{
	int flags = backing == SYNC ? MAP_SHARED_VALIDATE | MAP_SYNC :
		    backing == PRIVATE ? MAP_PRIVATE : MAP_SHARED;

	if (backing == ANON || backing == THP)
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	if (mmap(at, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) !=
	    at)
		return false;
	if (backing == ANON)
		madvise(at, size, MADV_NOHUGEPAGE);
	if (backing == THP)
		madvise(at, size, MADV_HUGEPAGE);
	return true;
}

FIXTURE_SETUP(hmm_dma)
{
	const char *where = variant->env ? getenv(variant->env) : NULL;
	size_t align, skew = 0;
	const char *missing;
	struct statx stx;
	struct stat st;
	int ret;

	self->fd = -1;
	self->dma = -1;
	self->page = psize();
	if (variant->env && !where)
		SKIP(return, "%s is not set", variant->env);
	self->leaf = leaf_size(variant->leaf, variant->env);
	if (!self->leaf || !pmd_size())
		SKIP(return, NO_LEAF);
	self->size = leaf_count(variant->leaf, variant->leaves) * self->leaf;
	self->dma = open(EDU, O_RDWR);
	if (self->dma < 0)
		SKIP(return, "no " EDU ": QEMU's edu, modprobe test_hmm_dma");

	switch (variant->backing) {
	case FS:
	case SYNC:
	case PRIVATE:
		self->file = true;
		self->fd = open(where, O_TMPFILE | O_RDWR, 0600);
		ASSERT_GE(self->fd, 0)
			TH_LOG("%s: %s", where, strerror(errno));
		ASSERT_EQ(statx(self->fd, "", AT_EMPTY_PATH, 0, &stx), 0);
		if (!(stx.stx_attributes & STATX_ATTR_DAX))
			SKIP(return, "%s is not mounted with -o dax", where);
		ASSERT_EQ(posix_fallocate(self->fd, 0, self->size), 0);
		/* Written blocks, so that a read fault finds no hole. */
		for (size_t i = 0; i < self->size; i += self->page)
			ASSERT_EQ(pwrite(self->fd, "", 1, i), 1);
		ASSERT_EQ(fsync(self->fd), 0);
		/*
		 * At addresses that are no multiple of a PMD where the file
		 * offset is one the CPU maps the file by pages.
		 */
		if (variant->backing == FS && variant->leaf == PTE)
			skew = self->page;
		else if (self->size >= pmd_size() &&
			 !has_pmd_extents(self->fd, self->size))
			SKIP(return, "%s gives files no blocks aligned to a PMD",
			     where);
		break;
	case DEV:
		self->fd = open(where, O_RDWR);
		ASSERT_GE(self->fd, 0)
			TH_LOG("%s: %s", where, strerror(errno));
		ASSERT_EQ(fstat(self->fd, &st), 0);
		ASSERT_EQ(dax_attr(&st, "align"), self->leaf)
			TH_LOG("%s is no device-dax of that alignment", where);
		ASSERT_GE(dax_attr(&st, "size"), self->size)
			TH_LOG("%s is too small", where);
		break;
	case HUGETLB:
		self->fd = hugetlb_file(self->size, &missing);
		if (self->fd < 0)
			SKIP(return, "%s", missing);
		break;
	case ANON:
	case THP:
		break;
	}

	align = leaf_align(self->leaf);
	self->map = reserve(self->size, align, skew);
	ASSERT_NE(self->map, NULL);
	if (!map_at(self->map, self->size, variant->backing, self->fd)) {
		if (variant->backing == SYNC && errno == EOPNOTSUPP)
			SKIP(return, "%s has no MAP_SYNC: its memory wants a flush",
			     where);
		ASSERT_TRUE(false)
			TH_LOG("mmap: %s", strerror(errno));
	}
	if (variant->backing == THP) {
		memset(self->map, 1, self->size);
		if (!check_huge_anon(self->map, self->size,
				     self->size / self->leaf, self->leaf))
			SKIP(return, "no transparent huge pages to be had");
		madvise(self->map, self->size, MADV_DONTNEED);
	}
	if (self->fd >= 0) {
		self->alias = reserve(self->size, align, skew);
		ASSERT_NE(self->alias, NULL);
		ASSERT_TRUE(map_at(self->alias, self->size, FS, self->fd));
	}
	ret = dma_mirror(self->dma, self->map, self->size);
	if (ret == -EOPNOTSUPP)
		SKIP(return,
		     "no window for " EDU ": its DMA bounces, or misses memory");
	ASSERT_EQ(ret, 0);
}

FIXTURE_TEARDOWN(hmm_dma)
{
	if (self->dma >= 0)
		close(self->dma);
	if (self->fd >= 0)
		close(self->fd);
}

/*
 * The device reads what the CPU wrote and the CPU what the device wrote, at both
 * ends and in the middle of leaves and where two of them meet, and nothing else
 * changes. The device takes the page faults.
 */
TEST_F_TIMEOUT(hmm_dma, transfer, 120)
{
	size_t at[] = {
		0, self->leaf / 2 + 64, self->leaf - BYTES / 2,
		self->size - BYTES
	};
	char *cpu = self->alias ?: self->map;
	char *before = malloc(2 * self->page);
	char bytes[BYTES], got[BYTES];
	char path[64];
	int fd = -1;

	ASSERT_NE(before, NULL);
	if (self->file) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
		fd = open(path, O_RDWR);
		ASSERT_GE(fd, 0);
	}

	for (int i = 0; i < 4; i++) {
		stamp(bytes);
		memcpy(cpu + at[i], bytes, BYTES);
		ASSERT_EQ(dma_read(self->dma, self->map + at[i], got), 0);
		ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
	}

	for (int i = 0; i < 4; i++) {
		size_t offset = at[i] / self->page * self->page;
		size_t n = i == 2 ? 2 * self->page : self->page;
		char old[BYTES];

		memcpy(old, cpu + at[i], BYTES);
		memcpy(before, self->map + offset, n);
		stamp(bytes);
		ASSERT_EQ(dma_write(self->dma, self->map + at[i], bytes), 0);
		memcpy(before + at[i] - offset, bytes, BYTES);
		ASSERT_EQ(memcmp(self->map + offset, before, n), 0);

		/* The same in other mappings and in the file, or not. */
		if (variant->backing == PRIVATE)
			memcpy(bytes, old, BYTES);
		ASSERT_EQ(memcmp(cpu + at[i], bytes, BYTES), 0);
		if (fd >= 0) {
			ASSERT_EQ(pread(fd, got, BYTES, at[i]), BYTES);
			ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
		}
	}
}

/*
 * Windows that begin and end at and in leaves: all leaves are in the IOMMU, as far
 * as they are in the window, where the device looks for them, and there large
 * entries are possible.
 */
TEST_F_TIMEOUT(hmm_dma, windows, 120)
{
	size_t skews[3] = { 0, self->page, pmd_size() };
	int pagemap = -1;

	/* To read that file splits PUD leaves. */
	if (variant->leaf != PUD) {
		pagemap = open("/proc/self/pagemap", O_RDONLY);
		ASSERT_GE(pagemap, 0);
	}

	for (int i = 0; i < (variant->leaf == PUD ? 6 : 4); i++) {
		size_t skew = skews[i / 2];
		__u64 flags = HMM_DMA_MAP_WRITE;
		/* Cut it at the start, or at both ends. */
		size_t size = self->size - skew - (i & 1 ? skew : 0);
		char *start = self->map + skew, *end = start + size;
		size_t leaves = 0, align = 1;
		char *addr, *next;
		__u64 base;

		if (!skew && (i & 1))	/* first for reading */
			flags &= ~HMM_DMA_MAP_WRITE;
		ASSERT_TRUE(self->fd < 0 ||
			    map_at(self->map, self->size, variant->backing,
				   self->fd));
		ASSERT_EQ(dma_mirror(self->dma, start, size), 0);
		ASSERT_FALSE(dma_mapped(self->dma, start));
		ASSERT_GE(dma_map(self->dma, start, size, flags), 1);
		base = dma_query(self->dma, start).dma;
		flags |= HMM_DMA_MAP_WRITE;
		ASSERT_GE(repeat_while_busy(dma_map(self->dma, start, size,
						    flags)), 0);

		if (size >= leaf_align(self->leaf))
			align = leaf_align(self->leaf);
		for (addr = start; addr < end; addr = next, leaves++) {
			size_t in = (addr - self->map) % self->leaf;

			next = addr + self->leaf - in;
			if (next > end)
				next = end;
			ASSERT_TRUE(translated(self->dma, addr, next - addr,
					       true, pagemap));
			ASSERT_EQ(self->page << dma_query(self->dma, addr).order,
				  self->leaf);
		}
		/* Addresses do not change, and large leaves can be large. */
		ASSERT_EQ(dma_query(self->dma, start).dma, base);
		ASSERT_EQ((base - (uintptr_t)start) % align, 0);

		/* Again: nothing to be done, for any part. */
		ASSERT_EQ(dma_map(self->dma, start, size, flags), 0);
		ASSERT_EQ(dma_map(self->dma, end - self->page, self->page,
				  flags), 0);
		ASSERT_EQ(dma_map(self->dma, start, self->page,
				  HMM_DMA_MAP_SNAPSHOT), 0);
		/* All leaves are mapped anew in a new window. */
		ASSERT_EQ(dma_mirror(self->dma, start, size), 0);
		ASSERT_TRUE(gone(self->dma, base, size));
		ASSERT_EQ(dma_map(self->dma, start, size, flags), leaves);

		if (skew && (i & 1)) {
			char bytes[BYTES];

			stamp(bytes);
			ASSERT_EQ(dma_write(self->dma, start, bytes), 0);
			ASSERT_EQ(memcmp(start, bytes, BYTES), 0);
			stamp(bytes);
			ASSERT_EQ(dma_write(self->dma, end - BYTES, bytes), 0);
			ASSERT_EQ(memcmp(end - BYTES, bytes, BYTES), 0);
		}
	}
}

/* A part of a leaf is asked for: all of it comes, if it is in the window. */
TEST_F_TIMEOUT(hmm_dma, part_of_leaf, 60)
{
	char *middle = self->map + self->leaf / 2 / self->page * self->page;

	ASSERT_EQ(dma_mirror(self->dma, self->map, self->size), 0);
	ASSERT_EQ(dma_map(self->dma, middle, self->page, HMM_DMA_MAP_WRITE), 1);
	ASSERT_TRUE(translated(self->dma, self->map, self->leaf, true, -1));
	ASSERT_FALSE(dma_mapped(self->dma, self->map + self->leaf));
	ASSERT_EQ(dma_map(self->dma, self->map, 2 * self->leaf,
			  HMM_DMA_MAP_WRITE), 1);
}

/* The driver takes a part of a leaf back: all of it goes, and nothing else. */
TEST_F_TIMEOUT(hmm_dma, unmap_part, 60)
{
	size_t last = self->leaf - self->page;
	size_t at[3] = { 0, last / 2 / self->page * self->page, last };
	char bytes[BYTES], got[BYTES];
	char *leaf = self->map + self->leaf;
	size_t n = self->size / self->leaf;
	char *start = self->map + self->page;
	__u64 dma;

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(dma_map(self->dma, self->map, self->size,
				  HMM_DMA_MAP_WRITE), i ? 1 : n);
		dma = dma_query(self->dma, leaf).dma;
		ASSERT_EQ(dma_unmap(self->dma, leaf + at[i], self->page), 0);
		ASSERT_TRUE(gone(self->dma, dma, self->leaf));
		ASSERT_TRUE(translated(self->dma, self->map, self->leaf, true,
				       -1));
		for (size_t j = 2; j < n; j++)
			ASSERT_TRUE(translated(self->dma,
					       self->map + j * self->leaf,
					       self->leaf, true, -1));
	}
	stamp(bytes);
	memcpy(leaf, bytes, BYTES);
	ASSERT_EQ(dma_intrude(self->dma, dma), 0);
	ASSERT_EQ(memcmp(leaf, bytes, BYTES), 0);
	ASSERT_EQ(dma_read(self->dma, leaf, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);

	/* The window begins in a leaf; two leaves are cut at once. */
	ASSERT_EQ(dma_mirror(self->dma, start, self->size - self->page), 0);
	ASSERT_GE(dma_map(self->dma, start, self->size - self->page,
			  HMM_DMA_MAP_WRITE), 1);
	dma = dma_query(self->dma, start).dma;
	leaf += self->leaf == self->page ? self->page : 0;
	ASSERT_EQ(dma_unmap(self->dma, leaf - self->page, 2 * self->page), 0);
	ASSERT_TRUE(gone(self->dma, dma, leaf + self->leaf - start));
	if (leaf + self->leaf < self->map + self->size)
		ASSERT_TRUE(translated(self->dma, leaf + self->leaf, self->leaf,
				       true, -1));
}

/* Read-only memory is read, and neither driver nor IOMMU allow more. */
TEST_F_TIMEOUT(hmm_dma, read_only, 60)
{
	char *addr = self->map + self->leaf / 2;
	char *page = self->map + self->leaf / 2 / self->page * self->page;
	char bytes[BYTES], got[BYTES];
	__u64 dma;

	stamp(bytes);
	memcpy(addr, bytes, BYTES);
	ASSERT_EQ(mprotect(self->map, self->size, PROT_READ), 0);

	ASSERT_EQ(dma_map(self->dma, page, self->page, HMM_DMA_MAP_WRITE),
		  -EPERM);
	ASSERT_FALSE(dma_mapped(self->dma, addr));
	ASSERT_EQ(dma_map(self->dma, page, self->page, 0), 1);
	ASSERT_TRUE(translated(self->dma, page, self->page, false, -1));
	dma = dma_query(self->dma, addr).dma;

	ASSERT_EQ(dma_write(self->dma, addr, got), -EPERM);
	ASSERT_TRUE(translated(self->dma, page, self->page, false, -1));
	/* Nothing but the permission can stop that. */
	ASSERT_EQ(dma_intrude(self->dma, dma), 0);
	ASSERT_EQ(memcmp(addr, bytes, BYTES), 0);
	ASSERT_EQ(dma_read(self->dma, addr, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);

	ASSERT_EQ(mprotect(self->map, self->size, PROT_READ | PROT_WRITE), 0);
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, addr, bytes), 0);
	ASSERT_EQ(memcmp(addr, bytes, BYTES), 0);
	ASSERT_EQ(dma_query(self->dma, addr).dma, dma);
}

/* Mapped for reading first, then for writing. */
TEST_F_TIMEOUT(hmm_dma, upgrade, 60)
{
	char bytes[BYTES];
	__u64 dma;
	bool write;

	ASSERT_GE(dma_map(self->dma, self->map, self->leaf, 0), 1);
	dma = dma_query(self->dma, self->map).dma;
	write = dma_writable(self->dma, self->map);
	/* Read faults map nothing that is dirty, but for hugetlb's. */
	if (variant->backing != HUGETLB)
		ASSERT_FALSE(write);

	ASSERT_EQ(dma_map(self->dma, self->map, self->leaf, HMM_DMA_MAP_WRITE),
		  write ? 0 : 1);
	ASSERT_TRUE(translated(self->dma, self->map, self->leaf, true, -1));
	ASSERT_EQ(dma_query(self->dma, self->map).dma, dma);
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, self->map, bytes), 0);
	ASSERT_EQ(memcmp(self->map, bytes, BYTES), 0);
}

/*
 * The start of all revoke tests: two leaves are mapped for writing; the first
 * is at *@dma and has @bytes in its middle, at @at.
 */
static bool arm(int fd, char *map, size_t leaf, char *bytes, __u64 *dma,
		size_t *at)
{
	*at = leaf / 2;
	stamp(bytes);
	memcpy(map + *at, bytes, BYTES);
	if (dma_map(fd, map, 2 * leaf, HMM_DMA_MAP_WRITE) != 2 ||
	    !translated(fd, map, leaf, true, -1) ||
	    !translated(fd, map + leaf, leaf, true, -1))
		return false;
	*dma = dma_query(fd, map).dma;
	return true;
}

TEST_F_TIMEOUT(hmm_dma, munmap, 60)
{
	char bytes[BYTES], got[BYTES];
	__u64 dma;
	size_t at;

	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	if (variant->backing == PRIVATE)
		memcpy(bytes, self->alias + at, BYTES);

	ASSERT_EQ(munmap(self->map, self->leaf), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_FALSE(dma_mapped(self->dma, self->map));
	/* To cut a mapping invalidates the PMD around the place. */
	if (self->leaf > self->page)
		ASSERT_TRUE(translated(self->dma, self->map + self->leaf,
				       self->leaf, true, -1));
	ASSERT_EQ(dma_read(self->dma, self->map, got), -EFAULT);
	if (self->alias)
		ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	if (!self->alias)
		memset(bytes, 0, BYTES);

	ASSERT_TRUE(map_at(self->map, self->leaf, variant->backing, self->fd));
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
	ASSERT_EQ(memcmp(self->map + at, bytes, BYTES), 0);
}

TEST_F_TIMEOUT(hmm_dma, mprotect, 60)
{
	char bytes[BYTES], got[BYTES];
	__u64 dma;
	size_t at;

	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	ASSERT_EQ(mprotect(self->map, self->leaf, PROT_READ), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_EQ(dma_write(self->dma, self->map + at, got), -EPERM);
	ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	ASSERT_EQ(memcmp(self->map + at, bytes, BYTES), 0);
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);

	/* x86: pud_present() is false for PROT_NONE, and mm/ warns of that. */
	if (variant->leaf == PUD)
		return;
	ASSERT_EQ(mprotect(self->map, self->leaf, PROT_NONE), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_NE(dma_map(self->dma, self->map, self->page, 0), 0);
	ASSERT_FALSE(dma_mapped(self->dma, self->map));
}

TEST_F_TIMEOUT(hmm_dma, dontneed, 60)
{
	char bytes[BYTES], got[BYTES];
	__u64 dma;
	size_t at;

	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	ASSERT_EQ(madvise(self->map, self->leaf, MADV_DONTNEED), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	if (!self->alias)
		memset(bytes, 0, BYTES);
	else
		memcpy(bytes, self->alias + at, BYTES);
	if (self->alias)
		ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, self->map + at, bytes), 0);
	ASSERT_EQ(memcmp(self->map + at, bytes, BYTES), 0);
}

/*
 * MADV_FREE makes the pages clean. What the device writes then is not dropped
 * with them.
 */
TEST_F_TIMEOUT(hmm_dma, madv_free, 60)
{
	char bytes[BYTES];
	cpu_set_t cpu;
	__u64 dma;
	size_t at;

	if (self->alias)
		SKIP(return, NOT_HERE "MADV_FREE is for anonymous memory");
	/* Reclaim finds no page that waits for the LRU list of another CPU. */
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	ASSERT_EQ(sched_setaffinity(0, sizeof(cpu), &cpu), 0);
	ASSERT_EQ(madvise(self->map, self->leaf, MADV_DONTNEED), 0);
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	ASSERT_EQ(madvise(self->map, self->leaf, MADV_FREE), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, self->map + at, bytes), 0);
	ASSERT_EQ(madvise(self->map, self->leaf, MADV_PAGEOUT), 0);
	ASSERT_FALSE(dma_mapped(self->dma, self->map + at));
	ASSERT_EQ(memcmp(self->map + at, bytes, BYTES), 0);
}

TEST_F_TIMEOUT(hmm_dma, mremap, 60)
{
	char bytes[BYTES], got[BYTES];
	__u64 dma;
	char *to;
	size_t at;

	/* get_old_pud() takes the leaf for damage and clears it. */
	if (variant->leaf == PUD)
		SKIP(return, NOT_HERE "mremap() loses PUD leaves: \"bad pud\"");
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	to = reserve(self->leaf, self->leaf, 0);
	ASSERT_NE(to, NULL);
	if (mremap(self->map, self->leaf, self->leaf,
		   MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
		SKIP(return, "mremap: %s", strerror(errno));
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	ASSERT_EQ(memcmp(to + at, bytes, BYTES), 0);
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), -EFAULT);
	if (self->leaf > self->page)
		ASSERT_TRUE(translated(self->dma, self->map + self->leaf,
				       self->leaf, true, -1));

	/* In a window around the new place. */
	ASSERT_EQ(dma_mirror(self->dma, to, self->leaf), 0);
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, to + at, bytes), 0);
	ASSERT_EQ(memcmp(to + at, bytes, BYTES), 0);
}

TEST_F_TIMEOUT(hmm_dma, punch_hole, 60)
{
	char bytes[BYTES], got[BYTES];
	__u64 dma;
	size_t at;

	if (!self->file && variant->backing != HUGETLB)
		SKIP(return, NOT_HERE "no holes in that memory");
	if (variant->backing == PRIVATE)
		SKIP(return, NOT_HERE "a private copy stays");
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	ASSERT_EQ(fallocate(self->fd, FALLOC_FL_PUNCH_HOLE |
			    FALLOC_FL_KEEP_SIZE, 0, self->leaf), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	ASSERT_TRUE(zeroes(self->alias, self->leaf));
	/* What is read is a hole, what is written makes a block. */
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), 0);
	ASSERT_TRUE(zeroes(got, BYTES));
	if (self->file)
		ASSERT_FALSE(dma_writable(self->dma, self->map + at));
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, self->map + at, bytes), 0);
	ASSERT_EQ(memcmp(self->alias + at, bytes, BYTES), 0);
	ASSERT_TRUE(zeroes(self->alias, at));
	ASSERT_TRUE(zeroes(self->alias + at + BYTES, self->leaf - at - BYTES));
}

TEST_F_TIMEOUT(hmm_dma, truncate, 60)
{
	char bytes[BYTES], got[BYTES];
	__u64 dma;
	size_t at;

	if (!self->file && variant->backing != HUGETLB)
		SKIP(return, NOT_HERE "that memory cannot be truncated");
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), -EFAULT);
	ASSERT_EQ(ftruncate(self->fd, self->size), 0);
	ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), 0);
	ASSERT_TRUE(zeroes(got, BYTES));
	ASSERT_TRUE(zeroes(self->map, self->leaf));
}

/* A file system that cleans a file wants to know the next write to it. */
TEST_F_TIMEOUT(hmm_dma, fsync, 60)
{
	char bytes[BYTES];
	__u64 dma;
	size_t at;

	if (!self->file || variant->backing == PRIVATE)
		SKIP(return, NOT_HERE "no shared mapping of a file");
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	ASSERT_EQ(fsync(self->fd), 0);
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	ASSERT_EQ(memcmp(self->map + at, bytes, BYTES), 0);
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, self->map + at, bytes), 0);
	ASSERT_EQ(memcmp(self->alias + at, bytes, BYTES), 0);
}

/* After a fork the device must not write to what has become the child's, too. */
TEST_F_TIMEOUT(hmm_dma, fork, 60)
{
	char bytes[BYTES], old[BYTES];
	int go[2], status;
	__u64 dma;
	size_t at;
	pid_t pid;

	if (self->alias && variant->backing != PRIVATE)
		SKIP(return, NOT_HERE "shared memory stays shared");
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, old, &dma, &at));
	ASSERT_EQ(pipe(go), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		char c;

		close(go[1]);
		while (read(go[0], &c, 1))
			;
		_exit(memcmp(self->map + at, old, BYTES) ? 1 : 0);
	}
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, self->map + at, bytes), 0);
	ASSERT_EQ(memcmp(self->map + at, bytes, BYTES), 0);
	close(go[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

/*
 * A process exits with memory mapped. Its file stays open, so it is not closing
 * it that takes the memory from the device.
 */
TEST_F_TIMEOUT(hmm_dma, exit, 60)
{
	struct {
		__u64 dma;
		int fd;
	} child = {};
	int tell[2], go[2], status, pidfd, fd;
	struct test_hmm_dma_stats stats;
	char bytes[BYTES];
	pid_t pid;
	char c;

	stamp(bytes);
	memcpy(self->map, bytes, BYTES);
	ASSERT_EQ(pipe(tell), 0);
	ASSERT_EQ(pipe(go), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(go[1]);
		child.fd = open(EDU, O_RDWR);
		if (dma_mirror(child.fd, self->map, self->size) ||
		    dma_map(child.fd, self->map, self->leaf,
			    HMM_DMA_MAP_WRITE) < 1)
			_exit(1);
		child.dma = dma_query(child.fd, self->map).dma;
		if (write(tell[1], &child, sizeof(child)) != sizeof(child) ||
		    read(go[0], &c, 1))
			_exit(1);
		_exit(0);
	}
	close(tell[1]);
	ASSERT_EQ(read(tell[0], &child, sizeof(child)), sizeof(child));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_GE(pidfd, 0);
	fd = syscall(SYS_pidfd_getfd, pidfd, child.fd, 0);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(request(fd, HMM_DMA_STATS, &stats), 0);
	ASSERT_NE(iommu_phys(self->dma, child.dma), 0);

	close(go[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_EQ(request(fd, HMM_DMA_STATS, &stats), -ESRCH);
	ASSERT_TRUE(gone(self->dma, child.dma, self->leaf));
	ASSERT_EQ(dma_intrude(self->dma, child.dma), 0);
	ASSERT_EQ(memcmp(self->map, bytes, BYTES), 0);
	close(fd);
}

/*
 * A page of a leaf changes: all of the leaf is taken back, and nothing else. The
 * rest can be mapped again, page by page.
 */
TEST_F_TIMEOUT(hmm_dma, part_of_leaf_changes, 60)
{
	size_t last = self->leaf - self->page;
	size_t at[3] = { 0, last / 2 / self->page * self->page, last };
	char bytes[BYTES];
	__u64 dma;

	if (self->leaf == self->page || variant->backing == HUGETLB ||
	    variant->backing == DEV)
		SKIP(return, NOT_HERE "no part of a leaf can change");
	/* A write fault for each leaf, before the mapping is cut. */
	for (size_t i = 0; i < self->size; i += self->page)
		self->map[i] = 1;
	ASSERT_EQ(dma_map(self->dma, self->map, self->size, HMM_DMA_MAP_WRITE),
		  self->size / self->leaf);

	for (int i = 0; i < 3 && (i + 2) * self->leaf <= self->size; i++) {
		char *leaf = self->map + (i + 1) * self->leaf;
		char *page = leaf + at[i];

		ASSERT_TRUE(translated(self->dma, leaf, self->leaf, true, -1));
		dma = dma_query(self->dma, leaf).dma;
		ASSERT_EQ(i == 1 ? munmap(page, self->page) :
			  mprotect(page, self->page, PROT_READ), 0);

		ASSERT_TRUE(gone(self->dma, dma, self->leaf));
		ASSERT_FALSE(dma_mapped(self->dma, leaf));
		ASSERT_FALSE(dma_mapped(self->dma, page));
		for (char *other = leaf + self->leaf;
		     other < self->map + self->size; other += self->leaf)
			ASSERT_TRUE(translated(self->dma, other, self->leaf,
					       true, -1));
		ASSERT_TRUE(translated(self->dma, self->map, self->leaf, true,
				       -1));

		for (size_t j = 0; j < self->leaf; j += self->page) {
			if (leaf + j == page)
				continue;
			ASSERT_GE(dma_map(self->dma, leaf + j, self->page,
					  HMM_DMA_MAP_WRITE), 0);
			ASSERT_TRUE(translated(self->dma, leaf + j, self->page,
					       true, -1));
		}
		ASSERT_EQ(dma_map(self->dma, page, self->page,
				  HMM_DMA_MAP_WRITE),
			  i == 1 ? -EFAULT : -EPERM);
		ASSERT_TRUE(gone(self->dma, dma + at[i], self->page));
	}

	/* The first page of the second leaf is now there for reading only. */
	ASSERT_EQ(dma_map(self->dma, self->map + self->leaf, self->page, 0), 1);
	ASSERT_FALSE(dma_writable(self->dma, self->map + self->leaf));
	dma = dma_query(self->dma, self->map + self->leaf).dma;
	ASSERT_EQ(dma_intrude(self->dma, dma), 0);
	ASSERT_EQ(self->map[self->leaf], 1);
	ASSERT_TRUE(zeroes(self->map + self->leaf + 1, BYTES));
	/* The next one can be written. */
	stamp(bytes);
	ASSERT_EQ(dma_write(self->dma, self->map + self->leaf + self->page,
			    bytes), 0);
	ASSERT_EQ(memcmp(self->map + self->leaf + self->page, bytes, BYTES), 0);
}

/*
 * A page of a leaf is dropped, of memory that comes back whole by the next fault,
 * too: all of the leaf is taken back, on both sides of the cut, and the leaves
 * next to it are not.
 */
TEST_F_TIMEOUT(hmm_dma, part_of_leaf_dropped, 60)
{
	size_t last = self->leaf - self->page;
	size_t at[3] = { 0, last / 2 / self->page * self->page, last };
	size_t n = self->size / self->leaf;

	if (self->leaf == self->page || variant->backing == HUGETLB)
		SKIP(return, NOT_HERE "no part of a leaf can be dropped");

	for (int i = 0; i < 3; i++) {
		char *leaf = self->map + (i + 1) % n * self->leaf;
		char bytes[BYTES], got[BYTES];
		char *page = leaf + at[i];
		__u64 dma;

		/* Write faults, before the device's. */
		for (size_t j = 0; j < n; j++)
			self->map[j * self->leaf] = 1;
		stamp(bytes);
		memcpy(page, bytes, BYTES);
		ASSERT_GE(dma_map(self->dma, self->map, self->size,
				  HMM_DMA_MAP_WRITE), 0);
		ASSERT_TRUE(translated(self->dma, leaf, self->leaf, true, -1));
		dma = dma_query(self->dma, leaf).dma;

		ASSERT_EQ(madvise(page, self->page, MADV_DONTNEED), 0);
		ASSERT_TRUE(gone(self->dma, dma, self->leaf));
		if (at[i])
			ASSERT_EQ(iommu_phys(self->dma, dma + at[i] - 1), 0);
		if (at[i] < last)
			ASSERT_EQ(iommu_phys(self->dma, dma + at[i] +
					     self->page), 0);
		for (size_t j = 0; j < n; j++) {
			char *other = self->map + j * self->leaf;

			if (other != leaf && i == 0)
				ASSERT_TRUE(translated(self->dma, other,
						       self->leaf, true, -1));
		}

		if (!self->alias)
			memset(bytes, 0, BYTES);
		ASSERT_EQ(dma_read(self->dma, page, got), 0);
		ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
		stamp(bytes);
		ASSERT_EQ(dma_write(self->dma, page, bytes), 0);
		ASSERT_EQ(memcmp(page, bytes, BYTES), 0);
	}
}

/*
 * Of pages that are mapped one by one any can be taken back, however they lie in
 * memory: they are linked together, but not by a large entry of the IOMMU.
 */
TEST_F_TIMEOUT(hmm_dma, one_page_changes, 60)
{
	size_t n = self->size / self->page;
	size_t at[4] = { 0, n / 2, n / 2 + 2, n - 1 };
	__u64 dma;

	if (self->leaf != self->page)
		SKIP(return, NOT_HERE "only for leaves of one page");
	ASSERT_EQ(dma_map(self->dma, self->map, self->size, HMM_DMA_MAP_WRITE),
		  n);
	dma = dma_query(self->dma, self->map).dma;
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(madvise(self->map + at[i] * self->page, self->page,
				  MADV_DONTNEED), 0);
		for (size_t j = 0; j < n; j++) {
			char *page = self->map + j * self->page;

			if (j == at[i]) {
				ASSERT_FALSE(dma_mapped(self->dma, page));
				ASSERT_TRUE(gone(self->dma, dma + j * self->page,
						 self->page));
			} else {
				ASSERT_TRUE(translated(self->dma, page,
						       self->page, true, -1));
			}
		}
		ASSERT_EQ(dma_map(self->dma, self->map, self->size,
				  HMM_DMA_MAP_WRITE), 1);
	}
}

/* Two files that share their blocks, until the device writes to one. */
TEST_F_TIMEOUT(hmm_dma, reflink, 60)
{
	char bytes[BYTES], old[BYTES], got[BYTES];
	size_t at = self->leaf / 2;
	int clone;

	if (!self->file || variant->backing == PRIVATE)
		SKIP(return, NOT_HERE "no shared mapping of a file");
	stamp(old);
	memcpy(self->map + at, old, BYTES);
	clone = open(getenv(variant->env), O_TMPFILE | O_RDWR, 0600);
	ASSERT_GE(clone, 0);
	if (ioctl(clone, FICLONE, self->fd))
		SKIP(return, NOT_HERE "FICLONE: %s", strerror(errno));
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), 0);
	ASSERT_EQ(memcmp(got, old, BYTES), 0);
	ASSERT_FALSE(dma_writable(self->dma, self->map + at));
	stamp(bytes);
	ASSERT_EQ(repeat_while_busy(dma_write(self->dma, self->map + at, bytes)),
		  0);
	ASSERT_EQ(memcmp(self->map + at, bytes, BYTES), 0);
	ASSERT_EQ(pread(clone, got, BYTES, at), BYTES);
	ASSERT_EQ(memcmp(got, old, BYTES), 0);
}

/* Without IOMMU: the same logic, and addresses are physical ones. */
TEST_F_TIMEOUT(hmm_dma, direct, 60)
{
	int fd = open(DIRECT, O_RDWR);
	char bytes[BYTES];

	ASSERT_GE(fd, 0);
	for (int i = 0; i < 2; i++) {
		size_t skew = i ? self->page : 0;
		char *start = self->map + skew;
		size_t size = self->size - skew;

		ASSERT_EQ(dma_mirror(fd, start, size), 0);
		ASSERT_GE(dma_map(fd, start, size, HMM_DMA_MAP_WRITE),
			  size / self->leaf);
		for (size_t at = 0; at < size; at += self->leaf / 2) {
			char *addr = start + at / self->page * self->page;
			struct test_hmm_dma_query q = dma_query(fd, addr);

			ASSERT_EQ(q.flags, HMM_DMA_IS_MAPPED |
				  HMM_DMA_IS_WRITABLE);
			ASSERT_EQ(q.dma, q.phys);
			ASSERT_EQ(self->page << q.order, self->leaf);
		}
		ASSERT_EQ(dma_map(fd, start, size, HMM_DMA_MAP_WRITE), 0);
	}
	ASSERT_EQ(dma_read(fd, self->map + self->page, bytes), -EOPNOTSUPP);
	ASSERT_EQ(munmap(self->map + self->leaf, self->leaf), 0);
	ASSERT_FALSE(dma_mapped(fd, self->map + self->leaf));
	ASSERT_FALSE(dma_mapped(fd, self->map + 2 * self->leaf - self->page));
	if (self->leaf > self->page)
		ASSERT_TRUE(dma_mapped(fd, self->map + self->leaf -
				       self->page));
	close(fd);
}

#ifndef FAIL_NTH
#define FAIL_NTH	"/proc/self/fail-nth"
#define FAIL_PAGES	1
#endif

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		ret = -errno;
	close(fd);
	return ret;
}

/* Why allocations cannot be made to fail, or NULL. */
static const char *no_fault_injection(void)
{
	if (access(FAIL_NTH, W_OK))
		return "no CONFIG_FAULT_INJECTION";
	/* The IOMMU's page tables are single pages. */
	if (FAIL_PAGES &&
	    write_text("/sys/kernel/debug/fail_page_alloc/min-order", "0"))
		return "no CONFIG_FAIL_PAGE_ALLOC in debugfs";
	/* The record is allocated where that may sleep. */
	if (FAIL_PAGES &&
	    write_text("/sys/kernel/debug/failslab/ignore-gfp-wait", "N"))
		return "no CONFIG_FAILSLAB in debugfs";
	return NULL;
}

/*
 * Like dma_map() for writing, with the @n-th allocation failing. @reached tells
 * whether there were that many, or is -errno.
 */
static long dma_map_failing(int dma, char *addr, size_t size, int n,
			    int *reached)
{
	/* Opened before: that takes memory as well. */
	int fd = open(FAIL_NTH, O_RDWR);
	char text[16] = "";
	long ret = 0;

	snprintf(text, sizeof(text), "%d", n);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		*reached = -errno ?: -EIO;
		goto out;
	}
	ret = dma_map(dma, addr, size, HMM_DMA_MAP_WRITE);
	memset(text, 0, sizeof(text));
	if (pread(fd, text, sizeof(text) - 1, 0) <= 0 ||
	    pwrite(fd, "0", 1, 0) != 1)
		*reached = -errno ?: -EIO;
	else
		*reached = !atoi(text);
out:
	if (fd >= 0)
		close(fd);
	return ret;
}

/*
 * hmm_range_dma_map() runs out of memory at each place where it can: nothing of
 * it stays, all from before does, and the next try succeeds.
 */
TEST_F_TIMEOUT(hmm_dma, no_memory, 120)
{
	const char *missing = no_fault_injection();
	size_t half = self->size / 2;
	unsigned int failed = 0;

	/* The first leaf's tables serve all that are larger than a page. */
	if (self->leaf > self->page)
		SKIP(return, NOT_HERE "no memory is needed for the second leaf");
	if (missing)
		SKIP(return, "%s", missing);
	for (size_t i = 0; i < self->size; i += self->leaf)
		self->map[i] = 1;

	for (int n = 1; n < 1000; n++) {
		__u64 dma;
		int reached;
		long ret;

		/* A new window, of which the first page is mapped. */
		ASSERT_EQ(dma_mirror(self->dma, self->map, self->size), 0);
		ASSERT_EQ(dma_map(self->dma, self->map, self->page,
				  HMM_DMA_MAP_WRITE), 1);
		dma = dma_query(self->dma, self->map).dma;

		ret = dma_map_failing(self->dma, self->map, self->size, n,
				      &reached);
		ASSERT_GE(reached, 0);

		ASSERT_TRUE(translated(self->dma, self->map, self->leaf, true,
				       -1));
		if (ret < 0) {
			ASSERT_EQ(ret, -ENOMEM);
			failed++;
			ASSERT_TRUE(gone(self->dma, dma + self->leaf,
					 self->size - self->leaf));
			ASSERT_TRUE(gone(self->dma, dma + half,
					 self->size - half));
			for (size_t i = self->leaf; i < self->size;
			     i += self->leaf) {
				ASSERT_FALSE(dma_mapped(self->dma,
							self->map + i));
				ASSERT_EQ(iommu_phys(self->dma, dma + i), 0);
			}
			ret = dma_map(self->dma, self->map, self->size,
				      HMM_DMA_MAP_WRITE);
		}
		ASSERT_EQ(ret, self->size / self->leaf - 1);
		for (size_t i = 0; i < self->size; i += self->leaf)
			ASSERT_TRUE(translated(self->dma, self->map + i,
					       self->leaf, true, -1));
		if (!reached) {
			/* A node of the record and a table of the IOMMU. */
			TH_LOG("%u failures", failed);
			ASSERT_GE(failed, 2);
			return;
		}
	}
	ASSERT_TRUE(false)
		TH_LOG("no end of failures");
}

/* The same from nothing. */
TEST_F_TIMEOUT(hmm_dma, no_memory_cold, 120)
{
	const char *missing = no_fault_injection();
	size_t nleaves = self->size / self->leaf;
	unsigned int failed = 0;

	/* Tables that large leaves need are there from the windows before. */
	if (self->leaf > self->page)
		SKIP(return, NOT_HERE "no memory is needed for a large leaf");
	if (missing)
		SKIP(return, "%s", missing);
	for (size_t i = 0; i < self->size; i += self->leaf)
		self->map[i] = 1;

	for (int n = 1; n < 1000; n++) {
		int reached;
		long ret;

		ASSERT_EQ(dma_mirror(self->dma, self->map, self->size), 0);
		ret = dma_map_failing(self->dma, self->map, self->size, n,
				      &reached);
		ASSERT_GE(reached, 0);

		if (ret < 0) {
			ASSERT_EQ(ret, -ENOMEM);
			failed++;
			for (size_t i = 0; i < self->size; i += self->leaf)
				ASSERT_FALSE(dma_mapped(self->dma,
							self->map + i));
			ret = dma_map(self->dma, self->map, self->size,
				      HMM_DMA_MAP_WRITE);
		}
		ASSERT_EQ(ret, nleaves);
		for (size_t i = 0; i < self->size; i += self->leaf)
			ASSERT_TRUE(translated(self->dma, self->map + i,
					       self->leaf, true, -1));
		if (!reached) {
			TH_LOG("%u failures", failed);
			ASSERT_GE(failed, 1);
			return;
		}
	}
	ASSERT_TRUE(false)
		TH_LOG("no end of failures");
}

struct storm {
	char *map;
	size_t size, leaf;
	bool stop;
	unsigned long rounds;
};

static void *storm_cpu(void *arg)
{
	struct storm *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		size_t page = psize();
		char *leaf = s->map + s->rounds % (s->size / s->leaf) * s->leaf;

		switch (s->rounds++ % 4) {
		case 0:
			mprotect(leaf, s->leaf, PROT_READ);
			break;
		case 1:
			mprotect(s->map, s->size, PROT_READ | PROT_WRITE);
			break;
		case 2:
			madvise(leaf, s->leaf, MADV_DONTNEED);
			break;
		case 3:	/* page by page, where that is possible */
			mprotect(leaf + s->leaf / 2 / page * page, page,
				 PROT_READ);
			break;
		}
	}
	return NULL;
}

/* The CPU changes the mapping all the time while the device maps it. */
TEST_F_TIMEOUT(hmm_dma, storm, 60)
{
	struct storm s = {
		.map = self->map, .size = self->size, .leaf = self->leaf,
	};
	struct test_hmm_dma_stats stats;
	struct timespec now, start;
	unsigned int calls = 0;
	int pagemap = -1;
	long mapped = 0;
	pthread_t cpu;
	__u64 base;

	ASSERT_GE(dma_map(self->dma, self->map, self->page, 0), 1);
	base = dma_query(self->dma, self->map).dma;
	ASSERT_EQ(pthread_create(&cpu, NULL, storm_cpu, &s), 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		static const __u64 flags[4] = {
			0, 0, HMM_DMA_MAP_WRITE, HMM_DMA_MAP_SNAPSHOT,
		};
		size_t half = self->size / 2;
		char *at = self->map + (calls & 1 ? half : 0);
		long ret = dma_map(self->dma, at, half, flags[calls % 4]);

		ASSERT_TRUE(ret >= 0 || ret == -EPERM || ret == -EBUSY)
			TH_LOG("%s", strerror(-ret));
		if (ret > 0)
			mapped += ret;
		calls++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - start.tv_sec) * 1000 +
		 (now.tv_nsec - start.tv_nsec) / 1000000 < 700);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(pthread_join(cpu, NULL), 0);
	/* Each has had something to do, because of the other. */
	ASSERT_EQ(request(self->dma, HMM_DMA_STATS, &stats), 0);
	TH_LOG("%u calls mapped %ld leaves, %llu invalidations", calls, mapped,
	       stats.invalidations);
	ASSERT_GE(mapped, 2);
	ASSERT_GE(stats.invalidations, 2);

	/*
	 * What the record has, the IOMMU has, and nothing else, and so has the
	 * CPU. To read its page table from that file splits PUD leaves.
	 */
	if (variant->leaf != PUD) {
		pagemap = open("/proc/self/pagemap", O_RDONLY);
		ASSERT_GE(pagemap, 0);
	}
	for (size_t i = 0; i < self->size;
	     i += variant->leaf == PUD ? self->leaf / 16 : self->page) {
		struct test_hmm_dma_query q = dma_query(self->dma, self->map + i);
		__u64 phys = iommu_phys(self->dma, base + i);

		ASSERT_EQ(phys, q.flags ? q.phys : 0);
		if (q.flags && pagemap >= 0)
			ASSERT_EQ(pagemap_get_pfn(pagemap, self->map + i),
				  q.phys / self->page);
	}
	ASSERT_EQ(mprotect(self->map, self->size, PROT_READ | PROT_WRITE), 0);
	ASSERT_GE(dma_map(self->dma, self->map, self->size, HMM_DMA_MAP_WRITE),
		  0);
	for (size_t i = 0; i < self->size;
	     i += variant->leaf == PUD ? self->leaf / 16 : self->page)
		ASSERT_TRUE(translated(self->dma, self->map + i, self->page,
				       true, -1));
	ASSERT_EQ(munmap(self->map, self->size), 0);
	for (size_t i = 0; i < self->size;
	     i += variant->leaf == PUD ? self->leaf / 16 : self->page)
		ASSERT_EQ(iommu_phys(self->dma, base + i), 0);
}

struct rounds {
	pthread_barrier_t barrier;
	char *map;
	size_t size, leaf;
};

#define NROUNDS		20

static void *rounds_cpu(void *arg)
{
	struct rounds *r = arg;

	for (int i = 0; i < NROUNDS; i++) {
		pthread_barrier_wait(&r->barrier);
		for (size_t at = 0; at < r->size; at += r->leaf)
			madvise(r->map + at, r->leaf, MADV_DONTNEED);
		pthread_barrier_wait(&r->barrier);
	}
	return NULL;
}

/*
 * The CPU drops one leaf after another while the device maps them. After each
 * round the device has nothing that the CPU has not: what went after it was
 * faulted, and before it was mapped, is not mapped.
 */
TEST_F_TIMEOUT(hmm_dma, rounds, 120)
{
	struct rounds r = {
		.map = self->map, .size = self->size, .leaf = self->leaf,
	};
	long ret, mapped = 0;
	pthread_t cpu;
	int pagemap;

	if (variant->leaf == PUD)
		SKIP(return, NOT_HERE "to read the page table splits PUD leaves");
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(pagemap, 0);
	ASSERT_EQ(pthread_barrier_init(&r.barrier, NULL, 2), 0);
	ASSERT_EQ(pthread_create(&cpu, NULL, rounds_cpu, &r), 0);
	for (int i = 0; i < NROUNDS; i++) {
		pthread_barrier_wait(&r.barrier);
		ret = dma_map(self->dma, self->map, self->size,
			      HMM_DMA_MAP_WRITE);
		pthread_barrier_wait(&r.barrier);
		ASSERT_TRUE(ret >= 0 || ret == -EBUSY)
			TH_LOG("%s", strerror(-ret));
		if (ret > 0)
			mapped += ret;
		for (size_t at = 0; at < self->size; at += self->leaf) {
			struct test_hmm_dma_query q = dma_query(self->dma,
							   self->map + at);

			if (q.flags)
				ASSERT_EQ(pagemap_get_pfn(pagemap, self->map + at),
					  q.phys / self->page);
		}
	}
	ASSERT_EQ(pthread_join(cpu, NULL), 0);
	ASSERT_GE(mapped, NROUNDS / 2);
}

/* The CPU tries to read; SIGBUS may come for other reasons meanwhile. */
static sigjmp_buf bus_return;
static volatile sig_atomic_t bus_expected;

static void on_bus(int sig)
{
	if (bus_expected)
		siglongjmp(bus_return, 1);
}

static bool cpu_reads(const char *addr, void *buf)
{
	bool ok = false;

	bus_expected = 1;
	if (!sigsetjmp(bus_return, 1)) {
		memcpy(buf, addr, BYTES);
		ok = true;
	}
	bus_expected = 0;
	return ok;
}

/*
 * A page goes bad. Its leaf is taken from the device; then the page is to the
 * device what it is to the CPU, which for some memory is as good as ever, and the
 * others are as before.
 */
TEST_F_TIMEOUT(hmm_dma, hwpoison, 60)
{
	char bytes[BYTES], left[BYTES], right[BYTES], got[BYTES];
	char *page, *before, *after;
	__u64 dma;
	size_t at;
	long ret;

	if (!getenv("HMM_DMA_DESTROY"))
		SKIP(return, "destroys memory: HMM_DMA_DESTROY is not set");
	signal(SIGBUS, on_bus);
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	page = self->map + at / self->page * self->page;
	/* Hugetlb pages are bad as a whole; a page has neighbours in others. */
	before = page - self->page;
	after = page + self->page;
	if (variant->backing == HUGETLB || self->leaf == self->page) {
		before = NULL;
		after = self->map + self->leaf;
	}
	stamp(left);
	stamp(right);
	if (before)
		memcpy(before, left, BYTES);
	memcpy(after, right, BYTES);

	ASSERT_EQ(madvise(page, self->page, MADV_HWPOISON), 0)
		TH_LOG("MADV_HWPOISON: %s", strerror(errno));
	ASSERT_TRUE(gone(self->dma, dma, self->leaf));

	if (cpu_reads(self->map + at, got)) {
		TH_LOG("the CPU still reads the page");
		ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
		ASSERT_EQ(dma_read(self->dma, self->map + at, got), 0);
		ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
	} else {
		ret = dma_map(self->dma, page, self->page, 0);
		ASSERT_TRUE(ret == -EFAULT || ret == -EHWPOISON)
			TH_LOG("%s", strerror(-ret));
		ASSERT_FALSE(dma_mapped(self->dma, page));
		ASSERT_EQ(dma_write(self->dma, self->map + at, got), ret);
		ASSERT_TRUE(gone(self->dma, dma + at / self->page * self->page,
				 self->page));
		ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	}
	if (before) {
		ASSERT_TRUE(cpu_reads(before, got));
		ASSERT_EQ(memcmp(got, left, BYTES), 0);
		ASSERT_EQ(dma_read(self->dma, before, got), 0);
		ASSERT_EQ(memcmp(got, left, BYTES), 0);
	}
	ASSERT_EQ(dma_read(self->dma, after, got), 0);
	ASSERT_EQ(memcmp(got, right, BYTES), 0);
	stamp(right);
	ASSERT_EQ(dma_write(self->dma, after, right), 0);
	ASSERT_EQ(memcmp(after, right, BYTES), 0);
}

/* The device that a device-dax or a file system is on, and its driver. */
struct provider {
	char driver[PATH_MAX];	/* folder in sysfs */
	char name[64];
	int result;		/* of unbinding */
	bool done;
};

static bool find_provider(const struct stat *st, struct provider *p)
{
	char path[PATH_MAX], real[PATH_MAX];
	bool chr = S_ISCHR(st->st_mode);
	dev_t dev = chr ? st->st_rdev : st->st_dev;

	snprintf(path, sizeof(path), "/sys/dev/%s/%u:%u%s",
		 chr ? "char" : "block", major(dev), minor(dev),
		 chr ? "" : "/device");
	if (!realpath(path, real))
		return false;
	snprintf(p->name, sizeof(p->name), "%s", strrchr(real, '/') + 1);
	strncat(path, "/driver", sizeof(path) - strlen(path) - 1);
	return realpath(path, p->driver);
}

static int provider_do(struct provider *p, const char *what)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", p->driver, what);
	return write_text(path, p->name);
}

static void *unbind_provider(void *arg)
{
	struct provider *p = arg;

	p->result = provider_do(p, "unbind");
	__atomic_store_n(&p->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool done_soon(struct provider *p)
{
	for (int i = 0; i < 50; i++) {
		if (__atomic_load_n(&p->done, __ATOMIC_ACQUIRE))
			return true;
		poll(NULL, 0, 100);
	}
	return false;
}

/*
 * The driver of the memory is unbound. A device-dax and a file system that is told
 * (xfs with its reverse mapping) take the memory from everybody, and the device
 * cannot reach it any more.
 */
TEST_F_TIMEOUT(hmm_dma, namespace, 120)
{
	char bytes[BYTES], got[BYTES];
	struct provider provider = {};
	struct fiemap_one {
		struct fiemap map;
		struct fiemap_extent extent;
	} fm = {
		.map.fm_length = self->page,
		.map.fm_extent_count = 1,
	};
	char node[64] = "";
	struct stat st;
	pthread_t thread;
	__u64 dma;
	size_t at;
	int fd;

	if (!getenv("HMM_DMA_DESTROY"))
		SKIP(return, "destroys memory: HMM_DMA_DESTROY is not set");
	if (variant->backing != FS && variant->backing != DEV)
		SKIP(return, NOT_HERE "no driver of its own");
	/* Nobody takes a file from who maps it, and exit() then crashes. */
	if (variant->env && !strcmp(variant->env, "HMM_DAX_EXT4"))
		SKIP(return, NOT_HERE "ext4 is not told");
	signal(SIGBUS, on_bus);
	ASSERT_EQ(fstat(self->fd, &st), 0);
	ASSERT_TRUE(find_provider(&st, &provider));
	ASSERT_TRUE(arm(self->dma, self->map, self->leaf, bytes, &dma, &at));
	if (self->file) {
		char path[64], target[PATH_MAX] = "";

		ASSERT_EQ(fsync(self->fd), 0);
		fm.map.fm_start = at / self->page * self->page;
		ASSERT_EQ(ioctl(self->fd, FS_IOC_FIEMAP, &fm), 0);
		ASSERT_EQ(fm.map.fm_mapped_extents, 1);
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u",
			 major(st.st_dev), minor(st.st_dev));
		ASSERT_GE(readlink(path, target, sizeof(target) - 1), 0);
		snprintf(node, sizeof(node), "/dev/%.32s",
			 strrchr(target, '/') + 1);
		/* fsync() has taken the leaf back. */
		ASSERT_GE(dma_map(self->dma, self->map, self->leaf,
				  HMM_DMA_MAP_WRITE), 1);
	}
	munmap(self->alias, self->size);

	ASSERT_EQ(pthread_create(&thread, NULL, unbind_provider, &provider), 0);
	ASSERT_TRUE(done_soon(&provider));
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	ASSERT_EQ(provider.result, 0)
		TH_LOG("unbind: %s", strerror(-provider.result));

	ASSERT_TRUE(gone(self->dma, dma, self->leaf));
	ASSERT_EQ(dma_intrude(self->dma, dma + at), 0);
	ASSERT_FALSE(cpu_reads(self->map + at, got));
	ASSERT_EQ(dma_read(self->dma, self->map + at, got), -EFAULT);
	ASSERT_FALSE(dma_mapped(self->dma, self->map + at));

	/* What is in the memory, when it is back. */
	ASSERT_EQ(provider_do(&provider, "bind"), 0);
	if (self->file) {
		fd = open(node, O_RDONLY);
		ASSERT_GE(fd, 0)
			TH_LOG("%s: %s", node, strerror(errno));
		ASSERT_EQ(pread(fd, got, BYTES, fm.extent.fe_physical +
				(fm.map.fm_start - fm.extent.fe_logical) +
				at % self->page), BYTES);
	} else {
		char *map;

		fd = open(getenv(variant->env), O_RDWR);
		ASSERT_GE(fd, 0);
		map = mmap(NULL, self->size, PROT_READ, MAP_SHARED, fd, 0);
		ASSERT_NE(map, MAP_FAILED);
		memcpy(got, map + at, BYTES);
	}
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
	close(fd);
}

/* The driver goes while files are open. */
TEST(unbind)
{
	static const char driver[] = "/sys/bus/pci/drivers/test_hmm_dma";
	char path[128], slot[32] = "", bytes[BYTES], old[BYTES];
	struct test_hmm_dma_stats before, after;
	size_t page = psize();
	struct dirent *d;
	__u64 dma;
	char *map;
	int fd;
	DIR *dir;

	fd = open(EDU, O_RDWR);
	if (fd < 0)
		SKIP(return, "no " EDU);
	dir = opendir(driver);
	ASSERT_NE(dir, NULL);
	while ((d = readdir(dir)))
		if (strchr(d->d_name, ':'))
			snprintf(slot, sizeof(slot), "%.31s", d->d_name);
	closedir(dir);
	ASSERT_NE(slot[0], 0);

	map = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(map, MAP_FAILED);
	ASSERT_EQ(dma_mirror(fd, map, 4 * page), 0);
	ASSERT_EQ(dma_map(fd, map, 4 * page, HMM_DMA_MAP_WRITE), 4);
	dma = dma_query(fd, map).dma;
	ASSERT_NE(iommu_phys(fd, dma), 0);
	stamp(old);
	memcpy(map, old, BYTES);

	snprintf(path, sizeof(path), "%s/unbind", driver);
	ASSERT_EQ(write_text(path, slot), 0);
	ASSERT_EQ(dma_read(fd, map, bytes), -ENODEV);
	ASSERT_EQ(dma_mirror(fd, map, page), -ENODEV);
	ASSERT_EQ(access(EDU, F_OK), -1);
	/* The notifier is gone as well. */
	ASSERT_EQ(request(fd, HMM_DMA_STATS, &before), 0);
	ASSERT_EQ(munmap(map + page, page), 0);
	ASSERT_EQ(request(fd, HMM_DMA_STATS, &after), 0);
	ASSERT_EQ(after.invalidations, before.invalidations);

	snprintf(path, sizeof(path), "%s/bind", driver);
	ASSERT_EQ(write_text(path, slot), 0);
	ASSERT_EQ(dma_read(fd, map, bytes), -ENODEV);
	close(fd);

	fd = open(EDU, O_RDWR);
	ASSERT_GE(fd, 0);
	ASSERT_TRUE(gone(fd, dma, page));
	ASSERT_EQ(dma_intrude(fd, dma), 0);
	ASSERT_EQ(memcmp(map, old, BYTES), 0);
	ASSERT_EQ(dma_mirror(fd, map, page), 0);
	ASSERT_EQ(dma_read(fd, map, bytes), 0);
	ASSERT_EQ(memcmp(bytes, old, BYTES), 0);
}

/*
 * Move a page of this process to the memory of one of lib/test_hmm's devices: 0 and
 * 1 have private memory, 2 and 3 coherent, if test_hmm was told where. The device's
 * file, or -1.
 */
static int move_to_device(int nr, char *page)
{
	static char copy[1 << 16];
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)page,
		.ptr = (uintptr_t)copy,
		.npages = 1,
	};
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/hmm_dmirror%d", nr);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return -1;
	if (request(fd, HMM_DMIRROR_MIGRATE_TO_DEV, &cmd) || cmd.cpages != 1) {
		ksft_print_msg("%s took %llu pages\n", path, cmd.cpages);
		close(fd);
		return -1;
	}
	return fd;
}

/* A line of a file of the group, or its only number; -1: there is none. */
static long memcg_read(const char *group, const char *file, const char *format)
{
	char path[128], line[128];
	long bytes = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, format, &bytes) == 1)
			break;
	if (f)
		fclose(f);
	return bytes;
}

static long memcg_slab(const char *group)
{
	return memcg_read(group, "memory.stat", "slab_unreclaimable %ld");
}

/* Wait until it is @less at the most, or @more at the least; that takes seconds. */
static bool memcg_slab_is(const char *group, long less, long more)
{
	long bytes;

	for (int i = 0; i < 100; i++) {
		bytes = memcg_slab(group);
		if (bytes >= 0 && (bytes <= less || bytes >= more))
			return true;
		usleep(100000);
	}
	ksft_print_msg("slab_unreclaimable is %ld\n", bytes);
	return false;
}

#define MEMCG_NODES	4096
#define MEMCG_NODE	256	/* bytes that a node of the record has at least */

/*
 * The record is charged to the process, and comes back. A process that has no memory
 * for it is treated as any other that needs too much.
 */
TEST(memcg)
{
	char mount_point[] = "/tmp/hmm_dma_XXXXXX", group[64], path[128], limit[32];
	size_t page = psize(), step = 512 * page, size = MEMCG_NODES * step;
	int status, in[2], out[2];
	char turn;
	pid_t pid;
	long slab;

	if (access(EDU, F_OK))
		SKIP(return, "no " EDU);
	ASSERT_NE(mkdtemp(mount_point), NULL);
	if (mount("none", mount_point, "cgroup2", 0, NULL)) {
		rmdir(mount_point);
		SKIP(return, "no cgroup2");
	}
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", mount_point);
	ASSERT_EQ(write_text(path, "+memory"), 0);
	snprintf(group, sizeof(group), "%s/hmm_dma", mount_point);
	ASSERT_EQ(mkdir(group, 0700), 0);
	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	ASSERT_EQ(pipe(in) | pipe(out), 0);

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		char *map;
		int dma;

		if (write_text(path, "0"))
			_exit(1);
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			   MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		dma = open(EDU, O_RDWR);
		if (dma < 0 || map == MAP_FAILED ||
		    madvise(map, size, MADV_NOHUGEPAGE) ||
		    dma_mirror(dma, map, size))
			_exit(2);
		for (size_t at = 0; at < size; at += step)
			map[at] = 1;
		/* Map, unmap, and map again when told so. */
		for (int round = 0; round < 3; round++) {
			if (write(out[1], "x", 1) != 1 || read(in[0], &turn, 1) != 1)
				_exit(3);
			for (size_t at = 0; at < size; at += step)
				if (round == 1 ? dma_unmap(dma, map + at, page) :
				    dma_map(dma, map + at, page,
					    HMM_DMA_MAP_WRITE) != 1)
					_exit(4);
		}
		_exit(5);
	}

	ASSERT_EQ(read(out[0], &turn, 1), 1);
	slab = memcg_slab(group);
	ASSERT_GE(slab, 0);
	ASSERT_EQ(write(in[1], "x", 1), 1);
	ASSERT_EQ(read(out[0], &turn, 1), 1);
	ASSERT_TRUE(memcg_slab_is(group, -1, slab + MEMCG_NODES * MEMCG_NODE));
	ASSERT_EQ(write(in[1], "x", 1), 1);
	ASSERT_EQ(read(out[0], &turn, 1), 1);
	ASSERT_TRUE(memcg_slab_is(group, slab + MEMCG_NODES * MEMCG_NODE / 4,
				  LONG_MAX));

	/*
	 * No more than it has by now. memory.high gives back what is charged ahead
	 * for each CPU.
	 */
	snprintf(path, sizeof(path), "%s/memory.high", group);
	ASSERT_EQ(write_text(path, "0"), 0);
	ASSERT_EQ(write_text(path, "max"), 0);
	snprintf(limit, sizeof(limit), "%ld",
		 memcg_read(group, "memory.current", "%ld"));
	snprintf(path, sizeof(path), "%s/memory.max", group);
	ASSERT_EQ(write_text(path, limit), 0);
	ASSERT_EQ(write(in[1], "x", 1), 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFSIGNALED(status)) {
		TH_LOG("status %#x", status);
	}
	ASSERT_EQ(WTERMSIG(status), SIGKILL);
	ASSERT_EQ(rmdir(group), 0);
	ASSERT_EQ(umount(mount_point), 0);
	ASSERT_EQ(rmdir(mount_point), 0);
}

/* Other devices' private memory: is left out, and comes back for an access. */
TEST(device_private)
{
	char bytes[BYTES], other[BYTES], got[BYTES];
	size_t page = psize();
	int dma, fd;
	char *map;

	dma = open(EDU, O_RDWR);
	if (dma < 0 || access("/dev/hmm_dmirror0", F_OK))
		SKIP(return, "no " EDU " or no test_hmm");
	map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(map, MAP_FAILED);
	stamp(bytes);
	stamp(other);
	memcpy(map, bytes, BYTES);
	memcpy(map + page, other, BYTES);

	ASSERT_EQ(dma_mirror(dma, map, 2 * page), 0);
	ASSERT_EQ(dma_map(dma, map, 2 * page, HMM_DMA_MAP_WRITE), 2);
	fd = move_to_device(0, map);
	ASSERT_GE(fd, 0);
	ASSERT_FALSE(dma_mapped(dma, map));
	ASSERT_EQ(dma_map(dma, map, 2 * page, HMM_DMA_MAP_SNAPSHOT), 0);
	ASSERT_FALSE(dma_mapped(dma, map));
	ASSERT_TRUE(translated(dma, map + page, page, true, -1));

	ASSERT_EQ(dma_read(dma, map, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
	ASSERT_TRUE(dma_mapped(dma, map));
	stamp(bytes);
	ASSERT_EQ(dma_write(dma, map, bytes), 0);
	ASSERT_EQ(memcmp(map, bytes, BYTES), 0);
	close(fd);
	close(dma);
}

/* Device memory that the CPU can access is memory like any other. */
TEST(device_coherent)
{
	char bytes[BYTES], got[BYTES];
	size_t page = psize();
	__u64 before;
	int dma, fd;
	char *map;

	dma = open(EDU, O_RDWR);
	if (dma < 0 || access("/dev/hmm_dmirror2", F_OK))
		SKIP(return, "no " EDU " or no coherent memory of test_hmm");
	map = mmap(NULL, page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(map, MAP_FAILED);
	stamp(bytes);
	memcpy(map, bytes, BYTES);
	ASSERT_EQ(dma_mirror(dma, map, page), 0);
	ASSERT_EQ(dma_map(dma, map, page, HMM_DMA_MAP_WRITE), 1);
	before = dma_query(dma, map).phys;

	fd = move_to_device(2, map);
	ASSERT_GE(fd, 0);
	ASSERT_FALSE(dma_mapped(dma, map));
	ASSERT_EQ(dma_map(dma, map, page, HMM_DMA_MAP_SNAPSHOT), 1);
	ASSERT_TRUE(translated(dma, map, page, true, -1));
	ASSERT_NE(dma_query(dma, map).phys, before);
	ASSERT_EQ(dma_read(dma, map, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);
	stamp(bytes);
	ASSERT_EQ(dma_write(dma, map, bytes), 0);
	ASSERT_EQ(memcmp(map, bytes, BYTES), 0);
	ASSERT_EQ(munmap(map, page), 0);
	ASSERT_FALSE(dma_mapped(dma, map));
	close(fd);
	close(dma);
}

/*
 * Memory of another PCI device, an nvme controller's: mapped between ordinary
 * pages where the two can reach each other, refused where they cannot, and then
 * nothing of the range is mapped.
 */
TEST(p2pdma)
{
	char bytes[BYTES], got[BYTES];
	size_t page = psize();
	char *map, *peer;
	int dma, direct, fd;
	__u64 at;
	glob_t g;

	dma = open(EDU, O_RDWR);
	direct = open(DIRECT, O_RDWR);
	if (dma < 0 || direct < 0)
		SKIP(return, "no " EDU);
	if (glob("/sys/bus/pci/devices/*/p2pmem/allocate", 0, NULL, &g))
		SKIP(return, "no PCI device with memory for others: QEMU's nvme,cmb_size_mb=");
	fd = open(g.gl_pathv[0], O_RDWR);
	ASSERT_GE(fd, 0);
	map = reserve(4 * page, page, 0);
	ASSERT_NE(map, NULL);
	ASSERT_TRUE(map_at(map, 4 * page, ANON, -1));
	peer = map + page;
	ASSERT_EQ(mmap(peer, 2 * page, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, fd, 0), peer)
		TH_LOG("%s: %s", g.gl_pathv[0], strerror(errno));
	memset(map, 1, 4 * page);

	/* A device that is not on PCI can never. */
	ASSERT_EQ(dma_mirror(direct, map, 4 * page), 0);
	ASSERT_EQ(dma_map(direct, map, 4 * page, HMM_DMA_MAP_WRITE),
		  -EREMOTEIO);
	for (int i = 0; i < 4; i++)
		ASSERT_FALSE(dma_mapped(direct, map + i * page));
	ASSERT_EQ(dma_map(direct, map, page, HMM_DMA_MAP_WRITE), 1);

	ASSERT_EQ(dma_mirror(dma, map, 4 * page), 0);
	if (dma_map(dma, map, 4 * page, HMM_DMA_MAP_WRITE) == -EREMOTEIO)
		SKIP(return, "the kernel does not trust this machine with P2PDMA");
	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(translated(dma, map + i * page, page, true, -1));
	at = dma_query(dma, peer).dma;
	stamp(bytes);
	ASSERT_EQ(dma_write(dma, peer + 64, bytes), 0);
	ASSERT_EQ(memcmp(peer + 64, bytes, BYTES), 0);
	stamp(bytes);
	memcpy(peer + page + 128, bytes, BYTES);
	ASSERT_EQ(dma_read(dma, peer + page + 128, got), 0);
	ASSERT_EQ(memcmp(got, bytes, BYTES), 0);

	ASSERT_EQ(munmap(peer, 2 * page), 0);
	ASSERT_TRUE(gone(dma, at, 2 * page));
	/* Cutting a mapping may take back more, not less. */
	ASSERT_GE(dma_map(dma, map, page, HMM_DMA_MAP_WRITE), 0);
	ASSERT_TRUE(translated(dma, map, page, true, -1));
	globfree(&g);
	close(direct);
	close(dma);
	close(fd);
}

/* What is not allowed is refused. */
TEST(arguments)
{
	struct test_hmm_dma_window win = {};
	char bytes[BYTES];
	size_t page = psize();
	char *map;
	int fd;

	fd = open(EDU, O_RDWR);
	if (fd < 0)
		SKIP(return, "no " EDU);
	map = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(map, MAP_FAILED);

	/* No window yet. */
	ASSERT_EQ(dma_map(fd, map, page, 0), -EINVAL);
	ASSERT_EQ(dma_read(fd, map, bytes), -EINVAL);
	ASSERT_EQ(dma_mirror(fd, map, 0), -EINVAL);
	ASSERT_EQ(dma_mirror(fd, map + 1, page), -EINVAL);
	ASSERT_EQ(dma_mirror(fd, (char *)(-4 * page), 2 * page), -EINVAL);
	win.addr = (uintptr_t)map;
	win.npages = ~0ULL;
	ASSERT_EQ(request(fd, HMM_DMA_MIRROR, &win), -EINVAL);

	ASSERT_EQ(dma_mirror(fd, map + page, 2 * page), 0);
	ASSERT_EQ(dma_map(fd, map, 2 * page, 0), -EINVAL);
	ASSERT_EQ(dma_map(fd, map + page, 3 * page, 0), -EINVAL);
	ASSERT_EQ(dma_map(fd, map + page, page, 0x80), -EINVAL);
	ASSERT_EQ(request(fd, HMM_DMA_MAP, &win), -EINVAL);
	ASSERT_EQ(dma_write(fd, map + 3 * page - BYTES + 1, bytes), -EINVAL);
	ASSERT_EQ(dma_xfer(fd, HMM_DMA_READ, (uintptr_t)map + page, bytes, 0),
		  -EINVAL);
	ASSERT_EQ(dma_xfer(fd, HMM_DMA_READ, (uintptr_t)map + page, map,
			   HMM_DMA_XFER_MAX + 1), -EINVAL);
	ASSERT_EQ(dma_xfer(fd, HMM_DMA_WRITE, (uintptr_t)map + page, NULL,
			   BYTES), -EFAULT);
	ASSERT_EQ(request(fd, _IO('H', 0x7f), NULL), -ENOTTY);

	/* Nothing is there: nothing is mapped, and that is no error. */
	ASSERT_EQ(dma_map(fd, map + page, 2 * page, HMM_DMA_MAP_SNAPSHOT), 0);
	map[page] = 1;
	ASSERT_EQ(dma_map(fd, map + page, 2 * page, HMM_DMA_MAP_SNAPSHOT), 1);
	ASSERT_TRUE(translated(fd, map + page, page, true, -1));
	ASSERT_FALSE(dma_mapped(fd, map + 2 * page));
	close(fd);
}

TEST_HARNESS_MAIN
