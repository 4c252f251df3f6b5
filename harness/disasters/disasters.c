// SPDX-License-Identifier: GPL-2.0
/*
 * disasters NAME MEMORY FATE EVENT [AGAIN]: devices access memory of a process all the
 * time; then something happens to the memory or to a device, and what the process and
 * the devices get has to be what is documented. Prints one line of TAP.
 *
 *   MEMORY   ext4_pte ... devdax_pud, anon_pte, thp: see places[]. Memory for DAX comes
 *            from HMM_DAX_*, as for the selftest hmm_dma
 *   FATE     what the event does:
 *     same       the process notices nothing: all bytes stay, and devices go on
 *     moved      the same, but the victim's bytes are in another page then
 *     page       one page, the victim, has no memory any more: SIGBUS for the CPU and
 *                EFAULT or EHWPOISON for devices; its neighbours stay
 *     reported   the process gets SIGBUS, but the victim still has its memory
 *     lost       all memory is taken away: SIGBUS and EFAULT
 *     no-edu     the device goes, not the memory: ENODEV
 *     surprise   the same, but until its driver knows, ETIMEDOUT, too
 *   EVENT    poison or soft for MADV_HWPOISON or MADV_SOFT_OFFLINE of the victim, none,
 *            or a command. It finds the victim's physical address in PHYS, a process id
 *            in PID, and the CPU that a thread of it is busy on, in user mode, in CPU
 *   AGAIN    a command that brings back what is lost. The bytes must be there then
 *
 * The devices: test_hmm_dma's edu, by DMA through the IOMMU, and its device without IOMMU,
 * test_hmm's mirror, and soft-RoCE where there is one. Each of them reads pages that
 * nobody writes, and writes pages of its own.
 *
 * disasters unload ROUNDS: remove test_hmm_dma and test_hmm as soon as their files are
 * closed, in every other round by a signal that kills the process, while memory that they
 * mirrored changes all the time.
 *
 * Environment: BREAK=event leaves the event out, BREAK=byte changes a byte: either must
 * make the test fail. MIB: the size of anonymous memory. SPARE=yes: the devices in software
 * do not access the victim. After a machine check the kernel has no mapping of it, and
 * crashes when a driver reads a page for such a device. EARLY=yes: the process asks for a
 * signal as soon as its memory breaks (PR_MCE_KILL_EARLY). SPIN=yes: it has a thread that is
 * busy in user mode on CPU 1.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/test_hmm_dma_uapi.h"
#include "lib/test_hmm_uapi.h"

#include "../common/mix.h"
#include "../stress/rdma.h"
#include "requests.h"

#ifndef MADV_HWPOISON
#define MADV_HWPOISON		100
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PMD		(2UL << 20)
#define PUD		(1UL << 30)
#define EDU_AT		256	/* where in a page edu writes */
#define EDU_BYTES	16
#define NR_PLACES	24
#define VICTIM		13	/* index of a place that nobody writes */
#define ENOUGH		3	/* accesses of each device before and after the event */
#define PATIENCE	900	/* seconds; then something hangs */

typedef uint64_t u64;

enum fate { SAME, MOVED, PAGE_LOST, REPORTED, LOST, NO_EDU, SURPRISE, NR_FATES };
static const char * const fates[NR_FATES] = {
	"same", "moved", "page", "reported", "lost", "no-edu", "surprise"
};

static const struct memory {
	const char *name, *env;
	size_t leaf, size;
	bool file;
} memories[] = {
	{ "ext4_pte", "HMM_DAX_EXT4", PAGE, PMD, true },
	{ "ext4_pmd", "HMM_DAX_EXT4", PMD, 4 * PMD, true },
	{ "xfs_pte", "HMM_DAX_XFS", PAGE, PMD, true },
	{ "xfs_pmd", "HMM_DAX_XFS", PMD, 4 * PMD, true },
	{ "devdax_pte", "HMM_DAX_DEV_PTE", PAGE, PMD, false },
	{ "devdax_pmd", "HMM_DAX_DEV_PMD", PMD, 4 * PMD, false },
	{ "devdax_pud", "HMM_DAX_DEV_PUD", PUD, PUD, false },
	{ "anon_pte", NULL, PAGE, PMD, false },
	{ "thp", NULL, PMD, 4 * PMD, false },
};

/* Who writes a page, besides this process before the devices begin. */
enum owner { NOBODY, EDU, MIRROR, RDMA_DEV, DIRECT, NR_OWNERS };
static const char * const owners[NR_OWNERS] = {
	"the CPU", "edu", "test_hmm", "soft-RoCE", "the direct device"
};

/* A page that is looked at. A write that failed may have happened or not. */
struct place {
	size_t page;
	enum owner owner;
	u64 version, tried;
};

static const char *name;
static const struct memory *memory;
static enum fate fate;
static char *map;
static size_t size, npages;
static struct place places[NR_PLACES];
static int edu = -1, direct = -1, mirror = -1, file = -1;
static struct rdma_region *region;
static bool with_rdma, broken_byte, broken_event, spare_victim;
static u64 base;		/* DMA address of the window's start */

/* Phases of a run. */
enum { BEFORE, DURING, AFTER, STOP };
static volatile int phase;
static volatile unsigned long done[NR_OWNERS], tried[NR_OWNERS], refused[NR_OWNERS];
static volatile sig_atomic_t signals;
static const char * volatile doing = "setting up";

static __attribute__((format(printf, 1, 2), noreturn)) void fail(const char *format, ...)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	va_list args;

	pthread_mutex_lock(&once);
	printf("not ok %s: ", name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

static __attribute__((format(printf, 1, 2), noreturn)) void skip(const char *format, ...)
{
	va_list args;

	printf("ok %s # SKIP ", name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(0);
}

static void on_alarm(int sig)
{
	static const char text[] = ": it hangs while ";

	(void)sig;
	if (write(1, "not ok ", 7) > 0 && write(1, name, strlen(name)) > 0 &&
	    write(1, text, strlen(text)) > 0 && write(1, doing, strlen(doing)) > 0 &&
	    write(1, "\n", 1) > 0)
		_exit(1);
	_exit(2);
}

/* What page @i has in its version @v: never zeroes. */
static void pattern(char *to, size_t i, u64 v)
{
	u64 word = mix((i + 1) * 0x9e3779b97f4a7c15ULL + v) | 1;

	for (size_t j = 0; j < PAGE / 8; j++)
		((u64 *)to)[j] = word + (j << 1);
}

/* What edu writes in version @v. */
static void edu_pattern(char *to, size_t i, u64 v)
{
	u64 words[2] = { mix(i * 77 + v) | 1, mix(~i + v) | 1 };

	memcpy(to, words, EDU_BYTES);
}

/* The whole page as it must be. */
static void wanted(const struct place *p, u64 version, char *to)
{
	pattern(to, p->page, p->owner == EDU ? 0 : version);
	if (p->owner == EDU && version)
		edu_pattern(to + EDU_AT, p->page, version);
}

static int transfer(int fd, unsigned long cmd, char *at, void *buf, size_t bytes)
{
	struct test_hmm_dma_xfer xfer = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)buf,
		.size = bytes,
	};

	return request(fd, cmd, &xfer);
}

static struct test_hmm_dma_query query(int fd, char *at)
{
	struct test_hmm_dma_query q = { .addr = (uintptr_t)at };

	if (request(fd, HMM_DMA_QUERY, &q))
		q.flags = 0;
	return q;
}

/* What the IOMMU has at a DMA address; 0: nothing. */
static u64 translation(int fd, u64 dma)
{
	struct test_hmm_dma_query q = { .dma = dma };
	int ret = request(fd, HMM_DMA_IOVA, &q);

	if (ret)
		fail("HMM_DMA_IOVA: %s", strerror(ret));
	return q.iommu_phys;
}

static int dmirror(unsigned long cmd, char *at, char *buf)
{
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)buf,
		.npages = 1,
	};

	return request(mirror, cmd, &args);
}

/* CPU accesses, of which any can end in SIGBUS. */
static __thread sigjmp_buf caught;
static __thread volatile bool catching;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	static const char text[] = ": SIGBUS outside of an access\n";

	(void)sig;
	(void)context;
	if (catching && info->si_code != BUS_MCEERR_AO)
		siglongjmp(caught, 1);
	signals++;
	if (fate == PAGE_LOST || fate == REPORTED || fate == LOST)
		return;
	if (write(1, "not ok ", 7) > 0 && write(1, name, strlen(name)) > 0 &&
	    write(1, text, strlen(text)) > 0)
		_exit(1);
	_exit(2);
}

static bool cpu_copy(void *to, const void *from, size_t n)
{
	volatile bool ok = false;

	if (!sigsetjmp(caught, 1)) {
		catching = true;
		__asm__ volatile("" : : : "memory");
		memcpy(to, from, n);
		__asm__ volatile("" : : : "memory");
		ok = true;
	}
	catching = false;
	return ok;
}

static u64 pfn_of(char *at)
{
	u64 entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)at / PAGE * 8) != 8)
		fail("pagemap: %s", strerror(errno));
	close(fd);
	return entry & (1ULL << 63) ? entry & ((1ULL << 55) - 1) : 0;
}

/* Pages that are filled and compared; a leaf of 1 GiB has too many to do it with all. */
static bool filled(size_t i)
{
	if (npages <= 32768 || i % 509 == 0)
		return true;
	for (int k = 0; k < NR_PLACES; k++)
		if (places[k].page == i)
			return true;
	return false;
}

static struct place *place_of(size_t i)
{
	for (int k = 0; k < NR_PLACES; k++)
		if (places[k].page == i)
			return &places[k];
	return NULL;
}

/* @got is what somebody finds in the page; @whole or EDU_BYTES at EDU_AT. */
static void compare(struct place *p, const char *who, const char *got, bool whole)
{
	char want[PAGE], other[PAGE];
	size_t from = whole ? 0 : EDU_AT, n = whole ? PAGE : EDU_BYTES;

	wanted(p, p->version, want);
	if (!memcmp(got, want + from, n))
		return;
	wanted(p, p->tried, other);
	if (!memcmp(got, other + from, n))
		return;
	for (size_t i = 0; i < n; i++)
		if (got[i] != want[from + i])
			fail("%s finds %#x in byte %zu of page %zu, written by %s: must be %#x",
			     who, (unsigned char)got[i], from + i, p->page,
			     owners[p->owner], (unsigned char)want[from + i]);
}

static bool may_fail(enum owner who, size_t page, int error)
{
	bool poison = error == EFAULT || error == EHWPOISON;

	if (phase == BEFORE)
		return false;
	switch (fate) {
	case PAGE_LOST:
		return poison && page == places[VICTIM].page;
	case LOST:
		return error == EFAULT;
	case NO_EDU:
		return who == EDU && error == ENODEV;
	case SURPRISE:
		return who == EDU && (error == ENODEV || error == ETIMEDOUT || error == EIO);
	default:
		return false;
	}
}

/* A device had this error, or 0. */
static void outcome(enum owner who, struct place *p, const char *what, int error)
{
	tried[who]++;
	if (!error) {
		done[who]++;
		return;
	}
	if (!may_fail(who, p->page, error))
		fail("%s cannot %s page %zu%s: %s (phase %d)", owners[who], what, p->page,
		     p == &places[VICTIM] ? ", the victim" : "", strerror(error), phase);
	refused[who]++;
}

/* soft-RoCE only says that it failed. */
static int rdma_error(bool ok)
{
	return ok ? 0 : fate == PAGE_LOST || fate == LOST ? EFAULT : EREMOTEIO;
}

static int access_page(enum owner who, struct place *p, bool write, char *buf)
{
	char *at = map + p->page * PAGE;
	int ret;

	switch (who) {
	case EDU:
		if (!write)
			return transfer(edu, HMM_DMA_READ, at + EDU_AT, buf, EDU_BYTES);
		edu_pattern(buf, p->page, p->tried);
		return transfer(edu, HMM_DMA_WRITE, at + EDU_AT, buf, EDU_BYTES);
	case MIRROR:
		if (!write)
			return dmirror(HMM_DMIRROR_READ, at, buf);
		pattern(buf, p->page, p->tried);
		return dmirror(HMM_DMIRROR_WRITE, at, buf);
	case RDMA_DEV:
		if (write)
			pattern(rdma_buf, p->page, p->tried);
		ret = rdma_error(rdma_transfer(region, at, PAGE, write, false));
		if (!write)
			memcpy(buf, rdma_buf, PAGE);
		return ret;
	default:
		return EINVAL;
	}
}

/* One access of a device to a random page. */
static void access_some(enum owner who, unsigned int *random, char *buf)
{
	struct place *p = &places[rand_r(random) % NR_PLACES];
	bool write, doubtful = fate == SURPRISE && who == EDU;
	int ret;

	if (p->owner != NOBODY && p->owner != who)
		return;
	if (who != EDU && spare_victim && p == &places[VICTIM])
		return;
	write = p->owner == who && rand_r(random) % 2 && (!doubtful || phase == BEFORE);
	if (write)
		p->tried++;
	ret = access_page(who, p, write, buf);
	/*
	 * Registers of a device that is gone read as ones; QEMU has them read as zeroes, and
	 * the driver takes that for the end of a transfer.
	 */
	doubtful &= phase != BEFORE;
	if (!ret && doubtful)
		;
	else if (!ret && write)
		p->version = p->tried;
	else if (!ret)
		compare(p, owners[who], buf, who != EDU);
	/* So that the next access has to fault again. */
	if (!ret && who == EDU && rand_r(random) % 4 == 0)
		window(edu, HMM_DMA_UNMAP, map + p->page * PAGE, PAGE, 0);
	outcome(who, p, write ? "write" : "read", ret);
}

static void *device(void *arg)
{
	enum owner who = (uintptr_t)arg;
	unsigned int random = who;
	char *buf = aligned_alloc(PAGE, PAGE);

	while (phase != STOP) {
		access_some(who, &random, buf);
		/* Not all of the CPU's time: others have to come on. */
		usleep(2000);
	}
	free(buf);
	return NULL;
}

/* This device can only map, and be asked what it has mapped. */
static void *direct_device(void *arg)
{
	unsigned int random = 99;

	(void)arg;
	while (phase != STOP) {
		struct place *p = &places[rand_r(&random) % NR_PLACES];
		char *at = map + p->page * PAGE;
		struct test_hmm_dma_query q;
		int ret;

		ret = window(direct, HMM_DMA_MAP, at, PAGE,
			     rand_r(&random) % 2 ? HMM_DMA_MAP_WRITE : 0);
		outcome(DIRECT, p, "map", ret);
		q = query(direct, at);
		if (q.flags && q.dma != q.phys)
			fail("the direct device has %#llx mapped at %#llx",
			     (unsigned long long)q.phys, (unsigned long long)q.dma);
		if (rand_r(&random) % 3 == 0)
			window(direct, HMM_DMA_UNMAP, map, size, 0);
		usleep(2000);
	}
	return NULL;
}

/* In user mode on the last CPU all the time, for a machine check of who reads memory. */
static void *spin(void *arg)
{
	cpu_set_t set;

	(void)arg;
	CPU_ZERO(&set);
	CPU_SET(1, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (phase != STOP)
		for (volatile int i = 0; i < 1000000; i++)
			;
	return NULL;
}

static void wait_for(const char *what, const unsigned long *from, unsigned long n)
{
	time_t start = time(NULL);
	int who;

	doing = what;
	for (;;) {
		for (who = EDU; who < NR_OWNERS; who++)
			if ((who != RDMA_DEV || with_rdma) && tried[who] < from[who] + n)
				break;
		if (who == NR_OWNERS)
			return;
		if (time(NULL) - start > PATIENCE / 2)
			fail("%s: %s does not go on", what, owners[who]);
		usleep(20000);
	}
}

static void put_places(void)
{
	size_t leaf = memory->leaf, middle;

	for (int i = 0; i < NR_PLACES; i++) {
		places[i].page = (npages - 1) * i / (NR_PLACES - 1);
		places[i].owner = i % 4;
		if (places[i].owner == RDMA_DEV && !with_rdma)
			places[i].owner = NOBODY;
	}
	/* In the middle of a leaf, between neighbours that devices write. */
	middle = size / 2 / leaf * leaf + (leaf > PAGE ? leaf / 2 : 0);
	places[VICTIM].page = middle / PAGE + 5;
	places[VICTIM].owner = NOBODY;
	places[VICTIM - 1].page = places[VICTIM].page - 1;
	places[VICTIM - 1].owner = EDU;
	places[VICTIM + 1].page = places[VICTIM].page + 1;
	places[VICTIM + 1].owner = MIRROR;
}

static char *reserve(size_t bytes, size_t align)
{
	char *p = mmap(NULL, bytes + align, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		fail("no address space");
	return (char *)(((uintptr_t)p + align - 1) / align * align);
}

static void map_memory(void)
{
	bool pages = memory->leaf == PAGE;
	int flags = MAP_FIXED | (memory->env ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	char *at;

	/* A file that is mapped at no multiple of 2 MiB has leaves of 4 KiB. */
	at = reserve(size + PMD, memory->leaf > PMD ? memory->leaf : PMD);
	if (memory->file && pages)
		at += PAGE;
	map = mmap(at, size, PROT_READ | PROT_WRITE, flags, file, 0);
	if (map == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	if (!memory->env)
		madvise(map, size, pages ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
}

static void open_memory(void)
{
	const char *where = memory->env ? getenv(memory->env) : NULL;
	char path[256];

	size = memory->size;
	if (memory->env && !where)
		skip("%s is not set", memory->env);
	if (!memory->env && getenv("MIB"))
		size = strtoul(getenv("MIB"), NULL, 10) << 20;
	npages = size / PAGE;
	if (!memory->env)
		return;
	/* The file stays: nobody else may get memory that is broken. */
	if (memory->file)
		snprintf(path, sizeof(path), "%s/disaster-%d", where, getpid());
	else
		snprintf(path, sizeof(path), "%s", where);
	file = open(path, O_RDWR | (memory->file ? O_CREAT : 0), 0600);
	if (file < 0)
		fail("%s: %s", path, strerror(errno));
	if (memory->file && posix_fallocate(file, 0, size))
		fail("no space for %zu bytes in %s", size, where);
}

static void fill(void)
{
	for (size_t i = 0; i < npages; i++)
		if (filled(i))
			pattern(map + i * PAGE, i, 0);
}

static void open_edu(void)
{
	edu = open("/dev/hmm_dma_edu", O_RDWR);
	if (edu < 0)
		fail("/dev/hmm_dma_edu: %s", strerror(errno));
}

static void make_window(int fd, const char *what)
{
	int ret = window(fd, HMM_DMA_MIRROR, map, size, 0);

	if (ret)
		fail("no window for %s: %s", what, strerror(ret));
}

static void open_devices(void)
{
	open_edu();
	direct = open("/dev/hmm_dma_direct", O_RDWR);
	mirror = open("/dev/hmm_dmirror0", O_RDWR);
	if (direct < 0 || mirror < 0)
		fail("no devices: %s", strerror(errno));
	make_window(edu, "edu");
	make_window(direct, "the direct device");
	if (with_rdma) {
		region = rdma_register(map, size);
		if (!region)
			fail("no memory region of soft-RoCE: %s", strerror(errno));
	}
}

/* The order of the leaf that a device has at the victim. */
static void check_leaf(void)
{
	struct test_hmm_dma_query q;
	size_t leaf;
	int ret = window(edu, HMM_DMA_MAP, map, size, HMM_DMA_MAP_WRITE);

	if (ret)
		fail("edu cannot map the memory: %s", strerror(ret));
	q = query(edu, map + places[VICTIM].page * PAGE);
	leaf = PAGE << q.order;
	if (!(q.flags & HMM_DMA_IS_MAPPED) || q.phys != q.iommu_phys)
		fail("edu has not mapped the memory");
	if (leaf != memory->leaf) {
		if (!memory->env)
			skip("there are no transparent huge pages now");
		fail("the leaf has %zu bytes, must be %zu", leaf, memory->leaf);
	}
	base = q.dma - places[VICTIM].page * PAGE;
}

/* All bytes, as the CPU sees them; the victim only if it is @there. */
static void check_cpu(bool there)
{
	char got[PAGE], want[PAGE];
	struct place *p;

	doing = "the CPU reads";
	for (size_t i = 0; i < npages; i++) {
		if (!filled(i))
			continue;
		p = place_of(i);
		if (!cpu_copy(got, map + i * PAGE, PAGE)) {
			if (p == &places[VICTIM] && !there)
				continue;
			fail("the CPU cannot read page %zu", i);
		}
		if (p) {
			if (p == &places[VICTIM] && !there)
				fail("the CPU can still read the page that is gone");
			compare(p, owners[NOBODY], got, true);
			continue;
		}
		pattern(want, i, 0);
		if (memcmp(got, want, PAGE))
			fail("page %zu, which no device writes, has other bytes", i);
	}
}

/* Each device reads all places, and writes its own. */
static void check_devices(bool there)
{
	char *buf = aligned_alloc(PAGE, PAGE);

	for (int who = EDU; who <= RDMA_DEV; who++) {
		doing = owners[who];
		if (who == RDMA_DEV && !with_rdma)
			continue;
		for (int i = 0; i < NR_PLACES; i++) {
			struct place *p = &places[i];
			bool victim = i == VICTIM;
			int ret;

			if (victim && who != EDU && spare_victim)
				continue;
			/* It takes 200 ms each time. */
			if (who == EDU && !victim && i % 3)
				continue;
			ret = access_page(who, p, false, buf);
			if (victim && !there) {
				if (ret != EFAULT && ret != EHWPOISON)
					fail("%s gets '%s' for the page that is gone", owners[who],
					     strerror(ret));
				continue;
			}
			if (ret)
				fail("%s cannot read page %zu any more: %s", owners[who], p->page,
				     strerror(ret));
			compare(p, owners[who], buf, who != EDU);
			if (p->owner != (enum owner)who)
				continue;
			p->tried++;
			ret = access_page(who, p, true, buf);
			if (ret)
				fail("%s cannot write page %zu any more: %s", owners[who], p->page,
				     strerror(ret));
			p->version = p->tried;
		}
	}
	free(buf);
}

/* Does the record, the IOMMU and the CPU's page table have the same at each place? */
static void check_translations(bool there)
{
	char *victim = map + places[VICTIM].page * PAGE;
	char byte;
	int ret;

	doing = "edu maps";
	if (!there) {
		ret = window(edu, HMM_DMA_MAP, map, size, 0);
		if (ret != EFAULT && ret != EHWPOISON)
			fail("edu maps all with the page that is gone: %s", strerror(ret));
		if (query(edu, victim).flags)
			fail("edu has a mapping of the page that is gone");
		if (translation(edu, base + (victim - map)))
			fail("the IOMMU translates what the page that is gone had");
		ret = window(edu, HMM_DMA_MAP, map, victim - map, HMM_DMA_MAP_WRITE) ?:
		      window(edu, HMM_DMA_MAP, victim + PAGE, map + size - victim - PAGE,
			     HMM_DMA_MAP_WRITE);
	} else {
		ret = window(edu, HMM_DMA_MAP, map, size, HMM_DMA_MAP_WRITE);
	}
	if (ret)
		fail("edu cannot map the memory any more: %s", strerror(ret));
	for (int i = 0; i < NR_PLACES; i++) {
		char *at = map + places[i].page * PAGE;
		struct test_hmm_dma_query q;
		u64 pfn;

		if (!there && i == VICTIM)
			continue;
		if (!cpu_copy(&byte, at, 1))
			fail("the CPU cannot read page %zu", places[i].page);
		q = query(edu, at);
		/* To look at a leaf of 1 GiB in pagemap splits it. */
		pfn = memory->leaf == PUD ? q.phys / PAGE : pfn_of(at);
		/* It can have been taken away since, but not be another one. */
		if (!q.flags && !translation(edu, base + (at - map)))
			continue;
		if (q.phys != q.iommu_phys || q.dma != base + (at - map) || q.phys != pfn * PAGE)
			fail("page %zu: edu %#llx, IOMMU %#llx, CPU %#llx",
			     places[i].page, (unsigned long long)q.phys,
			     (unsigned long long)q.iommu_phys, (unsigned long long)pfn * PAGE);
	}
}

/* Nothing of the memory is left for anybody. */
static void check_lost(void)
{
	char buf[PAGE];
	int ret;

	doing = "nothing can be accessed any more";
	for (int i = 0; i < NR_PLACES; i++) {
		struct place *p = &places[i];
		char *at = map + p->page * PAGE;

		if (cpu_copy(buf, at, 1))
			fail("the CPU can still read page %zu", p->page);
		for (int who = EDU; who <= RDMA_DEV; who++) {
			if (who == RDMA_DEV && !with_rdma)
				continue;
			ret = access_page(who, p, false, buf);
			if (ret != EFAULT)
				fail("%s gets '%s' for page %zu, which is gone", owners[who],
				     strerror(ret), p->page);
		}
		ret = window(direct, HMM_DMA_MAP, at, PAGE, 0);
		if (ret != EFAULT)
			fail("%s gets '%s' for page %zu, which is gone", owners[DIRECT],
			     strerror(ret), p->page);
		if (query(edu, at).flags || query(direct, at).flags)
			fail("a device has a mapping of page %zu, which is gone", p->page);
		if (translation(edu, base + (at - map)))
			fail("the IOMMU translates what page %zu had", p->page);
	}
}

/* Other memory, in a window of its own. */
static void check_other_memory(void)
{
	char *other, got[EDU_BYTES], bytes[EDU_BYTES], *saved = map, page[PAGE];
	size_t saved_size = size;
	int fd, ret;

	doing = "other memory is mapped";
	other = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = open("/dev/hmm_dma_edu", O_RDWR);
	if (other == MAP_FAILED || fd < 0)
		fail("no other memory, or no edu any more: %s", strerror(errno));
	pattern(other, 1, 1);
	map = other;
	size = 2 * PAGE;
	make_window(fd, "other memory");
	map = saved;
	size = saved_size;
	ret = transfer(fd, HMM_DMA_READ, other + EDU_AT, got, EDU_BYTES);
	if (ret || memcmp(got, other + EDU_AT, EDU_BYTES))
		fail("edu does not read other memory: %s", strerror(ret));
	edu_pattern(bytes, 2, 2);
	ret = transfer(fd, HMM_DMA_WRITE, other + PAGE, bytes, EDU_BYTES);
	if (ret || memcmp(other + PAGE, bytes, EDU_BYTES))
		fail("edu does not write other memory: %s", strerror(ret));
	ret = dmirror(HMM_DMIRROR_READ, other, page);
	if (ret || memcmp(page, other, PAGE))
		fail("test_hmm does not read other memory: %s", strerror(ret));
	close(fd);
	munmap(other, 2 * PAGE);
}

/* The same memory, mapped once more, and devices that are opened once more. */
static void check_again(bool there)
{
	if (!memory->env) {
		/* It is new memory then. */
		for (int i = 0; i < NR_PLACES; i++)
			places[i].version = places[i].tried = 0;
		there = true;
	}
	rdma_unregister(region);
	region = NULL;
	close(edu);
	close(direct);
	close(mirror);
	munmap(map, size);
	map_memory();
	if (!memory->env)
		fill();
	open_devices();
	if (there) {
		int ret = window(edu, HMM_DMA_MAP, map, size, HMM_DMA_MAP_WRITE);

		if (ret)
			fail("edu cannot map the memory once more: %s", strerror(ret));
	}
	check_cpu(there);
	check_devices(there);
}

static int run_command(const char *command)
{
	int status;

	fflush(stdout);
	status = system(command);
	return status == -1 ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* What is at the victim's address; no look at pagemap, which splits leaves of 1 GiB. */
static u64 phys_of_victim(void)
{
	char *victim = map + places[VICTIM].page * PAGE, byte;
	struct test_hmm_dma_query q = { .flags = 0 };

	for (int i = 0; i < 100 && !q.flags; i++) {
		if (!cpu_copy(&byte, victim, 1) || window(direct, HMM_DMA_MAP, victim, PAGE, 0))
			fail("nobody can access the victim");
		q = query(direct, victim);
	}
	return q.phys;
}

static u64 invalidations(void)
{
	struct test_hmm_dma_stats stats = { 0 };
	int ret = request(edu, HMM_DMA_STATS, &stats);

	if (ret)
		fail("HMM_DMA_STATS: %s", strerror(ret));
	return stats.invalidations;
}

static void happen(const char *event)
{
	char *victim = map + places[VICTIM].page * PAGE;
	u64 phys = phys_of_victim();
	char text[32];
	int ret = 0;

	doing = event;
	if (broken_event || !strcmp(event, "none"))
		return;
	if (!strcmp(event, "poison") || !strcmp(event, "soft")) {
		bool soft = event[0] == 's';

		if (madvise(victim, PAGE, soft ? MADV_SOFT_OFFLINE : MADV_HWPOISON))
			ret = errno;
		/* Only memory that is not DAX can move. */
		if (soft && memory->env ? ret != EIO : ret)
			fail("madvise(): %s", strerror(ret));
		return;
	}
	snprintf(text, sizeof(text), "%#llx", (unsigned long long)phys);
	setenv("PHYS", text, 1);
	snprintf(text, sizeof(text), "%d", getpid());
	setenv("PID", text, 1);
	setenv("CPU", "1", 1);
	ret = run_command(event);
	if (ret)
		fail("'%s' failed with status %d", event, ret);
}

static void run(const char *event, const char *again)
{
	pthread_t threads[NR_OWNERS], spinning;
	unsigned long none[NR_OWNERS] = { 0 }, then[NR_OWNERS];
	bool spins = getenv("SPIN"), there = fate != PAGE_LOST;
	u64 before, invalidated;

	with_rdma = rdma_is_here() && !access("/sys/class/infiniband/rxe0", F_OK) &&
		    fate != SURPRISE && rdma_open();
	open_memory();
	put_places();
	map_memory();
	fill();
	open_devices();
	check_leaf();

	for (uintptr_t who = EDU; who < NR_OWNERS; who++)
		if (who != RDMA_DEV || with_rdma)
			pthread_create(&threads[who], NULL, who == DIRECT ? direct_device : device,
				       (void *)who);
	if (spins)
		pthread_create(&spinning, NULL, spin, NULL);
	wait_for("devices access the memory", none, ENOUGH);
	before = phys_of_victim();
	invalidated = invalidations();
	phase = DURING;
	happen(event);
	phase = AFTER;
	if (fate == MOVED && phys_of_victim() == before)
		fail("the victim is where it was");
	if ((fate == MOVED || fate == PAGE_LOST || fate == REPORTED || fate == LOST) &&
	    invalidations() == invalidated)
		fail("edu was not told");
	for (int who = 0; who < NR_OWNERS; who++)
		then[who] = tried[who];
	wait_for("devices access the memory after the event", then, ENOUGH);
	phase = STOP;
	doing = "devices stop";
	for (int who = EDU; who < NR_OWNERS; who++)
		if (who != RDMA_DEV || with_rdma)
			pthread_join(threads[who], NULL);
	if (spins)
		pthread_join(spinning, NULL);
	alarm(PATIENCE);

	if (broken_byte)
		map[3 * PAGE + 1234] ^= 1;
	if (fate == REPORTED && !signals)
		fail("the process got no SIGBUS");
	if (fate == LOST) {
		check_lost();
		check_other_memory();
	} else if (fate == NO_EDU || fate == SURPRISE) {
		int ret = window(edu, HMM_DMA_MAP, map, PAGE, 0);
		char buf[EDU_BYTES];

		if (ret != ENODEV || transfer(edu, HMM_DMA_READ, map, buf, EDU_BYTES) != ENODEV)
			fail("edu's file is still good for something: %s", strerror(ret));
		check_cpu(true);
	} else {
		check_cpu(there);
		check_devices(there);
		check_translations(there);
		check_other_memory();
	}
	if (again) {
		doing = again;
		if (run_command(again))
			fail("'%s' failed", again);
		if (!memory->file || fate != LOST) {
			if (!memory->file && memory->env) {
				close(file);
				open_memory();
			}
			check_again(there);
		}
		check_other_memory();
	} else if (fate != LOST) {
		check_again(there);
	}
	printf("ok %s # %lu transfers of edu, %lu of test_hmm, %lu of soft-RoCE, %lu maps; "
	       "refused %lu, %lu, %lu, %lu; SIGBUS %d\n", name, done[EDU], done[MIRROR],
	       done[RDMA_DEV], done[DIRECT], refused[EDU], refused[MIRROR], refused[RDMA_DEV],
	       refused[DIRECT], (int)signals);
}

/* Memory that devices mirror changes until the process ends, or is killed. */
static void *changes(void *arg)
{
	(void)arg;
	while (phase != STOP) {
		size_t i = rand() % NR_PLACES;

		mprotect(map, size, PROT_READ);
		mprotect(map, size, PROT_READ | PROT_WRITE);
		madvise(map + i * (size / NR_PLACES / PAGE * PAGE), PAGE, MADV_DONTNEED);
	}
	return NULL;
}

static void unload_round(bool killed)
{
	int status, ready[2];
	pthread_t thread;
	char byte;
	pid_t pid;

	if (pipe(ready))
		fail("no pipe");
	pid = fork();
	if (!pid) {
		size = 4 * PMD;
		map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		open_devices();
		phase = DURING;
		pthread_create(&thread, NULL, changes, NULL);
		for (int i = 0; i < 5; i++) {
			char buf[PAGE];
			int ret = window(edu, HMM_DMA_MAP, map, size, HMM_DMA_MAP_WRITE);

			/* It may be read-only just then. */
			if (ret == EPERM)
				ret = 0;
			ret = ret ?: window(direct, HMM_DMA_MAP, map, size, 0);
			ret = ret ?: dmirror(HMM_DMIRROR_READ, map, buf);
			if (ret)
				fail("a device cannot use the memory: %s", strerror(ret));
		}
		if (killed) {
			if (write(ready[1], "x", 1) == 1)
				pause();
			_exit(1);
		}
		close(edu);
		close(direct);
		close(mirror);
		/* The memory goes on changing. */
		if (run_command("rmmod test_hmm_dma && rmmod test_hmm"))
			fail("a module cannot be removed after its files were closed");
		phase = STOP;
		pthread_join(thread, NULL);
		_exit(0);
	}
	close(ready[1]);
	if (killed) {
		if (read(ready[0], &byte, 1) == 1)
			kill(pid, SIGKILL);
	}
	close(ready[0]);
	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid: %s", strerror(errno));
	if (killed) {
		if (!WIFSIGNALED(status))
			fail("the process did not get as far as to be killed");
		if (run_command("rmmod test_hmm_dma && rmmod test_hmm"))
			fail("a module cannot be removed after its process was killed");
	} else if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		exit(1);
	}
	if (run_command("modprobe test_hmm && modprobe test_hmm_dma"))
		fail("the modules cannot be loaded again");
}

static void unload(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		alarm(PATIENCE);
		doing = "modules are removed";
		unload_round(i % 2);
	}
	if (!rounds)
		fail("no rounds");
	printf("ok %s # %d rounds\n", name, rounds);
}

int main(int argc, char **argv)
{
	struct sigaction act = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER };
	const char *breaks = getenv("BREAK");

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "unload")) {
		name = "modules are removed as soon as files are closed";
		signal(SIGALRM, on_alarm);
		unload(atoi(argv[2]));
		return 0;
	}
	if (argc != 5 && argc != 6)
		errx(2, "usage: disasters NAME MEMORY FATE EVENT [AGAIN]");
	name = argv[1];
	for (size_t i = 0; i < ARRAY_SIZE(memories); i++)
		if (!strcmp(argv[2], memories[i].name))
			memory = &memories[i];
	if (!memory)
		errx(2, "there is no memory '%s'", argv[2]);
	for (fate = 0; fate < NR_FATES && strcmp(argv[3], fates[fate]); fate++)
		;
	if (fate == NR_FATES)
		errx(2, "there is no fate '%s'", argv[3]);
	broken_event = breaks && !strcmp(breaks, "event");
	broken_byte = breaks && !strcmp(breaks, "byte");
	spare_victim = getenv("SPARE");
	if (getenv("EARLY") && prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0))
		err(2, "PR_MCE_KILL");
	signal(SIGALRM, on_alarm);
	sigaction(SIGBUS, &act, NULL);
	alarm(PATIENCE);
	run(argv[4], argc > 5 ? argv[5] : NULL);
	return 0;
}
