// SPDX-License-Identifier: GPL-2.0
/*
 * odp-threads [-t seconds] [-f threads] [-p pages] [-o pages] zap|thp|munmap|hugetlb|fork
 *
 * Threads (-f, default 1) map a range (-p, default 16 pages) with odp_race,
 * from a multiple of 2 MiB on or that many pages (-o) behind it,
 * while the main thread changes the page table:
 *   zap      MADV_DONTNEED
 *   thp      the same, the range is part of a huge page
 *   munmap   munmap and mmap, with a second range below it that makes the
 *            notifier slow; only present pages are mapped, without faults
 *   hugetlb  not at all; 2 MiB device pages on hugetlb memory
 *   fork     fork(), the child exits: what is mapped is read-only until it is
 *            written; each part is mapped for reading first, and then for writing
 * Exit status 1: the IOMMU and the page table disagreed, or nothing was written that
 * could only be read before (fork).
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "odp_race.h"

#define HUGE (2UL << 20)

static int fd;
static struct odp_race_range range;
static volatile bool stop;
static unsigned long refused;

static int threads = 1;
static bool twice;
static pthread_rwlock_t forking =
	PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* One thread maps all of the range, several map any part of it. */
static void *mapper(void *arg)
{
	unsigned int seed = (unsigned long)arg;
	struct odp_race_range part = range;

	while (!stop) {
		if (threads > 1) {
			size_t pages = range.len / 4096, first = rand_r(&seed) % pages;

			part.addr = range.addr + first * 4096;
			part.len = (1 + rand_r(&seed) % (pages - first)) * 4096;
		}
		if (twice) {
			pthread_rwlock_rdlock(&forking);
			part.flags = range.flags | ODP_RACE_READ;
			ioctl(fd, ODP_RACE_MAP, &part);
			part.flags = range.flags;
		}
		if (ioctl(fd, ODP_RACE_MAP, &part))
			__atomic_add_fetch(&refused, 1, __ATOMIC_RELAXED);
		if (twice)
			pthread_rwlock_unlock(&forking);
	}
	return NULL;
}

static char *map(void *at, size_t len, int flags)
{
	char *p = mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		err(2, "mmap");
	return p;
}

static void change(const char *mode, char *p, size_t len, int below)
{
	struct odp_race_range other = { (unsigned long)p - HUGE, HUGE, 0 };

	if (!strcmp(mode, "munmap")) {
		ioctl(below, ODP_RACE_MAP, &other);
		munmap(p - HUGE, HUGE + len);
		map(p - HUGE, HUGE + len, MAP_FIXED_NOREPLACE | MAP_POPULATE);
	} else if (!strcmp(mode, "hugetlb")) {
		usleep(1000);
	} else if (!strcmp(mode, "fork")) {
		static bool alone;
		pid_t child;

		/* Every other time nobody copies a page before the child is gone. */
		alone = !alone;
		if (alone)
			pthread_rwlock_wrlock(&forking);
		child = fork();
		if (!child)
			_exit(0);
		if (child < 0 || waitpid(child, NULL, 0) != child)
			err(2, "fork");
		if (alone)
			pthread_rwlock_unlock(&forking);
		usleep(20000);
	} else {
		madvise(p, len, MADV_DONTNEED);
	}
}

static int reg(char *p, size_t len, int flags)
{
	struct odp_race_range r = { (unsigned long)p, len, flags };
	int f = open("/dev/odp_race", O_RDWR);

	if (f < 0 || ioctl(f, ODP_RACE_REG, &r))
		err(2, "/dev/odp_race");
	return f;
}

static int bad_usage(void)
{
	fputs("usage: odp-threads [-t seconds] [-f threads] [-p pages] [-o pages] HOW\n", stderr);
	fputs("HOW is zap, thp, munmap, hugetlb, or fork\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	int seconds = 10, pages = 16, skip = 0, below = -1, opt;
	struct odp_race_stats s;
	time_t end;

	while ((opt = getopt(argc, argv, "t:f:p:o:")) != -1) {
		if (opt == 't')
			seconds = atoi(optarg);
		else if (opt == 'f')
			threads = atoi(optarg);
		else if (opt == 'p')
			pages = atoi(optarg);
		else if (opt == 'o')
			skip = atoi(optarg);
		else
			return bad_usage();
	}
	if (optind + 1 != argc || threads < 1 || pages < 1 || skip < 0 ||
	    pages + skip > 512)
		return bad_usage();

	const char *mode = argv[optind];
	bool hugetlb = !strcmp(mode, "hugetlb"), thp = !strcmp(mode, "thp");

	if (skip && (hugetlb || !strcmp(mode, "munmap")))
		return bad_usage();

	size_t len = hugetlb ? 2 * HUGE : pages * 4096UL;
	char *p = map(NULL, 4 * HUGE, hugetlb ? MAP_HUGETLB : 0);
	pthread_t thread[threads];

	p = (char *)(((unsigned long)p + 2 * HUGE - 1) & ~(HUGE - 1));
	if (!hugetlb)
		madvise(p, HUGE, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	char *all = p;

	p += skip * 4096UL;
	range = (struct odp_race_range){ (unsigned long)p, len, 0 };
	twice = !strcmp(mode, "fork");
	if (twice)
		memset(p, 1, len);
	fd = reg(p, len, hugetlb ? ODP_RACE_HUGETLB : 0);
	if (!strcmp(mode, "munmap")) {
		below = reg(p - HUGE, HUGE, 0);
		range.flags = ODP_RACE_NO_FAULT;
	}

	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, mapper, (void *)(long)i))
			errx(2, "pthread_create");
	for (end = time(NULL) + seconds; time(NULL) < end;)
		change(mode, thp ? all : p, thp ? HUGE : len, below);
	stop = true;
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);

	if (ioctl(fd, ODP_RACE_STATS, &s))
		err(2, "ODP_RACE_STATS");
	printf("%s, %d threads, %zu pages, %d s: %llu rounds, %lu refused, ",
	       mode, threads, len / 4096, seconds, s.rounds, refused);
	printf("%llu invalidations, %llu upgrades: ", s.invalidations, s.upgrades);
	printf("unlinked %llu, wrong %llu, leaked %llu, missing %llu, ",
	       s.unlinked, s.wrong, s.leaked, s.missing);
	printf("miscounted %llu, map errors %llu", s.miscounted, s.map_error);
	if (s.first_ms)
		printf("; the first in round %llu after %llu ms", s.first_round, s.first_ms);
	printf("\n");
	return s.first_ms != 0 || (twice && !s.upgrades);
}
