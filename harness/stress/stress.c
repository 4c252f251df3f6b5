// SPDX-License-Identifier: GPL-2.0
/*
 * stress [-t seconds] [-r seconds] [-s seed] [-p workers] [-x command] [-w worker]
 *        [-o operations] [-c operation] [-l seconds]
 *
 * Random operations on memory that devices mirror, against a model that knows every
 * byte. Each worker (-p, default 4) is a process with files on ext4-dax and xfs-dax, a
 * slice of each device-dax, a private mapping of a file, anonymous memory and THPs.
 * The CPU, test_hmm's two mirrors, the two devices of test_hmm_dma and soft-RoCE read
 * and write all of them; in between, what they lie on is cut, punched, shifted, cloned,
 * protected, moved and unmapped. A second process, the worker's peer, has the same
 * files and a copy of the private memory, and can be killed at any time.
 *
 * What operation number N of a worker is follows from the seed, the worker and N alone.
 * It takes what is there when it runs: its numbers are reduced to the size that a file
 * has by then. So any subset of a worker's operations is a run, too, and a failure can
 * be reduced to a few of them. Only two things differ from run to run: where the other
 * workers are meanwhile, and how far a "storm" is, which is a thread that changes page
 * tables, but no bytes, while the worker goes on.
 *
 * A run consists of rounds (-r, default 60 s) with the seeds SEED, SEED + 1, ... After
 * each the command (-x) is executed, which may take the memory away and bring it back,
 * and all files and devices must have what they had before.
 *
 *   -w, -o  replay: only this worker, only these operations, as in 0-99,105
 *   -c      worker 0, or that of -w, changes a byte in place of this operation, and
 *           does not tell the model: the test of the test
 *   -l      how long to look for fewer operations that fail (default 120 s)
 *
 * Memory comes from HMM_DAX_* as for the selftest hmm_dax. Prints TAP. Exit status 1:
 * something failed; 2: bad usage.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/test_hmm_dma_uapi.h"
#include "lib/test_hmm_leaves_uapi.h"
#include "lib/test_hmm_uapi.h"

#include "../common/mix.h"
#include "../common/tap.h"
#include "rdma.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MAP_SYNC
#define MAP_SYNC	0x080000
#endif

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MAX_PAGES	2048	/* of an object */
#define MAX_BUF		8	/* pages that one access moves */
#define MAX_WORKERS	64
#define UNSHARE_MODE	(FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE)
#define GIB		(1UL << 30)

typedef uint64_t u64;

/* Where the memory of an object comes from. The order is that of places[]. */
enum kind { EXT4, XFS, XFS2, PRIVATE, DEV_PTE, DEV_PMD, DEV_PUD, ANON, THP, NR_KINDS };

#define IS(kind)	(1 << (kind))
#define FILES		(IS(EXT4) | IS(XFS) | IS(XFS2))
#define CLONES		(IS(XFS) | IS(XFS2))
#define DEVS		(IS(DEV_PTE) | IS(DEV_PMD) | IS(DEV_PUD))
#define SHARED		(FILES | DEVS)
#define ANONS		(IS(ANON) | IS(THP))
#define PRIVATES	(ANONS | IS(PRIVATE))
#define ALL		(SHARED | PRIVATES)

static const struct {
	const char *name, *env;
	size_t pages;
	int weight;		/* of 100 operations, so many are for it */
} places[NR_KINDS] = {
	[EXT4]	  = { "ext4", "HMM_DAX_EXT4", MAX_PAGES, 20 },
	[XFS]	  = { "xfs", "HMM_DAX_XFS", MAX_PAGES, 16 },
	[XFS2]	  = { "xfs-clone", "HMM_DAX_XFS", MAX_PAGES, 10 },
	[PRIVATE] = { "private", "HMM_DAX_EXT4", 1024, 8 },
	[DEV_PTE] = { "devdax-pte", "HMM_DAX_DEV_PTE", 1024, 8 },
	[DEV_PMD] = { "devdax-pmd", "HMM_DAX_DEV_PMD", 1024, 10 },
	[DEV_PUD] = { "devdax-pud", "HMM_DAX_DEV_PUD", 1024, 6 },
	[ANON]	  = { "anon", NULL, 1024, 10 },
	[THP]	  = { "thp", NULL, 1024, 12 },
};

/* What a process may do with a page of its mapping. */
enum prot { GONE, NONE, READ, WRITE };

enum { EDU, DIRECT, NR_DMA };
static const char * const dma_names[NR_DMA] = { "/dev/hmm_dma_edu", "/dev/hmm_dma_direct" };

/* A stretch of memory, as one process has it: a peer has got copies of these. */
struct object {
	enum kind kind;
	const char *name;
	int bit;		/* IS(kind) */
	bool here;
	int fd;
	char path[256];
	size_t pages;
	size_t grain;		/* pages; what a device-dax lets one unmap or protect */
	size_t offset;		/* of the mapping in the file, in bytes */
	size_t length;		/* of the mapping, in bytes */
	char *area;		/* address space that nothing else gets */
	char *vma;		/* where the mapping is now; may be all of a PUD leaf */
	char *map;		/* page 0 of the object in it */
	unsigned char prot[MAX_PAGES];
	char *model;		/* what its bytes must be */
	char *own;		/* private memory: the same, of the peer */
	int dma[NR_DMA];
	bool window[NR_DMA];
	u64 phys;		/* of page 0 of a device-dax; 0: not known */
	u64 iova;		/* of page 0 in edu's window; 0: not known */
	struct rdma_region *mr;
};

struct counts {
	u64 operations, refused, faults, device, dma, rdma, invalidations, bytes;
	u64 of_kind[NR_KINDS];
};

/* What a worker, its peer and the parent share. */
struct shared {
	struct counts counts;
	size_t size[NR_KINDS];		/* of a file, in pages */
	volatile u64 at;		/* number of the operation at work */
	volatile int what;		/* its index in operations[] */
	volatile bool ended;		/* all operations are through */
	volatile bool failed, done;
	enum kind failed_kind;
	char failure[400];
};

static struct {
	volatile bool stop;		/* all workers end */
} *all;

static size_t page, pmd;		/* bytes */
static u64 seed;
static int worker;			/* number of this one */
static bool in_peer, verbose;
static bool brief;			/* a replay that need not compare all at its end */
static long corrupt = -1;
static struct shared *shared;
static struct object objects[NR_KINDS];
static int mirror[2], leaves = -1, pagemap;
static char *buf, *old;			/* MAX_BUF pages, one page */
static volatile bool stormy;		/* another thread of this process is at work */

/* Number @k of those that make up operation @n of this worker. */
static u64 number(u64 n, int k)
{
	return mix(mix(seed * MAX_WORKERS + worker) + (n * 8 + k + 1) * 0x9e3779b97f4a7c15ULL);
}

static void fill(char *p, size_t pages, u64 tag)
{
	for (size_t i = 0; i < pages; i++, p += page) {
		u64 v = mix(tag + i);

		for (size_t j = 0; j < page / sizeof(v); j++)
			((u64 *)p)[j] = v + j * 0x0101010101010101ULL;
	}
}

/* What a private mapping has before it is written. */
#define UNDER	0x756e646572ULL

static char *model(struct object *o)
{
	return in_peer && (o->bit & PRIVATES) ? o->own : o->model;
}

static size_t size_of(struct object *o)
{
	return o->bit & FILES ? shared->size[o->kind] : o->pages;
}

static __attribute__((format(printf, 2, 3), noreturn))
void fail(struct object *o, const char *format, ...)
{
	va_list args;
	int n;

	if (!shared->failed) {
		shared->failed_kind = o->kind;
		n = snprintf(shared->failure, sizeof(shared->failure), "%s%s: ", o->name,
			     in_peer ? ", peer" : "");
		va_start(args, format);
		vsnprintf(shared->failure + n, sizeof(shared->failure) - n, format, args);
		va_end(args);
		shared->failed = true;
	}
	_exit(1);
}

static __attribute__((format(printf, 2, 3)))
void note(struct object *o, const char *format, ...)
{
	char text[200];
	va_list args;

	if (!verbose)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("# %llu %s%s: %s\n", (unsigned long long)shared->at, o->name,
	       in_peer ? ", peer" : "", text);
	fflush(stdout);
}

/* @n bytes at byte @at of the object were found to be @got. */
static void compare(struct object *o, const char *what, size_t at, const char *got, size_t n)
{
	const char *want = model(o) + at;

	shared->counts.bytes += n;
	if (!memcmp(got, want, n))
		return;
	for (size_t i = 0; i < n; i++)
		if (got[i] != want[i])
			fail(o, "%s: byte %#zx of page %zu is %#x, must be %#x", what,
			     (at + i) % page, (at + i) / page, (unsigned char)got[i],
			     (unsigned char)want[i]);
}

/*
 * What a device gets that accesses these pages: 0, or an error, and @good pages can be
 * accessed before the first that cannot.
 */
static int refusal(struct object *o, size_t first, size_t n, bool write, size_t *good)
{
	for (*good = 0; *good < n; ++*good) {
		enum prot prot = o->prot[first + *good];

		if (prot == GONE || prot == NONE)
			return EFAULT;
		if (write && prot == READ)
			return EPERM;
		if (first + *good >= size_of(o))
			return EFAULT;
	}
	return 0;
}

/*
 * The same for a device of which a failed request says nothing more: *@n pages become
 * those that it can reach, or one of which it has to be refused.
 */
static int refusal_of_part(struct object *o, size_t first, size_t *n, bool write)
{
	size_t good;
	int want = refusal(o, first, *n, write, &good);

	if (!want)
		return 0;
	*n = good ?: 1;
	return good ? 0 : want;
}

/* CPU accesses, of which any can end in a signal. */
static sigjmp_buf caught;
static volatile bool catching;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (catching)
		siglongjmp(caught, 1);
	fail(&objects[0], "signal %d at %p, outside of an access", sig, info->si_addr);
}

static bool copy(void *to, const void *from, size_t n)
{
	volatile bool done = false;

	/* Without the mask, which would take a system call; SA_NODEFER leaves it alone. */
	if (!sigsetjmp(caught, 0)) {
		catching = true;
		__asm__ volatile("" : : : "memory");
		memcpy(to, from, n);
		__asm__ volatile("" : : : "memory");
		done = true;
	}
	catching = false;
	return done;
}

static int request(int fd, unsigned long cmd, void *args)
{
	/* -EBUSY: memory that changed all the time for a second. */
	for (int busy = 0;;) {
		if (!ioctl(fd, cmd, args))
			return 0;
		if (errno != EINTR && (errno != EBUSY || ++busy > 30))
			return errno;
	}
}

static int dmirror(u64 which, unsigned long cmd, struct object *o, size_t first, size_t n)
{
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)o->map + first * page,
		.ptr = (uintptr_t)buf,
		.npages = n,
	};
	int ret = request(mirror[which & 1], cmd, &args);

	shared->counts.device++;
	shared->counts.faults += ret ? 1 : args.faults;
	return ret;
}

static void expect(struct object *o, const char *what, size_t first, size_t n, int got,
		   int want)
{
	if (got != want)
		fail(o, "%s of %zu pages from page %zu: %s, must be: %s", what, n, first,
		     got ? strerror(got) : "no error", want ? strerror(want) : "no error");
	shared->counts.refused += !!want;
}

static void device_read(struct object *o, size_t first, size_t n, u64 which)
{
	size_t good;
	int want = refusal(o, first, n, false, &good);

	expect(o, "device read", first, n,
	       dmirror(which, which & 2 ? HMM_DMIRROR_READ_UNLOCKED : HMM_DMIRROR_READ, o,
		       first, n), want);
	if (!want)
		compare(o, "device read", first * page, buf, n * page);
}

/* What is in the pages, by another way than the one under test. */
static bool look(struct object *o, size_t first, size_t n, char *to)
{
	size_t good;

	if (o->bit & FILES)
		return first + n <= size_of(o) &&
		       pread(o->fd, to, n * page, first * page) == (ssize_t)(n * page);
	return !refusal(o, first, n, false, &good) &&
	       copy(to, o->map + first * page, n * page);
}

/* A device that stopped in the middle has written some of @n pages in @buf, in order. */
static void some_written(struct object *o, const char *what, size_t first, size_t n)
{
	bool behind = false;

	for (size_t i = 0; i < n; i++) {
		char *want = model(o) + (first + i) * page;

		if (!look(o, first + i, 1, old))
			fail(o, "%s: page %zu cannot be read", what, first + i);
		if (!behind && !memcmp(old, buf + i * page, page))
			memcpy(want, old, page);
		else
			behind = true;
		compare(o, what, (first + i) * page, old, page);
	}
}

static void device_write(struct object *o, size_t first, size_t n, u64 which, u64 tag)
{
	size_t good;
	int want = refusal(o, first, n, true, &good);

	fill(buf, n, tag);
	expect(o, "device write", first, n, dmirror(which, HMM_DMIRROR_WRITE, o, first, n),
	       want);
	if (want)
		some_written(o, "refused device write", first, good);
	else
		memcpy(model(o) + first * page, buf, n * page);
}

/* DMA: only by the worker itself. */

static struct test_hmm_dma_query query(struct object *o, int d, size_t at)
{
	struct test_hmm_dma_query q = { .addr = (uintptr_t)o->map + at * page };
	int ret = request(o->dma[d], HMM_DMA_QUERY, &q);

	if (ret)
		fail(o, "HMM_DMA_QUERY of page %zu: %s", at, strerror(ret));
	return q;
}

static void count_invalidations(struct object *o, int d)
{
	struct test_hmm_dma_stats stats;

	if (!request(o->dma[d], HMM_DMA_STATS, &stats))
		shared->counts.invalidations += stats.invalidations;
}

static void window(struct object *o, int d)
{
	struct test_hmm_dma_window win = {
		.addr = (uintptr_t)o->vma,
		.npages = o->length / page,
	};
	int ret;

	if (o->window[d])
		return;
	count_invalidations(o, d);
	ret = request(o->dma[d], HMM_DMA_MIRROR, &win);
	if (ret)
		fail(o, "%s: HMM_DMA_MIRROR: %s", dma_names[d], strerror(ret));
	o->window[d] = true;
}

static u64 cpu_entry(struct object *o, size_t at)
{
	u64 entry;
	off_t where = ((uintptr_t)o->map / page + at) * sizeof(entry);

	if (pread(pagemap, &entry, sizeof(entry), where) != sizeof(entry))
		fail(o, "/proc/self/pagemap: %s", strerror(errno));
	return entry;
}

/* What the device does not know it cannot reach. */
static void check_unmapped(struct object *o, size_t at)
{
	struct test_hmm_dma_query q = { .dma = o->iova + at * page };

	if (!o->iova || stormy)
		return;
	if (request(o->dma[EDU], HMM_DMA_IOVA, &q))
		fail(o, "HMM_DMA_IOVA: %s", strerror(errno));
	if (q.iommu_phys)
		fail(o, "%s: page %zu is not mapped, but the IOMMU has it at %#llx",
		     dma_names[EDU], at, q.iommu_phys);
	shared->counts.bytes += 8;
}

/*
 * What a device has mapped is mapped by the CPU, in the same place: a notifier takes it
 * from the device before it goes. When nobody but this thread maps anything in the window,
 * what is there before and after a look at the CPU's page table was there meanwhile. In
 * a storm it may have been somewhere else: look again.
 */
static void check_mapped(struct object *o, int d, size_t at)
{
	struct test_hmm_dma_query q, again;
	bool elsewhere;
	u64 entry = 0;

	for (int tries = 0; o->window[d]; tries++) {
		q = query(o, d, at);
		if (!(q.flags & HMM_DMA_IS_MAPPED)) {
			if (d == EDU)
				check_unmapped(o, at);
			return;
		}
		/* To read pagemap splits a PUD leaf. */
		if (o->kind != DEV_PUD)
			entry = cpu_entry(o, at);
		again = query(o, d, at);
		if (!(again.flags & HMM_DMA_IS_MAPPED))
			return;
		elsewhere = o->kind != DEV_PUD &&
			    (!(entry >> 63) || (entry << 9 >> 9) * page != q.phys);
		if (!stormy || tries > 20 || (q.phys == again.phys && !elsewhere))
			break;
	}
	if (!o->window[d])
		return;
	if (q.phys != again.phys)
		fail(o, "%s: page %zu was at %#llx and is at %#llx", dma_names[d], at, q.phys,
		     again.phys);
	if (d == EDU && q.phys != q.iommu_phys)
		fail(o, "%s: page %zu is at %#llx, for the IOMMU at %#llx", dma_names[d], at,
		     q.phys, q.iommu_phys);
	/* A window has the same distance to its DMA addresses all over. */
	if (d == EDU && q.dma != q.phys && !o->iova)
		o->iova = q.dma - at * page;
	if (d == EDU && o->iova && q.dma != o->iova + at * page)
		fail(o, "%s: page %zu has DMA address %#llx, not %#llx", dma_names[d], at, q.dma,
		     (unsigned long long)(o->iova + at * page));
	if (o->prot[at] == GONE || o->prot[at] == NONE || at >= size_of(o))
		fail(o, "%s: page %zu, which nobody may access, is mapped", dma_names[d], at);
	if (o->prot[at] == READ && q.flags & HMM_DMA_IS_WRITABLE)
		fail(o, "%s: page %zu can be written and must not", dma_names[d], at);
	if (elsewhere)
		fail(o, "%s: page %zu is at %#llx, for the CPU: %#llx", dma_names[d], at,
		     q.phys, (unsigned long long)entry);
	if (o->bit & DEVS) {
		if (!o->phys)
			o->phys = q.phys - at * page;
		if (q.phys != o->phys + at * page)
			fail(o, "%s: page %zu is at %#llx, not %#llx", dma_names[d], at, q.phys,
			     (unsigned long long)(o->phys + at * page));
	}
	shared->counts.bytes += 16;
}

/* The mapping is gone as a whole: so is that of the devices. */
static void unmapped(struct object *o, const u64 *x)
{
	for (int d = 0; d < NR_DMA; d++) {
		for (int i = 0; o->window[d] && i < 4; i++) {
			size_t at = mix(x[2] + i) % o->pages;

			if (query(o, d, at).flags & HMM_DMA_IS_MAPPED)
				fail(o, "%s: page %zu of what was unmapped is mapped",
				     dma_names[d], at);
			if (d == EDU)
				check_unmapped(o, at);
		}
		o->window[d] = false;
	}
	o->iova = 0;
	rdma_unregister(o->mr);
	o->mr = NULL;
}

/* Look at the ends of what was or will be changed. */
static void probe(struct object *o, size_t first, size_t n, const u64 *x)
{
	const size_t at[] = { first - 1, first, first + n - 1, first + n };

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		if (at[i] >= o->pages || (i == 2 && n == 1))
			continue;
		for (int d = 0; d < NR_DMA && !in_peer; d++)
			check_mapped(o, d, at[i]);
		device_read(o, at[i], 1, x[3] >> i);
	}
}

/* Some pages, mostly such as are there. */
static void pick(struct object *o, const u64 *x, size_t most, size_t *first, size_t *n)
{
	size_t size = size_of(o), end = o->pages;

	if (size && x[3] >> 60)
		end = size;
	*first = x[0] % end;
	*n = 1 + x[1] % most;
	if (*n > end - *first)
		*n = end - *first;
}

/* The same in multiples of what the object's mapping can be changed by. */
static void pick_grains(struct object *o, const u64 *x, size_t most, size_t *first, size_t *n)
{
	size_t end;

	pick(o, x, most, first, n);
	end = (*first + *n + o->grain - 1) / o->grain * o->grain;
	*first = *first / o->grain * o->grain;
	*n = (end < o->pages ? end : o->pages) - *first;
}

/* Where the pages are for mprotect() and the like. A PUD leaf is more than its slice. */
static char *where(struct object *o, size_t first, size_t n, size_t *length)
{
	if (o->grain >= o->pages) {
		*length = o->length;
		return o->vma;
	}
	*length = n * page;
	return o->map + first * page;
}

static void do_device_read(struct object *o, const u64 *x)
{
	size_t first, n;

	pick(o, x, x[2] % 16 ? 2 : MAX_BUF, &first, &n);
	note(o, "device reads %zu pages from page %zu", n, first);
	device_read(o, first, n, x[3]);
}

static void do_device_write(struct object *o, const u64 *x)
{
	size_t first, n;

	pick(o, x, x[2] % 16 ? 2 : MAX_BUF, &first, &n);
	note(o, "device writes %zu pages from page %zu", n, first);
	device_write(o, first, n, x[3], x[2]);
}

/* Bytes, not pages. What cannot be accessed must give a signal. */
static void cpu(struct object *o, const u64 *x, bool write)
{
	size_t first, n, good, at, length;
	int want;

	pick(o, x, 2, &first, &n);
	at = x[2] % page;
	length = 1 + (x[2] >> 32) % (n * page - at);
	n = (at + length + page - 1) / page;
	want = refusal(o, first, n, write, &good);
	if (want && good) {
		length = good * page - at;
		want = 0;
	} else if (want) {
		at = x[2] % page;
		length = 1;
	}
	at += first * page;
	note(o, "CPU %s %zu bytes from %#zx", write ? "writes" : "reads", length, at);
	fill(buf, 2, x[2]);
	if (copy(write ? o->map + at : buf, write ? buf : o->map + at, length) != !want)
		fail(o, "CPU %s of page %zu: %s signal", write ? "write" : "read", at / page,
		     want ? "no" : "a");
	shared->counts.refused += !!want;
	if (want)
		return;
	if (write)
		memcpy(model(o) + at, buf, length);
	else
		compare(o, "CPU read", at, buf, length);
}

static void do_cpu_read(struct object *o, const u64 *x)
{
	cpu(o, x, false);
}

static void do_cpu_write(struct object *o, const u64 *x)
{
	cpu(o, x, true);
}

static void do_pread(struct object *o, const u64 *x)
{
	size_t first, n, size = size_of(o);
	ssize_t want;

	pick(o, x, MAX_BUF, &first, &n);
	note(o, "pread of %zu pages from page %zu", n, first);
	want = first >= size ? 0 : (n < size - first ? n : size - first) * page;
	if (pread(o->fd, buf, n * page, first * page) != want)
		fail(o, "pread of %zu pages from page %zu: %s", n, first, strerror(errno));
	compare(o, "pread", first * page, buf, want);
}

static void do_pwrite(struct object *o, const u64 *x)
{
	size_t first, n, at, length;

	pick(o, x, MAX_BUF, &first, &n);
	at = first * page;
	length = n * page;
	/* A file remains whole pages. */
	if (first + n <= size_of(o) && x[2] % 2) {
		at += x[2] / 2 % page;
		length -= x[2] / 2 % page;
		length -= (x[2] >> 32) % length;
	}
	note(o, "pwrite of %zu bytes at %#zx", length, at);
	fill(buf, n, x[2]);
	if (pwrite(o->fd, buf, length, at) != (ssize_t)length)
		fail(o, "pwrite of %zu bytes at %#zx: %s", length, at, strerror(errno));
	memcpy(o->model + at, buf, length);
	if (first + n > size_of(o))
		shared->size[o->kind] = first + n;
}

static void do_dma_map(struct object *o, const u64 *x)
{
	const u64 flags[] = { 0, HMM_DMA_MAP_WRITE, HMM_DMA_MAP_WRITE, HMM_DMA_MAP_SNAPSHOT };
	struct test_hmm_dma_window win;
	u64 flag = flags[x[2] / 4 % 4];
	int d = x[2] % 4 ? DIRECT : EDU, want;
	size_t first, n, good;

	pick(o, x, x[2] / 16 % 16 ? 16 : pmd / page, &first, &n);
	note(o, "%s maps %zu pages from page %zu, flags %#llx", dma_names[d], n, first,
	     (unsigned long long)flag);
	window(o, d);
	win = (struct test_hmm_dma_window) {
		.addr = (uintptr_t)o->map + first * page,
		.npages = n,
		.flags = flag,
	};
	want = flag == HMM_DMA_MAP_SNAPSHOT ? 0 :
	       refusal(o, first, n, flag == HMM_DMA_MAP_WRITE, &good);
	expect(o, "DMA map", first, n, request(o->dma[d], HMM_DMA_MAP, &win), want);
	shared->counts.faults++;
	check_mapped(o, d, first);
	check_mapped(o, d, first + n - 1);
	check_mapped(o, d, first + x[3] % n);
}

static void do_dma_query(struct object *o, const u64 *x)
{
	size_t at = x[0] % o->pages;

	note(o, "what of page %zu is mapped?", at);
	check_mapped(o, EDU, at);
	check_mapped(o, DIRECT, at);
}

static void do_dma_unmap(struct object *o, const u64 *x)
{
	struct test_hmm_dma_window win;
	int d = x[2] % 4 ? DIRECT : EDU, ret;
	size_t first, n;

	pick(o, x, 64, &first, &n);
	note(o, "%s unmaps %zu pages from page %zu", dma_names[d], n, first);
	window(o, d);
	win = (struct test_hmm_dma_window) {
		.addr = (uintptr_t)o->map + first * page,
		.npages = n,
	};
	ret = request(o->dma[d], HMM_DMA_UNMAP, &win);
	if (ret)
		fail(o, "DMA unmap: %s", strerror(ret));
	if (!stormy && query(o, d, first).flags | query(o, d, first + n - 1).flags)
		fail(o, "%s: page %zu or %zu is mapped after HMM_DMA_UNMAP", dma_names[d],
		     first, first + n - 1);
}

/* Real DMA, 200 ms. */
static void do_dma(struct object *o, const u64 *x)
{
	bool write = x[2] & 1;
	size_t first, n, at = x[2] / 2 % page, length;
	struct test_hmm_dma_xfer xfer;
	int want;

	pick(o, x, 2, &first, &n);
	want = refusal_of_part(o, first, &n, write);
	length = 1 + (x[2] >> 32) % HMM_DMA_XFER_MAX;
	if (length > n * page - at)
		length = n * page - at;
	at += first * page;
	note(o, "edu %s %zu bytes from %#zx", write ? "writes" : "reads", length, at);
	window(o, EDU);
	if (write)
		fill(buf, 1, x[2]);
	xfer = (struct test_hmm_dma_xfer) {
		.addr = (uintptr_t)o->map + at,
		.ptr = (uintptr_t)buf,
		.size = length,
	};
	expect(o, write ? "edu write" : "edu read", first, n,
	       request(o->dma[EDU], write ? HMM_DMA_WRITE : HMM_DMA_READ, &xfer), want);
	shared->counts.faults += want ? 1 : xfer.faults;
	if (want)
		return;
	shared->counts.dma++;
	if (write)
		memcpy(o->model + at, buf, length);
	else
		compare(o, "edu read", at, buf, length);
}

static void do_rdma(struct object *o, const u64 *x)
{
	bool write = x[2] & 1;
	size_t first, n, at, length;
	int want;

	pick(o, x, 2, &first, &n);
	at = x[2] / 2 % page;
	want = refusal_of_part(o, first, &n, write);
	if (!rdma_is_here() || (want && x[3] >> 8 & 7))
		return;		/* an error costs new queue pairs */
	length = 1 + (x[2] >> 32) % (n * page - at);
	at += first * page;
	note(o, "RDMA %s %zu bytes from %#zx", write ? "writes" : "reads", length, at);
	if (!rdma_buf && !rdma_open())
		fail(o, "rxe0: %s", strerror(errno));
	if (!o->mr)
		o->mr = rdma_register(o->map, o->pages * page);
	if (!o->mr)
		fail(o, "RDMA: no memory region: %s", strerror(errno));
	if (write)
		fill(rdma_buf, 2, x[2]);
	if (rdma_transfer(o->mr, o->map + at, length, write, x[3] & 1) != !want)
		fail(o, "RDMA %s of %zu bytes from %#zx: %s error", write ? "write" : "read",
		     length, at, want ? "no" : "an");
	shared->counts.refused += !!want;
	if (want)
		return;
	shared->counts.rdma++;
	if (write)
		memcpy(o->model + at, rdma_buf, length);
	else
		compare(o, "RDMA read", at, rdma_buf, length);
}

static int allocate(struct object *o, int mode, size_t at, size_t length)
{
	int ret;

	do
		ret = fallocate(o->fd, mode, at, length);
	while (ret && errno == EINTR);
	return ret ? errno : 0;
}

/*
 * A thread that changes page tables or what lies below, but no bytes: by forks, by taking
 * leaves away, by writing back or copying blocks, or by having devices fault.
 */
enum { FORK, ZAP, WRITE_BACK, UNSHARE, FAULT };

static struct {
	sem_t begin;
	int how, times;
	struct object *o;
	char *p, *map;
	size_t length;
	char *buf;
} storm;

static void fork_and_exit(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	if (child > 0)
		waitpid(child, NULL, 0);
}

/* Devices fault while the worker changes what they fault. Errors are as good. */
static void storm_fault(u64 x)
{
	struct object *o = storm.o;
	size_t first = x % o->pages, n = 1 + (x >> 32) % 16;
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)storm.map + first * page,
		.ptr = (uintptr_t)storm.buf,
	};
	struct test_hmm_dma_window win = { .addr = args.addr };
	int d = x >> 20 & 3 ? DIRECT : EDU;

	if (n > o->pages - first)
		n = o->pages - first;
	args.npages = n;
	win.npages = n;
	win.flags = x >> 24 & 1 ? HMM_DMA_MAP_WRITE : 0;
	/* A PUD leaf takes the device long to set up. */
	if (x >> 28 & 1 || o->kind == DEV_PUD)
		ioctl(mirror[x >> 29 & 1], HMM_DMIRROR_READ, &args);
	else
		ioctl(o->dma[d], HMM_DMA_MAP, &win);
}

static void *storms(void *arg)
{
	(void)arg;
	for (u64 x = 0;;) {
		while (sem_wait(&storm.begin))
			;
		for (int i = 0; i < storm.times && !all->stop; i++) {
			switch (storm.how) {
			case FORK:
				fork_and_exit();
				break;
			case ZAP:
				madvise(storm.p, storm.length, storm.o->bit & SHARED ?
					MADV_DONTNEED : MADV_COLLAPSE);
				break;
			case WRITE_BACK:
				msync(storm.p, storm.length, MS_SYNC);
				break;
			case UNSHARE:
				allocate(storm.o, UNSHARE_MODE, 0, size_of(storm.o) * page);
				break;
			case FAULT:
				storm_fault(mix(++x));
				break;
			}
			sched_yield();
		}
		stormy = false;
	}
	return NULL;
}

static void do_storm(struct object *o, const u64 *x)
{
	static const int how[] = { FORK, ZAP, WRITE_BACK, UNSHARE, FAULT, FAULT, FAULT };

	if (stormy)
		return;
	storm.how = how[x[0] % ARRAY_SIZE(how)];
	if (storm.how == UNSHARE && !(o->bit & CLONES))
		storm.how = FAULT;
	storm.times = storm.how == FAULT ? 20 + x[1] % 400 : 2 + x[1] % 20;
	storm.o = o;
	storm.p = o->vma;
	storm.map = o->map;
	storm.length = o->length;
	stormy = true;
	note(o, "storm %d, %d times", storm.how, storm.times);
	sem_post(&storm.begin);
}

static void wait_for_storm(void)
{
	while (stormy)
		usleep(200);
}

/* hmm_range_fault() against the page table, by the module that has both. */
static void do_leaves(struct object *o, const u64 *x)
{
	struct hmm_leaves_check check = { .seed = x[2], .count = 2 };
	size_t first, n, good;
	int ret;

	pick(o, x, x[2] % 4 ? 64 : pmd / page, &first, &n);
	check.addr = (uintptr_t)o->map + first * page;
	check.npages = n;
	check.flags = x[2] / 4 & (HMM_LEAVES_READ | HMM_LEAVES_WRITE | HMM_LEAVES_PER_PAGE |
				 HMM_LEAVES_LIST);
	/* A list knows no requests by page. */
	if (check.flags & HMM_LEAVES_LIST)
		check.flags &= ~HMM_LEAVES_PER_PAGE;
	/* It knows no ends of files. */
	if (refusal(o, first, n, false, &good))
		return;
	wait_for_storm();
	note(o, "hmm_leaves, %zu pages from page %zu, flags %#x", n, first, check.flags);
	ret = request(leaves, HMM_LEAVES_CHECK, &check);
	if (ret == EUCLEAN)
		fail(o, "hmm_leaves, flags %#x: page %zu: got %#llx, must be %#llx (what %u)",
		     check.flags, (size_t)(check.diff.addr - (uintptr_t)o->map) / page,
		     check.diff.got, check.diff.want, check.diff.what);
	if (ret && ret != EAGAIN)
		fail(o, "hmm_leaves: %s", strerror(ret));
	shared->counts.faults += 1 + check.count;
	shared->counts.bytes += check.pages * sizeof(u64);
}

static void do_sync(struct object *o, const u64 *x)
{
	size_t first, n, length;
	int ret = 0;
	char *p;

	pick_grains(o, x, 64, &first, &n);
	p = where(o, first, n, &length);
	note(o, "sync %llu, %zu pages from page %zu", (unsigned long long)x[2] % 4, n, first);
	switch (x[2] % 4) {
	case 0:
		ret = fsync(o->fd);
		break;
	case 1:
		ret = fdatasync(o->fd);
		break;
	default:
		ret = msync(p, length, MS_SYNC);
		if (ret && errno == ENOMEM)	/* part of it is unmapped */
			ret = 0;
		break;
	}
	if (ret)
		fail(o, "sync: %s", strerror(errno));
}

/* Bytes become zeroes, in two ways. */
static void zero(struct object *o, const u64 *x, int mode)
{
	size_t first, n, at, length;
	int ret;

	pick(o, x, x[2] % 8 ? 16 : pmd / page, &first, &n);
	if (x[2] / 8 % 8 == 0 && first / (pmd / page) * (pmd / page) + pmd / page <= o->pages) {
		n = pmd / page;
		first = first / n * n;
	}
	at = first * page;
	length = n * page;
	if (x[2] / 64 % 4 == 0) {
		at += x[2] / 256 % page;
		length -= x[2] / 256 % page;
		length -= (x[2] >> 32) % page % length;
	}
	note(o, "zero by %#x: %zu bytes from %#zx", mode, length, at);
	probe(o, first, n, x);
	ret = allocate(o, mode | FALLOC_FL_KEEP_SIZE, at, length);
	if (ret)
		fail(o, "fallocate %#x, %zu bytes from %#zx: %s", mode, length, at,
		     strerror(ret));
	memset(o->model + at, 0, length);
	probe(o, first, n, x);
}

static void do_punch(struct object *o, const u64 *x)
{
	zero(o, x, FALLOC_FL_PUNCH_HOLE);
}

static void do_zero(struct object *o, const u64 *x)
{
	zero(o, x, FALLOC_FL_ZERO_RANGE);
}

static bool pick_shift(struct object *o, const u64 *x, size_t *first, size_t *n)
{
	size_t large = pmd / page;

	pick(o, x, 32, first, n);
	if (x[2] % 2) {
		*first = *first / large * large;
		*n = large;
	}
	return *first + *n < size_of(o);
}

static void do_collapse(struct object *o, const u64 *x)
{
	size_t first, n, size = size_of(o);
	char *m = o->model;
	int ret;

	if (!pick_shift(o, x, &first, &n))
		return;
	note(o, "collapse %zu pages from page %zu", n, first);
	probe(o, first, n, x);
	ret = allocate(o, FALLOC_FL_COLLAPSE_RANGE, first * page, n * page);
	if (ret)
		fail(o, "collapse of %zu pages from page %zu: %s", n, first, strerror(ret));
	memmove(m + first * page, m + (first + n) * page, (size - first - n) * page);
	memset(m + (size - n) * page, 0, n * page);
	shared->size[o->kind] -= n;
	probe(o, first, n, x);
	probe(o, size - n, 1, x);
}

static void do_insert(struct object *o, const u64 *x)
{
	size_t first, n, size = size_of(o);
	char *m = o->model;
	int ret;

	if (!pick_shift(o, x, &first, &n) || size + n > o->pages)
		return;
	note(o, "insert %zu pages at page %zu", n, first);
	probe(o, first, n, x);
	ret = allocate(o, FALLOC_FL_INSERT_RANGE, first * page, n * page);
	if (ret)
		fail(o, "insert of %zu pages at page %zu: %s", n, first, strerror(ret));
	memmove(m + (first + n) * page, m + first * page, (size - first) * page);
	memset(m + first * page, 0, n * page);
	shared->size[o->kind] += n;
	probe(o, first, n, x);
	probe(o, size + n - 1, 1, x);
}

static void do_truncate(struct object *o, const u64 *x)
{
	size_t size = size_of(o), to = x[0] % 4 ? size - size * (x[1] % 64) / 256 :
							   x[1] % (o->pages + 1);
	/* Cut within a page: what is behind must be zeroes when that comes back. */
	size_t bytes = to && x[2] % 2 ? to * page - x[3] % page : to * page;

	note(o, "truncate to %zu bytes, then %zu pages", bytes, to);
	if (size)
		probe(o, to < size ? to : size - 1, 1, x);
	if (ftruncate(o->fd, bytes) || ftruncate(o->fd, to * page))
		fail(o, "truncate to %zu pages: %s", to, strerror(errno));
	if (bytes < size * page)
		memset(o->model + bytes, 0, size * page - bytes);
	shared->size[o->kind] = to;
	if (to < o->pages)
		probe(o, to, 1, x);
}

static void do_fallocate(struct object *o, const u64 *x)
{
	size_t first = x[0] % o->pages, n = 1 + x[1] % (o->pages - first);
	int ret;

	note(o, "fallocate %zu pages from page %zu", n, first);
	ret = allocate(o, 0, first * page, n * page);
	if (ret)
		fail(o, "fallocate: %s", strerror(ret));
	if (first + n > size_of(o))
		shared->size[o->kind] = first + n;
}

/* From the beginning: blocks for large leaves again. */
static void do_renew(struct object *o, const u64 *x)
{
	size_t size = o->pages / 4 * (2 + x[0] % 3);
	int ret = 0;

	note(o, "emptied, %zu pages allocated", size);
	if (ftruncate(o->fd, 0))
		fail(o, "truncate to nothing: %s", strerror(errno));
	memset(o->model, 0, size_of(o) * page);
	shared->size[o->kind] = 0;
	probe(o, x[1] % o->pages, 1, x);
	ret = allocate(o, 0, 0, size * page);
	if (ret)
		fail(o, "fallocate: %s", strerror(ret));
	shared->size[o->kind] = size;
}

static struct object *other(struct object *o)
{
	return &objects[o->kind == XFS ? XFS2 : XFS];
}

/* Pages of one file that have the same blocks as those of the other from now on. */
static void do_reflink(struct object *o, const u64 *x)
{
	struct object *from = x[2] % 4 ? other(o) : o;
	struct file_clone_range range;
	size_t first, n, to = x[1] / MAX_PAGES % o->pages;

	pick(from, x, x[2] / 4 % 8 ? 64 : pmd / page, &first, &n);
	if (!size_of(from) || first >= size_of(from))
		return;
	if (n > size_of(from) - first)
		n = size_of(from) - first;
	if (x[2] / 32 % 4 == 0)		/* so that PMD leaves become shared */
		to = to / (pmd / page) * (pmd / page) + first % (pmd / page);
	if (to + n > o->pages || (from == o && to < first + n && first < to + n))
		return;
	note(o, "reflink of %zu pages from page %zu of %s to page %zu", n, first, from->name,
	     to);
	probe(o, to, n, x);
	range = (struct file_clone_range) {
		.src_fd = from->fd,
		.src_offset = first * page,
		.src_length = n * page,
		.dest_offset = to * page,
	};
	if (ioctl(o->fd, FICLONERANGE, &range))
		fail(o, "reflink of %zu pages from page %zu of %s to page %zu: %s", n, first,
		     from->name, to, strerror(errno));
	memcpy(o->model + to * page, from->model + first * page, n * page);
	if (to + n > size_of(o))
		shared->size[o->kind] = to + n;
	probe(o, to, n, x);
	probe(from, first, n, x);
}

static bool any_zero_page(const char *p, size_t n)
{
	for (; n; n--, p += page)
		if (!*p && !memcmp(p, p + 1, page - 1))
			return true;
	return false;
}

/* Shares blocks where the bytes are the same, and only there. */
static void do_dedupe(struct object *o, const u64 *x)
{
	struct object *from = other(o);
	union {
		struct file_dedupe_range range;
		char room[sizeof(struct file_dedupe_range) +
			  sizeof(struct file_dedupe_range_info)];
	} arg = {};
	struct file_dedupe_range_info *info = arg.range.info;
	size_t first, n, to = x[1] / MAX_PAGES % o->pages, size = size_of(from);
	bool same;

	pick(from, x, MAX_BUF, &first, &n);
	if (first + n > size || to + n > size_of(o))
		return;
	if (x[2] % 2) {
		const char *bytes = from->model + first * page;

		if (pwrite(o->fd, bytes, n * page, to * page) != (ssize_t)(n * page))
			fail(o, "pwrite: %s", strerror(errno));
		memcpy(o->model + to * page, bytes, n * page);
	}
	same = !memcmp(o->model + to * page, from->model + first * page, n * page);
	note(o, "dedupe of %zu pages from page %zu of %s and page %zu, %s", n, first,
	     from->name, to, same ? "the same" : "different");
	probe(o, to, n, x);
	arg.range.src_offset = first * page;
	arg.range.src_length = n * page;
	arg.range.dest_count = 1;
	info->dest_fd = o->fd;
	info->dest_offset = to * page;
	if (ioctl(from->fd, FIDEDUPERANGE, &arg.range))
		fail(o, "dedupe: %s", strerror(errno));
	if (info->status < 0)
		fail(o, "dedupe: %s", strerror(-info->status));
	/* fs/dax.c takes a hole, and what is only allocated, for different from zeroes. */
	if ((info->status == FILE_DEDUPE_RANGE_SAME) != same &&
	    !(same && any_zero_page(from->model + first * page, n)))
		fail(o, "dedupe of %zu pages from page %zu of %s and page %zu: %s", n, first,
		     from->name, to, same ? "different" : "the same");
	probe(o, to, n, x);
	probe(from, first, n, x);
}

/* Each block gets one owner, by a copy of what has two. */
static void do_unshare(struct object *o, const u64 *x)
{
	size_t first, n, size = size_of(o);
	int ret;

	pick(o, x, pmd / page, &first, &n);
	if (first >= size)
		return;
	if (n > size - first)
		n = size - first;
	note(o, "unshare %zu pages from page %zu", n, first);
	probe(o, first, n, x);
	ret = allocate(o, UNSHARE_MODE, first * page, n * page);
	if (ret)
		fail(o, "unshare of %zu pages from page %zu: %s", n, first, strerror(ret));
	probe(o, first, n, x);
}

/* Fresh private memory. */
static void forget(struct object *o, size_t first, size_t n)
{
	if (o->bit & ANONS)
		memset(model(o) + first * page, 0, n * page);
	if (o->kind == PRIVATE)
		fill(model(o) + first * page, n, UNDER + first);
}

static void map_at(struct object *o, char *p, size_t offset, size_t length, bool sync)
{
	int flags = MAP_FIXED | (o->bit & ANONS ? MAP_PRIVATE | MAP_ANONYMOUS :
				 o->kind == PRIVATE ? MAP_PRIVATE :
				 sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED);

	if (mmap(p, length, PROT_READ | PROT_WRITE, flags, o->fd,
		 o->fd < 0 ? 0 : o->offset + offset) == MAP_FAILED)
		fail(o, "mmap: %s", strerror(errno));
	if (o->bit & ANONS)
		madvise(p, length, o->kind == THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Each area has two places, and each a second that makes leaves small. */
static char *place(struct object *o, u64 which)
{
	return o->area + (which & 1) * 4 * GIB +
	       ((which & 2) && !(o->bit & DEVS) ? page : 0);
}

static void settle(struct object *o, char *at)
{
	o->map = at + (o->map - o->vma);
	o->vma = at;
}

static void do_remap(struct object *o, const u64 *x)
{
	note(o, "mapped anew, %#llx", (unsigned long long)x[0] % 8);
	if (munmap(o->vma, o->length))
		fail(o, "munmap: %s", strerror(errno));
	unmapped(o, x);
	memset(o->prot, GONE, o->pages);
	device_read(o, x[1] % o->pages, 1, x[3]);
	settle(o, place(o, x[0]));
	map_at(o, o->vma, 0, o->length, x[0] & 4 && o->bit & FILES);
	memset(o->prot, WRITE, o->pages);
	forget(o, 0, o->pages);
}

static void do_mremap(struct object *o, const u64 *x)
{
	char *to = place(o, x[0]);
	struct object before = *o;
	size_t i;

	/* Only what is one mapping. */
	for (i = 0; i < o->pages && o->prot[i] == WRITE; i++)
		;
	if (i < o->pages || to == o->vma || (to > o->vma ? to - o->vma : o->vma - to) <
					     (ptrdiff_t)o->length)
		return;
	note(o, "moved");
	if (mremap(o->vma, o->length, o->length, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) {
		/* Mappings that madvise() or the like have split. */
		if (errno == EFAULT || errno == EINVAL)
			return;
		fail(o, "mremap: %s", strerror(errno));
	}
	unmapped(o, x);
	memset(before.prot, GONE, o->pages);
	device_read(&before, x[1] % o->pages, 1, x[3]);
	settle(o, to);
	device_read(o, x[1] % o->pages, 1, x[3]);
}

static void do_unmap(struct object *o, const u64 *x)
{
	size_t first, n, length;
	char *p;

	pick_grains(o, x, 16, &first, &n);
	/* The other slices of a PUD leaf would have to be mapped with it. */
	if (o->kind == DEV_PUD)
		return;
	p = where(o, first, n, &length);
	note(o, "unmapped, %zu pages from page %zu", n, first);
	probe(o, first, n, x);
	if (munmap(p, length))
		fail(o, "munmap: %s", strerror(errno));
	memset(o->prot + first, GONE, n);
	probe(o, first, n, x);
}

static void do_map(struct object *o, const u64 *x)
{
	size_t first, n;

	pick_grains(o, x, 256, &first, &n);
	if (o->kind == DEV_PUD)
		return;
	note(o, "mapped, %zu pages from page %zu", n, first);
	probe(o, first, n, x);
	map_at(o, o->map + first * page, first * page, n * page, false);
	memset(o->prot + first, WRITE, n);
	forget(o, first, n);
	probe(o, first, n, x);
}

static void do_mprotect(struct object *o, const u64 *x)
{
	static const int flags[] = { [NONE] = PROT_NONE, [READ] = PROT_READ,
				     [WRITE] = PROT_READ | PROT_WRITE };
	static const enum prot choice[] = { NONE, READ, READ, WRITE, WRITE, WRITE };
	enum prot prot = choice[x[2] % ARRAY_SIZE(choice)];
	size_t first, n, length;
	char *p;

	pick_grains(o, x, prot == WRITE ? 256 : 32, &first, &n);
	for (size_t i = 0; i < n; i++)
		if (o->prot[first + i] == GONE)
			return;
	p = where(o, first, n, &length);
	note(o, "mprotect %d, %zu pages from page %zu", prot, n, first);
	probe(o, first, n, x);
	if (mprotect(p, length, flags[prot]))
		fail(o, "mprotect: %s", strerror(errno));
	memset(o->prot + first, prot, n);
	probe(o, first, n, x);
}

static void do_dontneed(struct object *o, const u64 *x)
{
	size_t first, n, length;
	char *p;

	pick_grains(o, x, x[2] % 8 ? 64 : pmd / page, &first, &n);
	for (size_t i = 0; i < n; i++)
		if (o->prot[first + i] == GONE)
			return;
	p = where(o, first, n, &length);
	note(o, "MADV_DONTNEED, %zu pages from page %zu", n, first);
	probe(o, first, n, x);
	if (madvise(p, length, MADV_DONTNEED))
		fail(o, "MADV_DONTNEED: %s", strerror(errno));
	forget(o, first, n);
	probe(o, first, n, x);
}

/* Large pages come and go, the bytes stay. */
static void do_huge(struct object *o, const u64 *x)
{
	static const int advice[] = { MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE,
				      MADV_COLLAPSE, MADV_COLD, MADV_PAGEOUT };
	size_t first, n;

	pick(o, x, 2 * pmd / page, &first, &n);
	note(o, "advice %d, %zu pages from page %zu", advice[x[2] % 6], n, first);
	/* May fail, for want of memory. */
	madvise(o->map + first * page, n * page, advice[x[2] % 6]);
	probe(o, first, n, x);
}

static void do_fork(struct object *o, const u64 *x)
{
	(void)x;
	note(o, "fork");
	fork_and_exit();
}

/* A byte for which the model was not asked. */
static void do_corrupt(struct object *o, const u64 *x)
{
	size_t size = size_of(o);

	for (size_t i = 0; i < size; i++) {
		size_t at = (x[0] + i) % size;

		if (o->prot[at] != WRITE)
			continue;
		note(o, "a byte of page %zu changes", at);
		o->map[at * page + x[1] % page] ^= 1;
		return;
	}
}

static void check_whole(struct object *o)
{
	size_t size = size_of(o), n, good;

	for (size_t i = 0; i < size; i += n) {
		n = MAX_BUF < size - i ? MAX_BUF : size - i;
		if (look(o, i, n, buf))
			compare(o, "all of it", i * page, buf, n * page);
		if (refusal(o, i, n, false, &good))
			n = good ?: 1;
		if (!good)
			continue;
		for (size_t j = 0; j < n && o->bit & FILES; j++) {
			if (!copy(buf, o->map + (i + j) * page, page))
				fail(o, "CPU read of page %zu: a signal", i + j);
			compare(o, "all of the mapping", (i + j) * page, buf, page);
		}
		device_read(o, i, n, i / MAX_BUF);
	}
}

static void do_check(struct object *o, const u64 *x)
{
	(void)x;
	note(o, "compared as a whole");
	check_whole(o);
}

/* The peer: a process that does what it is told. */
static pid_t peer;
static int to_peer[2], from_peer[2];

struct order {
	int kind;
	int what;		/* index in orders[] */
	u64 x[4];
};

/* A write that may be cut off; the worker finds out how much of it was done. */
static void do_unfinished(struct object *o, const u64 *x)
{
	size_t first, n;

	pick(o, x, MAX_BUF, &first, &n);
	fill(buf, n, x[2]);
	dmirror(x[3], HMM_DMIRROR_WRITE, o, first, n);
}

enum { UNFINISHED = 6 };

static void (* const orders[])(struct object *o, const u64 *x) = {
	do_device_read, do_device_write, do_cpu_read, do_cpu_write, do_dontneed, do_huge,
	[UNFINISHED] = do_unfinished,
};

static void open_mirrors(void)
{
	char name[32];

	/* An open file mirrors the process that opened it. */
	for (size_t i = 0; i < ARRAY_SIZE(mirror); i++) {
		if (mirror[i] > 0)
			close(mirror[i]);
		snprintf(name, sizeof(name), "/dev/hmm_dmirror%zu", i);
		mirror[i] = open(name, O_RDWR | O_CLOEXEC);
		if (mirror[i] < 0)
			fail(&objects[0], "%s: %s", name, strerror(errno));
	}
}

static void serve(void)
{
	struct order order;
	char done = 0;

	while (read(to_peer[0], &order, sizeof(order)) == sizeof(order)) {
		orders[order.what](&objects[order.kind], order.x);
		if (write(from_peer[1], &done, 1) != 1)
			break;
	}
	_exit(0);
}

static void kill_peer(void)
{
	if (!peer)
		return;
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	peer = 0;
	close(to_peer[1]);
	close(from_peer[0]);
	if (shared->failed)
		_exit(1);
}

static void do_peer_fork(struct object *o, const u64 *x)
{
	(void)x;
	kill_peer();
	note(o, "a new peer");
	if (pipe(to_peer) || pipe(from_peer))
		fail(o, "pipe: %s", strerror(errno));
	for (int i = 0; i < NR_KINDS; i++)
		if (objects[i].own)
			memcpy(objects[i].own, objects[i].model, objects[i].pages * page);
	peer = fork();
	if (peer < 0)
		fail(o, "fork: %s", strerror(errno));
	if (!peer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		in_peer = true;
		close(to_peer[1]);
		close(from_peer[0]);
		for (int i = 0; i < NR_KINDS; i++)
			for (int d = 0; d < NR_DMA; d++)
				if (objects[i].map)
					close(objects[i].dma[d]);
		open_mirrors();
		serve();
	}
	close(to_peer[0]);
	close(from_peer[1]);
}

static void give(struct order *order)
{
	if (write(to_peer[1], order, sizeof(*order)) != sizeof(*order))
		fail(&objects[order->kind], "the peer is gone");
}

static void do_peer(struct object *o, const u64 *x)
{
	struct order order = { .kind = o->kind, .what = x[2] >> 20 & 15 };
	char done;

	if (!peer)
		do_peer_fork(o, x);
	if (order.what >= UNFINISHED)
		order.what %= 4;
	if (order.what == 5 && !(o->bit & ANONS))
		order.what = 0;
	memcpy(order.x, x, sizeof(order.x));
	give(&order);
	if (read(from_peer[0], &done, 1) != 1) {
		/* It has said why, or a signal ended it. */
		waitpid(peer, NULL, 0);
		fail(o, "the peer died");
	}
}

/* Killed when idle, or while its mirror writes. */
static void do_kill(struct object *o, const u64 *x)
{
	struct order order = { .kind = o->kind, .what = UNFINISHED };
	size_t first, n;

	if (!peer)
		return;
	memcpy(order.x, x, sizeof(order.x));
	pick(o, x, MAX_BUF, &first, &n);
	if (!(o->bit & FILES) || first + n > size_of(o)) {
		note(o, "the peer is killed");
		kill_peer();
		return;
	}
	note(o, "the peer is killed while it writes %zu pages from page %zu", n, first);
	give(&order);
	usleep(x[0] / MAX_PAGES % 2000);
	kill_peer();
	fill(buf, n, x[2]);
	some_written(o, "write of a killed peer", first, n);
}

/* Of so many operations on memory of one of the kinds, these are so many. */
static const struct operation {
	const char *name;
	void (*act)(struct object *o, const u64 *x);
	int kinds;
	int weight;
} operations[] = {
	{ "device read", do_device_read, ALL, 3600 },
	{ "device write", do_device_write, ALL, 2300 },
	{ "CPU read", do_cpu_read, ALL, 900 },
	{ "CPU write", do_cpu_write, ALL, 900 },
	{ "pread", do_pread, FILES, 300 },
	{ "pwrite", do_pwrite, FILES, 300 },
	{ "peer", do_peer, ALL, 500 },
	{ "DMA map", do_dma_map, ALL & ~IS(DEV_PUD), 250 },
	{ "DMA map", do_dma_map, IS(DEV_PUD), 10 },
	{ "DMA query", do_dma_query, ALL, 500 },
	{ "DMA unmap", do_dma_unmap, ALL, 60 },
	{ "edu DMA", do_dma, ALL, 2 },
	{ "RDMA", do_rdma, ALL, 60 },
	{ "leaves", do_leaves, ALL, 40 },
	{ "sync", do_sync, FILES, 40 },
	{ "punch", do_punch, FILES, 60 },
	{ "zero", do_zero, FILES, 30 },
	{ "collapse", do_collapse, FILES, 15 },
	{ "insert", do_insert, FILES, 20 },
	{ "truncate", do_truncate, FILES, 15 },
	{ "fallocate", do_fallocate, FILES, 15 },
	{ "renew", do_renew, FILES, 6 },
	{ "reflink", do_reflink, CLONES, 40 },
	{ "dedupe", do_dedupe, CLONES, 30 },
	{ "unshare", do_unshare, CLONES, 15 },
	{ "remap", do_remap, ALL, 15 },
	{ "mremap", do_mremap, ALL & ~DEVS, 15 },
	{ "unmap", do_unmap, ALL, 20 },
	{ "map", do_map, ALL, 30 },
	{ "mprotect", do_mprotect, ALL, 100 },
	{ "dontneed", do_dontneed, ALL, 60 },
	{ "huge", do_huge, ANONS, 30 },
	{ "fork", do_fork, ALL, 4 },
	{ "new peer", do_peer_fork, ALL, 4 },
	{ "kill", do_kill, ALL, 6 },
	{ "storm", do_storm, ALL, 12 },
	{ "check", do_check, ALL, 2 },
};

/* What operation @n is about. Memory that is not there leaves it to the next one. */
static struct object *object_of(u64 n)
{
	u64 pick = number(n, 0) % 100;
	int i;

	for (i = 0; i < NR_KINDS - 1 && pick >= (u64)places[i].weight; i++)
		pick -= places[i].weight;
	while (!objects[i].here)
		i = (i + 1) % NR_KINDS;
	return &objects[i];
}

/* Operation @n of this worker. */
static void operate(u64 n)
{
	struct object *o = object_of(n);
	int weights = 0, i;
	u64 x[4], pick;

	for (i = 0; i < 4; i++)
		x[i] = number(n, 2 + i);
	shared->at = n;
	if (corrupt >= 0 && n == (u64)corrupt) {
		do_corrupt(o, x);
		return;
	}
	for (i = 0; i < (int)ARRAY_SIZE(operations); i++)
		if (operations[i].kinds & o->bit)
			weights += operations[i].weight;
	pick = number(n, 1) % weights;
	for (i = 0;; i++) {
		if (!(operations[i].kinds & o->bit))
			continue;
		if (pick < (u64)operations[i].weight)
			break;
		pick -= operations[i].weight;
	}
	shared->what = i;
	operations[i].act(o, x);
	shared->counts.operations++;
	shared->counts.of_kind[o->kind]++;
}

static char *room(size_t size, int flags)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(2, "mmap");
	return p;
}

static void describe(struct object *o, int w)
{
	const char *from = places[o->kind].env ? getenv(places[o->kind].env) : NULL;

	o->name = places[o->kind].name;
	o->bit = IS(o->kind);
	o->pages = places[o->kind].pages;
	o->here = from || !places[o->kind].env;
	o->fd = -1;
	o->grain = 1;
	o->offset = 0;
	o->length = o->pages * page;
	if (o->bit & DEVS) {
		snprintf(o->path, sizeof(o->path), "%s", from ?: "");
		o->offset = w * o->length;
		if (o->kind == DEV_PMD)
			o->grain = pmd / page;
	} else if (from) {
		snprintf(o->path, sizeof(o->path), "%s/stress.%d.%s", from, w, o->name);
	}
}

/* Memory of the object as it is before operation 0, and its model. */
static void begin(struct object *o)
{
	size_t slice = 0;

	if (o->path[0] && !(o->bit & DEVS))
		unlink(o->path);
	if (o->path[0])
		o->fd = open(o->path, O_RDWR | (o->bit & DEVS ? 0 : O_CREAT), 0600);
	if (o->path[0] && o->fd < 0)
		fail(o, "%s: %s", o->path, strerror(errno));
	/* Far from where the kernel puts what it is free to put anywhere. */
	o->area = (char *)(0x100000000000UL + o->kind * 64 * GIB);
	if (o->kind == DEV_PUD) {
		/* All slices of the first GiB are in one leaf. */
		slice = o->offset;
		o->offset = 0;
		o->length = GIB;
		o->grain = o->pages;
	}
	o->vma = o->area;
	o->map = o->vma + slice;
	memset(o->model, 0, o->pages * page);
	memset(o->prot, WRITE, o->pages);
	if (o->bit & FILES) {
		shared->size[o->kind] = o->pages / 2;
		if (allocate(o, 0, 0, o->pages / 2 * page))
			fail(o, "fallocate: %s", strerror(errno));
	}
	if (o->kind == PRIVATE) {
		fill(o->model, o->pages, UNDER);
		if (pwrite(o->fd, o->model, o->length, 0) != (ssize_t)o->length)
			fail(o, "pwrite: %s", strerror(errno));
	}
	map_at(o, o->vma, 0, o->length, false);
	if (o->bit & DEVS)
		memset(o->map, 0, o->pages * page);
	for (int d = 0; d < NR_DMA; d++) {
		o->window[d] = false;
		o->dma[d] = open(dma_names[d], O_RDWR | O_CLOEXEC);
		if (o->dma[d] < 0)
			fail(o, "%s: %s", dma_names[d], strerror(errno));
	}
}

/*
 * A worker: operations @list, or, without one, all from 0 until it is told to stop or
 * @deadline.
 */
static __attribute__((noreturn)) void work(const u64 *list, size_t nr, time_t deadline)
{
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };
	pthread_t thread;
	int kinds = 0;
	u64 n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGBUS, &act, NULL);
	sigaction(SIGSEGV, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
	buf = room(MAX_BUF * page, MAP_PRIVATE);
	old = room(page, MAP_PRIVATE);
	storm.buf = room(16 * page, MAP_PRIVATE);
	open_mirrors();
	leaves = open("/dev/hmm_leaves", O_RDWR | O_CLOEXEC);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (leaves < 0 || pagemap < 0)
		fail(&objects[0], "/dev/hmm_leaves or pagemap: %s", strerror(errno));
	for (int i = 0; i < NR_KINDS; i++)
		describe(&objects[i], worker);
	for (size_t i = 0; i < nr; i++)
		kinds |= object_of(list[i])->bit;
	if (kinds & CLONES)
		kinds |= CLONES;
	for (int i = 0; i < NR_KINDS; i++)
		if (objects[i].here && (!list || kinds & IS(i)))
			begin(&objects[i]);
	sem_init(&storm.begin, 0, 0);
	if (pthread_create(&thread, NULL, storms, NULL))
		fail(&objects[0], "no thread");

	for (n = 0; list ? n < nr : !all->stop; n++) {
		if (!list && n % 16 == 0 && time(NULL) >= deadline)
			break;
		operate(list ? list[n] : n);
	}
	kill_peer();
	wait_for_storm();
	shared->ended = true;
	for (int i = 0; i < NR_KINDS; i++) {
		if (!objects[i].map)
			continue;
		if (!brief)
			check_whole(&objects[i]);
		for (int d = 0; d < NR_DMA; d++)
			count_invalidations(&objects[i], d);
		if (objects[i].bit & FILES && fsync(objects[i].fd))
			fail(&objects[i], "fsync: %s", strerror(errno));
	}
	shared->done = true;
	_exit(0);
}

/* What all workers share with the parent, one after the other. */
static char *pool;
static size_t pool_size;	/* of one */

static void use_worker(int w)
{
	size_t at = (sizeof(struct shared) + page - 1) / page * page;
	char *mine = pool + w * pool_size;

	worker = w;
	shared = (struct shared *)mine;
	for (int i = 0; i < NR_KINDS; i++) {
		struct object *o = &objects[i];

		o->kind = i;
		o->model = mine + at;
		at += places[i].pages * page;
		o->own = NULL;
		if (IS(i) & PRIVATES) {
			o->own = mine + at;
			at += places[i].pages * page;
		}
	}
	pool_size = at;
}

static pid_t start(int w, const u64 *list, size_t nr, time_t deadline)
{
	pid_t pid;

	use_worker(w);
	memset(shared, 0, sizeof(*shared));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		err(2, "fork");
	if (!pid)
		work(list, nr, deadline);
	return pid;
}

#define PATIENCE	180	/* seconds for one operation, on a debug kernel, too */

/* Wait for workers; when one fails, the others stop. Returns the one that failed, or -1. */
static int wait_for(pid_t *pids, int from, int to)
{
	time_t since[MAX_WORKERS];
	u64 seen[MAX_WORKERS];
	int left = to - from, failed = -1, status;

	for (int w = from; w < to; w++) {
		since[w] = time(NULL);
		seen[w] = 0;
	}
	while (left) {
		usleep(5000);
		for (int w = from; w < to; w++) {
			struct shared *s = (struct shared *)(pool + w * pool_size);
			bool ended = pids[w] && waitpid(pids[w], &status, WNOHANG) == pids[w];

			if (!pids[w])
				continue;
			if (seen[w] != s->counts.operations + s->counts.bytes) {
				seen[w] = s->counts.operations + s->counts.bytes;
				since[w] = time(NULL);
			}
			if (!ended && time(NULL) - since[w] < PATIENCE)
				continue;
			if (!s->failed && !(ended && s->done)) {
				snprintf(s->failure, sizeof(s->failure), ended ?
					 "%s: it died of signal %d" : "%s: it does not end",
					 operations[s->what].name, WTERMSIG(status));
				s->failed = true;
			}
			if (!ended) {
				kill(pids[w], SIGKILL);
				waitpid(pids[w], NULL, 0);
			}
			pids[w] = 0;
			left--;
			if (s->failed && failed < 0)
				failed = w;
			if (s->failed)
				all->stop = true;
		}
	}
	all->stop = false;
	return failed;
}

static bool fails(int w, const u64 *list, size_t nr)
{
	pid_t pids[MAX_WORKERS];

	pids[w] = start(w, list, nr, 0);
	return wait_for(pids, w, w + 1) >= 0;
}

static void print_list(const u64 *list, size_t nr)
{
	for (size_t i = 0, j; i < nr; i = j) {
		for (j = i + 1; j < nr && list[j] == list[j - 1] + 1; j++)
			;
		printf("%s%llu", i ? "," : "", (unsigned long long)list[i]);
		if (j - i > 1)
			printf("-%llu", (unsigned long long)list[j - 1]);
	}
}

static void print_command(int w, const u64 *list, size_t nr)
{
	printf("make stress SEED=%llu WORKER=%d OPS=", (unsigned long long)seed, w);
	print_list(list, nr);
	if (corrupt >= 0)
		printf(" CORRUPT=%ld", corrupt);
	printf("\n");
	fflush(stdout);
}

/* The delta debugging of Zeller: leave out one of @parts parts after the other. */
static size_t shrink(int w, u64 *list, size_t nr, time_t deadline)
{
	u64 *less = malloc(nr * sizeof(*less));
	size_t parts = 2;

	while (less && nr > 1) {
		size_t part = (nr + parts - 1) / parts, at;
		bool smaller = false;

		for (at = 0; at < nr && time(NULL) < deadline; at += part) {
			size_t end = at + part < nr ? at + part : nr;
			size_t rest = nr - (end - at);

			memcpy(less, list, at * sizeof(*list));
			memcpy(less + at, list + end, (nr - end) * sizeof(*list));
			if (!rest || !fails(w, less, rest))
				continue;
			memcpy(list, less, rest * sizeof(*list));
			nr = rest;
			smaller = true;
			/* What follows has moved to where this part was. */
			at -= part;
		}
		if (time(NULL) >= deadline)
			break;
		if (smaller)
			parts = parts > 3 ? parts - 1 : 2;
		else if (part == 1)
			break;
		else
			parts = parts * 2 < nr ? parts * 2 : nr;
	}
	free(less);
	return nr;
}

/* Those of @list that are about the same memory as the last one. */
static size_t same_memory(const u64 *list, size_t nr, u64 *same)
{
	int bit = object_of(list[nr - 1])->bit;
	size_t n = 0;

	if (bit & CLONES)
		bit = CLONES;
	for (size_t i = 0; i < nr; i++)
		if (object_of(list[i])->bit & bit)
			same[n++] = list[i];
	return n;
}

/* Worker @w failed in its operation @at: which of them does it take? */
static void explain(int w, u64 at, const u64 *given, size_t nr_given, int seconds)
{
	time_t deadline = time(NULL) + seconds;
	size_t nr = given ? nr_given : at + 1, length, less;
	u64 *list = malloc(nr * sizeof(*list)), *same = malloc(nr * sizeof(*list)), *tail;
	bool again = false;

	if (!list || !same)
		err(2, "malloc");
	for (size_t i = 0; i < nr; i++)
		list[i] = given ? given[i] : i;
	use_worker(w);
	for (int i = 0; i < NR_KINDS; i++)
		describe(&objects[i], w);
	printf("# replay: ");
	print_command(w, list, nr);
	verbose = false;
	brief = !shared->ended;
	/* The last ones are mostly enough, and much faster than all of them. */
	for (length = 16; time(NULL) < deadline; length *= 4) {
		if (length > nr)
			length = nr;
		tail = list + (nr - length);
		less = same_memory(tail, length, same);
		again = fails(w, same, less);
		if (again) {
			tail = same;
			length = less;
			break;
		}
		again = fails(w, tail, length);
		if (again || length == nr)
			break;
	}
	if (!again) {
		printf("# within %d s, the worker alone did not fail again\n", seconds);
		goto out;
	}
	length = shrink(w, tail, length, deadline);
	printf("# %zu of %zu operations are enough: ", length, nr);
	print_command(w, tail, length);
	/* A last time, for the record. */
	verbose = length <= 100;
	brief = false;
	if (fails(w, tail, length))
		printf("# %s\n", shared->failure);
	else
		printf("# but not each time\n");
out:
	free(list);
	free(same);
}

/* What is on media must be what the models say, after the workers have gone. */
static u64 verify(struct object *o, int w)
{
	size_t size, length;
	char *p;
	int fd;

	use_worker(w);
	describe(o, w);
	if (!o->here || o->bit & PRIVATES)
		return 0;
	size = size_of(o) * page;
	fd = open(o->path, O_RDWR);
	if (fd < 0) {
		printf("# %s: %s\n", o->path, strerror(errno));
		return ~0ULL;
	}
	length = o->kind == DEV_PUD ? GIB : size;
	if (!length) {
		close(fd);
		return 0;
	}
	/* The file's own size must be the model's, too. */
	if (o->bit & FILES && lseek(fd, 0, SEEK_END) != (off_t)size) {
		printf("# %s: %zu bytes must be there\n", o->path, size);
		close(fd);
		return ~0ULL;
	}
	p = mmap((char *)0x100000000000UL, length, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE,
		 fd, o->kind == DEV_PUD ? 0 : o->offset);
	close(fd);
	if (p == MAP_FAILED) {
		printf("# %s: mmap: %s\n", o->path, strerror(errno));
		return ~0ULL;
	}
	for (size_t i = 0; i < size; i++) {
		char got = p[(o->kind == DEV_PUD ? o->offset : 0) + i];

		if (got == o->model[i])
			continue;
		printf("# %s, worker %d: byte %#zx is %#x, must be %#x\n", o->path, w, i,
		       (unsigned char)got, (unsigned char)o->model[i]);
		size = ~0ULL;
		break;
	}
	munmap(p, length);
	return size;
}

static void add(struct counts *total, const struct counts *c)
{
	const u64 *from = (const u64 *)c;
	u64 *to = (u64 *)total;

	for (size_t i = 0; i < sizeof(*c) / sizeof(u64); i++)
		to[i] += from[i];
}

static void print_counts(const struct counts *c)
{
	printf("# %llu operations, %llu refused as they must be; %llu range faults, ",
	       (unsigned long long)c->operations, (unsigned long long)c->refused,
	       (unsigned long long)c->faults);
	printf("%llu accesses of mirrors, %llu DMA transfers, %llu RDMA transfers, ",
	       (unsigned long long)c->device, (unsigned long long)c->dma,
	       (unsigned long long)c->rdma);
	printf("%llu invalidations; %llu bytes compared\n",
	       (unsigned long long)c->invalidations, (unsigned long long)c->bytes);
	fflush(stdout);
}

/* A list as in 0-99,105: how many it has, and @list is them. */
static size_t parse(const char *text, u64 **list)
{
	size_t nr = 0, room = 0;
	u64 first, last;
	char *end;

	*list = NULL;
	do {
		first = last = strtoull(text, &end, 10);
		if (end == text || *text == '-')
			return 0;
		if (*end == '-') {
			text = end + 1;
			last = strtoull(text, &end, 10);
			if (end == text || last < first)
				return 0;
		}
		if (last - first > 100000000)
			return 0;
		for (; first <= last; first++) {
			if (nr == room) {
				room = room ? room * 2 : 1024;
				*list = realloc(*list, room * sizeof(**list));
				if (!*list)
					err(2, "realloc");
			}
			(*list)[nr++] = first;
		}
		text = end + 1;
	} while (*end == ',');
	return *end ? 0 : nr;
}

static bool numeric(const char *text, u64 max, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *value <= max;
}

/* What the options say. */
static struct {
	time_t end;
	u64 seconds, round, workers;
	int from, to;		/* of the workers, these run */
	const char *command;
	u64 *list;		/* NULL: all operations */
	size_t nr;
} run = { .seconds = 60, .round = 60, .workers = 4 };

static struct counts total;

/* Returns the worker that failed, or -1. */
static int run_round(void)
{
	time_t until = time(NULL) + run.round;
	pid_t pids[MAX_WORKERS] = {};
	long byte = corrupt;
	int failed, w;

	if (until > run.end)
		until = run.end;
	printf("# seed %llu, workers %d to %d\n", (unsigned long long)seed, run.from,
	       run.to - 1);
	for (w = run.from; w < run.to; w++) {
		pids[w] = start(w, run.list, run.nr, until);
		corrupt = -1;	/* one byte will do */
	}
	corrupt = byte;
	failed = wait_for(pids, run.from, run.to);
	for (w = run.from; w < run.to; w++) {
		use_worker(w);
		add(&total, &shared->counts);
	}
	return failed;
}

/* Take the memory away and bring it back: returns how many bytes are as they were, or 0. */
static u64 renew(void)
{
	u64 kept = 0;

	fflush(stdout);
	if (system(run.command)) {
		printf("# %s failed\n", run.command);
		return 0;
	}
	for (int w = run.from; w < run.to; w++) {
		for (int i = 0; i < NR_KINDS; i++) {
			u64 n = verify(&objects[i], w);

			if (n == ~0ULL)
				return 0;
			kept += n;
		}
	}
	total.bytes += kept;
	return kept;
}

static void print_results(int failed)
{
	if (failed >= 0)
		use_worker(failed);
	print_counts(&total);
	for (int i = 0; i < NR_KINDS; i++) {
		struct object *o = &objects[i];

		describe(o, 0);
		if (failed >= 0 && (int)shared->failed_kind == i)
			result(false, "%s (%s): make stress SEED=%llu WORKER=%d OPS=0-%llu",
			       shared->failure, shared->ended ? "at the end" :
			       operations[shared->what].name,
			       (unsigned long long)seed, failed,
			       (unsigned long long)shared->at);
		else if (!o->here)
			result(true, "%s # SKIP %s is not set", o->name, places[i].env);
		else if (!run.list || total.of_kind[i])
			result(total.of_kind[i] || failed >= 0, "%s: %llu operations", o->name,
			       (unsigned long long)total.of_kind[i]);
	}
}

static int bad_usage(void)
{
	fputs("usage: stress [-t seconds] [-r seconds] [-s seed] [-p workers] [-x command]\n"
	      "              [-w worker] [-o operations] [-c operation] [-l seconds]\n"
	      "operations are like 0-99,105; there are 1 to 16 workers, numbered from 0\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	u64 number, looking = 120, times = 0;
	int opt, failed, one = -1;
	bool kept = true;

	page = sysconf(_SC_PAGESIZE);
	pmd = 512 * page;
	while ((opt = getopt(argc, argv, "t:r:s:p:x:w:o:c:l:")) != -1) {
		if (opt == 'x') {
			run.command = optarg;
			continue;
		}
		if (opt == 'o') {
			run.nr = parse(optarg, &run.list);
			if (!run.nr)
				return bad_usage();
			continue;
		}
		if (opt == '?' || !numeric(optarg, opt == 's' ? ~0ULL : 1000000000, &number))
			return bad_usage();
		if (opt == 't')
			run.seconds = number;
		else if (opt == 'r')
			run.round = number;
		else if (opt == 's')
			seed = number;
		else if (opt == 'p')
			run.workers = number;
		else if (opt == 'w')
			one = number;
		else if (opt == 'c')
			corrupt = number;
		else
			looking = number;
	}
	if (optind != argc || !run.seconds || !run.round || !run.workers || run.workers > 16 ||
	    one >= 16 || (run.list && one < 0))
		return bad_usage();
	run.from = one < 0 ? 0 : one;
	run.to = one < 0 ? (int)run.workers : one + 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	use_worker(0);		/* only to know how much one takes */
	all = (void *)room(page, MAP_SHARED);
	pool = room(run.to * pool_size, MAP_SHARED);
	run.end = time(NULL) + run.seconds;
	verbose = run.nr && run.nr <= 1000;

	for (;; seed++) {
		failed = run_round();
		if (failed >= 0 || run.list)
			break;
		if (run.command) {
			kept = renew();
			times++;
		}
		if (!kept || time(NULL) >= run.end)
			break;
	}

	print_results(failed);
	if (times)
		result(kept, "taken away and brought back: %llu times",
		       (unsigned long long)times);
	if (failed >= 0)
		explain(failed, shared->at, run.list, run.nr, looking);
	return failures > 0;
}
