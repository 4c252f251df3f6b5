// SPDX-License-Identifier: GPL-2.0
/*
 * scale [-t seconds] CASE...: does mirroring hold where there is much of everything?
 *
 *   processes   64 processes, each with two mirrors and a window, for some seconds (-t,
 *               default 30); every byte that a device moves is compared
 *   leaves      a window over 2^20 leaves of one page each
 *   notifiers   4,000 windows of one process, over one page and over pages of their own
 *   memcg       a memory cgroup that is too small for the record of a window
 *   latency     how long munmap() takes while a device faults what it unmaps
 *   curves      what it takes to unmap a page, and to move one, as windows, pages and
 *               processes grow in number
 *
 * latency and curves want QEMU's instruction clock and one CPU: a nanosecond is an
 * instruction then.
 *
 * Memory comes from HMM_DAX_* as for the selftest hmm_dax; memcg needs a cgroup file
 * system at /run/cgroup. Prints TAP. Exit status 1: something failed; 2: bad usage.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/test_hmm_dma_uapi.h"
#include "lib/test_hmm_uapi.h"

#include "../common/mix.h"
#include "../common/tap.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MIB		(1UL << 20)
#define GIB		(1UL << 30)

typedef uint64_t u64;

static size_t page;
static u64 seconds = 30;

static const char *need(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		errx(2, "%s is not set: run dax-storage and source /run/storage", name);
	return value;
}

static u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Requests to the devices: 0, or an error. */

static int request(int fd, unsigned long cmd, void *args)
{
	while (ioctl(fd, cmd, args))
		if (errno != EINTR)
			return errno;
	return 0;
}

static int mirror(int fd, void *p, size_t size)
{
	struct test_hmm_dma_window win = { .addr = (uintptr_t)p, .npages = size / page };

	return request(fd, HMM_DMA_MIRROR, &win);
}

static int dma_map(int fd, void *p, size_t size, u64 *leaves)
{
	struct test_hmm_dma_window win = {
		.addr = (uintptr_t)p,
		.npages = size / page,
		.flags = HMM_DMA_MAP_WRITE,
	};
	int ret = request(fd, HMM_DMA_MAP, &win);

	if (leaves)
		*leaves = win.mapped;
	return ret;
}

static bool is_mapped(int fd, void *p)
{
	struct test_hmm_dma_query q = { .addr = (uintptr_t)p };

	return !request(fd, HMM_DMA_QUERY, &q) && q.flags & HMM_DMA_IS_MAPPED;
}

static u64 invalidations(int fd)
{
	struct test_hmm_dma_stats stats = {};

	request(fd, HMM_DMA_STATS, &stats);
	return stats.invalidations;
}

static int device(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(2, "%s", name);
	return fd;
}

#define DIRECT	"/dev/hmm_dma_direct"
#define EDU	"/dev/hmm_dma_edu"

/* Addresses that nothing else has, from a multiple of 1 GiB on. */
static char *room(size_t size)
{
	char *p = mmap(NULL, size + GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	if (p == MAP_FAILED)
		err(2, "mmap of %zu bytes of addresses", size);
	return (char *)(((uintptr_t)p + GIB - 1) / GIB * GIB);
}

static void map_file(char *p, size_t size, int fd, off_t at)
{
	if (mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, at) == MAP_FAILED)
		err(2, "mmap of a file");
}

static int make_file(const char *dir, size_t size)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 || posix_fallocate(fd, 0, size))
		err(2, "%s: a file of %zu bytes", dir, size);
	return fd;
}

/* processes */

#define PROCESSES	64
#define SLICE		(2 * MIB)

struct shared {
	volatile bool start, stop;
	volatile int ready;
	struct {
		u64 moved, invalidations, end;
		char failure[120];
	} of[PROCESSES];
};

static void fill(char *p, u64 x)
{
	for (size_t i = 0; i < page / sizeof(x); i++)
		((u64 *)p)[i] = x += 0x9e3779b97f4a7c15ULL;
}

/* One mirror writes what another reads, the CPU checks, and a window comes and goes. */
static const char *move(char *p, const int *mirrors, int dma, u64 x, char *buf, char *want)
{
	char *at = p + x / 16 % (SLICE / page) * page;
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)buf,
		.npages = 1,
	};
	int ret;

	fill(want, x);
	memcpy(buf, want, page);
	/* EBUSY: the other processes kept the memory busy for a second. */
	while ((ret = request(mirrors[x & 1], HMM_DMIRROR_WRITE, &args)) == EBUSY)
		;
	if (ret)
		return "the first mirror cannot write";
	if (memcmp(at, want, page))
		return "the CPU does not find what a mirror wrote";
	fill(want, ~x);
	memcpy(at, want, page);
	while ((ret = request(mirrors[~x & 1], HMM_DMIRROR_READ, &args)) == EBUSY)
		;
	if (ret)
		return "the second mirror cannot read";
	if (memcmp(buf, want, page))
		return "a mirror does not find what the CPU wrote";
	while ((ret = dma_map(dma, at, page, NULL)) == EBUSY)
		;
	if (ret || !is_mapped(dma, at))
		return "the window cannot be mapped";
	if (x >> 2 & 1) {
		/* The bytes of a file remain. */
		madvise(at, page, MADV_DONTNEED);
		if (is_mapped(dma, at))
			return "the window keeps what the process has lost";
	}
	return NULL;
}

/* Moves @most pages at most, and stops earlier when it is told to. */
static __attribute__((noreturn))
void one_process(struct shared *s, int n, int file, u64 most)
{
	const char *failure = NULL;
	int mirrors[2], dma;
	char *p[2], *buf = malloc(2 * page);
	u64 x = n + 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mirrors[0] = device("/dev/hmm_dmirror0");
	mirrors[1] = device("/dev/hmm_dmirror1");
	dma = device(DIRECT);
	/* A file and, beside it, private memory, in one window. */
	p[0] = room(2 * SLICE);
	p[1] = p[0] + SLICE;
	map_file(p[0], SLICE, file, n * SLICE);
	if (mprotect(p[1], SLICE, PROT_READ | PROT_WRITE) || mirror(dma, p[0], 2 * SLICE))
		failure = "no window";
	__atomic_add_fetch(&s->ready, 1, __ATOMIC_SEQ_CST);
	while (!s->start)
		usleep(1000);
	while (!failure && !s->stop && s->of[n].moved < most) {
		x = mix(x + 0x9e3779b97f4a7c15ULL);
		failure = move(p[x >> 3 & 1], mirrors, dma, x, buf, buf + page);
		s->of[n].moved++;
	}
	s->of[n].end = now();
	s->of[n].invalidations = invalidations(dma);
	if (failure)
		snprintf(s->of[n].failure, sizeof(s->of[n].failure), "%s (%s)", failure,
			 strerror(errno));
	_exit(0);
}

static struct shared *start_processes(int nr, int file, u64 most)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		err(2, "mmap");
	for (int n = 0; n < nr; n++) {
		pid_t pid = fork();

		if (pid < 0)
			err(2, "fork");
		if (!pid)
			one_process(s, n, file, most);
	}
	for (; s->ready < nr; usleep(1000))
		if (waitpid(-1, NULL, WNOHANG) > 0)
			errx(2, "a process ended before it began");
	s->start = true;
	return s;
}

/* Whether all were as they should be. */
static bool end_processes(struct shared *s, int nr)
{
	bool good = true;

	for (int status, left = nr; left && wait(&status) > 0; left--)
		good &= !status;
	for (int n = 0; n < nr; n++)
		if (*s->of[n].failure) {
			printf("# process %d: %s\n", n, s->of[n].failure);
			good = false;
		}
	return good;
}

static void processes(void)
{
	int file = make_file(need("HMM_DAX_EXT4"), PROCESSES * SLICE);
	struct shared *s = start_processes(PROCESSES, file, ~0ULL);
	u64 moved = 0, invalidated = 0, least;
	time_t end = time(NULL) + seconds;
	bool good;

	/* Each gets its turn, however slow the machine is. */
	for (least = 0; time(NULL) < end || (!least && time(NULL) < end + 600); sleep(1)) {
		least = ~0ULL;
		for (int n = 0; n < PROCESSES; n++)
			if (s->of[n].moved < least)
				least = s->of[n].moved;
	}
	s->stop = true;
	good = end_processes(s, PROCESSES);
	for (int n = 0; n < PROCESSES; n++) {
		moved += s->of[n].moved;
		invalidated += s->of[n].invalidations;
	}
	result(good && least, "processes: %d, %llu pages moved (at least %llu each), %llu invalidations",
	       PROCESSES, (unsigned long long)moved, (unsigned long long)least,
	       (unsigned long long)invalidated);
	close(file);
	munmap(s, sizeof(*s));
}

/* leaves */

static void leaves(void)
{
	static const char * const names[] = { DIRECT, EDU };
	size_t slice = 64 * MIB, nr = 1UL << 20, size = nr * page;
	int file = open(need("HMM_DAX_DEV_PTE"), O_RDWR);
	char *p = room(size);

	if (file < 0)
		err(2, "%s", need("HMM_DAX_DEV_PTE"));
	for (size_t at = 0; at < size; at += slice)
		map_file(p + at, slice, file, 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int fd = device(names[i]), ret = mirror(fd, p, size);
		size_t hole = size / 2, wrong = 0;
		u64 found = 0;

		if (!ret)
			ret = dma_map(fd, p, size, &found);
		result(!ret && found == nr, "leaves: %s maps %llu of %zu%s%s", names[i],
		       (unsigned long long)found, nr, ret ? ": " : "", ret ? strerror(ret) : "");
		/* A hole in the middle: that is gone, and nothing else. */
		if (madvise(p + hole, slice, MADV_DONTNEED))
			err(2, "madvise");
		for (size_t at = 0; at < size; at += 31 * page)
			wrong += is_mapped(fd, p + at) != (at < hole || at >= hole + slice);
		result(!wrong, "leaves: %s has all but %zu MiB that are gone, %zu wrong", names[i],
		       slice / MIB, wrong);
		ret = dma_map(fd, p, size, &found);
		result(!ret && found == slice / page, "leaves: %s maps these again: %llu", names[i],
		       (unsigned long long)found);
		close(fd);
	}
	munmap(p, size);
	close(file);
}

/* notifiers */

static void notifiers(void)
{
	enum { NR = 4000 };
	static int fds[NR];
	struct rlimit limit = { NR + 100, NR + 100 };
	char *p = room((NR + 1) * page);
	u64 alone, among, all, called = 0;
	size_t wrong = 0, others = 0;

	if (setrlimit(RLIMIT_NOFILE, &limit) || mprotect(p, (NR + 1) * page, PROT_READ | PROT_WRITE))
		err(2, "notifiers");
	/* What it takes to unmap a page that nobody mirrors: alone, and among many. */
	p[NR * page] = 1;
	alone = now();
	madvise(p + NR * page, page, MADV_DONTNEED);
	alone = now() - alone;
	for (int i = 0; i < NR; i++) {
		fds[i] = device(DIRECT);
		if (mirror(fds[i], p + i * page, page) || dma_map(fds[i], p + i * page, page, NULL))
			wrong++;
	}
	p[NR * page] = 1;
	among = now();
	madvise(p + NR * page, page, MADV_DONTNEED);
	among = now() - among;
	for (int i = 0; i < NR; i++)
		others += invalidations(fds[i]);
	result(!wrong && !others, "notifiers: %d windows beside each other, %zu wrong; a page that none has calls %zu",
	       NR, wrong, others);
	all = now();
	madvise(p, NR * page, MADV_DONTNEED);
	all = now() - all;
	for (int i = 0; i < NR; i++) {
		wrong += is_mapped(fds[i], p + i * page);
		called += invalidations(fds[i]);
	}
	result(!wrong && called == NR, "notifiers: what they all lose is gone from %llu, %zu wrong",
	       (unsigned long long)called, wrong);
	/* The same page for all. */
	for (int i = 0; i < NR; i++)
		if (mirror(fds[i], p, page) || dma_map(fds[i], p, page, NULL))
			wrong++;
	madvise(p, page, MADV_DONTNEED);
	for (int i = 0; i < NR; i++) {
		wrong += is_mapped(fds[i], p);
		close(fds[i]);
	}
	result(!wrong, "notifiers: %d windows over one page, %zu wrong", NR, wrong);
	printf("# ns to unmap a page: %llu with no notifier, %llu beside %d; %llu to unmap these\n",
	       (unsigned long long)alone, (unsigned long long)among, NR, (unsigned long long)all);
	munmap(p, (NR + 1) * page);
}

/* memcg */

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err(2, "%s", path);
	close(fd);
}

static long read_number(const char *path, const char *name)
{
	char line[128];
	long value = -1;
	FILE *f = fopen(path, "r");
	size_t n = strlen(name);

	if (!f)
		err(2, "%s", path);
	while (fgets(line, sizeof(line), f))
		if (!n || (!strncmp(line, name, n) && line[n] == ' ')) {
			value = atol(line + n);
			break;
		}
	fclose(f);
	return value;
}

#define GROUP	"/run/cgroup/scale"

/* What is there is mapped; nothing is faulted. Returns 0, or an error. */
static int map_all(int fd, char *p, size_t size)
{
	int ret = 0;

	for (size_t at = 0; at < size && !ret; at += 64 * MIB) {
		struct test_hmm_dma_window win = {
			.addr = (uintptr_t)p + at,
			.npages = 64 * MIB / page,
			.flags = HMM_DMA_MAP_SNAPSHOT,
		};

		ret = request(fd, HMM_DMA_MAP, &win);
	}
	return ret;
}

static long record(void)
{
	return read_number(GROUP "/memory.stat", "slab_unreclaimable");
}

/*
 * A page here and there: each takes a node of the record, of which memory is charged, while
 * the pages themselves, of a device-dax, are none.
 */
static __attribute__((noreturn)) void in_group(long limit, int report)
{
	size_t slice = 64 * MIB, size = 256 * slice, wrong = 0;
	/* Without an IOMMU, nothing has to be unmapped, and there is no record. */
	int file = open(need("HMM_DAX_DEV_PTE"), O_RDWR), fd = device(EDU), ret;
	long before, slab, charged, after = 0;
	char *p = room(size), text[32];

	write_text(GROUP "/cgroup.procs", "0");
	for (size_t at = 0; at < size; at += slice)
		map_file(p + at, slice, file, 0);
	/* Page tables and the driver's own array are there before the record is. */
	for (size_t at = 0; at < size; at += 2 * MIB)
		*(volatile char *)(p + at);
	if (mirror(fd, p, size))
		errx(2, "no window");
	before = read_number(GROUP "/memory.current", "");
	slab = record();
	if (limit) {
		snprintf(text, sizeof(text), "%ld", before + limit);
		write_text(GROUP "/memory.max", text);
	}
	ret = map_all(fd, p, size);
	charged = record() - slab;
	for (size_t at = 0; at < size; at += 2 * MIB)
		wrong += !is_mapped(fd, p + at) + is_mapped(fd, p + at + page);
	madvise(p, size, MADV_DONTNEED);
	for (int tries = 0; tries < 50; tries++) {
		after = record() - slab;
		if (after < charged / 4)
			break;
		usleep(100000);
	}
	dprintf(report, "%d %zu %ld %ld", ret, wrong, charged, after);
	_exit(0);
}

static int run_in_group(long limit, int report)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		in_group(limit, report);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(2, "fork");
	return status;
}

static void memcg(void)
{
	int pipes[2], ret = -1, status;
	long charged = 0, after = 0, kills, left;
	char text[128] = "";
	size_t wrong = 0;

	if (pipe2(pipes, O_NONBLOCK) || (mkdir(GROUP, 0755) && errno != EEXIST))
		err(2, "%s", GROUP);
	status = run_in_group(0, pipes[1]);
	if (read(pipes[0], text, sizeof(text) - 1) <= 0 ||
	    sscanf(text, "%d %zu %ld %ld", &ret, &wrong, &charged, &after) != 4)
		ret = -1;
	result(!status && !ret && !wrong && charged > 0,
	       "memcg: no limit: all is mapped (%zu wrong), %ld bytes charged", wrong, charged);
	result(!ret && after < charged / 4, "memcg: %ld bytes remain when that is unmapped", after);

	/* Where user memory is charged as well, the kernel kills who asks for more. */
	status = run_in_group(charged / 4, pipes[1]);
	kills = read_number(GROUP "/memory.events", "oom_kill");
	for (int tries = 0; tries < 50; tries++) {
		left = read_number(GROUP "/memory.current", "");
		if (left < charged / 4)
			break;
		usleep(100000);
	}
	result(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && kills > 0,
	       "memcg: a quarter of that is allowed: the process is killed (%ld times)", kills);
	result(left < charged / 4, "memcg: then %ld bytes remain", left);
	if (rmdir(GROUP))
		result(false, "memcg: %s: %s", GROUP, strerror(errno));
}

/* latency */

static struct {
	int fd;
	char *p;
	size_t size, step;
	volatile bool stop;
	u64 faults;
} faulting;

static void *fault(void *arg)
{
	(void)arg;
	while (!faulting.stop) {
		/* What it wants is gone at times. */
		dma_map(faulting.fd, faulting.p, faulting.size, NULL);
		faulting.faults++;
	}
	return NULL;
}

/* The longest and the middle one of @n times that @step bytes are unmapped. */
static void unmap_some(u64 *median, u64 *longest)
{
	enum { N = 200 };
	static u64 took[N];
	u64 x = 1;

	for (int i = 0; i < N; i++) {
		char *at;

		x = mix(x + 0x9e3779b97f4a7c15ULL);
		at = faulting.p + x % (faulting.size / faulting.step) * faulting.step;
		took[i] = now();
		madvise(at, faulting.step, MADV_DONTNEED);
		took[i] = now() - took[i];
		usleep(x >> 32 & 1023);
	}
	for (int i = 1; i < N; i++)
		for (int j = i; j && took[j - 1] > took[j]; j--) {
			u64 t = took[j];

			took[j] = took[j - 1];
			took[j - 1] = t;
		}
	*median = took[N / 2];
	*longest = took[N - 1];
}

/*
 * @most: the longest that munmap() may wait for the device's fault. The test driver has an
 * entry for each page, which it writes under its lock.
 */
static void latency_of(const char *name, int file, size_t size, size_t step, u64 most)
{
	u64 quiet, quietest, median, longest;
	pthread_t thread;
	char *p = room(size);

	faulting.p = p;
	faulting.size = size;
	faulting.step = step;
	faulting.faults = 0;
	faulting.stop = false;
	map_file(p, size, file, 0);
	unmap_some(&quiet, &quietest);
	faulting.fd = device(EDU);
	if (mirror(faulting.fd, p, size))
		errx(2, "latency: no window");
	if (pthread_create(&thread, NULL, fault, NULL))
		errx(2, "latency: no thread");
	unmap_some(&median, &longest);
	faulting.stop = true;
	pthread_join(thread, NULL);
	result(longest <= most && faulting.faults > 0 && invalidations(faulting.fd) > 0,
	       "latency: %s, unmapped by %zu KiB: at most %llu ns, may be %llu", name,
	       step / 1024, (unsigned long long)longest, (unsigned long long)most);
	printf("# median %llu ns; not mirrored: median %llu, longest %llu; %llu faults\n",
	       (unsigned long long)median, (unsigned long long)quiet,
	       (unsigned long long)quietest, (unsigned long long)faulting.faults);
	close(faulting.fd);
	munmap(p, size);
}

static void latency(void)
{
	int pud = open(need("HMM_DAX_DEV_PUD"), O_RDWR), pte = open(need("HMM_DAX_DEV_PTE"), O_RDWR);
	int pmd = open(need("HMM_DAX_DEV_PMD"), O_RDWR);

	if (pud < 0 || pmd < 0 || pte < 0)
		err(2, "device-dax");
	latency_of("64 MiB of PTE leaves", pte, 64 * MIB, page, 1000000);
	latency_of("128 MiB of PMD leaves", pmd, 128 * MIB, 2 * MIB, 1000000);
	latency_of("1 GiB, a PUD leaf", pud, GIB, GIB, 20000000);
}

/* curves */

/* A curve's points, which make bench draws. */
static u64 point(const char *curve, size_t n, u64 cost)
{
	printf("curve %s %zu %llu\n", curve, n, (unsigned long long)cost);
	return cost;
}

/* The least that it took, in three runs, to unmap @size bytes that the windows have mapped. */
static u64 unmap_cost(char *p, size_t size, const int *fds, int nr)
{
	u64 least = ~0ULL;

	for (int run = 0; run < 3; run++) {
		u64 took;

		for (int i = 0; i < nr; i++)
			if (dma_map(fds[i], p, size, NULL))
				errx(2, "curves: window %d cannot be mapped", i);
		for (size_t at = 0; at < size; at += page)
			p[at] = 1;
		took = now();
		madvise(p, size, MADV_DONTNEED);
		took = now() - took;
		if (took < least)
			least = took;
	}
	return least;
}

#define MANY	4000

/* One page more is unmapped, which no window has; then a page that all have. */
static void curves_of_windows(void)
{
	static const int numbers[] = { 0, 1, 4, 16, 64, 256, 1024, MANY };
	static int fds[MANY];
	char *p = room((MANY + 1) * page), *other = p + MANY * page;
	u64 beside[ARRAY_SIZE(numbers)], over[ARRAY_SIZE(numbers)];
	int nr = 0;

	if (mprotect(p, (MANY + 1) * page, PROT_READ | PROT_WRITE))
		err(2, "mprotect");
	for (size_t n = 0; n < ARRAY_SIZE(numbers); n++) {
		for (; nr < numbers[n]; nr++) {
			fds[nr] = device(DIRECT);
			if (mirror(fds[nr], p + nr * page, page))
				errx(2, "curves: no window %d", nr);
		}
		beside[n] = point("windows_beside", nr, unmap_cost(other, page, NULL, 0));
	}
	while (nr)
		close(fds[--nr]);
	for (size_t n = 0; n < ARRAY_SIZE(numbers); n++) {
		for (; nr < numbers[n]; nr++) {
			fds[nr] = device(DIRECT);
			if (mirror(fds[nr], p, page))
				errx(2, "curves: no window %d", nr);
		}
		over[n] = point("windows_over", nr, unmap_cost(p, page, fds, nr));
	}
	while (nr)
		close(fds[--nr]);
	munmap(p, (MANY + 1) * page);
	result(beside[ARRAY_SIZE(numbers) - 1] < 2 * beside[1],
	       "curves: %d windows cost a page that they do not have less than twice of what one costs",
	       MANY);
	/* By window: what the first 64 cost each, with a quarter more for caches. */
	result((over[7] - over[0]) / MANY < (over[4] - over[0]) * 5 / 4 / numbers[4],
	       "curves: each of %d windows over a page costs no more than each of %d", MANY,
	       numbers[4]);
}

static void curves_of_pages(void)
{
	static const size_t numbers[] = { 1, 8, 64, 512, 4096, 1 << 15, 1 << 18 };
	size_t slice = 64 * MIB, size = numbers[6] * page;
	int file = open(need("HMM_DAX_DEV_PTE"), O_RDWR), fd = device(EDU);
	char *p = room(size);
	u64 cost[ARRAY_SIZE(numbers)];

	if (file < 0)
		err(2, "%s", need("HMM_DAX_DEV_PTE"));
	for (size_t at = 0; at < size; at += slice)
		map_file(p + at, slice, file, 0);
	for (size_t n = 0; n < ARRAY_SIZE(numbers); n++)
		point("pages_not_mirrored", numbers[n],
		      unmap_cost(p, numbers[n] * page, NULL, 0));
	if (mirror(fd, p, size))
		errx(2, "curves: no window");
	for (size_t n = 0; n < ARRAY_SIZE(numbers); n++)
		cost[n] = point("pages_mirrored", numbers[n],
				unmap_cost(p, numbers[n] * page, &fd, 1));
	result(cost[6] / numbers[6] < cost[3] * 5 / 4 / numbers[3],
	       "curves: each of %zu pages costs no more than each of %zu", numbers[6], numbers[3]);
	close(fd);
	munmap(p, size);
	close(file);
}

static void curves_of_processes(void)
{
	static const int numbers[] = { 1, 4, 16, PROCESSES };
	int file = make_file(need("HMM_DAX_EXT4"), PROCESSES * SLICE);
	const u64 moves = 200;
	u64 cost[ARRAY_SIZE(numbers)];
	bool good = true;

	for (size_t n = 0; n < ARRAY_SIZE(numbers); n++) {
		u64 begin, end = 0;
		struct shared *s = start_processes(numbers[n], file, moves);

		begin = now();
		good &= end_processes(s, numbers[n]);
		for (int i = 0; i < numbers[n]; i++)
			if (s->of[i].end > end)
				end = s->of[i].end;
		cost[n] = point("processes", numbers[n], (end - begin) / moves / numbers[n]);
		munmap(s, sizeof(*s));
	}
	close(file);
	result(good && cost[3] < 2 * cost[0],
	       "curves: a page that one of %d processes moves costs less than twice of what it costs one alone",
	       PROCESSES);
}

static void curves(void)
{
	struct rlimit limit = { MANY + 100, MANY + 100 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		err(2, "setrlimit");
	curves_of_windows();
	curves_of_pages();
	curves_of_processes();
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "processes", processes },
	{ "leaves", leaves },
	{ "notifiers", notifiers },
	{ "memcg", memcg },
	{ "latency", latency },
	{ "curves", curves },
};

int main(int argc, char **argv)
{
	size_t i;

	page = sysconf(_SC_PAGESIZE);
	for (int opt; (opt = getopt(argc, argv, "t:")) != -1;)
		if (opt == 't')
			seconds = strtoull(optarg, NULL, 10);
		else
			errx(2, "usage: scale [-t seconds] case...");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (optind == argc)
		errx(2, "usage: scale [-t seconds] case...");
	for (; optind < argc; optind++) {
		for (i = 0; i < ARRAY_SIZE(cases) && strcmp(cases[i].name, argv[optind]); i++)
			;
		if (i == ARRAY_SIZE(cases))
			errx(2, "there is no case %s", argv[optind]);
		cases[i].run();
	}
	return failures > 0;
}
