// SPDX-License-Identifier: GPL-2.0
/*
 * bench-cases faults: one hmm_range_fault() over a cold range, one line
 *	"case pages leaves order faults" for each mapping.
 * bench-cases cost: what it costs, one line "case pages leaves ns limit";
 *	under QEMU's instruction clock ns are instructions. The limit of a warm
 *	case is, for dense output, the loop that fills the array; for a list, the
 *	walk from the top of the page table down to each leaf. When
 *	cold it is the CPU touching one byte a leaf besides. Where one fault maps
 *	many PTEs (fault-around, a large folio) it touches one byte for all of
 *	these, and the limit of both outputs has the walk.
 * bench-cases curves: what ranges of growing size cost, one line
 *	"curve case pages leaves ns".
 *
 * bench-cases dma: what it costs to map a range for a device and to take it back,
 *	one line "case pages leaves ns limit gpusvm bytes", see struct
 *	hmm_bench_dma. The base kernel has ns and bytes only.
 *
 * Memory comes from HMM_DAX_* as for the selftest hmm_dax.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "hmm_bench.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MB(n) ((size_t)(n) << 20)
#define GB(n) ((size_t)(n) << 30)

static int bench;
static const char *only;	/* the one case to run, or NULL for all */
static size_t page_size;

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
	int times;		/* the file is mapped, one after another; 0: once */
	size_t window;		/* that one fault maps; 0: a leaf */
};

/*
 * A new mapping each time: page tables are empty. It has its PUD entries to
 * itself, so that the tables below them are new as well.
 */
static char *map(const struct mapping *m)
{
	int flags = m->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	size_t total = m->size * (m->times ?: 1), room = total + GB(2);
	size_t at;
	char *p = mmap(NULL, room, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "%s: mmap", m->name);
	munmap(p, room);
	p = (char *)(((uintptr_t)p + GB(1) - 1) / GB(1) * GB(1)) + m->skew;
	for (at = 0; at < total; at += m->size)
		if (mmap(p + at, m->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE,
			 m->fd, 0) == MAP_FAILED)
			err(1, "%s: mmap", m->name);
	if (m->fd < 0 && madvise(p, m->size, MADV_HUGEPAGE))
		err(1, "%s: no THP", m->name);
	return p;
}

static struct hmm_bench_fault fault(const struct mapping *m, char *p, size_t size, int flags)
{
	struct hmm_bench_fault f = {
		.addr = (uintptr_t)p,
		.npages = size / page_size,
		.flags = m->flags | flags,
	};

	if (ioctl(bench, HMM_BENCH_FAULT, &f))
		err(1, "%s: HMM_BENCH_FAULT", m->name);
	return f;
}

static void faults(const struct mapping *m)
{
	char *p = map(m);
	struct hmm_bench_fault f = fault(m, p, m->size, 0);

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

static unsigned long long walk(char *p, size_t npages)
{
	struct hmm_bench_walk w = { .addr = (uintptr_t)p, .npages = npages };

	if (ioctl(bench, HMM_BENCH_WALK, &w))
		err(1, "HMM_BENCH_WALK");
	return w.ns;
}

/* Does this kernel have output as a list? Nothing need be mapped to ask. */
static bool has_list(void)
{
	struct hmm_bench_fault f = { .npages = 1, .flags = HMM_BENCH_LIST };

	ioctl(bench, HMM_BENCH_FAULT, &f);
	return errno != EOPNOTSUPP;
}

/*
 * The least of a number of runs: a timer tick costs what a small case does, so
 * small ones run often.
 */
struct least {
	unsigned long long cold, warm;
	unsigned long long leaves;
};

static void at_least(unsigned long long *min, unsigned long long value)
{
	if (!*min || value < *min)
		*min = value;
}

static struct least measure(const struct mapping *m, size_t size, int flags)
{
	struct least l = {};
	int run, runs = 3;

	for (run = 0; run < runs; run++) {
		char *p = map(m);
		struct hmm_bench_fault f = fault(m, p, size, flags);

		at_least(&l.cold, f.ns);
		l.leaves = f.leaves;
		at_least(&l.warm, fault(m, p, size, flags).ns);
		munmap(p, m->size * (m->times ?: 1));
		if (l.cold < 1000000 || l.warm < 1000000)
			runs = 25;
	}
	return l;
}

static void print(const char *kind, const struct mapping *m, const char *output,
		  unsigned long long leaves, unsigned long long ns, unsigned long long limit)
{
	printf("%s_%s%s %zu %llu %llu %llu\n", kind, m->name, output, m->size / page_size, leaves,
	       ns, limit);
	fflush(stdout);
}

static void cost(const struct mapping *m)
{
	unsigned long long touched = 0, filled = 0, walked = 0;
	struct least l = measure(m, m->size, 0);
	int run;

	for (run = 0; run < 25; run++) {
		char *p;

		at_least(&touched, touch(m, m->window ?: m->size / l.leaves));
		at_least(&filled, fill(m->size / page_size));
		p = map(m);
		fault(m, p, m->size, 0);
		at_least(&walked, walk(p, m->size / page_size));
		munmap(p, m->size);
		if (run == 3 && touched > 1000000 && filled > 1000000 && walked > 1000000)
			break;
	}
	print("fault_cold", m, "", l.leaves, l.cold, touched + (m->window ? walked : filled));
	print("walk_warm", m, "", l.leaves, l.warm, filled);
	if (!has_list())
		return;
	l = measure(m, m->size, HMM_BENCH_LIST);
	print("fault_cold", m, "_list", l.leaves, l.cold, touched + walked);
	print("walk_warm", m, "_list", l.leaves, l.warm, walked);
}

static int devdax(void)
{
	const char *name = need("HMM_DAX_DEV_PUD");
	int fd = open(name, O_RDWR);

	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

/*
 * A terabyte of the same GiB, again and again, and no two neighbours contiguous. Dense
 * output would take an array of 2 GiB.
 */
static void terabyte(void)
{
	int dev = devdax();
	const struct mapping m = { "pud_1t", dev, GB(1), 0, 0, 1024, 0 };
	unsigned long long walked = 0;
	struct least l;
	char *p;
	int run;

	if (!has_list() || (only && strcmp(only, m.name)))
		return;
	l = measure(&m, GB(1024), HMM_BENCH_LIST);
	p = map(&m);
	fault(&m, p, GB(1024), HMM_BENCH_LIST);
	for (run = 0; run < 25; run++)
		at_least(&walked, walk(p, GB(1024) / page_size));
	munmap(p, GB(1024));
	printf("walk_warm_%s_list %zu %llu %llu %llu\n", m.name, GB(1024) / page_size, l.leaves,
	       l.warm, walked);
	close(dev);
}

/* Sizes from @step on, doubled each time, to the end of the mapping. */
static void print_curve(const struct mapping *m, size_t step)
{
	int flags[] = { 0, HMM_BENCH_LIST };
	size_t size, i;

	if (only && strcmp(only, m->name))
		return;
	for (i = 0; i < (has_list() ? 2 : 1); i++) {
		for (size = step; size <= m->size * (m->times ?: 1); size *= 2) {
			struct least l = measure(m, size, flags[i]);
			const char *output = i ? "_list" : "";

			printf("curve cold_%s%s %zu %llu %llu\n", m->name, output, size / page_size,
			       l.leaves, l.cold);
			printf("curve warm_%s%s %zu %llu %llu\n", m->name, output, size / page_size,
			       l.leaves, l.warm);
			fflush(stdout);
		}
	}
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
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page_size))
		err(1, "punch");
}

/* Anonymous memory is to come in folios of 64 KiB, or else in THPs. */
static void folios_of_64k(bool on)
{
	static const char *const names[] = { "64kB", "2048kB" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		char path[80];
		FILE *f;

		snprintf(path, sizeof(path),
			 "/sys/kernel/mm/transparent_hugepage/hugepages-%s/enabled", names[i]);
		f = fopen(path, "w");
		if (!f || fputs(on == !i ? "madvise" : "never", f) < 0 || fclose(f))
			err(1, "%s", path);
	}
}

/* With larger ones, arm64 has no leaves of a PUD, and 64 KiB is not a folio of its own. */
static bool has_small_pages(void)
{
	return page_size == 4096;
}

/* What a PMD maps, in bytes. */
static size_t pmd_size(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "r");
	size_t size;

	if (!f || fscanf(f, "%zu", &size) != 1)
		err(1, "hpage_pmd_size");
	fclose(f);
	return size;
}

static void each_case(void (*one)(const struct mapping *m))
{
	size_t large = pmd_size() > MB(256) ? pmd_size() : MB(256);
	int dev = has_small_pages() ? devdax() : -1;
	int file = written_file(need("HMM_DAX_EXT4"), large);
	int cached = written_file("/dev/shm", MB(64));
	char pmd[24], pmd_write[32], thp[24];
	const struct mapping cases[] = {
		{ "pud_1g", dev, GB(1), 0, 0, 0, 0 },
		{ "pud_1g_write", dev, GB(1), 0, HMM_BENCH_WRITE, 0, 0 },
		{ pmd, file, large, 0, 0, 0, 0 },
		{ pmd_write, file, large, 0, HMM_BENCH_WRITE, 0, 0 },
		/* Addresses out of step with the file's blocks: by pages. */
		{ "pte_64m", file, MB(64), page_size, 0, 0, 0 },
		{ "pte_64m_write", file, MB(64), page_size, HMM_BENCH_WRITE, 0, 0 },
		{ thp, -1, large, 0, HMM_BENCH_WRITE, 0, 0 },
		/* The page cache: a read fault maps what is around as well. */
		{ "file_64m", cached, MB(64), 0, 0, 0, 65536 },
		{ "mthp_64m", -1, MB(64), 0, HMM_BENCH_WRITE, 0, 65536 },
	};
	size_t i;

	snprintf(pmd, sizeof(pmd), "pmd_%zum", large >> 20);
	snprintf(pmd_write, sizeof(pmd_write), "%s_write", pmd);
	snprintf(thp, sizeof(thp), "thp_%zum", large >> 20);
	/* The first two need leaves of a PUD. */
	for (i = has_small_pages() ? 0 : 2; i < ARRAY_SIZE(cases); i++)
		if (!only || !strcmp(only, cases[i].name)) {
			if (has_small_pages())
				folios_of_64k(cases[i].window);
			one(&cases[i]);
		}
	if (has_small_pages())
		folios_of_64k(false);
	if (one == faults) {
		/* A page of the first 2 MiB is a hole: pages, then PMD leaves. */
		const struct mapping mixed = { "mixed_16m", file, MB(16), 0, 0, 0, 0 };

		punch(file);
		one(&mixed);
	}
	close(cached);
	close(file);
	if (dev >= 0)
		close(dev);
}

/* From 1 leaf to 1,024, and from 2 MiB to 1 GiB within one leaf. */
static void curves(void)
{
	int dev = devdax(), file = written_file(need("HMM_DAX_EXT4"), MB(256));
	const struct mapping pud = { "pud", dev, GB(1), 0, 0, 0, 0 };
	const struct mapping pmd = { "pmd", file, MB(256), 0, 0, 8, 0 };
	const struct mapping pte = { "pte", file, MB(4), 4096, 0, 0, 0 };

	print_curve(&pud, MB(2));
	print_curve(&pmd, MB(2));
	print_curve(&pte, 4096);
	close(file);
	close(dev);
}

/* A file whose pages are mapped so that no two neighbours are contiguous. */
static char *map_fragmented(int fd, size_t size)
{
	size_t n = size / 4096, i;
	char *p = mmap(NULL, size + MB(4), PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "fragmented: mmap");
	p = (char *)(((uintptr_t)p + MB(2) - 1) / MB(2) * MB(2));
	for (i = 0; i < n; i++) {
		size_t page = i % 2 ? n / 2 + i / 2 : i / 2;

		if (mmap(p + i * 4096, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 page * 4096) == MAP_FAILED)
			err(1, "fragmented: mmap of page %zu", i);
	}
	return p;
}

struct dma_case {
	const char *name;
	char *window;
	size_t window_size;
	char *addr;
	size_t size;
	size_t leaves;
	int flags;
};

static int bench_dma = -1;

/* The least of some runs; false if the kernel has not that method. */
static bool dma(const struct dma_case *c, int method, int flags, struct hmm_bench_dma *least)
{
	int run, runs = 3;

	*least = (struct hmm_bench_dma){};
	for (run = 0; run < runs; run++) {
		struct hmm_bench_dma d = {
			.window = (uintptr_t)c->window,
			.window_npages = c->window_size / 4096,
			.addr = (uintptr_t)c->addr,
			.npages = c->size / 4096,
			.flags = flags | c->flags,
			.method = method,
		};

		if (ioctl(bench_dma, HMM_BENCH_DMA, &d)) {
			if (errno == EOPNOTSUPP)
				return false;
			err(1, "%s: HMM_BENCH_DMA, method %d", c->name, method);
		}
		at_least((unsigned long long *)&least->map_ns, d.map_ns);
		at_least((unsigned long long *)&least->unmap_ns, d.unmap_ns);
		least->bytes = d.bytes;
		if (d.map_ns < 1000000 || d.unmap_ns < 1000000)
			runs = 25;
	}
	return true;
}

static void dma_costs(const struct dma_case *c)
{
	int device;

	for (device = 0; device <= HMM_BENCH_DIRECT; device += HMM_BENCH_DIRECT) {
		struct hmm_bench_dma cost, limit = {}, gpusvm = {};
		char name[64];

		if (dma(c, HMM_BENCH_RANGE, device, &cost)) {
			dma(c, HMM_BENCH_LIMIT, device, &limit);
			/* It wants an array of its own, and whole leaves. */
			if (c->addr == c->window)
				dma(c, HMM_BENCH_GPUSVM, device, &gpusvm);
		} else if (!dma(c, HMM_BENCH_PAGES, device, &cost)) {
			continue;
		}
		snprintf(name, sizeof(name), "%s%s", c->name, device ? "_direct" : "");
		printf("dma_map_%s %zu %zu %llu %llu %llu %llu\n", name, c->size / 4096,
		       c->leaves, cost.map_ns, limit.map_ns, gpusvm.map_ns, cost.bytes);
		printf("dma_unmap_%s %zu %zu %llu %llu %llu %llu\n", name,
		       c->size / 4096, c->leaves, cost.unmap_ns, limit.unmap_ns,
		       gpusvm.unmap_ns, cost.bytes);
		fflush(stdout);
	}
}

/* drm_gpusvm_get_pages(); xe's ranges have 2 MiB. */
static void get_pages_cost(const char *name, char *p, size_t size, size_t leaves)
{
	const struct dma_case c = { name, p, size, p, size, leaves, 0 };
	struct hmm_bench_dma cost, limit;

	if (only && strcmp(only, name))
		return;
	if (!dma(&c, HMM_BENCH_GET_PAGES, 0, &cost) || !dma(&c, HMM_BENCH_LIMIT, 0, &limit))
		err(1, "%s", name);
	printf("%s %zu %zu %llu %llu 0 %llu\n", name, c.size / 4096, leaves, cost.map_ns,
	       limit.map_ns, cost.bytes);
	fflush(stdout);
}

/* A page fault of an RDMA device: all of it, and the device's entries alone. */
static void odp_cost(const char *name, char *p, size_t size, size_t leaves)
{
	const struct dma_case c = { name, p, size, p, size, leaves, 0 };
	struct hmm_bench_dma cost, fill, limit;

	if (only && strcmp(only, name))
		return;
	if (!dma(&c, HMM_BENCH_ODP, 0, &cost) || !dma(&c, HMM_BENCH_ODP_LIMIT, 0, &fill) ||
	    !dma(&c, HMM_BENCH_LIMIT, 0, &limit))
		err(1, "%s", name);
	printf("odp_fault_%s %zu %zu %llu %llu 0 %llu\n", name, size / 4096, leaves,
	       cost.map_ns, limit.map_ns + fill.unmap_ns, cost.bytes);
	printf("odp_entries_%s %zu %zu %llu %llu 0 %llu\n", name, size / 4096, leaves,
	       cost.unmap_ns, fill.unmap_ns, cost.bytes);
	fflush(stdout);
}

static void each_dma(void)
{
	int dev = devdax(), file = written_file(need("HMM_DAX_EXT4"), MB(256));
	const struct mapping pud = { "pud", dev, GB(2), 0, 0, 0, 0 };
	const struct mapping pmd = { "pmd", file, MB(256), 0, 0, 0, 0 };
	const struct mapping pte = { "pte", file, MB(64), 4096, 0, 0, 0 };
	char *p = map(&pud), *q = map(&pmd), *r = map(&pte), *f = map_fragmented(file, MB(64));
	const struct dma_case cases[] = {
		{ "pud_1g", p, GB(1), p, GB(1), 1, 0 },
		/* From the second page of a leaf: within a mirror of leaves... */
		{ "pud_1g_mid", p, GB(2), p + 4096, GB(1), 2, 0 },
		/* ...and as the mirror itself. */
		{ "pud_1g_midwindow", p + 4096, GB(1), p + 4096, GB(1), 2, 0 },
		{ "pmd_256m", q, MB(256), q, MB(256), 128, 0 },
		{ "pte_64m", r, MB(64), r, MB(64), 16384, 0 },
		{ "ptefrag_64m", f, MB(64), f, MB(64), 16384, 0 },
		/* Each second page is mapped, all is taken back at once. */
		{ "ptegap_2m", r, MB(64), r, MB(2), 256, HMM_BENCH_GAPS },
	};
	size_t i;

	bench_dma = open("/dev/hmm_bench_dma", O_RDWR);
	if (bench_dma < 0)
		err(1, "/dev/hmm_bench_dma (is hmm_bench_dma.ko loaded?)");
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		if (!only || !strcmp(only, cases[i].name))
			dma_costs(&cases[i]);
	get_pages_cost("gpusvm_get_pages_pud_1g", p, GB(1), 1);
	get_pages_cost("gpusvm_get_pages_pmd_2m", q, MB(2), 1);
	get_pages_cost("gpusvm_get_pages_pte_2m", r + MB(2) - 4096, MB(2), 512);
	odp_cost("pud_1g", p, GB(1), 1);
	odp_cost("pmd_256m", q, MB(256), 128);
	odp_cost("pte_64m", r, MB(64), 16384);
	close(file);
	close(dev);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 && argc <= 3 ? argv[1] : "";

	only = argc > 2 ? argv[2] : NULL;
	page_size = sysconf(_SC_PAGESIZE);

	if (!strcmp(what, "dma")) {
		each_dma();
		return 0;
	}
	bench = open("/dev/hmm_bench", O_RDWR);
	if (bench < 0)
		err(1, "/dev/hmm_bench (is hmm_bench.ko loaded?)");
	if (!strcmp(what, "faults")) {
		each_case(faults);
	} else if (!strcmp(what, "cost")) {
		each_case(cost);
		if (has_small_pages())
			terabyte();
	} else if (!strcmp(what, "curves")) {
		curves();
	} else {
		errx(2, "usage: bench-cases faults|cost|curves|dma [CASE]");
	}
	return 0;
}
