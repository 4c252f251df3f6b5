// SPDX-License-Identifier: GPL-2.0
/*
 * HMM on DAX: a device mirrors files on persistent memory, mapped by page
 * table leaves of every size, and sees the bytes that the CPU sees.
 *
 * The device is lib/test_hmm.c. The memory is named in the environment, since
 * a device-dax is overwritten from its start:
 *
 *   HMM_DAX_EXT4, HMM_DAX_XFS	folders on file systems mounted with -o dax,
 *				made so that files get blocks aligned to a PMD
 *				(with PMDs of 2 MiB and pages of 4 KiB: on a
 *				whole namespace that ndctl made with -m fsdax
 *				-a 2M; mkfs.ext4 -E
 *				stride=512,stripe_width=512, mkfs.xfs -d
 *				su=2m,sw=1)
 *   HMM_DAX_DEV_PTE, _PMD, _PUD
 *				character devices that are aligned to the size
 *				of a page, a PMD, a PUD (ndctl create-namespace
 *				-m devdax -a ...) and hold 512 pages, 8 PMDs (of
 *				more than 64 MiB: 2) and 2 PUDs
 *   HMM_DAX_RO		a file of 8 MiB or more on a read-only file system
 *				with DAX (erofs)
 *
 * What is not named is skipped. Anonymous memory, THP and hugetlb go through
 * the same tests as controls.
 */
#include "kselftest_harness.h"
#include "hmm_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * This is a private UAPI to the kernel test module so it isn't exported
 * in the usual include/uapi/... directory.
 */
#include <lib/test_hmm_uapi.h>

/* The device moves this much at a time: its bounce buffer is kernel memory. */
#define WINDOW		MB(2)

enum backing { FS, DEV, ANON, THP, HUGETLB };

static void __attribute__((constructor)) setup_hugetlb(void)
{
	setup_hugetlb_pmds(8);
}

FIXTURE(hmm_dax)
{
	int dmirror;
	int fd;			/* the file or device; -1: none */
	size_t page;
	size_t leaf;
	size_t size;		/* of the mapping */
	size_t npages;
	size_t nleaves;
	char *map;		/* the mapping under test, page tables empty */
	unsigned char leaf_flag;/* HMM_DMIRROR_PROT_* that tells its leaf size */
	char *buf;		/* WINDOW bytes, resident */
	unsigned char *perm;	/* npages bytes, resident */
};

FIXTURE_VARIANT(hmm_dax)
{
	enum backing backing;
	const char *env;
	enum leaf leaf;
	size_t leaves;		/* see leaf_count() */
};

FIXTURE_VARIANT_ADD(hmm_dax, ext4_pte)
{
	FS, "HMM_DAX_EXT4", PTE, 512
};

FIXTURE_VARIANT_ADD(hmm_dax, ext4_pmd)
{
	FS, "HMM_DAX_EXT4", PMD, 8
};

FIXTURE_VARIANT_ADD(hmm_dax, xfs_pte)
{
	FS, "HMM_DAX_XFS", PTE, 512
};

FIXTURE_VARIANT_ADD(hmm_dax, xfs_pmd)
{
	FS, "HMM_DAX_XFS", PMD, 8
};

FIXTURE_VARIANT_ADD(hmm_dax, devdax_pte)
{
	DEV, "HMM_DAX_DEV_PTE", PTE, 512
};

FIXTURE_VARIANT_ADD(hmm_dax, devdax_pmd)
{
	DEV, "HMM_DAX_DEV_PMD", PMD, 8
};

FIXTURE_VARIANT_ADD(hmm_dax, devdax_pud)
{
	DEV, "HMM_DAX_DEV_PUD", PUD, 2
};

FIXTURE_VARIANT_ADD(hmm_dax, anon_pte)
{
	ANON, NULL, PTE, 512
};

FIXTURE_VARIANT_ADD(hmm_dax, anon_thp)
{
	THP, NULL, PMD, 8
};

FIXTURE_VARIANT_ADD(hmm_dax, hugetlb_pmd)
{
	HUGETLB, NULL, PMD, 8
};

/* Every 8 bytes differ from all others of a mapping, and between seeds. */
static uint64_t pattern(size_t offset, uint64_t seed)
{
	return offset * 0x9e3779b97f4a7c15ULL + seed;
}

static void fill(void *buf, size_t size, size_t offset, uint64_t seed)
{
	uint64_t *p = buf;
	size_t i;

	for (i = 0; i < size / sizeof(*p); i++)
		p[i] = pattern(offset + i * sizeof(*p), seed);
}

/* The offset of the first 8 bytes that differ, or -1. */
static ssize_t differs(const void *buf, size_t size, size_t offset,
		       uint64_t seed)
{
	const uint64_t *p = buf;
	size_t i;

	for (i = 0; i < size / sizeof(*p); i++)
		if (p[i] != pattern(offset + i * sizeof(*p), seed))
			return offset + i * sizeof(*p);
	return -1;
}

/*
 * handle_mm_fault() calls that this thread made, directly or through HMM. All
 * of the test program is locked in memory, but compaction can still move a page
 * of it, and the next access takes a fault: hence NOISE.
 */
#define NOISE	2

static long faults_taken(void)
{
	struct rusage ru;

	getrusage(RUSAGE_THREAD, &ru);
	return ru.ru_minflt + ru.ru_majflt;
}

static int dmirror(int fd, unsigned long request, void *addr, void *ptr,
		   size_t npages)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)addr,
		.ptr = (uintptr_t)ptr,
		.npages = npages,
	};

	while (ioctl(fd, request, &cmd))
		if (errno != EINTR)
			return -errno;
	return cmd.cpages == npages ? 0 : -EIO;
}

static char *resident(size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED || mlock(p, size))
		return NULL;
	return p;
}

FIXTURE_SETUP(hmm_dax)
{
	const char *where = variant->env ? getenv(variant->env) : NULL;
	int prot = PROT_READ | PROT_WRITE;
	int flags = MAP_FIXED | MAP_SHARED;
	const char *missing;
	struct statx stx;
	struct stat st;
	size_t skew = 0;

	self->fd = -1;
	self->page = sysconf(_SC_PAGESIZE);
	if (variant->env && !where)
		SKIP(return, "%s is not set", variant->env);
	self->leaf = leaf_size(variant->leaf, variant->env);
	if (!self->leaf || !pmd_size())
		SKIP(return, NO_LEAF);
	self->nleaves = leaf_count(variant->leaf, variant->leaves);
	self->size = self->nleaves * self->leaf;
	self->npages = self->size / self->page;

	self->dmirror = open("/dev/hmm_dmirror0", O_RDWR);
	if (self->dmirror < 0)
		SKIP(return, "no /dev/hmm_dmirror0: modprobe test_hmm");
	/* Code and data of the test itself are not to be faulted in later. */
	ASSERT_EQ(mlockall(MCL_CURRENT), 0)
		TH_LOG("mlockall: %s", strerror(errno));

	switch (variant->backing) {
	case FS:
		self->fd = open(where, O_TMPFILE | O_RDWR, 0600);
		ASSERT_GE(self->fd, 0)
			TH_LOG("%s: %s", where, strerror(errno));
		ASSERT_EQ(statx(self->fd, "", AT_EMPTY_PATH, 0, &stx), 0);
		if (!(stx.stx_attributes & STATX_ATTR_DAX))
			SKIP(return, "%s is not mounted with -o dax", where);
		ASSERT_EQ(posix_fallocate(self->fd, 0, self->size), 0);
		/*
		 * Written blocks, so that a read fault finds data and not a
		 * hole. Addresses that are no multiple of a PMD where the file
		 * offset is one make the CPU map the file by pages.
		 */
		for (size_t i = 0; i < self->size; i += self->page)
			ASSERT_EQ(pwrite(self->fd, "", 1, i), 1);
		ASSERT_EQ(fsync(self->fd), 0);
		if (variant->leaf == PTE)
			skew = self->page;
		else if (!has_pmd_extents(self->fd, self->size))
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
		flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS;
		break;
	}

	self->leaf_flag = variant->leaf == PUD ? HMM_DMIRROR_PROT_PUD :
			  variant->leaf == PMD ? HMM_DMIRROR_PROT_PMD : 0;

	self->map = reserve(self->size, leaf_align(self->leaf), skew);
	ASSERT_NE(self->map, NULL);
	self->map = mmap(self->map, self->size, prot, flags, self->fd, 0);
	ASSERT_NE(self->map, MAP_FAILED)
		TH_LOG("mmap: %s", strerror(errno));
	if (variant->backing == ANON)
		madvise(self->map, self->size, MADV_NOHUGEPAGE);
	if (variant->backing == THP) {
		madvise(self->map, self->size, MADV_HUGEPAGE);
		memset(self->map, 1, self->size);
		if (!check_huge_anon(self->map, self->size, self->nleaves,
				     self->leaf))
			SKIP(return, "no transparent huge pages to be had");
		madvise(self->map, self->size, MADV_DONTNEED);
	}

	self->buf = resident(WINDOW);
	ASSERT_NE(self->buf, NULL);
	self->perm = (unsigned char *)resident(self->npages);
	ASSERT_NE(self->perm, NULL);
}

FIXTURE_TEARDOWN(hmm_dax)
{
	if (self->dmirror > 0)
		close(self->dmirror);
	if (self->fd >= 0)
		close(self->fd);
}

/* Map the same memory again at the same place: page tables empty, data kept. */
static bool make_cold(char *map, size_t size, int fd)
{
	return mmap(map, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, 0) == map;
}

/*
 * The windows whose bytes are compared: all of a mapping, or of a large one
 * the start, the end, and the middle, where two leaves meet.
 */
static size_t nwindows(size_t size)
{
	return size > MB(256) ? 3 : size / WINDOW;
}

static size_t window(size_t size, size_t i)
{
	return size > MB(256) ? i * ((size - WINDOW) / 2) : i * WINDOW;
}

/* Both ways for a driver to fault: with the mmap lock held, and without. */
TEST_F_TIMEOUT(hmm_dax, read, 300)
{
	static const unsigned long requests[] = {
		HMM_DMIRROR_READ, HMM_DMIRROR_READ_UNLOCKED
	};
	unsigned int r;
	size_t i;

	for (r = 0; r < 2; r++) {
		long expected = 0, taken = 0;

		/* Opened anew, the mirror is empty. */
		close(self->dmirror);
		self->dmirror = open("/dev/hmm_dmirror0", O_RDWR);
		ASSERT_GE(self->dmirror, 0);

		for (i = 0; i < nwindows(self->size); i++) {
			size_t offset = window(self->size, i);

			fill(self->map + offset, WINDOW, offset, r);
		}
		if (self->fd >= 0) {
			ASSERT_TRUE(make_cold(self->map, self->size,
					      self->fd));
			expected = self->nleaves;
		}

		for (i = 0; i < nwindows(self->size); i++) {
			size_t offset = window(self->size, i);
			long before = faults_taken();

			ASSERT_EQ(dmirror(self->dmirror, requests[r],
					  self->map + offset, self->buf,
					  WINDOW / self->page), 0);
			taken += faults_taken() - before;
			ASSERT_EQ(differs(self->buf, WINDOW, offset, r), -1);
		}

		/* One for each leaf; none where the CPU has it mapped. */
		ASSERT_GE(taken, expected);
		ASSERT_LE(taken, expected + NOISE);
	}
}

TEST_F_TIMEOUT(hmm_dax, write, 300)
{
	long taken = 0;
	size_t i;

	for (i = 0; i < nwindows(self->size); i++) {
		size_t offset = window(self->size, i);
		long before;

		fill(self->buf, WINDOW, offset, 2);
		before = faults_taken();
		ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE,
				  self->map + offset, self->buf,
				  WINDOW / self->page), 0);
		taken += faults_taken() - before;
	}
	ASSERT_GE(taken, (long)self->nleaves);
	ASSERT_LE(taken, (long)self->nleaves + NOISE);

	/* The CPU sees it in this mapping, in a new one, and in the file. */
	for (i = 0; i < nwindows(self->size); i++) {
		size_t offset = window(self->size, i);

		ASSERT_EQ(differs(self->map + offset, WINDOW, offset, 2), -1);
		if (variant->backing != FS)
			continue;
		ASSERT_EQ(pread(self->fd, self->buf, WINDOW, offset),
			  (ssize_t)WINDOW);
		ASSERT_EQ(differs(self->buf, WINDOW, offset, 2), -1);
	}
	if (self->fd < 0)
		return;
	ASSERT_TRUE(make_cold(self->map, self->size, self->fd));
	for (i = 0; i < nwindows(self->size); i++) {
		size_t offset = window(self->size, i);

		ASSERT_EQ(differs(self->map + offset, WINDOW, offset, 2), -1);
	}
}

/* The first page that a snapshot does not show as @expected, or -1. */
static ssize_t snapshot_differs(int fd, char *map, unsigned char *perm,
				size_t npages, unsigned char expected)
{
	size_t i;

	if (dmirror(fd, HMM_DMIRROR_SNAPSHOT, map, perm, npages))
		return 0;
	for (i = 0; i < npages; i++)
		if (perm[i] != expected)
			return i;
	return -1;
}

/* A snapshot tells every page's permission and leaf size, and faults nothing. */
TEST_F_TIMEOUT(hmm_dax, snapshot, 300)
{
	size_t leaf = self->leaf;
	long before = faults_taken();
	size_t i;
	int prot;

	ASSERT_EQ(snapshot_differs(self->dmirror, self->map, self->perm,
				   self->npages, HMM_DMIRROR_PROT_NONE), -1);
	ASSERT_LE(faults_taken() - before, NOISE);

	for (i = 0; i < self->nleaves; i++)
		self->map[i * leaf + leaf / 2] = i;
	before = faults_taken();
	prot = HMM_DMIRROR_PROT_WRITE | self->leaf_flag;
	ASSERT_EQ(snapshot_differs(self->dmirror, self->map, self->perm,
				   self->npages, prot), -1);

	ASSERT_EQ(mprotect(self->map, self->size, PROT_READ), 0);
	prot = HMM_DMIRROR_PROT_READ | self->leaf_flag;
	ASSERT_EQ(snapshot_differs(self->dmirror, self->map, self->perm,
				   self->npages, prot), -1);
	ASSERT_LE(faults_taken() - before, NOISE);

	/* A read-only mapping is not written by the device either. */
	memset(self->buf, 0xff, self->page);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE,
			  self->map + leaf / 2 / self->page * self->page,
			  self->buf, 1), -EPERM);
	ASSERT_EQ(self->map[leaf / 2], 0);
}

/* Ranges that start and end inside leaves. */
TEST_F_TIMEOUT(hmm_dax, part_of_leaf, 300)
{
	size_t leaf = self->leaf;
	size_t offset = self->size - leaf / 2;
	long before, taken;

	/* Some pages in the middle of the last leaf. */
	if (leaf > self->page) {
		fill(self->buf, 16 * self->page, offset, 3);
		before = faults_taken();
		ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE,
				  self->map + offset, self->buf, 16), 0);
		taken = faults_taken() - before;
		ASSERT_GE(taken, 1);
		ASSERT_LE(taken, 1 + NOISE);
		ASSERT_EQ(differs(self->map + offset, 16 * self->page, offset,
				  3), -1);
	}

	/* The last page of the first leaf and the first of the next. */
	offset = leaf - self->page;
	fill(self->buf, 2 * self->page, offset, 3);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE, self->map + offset,
			  self->buf, 2), 0);
	ASSERT_EQ(differs(self->map + offset, 2 * self->page, offset, 3), -1);
}

/*
 * Exclusive access by the device is for private memory. A shared mapping, DAX
 * or not, is refused, and stays what it is.
 */
TEST_F_TIMEOUT(hmm_dax, exclusive, 300)
{
	size_t leaf = self->leaf;
	int exclusive, wanted = self->fd >= 0 ? -EOPNOTSUPP : 0;
	ssize_t exclusive_broke;

	fill(self->map, self->page, 0, 5);
	exclusive = dmirror(self->dmirror, HMM_DMIRROR_EXCLUSIVE, self->map,
			    self->buf, 1);
	ASSERT_EQ(exclusive, wanted);
	if (!exclusive) {
		ASSERT_EQ(differs(self->buf, self->page, 0, 5), -1);
	} else {
		exclusive_broke = snapshot_differs(self->dmirror, self->map,
						   self->perm,
						   leaf / self->page,
						   HMM_DMIRROR_PROT_WRITE |
						   self->leaf_flag);
		ASSERT_EQ(exclusive_broke, -1);
	}

	/* The CPU has the page, or gets it back. */
	ASSERT_EQ(differs(self->map, self->page, 0, 5), -1);
	fill(self->map, self->page, 0, 6);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, self->map,
			  self->buf, 1), 0);
	ASSERT_EQ(differs(self->buf, self->page, 0, 6), -1);
}

/*
 * Take the first leaf away from under the mirror, by whatever the backing has
 * for that. The device does not see the old page again; the second leaf's bytes
 * stay.
 */
TEST_F_TIMEOUT(hmm_dax, revoke, 300)
{
	size_t leaf = self->leaf;
	size_t n = (leaf < WINDOW ? leaf : WINDOW) / self->page;
	bool kept = false;
	size_t i;

	for (i = 0; i < 2; i++) {
		fill(self->buf, n * self->page, i * leaf, 4);
		ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE,
				  self->map + i * leaf, self->buf, n), 0);
	}

	switch (variant->backing) {
	case FS:
	case HUGETLB:
		ASSERT_EQ(fallocate(self->fd, FALLOC_FL_PUNCH_HOLE |
				    FALLOC_FL_KEEP_SIZE, 0, leaf), 0);
		break;
	case DEV:
		ASSERT_TRUE(make_cold(self->map, leaf, self->fd));
		kept = true;
		break;
	case ANON:
	case THP:
		ASSERT_EQ(madvise(self->map, leaf, MADV_DONTNEED), 0);
		break;
	}

	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_SNAPSHOT, self->map,
			  self->perm, 2 * leaf / self->page), 0);
	ASSERT_EQ(self->perm[0], HMM_DMIRROR_PROT_NONE);
	/* DAX file systems unmap the whole file when they take blocks away. */
	if (variant->backing != FS)
		ASSERT_EQ(self->perm[leaf / self->page],
			  HMM_DMIRROR_PROT_WRITE | self->leaf_flag);

	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, self->map,
			  self->buf, n), 0);
	for (i = 0; !kept && i < n * self->page; i++)
		ASSERT_EQ(self->buf[i], 0);
	if (kept)
		ASSERT_EQ(differs(self->buf, n * self->page, 0, 4), -1);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, self->map + leaf,
			  self->buf, n), 0);
	ASSERT_EQ(differs(self->buf, n * self->page, leaf, 4), -1);

	/* Beyond the end of a file there is nothing to fault in. */
	if (variant->backing != FS)
		return;
	ASSERT_EQ(ftruncate(self->fd, leaf), 0);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, self->map + leaf,
			  self->buf, n), -EFAULT);
}

/*
 * A private mapping: one thread writes bytes and drops what there is, so that
 * PMD leaves and page tables take turns, another reads by the device. Memory is
 * plentiful: no fault is to end with -ENOMEM, and the file stays as it is.
 */
struct private_race {
	char *map;
	size_t size;
	time_t end;
	volatile bool stop;
};

static void *private_writer(void *arg)
{
	struct private_race *race = arg;
	unsigned int random = 1;

	while (!race->stop && time(NULL) < race->end) {
		random = random * 1103515245 + 12345;
		if (random >> 28)
			race->map[(random >> 4) % race->size] = random;
		else
			madvise(race->map, race->size, MADV_DONTNEED);
	}
	return NULL;
}

TEST_F_TIMEOUT(hmm_dax, private_race, 60)
{
	struct private_race race = {
		.size = self->size < pmd_size() ? self->size : pmd_size(),
	};
	unsigned int i;
	int ret = 0;
	pthread_t t;

	if (variant->backing != FS)
		SKIP(return, "not for this memory");
	fill(self->map, race.size, 0, 7);
	race.map = mmap(self->map, race.size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_FIXED, self->fd, 0);
	ASSERT_EQ(race.map, self->map);
	/* On a debug kernel the device may not win before the writer ends. */
	race.end = time(NULL) + 8;
	ASSERT_EQ(pthread_create(&t, NULL, private_writer, &race), 0);
	for (i = 0; i < 400 && time(NULL) < race.end; i++) {
		ret = dmirror(self->dmirror, HMM_DMIRROR_READ, race.map,
			      self->buf, WINDOW / self->page);
		if (ret && ret != -EBUSY)
			break;
	}
	race.stop = true;
	ASSERT_EQ(pthread_join(t, NULL), 0);
	ASSERT_NE(ret, -ENOMEM);
	ASSERT_TRUE(!ret || ret == -EBUSY);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, race.map, self->buf,
			  WINDOW / self->page), 0);
	ASSERT_EQ(memcmp(self->buf, race.map, WINDOW), 0);
	ASSERT_EQ(pread(self->fd, self->buf, WINDOW, 0), (ssize_t)WINDOW);
	ASSERT_EQ(differs(self->buf, WINDOW, 0, 7), -1);
}

/*
 * Asynchronous write protection by userfaultfd, before anything is mapped: the
 * device and the CPU fault in what is marked, and both can write.
 */
TEST_F(hmm_dax, uffd_wp)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC |
			    UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = {
			(uintptr_t)self->map,
			self->size < pmd_size() ? self->size : pmd_size(),
		},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = reg.range,
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	size_t half = WINDOW / 2;
	int uffd;

	if (variant->backing != FS)
		SKIP(return, "not for this memory");
	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no asynchronous write protection");
	fill(self->map, WINDOW, 0, 8);
	ASSERT_TRUE(make_cold(self->map, self->size, self->fd));
	ASSERT_EQ(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	ASSERT_EQ(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);

	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, self->map, self->buf,
			  half / self->page), 0);
	ASSERT_EQ(differs(self->buf, half, 0, 8), -1);
	ASSERT_EQ(differs(self->map + half, half / 2, half, 8), -1);

	/* Over what was read, and over marks. */
	fill(self->buf, WINDOW, 0, 9);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE, self->map,
			  self->buf, WINDOW / self->page - 1), 0);
	fill(self->map + WINDOW - self->page, self->page, WINDOW - self->page,
	     9);
	ASSERT_EQ(differs(self->map, WINDOW, 0, 9), -1);
	close(uffd);
}

/*
 * The CPU or the device reads, then the device writes: one more fault for each
 * leaf, also where the read has made it writable, because it is clean.
 */
TEST_F_TIMEOUT(hmm_dax, write_after_read, 300)
{
	size_t leaf = self->leaf;
	size_t part = leaf < WINDOW / 2 ? WINDOW / 2 : leaf;
	size_t n = (part < WINDOW ? part : WINDOW) / self->page;
	long before, taken, expected = part / leaf;
	size_t i, j;

	for (i = 0; i < 2; i++) {
		char *map = self->map + i * part;

		if (i)
			ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, map,
					  self->buf, n), 0);
		for (j = 0; !i && j < part; j += leaf)
			FORCE_READ(map[j]);
		fill(self->buf, n * self->page, i * part, 10);
		before = faults_taken();
		ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE, map,
				  self->buf, n), 0);
		taken = faults_taken() - before;
		/* A read fault of shared hugetlb installs a dirty entry. */
		if (variant->backing != HUGETLB)
			ASSERT_GE(taken, expected);
		ASSERT_LE(taken, expected + NOISE);
		ASSERT_EQ(differs(map, n * self->page, i * part, 10), -1);
	}
}

#define HALF		(WINDOW / 2)

/*
 * What the second of two processes does with a mapping that it inherits: its
 * device reads the start, writes the end, and loses its first leaf. Returns the
 * number of the step that failed, or 0.
 */
static int other_process(char *map, size_t size, size_t leaf, char *buf)
{
	size_t npages = HALF / psize();
	int fd = open("/dev/hmm_dmirror0", O_RDWR);

	if (fd < 0)
		return 1;
	if (dmirror(fd, HMM_DMIRROR_READ, map, buf, npages) ||
	    differs(buf, HALF, 0, 11) != -1)
		return 2;
	fill(buf, HALF, size - HALF, 12);
	if (dmirror(fd, HMM_DMIRROR_WRITE, map + size - HALF, buf, npages))
		return 3;
	if (munmap(map, leaf))
		return 4;
	if (dmirror(fd, HMM_DMIRROR_READ, map, buf, 1) != -EFAULT)
		return 5;
	return 0;
}

/* Each of two processes has a device that mirrors the same memory. */
TEST_F_TIMEOUT(hmm_dax, two_processes, 300)
{
	size_t n = HALF / self->page;
	int status;
	char *buf;
	pid_t pid;

	if (self->fd < 0)
		SKIP(return, "not for this memory");
	buf = resident(HALF);
	ASSERT_NE(buf, NULL);
	fill(self->buf, HALF, 0, 11);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_WRITE, self->map,
			  self->buf, n), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(other_process(self->map, self->size, self->leaf, buf));

	/* Whatever that one does, this one's device sees its bytes. */
	do {
		ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ, self->map,
				  self->buf, n), 0);
		ASSERT_EQ(differs(self->buf, HALF, 0, 11), -1);
	} while (!waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(status, 0)
		TH_LOG("the other process: step %d", WEXITSTATUS(status));

	ASSERT_EQ(snapshot_differs(self->dmirror, self->map, self->perm,
				   self->leaf / self->page,
				   HMM_DMIRROR_PROT_WRITE | self->leaf_flag), -1);
	ASSERT_EQ(dmirror(self->dmirror, HMM_DMIRROR_READ,
			  self->map + self->size - HALF, self->buf, n), 0);
	ASSERT_EQ(differs(self->buf, HALF, self->size - HALF, 12), -1);
}

/*
 * A file that nobody can write: the device reads it, and writes only what a
 * private mapping has made of it.
 */
TEST(read_only_file)
{
	const char *where = getenv("HMM_DAX_RO");
	size_t page = psize(), size = 4 * WINDOW, n = WINDOW / page;
	char *map, *buf, *file;
	unsigned char *perm;
	int fd, dev;
	size_t i;

	if (!where)
		SKIP(return, "not for this memory: HMM_DAX_RO is not set");
	dev = open("/dev/hmm_dmirror0", O_RDWR);
	if (dev < 0)
		SKIP(return, "no /dev/hmm_dmirror0: modprobe test_hmm");
	fd = open(where, O_RDONLY);
	ASSERT_GE(fd, 0)
		TH_LOG("%s: %s", where, strerror(errno));
	buf = resident(WINDOW);
	ASSERT_NE(buf, NULL);
	file = resident(WINDOW);
	ASSERT_NE(file, NULL);
	perm = (unsigned char *)resident(size / page);
	ASSERT_NE(perm, NULL);

	map = reserve(size, pmd_size() ?: page, 0);
	ASSERT_NE(map, NULL);
	ASSERT_EQ(mmap(map, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0),
		  map);
	for (i = 0; i < size; i += WINDOW) {
		ASSERT_EQ(dmirror(dev, HMM_DMIRROR_READ, map + i, buf, n), 0);
		ASSERT_EQ(pread(fd, file, WINDOW, i), (ssize_t)WINDOW);
		ASSERT_EQ(memcmp(buf, file, WINDOW), 0);
	}
	ASSERT_EQ(dmirror(dev, HMM_DMIRROR_SNAPSHOT, map, perm, size / page),
		  0);
	for (i = 0; i < size / page; i++)
		ASSERT_EQ(perm[i] & (HMM_DMIRROR_PROT_READ |
				     HMM_DMIRROR_PROT_WRITE),
			  HMM_DMIRROR_PROT_READ);
	ASSERT_EQ(dmirror(dev, HMM_DMIRROR_WRITE, map, buf, 1), -EPERM);

	ASSERT_EQ(mmap(map, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_FIXED, fd, 0), map);
	fill(buf, WINDOW, 0, 13);
	ASSERT_EQ(dmirror(dev, HMM_DMIRROR_WRITE, map, buf, n), 0);
	ASSERT_EQ(differs(map, WINDOW, 0, 13), -1);
	ASSERT_EQ(dmirror(dev, HMM_DMIRROR_READ, map + WINDOW, buf, n), 0);
	ASSERT_EQ(pread(fd, file, WINDOW, WINDOW), (ssize_t)WINDOW);
	ASSERT_EQ(memcmp(buf, file, WINDOW), 0);
	ASSERT_EQ(pread(fd, file, WINDOW, 0), (ssize_t)WINDOW);
	ASSERT_NE(memcmp(file, map, WINDOW), 0);
	close(fd);
	close(dev);
}

TEST_HARNESS_MAIN
