// SPDX-License-Identifier: GPL-2.0
/*
 * sweep [-v] [-o pattern] [-b what] dma|bench|odp|rdma|units
 *
 * Each allocation of an operation fails once. An operation on one kind of memory runs
 * again and again: without failures first, which says what it has to give; then its
 * first allocation fails, then its second, and so on until it has no more
 * (/proc/self/fail-nth). Each time it starts from nothing. After a failure
 *
 *   - the error is -ENOMEM, or the call has succeeded another way, with all that it
 *     has to give,
 *   - the device's record and the IOMMU have what they had before, block by block, and
 *     of what the call has mapped it has unmapped all,
 *   - the same call without a failure succeeds, and gives what it has to,
 *   - and when all is undone, as much memory is in use as before: nodes of the record,
 *     page tables of the process and of the IOMMU, and pages that the process has; and,
 *     at the end of each kind of memory, everything that its cgroup is charged for.
 *
 * The groups are what the loaded modules allow: dma is test_hmm, test_hmm_leaves and
 * test_hmm_dma, bench hmm_bench_dma, odp odp_race, rdma soft-RoCE, and units sweep_units.
 *
 *   -o  only those tests that have this extended regular expression in their name
 *   -v  the kernel logs a stack of each failure
 *   -b  the test of the test. record: before the record is compared, something is mapped;
 *       memory: a window stays open, and so does a
 *       process of the cgroup; never: nothing fails
 *
 * Memory comes from HMM_DAX_* as for the selftest hmm_dax. Prints TAP. Exit status 1:
 * something failed; 2: bad usage.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/test_hmm_dma_uapi.h"
#include "lib/test_hmm_leaves_uapi.h"
#include "lib/test_hmm_uapi.h"

#include "../bench/hmm_bench.h"
#include "../common/tap.h"
#include "../odp-race/odp_race.h"
#include "sweep_units.h"
#ifdef RDMA
/* The kernel's come first: libibverbs has older ones of its own in their place. */
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#endif
#include "../stress/rdma.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE		4096UL
#define PMD		(512 * PAGE)
#define PUD		(512 * PMD)
#define MAX_BLOCKS	1024	/* of a memory */
#define MAX_POINTS	2000	/* of an operation: there is no end to it otherwise */
#define PATIENCE	3600	/* seconds for one test, of a guest whose time runs fast */
#define MIRRORED	64	/* pages that test_hmm moves */
#define BYTES		16	/* that edu moves */

#define EDU		"/dev/hmm_dma_edu"
#define FAIL_NTH	"/proc/self/fail-nth"
#define TRACING		"/sys/kernel/tracing/instances/sweep/"
#define NODES		"/sys/kernel/slab/hmm_blocks_node/"
#define CGROUPS		"/run/cgroup/"

typedef uint64_t u64;

/* ---- memory ---- */

enum kind { EXT4, XFS, DEV_PTE, DEV_PMD, DEV_PUD, ANON, THP, NR_KINDS };

#define FILES		(1 << EXT4 | 1 << XFS)
#define DEVS		(1 << DEV_PTE | 1 << DEV_PMD | 1 << DEV_PUD)
#define ANONS		(1 << ANON | 1 << THP)

static const char * const envs[NR_KINDS] = {
	[EXT4] = "HMM_DAX_EXT4", [XFS] = "HMM_DAX_XFS", [DEV_PTE] = "HMM_DAX_DEV_PTE",
	[DEV_PMD] = "HMM_DAX_DEV_PMD", [DEV_PUD] = "HMM_DAX_DEV_PUD",
};

/*
 * A mapping: at an address that is @at bytes from a multiple of 1 GiB, of what its file
 * has from @offset on. Both together say that its leaves have the size @leaf.
 */
struct piece {
	enum kind kind;
	long at;
	size_t size, leaf, offset;
};

#define HALF		(32 * PAGE)

static const struct memory {
	const char *name;
	struct piece pieces[6];
	long bench;		/* where there is a power of two that is aligned */
	size_t bench_size;
} memories[] = {
	/* Where two tables meet. */
	{ "ext4, 4K leaves", { { EXT4, PMD - HALF, 2 * HALF, PAGE, 0 } }, PMD, HALF },
	{ "ext4, 2M leaves", { { EXT4, 0, 4 * PMD, PMD, 0 } }, 0, 4 * PMD },
	{ "xfs, 4K leaves", { { XFS, PMD - HALF, 2 * HALF, PAGE, 0 } }, PMD, HALF },
	{ "xfs, 2M leaves", { { XFS, 0, 4 * PMD, PMD, 0 } }, 0, 4 * PMD },
	{ "device-dax, 4K leaves", { { DEV_PTE, PMD - HALF, 2 * HALF, PAGE, 0 } }, PMD, HALF },
	{ "device-dax, 2M leaves", { { DEV_PMD, 0, 4 * PMD, PMD, 0 } }, 0, 4 * PMD },
	{ "device-dax, 1G leaf", { { DEV_PUD, 0, PUD, PUD, 0 } }, 0, PUD },
	/* Its pages lie anywhere, and what test_hmm_dma maps at once are 16 extents. */
	{ "anonymous, 4K leaves", { { ANON, PMD - 8 * PAGE, 16 * PAGE, PAGE, 0 } }, PMD,
	  8 * PAGE },
	{ "THP, 2M leaves", { { THP, 0, 2 * PMD, PMD, 0 } }, 0, 2 * PMD },
	/* One call maps leaves of several sizes, and fails after the larger ones. */
	{ "2M, then 4K leaves", {
		{ DEV_PMD, 0, PMD, PMD, 0 },
		{ DEV_PTE, PMD, PMD, PAGE, 0 } }, 0, 2 * PMD },
	{ "files, 2M and 4K leaves", {
		{ EXT4, 0, 2 * PMD, PMD, 0 },
		{ XFS, 2 * PMD, PMD, PMD, 0 },
		{ XFS, 3 * PMD, HALF, PAGE, PMD + PAGE },
		{ THP, 4 * PMD, PMD, PMD, 0 },
		{ ANON, 5 * PMD, HALF, PAGE, 0 } }, 0, 0 },
	{ "4K, 1G, 2M, 4K leaves", {
		{ DEV_PTE, -(long)HALF, HALF, PAGE, 0 },
		{ DEV_PUD, 0, PUD, PUD, 0 },
		{ DEV_PMD, PUD, 4 * PMD, PMD, 0 },
		{ DEV_PTE, PUD + 4 * PMD, HALF, PAGE, 1 << 20 },
		{ ANON, PUD + 5 * PMD, HALF, PAGE, 0 } }, 0, 0 },
	/* For the group units alone. */
	{ "no memory", { { ANON, 0, PAGE, PAGE, 0 } }, 0, 0 },
};

#define NO_MEMORY	(&memories[ARRAY_SIZE(memories) - 1])

static char *base;		/* a multiple of 1 GiB, the same in each process */
static char *anchor;		/* a page that is in the same window, 1 GiB before */
static int fds[NR_KINDS];
static const struct memory *mem;

#define for_each_piece(p) \
	for (p = mem->pieces; p < mem->pieces + ARRAY_SIZE(mem->pieces) && p->size; p++)

static int kinds_of(const struct memory *m)
{
	int kinds = 0;

	for (size_t i = 0; i < ARRAY_SIZE(m->pieces) && m->pieces[i].size; i++)
		kinds |= 1 << m->pieces[i].kind;
	return kinds;
}

static char *start_of(void)
{
	return base + mem->pieces[0].at;
}

static char *end_of(void)
{
	const struct piece *p;
	char *end = NULL;

	for_each_piece(p)
		end = base + p->at + p->size;
	return end;
}

/* The end of what follows on the first piece without a hole. */
static char *end_of_run(void)
{
	const struct piece *p;
	char *end = start_of();

	for_each_piece(p) {
		if (base + p->at != end)
			break;
		end += p->size;
	}
	return end;
}

struct usage {
	long nodes, anon, file, shmem, tables, iommu;
};

/* ---- what a child tells the parent ---- */

static struct report {
	bool failed;
	char text[600];
	int failures, faulted, survived, unwound_pmd, unwound_pud;
	long tables;		/* pages that the IOMMU keeps without a failure */
	struct usage first;
} *report;

static int point;		/* which allocation fails; 0: none */
static const char *step = "";

static __attribute__((format(printf, 1, 2), noreturn))
void fail(const char *format, ...)
{
	va_list args;
	int n;

	n = snprintf(report->text, sizeof(report->text), point ? "%s, failure %d: " : "%s: ",
		     step, point);
	va_start(args, format);
	vsnprintf(report->text + n, sizeof(report->text) - n, format, args);
	va_end(args);
	report->failed = true;
	_exit(1);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail("%s to %s: %s", text, path, strerror(errno));
	close(fd);
}

/* All that one read gives. What is read over and over is opened once. */
static const char *get(int fd, const char *path)
{
	static char text[64 << 10];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		fail("%s: %s", path, strerror(errno));
	text[n] = 0;
	return text;
}

/* The number behind a word of a text; 0 if it is not there. */
static long number_of(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	return at ? strtol(at + strlen(word), NULL, 10) : 0;
}

/* ---- content ---- */

static u64 stamp(const char *addr)
{
	return ((uintptr_t)addr - (uintptr_t)base) * 0x9e3779b97f4a7c15ULL | 1;
}

static void map_pieces(void)
{
	const struct piece *p;

	for_each_piece(p) {
		int flags = fds[p->kind] < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

		if (mmap(base + p->at, p->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
			 fds[p->kind], p->offset) == MAP_FAILED)
			fail("mmap: %s", strerror(errno));
		if (p->kind == ANON || p->kind == THP)
			madvise(base + p->at, p->size,
				p->kind == THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	}
}

/* Back to address space that nothing is in. */
static void unmap_pieces(void)
{
	if (mmap(start_of(), end_of() - start_of(), PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
}

static void touch(void)
{
	const struct piece *p;

	for_each_piece(p)
		for (size_t i = 0; i < p->size; i += p->leaf)
			*(volatile u64 *)(base + p->at + i) = stamp(base + p->at + i);
}

static void open_files(void)
{
	static char zeroes[256 << 10];
	const struct piece *p;
	char path[300];

	memset(fds, -1, sizeof(fds));
	for_each_piece(p) {
		const char *where = envs[p->kind] ? getenv(envs[p->kind]) : NULL;

		if (!where)
			continue;
		if (fds[p->kind] < 0) {
			snprintf(path, sizeof(path), "%s", where);
			fds[p->kind] = open(path, O_RDWR | O_CLOEXEC |
					    (1 << p->kind & FILES ? O_TMPFILE : 0), 0600);
		}
		if (fds[p->kind] < 0)
			fail("%s: %s", where, strerror(errno));
		if (!(1 << p->kind & FILES))
			continue;
		/* Written blocks, and aligned. */
		if (posix_fallocate(fds[p->kind], 0, p->offset + p->size))
			fail("%s: no room", where);
		for (size_t i = 0; i < p->offset + p->size; i += sizeof(zeroes))
			if (pwrite(fds[p->kind], zeroes, sizeof(zeroes), i) < 0)
				fail("%s: %s", where, strerror(errno));
		if (fsync(fds[p->kind]))
			fail("%s: %s", where, strerror(errno));
	}
}

static void close_files(void)
{
	for (int i = 0; i < NR_KINDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* ---- failures ---- */

static int nth = -1;
static bool never;		/* nothing fails, though it is asked for */
static bool verbose;		/* say where the failures are */

static void arm(void)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", never ? 0 : point);
	if (pwrite(nth, text, strlen(text), 0) < 0)
		fail("%s: %s", FAIL_NTH, strerror(errno));
}

/* Were there so many allocations? */
static bool disarm(void)
{
	char text[16] = "";

	if (pread(nth, text, sizeof(text) - 1, 0) <= 0 || pwrite(nth, "0", 1, 0) != 1)
		fail("%s: %s", FAIL_NTH, strerror(errno));
	return point && !never && !atoi(text);
}

/* ---- what is counted ---- */

static int status_fd, vmstat_fd, refresh_fd, shrink_fd, objects_fd;
static bool iommu;		/* edu is behind one */

static void open_counters(void)
{
	status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	vmstat_fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
	refresh_fd = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
	shrink_fd = open(NODES "shrink", O_WRONLY | O_CLOEXEC);
	objects_fd = open(NODES "objects", O_RDONLY | O_CLOEXEC);
	nth = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (status_fd < 0 || vmstat_fd < 0 || refresh_fd < 0 || shrink_fd < 0 ||
	    objects_fd < 0 || nth < 0)
		fail("a file of /proc or " NODES ": %s", strerror(errno));
}

static struct usage usage(void)
{
	struct usage u;
	const char *text;

	text = get(status_fd, "/proc/self/status");
	u.anon = number_of(text, "RssAnon:");
	u.file = number_of(text, "RssFile:");
	u.shmem = number_of(text, "RssShmem:");
	u.tables = number_of(text, "VmPTE:");
	/* What each CPU keeps to itself. */
	if (pwrite(refresh_fd, "1", 1, 0) < 0)
		fail("stat_refresh: %s", strerror(errno));
	u.iommu = number_of(get(vmstat_fd, "/proc/vmstat"), "nr_iommu_pages ");
	if (pwrite(shrink_fd, "1", 1, 0) < 0)
		fail(NODES "shrink: %s", strerror(errno));
	u.nodes = strtol(get(objects_fd, NODES "objects"), NULL, 10);
	return u;
}

/* Tables that the IOMMU has, and nothing in them, may stay: @iommu at the most. */
static void same_usage(const struct usage *was, long iommu_tables)
{
	struct usage now = usage();

	if (now.nodes != was->nodes)
		fail("the record has %ld nodes, and had %ld before", now.nodes, was->nodes);
	if (now.anon != was->anon || now.file != was->file || now.shmem != was->shmem)
		fail("the process has %ld, %ld and %ld KiB of pages, and had %ld, %ld and %ld",
		     now.anon, now.file, now.shmem, was->anon, was->file, was->shmem);
	if (now.tables != was->tables)
		fail("the process has page tables of %ld KiB, and had %ld", now.tables,
		     was->tables);
	if (now.iommu - was->iommu > iommu_tables)
		fail("the IOMMU has %ld pages more than before, without a failure only %ld",
		     now.iommu - was->iommu, iommu_tables);
}

/* What the operation has mapped and unmapped in the IOMMU. */
struct traced {
	size_t mapped, unmapped;
	int pmds, puds;		/* calls that have unmapped so much */
};

static int trace_fd = -1, tracing_fd = -1;

static void open_trace(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	put(TRACING "set_event_pid", pid);
	trace_fd = open(TRACING "trace", O_RDWR | O_CLOEXEC);
	tracing_fd = open(TRACING "tracing_on", O_WRONLY | O_CLOEXEC);
	if (trace_fd < 0 || tracing_fd < 0)
		fail(TRACING ": %s", strerror(errno));
}

static void trace_on(void)
{
	int fd = open(TRACING "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0 || pwrite(tracing_fd, "1", 1, 0) != 1)
		fail(TRACING ": %s", strerror(errno));
	close(fd);
}

static struct traced trace_off(void)
{
	struct traced t = {};
	char line[512], *at;
	size_t size;
	FILE *f;

	if (pwrite(tracing_fd, "0", 1, 0) != 1)
		fail(TRACING ": %s", strerror(errno));
	f = fopen(TRACING "trace", "re");
	if (!f)
		fail(TRACING ": %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		at = strstr(line, " map: IOMMU:");
		if (at)
			t.mapped += number_of(at, " size=");
		at = strstr(line, " unmap: IOMMU:");
		if (!at)
			continue;
		size = number_of(at, "unmapped_size=");
		t.unmapped += size;
		t.pmds += size >= PMD && size < PUD;
		t.puds += size >= PUD;
	}
	fclose(f);
	return t;
}

/* ---- the device of test_hmm_dma ---- */

static int dma = -1;
static char pci[32], group[128];	/* edu's name, and its IOMMU group */
static const char *driver = "test_hmm_dma";
static const char *broken = "";

static int request(int fd, unsigned long cmd, void *args)
{
	return ioctl(fd, cmd, args) ? -errno : 0;
}

/* A domain without any page table, but for what the driver itself maps. */
static void new_domain(void)
{
	char path[200];

	if (!iommu)
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/unbind", driver);
	put(path, pci);
	snprintf(path, sizeof(path), "%s/type", group);
	put(path, "identity");
	put(path, "DMA");
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/bind", driver);
	put(path, pci);
}

static int window_call(unsigned long cmd, char *from, char *to, u64 flags)
{
	struct test_hmm_dma_window win = {
		.addr = (uintptr_t)from,
		.npages = (to - from) / PAGE,
		.flags = flags,
	};

	return request(dma, cmd, &win);
}

static struct test_hmm_dma_query query(char *addr)
{
	struct test_hmm_dma_query q = { .addr = (uintptr_t)addr };
	int ret = request(dma, HMM_DMA_QUERY, &q);

	if (ret)
		fail("HMM_DMA_QUERY: %s", strerror(-ret));
	if (!(q.flags & HMM_DMA_IS_MAPPED))
		memset(&q, 0, sizeof(q));
	return q;
}

static u64 iommu_phys(u64 at)
{
	struct test_hmm_dma_query q = { .dma = at };
	int ret = request(dma, HMM_DMA_IOVA, &q);

	if (ret)
		fail("HMM_DMA_IOVA: %s", strerror(-ret));
	return q.iommu_phys;
}

/* What the device knows of a block, at its first and last page, and what the IOMMU does. */
struct block {
	struct test_hmm_dma_query first, last;
	u64 phys[3];
};

static struct block record[MAX_BLOCKS], now[MAX_BLOCKS], good[MAX_BLOCKS];
static struct test_hmm_dma_query anchored;
static size_t nr_blocks;
static bool known;		/* good[] is */

static void look(struct block *blocks)
{
	struct test_hmm_dma_query a = query(anchor);
	const struct piece *p;
	size_t n = 0;

	if (!(a.flags & HMM_DMA_IS_MAPPED) || (iommu && a.phys != a.iommu_phys))
		fail("what was mapped before is not any more");
	if (blocks != record && memcmp(&a, &anchored, sizeof(a)))
		fail("what was mapped before is somewhere else");
	anchored = a;
	for_each_piece(p) {
		for (size_t i = 0; i < p->size; i += p->leaf, n++) {
			char *at = base + p->at + i;
			u64 iova = a.dma + (at - anchor);
			struct block *b = &blocks[n];

			if (n == MAX_BLOCKS)
				fail("too many blocks");
			memset(b, 0, sizeof(*b));
			b->first = query(at);
			b->last = query(at + p->leaf - PAGE);
			if (!iommu)
				continue;
			b->phys[0] = iommu_phys(iova);
			b->phys[1] = iommu_phys(iova + p->leaf / 2);
			b->phys[2] = iommu_phys(iova + p->leaf - 1);
			/* The two have to agree, whatever it is. */
			if (b->phys[0] != b->first.phys ||
			    (b->phys[2] & ~(PAGE - 1)) != b->last.phys)
				fail("block %zu: the record has it at %#llx, the IOMMU at %#llx",
				     n, b->first.phys, (unsigned long long)b->phys[0]);
			if (b->phys[1] != (b->phys[0] ? b->phys[0] + p->leaf / 2 : 0))
				fail("block %zu: the IOMMU has only a part of it", n);
		}
	}
	nr_blocks = n;
}

static void same_record(void)
{
	look(now);
	for (size_t i = 0; i < nr_blocks; i++)
		if (memcmp(&now[i], &record[i], sizeof(now[i])))
			fail("block %zu of %zu was %s before, and is now", i, nr_blocks,
			     record[i].first.flags ? "mapped in another way" : "not mapped");
}

/* Of what was mapped, some may be gone; the rest is as it was. */
static void less_recorded(void)
{
	look(now);
	for (size_t i = 0; i < nr_blocks; i++)
		if (now[i].first.flags && memcmp(&now[i], &record[i], sizeof(now[i])))
			fail("block %zu of %zu is mapped in another way than before", i,
			     nr_blocks);
}

static void nothing_mapped(void)
{
	look(now);
	for (size_t i = 0; i < nr_blocks; i++)
		if (now[i].first.flags || now[i].last.flags)
			fail("block %zu of %zu is still mapped", i, nr_blocks);
}

static void all_mapped(bool write)
{
	const struct piece *p;
	size_t n = 0;

	look(now);
	for_each_piece(p) {
		for (size_t i = 0; i < p->size; i += p->leaf, n++) {
			const struct test_hmm_dma_query *f = &now[n].first, *l = &now[n].last;

			if (!f->flags || !l->flags)
				fail("block %zu of %zu is not mapped", n, nr_blocks);
			if (write && !(f->flags & HMM_DMA_IS_WRITABLE))
				fail("block %zu of %zu is not writable", n, nr_blocks);
			if (PAGE << f->order != p->leaf || l->order != f->order ||
			    l->phys != f->phys + p->leaf - PAGE)
				fail("block %zu of %zu is not one leaf", n, nr_blocks);
			/* A file's memory is where it was. */
			if (known && !(1 << p->kind & ANONS) && f->phys != good[n].first.phys)
				fail("block %zu of %zu is other memory", n, nr_blocks);
		}
	}
	if (!known)
		memcpy(good, now, sizeof(good));
	known = true;
}

/* ---- operations ---- */

static char buf[MIRRORED * PAGE] __attribute__((aligned(4096)));
static int other = -1;		/* what else is open */

static void open_dma(void)
{
	/* A driver that was just bound has its node anew. */
	for (int tries = 0; dma < 0 && tries < 100; tries++) {
		dma = open(EDU, O_RDWR | O_CLOEXEC);
		if (dma < 0)
			usleep(10000);
	}
	if (dma < 0)
		fail(EDU ": %s", strerror(errno));
}

static void window_of_anchor(void)
{
	int ret;

	open_dma();
	ret = window_call(HMM_DMA_MIRROR, anchor, end_of(), 0);
	if (!ret)
		ret = window_call(HMM_DMA_MAP, anchor, anchor + PAGE, HMM_DMA_MAP_WRITE);
	if (ret)
		fail("a window: %s", strerror(-ret));
}

static int run_window(void)
{
	return window_call(HMM_DMA_MIRROR, anchor, end_of(), 0);
}

/* A small one: its entries are one object. */
static int run_small_window(void)
{
	return window_call(HMM_DMA_MIRROR, anchor, anchor + 2 * PAGE, 0);
}

static void no_window(void)
{
	struct test_hmm_dma_query q = { .addr = (uintptr_t)anchor };

	if (request(dma, HMM_DMA_QUERY, &q) != -EINVAL)
		fail("there is a window");
}

static int map_of(u64 flags)
{
	const struct piece *p, *next;
	int ret = 0;

	/* One call for all that is without a hole. */
	for_each_piece(p) {
		char *from = base + p->at, *to = from + p->size;

		for (next = p + 1; next < mem->pieces + ARRAY_SIZE(mem->pieces) && next->size &&
		     base + next->at == to; p = next++)
			to += next->size;
		ret = window_call(HMM_DMA_MAP, from, to, flags);
		if (ret)
			break;
	}
	return ret;
}

/* Only the first run counts as one call; what is behind it comes later. */
static int run_map(void)
{
	return window_call(HMM_DMA_MAP, start_of(), end_of_run(), HMM_DMA_MAP_WRITE);
}

static int run_map_read(void)
{
	return window_call(HMM_DMA_MAP, start_of(), end_of_run(), 0);
}

static int run_map_snapshot(void)
{
	return window_call(HMM_DMA_MAP, start_of(), end_of_run(), HMM_DMA_MAP_SNAPSHOT);
}

static void mapped_for_writing(void)
{
	int ret = map_of(HMM_DMA_MAP_WRITE);

	if (ret)
		fail("the rest: %s", strerror(-ret));
	all_mapped(true);
}

static void mapped_for_reading(void)
{
	int ret = map_of(0);

	if (ret)
		fail("the rest: %s", strerror(-ret));
	all_mapped(false);
}

/* The first and the last leaf are mapped already. */
static void ends_mapped(void)
{
	const struct piece *p, *last = mem->pieces;
	char *end;
	int ret;

	window_of_anchor();
	for_each_piece(p)
		if (base + p->at < end_of_run())
			last = p;
	end = base + last->at + last->size;
	ret = window_call(HMM_DMA_MAP, start_of(), start_of() + mem->pieces[0].leaf,
			  HMM_DMA_MAP_WRITE);
	if (!ret)
		ret = window_call(HMM_DMA_MAP, end - last->leaf, end, HMM_DMA_MAP_WRITE);
	if (ret)
		fail("HMM_DMA_MAP: %s", strerror(-ret));
}

static void read_only_mapped(void)
{
	int ret;

	window_of_anchor();
	ret = map_of(0);
	if (ret)
		fail("HMM_DMA_MAP: %s", strerror(-ret));
}

static void whole_mapped(void)
{
	int ret;

	window_of_anchor();
	ret = map_of(HMM_DMA_MAP_WRITE);
	if (ret)
		fail("HMM_DMA_MAP: %s", strerror(-ret));
}

static int run_unmap(void)
{
	return window_call(HMM_DMA_UNMAP, start_of(), end_of(), 0);
}

static int run_destroy(void)
{
	/* A bad one takes the old one away. */
	struct test_hmm_dma_window win = {};
	int ret = request(dma, HMM_DMA_MIRROR, &win);

	return ret == -EINVAL ? 0 : ret ?: -EIO;
}

static int run_munmap(void)
{
	return munmap(start_of(), end_of() - start_of()) ? -errno : 0;
}

static int run_dontneed(void)
{
	const struct piece *p;

	for_each_piece(p)
		if (madvise(base + p->at, p->size, MADV_DONTNEED))
			return -errno;
	return 0;
}

static int run_mprotect(void)
{
	return mprotect(start_of(), end_of() - start_of(), PROT_NONE) ? -errno : 0;
}

static int run_replace(void)
{
	return mmap(start_of(), end_of() - start_of(), PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		    0) == MAP_FAILED ? -errno : 0;
}

static int run_truncate(void)
{
	for (int i = 0; i < NR_KINDS; i++)
		if (1 << i & FILES && fds[i] >= 0 && ftruncate(fds[i], 0))
			return -errno;
	return 0;
}

/* The files have to be made anew. */
static void truncated(void)
{
	nothing_mapped();
	close_files();
	open_files();
}

static int transfer(unsigned long cmd)
{
	struct test_hmm_dma_xfer xfer = {
		.addr = (uintptr_t)start_of(),
		.ptr = (uintptr_t)buf,
		.size = BYTES,
	};

	return request(dma, cmd, &xfer);
}

static int run_dma_write(void)
{
	memset(buf, 0x5a, BYTES);
	return transfer(HMM_DMA_WRITE);
}

static void dma_written(void)
{
	for (int i = 0; i < BYTES; i++)
		if (start_of()[i] != 0x5a)
			fail("byte %d is not what the device wrote", i);
	/* As it was. */
	*(volatile u64 *)start_of() = stamp(start_of());
}

static int run_dma_read(void)
{
	memset(buf, 0, BYTES);
	return transfer(HMM_DMA_READ);
}

static u64 expected(void)
{
	return 1 << mem->pieces[0].kind & ANONS ? 0 : stamp(start_of());
}

static void dma_read(void)
{
	u64 got;

	memcpy(&got, buf, sizeof(got));
	if (got != expected())
		fail("the device read %#llx, must be %#llx", (unsigned long long)got,
		     (unsigned long long)expected());
}

/* test_hmm */
static void open_mirror(void)
{
	other = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	if (other < 0)
		fail("/dev/hmm_dmirror0: %s", strerror(errno));
}

static size_t mirrored(void)
{
	size_t pages = (end_of_run() - start_of()) / PAGE;

	return pages < MIRRORED ? pages : MIRRORED;
}

static int mirror_call(unsigned long cmd)
{
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)start_of(),
		.ptr = (uintptr_t)buf,
		.npages = mirrored(),
	};

	return request(other, cmd, &args);
}

static int run_read(void)
{
	memset(buf, 0xff, sizeof(buf));
	return mirror_call(HMM_DMIRROR_READ);
}

static void mirror_read(void)
{
	dma_read();
}

static int run_write(void)
{
	memset(buf, 0, sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i += sizeof(u64))
		*(u64 *)(buf + i) = stamp(start_of()) + i;
	return mirror_call(HMM_DMIRROR_WRITE);
}

static void mirror_written(void)
{
	for (size_t i = 0; i < mirrored() * PAGE; i += PAGE)
		if (memcmp(start_of() + i, buf + i, PAGE))
			fail("page %zu is not what the device wrote", i / PAGE);
	touch();
}

static int run_exclusive(void)
{
	return mirror_call(HMM_DMIRROR_EXCLUSIVE);
}

static void exclusive(void)
{
	/* The CPU takes it back. */
	touch();
}

static int run_snapshot(void)
{
	memset(buf, 0xee, MIRRORED);
	return mirror_call(HMM_DMIRROR_SNAPSHOT);
}

static void snapshot(void)
{
	for (size_t i = 0; i < mirrored(); i++)
		if (!((unsigned char)buf[i] & HMM_DMIRROR_PROT_WRITE) || buf[i] & 0xe0)
			fail("page %zu is %#x in the snapshot", i, (unsigned char)buf[i]);
}

/* test_hmm_leaves: the list walk and the array, each compared with the page table. */
static void open_leaves(void)
{
	other = open("/dev/hmm_leaves", O_RDWR | O_CLOEXEC);
	if (other < 0)
		fail("/dev/hmm_leaves: %s", strerror(errno));
}

static int leaves_call(unsigned int flags)
{
	size_t pages = (end_of_run() - start_of()) / PAGE;
	struct hmm_leaves_check check = {
		.addr = (uintptr_t)start_of(),
		.npages = pages < PUD / PAGE ? pages : PUD / PAGE,
		.seed = 1,
		.count = 1,
		.flags = flags,
	};
	int ret = request(other, HMM_LEAVES_CHECK, &check);

	/*
	 * It expects that what can be had is had: no SIGBUS, no -ENOMEM, and no list that
	 * ends before what failed.
	 */
	if (ret == -EUCLEAN && point && check.diff.what == HMM_LEAVES_ERROR &&
	    ((int)check.diff.got == -EFAULT || (int)check.diff.got == -ENOMEM))
		return (int)check.diff.got;
	if (ret == -EUCLEAN && point && check.diff.what == HMM_LEAVES_EXTENTS &&
	    check.diff.addr > (uintptr_t)start_of() && check.diff.got &&
	    check.diff.got < check.diff.want)
		return -ENOMEM;
	if (ret == -EUCLEAN)
		fail("comparison %u fails at %#llx: %#llx, must be %#llx", check.diff.what,
		     check.diff.addr, check.diff.got, check.diff.want);
	return ret ?: check.error;
}

static int run_leaves_read(void)
{
	return leaves_call(HMM_LEAVES_READ);
}

static int run_leaves_write(void)
{
	return leaves_call(HMM_LEAVES_WRITE);
}

static int run_leaves_read_list(void)
{
	return leaves_call(HMM_LEAVES_READ | HMM_LEAVES_LIST);
}

static int run_leaves_write_list(void)
{
	return leaves_call(HMM_LEAVES_WRITE | HMM_LEAVES_LIST);
}

static int run_leaves_snapshot_list(void)
{
	return leaves_call(HMM_LEAVES_LIST);
}

/* hmm_bench_dma: drm_gpusvm's own code, and mlx5's with umem_odp. */
static void open_bench(void)
{
	other = open("/dev/hmm_bench_dma", O_RDWR | O_CLOEXEC);
	if (other < 0)
		fail("/dev/hmm_bench_dma: %s", strerror(errno));
}

static int bench_call(unsigned int method, unsigned int flags)
{
	struct hmm_bench_dma d = {
		.window = (uintptr_t)base + mem->bench,
		.window_npages = mem->bench_size / PAGE,
		.addr = (uintptr_t)base + mem->bench,
		.npages = mem->bench_size / PAGE,
		.flags = flags,
		.method = method,
	};

	return request(other, HMM_BENCH_DMA, &d);
}

static int run_gpusvm(void)
{
	return bench_call(HMM_BENCH_GET_PAGES, 0);
}

static int run_gpusvm_direct(void)
{
	return bench_call(HMM_BENCH_GET_PAGES, HMM_BENCH_DIRECT);
}

static int run_mlx5(void)
{
	return bench_call(HMM_BENCH_ODP, 0);
}

/* In one mapping 2 MiB by one leaf, and 2 MiB by pages. */
static void split(void)
{
	char *second = base + PMD;

	if (madvise(second, PAGE, MADV_DONTNEED))
		fail("MADV_DONTNEED: %s", strerror(errno));
	*(volatile u64 *)second = stamp(second);
	open_bench();
}

/* odp_race: umem_odp, against an oracle. */
static void open_odp(void)
{
	other = open("/dev/odp_race", O_RDWR | O_CLOEXEC);
	if (other < 0)
		fail("/dev/odp_race: %s", strerror(errno));
}

static int odp_call(unsigned long cmd)
{
	struct odp_race_range range = {
		.addr = (uintptr_t)start_of(),
		.len = end_of_run() - start_of(),
	};

	return request(other, cmd, &range);
}

static int run_odp_register(void)
{
	return odp_call(ODP_RACE_REG);
}

static void odp_registered(void)
{
	open_odp();
	if (run_odp_register())
		fail("ODP_RACE_REG: %s", strerror(errno));
}

static int run_odp_map(void)
{
	return odp_call(ODP_RACE_MAP);
}

static void odp_agrees(void)
{
	struct odp_race_stats s;

	if (request(other, ODP_RACE_STATS, &s))
		fail("ODP_RACE_STATS: %s", strerror(errno));
	if (s.unlinked || s.wrong || s.leaked || s.missing || s.miscounted)
		fail("unlinked %llu, wrong %llu, leaked %llu, missing %llu, miscounted %llu",
		     s.unlinked, s.wrong, s.leaked, s.missing, s.miscounted);
}

/* The invalidation leaves nothing in the IOMMU, of which the oracle makes sure. */
static void odp_ends(void)
{
	unmap_pieces();
	odp_agrees();
}

/* soft-RoCE */
static struct rdma_region *region;

static int run_register(void)
{
	errno = 0;
	region = rdma_register(start_of(), end_of_run() - start_of());
	return region ? 0 : -errno ?: -EIO;
}

static void registered(void)
{
	if (run_register())
		fail("ibv_reg_mr: %s", strerror(errno));
}

static void no_region(void)
{
	if (region)
		fail("there is a region");
}

/* The rxe provider of libibverbs has no ibv_advise_mr(); the kernel has. */
static int run_prefetch(void)
{
#ifdef RDMA
	size_t length = end_of_run() - start_of();
	struct ib_uverbs_sge sge = {
		.addr = (uintptr_t)start_of(),
		.length = length < PUD ? length : PUD,
		.lkey = region->lkey,
	};
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attrs[4];
	} cmd = {
		.hdr = {
			.length = sizeof(cmd),
			.object_id = UVERBS_OBJECT_MR,
			.method_id = UVERBS_METHOD_ADVISE_MR,
			.num_attrs = ARRAY_SIZE(cmd.attrs),
			.driver_id = RDMA_DRIVER_RXE,
		},
		.attrs = {
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_PD_HANDLE,
			  .flags = UVERBS_ATTR_F_MANDATORY, .data = rdma_pd->handle },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_ADVICE, .len = sizeof(u64),
			  .flags = UVERBS_ATTR_F_MANDATORY,
			  .data = IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_FLAGS, .len = sizeof(u64),
			  .flags = UVERBS_ATTR_F_MANDATORY,
			  .data = IB_UVERBS_ADVISE_MR_FLAG_FLUSH },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_SGE_LIST, .len = sizeof(sge),
			  .flags = UVERBS_ATTR_F_MANDATORY, .data = (uintptr_t)&sge },
		},
	};

	return request(rdma_context->cmd_fd, RDMA_VERBS_IOCTL, &cmd);
#else
	return -EOPNOTSUPP;
#endif
}

/* The NIC writes there, and reads it back. */
static void region_works(void)
{
	memset(rdma_buf, 0x77, PAGE);
	if (!rdma_transfer(region, start_of(), PAGE, true, false))
		fail("the NIC cannot write");
	if (start_of()[0] != 0x77 || start_of()[PAGE - 1] != 0x77)
		fail("what the NIC wrote is not there");
	*(volatile u64 *)start_of() = stamp(start_of());
	if (!rdma_transfer(region, start_of(), PAGE, false, false))
		fail("the NIC cannot read");
	if (*(u64 *)rdma_buf != stamp(start_of()))
		fail("what the NIC read is not what is there");
}

static void end_rdma(void)
{
	rdma_unregister(region);
	region = NULL;
}

/*
 * Units of an IOMMU's domain: stretches that begin and end off a unit, so that one call
 * makes entries of each size up to that of the unit.
 */
static const struct sweep_units stretches[] = {
	{ 2 * PUD - PMD - 2 * PAGE, 1024 * PUD - PMD - 2 * PAGE, 2 * PUD + 2 * PMD + 4 * PAGE,
	  PUD },
	{ 2 * PUD - 2 * PMD - 2 * PAGE, 1024 * PUD + PMD - 2 * PAGE, 4 * PMD + 4 * PAGE, PMD },
	{ 2 * PUD - 2 * PAGE, 1024 * PUD + 3 * PAGE, 4 * PAGE, PAGE },
};

static const struct sweep_units *stretch;
static bool neighbour;	/* the page before it is mapped, and stays */

static u64 phys_of(u64 iova)
{
	struct sweep_units u = { .iova = iova };
	int ret = request(other, SWEEP_UNITS_PHYS, &u);

	if (ret)
		fail("SWEEP_UNITS_PHYS: %s", strerror(-ret));
	return u.phys;
}

static void begin_units(void)
{
	struct sweep_units u = {
		.iova = stretch->iova - PAGE,
		.phys = PUD,
		.size = PAGE,
		.unit = PAGE,
	};
	int ret;

	other = open("/dev/sweep_units", O_RDWR | O_CLOEXEC);
	if (other < 0)
		fail("/dev/sweep_units: %s", strerror(errno));
	if (!neighbour)
		return;
	ret = request(other, SWEEP_UNITS_MAP, &u);
	if (ret)
		fail("the page before it: %s", strerror(-ret));
}

/* Each page where an entry can begin or end, and some between them. */
static void check_units(bool mapped)
{
	u64 at, phys, want, next;

	for (at = 0; at < stretch->size; at = next) {
		next = (stretch->iova + at + PMD / 4) / (PMD / 4) * (PMD / 4) - stretch->iova;
		if (next > stretch->size)
			next = stretch->size;
		want = mapped ? stretch->phys + at : 0;
		phys = phys_of(stretch->iova + at);
		if (phys != want)
			fail("byte %#llx is at %#llx, must be at %#llx", (unsigned long long)at,
			     (unsigned long long)phys, (unsigned long long)want);
		want = mapped ? stretch->phys + next - 1 : 0;
		phys = phys_of(stretch->iova + next - 1);
		if (phys != want)
			fail("byte %#llx is at %#llx, must be at %#llx",
			     (unsigned long long)next - 1, (unsigned long long)phys,
			     (unsigned long long)want);
	}
	if (phys_of(stretch->iova - PAGE) != (neighbour ? PUD : 0) ||
	    phys_of(stretch->iova + stretch->size))
		fail("what is beside it has changed");
}

static void no_units(void)
{
	check_units(false);
}

static void units_mapped(void)
{
	check_units(true);
}

static int units_call(unsigned long cmd)
{
	struct sweep_units u = *stretch;

	return request(other, cmd, &u);
}

static int run_units(void)
{
	return units_call(SWEEP_UNITS_MAP);
}

static int run_units_unmap(void)
{
	return units_call(SWEEP_UNITS_UNMAP);
}

static void units_begun(void)
{
	int ret;

	begin_units();
	ret = run_units();
	if (ret)
		fail("SWEEP_UNITS_MAP: %s", strerror(-ret));
}

static void end_units(void)
{
	int ret = run_units_unmap();

	if (ret)
		fail("SWEEP_UNITS_UNMAP: %s", strerror(-ret));
	check_units(false);
}

/* ---- the sweep ---- */

enum group { DMA, BENCH, ODP, RDMA_GROUP, UNITS, NR_GROUPS };

static const char * const groups[NR_GROUPS] = { "dma", "bench", "odp", "rdma", "units" };

/* Flags of an operation. */
#define FRESH		0x01	/* each time in a new IOMMU domain */
#define WARM		0x02	/* the CPU has mapped it */
#define MAY		0x04	/* it need not allocate anything */
#define MUST_NOT	0x08	/* it fails for nothing */
#define BACK		0x8000	/* it may find another way each time */
#define RECORD		0x10	/* there is a record to be compared */
#define LESS		0x20	/* of which less is left */
#define ONE_ANON	0x40	/* for anonymous memory only */
#define ONE_FILE	0x80	/* with a file only */
#define BENCHED		0x100	/* for a range that is a power of two */
#define ONE_VMA		0x800	/* for a single mapping */
#define ONE_THP		0x1000	/* for THP only */
#define PROCESS		0x2000	/* each time in a new process */
#define BESIDE		0x4000	/* behind a page that stays */
#define STRETCH_SHIFT	16	/* which of stretches[] */
#define STRETCH(n)	((n) << STRETCH_SHIFT)
#define UNSUPPORTED	0x400	/* without memory it says that it is not supported */
#define SMALL		0x200	/* not for 1 GiB: it takes too long */

static const struct operation {
	enum group group;
	const char *name;
	int flags;
	void (*begin)(void);	/* before the failure */
	int (*run)(void);	/* 0 or -errno */
	void (*failed)(void);	/* it did */
	void (*check)(void);	/* it succeeded */
	void (*end)(void);
} operations[] = {
	{ DMA, "test_hmm reads", 0, open_mirror, run_read, NULL, mirror_read, NULL },
	{ DMA, "test_hmm writes", 0, open_mirror, run_write, NULL, mirror_written, NULL },
	{ DMA, "test_hmm has it exclusively", WARM | ONE_ANON, open_mirror, run_exclusive, NULL,
	  exclusive, NULL },
	{ DMA, "snapshot", WARM | MAY, open_mirror, run_snapshot, NULL, snapshot, NULL },
	{ DMA, "array, read", BACK, open_leaves, run_leaves_read, NULL, NULL, NULL },
	{ DMA, "array, write", BACK, open_leaves, run_leaves_write, NULL, NULL, NULL },
	{ DMA, "list, read", BACK, open_leaves, run_leaves_read_list, NULL, NULL, NULL },
	{ DMA, "list, write", BACK, open_leaves, run_leaves_write_list, NULL, NULL, NULL },
	{ DMA, "list, snapshot", BACK | WARM, open_leaves, run_leaves_snapshot_list, NULL, NULL,
	  NULL },

	{ DMA, "window", FRESH | BACK, open_dma, run_window, no_window, NULL, NULL },
	{ DMA, "window, the first of a process", FRESH | PROCESS, open_dma, run_small_window,
	  no_window, NULL, NULL },
	{ DMA, "map cold", FRESH | RECORD, window_of_anchor, run_map, NULL, mapped_for_writing,
	  NULL },
	{ DMA, "map cold to read", FRESH | RECORD, window_of_anchor, run_map_read, NULL,
	  mapped_for_reading, NULL },
	{ DMA, "map warm", FRESH | RECORD | WARM, window_of_anchor, run_map, NULL,
	  mapped_for_writing, NULL },
	{ DMA, "map what is present", FRESH | RECORD | WARM, window_of_anchor, run_map_snapshot,
	  NULL, mapped_for_writing, NULL },
	{ DMA, "map the rest", FRESH | RECORD | WARM, ends_mapped, run_map, NULL,
	  mapped_for_writing, NULL },
	{ DMA, "map to write what was to read", FRESH | RECORD | LESS | WARM, read_only_mapped,
	  run_map, NULL, mapped_for_writing, NULL },

	{ DMA, "unmap", RECORD | MUST_NOT | MAY | WARM, whole_mapped, run_unmap, NULL,
	  nothing_mapped, NULL },
	{ DMA, "end of the window", MUST_NOT | MAY | WARM, whole_mapped, run_destroy, NULL,
	  no_window, NULL },
	{ DMA, "munmap", RECORD | LESS | MAY | WARM, whole_mapped, run_munmap, NULL,
	  nothing_mapped, NULL },
	{ DMA, "MADV_DONTNEED", RECORD | LESS | MAY | WARM, whole_mapped, run_dontneed, NULL,
	  nothing_mapped, NULL },
	{ DMA, "mprotect", RECORD | LESS | MAY | WARM, whole_mapped, run_mprotect, NULL,
	  nothing_mapped, NULL },
	{ DMA, "mmap over it", RECORD | LESS | MAY | WARM, whole_mapped, run_replace, NULL,
	  nothing_mapped, NULL },
	{ DMA, "truncate", RECORD | LESS | MAY | WARM | ONE_FILE, whole_mapped, run_truncate,
	  NULL, truncated, NULL },

	{ DMA, "edu writes", FRESH, window_of_anchor, run_dma_write, NULL, dma_written, NULL },
	{ DMA, "edu reads", FRESH, window_of_anchor, run_dma_read, NULL, dma_read, NULL },

	{ BENCH, "drm_gpusvm", FRESH | BENCHED | ONE_VMA, open_bench, run_gpusvm, NULL, NULL,
	  NULL },
	{ BENCH, "drm_gpusvm, no IOMMU", BENCHED | ONE_VMA, open_bench, run_gpusvm_direct, NULL,
	  NULL, NULL },
	{ BENCH, "mlx5", FRESH | BENCHED, open_bench, run_mlx5, NULL, NULL, NULL },
	{ BENCH, "drm_gpusvm, half of it split", FRESH | BENCHED | ONE_THP | WARM, split,
	  run_gpusvm, NULL, NULL, NULL },

	{ ODP, "register", SMALL | UNSUPPORTED, open_odp, run_odp_register, NULL, NULL, odp_ends },
	{ ODP, "map", SMALL, odp_registered, run_odp_map, odp_agrees, odp_agrees, odp_ends },
	{ ODP, "map warm", SMALL | WARM, odp_registered, run_odp_map, odp_agrees, odp_agrees,
	  odp_ends },

	{ RDMA_GROUP, "ibv_reg_mr", 0, NULL, run_register, no_region, region_works, end_rdma },
	{ RDMA_GROUP, "prefetch", 0, registered, run_prefetch, NULL, region_works, end_rdma },
	{ RDMA_GROUP, "prefetch warm", WARM, registered, run_prefetch, NULL, region_works,
	  end_rdma },

	{ UNITS, "1G, 2M and 4K in one call", STRETCH(0), begin_units, run_units, no_units,
	  units_mapped, end_units },
	{ UNITS, "2M and 4K in one call", STRETCH(1), begin_units, run_units, no_units,
	  units_mapped, end_units },
	{ UNITS, "4K in one call", STRETCH(2), begin_units, run_units, no_units, units_mapped,
	  end_units },
	{ UNITS, "1G, 2M and 4K behind a page", STRETCH(0) | BESIDE, begin_units, run_units,
	  no_units, units_mapped, end_units },
	{ UNITS, "2M and 4K behind a page", STRETCH(1) | BESIDE, begin_units, run_units, no_units,
	  units_mapped, end_units },
	{ UNITS, "4K behind a page", STRETCH(2) | BESIDE | MAY, begin_units, run_units, no_units,
	  units_mapped, end_units },
	{ UNITS, "unmap 1G, 2M and 4K", STRETCH(0) | MAY | MUST_NOT, units_begun,
	  run_units_unmap, NULL, no_units, NULL },
	{ UNITS, "unmap 2M and 4K", STRETCH(1) | MAY | MUST_NOT, units_begun, run_units_unmap, NULL,
	  no_units, NULL },
};

static bool applies(const struct operation *op, const struct memory *m)
{
	int kinds = kinds_of(m);

	if ((op->group == UNITS) != (m == NO_MEMORY))
		return false;
	if (op->flags & ONE_ANON && kinds & ~ANONS)
		return false;
	if (op->flags & ONE_FILE && kinds & ~FILES)
		return false;
	if (op->flags & BENCHED && !m->bench_size)
		return false;
	if (op->flags & ONE_VMA && m->pieces[1].size)
		return false;
	if (op->flags & ONE_THP && kinds != 1 << THP)
		return false;
	return !(op->flags & SMALL && kinds & 1 << DEV_PUD);
}

/* What the fault handler of a file system makes of it can be SIGBUS. */
static bool may_fault(const struct operation *op)
{
	return kinds_of(mem) & FILES && !(op->flags & WARM);
}

/* Once from nothing to nothing. Returns whether there was an allocation that could fail. */
static bool attempt(const struct operation *op, long *tables, struct usage *first)
{
	struct usage was;
	struct traced t;
	bool reached;
	int ret;

	if (op->flags & FRESH)
		new_domain();
	was = usage();
	/* All that a domain had goes with it. */
	if (op->flags & FRESH && first->iommu && was.iommu != first->iommu)
		fail("a new domain makes the IOMMU's pages %ld, and made them %ld", was.iommu,
		     first->iommu);
	*first = was;
	map_pieces();
	if (op->flags & WARM)
		touch();
	if (op->begin)
		op->begin();
	if (op->flags & RECORD)
		look(record);

	if (trace_fd >= 0)
		trace_on();
	arm();
	ret = op->run();
	reached = disarm();
	t = trace_fd >= 0 ? trace_off() : (struct traced){};

	if (!reached && ret)
		fail("%s, though no allocation has failed", strerror(-ret));
	if (ret && op->flags & MUST_NOT)
		fail("%s, though it must not fail", strerror(-ret));
	if (ret == -EFAULT && may_fault(op))
		report->faulted++;
	else if (ret && ret != -ENOMEM && !(ret == -EOPNOTSUPP && op->flags & UNSUPPORTED))
		fail("%s, which is not what no memory gives", strerror(-ret));
	report->failures += !!ret;
	report->survived += reached && !ret;
	if (ret) {
		/* What this call has mapped, not what was there before. */
		if (t.mapped && !(op->flags & LESS)) {
			report->unwound_pmd += !!t.pmds;
			report->unwound_pud += !!t.puds;
		}
		if (!strcmp(broken, "record") && op->flags & RECORD)
			run_map();
		if (op->flags & RECORD && op->flags & LESS)
			less_recorded();
		else if (op->flags & RECORD)
			same_record();
		if (op->flags & RECORD && !(op->flags & LESS) && t.mapped != t.unmapped)
			fail("%zu bytes were mapped, %zu were unmapped", t.mapped, t.unmapped);
		if (op->failed)
			op->failed();
		ret = op->run();
		if (ret)
			fail("the same again: %s", strerror(-ret));
	}
	if (op->check)
		op->check();

	if (op->end)
		op->end();
	if (other >= 0)
		close(other);
	if (dma >= 0 && !(*broken == 'm' && reached))
		close(dma);
	other = -1;
	dma = -1;
	unmap_pieces();
	if (!point) {
		struct usage now = usage();

		if (now.iommu - was.iommu > *tables)
			*tables = now.iommu - was.iommu;
		if (!known)
			return true;
	}
	same_usage(&was, *tables);
	return reached;
}

/* The same in a process of its own, of which nothing is left. */
static bool attempt_alone(const struct operation *op, long *tables, struct usage *first)
{
	int status;
	pid_t pid;

	if (!(op->flags & PROCESS))
		return attempt(op, tables, first);
	pid = fork();
	if (pid < 0)
		fail("fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		open_counters();
		open_trace();
		if (mlockall(MCL_CURRENT))
			fail("mlockall: %s", strerror(errno));
		_exit(attempt(op, tables, first) ? 0 : 3);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) % 3)
		_exit(1);
	return !WEXITSTATUS(status);
}

static __attribute__((noreturn)) void sweep(const struct operation *op)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	step = "in the beginning";
	open_counters();
	if (op->group == DMA || op->group == BENCH || op->group == UNITS)
		open_trace();
	stretch = &stretches[op->flags >> STRETCH_SHIFT];
	neighbour = op->flags & BESIDE;
	if (op->group == RDMA_GROUP && !(rdma_is_here() && rdma_open()))
		fail("no rxe0");
	open_files();
	map_pieces();
	touch();
	unmap_pieces();
	/* From here on this process needs no more memory of its own. */
	if (mlockall(MCL_CURRENT))
		fail("mlockall: %s", strerror(errno));

	/* The first time other things are allocated that stay. */
	step = "without a failure";
	attempt_alone(op, &report->tables, &report->first);
	known = true;
	attempt_alone(op, &report->tables, &report->first);
	step = "swept";
	for (point = 1; attempt_alone(op, &report->tables, &report->first); point++)
		if (point == MAX_POINTS)
			fail("no end of failures");
	point = 0;
	if (!report->failures && !(op->flags & (MAY | BACK)))
		fail("no allocation has failed");
	if (!report->failures && !report->survived && !(op->flags & MAY))
		fail("there was no allocation");
	close_files();
	_exit(0);
}

/* ---- the parent ---- */

static int skipped;
static bool bad_setup;

static void setup(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		warn("%s to %s", text, path);
		bad_setup = true;
	}
	if (fd >= 0)
		close(fd);
}

/* Every allocation may fail, and says nothing. */
static void allow_failures(void)
{
	static const char dir[] = "/sys/kernel/debug/";
	const char * const files[][2] = {
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "failslab/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/verbose", verbose ? "2" : "0" },
		{ "failslab/verbose", verbose ? "2" : "0" },
	};
	char path[100];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s%s", dir, files[i][0]);
		setup(path, files[i][1]);
	}
}

static void find_edu(void)
{
	char link[256], path[200];
	ssize_t n;
	FILE *f;

	snprintf(path, sizeof(path), "cd /sys/bus/pci/drivers/%s && echo 0*", driver);
	f = popen(path, "r");
	if (!f || fscanf(f, "%31s", pci) != 1 || pclose(f))
		errx(2, "no edu that %s has", driver);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", pci);
	n = readlink(path, link, sizeof(link) - 1);
	iommu = n > 0;
	if (!iommu)
		return;
	link[n] = 0;
	snprintf(group, sizeof(group), "/sys/kernel/iommu_groups/%s", strrchr(link, '/') + 1);
}

/* ---- a cgroup for each kind of memory ---- */

static char cgroup[64];

static void new_cgroup(void)
{
	static int n;

	snprintf(cgroup, sizeof(cgroup), CGROUPS "sweep.%d", n++);
	if (mkdir(cgroup, 0755)) {
		warn("%s", cgroup);
		bad_setup = true;
	}
}

static long cgroup_number(const char *file, const char *word)
{
	static char text[16 << 10];
	char path[100];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* So that each line has the end of another before it. */
	*text = '\n';
	n = fd < 0 ? -1 : read(fd, text + 1, sizeof(text) - 2);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -1;
	text[n + 1] = 0;
	return number_of(text, word);
}

/*
 * What no process has, and the kernel does not keep to have it again sooner: inodes,
 * names and the host's files that programs are made of.
 */
static long not_free(void)
{
	static const char * const words[] = {
		"\nanon ", "\nslab_unreclaimable ", "\npagetables ", "\nsec_pagetables ",
		"\nkernel_stack ", "\npercpu ", "\nvmalloc ", "\nshmem ", "\nsock ",
	};
	long sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		sum += cgroup_number("memory.stat", words[i]);
	return sum;
}

/* Somebody is in it, for the test of the test. */
static pid_t leak(void)
{
	char path[100];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		err(2, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		put(path, "0");
		memset(buf, 1, sizeof(buf));
		pause();
	}
	usleep(500000);
	return pid;
}

/* Nobody is in it, and it may have nothing: what it keeps has been leaked. */
static void end_cgroup(const char *name)
{
	long peak = cgroup_number("memory.peak", ""), left = -1;
	pid_t pid = *broken == 'm' ? leak() : 0;
	char path[100];

	snprintf(path, sizeof(path), "%s/memory.high", cgroup);
	for (int tries = 0; tries < 100 && left; tries++) {
		/* Pages that are on their way to a list, and what each CPU keeps to itself. */
		setup("/proc/sys/vm/drop_caches", "3");
		setup(path, "0");
		left = not_free();
		if (left)
			usleep(100000);
	}
	result(!left && peak > 0, "all memory is free again, %s: %ld of %ld bytes are left", name,
	       left, peak);
	if (left) {
		char command[150];

		snprintf(command, sizeof(command), "sed -n '/ 0$/!s/^/# /p' %s/memory.stat",
			 cgroup);
		if (system(command))
			printf("# %s failed\n", command);
	}
	if (pid) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	rmdir(cgroup);
}

static void test(const struct operation *op, const char *name)
{
	time_t until = time(NULL) + PATIENCE, begun = time(NULL);
	char path[100];
	int status;
	pid_t pid;

	memset(report, 0, sizeof(*report));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		err(2, "fork");
	if (!pid) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
		put(path, "0");
		sweep(op);
	}
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (time(NULL) > until) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			snprintf(report->text, sizeof(report->text), "it does not end");
			report->failed = true;
			break;
		}
		usleep(2000);
	}
	if (!report->failed && (!WIFEXITED(status) || WEXITSTATUS(status))) {
		snprintf(report->text, sizeof(report->text), "status %#x", status);
		report->failed = true;
	}
	if (report->failed)
		result(false, "%s: %s", name, report->text);
	else if (report->unwound_pmd || report->unwound_pud)
		result(true, "%s: %d failures, %d survived; 2M unwound %d times, 1G %d times",
		       name, report->failures, report->survived, report->unwound_pmd,
		       report->unwound_pud);
	else
		result(true, "%s: %d failures, %d survived", name, report->failures,
		       report->survived);
	if (!report->failed && report->faulted)
		printf("# %d of the failures were -EFAULT, after SIGBUS\n", report->faulted);
	if (time(NULL) - begun > 60)
		printf("# it took %ld s\n", (long)(time(NULL) - begun));
}

static int bad_usage(void)
{
	fputs("usage: sweep [-v] [-o pattern] [-b record|memory|never] dma|bench|odp|rdma|units\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	int all = 0, unwound_pmd = 0, unwound_pud = 0, nr_failures = 0, nr_survived = 0;
	enum group which;
	regex_t only;
	char *area;
	int opt;

	if (regcomp(&only, "", REG_EXTENDED | REG_NOSUB))
		return bad_usage();
	while ((opt = getopt(argc, argv, "o:b:v")) != -1) {
		if (opt == 'o' && !regcomp(&only, optarg, REG_EXTENDED | REG_NOSUB))
			continue;
		if (opt == 'v') {
			verbose = true;
			continue;
		}
		if (opt != 'b' || (strcmp(optarg, "record") && strcmp(optarg, "memory") &&
				   strcmp(optarg, "never")))
			return bad_usage();
		broken = optarg;
		never = !strcmp(optarg, "never");
	}
	for (which = 0; optind + 1 == argc && which < NR_GROUPS; which++)
		if (!strcmp(argv[optind], groups[which]))
			break;
	if (optind + 1 != argc || which == NR_GROUPS)
		return bad_usage();

	if (access(FAIL_NTH, W_OK))
		errx(2, "the kernel has no CONFIG_FAULT_INJECTION");
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	area = mmap(NULL, 5 * PUD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (report == MAP_FAILED || area == MAP_FAILED)
		err(2, "mmap");
	base = (char *)(((uintptr_t)area + PUD - 1) / PUD * PUD) + PUD;
	anchor = mmap(base - PUD, PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (anchor == MAP_FAILED)
		err(2, "mmap");
	*anchor = 1;
	allow_failures();
	if (which == BENCH)
		driver = "hmm_bench_dma";
	if (which == DMA || which == BENCH)
		find_edu();
	if (which == DMA || which == BENCH || which == UNITS) {
		mkdir("/sys/kernel/tracing/instances/sweep", 0755);
		setup(TRACING "events/iommu/map/enable", "1");
		setup(TRACING "events/iommu/unmap/enable", "1");
		setup(TRACING "tracing_on", "0");
	}
	if (bad_setup)
		return 2;

	for (size_t m = 0; m < ARRAY_SIZE(memories); m++) {
		int kinds = kinds_of(&memories[m]);
		const char *missing = NULL;
		char name[200];
		bool any = false;

		mem = &memories[m];
		for (int i = 0; i < NR_KINDS; i++)
			if (kinds & 1 << i && envs[i] && !getenv(envs[i]))
				missing = envs[i];
		for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
			const struct operation *op = &operations[i];

			if (op->group != which || !applies(op, mem))
				continue;
			snprintf(name, sizeof(name), "%s, %s", op->name, mem->name);
			if (regexec(&only, name, 0, NULL, 0))
				continue;
			if (missing) {
				result(true, "%s # SKIP %s is not set", name, missing);
				skipped++;
				continue;
			}
			if (!any)
				new_cgroup();
			any = true;
			test(op, name);
			all++;
			nr_failures += report->failures;
			nr_survived += report->survived;
			unwound_pmd += report->unwound_pmd;
			unwound_pud += report->unwound_pud;
		}
		if (any)
			end_cgroup(mem->name);
	}
	printf("# %s: %d operations, %d failures, %d survived", groups[which], all, nr_failures,
	       nr_survived);
	printf("; blocks of 2M unwound %d times, of 1G %d times\n", unwound_pmd, unwound_pud);
	return failures > 0;
}
