// SPDX-License-Identifier: GPL-2.0
/*
 * oom-mirror NAME GROUP pte|thp: a process in the memory cgroup GROUP, which has a limit, is
 * killed when it wants more, while devices use its memory. Prints one line of TAP.
 *
 * The process opens the devices and makes its windows. A second one, outside of the cgroup,
 * has the same files, and lets the devices read and map the first one's memory all the time:
 * each request holds the address space, so that this does not end with its process. After
 * two seconds the OOM reaper takes the memory away. It must not wait for a lock, and the
 * driver's is busy during each DMA: who runs this counts that with a kprobe.
 *
 * What devices read has to be right until they are refused; nobody may see other memory in
 * place of what was reaped. In the end nothing is left in the IOMMU.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "lib/test_hmm_dma_uapi.h"
#include "lib/test_hmm_uapi.h"

#include "requests.h"

#define PMD		(2UL << 20)
#define SIZE		(16UL << 20)
#define NPAGES		(SIZE / PAGE)
#define TRANSFER	1024	/* of which the middle is where two pages meet */
#define ENOUGH		4
#define PATIENCE	600	/* seconds */

typedef uint64_t u64;

static const char *name;
static const char * volatile doing = "setting up";
static char *map;
static int edu, direct, mirror, other_edu;
static pid_t victim;
static volatile bool stop;
static volatile unsigned long reads, maps, mirrored, refused, ended, wrong;

static __attribute__((format(printf, 1, 2), noreturn)) void fail(const char *format, ...)
{
	va_list args;

	printf("not ok %s: ", name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	if (victim)
		kill(victim, SIGKILL);
	_exit(1);
}

static void on_alarm(int sig)
{
	(void)sig;
	fail("it hangs while %s", doing);
}

static u64 word_at(size_t offset)
{
	return (offset + 8) * 0x9e3779b97f4a7c15ULL | 1;
}

static bool right(const char *got, size_t offset, size_t n)
{
	for (size_t i = 0; i < n; i += 8)
		if (*(const u64 *)(got + i) != word_at(offset + i))
			return false;
	return true;
}

/* EFAULT: reaped, and the address space is still there. ESRCH: that is gone as well. */
static void count(const char *who, int ret, volatile unsigned long *good)
{
	if (!ret)
		__sync_fetch_and_add(good, 1);
	else if (ret == EFAULT)
		__sync_fetch_and_add(&refused, 1);
	else if (ret == ESRCH)
		__sync_fetch_and_add(&ended, 1);
	else
		fail("%s gets '%s'", who, strerror(ret));
	if (ret)
		usleep(5000);
}

static void *edu_reads(void *arg)
{
	unsigned int random = (uintptr_t)arg;

	while (!stop) {
		char buf[TRANSFER] __attribute__((aligned(8)));
		size_t offset = (1 + rand_r(&random) % (NPAGES - 1)) * PAGE - TRANSFER / 2;
		struct test_hmm_dma_xfer xfer = {
			.addr = (uintptr_t)map + offset,
			.ptr = (uintptr_t)buf,
			.size = TRANSFER,
		};
		int ret = request(edu, HMM_DMA_READ, &xfer);

		count("edu", ret, &reads);
		if (!ret && !right(buf, offset, TRANSFER))
			__sync_fetch_and_add(&wrong, 1);
	}
	return NULL;
}

static void *direct_maps(void *arg)
{
	(void)arg;
	while (!stop) {
		count("the direct device", window(direct, HMM_DMA_MAP, map, SIZE, 0), &maps);
		window(direct, HMM_DMA_UNMAP, map, SIZE, 0);
		usleep(10000);
	}
	return NULL;
}

static void *mirror_reads(void *arg)
{
	static char buf[PAGE] __attribute__((aligned(8)));
	unsigned int random = 5;

	(void)arg;
	while (!stop) {
		size_t offset = rand_r(&random) % NPAGES * PAGE;
		struct hmm_dmirror_cmd args = {
			.addr = (uintptr_t)map + offset,
			.ptr = (uintptr_t)buf,
			.npages = 1,
		};
		int ret = request(mirror, HMM_DMIRROR_READ, &args);

		count("test_hmm", ret, &mirrored);
		if (!ret && !right(buf, offset, PAGE))
			__sync_fetch_and_add(&wrong, 1);
		usleep(5000);
	}
	return NULL;
}

/* Is anything at the places of the window translated? */
static u64 left_behind(u64 base)
{
	for (size_t i = 0; i < NPAGES; i++) {
		struct test_hmm_dma_query q = { .dma = base + i * PAGE };
		int ret = request(other_edu, HMM_DMA_IOVA, &q);

		if (ret)
			fail("HMM_DMA_IOVA: %s", strerror(ret));
		if (q.iommu_phys)
			return q.iommu_phys;
	}
	return 0;
}

/* The process outside of the cgroup. */
static int helper(int ready)
{
	struct test_hmm_dma_query q = { .addr = (uintptr_t)map };
	time_t start = time(NULL);
	pthread_t threads[5];
	u64 base, phys;
	char byte;
	int ret;

	signal(SIGALRM, on_alarm);
	alarm(PATIENCE);
	doing = "the memory is filled";
	if (read(ready, &byte, 1) != 1)
		fail("the process has not filled its memory");
	other_edu = open("/dev/hmm_dma_edu", O_RDWR);
	if (other_edu < 0)
		fail("no edu: %s", strerror(errno));
	ret = window(edu, HMM_DMA_MAP, map, SIZE, HMM_DMA_MAP_WRITE);
	if (ret || request(edu, HMM_DMA_QUERY, &q) || !q.flags)
		fail("edu cannot map the memory: %s", strerror(ret));
	base = q.dma;
	/* The last one that the process has of the memory that edu could reach. */
	if (!left_behind(base))
		fail("the IOMMU has nothing at the window's addresses");

	for (uintptr_t i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, edu_reads, (void *)i);
	pthread_create(&threads[3], NULL, direct_maps, NULL);
	pthread_create(&threads[4], NULL, mirror_reads, NULL);
	doing = "devices access the memory";
	while (reads < ENOUGH || maps < ENOUGH || mirrored < ENOUGH)
		usleep(20000);
	if (refused || ended)
		fail("devices are refused before anybody is killed");
	if (!getenv("BREAK") || strcmp(getenv("BREAK"), "event"))
		kill(victim, SIGUSR1);
	doing = "the process is killed, and its memory reaped";
	while (!refused && !ended && time(NULL) - start < PATIENCE / 2)
		usleep(20000);
	/* Some more of the same. */
	usleep(3000000);
	doing = "devices stop";
	stop = true;
	for (int i = 0; i < 5; i++)
		pthread_join(threads[i], NULL);

	doing = "what is left is looked at";
	if (getenv("BREAK") && !strcmp(getenv("BREAK"), "byte"))
		wrong++;
	if (wrong)
		fail("devices read wrong bytes %lu times", wrong);
	if (!refused)
		fail("devices were never refused what had been reaped");
	ret = window(edu, HMM_DMA_MAP, map, PAGE, 0);
	if (ret != ESRCH)
		fail("edu can still map memory of the process: %s", strerror(ret));
	phys = left_behind(base);
	if (phys)
		fail("the IOMMU still translates to %#llx", (unsigned long long)phys);
	printf("ok %s # %lu transfers of edu, %lu of test_hmm, %lu maps; "
	       "refused %lu, no process %lu\n", name, reads, mirrored, maps, refused, ended);
	return 0;
}

static volatile sig_atomic_t go;

static void on_go(int sig)
{
	(void)sig;
	go = 1;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err(2, "%s", path);
	close(fd);
}

int main(int argc, char **argv)
{
	int ready[2], status, victim_status;
	char path[256];
	pid_t pid, child;
	bool thp;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 4 || (strcmp(argv[3], "pte") && strcmp(argv[3], "thp")))
		errx(2, "usage: oom-mirror NAME GROUP pte|thp");
	name = argv[1];
	thp = !strcmp(argv[3], "thp");
	snprintf(path, sizeof(path), "%s/cgroup.procs", argv[2]);
	if (pipe(ready))
		err(2, "pipe");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		err(2, "PR_SET_CHILD_SUBREAPER");
	pid = fork();
	if (!pid) {
		struct sigaction act = { .sa_handler = on_go };
		sigset_t block, old;

		sigaction(SIGUSR1, &act, NULL);
		sigemptyset(&block);
		sigaddset(&block, SIGUSR1);
		sigprocmask(SIG_BLOCK, &block, &old);
		map = mmap(NULL, SIZE + PMD, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (map == MAP_FAILED)
			fail("no memory");
		map = (char *)(((uintptr_t)map + PMD - 1) / PMD * PMD);
		madvise(map, SIZE, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		edu = open("/dev/hmm_dma_edu", O_RDWR);
		direct = open("/dev/hmm_dma_direct", O_RDWR);
		mirror = open("/dev/hmm_dmirror0", O_RDWR);
		if (edu < 0 || direct < 0 || mirror < 0)
			fail("no devices: %s", strerror(errno));
		if (window(edu, HMM_DMA_MIRROR, map, SIZE, 0) ||
		    window(direct, HMM_DMA_MIRROR, map, SIZE, 0))
			fail("no window: %s", strerror(errno));
		pid = getpid();
		child = fork();
		if (!child) {
			sigprocmask(SIG_SETMASK, &old, NULL);
			victim = pid;
			_exit(helper(ready[0]));
		}
		put(path, "0");
		for (size_t i = 0; i < SIZE; i += 8)
			*(u64 *)(map + i) = word_at(i);
		close(ready[0]);
		if (write(ready[1], "x", 1) != 1)
			_exit(3);
		while (!go)
			sigsuspend(&old);
		for (size_t i = 0; ; i += PAGE) {
			static char *more;

			if (i % SIZE == 0)
				more = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (more == MAP_FAILED)
				_exit(4);
			more[i % SIZE] = 1;
		}
	}
	close(ready[0]);
	close(ready[1]);
	/* The helper becomes a child of this process when its parent is killed. */
	if (waitpid(pid, &victim_status, 0) != pid)
		err(2, "waitpid");
	if (wait(&status) < 0)
		err(2, "wait");
	if (!WIFSIGNALED(victim_status) || WTERMSIG(victim_status) != SIGKILL)
		fail("the process was not killed: status %#x", victim_status);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
