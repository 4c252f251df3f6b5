// SPDX-License-Identifier: GPL-2.0
/*
 * Is what hmm_range_fault() says of memory what the page table says? The module
 * lib/test_hmm_leaves.c compares the two, here is the memory: mapped by leaves
 * of every size, holes among them (exact), and changed by other threads all the
 * time (races), also by what only puts marks into the page table (marks).
 * Drivers that are broken on purpose show that the latter would be seen (mutants).
 *
 * The memory is named in the environment as for hmm_dax.c: HMM_DAX_EXT4 and _XFS
 * are folders on file systems mounted with -o dax that give files blocks
 * aligned to a PMD, HMM_DAX_DEV_PTE, _PMD and _PUD are device-dax nodes of that
 * alignment, which hold 512 pages, 8 PMDs (of more than 64 MiB: 2) and 2 PUDs.
 * What is not named is skipped.
 *
 *   HMM_LEAVES_FAULTS	range faults in each variant of races, 4000 by default;
 *			an eighth of that in each of marks
 *   HMM_LEAVES_SEED	another number, other random ranges
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
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * These are private UAPIs to kernel test modules so they aren't exported in the
 * usual include/uapi/... directory.
 */
#include <lib/test_hmm_leaves_uapi.h>
#include <lib/test_hmm_uapi.h>

enum backing { ANON, THP, MIX, ZERO, PRIVATE, PRIVATE_THP, HUGETLB, SHMEM, FS,
	       HOLES, DEV };

/* Memory under test. */
struct memory {
	enum backing backing;
	enum leaf level;
	size_t page;
	size_t leaf;		/* bytes; that VMAs have to be multiples of */
	size_t size;
	int fd;			/* -1: none */
	int dmirror;
	char *map;
	char *buf;		/* of @size, for test_hmm */
};

static void __attribute__((constructor)) setup_huge_pages(void)
{
	struct thp_settings settings;

	setup_hugetlb_pmds(8);
	if (!thp_available())
		return;
	/*
	 * Only the test itself is to change memory. On its way to a THP,
	 * khugepaged brings device-private pages back.
	 */
	thp_save_settings();
	thp_read_settings(&settings);
	settings.khugepaged.scan_sleep_millisecs = 3600 * 1000;
	settings.khugepaged.pages_to_scan = 1;
	thp_push_settings(&settings);
}

static unsigned long env_number(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 0) : otherwise;
}

/* Address space, with some that is never mapped before and behind it. */
static char *reserve_apart(size_t size, size_t align)
{
	char *p = mmap(NULL, size + 3 * align, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	return (char *)((uintptr_t)p / align * align + align);
}

/* Map it at its place, page tables empty; from @offset on, @size bytes. */
static bool map_again(struct memory *m, size_t offset, size_t size)
{
	int flags = MAP_FIXED | (m->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS :
					     MAP_SHARED);

	return mmap(m->map + offset, size, PROT_READ | PROT_WRITE, flags, m->fd,
		    m->fd < 0 ? 0 : offset) != MAP_FAILED;
}

static int to_device(struct memory *m, size_t offset, size_t size)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)m->map + offset,
		.ptr = (uintptr_t)m->buf,
		.npages = size / m->page,
	};

	while (ioctl(m->dmirror, HMM_DMIRROR_MIGRATE_TO_DEV, &cmd))
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* The first touch of it. */
static int prepare(struct memory *m)
{
	const size_t page = m->page, pmd = pmd_size();
	size_t i, large, last = m->size - pmd;
	int ret = 0;

	if (!map_again(m, 0, m->size))
		return -errno;
	switch (m->backing) {
	case ANON:
		madvise(m->map, m->size, MADV_NOHUGEPAGE);
		break;
	case THP:
		madvise(m->map, m->size, MADV_HUGEPAGE);
		break;
	case MIX:
		/* Of a PMD each: a THP, pages and holes, a THP with a hole, */
		large = m->size > 2 * pmd ? 2 * pmd : 0;
		madvise(m->map, m->size, MADV_HUGEPAGE);
		madvise(m->map + pmd, pmd, MADV_NOHUGEPAGE);
		memset(m->map, 1, large ? 3 * pmd : 2 * pmd);
		for (i = 0; i < pmd; i += 3 * page)
			madvise(m->map + pmd + i, page, MADV_DONTNEED);
		madvise(m->map + large + pmd / 2, page, MADV_DONTNEED);
		/* a hole, a THP that is read-only in part; or all that in two. */
		if (large)
			memset(m->map + last, 1, pmd);
		if (mprotect(m->map + last + pmd / 8, pmd / 32, PROT_READ))
			ret = -errno;
		break;
	case ZERO:
		/* The huge zero page, zero pages, and some that are not. */
		madvise(m->map, m->size, MADV_HUGEPAGE);
		madvise(m->map + pmd, pmd, MADV_NOHUGEPAGE);
		force_read_pages(m->map, m->size / page, page);
		for (i = 0; i < pmd; i += 5 * page)
			m->map[pmd + i] = 1;
		break;
	case PRIVATE:
		madvise(m->map, m->size, MADV_NOHUGEPAGE);
		memset(m->map, 1, m->size);
		for (i = 0; i < m->size && !ret; i += 24 * page)
			ret = to_device(m, i, 8 * page);
		break;
	case PRIVATE_THP:
		madvise(m->map, m->size, MADV_HUGEPAGE);
		memset(m->map, 1, m->size);
		/* Two whole ones, side by side, and a part of one. */
		ret = to_device(m, 0, 2 * pmd);
		if (!ret)
			ret = to_device(m, 3 * pmd + 3 * page, 7 * page);
		break;
	case HUGETLB:
	case SHMEM:
	case FS:
	case HOLES:
	case DEV:
		break;
	}
	return ret;
}

static bool write_pages(const struct memory *m)
{
	size_t i;

	for (i = 0; i < m->size; i += m->page)
		if (pwrite(m->fd, "", 1, i) != 1)
			return false;
	return true;
}

static int setup_file(struct memory *m, const char *where)
{
	size_t i, pmd = pmd_size(), large = m->size > 2 * pmd ? pmd : 0;

	m->fd = open(where, O_TMPFILE | O_RDWR, 0600);
	if (m->fd < 0 || posix_fallocate(m->fd, 0, m->size))
		return -1;
	/* Written blocks: a read fault finds data, not a hole. */
	if (!write_pages(m))
		return -1;
	if (m->backing == HOLES) {
		/* A large one, and small ones. */
		fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  large, pmd);
		for (i = 0; i < pmd; i += 7 * m->page)
			fallocate(m->fd,
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  large + pmd + i, 2 * m->page);
	}
	return fsync(m->fd);
}

/* Returns what is missing, or NULL. */
static const char *setup_memory(struct memory *m, enum backing kind,
				const char *env, enum leaf level, size_t n)
{
	const char *where = env ? getenv(env) : NULL;
	static char unset[64];
	const char *missing;
	size_t skew = 0;

	*m = (struct memory) {
		.backing = kind, .level = level, .page = psize(),
		.fd = -1, .dmirror = -1,
	};
	if (env && !where) {
		snprintf(unset, sizeof(unset), "%s is not set", env);
		return unset;
	}
	m->leaf = leaf_size(level, env);
	if (!m->leaf || !pmd_size())
		return NO_LEAF;
	m->size = leaf_count(level, n) * m->leaf;
	switch (kind) {
	case FS:
	case HOLES:
		if (setup_file(m, where))
			return "no file can be made there";
		/*
		 * Addresses that are no multiple of a PMD where the file offset
		 * is one make the CPU map the file by pages.
		 */
		if (level == PTE)
			skew = m->page;
		m->leaf = m->page;
		break;
	case DEV:
		m->fd = open(where, O_RDWR);
		if (m->fd < 0)
			return "the device cannot be opened";
		break;
	case HUGETLB:
		m->fd = hugetlb_file(m->size, &missing);
		if (m->fd < 0)
			return missing;
		break;
	case SHMEM:
		m->fd = memfd_create("hmm_leaves", 0);
		if (m->fd < 0 || ftruncate(m->fd, m->size))
			return "no shared memory";
		/* Pages in the page cache: a read fault maps those around it. */
		if (level == PTE && !write_pages(m))
			return "no shared memory";
		m->leaf = m->page;
		break;
	case PRIVATE:
	case PRIVATE_THP:
		m->dmirror = open("/dev/hmm_dmirror0", O_RDWR);
		if (m->dmirror < 0)
			return "no /dev/hmm_dmirror0: modprobe test_hmm";
		/* It has 256 MiB at a time. */
		if (kind == PRIVATE_THP && pmd_size() > MB(64))
			return "PMDs are too large for test_hmm";
		m->buf = mmap(NULL, m->size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (m->buf == MAP_FAILED)
			return "no memory";
		m->leaf = m->page;
		break;
	default:
		m->leaf = m->page;
		break;
	}
	m->map = reserve_apart(m->size, leaf_align(leaf_size(level, env)));
	if (!m->map)
		return "no address space";
	m->map += skew;
	return NULL;
}

static void teardown_memory(struct memory *m)
{
	if (m->dmirror >= 0)
		close(m->dmirror);
	if (m->fd >= 0)
		close(m->fd);
}

static const char *what_differs(const struct hmm_leaves_diff *diff)
{
	static const char * const names[] = {
		[HMM_LEAVES_SAME] = "nothing",
		[HMM_LEAVES_ENTRY] = "entry",
		[HMM_LEAVES_ERROR] = "error code",
		[HMM_LEAVES_REQUEST] = "entry and request",
		[HMM_LEAVES_DENSE] = "list and dense output",
		[HMM_LEAVES_EINVAL] = "-EINVAL",
		[HMM_LEAVES_EXTENTS] = "list of extents",
	};

	return diff->what < ARRAY_SIZE(names) ?
	       names[diff->what] : "?";
}

FIXTURE(exact)
{
	int fd;
	struct memory m;
	unsigned long seed;
	unsigned long long pages;
	unsigned long long retries;
	unsigned long ioctls;
	int error;		/* of the last range fault */
};

FIXTURE_VARIANT(exact)
{
	enum backing backing;
	const char *env;
	enum leaf leaf;
	size_t leaves;
};

FIXTURE_VARIANT_ADD(exact, anon_pte)
{
	ANON, NULL, PTE, 512
};

FIXTURE_VARIANT_ADD(exact, anon_thp)
{
	THP, NULL, PMD, 8
};

FIXTURE_VARIANT_ADD(exact, anon_mix)
{
	MIX, NULL, PMD, 5
};

FIXTURE_VARIANT_ADD(exact, anon_zero)
{
	ZERO, NULL, PMD, 2
};

FIXTURE_VARIANT_ADD(exact, private_pte)
{
	PRIVATE, NULL, PTE, 512
};

FIXTURE_VARIANT_ADD(exact, private_thp)
{
	PRIVATE_THP, NULL, PMD, 8
};

FIXTURE_VARIANT_ADD(exact, hugetlb_pmd)
{
	HUGETLB, NULL, PMD, 8
};

FIXTURE_VARIANT_ADD(exact, shmem_pte)
{
	SHMEM, NULL, PTE, 512
};

FIXTURE_VARIANT_ADD(exact, ext4_pte)
{
	FS, "HMM_DAX_EXT4", PTE, 512
};

FIXTURE_VARIANT_ADD(exact, ext4_pmd)
{
	FS, "HMM_DAX_EXT4", PMD, 8
};

FIXTURE_VARIANT_ADD(exact, ext4_holes)
{
	HOLES, "HMM_DAX_EXT4", PMD, 4
};

FIXTURE_VARIANT_ADD(exact, xfs_pte)
{
	FS, "HMM_DAX_XFS", PTE, 512
};

FIXTURE_VARIANT_ADD(exact, xfs_pmd)
{
	FS, "HMM_DAX_XFS", PMD, 8
};

FIXTURE_VARIANT_ADD(exact, xfs_holes)
{
	HOLES, "HMM_DAX_XFS", PMD, 4
};

FIXTURE_VARIANT_ADD(exact, devdax_pte)
{
	DEV, "HMM_DAX_DEV_PTE", PTE, 512
};

FIXTURE_VARIANT_ADD(exact, devdax_pmd)
{
	DEV, "HMM_DAX_DEV_PMD", PMD, 8
};

FIXTURE_VARIANT_ADD(exact, devdax_pud)
{
	DEV, "HMM_DAX_DEV_PUD", PUD, 2
};

FIXTURE_SETUP(exact)
{
	const char *missing;

	self->seed = env_number("HMM_LEAVES_SEED", 1) << 32;
	self->m.fd = -1;
	self->m.dmirror = -1;
	self->fd = open("/dev/hmm_leaves", O_RDWR);
	if (self->fd < 0)
		SKIP(return, "no /dev/hmm_leaves: modprobe test_hmm_leaves");
	missing = setup_memory(&self->m, variant->backing, variant->env,
			       variant->leaf, variant->leaves);
	if (missing)
		SKIP(return, "%s", missing);
}

FIXTURE_TEARDOWN(exact)
{
	if (self->fd >= 0)
		close(self->fd);
	teardown_memory(&self->m);
}

/* Ways to ask: some of them for each state of the memory. */
enum way {
	DENSE, DENSE_PARTS, DENSE_PER_PAGE,
	LIST_ALL, LIST_PARTS,
	NWAYS
};

static int compare(FIXTURE_DATA(exact) *self, enum way way, unsigned int flags,
		   unsigned int count)
{
	const size_t page = self->m.page;
	struct hmm_leaves_check cmd = {
		.addr = (uintptr_t)self->m.map,
		.npages = self->m.size / page,
		.seed = ++self->seed,
		.flags = flags,
	};

	/* The end of one leaf and the start of the next. */
	if (self->m.level == PUD) {
		cmd.addr += self->m.leaf / 2 + 16 * page;
		cmd.npages = self->m.leaf / page - 32;
	}
	switch (way) {
	case DENSE:
		break;
	case DENSE_PARTS:
		cmd.count = count;
		break;
	case DENSE_PER_PAGE:
		cmd.flags |= HMM_LEAVES_PER_PAGE;
		cmd.count = count / 4;
		break;
	case LIST_ALL:
		cmd.flags |= HMM_LEAVES_LIST;
		break;
	case LIST_PARTS:
		cmd.flags |= HMM_LEAVES_LIST;
		cmd.count = count;
		break;
	default:
		return -EINVAL;
	}
	self->ioctls++;
	if (!ioctl(self->fd, HMM_LEAVES_CHECK, &cmd)) {
		self->pages += cmd.pages;
		self->retries += cmd.retries;
		self->error = cmd.error;
		return 0;
	}
	if (errno == EUCLEAN)
		ksft_print_msg("way %d, flags %#x: %s differs at page %lld: %#llx, not %#llx\n",
			       way, cmd.flags,
			       what_differs(&cmd.diff),
			       ((long long)cmd.diff.addr -
				(long long)(uintptr_t)self->m.map) / (long)page,
			       (unsigned long long)cmd.diff.got,
			       (unsigned long long)cmd.diff.want);
	return -errno;
}

/* From a cold page table to one with everything in it that can be. */
static const unsigned int states[] = {
	0, HMM_LEAVES_READ, HMM_LEAVES_WRITE, 0
};

/* Few where there are many pages, all of which can be compared for each part. */
static unsigned int parts(const struct memory *m)
{
	return m->level == PUD ? 12 : 200;
}

static void log_exact(struct __test_metadata *_metadata,
		      FIXTURE_DATA(exact) *self)
{
	TH_LOG("%lu ioctls, %llu pages compared, %llu retries", self->ioctls,
	       self->pages, self->retries);
}

TEST_F_TIMEOUT(exact, whole, 120)
{
	const bool private = self->m.dmirror >= 0;
	unsigned int owner, way, i;
	int ret;

	for (owner = 0; owner <= private; owner++) {
		for (way = 0; way < NWAYS; way++) {
			ASSERT_EQ(prepare(&self->m), 0);
			for (i = 0; i < ARRAY_SIZE(states); i++) {
				unsigned int flags = states[i];

				if (owner)
					flags |= HMM_LEAVES_NO_OWNER;
				ret = compare(self, way, flags,
					      parts(&self->m));
				EXPECT_EQ(ret, 0);
				if (ret)
					continue;
				/* What is read-only is not written. */
				if (variant->backing == MIX &&
				    flags & HMM_LEAVES_WRITE) {
					if (way != DENSE_PER_PAGE)
						ASSERT_EQ(self->error, -EPERM);
				} else {
					ASSERT_EQ(self->error, 0);
				}
			}
		}
	}
	log_exact(_metadata, self);
}

/* A part that is read-only, one that cannot be read, and one without a VMA. */
static int carve(struct memory *m)
{
	size_t eighth = m->size / 8 / m->leaf * m->leaf;
	size_t in = 0;

	if (m->size / m->leaf == 2) {
		if (mprotect(m->map, m->leaf, PROT_READ) ||
		    munmap(m->map + m->leaf, m->leaf))
			return -errno;
		return 0;
	}

	/* Boundaries inside of large leaves, where there can be any. */
	if (m->leaf == m->page)
		in = 3 * m->page;
	if (mprotect(m->map + eighth + in, eighth, PROT_READ) ||
	    mprotect(m->map + 3 * eighth + in, eighth, PROT_NONE) ||
	    munmap(m->map + 5 * eighth + in, eighth))
		return -errno;
	return 0;
}

TEST_F_TIMEOUT(exact, vmas, 120)
{
	unsigned int warm, way, i;
	int ret;

	for (warm = 0; warm < 2; warm++) {
		for (way = 0; way < NWAYS; way++) {
			ASSERT_EQ(prepare(&self->m), 0);
			if (warm)
				madvise(self->m.map, self->m.size,
					MADV_POPULATE_WRITE);
			ASSERT_EQ(carve(&self->m), 0);
			for (i = 0; i < ARRAY_SIZE(states); i++) {
				ret = compare(self, way, states[i],
					      parts(&self->m) / 2);
				EXPECT_EQ(ret, 0);
				if (ret)
					continue;
				/* The gap, if nothing before it. */
				if (!states[i])
					ASSERT_EQ(self->error, 0);
				if (states[i] && way != DENSE_PER_PAGE)
					ASSERT_LT(self->error, 0);
			}
		}
	}
	log_exact(_metadata, self);
}

/* What leaves the memory in place, and marks or write-protects its entries. */
enum mark {
	MARK_WP,		/* by userfaultfd; somebody resolves it */
	MARK_WP_ASYNC,		/* by userfaultfd; the fault resolves it */
	MARK_GUARD,
	MARK_SOFT_DIRTY,
	MARK_FREE,
	MARK_PROTECT,		/* as NUMA balancing does, but for all to see */
	MARK_KSM,
	NMARKS
};

static const char * const mark_names[] = {
	[MARK_WP] = "write-protected by userfaultfd",
	[MARK_WP_ASYNC] = "write-protected by userfaultfd, async",
	[MARK_GUARD] = "guard installed",
	[MARK_SOFT_DIRTY] = "soft-dirty cleared",
	[MARK_FREE] = "MADV_FREE",
	[MARK_PROTECT] = "PROT_NONE and back",
	[MARK_KSM] = "MADV_MERGEABLE or MADV_UNMERGEABLE",
};

#define BIT(n)		(1U << (n))

/* Memory that several threads race for. */
struct race {
	struct memory m;
	unsigned int marks;	/* 0: all that disturb_*() does */
	int uffd;		/* -1: none */
	int clear_refs;
	int fd;			/* of /dev/hmm_leaves */
	uintptr_t start;	/* what is mirrored */
	size_t npages;
	unsigned int flags;
	unsigned int chunk;	/* range faults for one ioctl() */
	unsigned long quota;
	unsigned long seed;
	time_t deadline;

	pthread_mutex_t lock;	/* protects what follows */
	unsigned long long faults;
	unsigned long long checked;
	unsigned long long retries;
	unsigned long long errors;
	unsigned long long pages;
	unsigned long long marked[NMARKS];
	long merged;		/* most pages that KSM had at a time */
	struct hmm_leaves_diff diff;
	int error;		/* errno of an ioctl() that failed */
	unsigned int running;	/* threads */
	bool stop;
};

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static bool stopped(struct race *r)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	if (r->faults >= r->quota || now() >= r->deadline)
		r->stop = true;
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

/* A thread of a race. */
struct runner {
	pthread_t thread;
	struct race *r;
	uint64_t random;
	char *side;		/* address space for a PMD */
};

static void ended(struct race *r)
{
	pthread_mutex_lock(&r->lock);
	r->running--;
	pthread_mutex_unlock(&r->lock);
}

static bool running(struct race *r)
{
	bool some;

	pthread_mutex_lock(&r->lock);
	some = r->running;
	pthread_mutex_unlock(&r->lock);
	return some;
}

static void *racer(void *arg)
{
	struct race *r = ((struct runner *)arg)->r;

	while (!stopped(r)) {
		struct hmm_leaves_race cmd = {
			.addr = r->start,
			.npages = r->npages,
			.count = r->chunk,
			.flags = r->flags,
		};
		int error = 0;

		pthread_mutex_lock(&r->lock);
		cmd.seed = ++r->seed;
		pthread_mutex_unlock(&r->lock);
		if (ioctl(r->fd, HMM_LEAVES_RACE, &cmd))
			error = errno;
		pthread_mutex_lock(&r->lock);
		r->faults += cmd.faults;
		r->checked += cmd.checked;
		r->retries += cmd.retries;
		r->errors += cmd.errors;
		r->pages += cmd.pages;
		if (error && error != EINTR) {
			r->error = error;
			r->diff = cmd.diff;
			r->stop = true;
		}
		pthread_mutex_unlock(&r->lock);
	}
	ended(r);
	return NULL;
}

/* What a disturber picks, each its own. */
struct pick {
	uint64_t random;
	char *side;
	char *at;
	size_t offset;		/* of @at, in the memory */
	size_t size;
	unsigned int turn;	/* which mark is next */
};

static unsigned long pick_number(struct pick *p, unsigned long n)
{
	p->random = p->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (p->random >> 33) % n;
}

static void pick_part(struct pick *p, struct memory *m, size_t most)
{
	size_t n = m->size / m->leaf;
	size_t len = most > m->leaf ? most / m->leaf : 1;

	len = 1 + pick_number(p, len < n ? len : n);
	p->offset = pick_number(p, n - len + 1) * m->leaf;
	p->at = m->map + p->offset;
	p->size = len * m->leaf;
}

/*
 * None of these may touch the memory itself, which others unmap and truncate:
 * MADV_POPULATE_* is a load or store that cannot kill. Most can fail, since
 * disturbers do not care for each other.
 */
static void disturb_anon(struct memory *m, struct pick *p)
{
	pid_t child;

	pick_part(p, m, (pmd_size() / 2) >> pick_number(p, 8));
	switch (pick_number(p, 12)) {
	case 0:
	case 1:
		madvise(p->at, p->size, MADV_DONTNEED);
		break;
	case 2:
		mprotect(p->at, p->size, PROT_READ);
		break;
	case 3:
		mprotect(p->at, p->size, PROT_READ | PROT_WRITE);
		break;
	case 4:
		mprotect(p->at, p->size, PROT_NONE);
		mprotect(p->at, p->size, PROT_READ | PROT_WRITE);
		break;
	case 5:
		/* At times a PMD as a whole. */
		if (pick_number(p, 2)) {
			p->at = m->map + p->offset / pmd_size() * pmd_size();
			p->size = pmd_size();
		}
		if (mremap(p->at, p->size, p->size,
			   MREMAP_MAYMOVE | MREMAP_FIXED, p->side) == p->side)
			mremap(p->side, p->size, p->size,
			       MREMAP_MAYMOVE | MREMAP_FIXED, p->at);
		break;
	case 6:
		/* What it shares with us is write-protected. */
		child = fork();
		if (!child)
			_exit(0);
		if (child > 0)
			waitpid(child, NULL, 0);
		break;
	case 7:
	case 8:
		madvise(m->map + p->offset / pmd_size() * pmd_size(),
			pmd_size(), MADV_COLLAPSE);
		break;
	case 9:
		madvise(p->at, p->size, MADV_POPULATE_WRITE);
		break;
	case 10:
		if (map_again(m, p->offset, p->size))
			madvise(p->at, p->size, MADV_HUGEPAGE);
		break;
	case 11:
		mprotect(m->map, m->size, PROT_READ | PROT_WRITE);
		break;
	}
}

static void disturb_file(struct memory *m, struct pick *p)
{
	pick_part(p, m, (pmd_size() / 2) >> pick_number(p, 8));
	switch (pick_number(p, 11)) {
	case 0:
		if (!ftruncate(m->fd, p->offset + pick_number(p, m->page)) ||
		    pick_number(p, 2))
			posix_fallocate(m->fd, 0, m->size);
		break;
	case 1:
		fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  p->offset, p->size);
		break;
	case 2:
		posix_fallocate(m->fd, 0, m->size);
		break;
	case 3:
		madvise(p->at, p->size, MADV_POPULATE_WRITE);
		msync(p->at, p->size, MS_SYNC);
		break;
	case 4:
		madvise(p->at, p->size, MADV_POPULATE_WRITE);
		fdatasync(m->fd);
		break;
	case 5:
		mprotect(p->at, p->size, PROT_READ);
		break;
	case 6:
		mprotect(p->at, p->size, PROT_READ | PROT_WRITE);
		break;
	case 7:
		munmap(p->at, p->size);
		map_again(m, p->offset, p->size);
		break;
	case 8:
		map_again(m, 0, m->size);
		break;
	case 9:
		madvise(p->at, p->size, MADV_DONTNEED);
		break;
	case 10:
		madvise(p->at, p->size, MADV_POPULATE_READ);
		break;
	}
}

static void disturb_device(struct memory *m, struct pick *p)
{
	pick_part(p, m, m->size);
	switch (pick_number(p, 6)) {
	case 0:
		mprotect(p->at, p->size, PROT_READ);
		break;
	case 1:
		mprotect(p->at, p->size, PROT_READ | PROT_WRITE);
		break;
	case 2:
		/* x86: pud_present() is false then, and mm/ warns of that. */
		if (m->level == PUD)
			break;
		mprotect(p->at, p->size, PROT_NONE);
		mprotect(p->at, p->size, PROT_READ | PROT_WRITE);
		break;
	case 3:
		munmap(p->at, p->size);
		map_again(m, p->offset, p->size);
		break;
	case 4:
		map_again(m, p->offset, p->size);
		break;
	case 5:
		madvise(p->at, p->size, MADV_POPULATE_WRITE);
		break;
	}
}

static int write_protect(struct race *r, char *at, size_t size, __u64 mode)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)at, size },
		.mode = mode,
	};

	return ioctl(r->uffd, UFFDIO_WRITEPROTECT, &wp);
}

static int set_mark(struct race *r, struct pick *p, enum mark mark)
{
	int ret;

	switch (mark) {
	case MARK_WP:
	case MARK_WP_ASYNC:
		return write_protect(r, p->at, p->size,
				     pick_number(p, 4) ?
				     UFFDIO_WRITEPROTECT_MODE_WP : 0);
	case MARK_GUARD:
		ret = madvise(p->at, p->size, MADV_GUARD_INSTALL);
		madvise(p->at, p->size, MADV_GUARD_REMOVE);
		return ret;
	case MARK_SOFT_DIRTY:
		return pwrite(r->clear_refs, "4", 1, 0) == 1 ? 0 : -1;
	case MARK_FREE:
		return madvise(p->at, p->size, MADV_FREE);
	case MARK_PROTECT:
		ret = mprotect(p->at, p->size, PROT_NONE);
		mprotect(p->at, p->size, PROT_READ | PROT_WRITE);
		return ret;
	case MARK_KSM:
		return madvise(p->at, p->size, pick_number(p, 4) ?
			       MADV_MERGEABLE : MADV_UNMERGEABLE);
	default:
		return -1;
	}
}

/* One mark, and at times what brings the pages or large leaves back. */
static void disturb_marks(struct race *r, struct pick *p)
{
	struct memory *m = &r->m;
	unsigned int mark;

	/* In turn, so that a short race has each of them. */
	do {
		mark = p->turn++ % NMARKS;
	} while (!(r->marks & BIT(mark)));
	pick_part(p, m, m->leaf == m->page ? (pmd_size() / 2) >> pick_number(p, 8) :
					     m->size);
	if (!set_mark(r, p, mark)) {
		pthread_mutex_lock(&r->lock);
		r->marked[mark]++;
		pthread_mutex_unlock(&r->lock);
	}
	switch (pick_number(p, 4)) {
	case 0:
		madvise(p->at, p->size, MADV_POPULATE_WRITE);
		break;
	case 1:
		if (m->backing == THP || m->backing == SHMEM)
			madvise(m->map + p->offset / pmd_size() * pmd_size(),
				pmd_size(), MADV_COLLAPSE);
		break;
	}
}

static void *disturber(void *arg)
{
	struct runner *runner = arg;
	struct race *r = runner->r;
	struct pick p = { .random = runner->random, .side = runner->side };

	while (!stopped(r)) {
		if (r->marks) {
			disturb_marks(r, &p);
			continue;
		}
		switch (r->m.backing) {
		case FS:
			disturb_file(&r->m, &p);
			break;
		case DEV:
			disturb_device(&r->m, &p);
			break;
		default:
			disturb_anon(&r->m, &p);
			break;
		}
	}
	ended(r);
	return NULL;
}

#define RACERS		2
#define DISTURBERS	2

/* Until the quota of range faults is made, a difference is found, or time up. */
static int run_race(struct race *r, time_t seconds)
{
	struct runner runners[RACERS + DISTURBERS];
	unsigned int i, n;
	int ret = 0;

	pthread_mutex_init(&r->lock, NULL);
	r->deadline = now() + seconds;
	/* Once they run nobody asks for address space: it might be theirs. */
	pthread_mutex_lock(&r->lock);
	for (n = 0; n < RACERS + DISTURBERS; n++) {
		runners[n].r = r;
		runners[n].random = ++r->seed;
		runners[n].side = reserve_apart(pmd_size(), pmd_size());
		ret = pthread_create(&runners[n].thread, NULL,
				     n < RACERS ? racer : disturber,
				     &runners[n]);
		if (ret) {
			r->stop = true;
			break;
		}
		r->running++;
	}
	pthread_mutex_unlock(&r->lock);

	/*
	 * To take blocks from a file, DAX waits for pages that are in use to be
	 * let go, with the inode locked. Range faults map them again meanwhile,
	 * and if nobody else unmaps them that is for ever.
	 */
	while (running(r)) {
		usleep(20000);
		if (r->m.backing == FS && !r->marks)
			map_again(&r->m, 0, r->m.size);
		/* For those who wait for it, the racers' faults among them. */
		if (r->marks & BIT(MARK_WP))
			write_protect(r, r->m.map, r->m.size, 0);
		if (r->marks & BIT(MARK_KSM)) {
			long merged = ksm_get_self_merging_pages();

			r->merged = merged > r->merged ? merged : r->merged;
		}
	}
	for (i = 0; i < n; i++)
		pthread_join(runners[i].thread, NULL);
	return ret;
}

static const char *setup_race(struct race *r, enum backing kind,
			      const char *env, enum leaf level, size_t n)
{
	const char *missing;

	r->m.fd = -1;
	r->m.dmirror = -1;
	r->uffd = -1;
	r->clear_refs = -1;
	r->seed = env_number("HMM_LEAVES_SEED", 1) << 32;
	r->chunk = 50;
	r->fd = open("/dev/hmm_leaves", O_RDWR);
	if (r->fd < 0)
		return "no /dev/hmm_leaves: modprobe test_hmm_leaves";
	missing = setup_memory(&r->m, kind, env, level, n);
	if (missing)
		return missing;
	if (prepare(&r->m))
		return "the memory cannot be mapped";
	r->start = (uintptr_t)r->m.map;
	r->npages = r->m.size / r->m.page;
	if (level == PUD) {
		r->start += r->m.leaf / 2;
		r->npages = r->m.leaf / r->m.page;
	}
	r->flags = HMM_LEAVES_LIST;
	return NULL;
}

static void teardown_race(struct race *r)
{
	if (r->fd >= 0)
		close(r->fd);
	if (r->uffd >= 0)
		close(r->uffd);
	if (r->clear_refs >= 0)
		close(r->clear_refs);
	if (r->marks & BIT(MARK_KSM))
		ksm_stop();
	teardown_memory(&r->m);
}

static void log_race(struct __test_metadata *_metadata, const struct race *r)
{
	TH_LOG("%llu range faults: %llu checked (%llu pages), %llu retries, %llu errors",
	       r->faults, r->checked, r->pages, r->retries, r->errors);
	if (r->error == EUCLEAN)
		TH_LOG("%s differs at page %lld: %#llx, not %#llx",
		       what_differs(&r->diff),
		       ((long long)r->diff.addr -
			(long long)(uintptr_t)r->m.map) / (long)r->m.page,
		       (unsigned long long)r->diff.got,
		       (unsigned long long)r->diff.want);
}

FIXTURE(races)
{
	struct race r;
};

FIXTURE_VARIANT(races)
{
	enum backing backing;
	const char *env;
	enum leaf leaf;
	size_t leaves;
};

FIXTURE_VARIANT_ADD(races, anon)
{
	THP, NULL, PMD, 4
};

FIXTURE_VARIANT_ADD(races, ext4)
{
	FS, "HMM_DAX_EXT4", PMD, 2
};

FIXTURE_VARIANT_ADD(races, xfs)
{
	FS, "HMM_DAX_XFS", PMD, 2
};

FIXTURE_VARIANT_ADD(races, devdax_pmd)
{
	DEV, "HMM_DAX_DEV_PMD", PMD, 8
};

FIXTURE_VARIANT_ADD(races, devdax_pud)
{
	DEV, "HMM_DAX_DEV_PUD", PUD, 2
};

FIXTURE_SETUP(races)
{
	const char *missing = setup_race(&self->r, variant->backing,
					 variant->env, variant->leaf,
					 variant->leaves);

	if (missing)
		SKIP(return, "%s", missing);
}

FIXTURE_TEARDOWN(races)
{
	teardown_race(&self->r);
}

/* Long enough for a million range faults, under emulation as well. */
TEST_F_TIMEOUT(races, races, 7200)
{
	struct race *r = &self->r;

	r->quota = env_number("HMM_LEAVES_FAULTS", 4000);
	ASSERT_EQ(run_race(r, 7140), 0);
	log_race(_metadata, r);
	ASSERT_EQ(r->error, 0);
	ASSERT_GE(r->faults, r->quota)
		TH_LOG("time is up");
	/* Races were hit, and yet it was possible to look. */
	ASSERT_GT(r->checked * 20, r->faults);
	if (r->quota >= 1000)
		ASSERT_GT(r->retries, 0);
}

/* Have all of the memory registered for write protection. */
static const char *setup_wp(struct race *r)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_UNPOPULATED |
			    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)r->m.map, r->m.size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	if (r->marks & BIT(MARK_WP_ASYNC))
		api.features |= UFFD_FEATURE_WP_ASYNC;
	r->uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (r->uffd < 0 || ioctl(r->uffd, UFFDIO_API, &api))
		return "no userfaultfd that write-protects files";
	if (ioctl(r->uffd, UFFDIO_REGISTER, &reg))
		return "userfaultfd does not take this memory";
	return NULL;
}

FIXTURE(marks)
{
	struct race r;
};

/*
 * Files have either guards or write protection: to install a guard, madvise()
 * zaps what is there, which leaves userfaultfd's markers, and tries again, for
 * as long as there are any.
 */

FIXTURE_VARIANT(marks)
{
	enum backing backing;
	const char *env;
	enum leaf leaf;
	size_t leaves;
	unsigned int marks;
};

FIXTURE_VARIANT_ADD(marks, anon)
{
	THP, NULL, PMD, 4,
	BIT(MARK_WP) | BIT(MARK_GUARD) | BIT(MARK_SOFT_DIRTY) |
	BIT(MARK_FREE) | BIT(MARK_PROTECT)
};

FIXTURE_VARIANT_ADD(marks, anon_async)
{
	THP, NULL, PMD, 4,
	BIT(MARK_WP_ASYNC) | BIT(MARK_GUARD) | BIT(MARK_SOFT_DIRTY) |
	BIT(MARK_FREE) | BIT(MARK_PROTECT)
};

FIXTURE_VARIANT_ADD(marks, anon_ksm)
{
	ANON, NULL, PTE, 512,
	BIT(MARK_KSM) | BIT(MARK_SOFT_DIRTY) | BIT(MARK_PROTECT)
};

FIXTURE_VARIANT_ADD(marks, shmem)
{
	SHMEM, NULL, PMD, 2,
	BIT(MARK_WP) | BIT(MARK_SOFT_DIRTY) | BIT(MARK_PROTECT)
};

FIXTURE_VARIANT_ADD(marks, hugetlb)
{
	HUGETLB, NULL, PMD, 4,
	BIT(MARK_WP) | BIT(MARK_PROTECT)
};

FIXTURE_VARIANT_ADD(marks, ext4)
{
	FS, "HMM_DAX_EXT4", PMD, 2,
	BIT(MARK_WP_ASYNC) | BIT(MARK_SOFT_DIRTY) | BIT(MARK_PROTECT)
};

FIXTURE_VARIANT_ADD(marks, xfs)
{
	FS, "HMM_DAX_XFS", PMD, 2,
	BIT(MARK_GUARD) | BIT(MARK_SOFT_DIRTY) | BIT(MARK_PROTECT)
};

FIXTURE_VARIANT_ADD(marks, devdax_pte)
{
	DEV, "HMM_DAX_DEV_PTE", PTE, 512,
	BIT(MARK_WP_ASYNC) | BIT(MARK_SOFT_DIRTY) | BIT(MARK_PROTECT)
};

/* Guards and userfaultfd are refused there. */
FIXTURE_VARIANT_ADD(marks, devdax_pmd)
{
	DEV, "HMM_DAX_DEV_PMD", PMD, 8,
	BIT(MARK_SOFT_DIRTY) | BIT(MARK_PROTECT)
};

FIXTURE_SETUP(marks)
{
	struct race *r = &self->r;
	const char *missing = setup_race(r, variant->backing, variant->env,
					 variant->leaf, variant->leaves);

	if (missing)
		SKIP(return, "%s", missing);
	r->marks = variant->marks;
	if (r->marks & BIT(MARK_SOFT_DIRTY) && !softdirty_supported()) {
		TH_LOG("no soft-dirty on this kernel");
		r->marks &= ~BIT(MARK_SOFT_DIRTY);
	}
	if (r->marks & (BIT(MARK_WP) | BIT(MARK_WP_ASYNC))) {
		missing = setup_wp(r);
		if (missing)
			SKIP(return, "%s", missing);
	}
	if (r->marks & BIT(MARK_SOFT_DIRTY)) {
		r->clear_refs = open("/proc/self/clear_refs", O_WRONLY);
		if (r->clear_refs < 0)
			SKIP(return, "no clear_refs on this kernel");
	}
	/* ksmd does not run before it has memory to scan. */
	if (r->marks & BIT(MARK_KSM) &&
	    (madvise(r->m.map, r->m.size, MADV_MERGEABLE) || ksm_start() < 0))
		SKIP(return, "no KSM on this kernel");
}

FIXTURE_TEARDOWN(marks)
{
	teardown_race(&self->r);
}

/* Dense output and a list of all of it, against the page table. */
static int compare_marks(struct race *r, unsigned int flags)
{
	static const unsigned int ways[] = {
		0, HMM_LEAVES_LIST
	};
	int ret = 0, i;

	for (i = 0; i < ARRAY_SIZE(ways) && !ret; i++) {
		struct hmm_leaves_check cmd = {
			.addr = r->start,
			.npages = r->npages,
			.seed = ++r->seed,
			.flags = flags | ways[i],
		};

		ret = ioctl(r->fd, HMM_LEAVES_CHECK, &cmd) ? -errno : cmd.error;
		if (ret == -EUCLEAN)
			ksft_print_msg("flags %#x: %s differs: %#llx, not %#llx\n",
				       cmd.flags, what_differs(&cmd.diff),
				       (unsigned long long)cmd.diff.got,
				       (unsigned long long)cmd.diff.want);
	}
	return ret;
}

/* While nobody else changes it: each mark on memory that is mapped or not. */
TEST_F_TIMEOUT(marks, exact, 120)
{
	struct race *r = &self->r;
	struct memory *m = &r->m;
	unsigned int mark, mapped;
	int ret;

	for (mark = 0; mark < NMARKS; mark++) {
		/* Who writes to it has to wait; KSM takes its time. */
		if (mark == MARK_WP || mark == MARK_KSM || mark == MARK_PROTECT)
			continue;
		if (!(r->marks & BIT(mark)))
			continue;
		for (mapped = 0; mapped < 2; mapped++) {
			struct pick all = { .at = m->map, .size = m->size };

			madvise(m->map, m->size, MADV_DONTNEED);
			if (mapped)
				madvise(m->map, m->size, MADV_POPULATE_WRITE);
			if (mark == MARK_WP_ASYNC)
				ret = write_protect(r, m->map, m->size,
						    UFFDIO_WRITEPROTECT_MODE_WP);
			else if (mark == MARK_GUARD)
				ret = madvise(m->map, m->size,
					      MADV_GUARD_INSTALL);
			else
				ret = set_mark(r, &all, mark);
			ASSERT_EQ(ret, 0)
				TH_LOG("%s", mark_names[mark]);
			EXPECT_EQ(compare_marks(r, 0), 0);
			ret = mark == MARK_GUARD ? -EFAULT : 0;
			EXPECT_EQ(compare_marks(r, HMM_LEAVES_READ), ret);
			EXPECT_EQ(compare_marks(r, HMM_LEAVES_WRITE), ret);
			if (mark == MARK_GUARD)
				madvise(m->map, m->size, MADV_GUARD_REMOVE);
		}
	}
}

TEST_F_TIMEOUT(marks, races, 7200)
{
	struct race *r = &self->r;
	unsigned int i;

	r->quota = env_number("HMM_LEAVES_FAULTS", 4000) / 8 + 1;
	ASSERT_EQ(run_race(r, 7140), 0);
	log_race(_metadata, r);
	ASSERT_EQ(r->error, 0);
	ASSERT_GE(r->faults, r->quota)
		TH_LOG("time is up");
	ASSERT_GT(r->checked * 20, r->faults);
	for (i = 0; i < NMARKS; i++) {
		if (!(r->marks & BIT(i)))
			continue;
		TH_LOG("%llu times: %s", r->marked[i], mark_names[i]);
		ASSERT_GT(r->marked[i], 0);
	}
	if (r->marks & BIT(MARK_KSM))
		TH_LOG("up to %ld pages merged", r->merged);
}

FIXTURE(mutants)
{
	struct race r;
};

FIXTURE_VARIANT(mutants)
{
	enum backing backing;
	const char *env;
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(mutants, anon_no_retry)
{
	THP, NULL, HMM_LEAVES_NO_RETRY
};

FIXTURE_VARIANT_ADD(mutants, anon_no_invalidate)
{
	THP, NULL, HMM_LEAVES_NO_INVALIDATE
};

FIXTURE_VARIANT_ADD(mutants, ext4_no_retry)
{
	FS, "HMM_DAX_EXT4", HMM_LEAVES_NO_RETRY
};

FIXTURE_VARIANT_ADD(mutants, ext4_no_invalidate)
{
	FS, "HMM_DAX_EXT4", HMM_LEAVES_NO_INVALIDATE
};

FIXTURE_SETUP(mutants)
{
	const char *missing = setup_race(&self->r, variant->backing,
					 variant->env, PMD, 4);

	if (missing)
		SKIP(return, "%s", missing);
}

FIXTURE_TEARDOWN(mutants)
{
	teardown_race(&self->r);
}

/* A driver that takes no notice of invalidations is found out. */
TEST_F_TIMEOUT(mutants, found, 120)
{
	struct race *r = &self->r;

	r->quota = ~0UL;
	r->flags |= variant->flags;
	ASSERT_EQ(run_race(r, 60), 0);
	log_race(_metadata, r);
	ASSERT_EQ(r->error, EUCLEAN);
	ASSERT_EQ(r->diff.what, HMM_LEAVES_ENTRY);
}

TEST_HARNESS_MAIN
