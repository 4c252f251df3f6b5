// SPDX-License-Identifier: GPL-2.0
/*
 * hmm-bench faults: one hmm_range_fault() over a cold range, one line
 *	"case pages leaves order faults" for each mapping.
 * hmm-bench cost: what it costs, one line "case pages leaves ns limit";
 *	under QEMU's instruction clock ns are instructions. The limit of a cold
 *	case is the CPU touching one byte a leaf, and for dense output the loop
 *	that fills the array; of a warm one that loop alone.
 *
 * Memory comes from HMM_DAX_* as for the selftest hmm_dax.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "hmm_bench.h"

#define MB(n) ((size_t)(n) << 20)
#define GB(n) ((size_t)(n) << 30)

static int bench;

static const char *need(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		errx(1, "%s is not set: run dax-storage and source /run/storage", name);
	return value;
}

struct mapping {
	const char *name;
	int fd;			/* -1: anonymous memory, THP */
	size_t size;
	size_t skew;		/* of the address against the file offset */
	int flags;		/* HMM_BENCH_WRITE or 0 */
};

/*
 * A new mapping each time: page tables are empty. It has its PUD entries to
 * itself, so that the tables below them are new as well.
 */
static char *map(const struct mapping *m)
{
	int flags = m->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	size_t room = m->size + GB(2);
	char *p = mmap(NULL, room, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "%s: mmap", m->name);
	munmap(p, room);
	p = (char *)(((uintptr_t)p + GB(1) - 1) / GB(1) * GB(1)) + m->skew;
	p = mmap(p, m->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, m->fd, 0);
	if (p == MAP_FAILED)
		err(1, "%s: mmap", m->name);
	if (m->fd < 0 && madvise(p, m->size, MADV_HUGEPAGE))
		err(1, "%s: no THP", m->name);
	return p;
}

static struct hmm_bench_fault fault(const struct mapping *m, char *p)
{
	struct hmm_bench_fault f = {
		.addr = (uintptr_t)p,
		.npages = m->size / 4096,
		.flags = m->flags,
	};

	if (ioctl(bench, HMM_BENCH_FAULT, &f))
		err(1, "%s: HMM_BENCH_FAULT", m->name);
	return f;
}

static void faults(const struct mapping *m)
{
	char *p = map(m);
	struct hmm_bench_fault f = fault(m, p);

	printf("%s %llu %llu %u %llu\n", m->name, (unsigned long long)f.npages,
	       (unsigned long long)f.leaves, f.max_order, (unsigned long long)f.faults);
	fflush(stdout);
	munmap(p, m->size);
}

static unsigned long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* The CPU touches one byte in each leaf of an empty mapping. */
static unsigned long long touch(const struct mapping *m, size_t leaf)
{
	char *p = map(m);
	unsigned long long start = now(), ns;
	size_t at;

	for (at = 0; at < m->size; at += leaf) {
		if (m->flags & HMM_BENCH_WRITE)
			__atomic_store_n(p + at, 1, __ATOMIC_RELAXED);
		else
			__atomic_load_n(p + at, __ATOMIC_RELAXED);
	}
	ns = now() - start;
	munmap(p, m->size);
	return ns;
}

static unsigned long long fill(size_t npages)
{
	struct hmm_bench_fill f = { .npages = npages };

	if (ioctl(bench, HMM_BENCH_FILL, &f))
		err(1, "HMM_BENCH_FILL");
	return f.ns;
}

static void at_least(unsigned long long *min, unsigned long long value)
{
	if (!*min || value < *min)
		*min = value;
}

/*
 * The least of a number of runs: a timer tick costs what a small case does, so
 * small ones run often.
 */
static void cost(const struct mapping *m)
{
	unsigned long long cold = 0, warm = 0, touched = 0, filled = 0;
	struct hmm_bench_fault f = {};
	int run, runs = 3;

	for (run = 0; run < runs; run++) {
		char *p = map(m);

		f = fault(m, p);
		at_least(&cold, f.ns);
		f = fault(m, p);
		at_least(&warm, f.ns);
		munmap(p, m->size);
		at_least(&touched, touch(m, m->size / f.leaves));
		at_least(&filled, fill(m->size / 4096));
		if (cold < 1000000 || warm < 1000000 || touched < 1000000)
			runs = 25;
	}
	printf("fault_cold_%s %llu %llu %llu %llu\n", m->name, (unsigned long long)f.npages,
	       (unsigned long long)f.leaves, cold, touched + filled);
	printf("walk_warm_%s %llu %llu %llu %llu\n", m->name, (unsigned long long)f.npages,
	       (unsigned long long)f.leaves, warm, filled);
	fflush(stdout);
}

/* A file of written blocks, so that a fault finds data and not a hole. */
static int written_file(const char *dir, size_t size)
{
	static char block[MB(1)];
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	size_t at;

	if (fd < 0)
		err(1, "%s", dir);
	if (posix_fallocate(fd, 0, size))
		errx(1, "%s: no room for %zu bytes", dir, size);
	for (at = 0; at < size; at += sizeof(block))
		if (pwrite(fd, block, sizeof(block), at) != sizeof(block))
			err(1, "%s: write", dir);
	fsync(fd);
	return fd;
}

static void punch(int fd)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
		err(1, "punch");
}

int main(int argc, char **argv)
{
	void (*measure)(const struct mapping *m) = NULL;
	const char *name;
	size_t i;
	int fd;

	if (argc == 2 && !strcmp(argv[1], "faults"))
		measure = faults;
	else if (argc == 2 && !strcmp(argv[1], "cost"))
		measure = cost;
	else
		errx(2, "usage: hmm-bench faults|cost");
	bench = open("/dev/hmm_bench", O_RDWR);
	if (bench < 0)
		err(1, "/dev/hmm_bench (is hmm_bench.ko loaded?)");

	name = need("HMM_DAX_DEV_1G");
	fd = open(name, O_RDWR);
	if (fd < 0)
		err(1, "%s", name);
	const struct mapping pud[] = {
		{ "pud_1g", fd, GB(1), 0, 0 },
		{ "pud_1g_write", fd, GB(1), 0, HMM_BENCH_WRITE },
	};
	for (i = 0; i < 2; i++)
		measure(&pud[i]);
	close(fd);

	fd = written_file(need("HMM_DAX_EXT4"), MB(256));
	const struct mapping file[] = {
		{ "pmd_256m", fd, MB(256), 0, 0 },
		{ "pmd_256m_write", fd, MB(256), 0, HMM_BENCH_WRITE },
		/* Addresses out of step with the file's blocks: by pages. */
		{ "pte_64m", fd, MB(64), 4096, 0 },
		{ "pte_64m_write", fd, MB(64), 4096, HMM_BENCH_WRITE },
	};
	for (i = 0; i < 4; i++)
		measure(&file[i]);
	if (measure == faults) {
		/* A page of the first 2 MiB is a hole: pages, then PMD leaves. */
		const struct mapping mixed = { "mixed_16m", fd, MB(16), 0, 0 };

		punch(fd);
		measure(&mixed);
	}
	close(fd);

	const struct mapping thp = { "thp_256m", -1, MB(256), 0, HMM_BENCH_WRITE };

	measure(&thp);
	return 0;
}
