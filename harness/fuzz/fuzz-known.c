// SPDX-License-Identifier: GPL-2.0
/*
 * fuzz-known pud|backing|check|release|evict|twice|stale|tables
 *
 * What fuzz found, one at a time, and leaves alone since. All of it is in Linux 7.3 without
 * the series as well. Each of these makes that kernel warn, crash, or hang:
 *
 *   pud      mprotect() of a leaf of 1 GiB to PROT_NONE and back: pudp_invalidate() warns, as
 *            x86's pud_present() does not know PROT_NONE (HMM_DAX_DEV_PUD)
 *   backing  HMM_DMIRROR_READ of memory that another file of the same device has migrated:
 *            the driver reads the device page's own memory, which does not exist
 *   check    HMM_DMIRROR_CHECK_EXCLUSIVE of 2^51 pages never ends, and cannot be killed
 *   release  HMM_DMIRROR_RELEASE while another process migrates to the same device
 *   evict    the close of any file of a device that holds the first page of a THP which was
 *            split there: the driver copies page after page over the memory behind its copy
 *   twice    HMM_DMIRROR_WRITE after another file of the same device has migrated the page: the
 *            driver writes into the old page, which is free
 *   stale    MADV_DONTNEED while a thread migrates: the driver keeps pages that it has freed
 *   tables   the same without THPs, and HMM_DMIRROR_WRITE into these pages, which are page
 *            tables of other processes by then
 *
 * The last four print "ok" or "not ok".
 */
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/test_hmm_uapi.h"

#define PAGE	4096UL
#define THP	(2UL << 20)

static int open_node(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

static char *map(void *at, size_t size, int fd)
{
	char *got = mmap(at, size, PROT_READ | PROT_WRITE,
			 fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0) :
				  MAP_SHARED | MAP_FIXED, fd, 0);

	if (got == MAP_FAILED)
		err(1, "mmap");
	return got;
}

static void request(int fd, unsigned int cmd, const char *name, char *addr, uint64_t npages,
		    char *buf)
{
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)addr, .npages = npages, .ptr = (uintptr_t)buf,
	};
	int ret = ioctl(fd, cmd, &args);

	if (ret)
		warn("%s", name);
	else
		printf("%s: %llu pages\n", name, (unsigned long long)args.cpages);
}

#define REQUEST(fd, cmd, ...)	request(fd, HMM_DMIRROR_ ## cmd, #cmd, __VA_ARGS__)

static void pud(void)
{
	const char *name = getenv("HMM_DAX_DEV_PUD");
	char *p = map((void *)0x100040000000, 1UL << 30, open_node(name ?: "HMM_DAX_DEV_PUD"));

	*p = 1;
	if (mprotect(p, 1UL << 30, PROT_NONE) || mprotect(p, 1UL << 30, PROT_READ | PROT_WRITE))
		err(1, "mprotect");
	printf("byte %d\n", *p);
}

static void backing(char *buf)
{
	int fd = open_node("/dev/hmm_dmirror0"), other = open_node("/dev/hmm_dmirror0");
	char *p = map(NULL, 4 * PAGE, -1);

	memset(p, 1, 4 * PAGE);
	REQUEST(fd, MIGRATE_TO_DEV, p, 4, buf);
	REQUEST(other, READ, p, 4, buf);
	printf("byte %d, must be 1\n", *buf);
}

static void check(char *buf)
{
	int fd = open_node("/dev/hmm_dmirror0"), status;
	pid_t pid = fork();

	if (!pid) {
		REQUEST(fd, CHECK_EXCLUSIVE, NULL + PAGE, (1ULL << 51) - 1, buf);
		_exit(0);
	}
	sleep(5);
	kill(pid, SIGKILL);
	sleep(5);
	printf("%s\n", waitpid(pid, &status, WNOHANG) == pid ? "it has ended" :
	       "5 s after SIGKILL it is still there");
	fflush(stdout);
	_exit(0);
}

static void release(char *buf)
{
	pid_t pid = fork();
	int fd = open_node("/dev/hmm_dmirror0");
	char *p = map(NULL, 512 * PAGE, -1);

	for (int i = 0; i < 50; i++) {
		if (pid) {
			REQUEST(fd, RELEASE, p, 1, buf);
			continue;
		}
		memset(p, i, 512 * PAGE);
		REQUEST(fd, MIGRATE_TO_DEV, p, 512, buf);
	}
	if (!pid)
		_exit(0);
	wait(NULL);
}

/* Room for one THP. */
static char *map_thp(void)
{
	char *p = map((void *)0x100000000000, THP, -1);

	if (madvise(p, THP, MADV_HUGEPAGE))
		err(1, "MADV_HUGEPAGE");
	return p;
}

static void evict(char *buf)
{
	int fd = open_node("/dev/hmm_dmirror0"), wrong = 0;
	char *p = map_thp();

	for (size_t i = 0; i < THP / PAGE; i++)
		memset(p + i * PAGE, 1 + i % 251, PAGE);
	REQUEST(fd, MIGRATE_TO_DEV, p, THP / PAGE, buf);
	/* Now it has PTEs: the fault splits it, and brings one page back, but not the first. */
	if (mprotect(p + PAGE, PAGE, PROT_READ))
		err(1, "mprotect");
	printf("byte %d, must be 2\n", p[PAGE]);
	fflush(stdout);
	/* This brings back all others. */
	close(fd);
	for (size_t i = 0; i < THP; i++)
		wrong += (unsigned char)p[i] != 1 + i / PAGE % 251;
	printf("%s: %d bytes are wrong\n", wrong ? "not ok" : "ok", wrong);
}

struct migrating {
	int fd;
	bool done;
	char *at, *buf;
};

static void *migrate(void *arg)
{
	struct migrating *m = arg;
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)m->at, .npages = THP / PAGE, .ptr = (uintptr_t)m->buf,
	};

	while (!__atomic_load_n(&m->done, __ATOMIC_SEQ_CST))
		ioctl(m->fd, HMM_DMIRROR_MIGRATE_TO_DEV, &args);
	return NULL;
}

static int one_page(struct migrating *m, unsigned int cmd, size_t page, char *buf)
{
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)m->at + page * PAGE, .npages = 1, .ptr = (uintptr_t)buf,
	};

	return ioctl(m->fd, cmd, &args);
}

/* Give memory up while it migrates: which pages the device still sees as they were. */
static int find_stale(struct migrating *m, bool *is_stale)
{
	char *got = map(NULL, PAGE, -1);
	int found = 0;
	pthread_t thread;

	m->done = false;
	memset(m->at, 7, THP);
	if (pthread_create(&thread, NULL, migrate, m))
		errx(1, "pthread_create");
	for (int i = 0; i < 5; i++) {
		if (i)
			memset(m->at, 7, THP);
		if (madvise(m->at, THP, MADV_DONTNEED))
			err(1, "MADV_DONTNEED");
	}
	__atomic_store_n(&m->done, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	/* All of it is zero by now. */
	for (size_t i = 0; i < THP / PAGE; i++) {
		if (one_page(m, HMM_DMIRROR_READ, i, got))
			err(1, "READ");
		is_stale[i] = *got == 7;
		found += is_stale[i];
	}
	munmap(got, PAGE);
	return found;
}

static void twice(char *buf)
{
	int fd = open_node("/dev/hmm_dmirror0"), other = open_node("/dev/hmm_dmirror0");
	char *p = map(NULL, PAGE, -1);

	memset(p, 1, PAGE);
	memset(buf, 2, PAGE);
	REQUEST(other, WRITE, p, 1, buf);
	REQUEST(fd, MIGRATE_TO_DEV, p, 1, buf);
	/* The process's page is another one now, and the old one is free. */
	memset(buf, 3, PAGE);
	REQUEST(other, WRITE, p, 1, buf);
	printf("%s: byte %d, must be 3\n", *p == 3 ? "ok" : "not ok", *p);
}

static void stale(char *buf, bool huge)
{
	struct migrating m = { .fd = open_node("/dev/hmm_dmirror0"), .at = map_thp(), .buf = buf };
	bool is_stale[THP / PAGE];
	int found = 0, rounds = 0;

	/* fork() would have the driver forget what it copies. */
	if (!huge && (madvise(m.at, THP, MADV_NOHUGEPAGE) || madvise(m.at, THP, MADV_DONTFORK)))
		err(1, "madvise");
	while (!found && rounds++ < 50)
		found = find_stale(&m, is_stale);
	printf("%s: in round %d, the device sees %d pages that the process has given up\n",
	       found ? "not ok" : "ok", rounds, found);
	fflush(stdout);
	if (huge)
		return;

	/* Page tables are made of them next: each child has 65 more. */
	enum { CHILDREN = 40, TABLES = 64 };
	pid_t pids[CHILDREN];
	int ready[2], start[2], status, wrong = 0, reused = 0;
	char *zero = map(NULL, PAGE, -1), *got = map(NULL, PAGE, -1), byte = 0;

	if (pipe(ready) || pipe(start))
		err(1, "pipe");
	for (size_t i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			err(1, "fork");
		if (!pids[i]) {
			char *p = map((void *)0x200000000000, TABLES * THP, -1);

			if (madvise(p, TABLES * THP, MADV_NOHUGEPAGE))
				_exit(4);
			for (size_t n = 0; n < TABLES; n++)
				p[n * THP] = 9;
			close(start[1]);
			if (write(ready[1], &byte, 1) != 1 || read(start[0], &byte, 1))
				_exit(2);
			for (size_t n = 0; n < TABLES; n++)
				if (p[n * THP] != 9)
					_exit(3);
			_exit(0);
		}
	}
	for (size_t i = 0; i < CHILDREN; i++)
		if (read(ready[0], &byte, 1) != 1)
			err(1, "read");
	for (size_t i = 0; i < THP / PAGE; i++) {
		if (!is_stale[i])
			continue;
		if (!one_page(&m, HMM_DMIRROR_READ, i, got))
			reused += *got != 7;
		if (one_page(&m, HMM_DMIRROR_WRITE, i, zero))
			warn("WRITE");
	}
	close(start[1]);
	for (size_t i = 0; i < CHILDREN; i++) {
		if (waitpid(pids[i], &status, 0) != pids[i])
			err(1, "waitpid");
		wrong += status != 0;
	}
	printf("%s: %d of these are in use again, and writing to them breaks %d processes\n",
	       wrong ? "not ok" : "ok", reused, wrong);
}

int main(int argc, char **argv)
{
	char *buf = map(NULL, 1 << 21, -1);

	if (argc != 2)
		errx(2, "usage: fuzz-known pud|backing|check|release|evict|twice|stale|tables");
	if (!strcmp(argv[1], "pud"))
		pud();
	else if (!strcmp(argv[1], "backing"))
		backing(buf);
	else if (!strcmp(argv[1], "check"))
		check(buf);
	else if (!strcmp(argv[1], "release"))
		release(buf);
	else if (!strcmp(argv[1], "evict"))
		evict(buf);
	else if (!strcmp(argv[1], "twice"))
		twice(buf);
	else if (!strcmp(argv[1], "stale"))
		stale(buf, true);
	else if (!strcmp(argv[1], "tables"))
		stale(buf, false);
	else
		errx(2, "no such thing: %s", argv[1]);
	return 0;
}
