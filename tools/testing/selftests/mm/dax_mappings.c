// SPDX-License-Identifier: GPL-2.0
/*
 * DAX mappings, used by the CPU alone: what puts markers into page tables (guard
 * regions, write protection by userfaultfd), PROT_NONE, holes that are mapped
 * before they are written, and files that share blocks by reflink, mapped by leaves
 * of different sizes.
 *
 * The memory is named in the environment: HMM_DAX_EXT4 and _XFS are folders on
 * file systems mounted with -o dax that give files blocks aligned to a PMD (xfs
 * with reflink); HMM_DAX_DEV_PTE, _PMD and _PUD are device-dax nodes with that
 * alignment, which are overwritten. Tests of memory that is not named are skipped.
 *
 * Of much of this the kernel only warned. So no test may taint it by a warning;
 * which can only be seen if it was not tainted before.
 */
#include "kselftest_harness.h"
#include "hmm_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define TAINT_WARN	0x200
#define PAGE		((size_t)psize())

static unsigned int warned(void)
{
	unsigned int taint = 0;
	FILE *f = fopen("/proc/sys/kernel/tainted", "r");

	if (f && fscanf(f, "%u", &taint) != 1)
		taint = 0;
	if (f)
		fclose(f);
	return taint & TAINT_WARN;
}

/* Every 8 bytes of a file differ from all others, and between seeds. */
static void fill(char *buf, size_t size, size_t offset, uint64_t seed)
{
	size_t i;

	for (i = 0; i < size; i += sizeof(uint64_t))
		*(uint64_t *)(buf + i) = (offset + i) * 0x9e3779b97f4a7c15ULL +
					 seed;
}

static bool same(const char *buf, size_t size, size_t offset, uint64_t seed)
{
	size_t i;

	for (i = 0; i < size; i += sizeof(uint64_t))
		if (*(const uint64_t *)(buf + i) !=
		    (offset + i) * 0x9e3779b97f4a7c15ULL + seed)
			return false;
	return true;
}

static sigjmp_buf jump;

static void caught(int sig)
{
	siglongjmp(jump, sig);
}

/* The signal that a load takes, or 0. Elsewhere they end the test. */
static int load(const char *p)
{
	int sig;

	signal(SIGBUS, caught);
	signal(SIGSEGV, caught);
	sig = sigsetjmp(jump, 1);
	if (!sig)
		*(const volatile char *)p;
	signal(SIGBUS, SIG_DFL);
	signal(SIGSEGV, SIG_DFL);
	return sig;
}

/* A file without a name, all blocks written. Returns an fd, or -1. */
static int make_file(const char *dir, size_t size, uint64_t seed)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	char *buf = malloc(size);

	if (fd < 0 || !buf || posix_fallocate(fd, 0, size))
		return -1;
	fill(buf, size, 0, seed);
	if (pwrite(fd, buf, size, 0) != (ssize_t)size || fsync(fd))
		return -1;
	free(buf);
	return fd;
}

static char *map_file(int fd, size_t size, size_t align, size_t skew)
{
	char *p = reserve(size, align, skew);

	if (!p)
		return MAP_FAILED;
	return mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		    0);
}

/* Does the page table say all of that of the page at @p? */
static bool page_is(char *p, uint64_t categories)
{
	struct page_region region;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGE,
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_mask = categories,
		.return_mask = categories,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY);
	int n = ioctl(fd, PAGEMAP_SCAN, &arg);

	close(fd);
	return n == 1;
}

/* Is it mapped by a leaf that is larger? */
static bool is_large(char *p)
{
	return page_is(p, PAGE_IS_PRESENT | PAGE_IS_HUGE);
}

FIXTURE(dax)
{
	char *map;
	size_t align;
	size_t size;
	int fd;
	unsigned int warned;
};

FIXTURE_VARIANT(dax)
{
	const char *env;
	enum leaf leaf;
	size_t leaves;
	bool single_pages;
};

FIXTURE_VARIANT_ADD(dax, ext4)
{
	"HMM_DAX_EXT4", PMD, 1, true
};

FIXTURE_VARIANT_ADD(dax, devdax_pte)
{
	"HMM_DAX_DEV_PTE", PTE, 512, true
};

FIXTURE_VARIANT_ADD(dax, devdax_pmd)
{
	"HMM_DAX_DEV_PMD", PMD, 2, false
};

FIXTURE_VARIANT_ADD(dax, devdax_pud)
{
	"HMM_DAX_DEV_PUD", PUD, 2, false
};

FIXTURE_SETUP(dax)
{
	const char *where = getenv(variant->env);

	self->fd = -1;
	if (!where)
		SKIP(return, "%s is not set", variant->env);
	self->align = leaf_size(variant->leaf, variant->env);
	if (!self->align || !pmd_size())
		SKIP(return, NO_LEAF);
	self->size = variant->leaves * self->align;
	if (strstr(variant->env, "DEV"))
		self->fd = open(where, O_RDWR);
	else
		self->fd = make_file(where, self->size, 1);
	ASSERT_GE(self->fd, 0)
		TH_LOG("%s: %s", where, strerror(errno));
	self->map = map_file(self->fd, self->size, self->align, 0);
	ASSERT_NE(self->map, MAP_FAILED);
	self->warned = warned();
}

FIXTURE_TEARDOWN(dax)
{
	if (self->fd >= 0)
		close(self->fd);
}

/*
 * A guard on one page is for that page alone, and when it is gone all is as it
 * was. Where the pages beside it cannot be mapped alone it is refused.
 */
TEST_F(dax, guard_page)
{
	size_t at = self->size / 2 + 5 * PAGE;
	char *guard = self->map + at;
	int ret;

	fill(guard - PAGE, 3 * PAGE, at - PAGE, 2);
	ret = madvise(guard, PAGE, MADV_GUARD_INSTALL);
	if (!variant->single_pages) {
		ASSERT_EQ(ret, -1);
		ASSERT_EQ(errno, EINVAL);
		ASSERT_EQ(madvise(guard, PAGE, MADV_GUARD_REMOVE), -1);
		/* (That interface says nothing of PUDs.) */
		if (variant->leaf == PMD)
			ASSERT_TRUE(is_large(guard));
	} else {
		ASSERT_EQ(ret, 0);
		ASSERT_EQ(load(guard), SIGSEGV);
		ASSERT_EQ(load(guard - PAGE), 0);
		ASSERT_EQ(load(guard + PAGE), 0);
		ASSERT_EQ(madvise(guard, PAGE, MADV_GUARD_REMOVE), 0);
	}
	ASSERT_EQ(load(guard), 0);
	ASSERT_TRUE(same(guard - PAGE, 3 * PAGE, at - PAGE, 2));
	ASSERT_EQ(warned(), self->warned);
}

/* The same of a guard as large as the device's pages. */
TEST_F(dax, guard_leaf)
{
	char *guard = self->map + self->size - self->align;
	size_t at = guard - self->map;
	int ret;

	fill(guard, PAGE, at, 3);
	ret = madvise(guard, self->align, MADV_GUARD_INSTALL);
	ASSERT_EQ(ret, variant->single_pages ? 0 : -1);
	if (variant->single_pages) {
		ASSERT_EQ(load(guard), SIGSEGV);
		ASSERT_EQ(madvise(guard, self->align, MADV_GUARD_REMOVE), 0);
	}
	ASSERT_EQ(load(guard), 0);
	ASSERT_TRUE(same(guard, PAGE, at, 3));
	ASSERT_EQ(warned(), self->warned);
}

/*
 * Memory that mprotect() takes away and gives back, or that is unmapped then. This
 * can fail only with CONFIG_DEBUG_VM.
 */
TEST_F(dax, prot_none)
{
	char *p = self->map + self->size - self->align;
	size_t at = p - self->map;

	fill(p, PAGE, at, 8);
	ASSERT_EQ(mprotect(p, self->align, PROT_NONE), 0);
	ASSERT_EQ(load(p), SIGSEGV);
	ASSERT_EQ(mprotect(p, self->align, PROT_READ | PROT_WRITE), 0);
	ASSERT_EQ(load(p), 0);
	ASSERT_TRUE(same(p, PAGE, at, 8));
	ASSERT_EQ(mprotect(p, self->align, PROT_NONE), 0);
	ASSERT_EQ(munmap(p, self->align), 0);
	ASSERT_EQ(warned(), self->warned);
}

/* A debugger can read it meanwhile; if that does not end, this test times out. */
TEST_F(dax, prot_none_debugger)
{
	char *p = self->map + self->size - self->align;
	int status;
	pid_t pid;
	long word;

	fill(p, PAGE, p - self->map, 9);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!ptrace(PTRACE_TRACEME, 0, NULL, NULL) && !load(p) &&
		    !mprotect(p, self->align, PROT_NONE))
			raise(SIGSTOP);
		_exit(1);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFSTOPPED(status));
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, p, NULL);
	ASSERT_EQ(errno, 0);
	ASSERT_EQ(word, *(long *)p);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ASSERT_EQ(warned(), self->warned);
}

/* What a thread guards and leaves unguarded, in turns. */
struct guard {
	char *page;
	bool stop;
};

static void *guard_again(void *arg)
{
	struct guard *g = arg;

	while (!__atomic_load_n(&g->stop, __ATOMIC_RELAXED)) {
		madvise(g->page, PAGE, MADV_GUARD_INSTALL);
		madvise(g->page, PAGE, MADV_GUARD_REMOVE);
	}
	return NULL;
}

/* A guard that is installed while a fault maps the page for writing. */
TEST_F_TIMEOUT(dax, guard_race, 60)
{
	struct guard g = { .page = self->map + 7 * PAGE };
	unsigned long mapped = 0, refused = 0;
	pthread_t thread;
	time_t end;

	if (!variant->single_pages)
		SKIP(return, "not for this memory: no page is guarded alone");
	ASSERT_EQ(pthread_create(&thread, NULL, guard_again, &g), 0);
	for (end = time(NULL) + 3; time(NULL) < end;) {
		if (!madvise(g.page, PAGE, MADV_POPULATE_WRITE))
			mapped++;
		else
			refused++;
	}
	__atomic_store_n(&g.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ASSERT_NE(mapped, 0);
	ASSERT_NE(refused, 0);
	ASSERT_EQ(load(g.page), 0);
	ASSERT_EQ(warned(), self->warned);
}

/*
 * What is write-protected before it is mapped can be read, and written, which
 * ends the protection. Where pages cannot be mapped alone it is refused.
 */
TEST_F(dax, uffd_wp_async)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC |
			    UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->map, self->size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = reg.range,
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	size_t at = self->size / 2 + 5 * PAGE;
	int uffd, ret, i;

	fill(self->map + at, 2 * PAGE, at, 4);
	uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no write protection by userfaultfd");
	ret = ioctl(uffd, UFFDIO_REGISTER, &reg);
	ASSERT_EQ(ret, variant->single_pages ? 0 : -1);
	/* Mapped before, then not. */
	for (i = 0; i < 2 && !ret; i++) {
		ASSERT_EQ(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
		ASSERT_TRUE(same(self->map + at, 2 * PAGE, at, 4 + i));
		ASSERT_FALSE(page_is(self->map + at, PAGE_IS_WRITTEN));
		fill(self->map + at, 2 * PAGE, at, 5 + i);
		ASSERT_TRUE(page_is(self->map + at, PAGE_IS_WRITTEN));
		ASSERT_TRUE(same(self->map + at, 2 * PAGE, at, 5 + i));
		ASSERT_EQ(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
		ASSERT_EQ(madvise(self->map, self->size, MADV_DONTNEED), 0);
	}
	ASSERT_TRUE(same(self->map + at, 2 * PAGE, at, ret ? 4 : 6));
	/* The first access to what is not mapped is a store. */
	if (!ret) {
		ASSERT_EQ(madvise(self->map, self->size, MADV_DONTNEED), 0);
		ASSERT_EQ(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
		fill(self->map + at, PAGE, at, 7);
		ASSERT_TRUE(same(self->map + at, PAGE, at, 7));
	}
	close(uffd);
	ASSERT_EQ(warned(), self->warned);
}

#define HOLES	8

FIXTURE(holes)
{
	char *map;
	int fd;
	unsigned int warned;
};

FIXTURE_VARIANT(holes)
{
	const char *env;
};

FIXTURE_VARIANT_ADD(holes, ext4)
{
	"HMM_DAX_EXT4"
};

FIXTURE_VARIANT_ADD(holes, xfs)
{
	"HMM_DAX_XFS"
};

/* Blocks that are allocated, but not written, and mapped for reading. */
FIXTURE_SETUP(holes)
{
	const char *dir = getenv(variant->env);
	int i;

	self->fd = -1;
	if (!dir)
		SKIP(return, "%s is not set", variant->env);
	self->fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(posix_fallocate(self->fd, 0, HOLES * PAGE), 0);
	self->map = map_file(self->fd, HOLES * PAGE, PAGE, 0);
	ASSERT_NE(self->map, MAP_FAILED);
	for (i = 0; i < HOLES; i++)
		ASSERT_EQ(self->map[i * PAGE], 0);
	self->warned = warned();
}

FIXTURE_TEARDOWN(holes)
{
	if (self->fd >= 0)
		close(self->fd);
}

/* After write() to all pages from @first: how many are mapped with their data? */
static int write_holes(int fd, const char *map, int first)
{
	char *buf = malloc(PAGE);
	int i, good = 0;

	for (i = first; i < HOLES; i++) {
		fill(buf, PAGE, i * PAGE, 1);
		if (pwrite(fd, buf, PAGE, i * PAGE) != (ssize_t)PAGE)
			return -1;
	}
	for (i = first; i < HOLES; i++)
		good += same(map + i * PAGE, PAGE, i * PAGE, 1);
	free(buf);
	return good;
}

/*
 * The first write() may initialize the blocks of the others, too. On ext4 it does so
 * up to 32 KiB, which is nothing if a page has 64 KiB.
 */
TEST_F(holes, write_beside_write)
{
	ASSERT_EQ(write_holes(self->fd, self->map, 0), HOLES);
	ASSERT_EQ(warned(), self->warned);
}

/* And so may the fault of a store. */
TEST_F(holes, write_beside_store)
{
	self->map[0] = 1;
	ASSERT_EQ(write_holes(self->fd, self->map, 1), HOLES - 1);
	ASSERT_EQ(warned(), self->warned);
}

/*
 * One write() for a page that something else has a reference to, and for a hole
 * beside it: what has a block stays where it is.
 */
TEST_F(holes, write_beside_reference)
{
	char *buf = malloc(2 * PAGE);
	struct iovec iov = { .iov_base = self->map, .iov_len = PAGE };
	int fds[2];

	ASSERT_EQ(pipe(fds), 0);
	fill(buf, PAGE, 0, 1);
	ASSERT_EQ(pwrite(self->fd, buf, PAGE, 0), (ssize_t)PAGE);
	ASSERT_TRUE(same(self->map, PAGE, 0, 1));
	ASSERT_EQ(vmsplice(fds[1], &iov, 1, 0), (ssize_t)PAGE);

	fill(buf, 2 * PAGE, 0, 2);
	ASSERT_EQ(pwrite(self->fd, buf, 2 * PAGE, 0), (ssize_t)(2 * PAGE));
	ASSERT_TRUE(same(self->map, 2 * PAGE, 0, 2));
	ASSERT_EQ(read(fds[0], buf, PAGE), (ssize_t)PAGE);
	ASSERT_TRUE(same(buf, PAGE, 0, 2));
	ASSERT_EQ(warned(), self->warned);
	close(fds[0]);
	close(fds[1]);
	free(buf);
}

FIXTURE(reflink)
{
	int fd[2];	/* the same blocks */
	unsigned int warned;
};

FIXTURE_SETUP(reflink)
{
	const char *dir = getenv("HMM_DAX_XFS");

	self->fd[0] = -1;
	self->fd[1] = -1;
	if (!dir)
		SKIP(return, "HMM_DAX_XFS is not set");
	if (!pmd_size())
		SKIP(return, NO_LEAF);
	self->fd[0] = make_file(dir, pmd_size(), 1);
	ASSERT_GE(self->fd[0], 0)
		TH_LOG("%s: %s", dir, strerror(errno));
	if (!has_pmd_extents(self->fd[0], pmd_size()))
		SKIP(return, "%s gives files no blocks aligned to a PMD", dir);
	self->fd[1] = open(dir, O_TMPFILE | O_RDWR, 0600);
	ASSERT_GE(self->fd[1], 0);
	if (ioctl(self->fd[1], FICLONE, self->fd[0]))
		SKIP(return, "%s has no reflink", dir);
	self->warned = warned();
}

FIXTURE_TEARDOWN(reflink)
{
	if (self->fd[0] >= 0)
		close(self->fd[0]);
	if (self->fd[1] >= 0)
		close(self->fd[1]);
}

/* write() to a shared block that the file has mapped, by pages or by a PMD. */
static bool write_mapped(int fd[2], size_t skew)
{
	size_t at = 10 * PAGE;
	char *p, *buf;

	p = map_file(fd[0], pmd_size(), pmd_size(), skew);
	buf = malloc(pmd_size());
	if (p == MAP_FAILED || !buf || load(p + at) || is_large(p) != !skew)
		return false;
	fill(buf, PAGE, at, 2);
	if (pwrite(fd[0], buf, PAGE, at) != (ssize_t)PAGE ||
	    !same(p + at, PAGE, at, 2) ||
	    !same(p + at + PAGE, PAGE, at + PAGE, 1))
		return false;
	/* The other file has its own. */
	if (pread(fd[1], buf, pmd_size(), 0) != (ssize_t)pmd_size() ||
	    !same(buf, pmd_size(), 0, 1))
		return false;
	free(buf);
	return true;
}

TEST_F(reflink, write_mapped_pages)
{
	ASSERT_TRUE(write_mapped(self->fd, PAGE));
	ASSERT_EQ(warned(), self->warned);
}

TEST_F(reflink, write_mapped_large)
{
	ASSERT_TRUE(write_mapped(self->fd, 0));
	ASSERT_EQ(warned(), self->warned);
}

/* Both files have all the bytes of @seed, whoever looks first. */
static bool both_read(char *p[2], uint64_t seed)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		if (load(p[i]) || load(p[i] + pmd_size() - 1) ||
		    !same(p[i], pmd_size(), 0, seed))
			return false;
	}
	return true;
}

/* One file by pages, then the other by a PMD, and the other way round. */
TEST_F(reflink, leaf_sizes)
{
	unsigned int small, i;
	char *p[2];

	for (small = 0; small < 2; small++) {
		for (i = 0; i < 2; i++) {
			p[i] = map_file(self->fd[i], pmd_size(), pmd_size(),
					i == small ? PAGE : 0);
			ASSERT_NE(p[i], MAP_FAILED);
		}
		ASSERT_TRUE(both_read(p, 1));
		/* Pages of what is large; nothing is large of what is pages. */
		ASSERT_EQ(is_large(p[0]), small == 1);
		ASSERT_FALSE(is_large(p[1]));

		/* Drops what DAX knows of the files, not the blocks. */
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(munmap(p[i], pmd_size()), 0);
			ASSERT_EQ(fallocate(self->fd[i], FALLOC_FL_PUNCH_HOLE |
					    FALLOC_FL_KEEP_SIZE, 0, pmd_size()), 0);
		}
		/* Blocks that nobody shares, quite likely the same ones. */
		close(self->fd[0]);
		close(self->fd[1]);
		self->fd[0] = make_file(getenv("HMM_DAX_XFS"), pmd_size(), 1);
		ASSERT_GE(self->fd[0], 0);
		p[0] = map_file(self->fd[0], pmd_size(), pmd_size(), 0);
		ASSERT_NE(p[0], MAP_FAILED);
		ASSERT_EQ(load(p[0]), 0);
		ASSERT_TRUE(is_large(p[0]));
		ASSERT_TRUE(same(p[0], pmd_size(), 0, 1));
		munmap(p[0], pmd_size());
		self->fd[1] = open(getenv("HMM_DAX_XFS"), O_TMPFILE | O_RDWR,
				   0600);
		ASSERT_EQ(ioctl(self->fd[1], FICLONE, self->fd[0]), 0);
	}
	ASSERT_EQ(warned(), self->warned);
}

/* One file in two mappings of which one is not aligned; the other file stays. */
TEST_F(reflink, two_mappings)
{
	size_t at = 5 * PAGE;
	char *large, *small, *other;

	large = map_file(self->fd[0], pmd_size(), pmd_size(), 0);
	small = map_file(self->fd[0], pmd_size(), pmd_size(), PAGE);
	other = map_file(self->fd[1], pmd_size(), pmd_size(), 0);
	ASSERT_NE(large, MAP_FAILED);
	ASSERT_NE(small, MAP_FAILED);
	ASSERT_NE(other, MAP_FAILED);

	ASSERT_TRUE(same(large, pmd_size(), 0, 1));
	ASSERT_TRUE(is_large(large));
	ASSERT_TRUE(same(small, pmd_size(), 0, 1));
	ASSERT_TRUE(same(other, pmd_size(), 0, 1));

	/* Copies one page of what is large. */
	fill(small + at, PAGE, at, 2);
	ASSERT_TRUE(same(large + at, PAGE, at, 2));
	ASSERT_TRUE(same(large + at + PAGE, PAGE, at + PAGE, 1));
	ASSERT_TRUE(same(other, pmd_size(), 0, 1));
	fill(large, PAGE, 0, 3);
	ASSERT_TRUE(same(small, PAGE, 0, 3));
	ASSERT_TRUE(same(small + at, PAGE, at, 2));
	ASSERT_EQ(fsync(self->fd[0]), 0);
	ASSERT_TRUE(same(other, pmd_size(), 0, 1));
	ASSERT_EQ(warned(), self->warned);
}

/*
 * One file by a PMD, a page of it by the other. Then the large one gives up its
 * blocks, all but one of them or all, and the other one is the only owner of a
 * page that it maps for the first time.
 */
static bool last_owner(int fd[2], bool truncate)
{
	size_t at = 5 * PAGE, next = 7 * PAGE;
	char *large, *small, *buf;

	large = map_file(fd[0], pmd_size(), pmd_size(), 0);
	small = map_file(fd[1], pmd_size(), pmd_size(), PAGE);
	buf = malloc(PAGE);
	if (large == MAP_FAILED || small == MAP_FAILED || !buf ||
	    load(large) || !is_large(large) || load(small + at))
		return false;

	fill(buf, PAGE, next, 2);
	if (truncate ? ftruncate(fd[0], 0) :
	    pwrite(fd[0], buf, PAGE, next) != (ssize_t)PAGE)
		return false;
	if (!same(small + next, PAGE, next, 1) || !same(small + at, PAGE, at, 1))
		return false;
	if (!truncate && (!same(large + next, PAGE, next, 2) ||
			  !same(large + at, PAGE, at, 1)))
		return false;

	/* One of its pages goes, and the other one is still there. */
	if (fallocate(fd[1], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
		      PAGE) || !same(small + next, PAGE, next, 1))
		return false;
	free(buf);
	return !ftruncate(fd[1], 0) && !munmap(large, pmd_size()) &&
	       !munmap(small, pmd_size());
}

TEST_F(reflink, last_owner_write)
{
	ASSERT_TRUE(last_owner(self->fd, false));
	ASSERT_EQ(warned(), self->warned);
}

TEST_F(reflink, last_owner_truncate)
{
	ASSERT_TRUE(last_owner(self->fd, true));
	ASSERT_EQ(warned(), self->warned);
}

/* A thread that maps one of the files and reads it, again and again. */
struct reader {
	pthread_t thread;
	int fd;
	char *map;
	unsigned long wrong;
	bool *stop;
};

static void *reader(void *arg)
{
	struct reader *r = arg;
	unsigned long i = 0;

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		/* Not the start, which is written to. */
		if (!same(r->map + pmd_size() / 2, PAGE, pmd_size() / 2, 1))
			r->wrong++;
		if (!(++i % 4))
			mmap(r->map, pmd_size(), PROT_READ, MAP_SHARED | MAP_FIXED,
			     r->fd, 0);
	}
	return NULL;
}

/*
 * The two files are mapped, written to, and shared again, by threads that do not
 * know of each other.
 */
TEST_F_TIMEOUT(reflink, races, 60)
{
	struct reader readers[4];
	bool stop = false;
	time_t end;
	char *buf;
	int i;

	buf = malloc(PAGE);
	ASSERT_NE(buf, NULL);
	fill(buf, PAGE, 0, 5);
	for (i = 0; i < 4; i++) {
		readers[i].fd = self->fd[i % 2];
		readers[i].wrong = 0;
		readers[i].stop = &stop;
		readers[i].map = map_file(readers[i].fd, pmd_size(), pmd_size(),
					  i / 2 * PAGE);
		ASSERT_NE(readers[i].map, MAP_FAILED);
		ASSERT_EQ(pthread_create(&readers[i].thread, NULL, reader,
					 &readers[i]), 0);
	}
	for (end = time(NULL) + 8; time(NULL) < end;) {
		struct file_clone_range range = {
			.src_fd = self->fd[0], .src_length = pmd_size(),
		};

		EXPECT_EQ(pwrite(self->fd[0], buf, PAGE, 0), (ssize_t)PAGE);
		EXPECT_EQ(pwrite(self->fd[1], buf, PAGE, PAGE), (ssize_t)PAGE);
		EXPECT_EQ(ioctl(self->fd[1], FICLONERANGE, &range), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 4; i++) {
		pthread_join(readers[i].thread, NULL);
		EXPECT_EQ(readers[i].wrong, 0);
	}
	ASSERT_EQ(warned(), self->warned);
}

/* A thread that maps the start of a file, reads it, and unmaps it. */
struct unmapper {
	pthread_t thread;
	int fd;
	size_t skew;
	bool *stop;
	unsigned int rounds;
};

/*
 * munmap() has given up its mapping of the file long before it is done with the
 * anonymous memory behind it: until then it keeps its reference to the folio.
 */
static void *unmapper(void *arg)
{
	size_t anon = 1024 * PAGE, i;
	struct unmapper *u = arg;
	char *p, *end;

	while (!__atomic_load_n(u->stop, __ATOMIC_RELAXED)) {
		p = map_file(u->fd, pmd_size(), pmd_size() + anon, u->skew);
		if (p == MAP_FAILED)
			break;
		end = p + pmd_size();
		if (mmap(end, anon, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != end)
			break;
		madvise(end, anon, MADV_NOHUGEPAGE);
		for (i = 0; i < anon; i += PAGE)
			end[i] = 1;
		load(p);
		munmap(p, pmd_size() + anon);
		u->rounds++;
	}
	return NULL;
}

static void write_while_unmapped(struct __test_metadata *_metadata,
				 FIXTURE_DATA(reflink) *self, size_t skew)
{
	bool stop = false;
	struct unmapper u = { .fd = self->fd[0], .skew = skew, .stop = &stop };
	time_t end;
	char *buf;

	buf = malloc(PAGE);
	ASSERT_NE(buf, NULL);
	fill(buf, PAGE, 0, 5);
	ASSERT_EQ(pthread_create(&u.thread, NULL, unmapper, &u), 0);
	for (end = time(NULL) + 4; time(NULL) < end;) {
		EXPECT_EQ(pwrite(self->fd[0], buf, PAGE, 0), (ssize_t)PAGE);
		EXPECT_EQ(ioctl(self->fd[0], FICLONE, self->fd[1]), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(u.thread, NULL);
	ASSERT_GT(u.rounds, 0);
	ASSERT_EQ(warned(), self->warned);
}

TEST_F(reflink, unmap_race_pages)
{
	write_while_unmapped(_metadata, self, PAGE);
}

TEST_F(reflink, unmap_race_large)
{
	write_while_unmapped(_metadata, self, 0);
}

/*
 * A thread that maps a file by pages, and has it forget them: in step with the
 * others, so that they all have the same page at the same time.
 */
struct sharer {
	pthread_t thread;
	struct file_clone_range blocks;
	int fd;
	char *map;
	unsigned int number;
	unsigned int *arrived;
	bool *stop;
	bool failed;
};

#define SHARERS		2U
#define SHARE_ROUNDS	200U
#define SHARE_SECONDS	10	/* where a CPU is not always there: fewer rounds */

static void meet(unsigned int *arrived, unsigned int *round)
{
	unsigned int all = ++*round * SHARERS, tries = 0;

	__atomic_fetch_add(arrived, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(arrived, __ATOMIC_SEQ_CST) < all)
		if (!(++tries % 10000))
			sched_yield();
}

static void *sharer(void *arg)
{
	struct sharer *s = arg;
	unsigned int i, round = 0, seed = s->number;
	time_t end = time(NULL) + SHARE_SECONDS;
	int later;
	size_t at;

	for (i = 0; i < SHARE_ROUNDS && !*s->stop; i++) {
		for (at = 0; at < pmd_size(); at += PAGE) {
			meet(s->arrived, &round);
			/* So that either may be a little ahead. */
			for (later = rand_r(&seed) % 64; later > 0; later--)
				asm volatile("" : : : "memory");
			FORCE_READ(s->map[at]);
		}
		/* Every other time, while the others have the pages mapped. */
		meet(s->arrived, &round);
		if (i % 2 && s->number)
			meet(s->arrived, &round);
		/* The blocks stay the same ones, the entries for them go. */
		if (ioctl(s->fd, FICLONERANGE, &s->blocks))
			s->failed = true;
		if (i % 2 && !s->number)
			meet(s->arrived, &round);
		if (!s->number && time(NULL) >= end)
			*s->stop = true;
		meet(s->arrived, &round);
	}
	return NULL;
}

/* The pages know how many files have them, although these come and go together. */
TEST_F_TIMEOUT(reflink, counts, 60)
{
	struct sharer sharers[SHARERS] = {};
	unsigned int arrived = 0, i;
	bool stop = false;
	char *p;

	for (i = 0; i < SHARERS; i++) {
		struct sharer *s = &sharers[i];

		s->blocks.src_fd = self->fd[i];
		s->blocks.src_length = pmd_size();
		s->number = i;
		s->arrived = &arrived;
		s->stop = &stop;
		s->fd = open(getenv("HMM_DAX_XFS"), O_TMPFILE | O_RDWR, 0600);
		ASSERT_GE(s->fd, 0);
		ASSERT_EQ(ioctl(s->fd, FICLONERANGE, &s->blocks), 0);
		s->map = map_file(s->fd, pmd_size(), pmd_size(), PAGE);
		ASSERT_NE(s->map, MAP_FAILED);
	}
	for (i = 0; i < SHARERS; i++)
		ASSERT_EQ(pthread_create(&sharers[i].thread, NULL, sharer,
					 &sharers[i]), 0);
	for (i = 0; i < SHARERS; i++) {
		pthread_join(sharers[i].thread, NULL);
		EXPECT_FALSE(sharers[i].failed);
	}
	ASSERT_EQ(warned(), self->warned);

	/* No file has any of the pages, so nothing is in the way of a large leaf. */
	p = map_file(self->fd[0], pmd_size(), pmd_size(), 0);
	ASSERT_NE(p, MAP_FAILED);
	ASSERT_EQ(load(p), 0);
	ASSERT_TRUE(is_large(p));
	ASSERT_TRUE(same(p, pmd_size(), 0, 1));
}

TEST_HARNESS_MAIN
