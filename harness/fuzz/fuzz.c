// SPDX-License-Identifier: GPL-2.0
/*
 * fuzz [-n calls] [-s seed] [-p workers] [-k calls] [-r round] [-w worker] [-l ms]
 *      [-d request:errno] [-c]
 *
 * Bad input for the test drivers of the series: every ioctl() of /dev/hmm_dmirror*,
 * /dev/hmm_dma_edu, /dev/hmm_dma_direct and /dev/hmm_leaves. A call starts as a valid
 * request, of which fields are then replaced by boundary values, or bits flipped. It must
 * return what the driver's header documents for this request, within a time limit; the
 * memory of a process that never opened a device, and a file that is only mapped for
 * reading, must keep every byte. Kernels that crash or warn are harness/guest's to notice.
 *
 * Each worker (-p, default 4) is a process that opens all devices, and a second one, its
 * peer, forked from it: the peer uses the inherited files, which mirror the worker, and
 * sends files that mirror itself to the worker (SCM_RIGHTS). In turns of 256 calls the
 * worker is alone, has its peer and a timer beside it, or also a thread that unmaps,
 * protects and truncates the memory, and closes and reuses file descriptors. Any process
 * can be killed at any time; then its worker starts again. The last worker is nobody
 * (uid 65534), for whom the nodes are opened while the fuzzer runs.
 *
 * What call number N of a process asks for follows from the seed, the round, the worker
 * and N alone. A round is over when each worker has made -k calls (default 25000); rounds
 * follow on each other until there are -n calls in all.
 *
 *   -r, -w  only this round, only this worker: repeats a failure
 *   -l      time limit of a call in milliseconds (default 60000)
 *   -d      this errno is not documented for this request: the test of the test
 *   -c      a byte of the process that never opened a device changes: likewise
 *
 * Worker 16 of a message is the process that makes each request as it is meant, before
 * the first round and every 16th.
 *
 * Memory comes from HMM_DAX_* as for the selftest hmm_dax. Prints TAP. Exit status 1:
 * something failed; 2: bad usage.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib/test_hmm_dma_uapi.h"
#include "lib/test_hmm_leaves_uapi.h"
#include "lib/test_hmm_uapi.h"

#include "../common/mix.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE		4096UL
#define MIB		(1UL << 20)
#define GIB		(1UL << 30)
#define MAX_WORKERS	16
#define NOBODY		65534
#define ERRNOS		134
#define TURN		256	/* calls */

typedef uint64_t u64;

/* ---- what there is to ask for, and what may come back ---- */

enum class { DMIRROR, DMA, LEAVES };

static const struct {
	const char *name;
	enum class class;
} nodes[] = {
	{ "/dev/hmm_dmirror0", DMIRROR },
	{ "/dev/hmm_dmirror1", DMIRROR },
	{ "/dev/hmm_dmirror2", DMIRROR },	/* these two are device-coherent */
	{ "/dev/hmm_dmirror3", DMIRROR },
	{ "/dev/hmm_dma_edu", DMA },
	{ "/dev/hmm_dma_direct", DMA },
	{ "/dev/hmm_leaves", LEAVES },
};

enum { EDU_NODE = 4, DIRECT_NODE, LEAVES_NODE, NR_NODES };

/* What a request can do with the memory at its address. */
enum { READS = 1, WRITES = 2, FAULTS = 4 };

/*
 * Errors of many requests.
 *
 * @ANY_DMA: of those that every request in lib/test_hmm_dma_uapi.h can return, ENODEV is left
 *	out as nobody unbinds the device, and ENOTTY as these requests exist
 * @MAP_DMA: HMM_DMA_MAP, and what faults as it does
 * @ANY_DMIRROR: lib/test_hmm_uapi.h documents no errors: these, and those below, are what the
 *	driver returns by its source, and by the kernel-doc of the functions that it calls
 */
enum { ANY_DMA = 1, MAP_DMA = 2, ANY_DMIRROR = 4 };

static const int common[][8] = {
	{ ANY_DMA, EFAULT, ESRCH, EINTR },
	{ MAP_DMA, EINVAL, EPERM, EBUSY, ENOMEM, EREMOTEIO },
	{ ANY_DMIRROR, EFAULT, EINVAL },
};

#define COMMAND(r, class, weight, access, common, ...) \
	{ #r, r, class, weight, access, common, { __VA_ARGS__ } }

/*
 * The errors that a request may return. A process that is killed never sees the EINTR of
 * lib/test_hmm_leaves_uapi.h.
 */
static const struct command {
	const char *name;
	unsigned int request;
	enum class class;
	int weight;		/* what takes long is rare */
	int access;
	int common;
	int errnos[8];
} commands[] = {
	COMMAND(HMM_DMIRROR_READ, DMIRROR, 6, READS | FAULTS, ANY_DMIRROR, ENOMEM, EBUSY),
	COMMAND(HMM_DMIRROR_WRITE, DMIRROR, 6, WRITES | FAULTS,
		ANY_DMIRROR, ENOMEM, EBUSY, EPERM),
	COMMAND(HMM_DMIRROR_MIGRATE_TO_DEV, DMIRROR, 3, READS,
		ANY_DMIRROR, ENOMEM, ENOENT),
	COMMAND(HMM_DMIRROR_MIGRATE_TO_SYS, DMIRROR, 4, READS, ANY_DMIRROR, ENOMEM),
	/* EOVERFLOW: it looks at 32 pages at once, and these reach beyond the last address. */
	COMMAND(HMM_DMIRROR_SNAPSHOT, DMIRROR, 8, 0, ANY_DMIRROR, ENOMEM, EBUSY, EOVERFLOW),
	COMMAND(HMM_DMIRROR_EXCLUSIVE, DMIRROR, 3, READS | FAULTS,
		ANY_DMIRROR, ENOMEM, EOPNOTSUPP, ENOENT),
	COMMAND(HMM_DMIRROR_CHECK_EXCLUSIVE, DMIRROR, 24, 0, ANY_DMIRROR, EPERM),
	COMMAND(HMM_DMIRROR_RELEASE, DMIRROR, 8, 0, ANY_DMIRROR, 0),
	COMMAND(HMM_DMIRROR_FLAGS, DMIRROR, 60, 0, ANY_DMIRROR, 0),
	COMMAND(HMM_DMIRROR_READ_UNLOCKED, DMIRROR, 5, READS | FAULTS,
		ANY_DMIRROR, ENOMEM, EBUSY),
	{ "HMM_DMIRROR unknown", 0, DMIRROR, 24, 0, ANY_DMIRROR, { 0 } },

	COMMAND(HMM_DMA_MIRROR, DMA, 12, 0, ANY_DMA, EINVAL, ENOMEM, EOPNOTSUPP, ENOSPC),
	COMMAND(HMM_DMA_MAP, DMA, 24, READS | FAULTS, ANY_DMA | MAP_DMA, 0),
	COMMAND(HMM_DMA_UNMAP, DMA, 30, 0, ANY_DMA, EINVAL),
	COMMAND(HMM_DMA_READ, DMA, 16, READS | FAULTS,
		ANY_DMA | MAP_DMA, EOPNOTSUPP, ETIMEDOUT),
	COMMAND(HMM_DMA_WRITE, DMA, 16, WRITES | FAULTS,
		ANY_DMA | MAP_DMA, EOPNOTSUPP, ETIMEDOUT),
	COMMAND(HMM_DMA_RAW_READ, DMA, 10, 0, ANY_DMA, EINVAL, EOPNOTSUPP, ETIMEDOUT),
	COMMAND(HMM_DMA_RAW_WRITE, DMA, 10, 0, ANY_DMA, EINVAL, EOPNOTSUPP, ETIMEDOUT),
	COMMAND(HMM_DMA_QUERY, DMA, 60, 0, ANY_DMA, EINVAL),
	COMMAND(HMM_DMA_IOVA, DMA, 60, 0, ANY_DMA, 0),
	COMMAND(HMM_DMA_STATS, DMA, 60, 0, ANY_DMA, 0),
	{ "HMM_DMA unknown", 0, DMA, 30, 0, ANY_DMA, { ENOTTY } },

	COMMAND(HMM_LEAVES_CHECK, LEAVES, 3, READS,
		0, EFAULT, EINVAL, ENOMEM, EAGAIN, EUCLEAN),
	COMMAND(HMM_LEAVES_RACE, LEAVES, 1, READS,
		0, EFAULT, EINVAL, ENOMEM, EPERM, EBUSY, EUCLEAN),
	{ "HMM_LEAVES unknown", 0, LEAVES, 20, 0, 0, { ENOTTY } },
};

#define NR_COMMANDS	ARRAY_SIZE(commands)

static bool documented[NR_COMMANDS][ERRNOS];
static int weights;

union args {
	struct hmm_dmirror_cmd dmirror;
	struct test_hmm_dma_window window;
	struct test_hmm_dma_xfer xfer;
	struct test_hmm_dma_query query;
	struct hmm_leaves_check check;
	struct hmm_leaves_race race;
	u64 words[64];
};

/* ---- memory ---- */

/* Each is at an address of its own, the same in all processes. */
enum place {
	ANON, THP, SHMEM, HUGETLB, ZERO, EXT4, XFS, PRIVATE, READONLY, DEV_PTE, DEV_PMD, DEV_PUD,
	MIXED, NONE, HOLE, NR_PLACES
};

#define PLACE_AT(p)	(0x100000000000UL + (u64)(p) * 2 * GIB)
#define ABSENT_AT	0x330000000000UL	/* no flipped bit leads there */
#define BUFFER_AT	0x0c0000000000UL
#define BUFFER		(4 * MIB)
#define ARGS_AT		0x0a0000000000UL	/* two pages; nothing behind them */
#define ARGS_RO_AT	0x0a0080000000UL	/* the same pages, read-only */

static const struct {
	const char *env;
	size_t size;
} places[NR_PLACES] = {
	[ANON]	   = { NULL, 2 * MIB },
	[THP]	   = { NULL, 4 * MIB },
	[SHMEM]	   = { NULL, 2 * MIB },
	[HUGETLB]  = { NULL, 2 * MIB },
	[ZERO]	   = { NULL, 64 * PAGE },
	[EXT4]	   = { "HMM_DAX_EXT4", 4 * MIB },
	[XFS]	   = { "HMM_DAX_XFS", 4 * MIB },
	[PRIVATE]  = { "HMM_DAX_EXT4", 2 * MIB },
	[READONLY] = { "HMM_DAX_EXT4", 2 * MIB },
	[DEV_PTE]  = { "HMM_DAX_DEV_PTE", 2 * MIB },
	[DEV_PMD]  = { "HMM_DAX_DEV_PMD", 4 * MIB },
	[DEV_PUD]  = { "HMM_DAX_DEV_PUD", GIB },
	[MIXED]	   = { NULL, 16 * PAGE },
	[NONE]	   = { NULL, 16 * PAGE },
	[HOLE]	   = { NULL, 2 * MIB },
};

static int place_fd[NR_PLACES];

/* ---- what the processes share ---- */

struct window {
	u64 addr, npages;
};

/* A process that fuzzes: a worker has an even number, its peer the next one. */
struct slot {
	volatile pid_t pid;
	volatile bool killed;		/* by us */
	volatile bool done;
	volatile bool quiet;		/* of a worker: its peer has to wait */
	volatile bool busy;		/* of a peer: in a call */
	volatile u64 n;			/* number of the call */
	volatile u64 since;		/* us, 0: in no call */
	volatile int command;
	struct window window[2];	/* of its edu and direct */
	u64 counts[NR_COMMANDS][ERRNOS];
	u64 longest[NR_COMMANDS];	/* us */
	u64 spent[NR_COMMANDS];
};

static struct {
	bool failing;			/* the first one fills in what follows */
	volatile bool failed;
	char failure[600];
	char tap[20][160];		/* results of nobody */
	int nr_tap;
	struct slot slots[2 * MAX_WORKERS + 2];
} *shared;

static u64 seed;
static unsigned int fuzz_round;
static int self;			/* index of this process's slot */
static struct slot *slot;
static volatile bool storm, changing;
static volatile bool alone;		/* nobody else changes this process's memory */

/* The devices as this process has them. */
enum how { OWN, GIVEN, SHAKY, NR_HOW };

static int fds[NR_HOW][NR_NODES];

static u64 state;

static u64 next(void)
{
	state += 0x9e3779b97f4a7c15ULL;
	return mix(state);
}

/* A number below @n. */
static u64 below(u64 n)
{
	return n ? next() % n : 0;
}

static bool one_in(u64 n)
{
	return !below(n);
}

static u64 now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ULL + t.tv_nsec / 1000 + 1;
}

static __attribute__((format(printf, 1, 2)))
void failure(const char *format, ...)
{
	va_list args;

	if (__atomic_exchange_n(&shared->failing, true, __ATOMIC_SEQ_CST))
		return;
	va_start(args, format);
	vsnprintf(shared->failure, sizeof(shared->failure), format, args);
	va_end(args);
	__atomic_store_n(&shared->failed, true, __ATOMIC_SEQ_CST);
}

static __attribute__((format(printf, 1, 2), noreturn))
void give_up(const char *format, ...)
{
	char text[300];
	va_list args;
	int error = errno;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	failure("%s: %s", text, strerror(error));
	_exit(1);
}

/* What is in a file that nobody may write, and in the memory that nobody has. */
static void pattern(void *to, u64 tag)
{
	u64 *p = to;

	for (size_t i = 0; i < PAGE / sizeof(*p); i++)
		p[i] = mix(tag * PAGE + i);
}

static void map_place(enum place p)
{
	static const char nothing[] = "no such memory";
	int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED, fd = place_fd[p];
	void *at = (void *)PLACE_AT(p), *got = at;
	size_t size = places[p].size;

	switch (p) {
	case ANON:
	case THP:
	case NONE:
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
		break;
	case HUGETLB:
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
		break;
	case PRIVATE:
		flags = MAP_PRIVATE;
		break;
	case READONLY:
		prot = PROT_READ;
		break;
	case HOLE:
		return;
	default:
		break;
	}
	if (p == NONE)
		prot = PROT_NONE;
	if (flags & MAP_ANONYMOUS)
		fd = -1;
	else if (fd < 0)
		return;
	got = mmap(at, size, prot, flags | MAP_FIXED, fd, 0);
	/* There are few pages for hugetlb, and not for everybody. */
	if (got == MAP_FAILED && p != HUGETLB && p != MIXED)
		give_up("mmap of place %d, %s", p, places[p].env ?: nothing);
	if (p == THP)
		madvise(at, size, MADV_HUGEPAGE);
	if (p == ANON)
		madvise(at, size, MADV_NOHUGEPAGE);
}

static int file_at(enum place p, const char *name, int flags)
{
	const char *dir = getenv(places[p].env);
	char path[256];
	int fd;

	if (!dir)
		return -1;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		give_up("%s", path);
	return fd;
}

/* Two pages, which can be seen at two addresses. */
static void make_args(void)
{
	int memfd = memfd_create("args", MFD_CLOEXEC);

	if (memfd < 0 || ftruncate(memfd, 2 * PAGE) ||
	    mmap((void *)ARGS_AT, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 memfd, 0) == MAP_FAILED ||
	    mmap((void *)ARGS_RO_AT, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, memfd,
		 0) == MAP_FAILED)
		give_up("mmap of the arguments");
	close(memfd);
}

/* Before the devices are opened, and as root. */
static void make_places(void)
{
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	char name[40];

	snprintf(name, sizeof(name), "fuzz-%d", self);
	for (int p = 0; p < NR_PLACES; p++) {
		place_fd[p] = -1;
		switch (p) {
		case SHMEM:
			place_fd[p] = memfd_create("fuzz", MFD_CLOEXEC);
			break;
		case EXT4:
		case XFS:
			place_fd[p] = file_at(p, name, O_RDWR | O_CREAT);
			break;
		case PRIVATE:
		case READONLY:
			place_fd[p] = file_at(p, "fuzz-readonly", O_RDONLY);
			break;
		case DEV_PTE:
		case DEV_PMD:
		case DEV_PUD:
			if (!getenv(places[p].env))
				break;
			place_fd[p] = open(getenv(places[p].env), O_RDWR | O_CLOEXEC);
			if (place_fd[p] < 0)
				give_up("%s", getenv(places[p].env));
			break;
		case ZERO:
			place_fd[p] = zero;
			break;
		}
		if (place_fd[p] >= 0 && (p == SHMEM || p == EXT4 || p == XFS) &&
		    ftruncate(place_fd[p], places[p].size))
			give_up("ftruncate");
		if (p != MIXED)
			map_place(p);
	}

	make_args();
	if (mmap((void *)BUFFER_AT, BUFFER, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		give_up("mmap of a buffer");
}

/* ---- arguments ---- */

/* No user memory, or none that anybody has. */
static const u64 edges[] = {
	0, 1, PAGE - 1, PAGE, PAGE + 1, ~0ULL, ~0ULL - PAGE + 1, ~0ULL - PAGE, 1ULL << 32,
	1ULL << 47, (1ULL << 47) - PAGE, (1ULL << 47) - 1, 1ULL << 56, (1ULL << 56) - PAGE,
	(1ULL << 56) - 2 * PAGE, 1ULL << 63, (1ULL << 63) - PAGE, 0xffff888000000000ULL,
	0xff11000000000000ULL, 0xffffffff81000000ULL, 0xffffffff82000000ULL,
	0xffffc90000000000ULL, 0xffa0000000000000ULL, 0xffffffffff600000ULL,
	0x0000800000000000ULL, 0x8000000000000000ULL, 0x00ff000000000000ULL,
};

static const u64 counts[] = {
	0, 1, 2, 511, 512, 513, 1 << 20, (1 << 20) + 1, 1ULL << 27, (1ULL << 27) + 1,
	1ULL << 31, 1ULL << 32, (1ULL << 32) + 1, 1ULL << 35, 1ULL << 44, 1ULL << 51,
	(1ULL << 51) + 1, 1ULL << 52, (1ULL << 52) + 1, (1ULL << 52) - 1, 1ULL << 63, ~0ULL,
	~0ULL >> 12,
};

#define PICK(array)	((array)[below(ARRAY_SIZE(array))])

struct call {
	int command;
	int node;
	enum how how;
	int fd;
	unsigned int request;
	void *arg;
	bool arg_bad;		/* cannot be read */
	bool arg_read_only;
	bool slow;		/* may take the device's time, or a second */
	u64 addr, size;		/* the range, in bytes */
	enum place place;	/* NR_PLACES: not as a whole in one of them */
	union args args;
};

static u64 wild_address(u64 from)
{
	switch (below(6)) {
	case 0:
		return PICK(edges);
	case 1:
		return from ^ (1ULL << below(64));
	case 2:
		return from + 1;
	case 3:
		return from - PAGE;
	case 4:
		return PLACE_AT(below(NR_PLACES)) + places[below(NR_PLACES)].size;
	default:
		return next();
	}
}

/* Where a driver may want to read or write @size bytes of the caller's. */
static u64 wild_pointer(u64 size)
{
	switch (below(6)) {
	case 0:
		return PICK(edges);
	case 1:
		return PLACE_AT(NONE);
	case 2:
		return BUFFER_AT + BUFFER - below(size + 1);
	case 3:
		return ARGS_RO_AT;
	case 4:
		return PLACE_AT(below(NR_PLACES));
	default:
		return next();
	}
}

static struct window *window_of(struct call *c)
{
	int owner = self;

	if (c->how == GIVEN)
		owner ^= 1;
	return &shared->slots[owner].window[c->node != EDU_NODE];
}

/* A part of some place, or of the file's window. */
static void valid_range(struct call *c, bool window)
{
	struct window *w = window_of(c);
	u64 most, first;

	c->place = below(NR_PLACES);
	c->addr = PLACE_AT(c->place);
	most = places[c->place].size / PAGE;
	if (window && w->npages && !one_in(16)) {
		c->addr = w->addr;
		most = w->npages;
		c->place = (c->addr - PLACE_AT(0)) / (2 * GIB);
	}
	first = below(most);
	if (one_in(2))
		first &= ~15ULL;
	c->addr += first * PAGE;
	most -= first;
	c->size = (1 + below(one_in(64) ? 512 : 4)) * PAGE;
	if (c->size > most * PAGE)
		c->size = most * PAGE;
}

static bool is_xfer(unsigned int request)
{
	return request == HMM_DMA_READ || request == HMM_DMA_WRITE ||
	       request == HMM_DMA_RAW_READ || request == HMM_DMA_RAW_WRITE;
}

static void valid_args(struct call *c)
{
	const struct command *cmd = &commands[c->command];
	union args *a = &c->args;

	memset(a, 0, sizeof(*a));
	valid_range(c, cmd->class == DMA && cmd->request != HMM_DMA_MIRROR);
	switch (cmd->class) {
	case DMIRROR:
		a->dmirror.addr = c->addr;
		a->dmirror.npages = c->size / PAGE;
		a->dmirror.ptr = BUFFER_AT;
		return;
	case LEAVES:
		if (cmd->request == HMM_LEAVES_RACE) {
			a->race.addr = c->addr;
			a->race.npages = c->size / PAGE;
			a->race.seed = next();
			a->race.count = 1 + below(4);
			a->race.flags = below(8) * HMM_LEAVES_NO_RETRY;
		} else {
			a->check.addr = c->addr;
			a->check.npages = c->size / PAGE;
			a->check.seed = next();
			a->check.count = below(3);
			a->check.flags = below(16) | below(2) * HMM_LEAVES_LIST;
		}
		return;
	case DMA:
		break;
	}
	switch (cmd->request) {
	case HMM_DMA_MIRROR:
		/* A whole place, mostly; of the large one the size of a leaf is rare. */
		c->addr = PLACE_AT(c->place);
		c->size = places[c->place].size;
		if (c->size > 4 * MIB && !one_in(32))
			c->size = 4 * MIB;
		/* fallthrough */
	case HMM_DMA_MAP:
	case HMM_DMA_UNMAP:
		a->window.addr = c->addr;
		a->window.npages = c->size / PAGE;
		a->window.flags = cmd->request == HMM_DMA_MAP ? below(4) : 0;
		break;
	case HMM_DMA_RAW_READ:
	case HMM_DMA_RAW_WRITE:
	case HMM_DMA_READ:
	case HMM_DMA_WRITE:
		c->addr += below(PAGE - 64);
		c->size = 1 + below(64);
		a->xfer.addr = c->addr;
		a->xfer.size = c->size;
		a->xfer.ptr = BUFFER_AT + below(PAGE);
		break;
	default:
		c->addr += below(PAGE);
		c->size = 1;
		a->query.addr = c->addr;
		a->query.dma = below(2) ? below(1ULL << 40) : PICK(edges);
	}
}

/* The range and the caller's pointer have the same place in most structures. */
static void wild_args(struct call *c)
{
	const struct command *cmd = &commands[c->command];
	union args *a = &c->args;
	bool xfer = is_xfer(cmd->request);
	int words = (cmd->request ? _IOC_SIZE(cmd->request) : 64) / 8;

	do {
		switch (below(6)) {
		case 0:
			a->words[0] = wild_address(a->words[0]);
			break;
		case 1:
			/* Pages that end just before, at, or behind the end of all. */
			if (xfer)
				a->xfer.size = PICK(counts);
			else if (cmd->class == DMIRROR)
				a->dmirror.npages = one_in(2) ? PICK(counts) :
					(-a->words[0] >> 12) + below(3) - 1;
			else
				a->words[1] = one_in(2) ? PICK(counts) :
					(-a->words[0] >> 12) + below(3) - 1;
			break;
		case 2:
			if (cmd->class == DMIRROR)
				a->dmirror.ptr = wild_pointer(c->size);
			else if (xfer)
				a->xfer.ptr = wild_pointer(a->xfer.size);
			else
				a->words[2] ^= 1ULL << below(64);
			break;
		case 3:
			a->words[below(words)] ^= 1ULL << below(64);
			break;
		case 4:
			a->words[below(words)] = PICK(edges);
			break;
		case 5:
			a->words[below(words)] = next();
			break;
		}
	} while (one_in(3));
}

/*
 * Take out what is not to be asked for: what the driver has to do in full, and would do
 * for hours (huge values which have to be refused stay), and what crashes the machine by
 * its nature.
 */
static void tame(struct call *c)
{
	const struct command *cmd = &commands[c->command];
	union args *a = &c->args;
	u64 n, size;

	switch (cmd->class) {
	case DMIRROR:
		n = a->dmirror.npages << 12 >> 12;
		/* vmalloc() of some of all memory means that others are killed for it. */
		if (n > 512 && n < 4 * MIB)
			a->dmirror.npages = n & (one_in(16) ? 511 : 15);
		/* It has to go on to the end of the buffer. */
		if (cmd->request == HMM_DMIRROR_SNAPSHOT && n >= 4 * MIB)
			a->dmirror.ptr = BUFFER_AT + BUFFER - below(64);
		/* What others have migrated goes away, and making new memory takes long. */
		if (cmd->request == HMM_DMIRROR_RELEASE && !one_in(64))
			a->dmirror.npages = one_in(2) ? 0 : -(a->dmirror.addr >> 12);
		break;
	case LEAVES:
		/* Of both structures. */
		n = a->check.npages;
		if (n > 1024 && n <= 1 << 20)
			a->check.npages = n & 63;
		if (a->check.count > 4 && a->check.count <= 1000000)
			a->check.count &= 3;
		break;
	case DMA:
		break;
	}
	if (cmd->class != DMA)
		return;

	switch (cmd->request) {
	case HMM_DMA_MIRROR:
		/* A table of up to 2 GiB. */
		if (a->window.npages > 1 << 19 && a->window.npages < 1 << 27)
			a->window.npages |= 1 << 30;
		return;
	case HMM_DMA_RAW_READ:
	case HMM_DMA_RAW_WRITE:
		/* The IOMMU's refusal is announced for the page that it begins in. */
		size = a->xfer.size;
		a->xfer.addr = (a->xfer.addr & ((1ULL << 40) - 1)) | 0x100000;
		if (a->xfer.addr % PAGE + size > PAGE)
			a->xfer.addr &= ~(PAGE - 1);
		/* There it would be an interrupt. */
		if (a->xfer.addr >> 20 == 0xfee)
			a->xfer.addr ^= 1ULL << 32;
		/* fallthrough */
	case HMM_DMA_READ:
	case HMM_DMA_WRITE:
		/* What has to be refused is, before the device moves anything. */
		if (c->slow || c->node != EDU_NODE)
			return;
		if (a->xfer.size && a->xfer.size <= HMM_DMA_XFER_MAX)
			switch (below(3)) {
			case 0:
				a->xfer.size = 0;
				break;
			case 1:
				a->xfer.size += HMM_DMA_XFER_MAX;
				break;
			case 2:
				a->xfer.ptr = one_in(2) ? PLACE_AT(HOLE) : 1ULL << 63;
			}
	}
}

/* Requests that do not exist: another number, size, direction or type. */
static unsigned int unknown_request(enum class class)
{
	unsigned int r, i;

	do {
		r = commands[below(NR_COMMANDS)].request;
		switch (below(5)) {
		case 0:
			r ^= 1u << below(32);
			break;
		case 1:
			r = _IOC(below(4), _IOC_TYPE(r), _IOC_NR(r), below(1 << 14));
			break;
		case 2:
			r = _IOC(_IOC_DIR(r), _IOC_TYPE(r), below(256), _IOC_SIZE(r));
			break;
		case 3:
			r = _IOC(3, class == LEAVES ? 'L' : 'H', below(256), below(256));
			break;
		case 4:
			r = next();
		}
		for (i = 0; i < NR_COMMANDS; i++)
			if (commands[i].request == r && commands[i].class == class)
				break;
		/* Those of all files, which do not get to a driver. */
		if (_IOC_TYPE(r) == 'f' || _IOC_TYPE(r) == 'T' || _IOC_TYPE(r) == 'X' ||
		    !_IOC_TYPE(r) || _IOC_TYPE(r) == 0x12 || _IOC_TYPE(r) == 0x15)
			i = 0;
	} while (i < NR_COMMANDS);
	return r;
}

static void place_args(struct call *c)
{
	size_t size = _IOC_SIZE(c->request);
	char *at = (char *)ARGS_AT;

	if (size > sizeof(c->args))
		size = sizeof(c->args);
	c->arg_bad = false;
	c->arg_read_only = false;
	if (size && one_in(12)) {
		c->arg_bad = true;
		switch (below(5)) {
		case 0:		/* the end of a mapping is in it */
			at += 2 * PAGE - below(size);
			break;
		case 1:
			at = (char *)PLACE_AT(NONE);
			break;
		case 2:
			at = (char *)PLACE_AT(HOLE);
			break;
		case 3:
			at = (char *)0xffff888000000000UL + below(GIB);
			break;
		case 4:
			at = (char *)(below(2) ? 0 : 1UL << 63);
		}
		c->arg = at;
		return;
	}
	/* Up to its last byte. */
	if (one_in(2))
		at += 2 * PAGE - size;
	memcpy(at, &c->args, size);
	c->arg = at;
	if (size && one_in(32)) {
		c->arg_read_only = true;
		c->arg = at - ARGS_AT + ARGS_RO_AT;
	}
}

/* ---- the calls ---- */

static void describe(struct call *c, char *text, size_t size)
{
	static const char * const hows[] = { "its own", "the other's", "a shaky" };

	snprintf(text, size,
		 "call %llu of %s %d, round %u: %s (%#x) on %s %s, words %#llx %#llx %#llx %#llx %#llx%s",
		 (unsigned long long)slot->n, self & 1 ? "peer" : "worker", self / 2,
		 fuzz_round, commands[c->command].name, c->request, hows[c->how],
		 nodes[c->node].name, (unsigned long long)c->args.words[0],
		 (unsigned long long)c->args.words[1],
		 (unsigned long long)c->args.words[2],
		 (unsigned long long)c->args.words[3],
		 (unsigned long long)c->args.words[4],
		 c->arg_bad ? ", a bad pointer to them" :
		 c->arg_read_only ? ", in read-only memory" : "");
}

static void complain(struct call *c, int got, const char *why)
{
	char text[400], diff[120] = "";

	describe(c, text, sizeof(text));
	if (got == EUCLEAN) {
		const struct hmm_leaves_check *check = c->arg;
		const struct hmm_leaves_race *race = c->arg;
		const struct hmm_leaves_diff *d =
			c->request == HMM_LEAVES_CHECK ? &check->diff : &race->diff;

		snprintf(diff, sizeof(diff), " (at %#llx: %#llx, not %#llx, kind %u)", d->addr,
			 d->got, d->want, d->what);
	}
	failure("%s: %s (errno %d): %s%s", text, got ? strerror(got) : "success", got, why, diff);
}

static bool user_memory(u64 addr, u64 size)
{
	return addr < 1ULL << 56 && size <= (1ULL << 56) - addr;
}

/* Of any of the drivers. */
static bool is_request(unsigned int request)
{
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (commands[i].request && commands[i].request == request)
			return true;
	return false;
}

static void judge(struct call *c, int got)
{
	const struct command *cmd = &commands[c->command];
	u64 addr = c->args.words[0], size;
	bool shaky = c->how == SHAKY;

	/* The descriptor can be closed, or be another file by now, which may know the request. */
	if (shaky && (got == EBADF || got == ENOTTY || (!cmd->request && is_request(c->request))))
		return;
	if (got >= ERRNOS || !documented[c->command][got])
		return complain(c, got, "not documented");
	if (c->arg_bad && cmd->request && got != EFAULT && got != EINTR)
		return complain(c, got, "must be EFAULT, as its arguments cannot be read");
	if (c->arg_read_only && cmd->request && !got)
		return complain(c, got, "success, but its results cannot be written");
	if (got == EUCLEAN && cmd->request == HMM_LEAVES_CHECK && alone)
		return complain(c, got, "hmm_range_fault() is wrong, and nobody else was there");
	if (got == EUCLEAN && cmd->request == HMM_LEAVES_RACE &&
	    !(c->args.race.flags & (HMM_LEAVES_NO_RETRY | HMM_LEAVES_NO_INVALIDATE)))
		return complain(c, got, "hmm_range_fault() is wrong");
	if (got || !(cmd->access & (READS | WRITES)))
		return;

	size = cmd->class == DMIRROR ? c->args.dmirror.npages << 12 : c->args.words[1] << 12;
	if (cmd->request == HMM_DMA_READ || cmd->request == HMM_DMA_WRITE)
		size = c->args.xfer.size;
	if (!user_memory(addr, size))
		return complain(c, got, "success, but that is no user memory");
	if (cmd->access & WRITES && addr >= PLACE_AT(READONLY) &&
	    addr < PLACE_AT(READONLY) + places[READONLY].size)
		return complain(c, got, "success, but that memory is read-only");
	if (!(cmd->access & FAULTS) ||
	    (cmd->request == HMM_DMA_MAP && c->args.window.flags & HMM_DMA_MAP_SNAPSHOT))
		return;
	if ((addr >= PLACE_AT(HOLE) && addr < PLACE_AT(HOLE) + places[HOLE].size) ||
	    (addr >= PLACE_AT(NONE) && addr < PLACE_AT(NONE) + places[NONE].size))
		return complain(c, got, "success, but nobody has that memory");
}

static void make_call(struct call *c)
{
	u64 took;
	int got;

	slot->command = c->command;
	slot->since = now_us();
	got = ioctl(c->fd, c->request, c->arg) ? errno : 0;
	took = now_us() - slot->since;
	slot->since = 0;
	slot->spent[c->command] += took;
	if (took > slot->longest[c->command])
		slot->longest[c->command] = took;
	slot->counts[c->command][got < ERRNOS ? got : ERRNOS - 1]++;

	if (c->request == HMM_DMA_MIRROR && c->how != SHAKY) {
		if (!got)
			*window_of(c) = (struct window) { c->args.window.addr,
							  c->args.window.npages };
		else if (!c->arg_bad)
			window_of(c)->npages = 0;
	}
	judge(c, got);
	if (shared->failed)
		_exit(1);
}

/* Memory that never appears: each request for it takes a second, and then gives up. */
static void absent_call(struct call *c)
{
	void *at = mmap((void *)ABSENT_AT, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			fds[OWN][0], PAGE);

	if (at == MAP_FAILED)
		return;
	c->how = OWN;
	c->node = 0;
	c->fd = fds[OWN][0];
	c->args.dmirror.addr = ABSENT_AT;
	c->args.dmirror.npages = 1;
	memcpy((void *)ARGS_AT, &c->args, sizeof(c->args));
	c->arg = (void *)ARGS_AT;
	c->arg_bad = false;
	c->arg_read_only = false;
	make_call(c);
	munmap((void *)ABSENT_AT, PAGE);
}

static void choose_command(struct call *c)
{
	int w = below(weights);

	for (c->command = 0; w >= commands[c->command].weight; c->command++)
		w -= commands[c->command].weight;
}

static bool choose_file(struct call *c)
{
	enum class class = commands[c->command].class;

	do {
		c->node = below(NR_NODES);
	} while (nodes[c->node].class != class);
	c->how = one_in(4) ? GIVEN : OWN;
	if (!(self & 1) && one_in(8))
		c->how = SHAKY;
	/* There are few of dmirror's: to close one takes long. */
	for (int i = 0; i < 4; i++) {
		c->fd = fds[c->how][c->node];
		if (c->fd >= 0)
			return true;
		if (class == DMIRROR && i == 1)
			c->node = 0;
		else
			c->how = c->how == OWN ? GIVEN : OWN;
	}
	return false;
}

static void fuzz_call(u64 n)
{
	struct call c;

	state = mix(mix(seed * 0x100000001b3ULL + fuzz_round) + (u64)self * 0x9e3779b97f4a7c15ULL) +
		mix(n + 1);
	memset(&c, 0, sizeof(c));
	choose_command(&c);
	c.slow = n % 4096 < 3 && !(self & 1);
	if (!choose_file(&c))
		return;
	valid_args(&c);
	if (!one_in(3))
		wild_args(&c);
	tame(&c);
	c.request = commands[c.command].request ?: unknown_request(commands[c.command].class);
	place_args(&c);
	if (c.request == HMM_DMIRROR_READ && n % 2048 == 7 && !(self & 1) && one_in(2))
		absent_call(&c);
	else
		make_call(&c);
}

/* ---- the thread that changes memory and files ---- */

static void change_fd(u64 what)
{
	int node = EDU_NODE + (what >> 8) % 3, fd = fds[SHAKY][node], other;

	close(fd);
	if (what & 0x10000)
		usleep((what >> 20) % 300);
	other = open(what & 0x40000 ? "/dev/null" : nodes[node].name, O_RDWR | O_CLOEXEC);
	/* Nobody else opens any file meanwhile: it may well have the number already. */
	if (other >= 0 && other != fd) {
		dup3(other, fd, O_CLOEXEC);
		close(other);
	}
}

static void change_place(u64 what)
{
	enum place p = (what >> 8) % NR_PLACES;
	char *at = (char *)PLACE_AT(p);
	size_t size = places[p].size, from = 0, length = size;
	bool file = p == EXT4 || p == XFS || p == SHMEM;

	if (p == READONLY || p == NONE || p == HOLE || p == MIXED)
		return;
	/* A device-dax is protected by whole leaves, and so is hugetlb. */
	if (p != HUGETLB && p < DEV_PTE) {
		from = (what >> 20) % (size / PAGE) * PAGE;
		length = size - from;
	}
	switch (what & 7) {
	case 0:
		munmap(at, size);
		usleep((what >> 32) % 200);
		map_place(p);
		break;
	case 1:
	case 2:
		mprotect(at + from, length, (what >> 36) & 1 ? PROT_READ : PROT_NONE);
		usleep((what >> 32) % 200);
		mprotect(at + from, length, PROT_READ | PROT_WRITE);
		break;
	case 3:
		madvise(at + from, length, MADV_DONTNEED);
		break;
	case 4:
		madvise(at + from, length < 64 * PAGE ? length : 64 * PAGE,
			MADV_POPULATE_WRITE);
		break;
	case 5:
	case 6:
		if (!file) {
			madvise(at, size, MADV_COLLAPSE);
			break;
		}
		if (what & 0x1000000000ULL) {
			if (ftruncate(place_fd[p], from))
				break;
			usleep((what >> 32) % 200);
			if (ftruncate(place_fd[p], size))
				break;
		} else {
			fallocate(place_fd[p], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  from, length);
		}
		break;
	case 7:
		change_fd(what);
		break;
	}
}

static void *changer(void *unused)
{
	u64 what = mix(seed + self), n = 0;

	for (;;) {
		__atomic_store_n(&changing, true, __ATOMIC_SEQ_CST);
		if (storm) {
			what = mix(what + ++n);
			change_place(what);
		}
		__atomic_store_n(&changing, false, __ATOMIC_SEQ_CST);
		usleep(storm ? (what >> 40) % 20000 : 5000);
	}
	return unused;
}

/* ---- processes ---- */

static void on_alarm(int signal)
{
	(void)signal;
}

static void timer(bool on, bool restart)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0 };
	struct itimerval t = { 0 };

	sigaction(SIGALRM, &action, NULL);
	if (on)
		t.it_interval.tv_usec = t.it_value.tv_usec = 500 + below(5000);
	setitimer(ITIMER_REAL, &t, NULL);
}

/* The worker's peer may have ended. */
static void reap_peer(void)
{
	struct slot *peer = slot + 1;
	pid_t pid = peer->pid;
	int status;

	if (!pid || waitpid(pid, &status, WNOHANG) != pid)
		return;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		failure("peer %d, round %u, call %llu, died of signal %d", self / 2, fuzz_round,
			(unsigned long long)peer->n - 1, WTERMSIG(status));
	peer->since = 0;
	peer->killed = false;
	peer->busy = false;
	peer->pid = 0;
}

/* The peer stays away from this worker's memory, and so does the thread. */
static void wait_for_quiet(void)
{
	struct slot *peer = slot + 1;

	__atomic_store_n(&storm, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&slot->quiet, true, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&changing, __ATOMIC_SEQ_CST) ||
	       __atomic_load_n(&peer->busy, __ATOMIC_SEQ_CST)) {
		usleep(200);
		reap_peer();
	}
	alone = true;
	/* Whatever the thread has taken away. */
	for (int p = 0; p < NR_PLACES; p++)
		if (p != READONLY && p != NONE && p != HOLE && p != MIXED && p != DEV_PUD)
			map_place(p);
}

static void turn(u64 n)
{
	int what = n / TURN & 3;

	reap_peer();
	if (!what) {
		timer(false, true);
		wait_for_quiet();
		return;
	}
	alone = false;
	__atomic_store_n(&slot->quiet, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&storm, what >= 2, __ATOMIC_SEQ_CST);
	timer(what != 2, n / TURN & 4);
}

static void open_devices(enum how how, int step)
{
	for (int i = 0; i < NR_NODES; i += i < EDU_NODE ? step : 1) {
		fds[how][i] = open(nodes[i].name, O_RDWR | O_CLOEXEC);
		if (fds[how][i] < 0 && errno != ENOENT)
			give_up("%s", nodes[i].name);
	}
}

static void send_files(int to)
{
	int send[3] = { fds[OWN][0], fds[OWN][EDU_NODE], fds[OWN][DIRECT_NODE] };
	char control[CMSG_SPACE(sizeof(send))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(send));
	memcpy(CMSG_DATA(c), send, sizeof(send));
	if (sendmsg(to, &msg, 0) != 1)
		give_up("sendmsg");
}

static void receive_files(int from)
{
	int got[3];
	char control[CMSG_SPACE(sizeof(got))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};

	/* The peer can have been killed before it sent them. */
	if (recvmsg(from, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		return;
	memcpy(got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(got));
	fds[GIVEN][0] = got[0];
	fds[GIVEN][EDU_NODE] = got[1];
	fds[GIVEN][DIRECT_NODE] = got[2];
}

/* Until the worker has ended, and a little longer. */
static __attribute__((noreturn)) void peer(int socket, u64 calls, pid_t parent)
{
	struct slot *worker = slot;
	int after = 0;

	slot = &shared->slots[++self];
	memcpy(fds[GIVEN], fds[OWN], sizeof(fds[OWN]));
	memset(fds[OWN], -1, sizeof(fds[OWN]));
	/* Those of the worker are not copied by fork(), but shared. */
	make_args();
	for (int i = 0; i < NR_NODES; i++)
		if (fds[SHAKY][i] >= 0)
			close(fds[SHAKY][i]);
	/* It mirrors the worker: to be asked as such is all that remains. */
	open_devices(OWN, EDU_NODE);
	send_files(socket);
	while (after < 300 && slot->n < calls) {
		__atomic_store_n(&slot->busy, true, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&worker->quiet, __ATOMIC_SEQ_CST) && !after) {
			__atomic_store_n(&slot->busy, false, __ATOMIC_SEQ_CST);
			usleep(500);
		} else {
			if (!(slot->n % TURN))
				timer(slot->n / TURN & 1, slot->n / TURN & 2);
			fuzz_call(slot->n++);
			__atomic_store_n(&slot->busy, false, __ATOMIC_SEQ_CST);
		}
		if (getppid() != parent)
			after++;
	}
	_exit(0);
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		give_up("nobody");
}

/* As a worker before it has a peer: its memory and its files. */
static void start_process(bool nobody)
{
	memset(fds, -1, sizeof(fds));
	memset(slot->window, 0, sizeof(slot->window));
	memset(slot[1].window, 0, sizeof(slot->window));
	make_places();
	if (nobody)
		become_nobody();
	open_devices(OWN, 1);
	place_fd[MIXED] = fds[OWN][0];
	map_place(MIXED);
	for (int i = EDU_NODE; i < NR_NODES; i++)
		fds[SHAKY][i] = open(nodes[i].name, O_RDWR | O_CLOEXEC);
}

static __attribute__((noreturn)) void worker(u64 calls, bool nobody)
{
	int pair[2];
	pthread_t thread;
	pid_t pid, parent = getpid();

	start_process(nobody);
	slot->quiet = false;
	slot[1].busy = false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		give_up("socketpair");
	slot[1].pid = 0;
	slot[1].killed = false;
	pid = fork();
	if (pid < 0)
		give_up("fork");
	if (!pid)
		peer(pair[1], calls, parent);
	slot[1].pid = pid;
	close(pair[1]);
	receive_files(pair[0]);
	if (pthread_create(&thread, NULL, changer, NULL))
		give_up("pthread_create");
	turn(slot->n);
	while (slot->n < calls) {
		fuzz_call(slot->n++);
		if (!(slot->n % TURN))
			turn(slot->n);
	}
	slot->done = true;
	_exit(0);
}

/* Each request once as it is meant, and once not, while nobody else uses the devices. */
static __attribute__((noreturn)) void every_request(void)
{
	struct call c;

	start_process(false);
	alone = true;
	for (size_t i = 0; i < 3 * NR_COMMANDS; i++) {
		const struct command *cmd = &commands[i % NR_COMMANDS];

		state = mix(seed + i);
		memset(&c, 0, sizeof(c));
		c.command = i % NR_COMMANDS;
		c.node = cmd->class == DMIRROR ? 0 : cmd->class == DMA ? EDU_NODE : LEAVES_NODE;
		c.how = OWN;
		c.fd = fds[OWN][c.node];
		c.slow = true;
		c.request = cmd->request ?: unknown_request(cmd->class);
		valid_args(&c);
		/* The first page of a window on anonymous memory. */
		c.addr = PLACE_AT(ANON);
		c.place = ANON;
		c.args.words[0] = c.addr;
		if (cmd->class == DMIRROR)
			c.args.dmirror.npages = 2;
		else if (cmd->request == HMM_DMA_MIRROR)
			c.args.window.npages = places[ANON].size / PAGE;
		else if (cmd->request == HMM_DMA_MAP || cmd->request == HMM_DMA_UNMAP)
			c.args.window.npages = 2;
		else if (cmd->class == LEAVES)
			c.args.words[1] = 2;
		if (cmd->request == HMM_DMA_MAP)
			c.args.window.flags = HMM_DMA_MAP_WRITE;
		if (cmd->request == HMM_DMA_RAW_READ || cmd->request == HMM_DMA_RAW_WRITE)
			c.args.xfer.addr = 0x7777000000;
		if (cmd->request == HMM_LEAVES_RACE)
			c.args.race.flags = 0;
		if (i >= 2 * NR_COMMANDS) {
			c.args.words[0]++;
			if (is_xfer(cmd->request))
				c.args.xfer.size = 0;
			/* All that these can be refused for. */
			if (cmd->request == HMM_DMA_IOVA || cmd->request == HMM_DMA_STATS) {
				c.arg_bad = true;
				c.arg = (void *)PLACE_AT(HOLE);
			}
		}
		memcpy((void *)ARGS_AT, &c.args, sizeof(c.args));
		if (!c.arg)
			c.arg = (void *)ARGS_AT;
		make_call(&c);
		if (!(c.request == HMM_DMIRROR_RELEASE))
			continue;
		/* What the others migrated is gone: the next one brings new memory. */
		for (int n = 1; n < EDU_NODE; n++) {
			c.node = n;
			c.fd = fds[OWN][n];
			if (c.fd >= 0 && n < 2)
				make_call(&c);
		}
	}
	_exit(0);
}

/* ---- nobody ---- */

static __attribute__((format(printf, 2, 3))) void tap(bool good, const char *format, ...)
{
	va_list args;
	char text[140];

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(shared->tap[shared->nr_tap++], sizeof(shared->tap[0]), "%s nobody: %s",
		 good ? "ok" : "not ok", text);
}

static __attribute__((noreturn)) void nobody_cannot_open(void)
{
	become_nobody();
	for (int i = 0; i < NR_NODES; i++) {
		int fd = open(nodes[i].name, O_RDWR | O_CLOEXEC);

		if (fd < 0 && errno == ENOENT)
			continue;
		tap(fd < 0 && errno == EACCES, "open of %s: %s", nodes[i].name,
		    fd < 0 ? strerror(errno) : "success");
	}
	_exit(0);
}

static int dmirror_call(unsigned int request, u64 addr, u64 ptr)
{
	struct hmm_dmirror_cmd cmd = { .addr = addr, .ptr = ptr, .npages = 1 };

	return ioctl(fds[OWN][0], request, &cmd) ? errno : 0;
}

static int window_call(int node, u64 addr, u64 flags)
{
	struct test_hmm_dma_window win = { .addr = addr, .npages = 1 };
	int ret;

	ret = ioctl(fds[OWN][node], HMM_DMA_MIRROR, &win) ? errno : 0;
	if (ret)
		return ret;
	win.flags = flags;
	return ioctl(fds[OWN][node], HMM_DMA_MAP, &win) ? errno : 0;
}

/* @what: addresses of which nobody has nothing. */
static void nobody_gets_none(const char *what, const u64 *addrs, size_t n)
{
	int edu = 0, direct = 0, reads = 0, writes = 0, snapshots = 0;
	unsigned char perm;

	for (size_t i = 0; i < n; i++) {
		reads += !dmirror_call(HMM_DMIRROR_READ, addrs[i], BUFFER_AT);
		reads += !dmirror_call(HMM_DMIRROR_READ_UNLOCKED, addrs[i], BUFFER_AT);
		reads += !dmirror_call(HMM_DMIRROR_EXCLUSIVE, addrs[i], BUFFER_AT);
		reads += !dmirror_call(HMM_DMIRROR_MIGRATE_TO_DEV, addrs[i], BUFFER_AT);
		writes += !dmirror_call(HMM_DMIRROR_WRITE, addrs[i], BUFFER_AT);
		edu += !window_call(EDU_NODE, addrs[i], 0);
		direct += !window_call(DIRECT_NODE, addrs[i], 0);
		if (!dmirror_call(HMM_DMIRROR_SNAPSHOT, addrs[i], (u64)&perm))
			snapshots += perm != HMM_DMIRROR_PROT_ERROR &&
				     perm != HMM_DMIRROR_PROT_NONE;
	}
	tap(!(edu + direct + reads + writes + snapshots),
	    "%s: of %zu addresses %d read, %d written, %d and %d mapped, %d in a snapshot", what,
	    n, reads, writes, edu, direct, snapshots);
}

static __attribute__((noreturn)) void nobody_has_its_own(u64 kept)
{
	u64 kernel[ARRAY_SIZE(edges)], holes[] = { PLACE_AT(HOLE), PLACE_AT(NONE), kept };
	struct test_hmm_dma_xfer xfer = { .addr = PLACE_AT(ANON) + 5, .size = 100,
					  .ptr = BUFFER_AT };
	struct hmm_leaves_check check = { .addr = PLACE_AT(READONLY), .npages = 1,
					  .flags = HMM_LEAVES_WRITE };
	unsigned char *own = (void *)PLACE_AT(ANON), *buf = (void *)BUFFER_AT;
	int got, n = 0;

	start_process(true);
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++)
		if (edges[i] % PAGE == 0 && edges[i] >= 1ULL << 47)
			kernel[n++] = edges[i];

	pattern(own, 1);
	got = dmirror_call(HMM_DMIRROR_READ, (u64)own, BUFFER_AT);
	tap(!got && !memcmp(own, buf, PAGE), "its own page is read: %s", strerror(got));
	pattern(buf, 2);
	got = dmirror_call(HMM_DMIRROR_WRITE, (u64)own, BUFFER_AT);
	tap(!got && !memcmp(own, buf, PAGE), "its own page is written: %s", strerror(got));
	got = window_call(EDU_NODE, (u64)own, 0);
	if (!got)
		got = ioctl(fds[OWN][EDU_NODE], HMM_DMA_READ, &xfer) ? errno : 0;
	tap(!got && !memcmp(own + 5, buf, 100), "its own page is read by DMA: %s",
	    strerror(got));

	nobody_gets_none("kernel and other addresses that no process has", kernel, n);
	nobody_gets_none("memory of another process, none, and none that may be read", holes,
			 ARRAY_SIZE(holes));
	got = dmirror_call(HMM_DMIRROR_READ, (u64)own, kernel[n / 2]);
	tap(got == EFAULT, "results to a kernel address: %s", strerror(got));

	if (place_fd[READONLY] < 0)
		_exit(0);
	got = dmirror_call(HMM_DMIRROR_READ, PLACE_AT(READONLY), BUFFER_AT);
	tap(!got, "a read-only file is read: %s", strerror(got));
	got = dmirror_call(HMM_DMIRROR_WRITE, PLACE_AT(READONLY), BUFFER_AT);
	tap(got == EPERM, "a read-only file is not written: %s", strerror(got));
	got = window_call(DIRECT_NODE, PLACE_AT(READONLY), HMM_DMA_MAP_WRITE);
	tap(got == EPERM, "a read-only file is not mapped for writing: %s", strerror(got));
	got = window_call(EDU_NODE, PLACE_AT(READONLY), 0);
	xfer.addr = PLACE_AT(READONLY);
	if (!got)
		got = ioctl(fds[OWN][EDU_NODE], HMM_DMA_WRITE, &xfer) ? errno : 0;
	tap(got == EPERM, "a read-only file is not written by DMA: %s", strerror(got));
	got = ioctl(fds[OWN][LEAVES_NODE], HMM_LEAVES_CHECK, &check) ? errno : -check.error;
	tap(got == EPERM, "a read-only file is not faulted for writing: %s", strerror(got));
	_exit(0);
}

/* ---- the parent ---- */

#define KEPT	(4 * MIB)

/* A process that never opens a device; KEPT bytes from @at on must not change. */
static pid_t start_keeper(char **at)
{
	pid_t pid;

	*at = mmap(NULL, KEPT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*at == MAP_FAILED)
		err(1, "mmap");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 0; i < KEPT; i += PAGE)
			pattern(*at + i, i);
		for (;;)
			pause();
	}
	/* It is only the other's from here on. */
	munmap(*at, KEPT);
	sleep(1);
	return pid;
}

static int memory_of(pid_t pid)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void corrupt_keeper(pid_t pid, char *at)
{
	int fd = memory_of(pid);
	char byte;

	if (pread(fd, &byte, 1, (uintptr_t)at + 12345) != 1)
		err(1, "pread");
	byte ^= 1;
	if (pwrite(fd, &byte, 1, (uintptr_t)at + 12345) != 1)
		err(1, "pwrite");
	close(fd);
}

static bool check_keeper(pid_t pid, char *at)
{
	static char got[KEPT], want[PAGE];
	int fd = memory_of(pid);
	ssize_t n = pread(fd, got, KEPT, (uintptr_t)at);

	close(fd);
	if (n != (ssize_t)KEPT) {
		failure("the process that never opened a device cannot be read: %s",
			strerror(errno));
		return false;
	}
	for (size_t i = 0; i < KEPT; i += PAGE) {
		pattern(want, i);
		for (size_t j = 0; j < PAGE; j++) {
			if (got[i + j] == want[j])
				continue;
			failure("round %u: byte %#zx of a process that never opened a device is %#x, must be %#x",
				fuzz_round, i + j, (unsigned char)got[i + j],
				(unsigned char)want[j]);
			return false;
		}
	}
	return true;
}

static char readonly_path[256];

static bool check_readonly(bool make)
{
	const char *dir = getenv("HMM_DAX_EXT4");
	char got[PAGE], want[PAGE];
	bool good = true;
	int fd;

	if (!dir)
		return true;
	snprintf(readonly_path, sizeof(readonly_path), "%s/fuzz-readonly", dir);
	fd = open(readonly_path, make ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY, 0644);
	if (fd < 0)
		err(1, "%s", readonly_path);
	for (size_t i = 0; good && i < places[READONLY].size; i += PAGE) {
		pattern(want, i);
		if (make) {
			if (pwrite(fd, want, PAGE, i) != (ssize_t)PAGE)
				err(1, "%s", readonly_path);
		} else if (pread(fd, got, PAGE, i) != (ssize_t)PAGE ||
			   memcmp(got, want, PAGE)) {
			failure("round %u: page %zu of a file that is mapped only for reading, or privately, has changed",
				fuzz_round, i / PAGE);
			good = false;
		}
	}
	close(fd);
	return good;
}

static u64 time_limit = 60000;

static pid_t start(int index)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		self = index;
		slot = &shared->slots[index];
		slot->since = 0;
	}
	return pid;
}

static bool watch(void)
{
	u64 now = now_us();

	for (size_t i = 0; i < ARRAY_SIZE(shared->slots); i++) {
		struct slot *s = &shared->slots[i];
		u64 since = s->since;

		if (!since || now < since + time_limit * 1000 || (s->pid && kill(s->pid, 0)))
			continue;
		failure("call %lld of %s %zu, round %u: %s has not returned within %llu ms",
			(long long)s->n - 1, i & 1 ? "peer" : "worker", i / 2, fuzz_round,
			commands[s->command].name, (unsigned long long)time_limit);
		return false;
	}
	return !shared->failed;
}

static void ended(pid_t pid, int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(shared->slots); i++) {
		struct slot *s = &shared->slots[i];

		if (s->pid != pid)
			continue;
		s->pid = 0;
		s->since = 0;
		if (WIFSIGNALED(status) && !s->killed)
			failure("%s %zu, round %u, call %llu, died of signal %d",
				i & 1 ? "peer" : "worker", i / 2, fuzz_round,
				(unsigned long long)s->n - 1, WTERMSIG(status));
		s->killed = false;
		return;
	}
}

/* One that is alone; false: it failed, or hangs. */
static bool wait_for(pid_t pid)
{
	int status;
	pid_t got;

	while ((got = waitpid(-1, &status, WNOHANG)) != pid) {
		if (got < 0 || !watch())
			return false;
		if (!got)
			usleep(20000);
	}
	shared->slots[2 * MAX_WORKERS].since = 0;
	if (status)
		failure("a process of its own ended with status %#x", status);
	return !shared->failed;
}

static void open_nodes(mode_t mode)
{
	for (int i = 0; i < NR_NODES; i++)
		chmod(nodes[i].name, mode);
}

/* Processes that are left get killed, those that hang do not end. */
static void end_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(shared->slots); i++)
		if (shared->slots[i].pid) {
			shared->slots[i].killed = true;
			kill(shared->slots[i].pid, SIGKILL);
		}
}

static u64 total(void)
{
	u64 sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(shared->slots); i++)
		for (size_t c = 0; c < NR_COMMANDS; c++)
			for (int e = 0; e < ERRNOS; e++)
				sum += shared->slots[i].counts[c][e];
	return sum;
}

static bool run_round(int workers, int only, u64 calls)
{
	u64 next_kill = total() + rand() % 20000;
	bool running = true;
	int status;
	pid_t pid;

	for (int i = 0; i < 2 * MAX_WORKERS; i++) {
		shared->slots[i].n = 0;
		shared->slots[i].done = false;
	}
	while (running) {
		running = false;
		for (int w = 0; w < workers; w++) {
			struct slot *s = &shared->slots[2 * w];

			if ((only >= 0 && w != only) || (s->done && !s->pid && !s[1].pid))
				continue;
			running = true;
			/* A peer that is left is an orphan, and our child then. */
			if (s->pid || s->done || s[1].pid)
				continue;
			pid = start(2 * w);
			if (!pid)
				worker(calls, w == workers - 1 && workers > 1);
			s->pid = pid;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			ended(pid, status);
		if (!watch())
			return false;
		if (total() > next_kill) {
			struct slot *s = &shared->slots[rand() % (2 * workers)];

			/* To start one takes as long as a thousand calls. */
			next_kill = total() + rand() % 40000;
			if (s->pid > 0) {
				s->killed = true;
				kill(s->pid, SIGKILL);
			}
		}
		usleep(20000);
	}
	return true;
}

static int results(bool kept, bool timely)
{
	int failed = 0;
	u64 worst = 0;

	for (size_t c = 0; c < NR_COMMANDS; c++) {
		u64 sums[ERRNOS] = { 0 }, calls = 0, longest = 0, spent = 0;
		bool good;

		for (size_t i = 0; i < ARRAY_SIZE(shared->slots); i++) {
			for (int e = 0; e < ERRNOS; e++)
				sums[e] += shared->slots[i].counts[c][e];
			if (shared->slots[i].longest[c] > longest)
				longest = shared->slots[i].longest[c];
			spent += shared->slots[i].spent[c];
		}
		longest /= 1000;
		for (int e = 0; e < ERRNOS; e++)
			calls += sums[e];
		if (longest > worst)
			worst = longest;
		/* Requests that do not exist never succeed. */
		good = calls > sums[0] && !sums[0] == !commands[c].request;
		printf("# %s, mean %llu us, longest %llu ms:", commands[c].name,
		       (unsigned long long)(spent / (calls ?: 1)), (unsigned long long)longest);
		for (int e = 0; e < ERRNOS; e++)
			if (sums[e])
				printf(" %s %llu", e ? strerrorname_np(e) : "0",
				       (unsigned long long)sums[e]);
		printf("\n");
		/* After a failure, not all of them had their turn. */
		if (shared->failed)
			continue;
		failed += !good;
		printf("%s %s: %llu calls, errnos", good ? "ok" : "not ok", commands[c].name,
		       (unsigned long long)calls);
		for (int e = 0; e < ERRNOS; e++)
			if (sums[e])
				printf(" %d", e);
		printf("\n");
	}
	for (int i = 0; i < shared->nr_tap; i++) {
		printf("%s\n", shared->tap[i]);
		failed += !strncmp(shared->tap[i], "not", 3);
	}
	printf("%s the memory of a process without a device, and a read-only file, are as they were\n",
	       kept ? "ok" : "not ok");
	printf("%s no call takes longer than %llu ms, the longest %llu\n", timely ? "ok" : "not ok",
	       (unsigned long long)time_limit, (unsigned long long)worst);
	failed += !kept + !timely;
	return failed;
}

static bool drop_errno(const char *text)
{
	const char *colon = strrchr(text, ':');
	size_t c;
	int e;

	if (!colon)
		return false;
	for (e = 1; e < ERRNOS; e++)
		if (strerrorname_np(e) && !strcmp(colon + 1, strerrorname_np(e)))
			break;
	for (c = 0; c < NR_COMMANDS; c++)
		if (!strncmp(commands[c].name, text, colon - text) &&
		    !commands[c].name[colon - text])
			break;
	if (c == NR_COMMANDS || e == ERRNOS || !documented[c][e])
		return false;
	documented[c][e] = false;
	return true;
}

int main(int argc, char **argv)
{
	u64 calls = 100000, each = 25000, began, made;
	int workers = 4, only = -1, opt, failed = 0;
	bool corrupt = false, kept = true;
	long only_round = -1;
	const char *drop = NULL;
	char *kept_at;
	pid_t keeper, pid;

	while ((opt = getopt(argc, argv, "n:s:p:k:r:w:l:d:c")) != -1) {
		switch (opt) {
		case 'n':
			calls = strtoull(optarg, NULL, 10);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'p':
			workers = atoi(optarg);
			break;
		case 'k':
			each = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			only_round = atol(optarg);
			break;
		case 'w':
			only = atoi(optarg);
			break;
		case 'l':
			time_limit = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			drop = optarg;
			break;
		case 'c':
			corrupt = true;
			break;
		default:
			return 2;
		}
	}
	for (size_t c = 0; c < NR_COMMANDS; c++) {
		weights += commands[c].weight;
		documented[c][0] = commands[c].request;
		for (size_t i = 0; i < ARRAY_SIZE(commands[c].errnos); i++)
			if (commands[c].errnos[i])
				documented[c][commands[c].errnos[i]] = true;
		for (size_t g = 0; g < ARRAY_SIZE(common); g++)
			for (size_t i = 1; i < ARRAY_SIZE(common[g]); i++)
				if (commands[c].common & common[g][0] && common[g][i])
					documented[c][common[g][i]] = true;
	}
	if (optind != argc || workers < 1 || workers > MAX_WORKERS || only >= workers || !each ||
	    !calls || !time_limit || sysconf(_SC_PAGESIZE) != (long)PAGE ||
	    (drop && !drop_errno(drop))) {
		fprintf(stderr, "fuzz: bad usage, see the head of fuzz.c\n");
		return 2;
	}

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		err(1, "mmap");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	srand(seed);
	setvbuf(stdout, NULL, _IOLBF, 0);
	keeper = start_keeper(&kept_at);
	check_readonly(true);
	began = now_us();

	pid = start(2 * MAX_WORKERS);
	if (!pid)
		nobody_cannot_open();
	if (!wait_for(pid))
		goto out;
	open_nodes(0666);
	pid = start(2 * MAX_WORKERS);
	if (!pid)
		nobody_has_its_own((u64)kept_at);
	if (!wait_for(pid))
		goto out;

	fuzz_round = only_round >= 0 ? only_round : 0;
	for (made = 0; made < calls; fuzz_round++) {
		if (fuzz_round % 16 == 0 || only_round >= 0) {
			pid = start(2 * MAX_WORKERS);
			if (!pid)
				every_request();
			if (!wait_for(pid))
				break;
		}
		if (!run_round(workers, only, each))
			break;
		if (corrupt)
			corrupt_keeper(keeper, kept_at);
		kept = check_keeper(keeper, kept_at) && check_readonly(false);
		made = total();
		printf("# round %u: %llu calls so far, %llu a second\n", fuzz_round,
		       (unsigned long long)made,
		       (unsigned long long)(made * 1000000 / (now_us() - began)));
		if (!kept || only_round >= 0)
			break;
	}
out:
	end_all();
	kill(keeper, SIGKILL);
	open_nodes(0600);
	if (shared->failed) {
		printf("# %s\n", shared->failure);
		printf("# seed %llu, round %u\n", (unsigned long long)seed, fuzz_round);
		printf("not ok %s\n", shared->failure);
		failed++;
	}
	failed += results(kept, !strstr(shared->failure, "has not returned"));
	return failed > 0;
}
