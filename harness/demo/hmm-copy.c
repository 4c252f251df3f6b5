// SPDX-License-Identifier: GPL-2.0
/*
 * hmm-copy FROM TO BYTES LEAF: let the device of lib/test_hmm copy.
 *
 * Both are mapped for leaves of LEAF bytes at most; the device reads FROM and
 * writes TO through HMM. Prints for each "leaves faults": the leaves HMM
 * reports ("3x2M+17x4K"), and the page faults taken.
 *
 * hmm-copy --put TO BYTES, hmm-copy --get FROM BYTES: the CPU's side, for a
 * device-dax, which can be mapped but neither read nor written.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <lib/test_hmm_uapi.h>

#define PAGE	4096UL
#define WINDOW	(2UL << 20)

struct mapping {
	char *p;
	size_t size;	/* mapped */
	long faults;
};

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* Where addresses and file offsets agree modulo LEAF, or never beyond a page. */
static struct mapping map(const char *path, size_t bytes, size_t leaf)
{
	int fd = open(path, O_RDWR);
	size_t align = leaf == PAGE ? WINDOW : leaf;
	struct mapping m = {};
	struct stat st;
	char *at;

	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", path);
	m.size = round_up(bytes, S_ISCHR(st.st_mode) ? leaf : PAGE);
	at = mmap(NULL, m.size + 2 * align, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		err(1, "%s: mmap", path);
	at = (char *)round_up((uintptr_t)at, align) + (leaf == PAGE ? PAGE : 0);
	m.p = mmap(at, m.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (m.p == MAP_FAILED)
		err(1, "%s: mmap of %zu bytes", path, m.size);
	close(fd);
	return m;
}

static long faults_taken(void)
{
	struct rusage ru;

	getrusage(RUSAGE_THREAD, &ru);
	return ru.ru_minflt + ru.ru_majflt;
}

static void dmirror(int fd, unsigned long request, const char *what, struct mapping *m,
		    size_t offset, void *buf, size_t npages)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)m->p + offset,
		.ptr = (uintptr_t)buf,
		.npages = npages,
	};
	long before = faults_taken();

	if (ioctl(fd, request, &cmd) || cmd.cpages != npages)
		err(1, "the device could not %s at offset %zu", what, offset);
	m->faults += faults_taken() - before;
}

static void report(int fd, struct mapping *m, size_t bytes, unsigned char *perm)
{
	size_t npages = round_up(bytes, PAGE) / PAGE;
	static const struct {
		unsigned char flag;
		size_t pages;
		const char *name;
	} sizes[] = {
		{ HMM_DMIRROR_PROT_PUD, 1UL << 18, "1G" },
		{ HMM_DMIRROR_PROT_PMD, 512, "2M" },
		{ 0, 1, "4K" },
	};
	size_t leaves[3] = {}, i = 0, s;
	const char *sep = "";

	dmirror(fd, HMM_DMIRROR_SNAPSHOT, "take a snapshot", m, 0, perm, npages);
	while (i < npages) {
		size_t page = (uintptr_t)m->p / PAGE + i;

		for (s = 0; s < 2 && !(perm[i] & sizes[s].flag); s++)
			;
		leaves[s]++;
		i += sizes[s].pages - page % sizes[s].pages;
	}
	for (s = 0; s < 3; s++) {
		if (!leaves[s])
			continue;
		printf("%s%zux%s", sep, leaves[s], sizes[s].name);
		sep = "+";
	}
	printf(" %ld\n", m->faults);
}

static char *resident(size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static void pipe_through(const char *path, size_t bytes, int put)
{
	struct mapping m = map(path, bytes, 1UL << 30);
	size_t at = 0;

	while (at < bytes) {
		ssize_t n = put ? read(0, m.p + at, bytes - at) : write(1, m.p + at, bytes - at);

		if (n <= 0)
			err(1, "%s: %zu of %zu bytes", path, at, bytes);
		at += n;
	}
}

int main(int argc, char **argv)
{
	size_t bytes, at;
	struct mapping from, to;
	char *buf;
	int fd;

	if (argc == 4 && !strncmp(argv[1], "--", 2)) {
		pipe_through(argv[2], strtoull(argv[3], NULL, 0), !strcmp(argv[1], "--put"));
		return 0;
	}
	if (argc != 5)
		errx(2, "usage: hmm-copy FROM TO BYTES LEAF");
	bytes = strtoull(argv[3], NULL, 0);
	fd = open("/dev/hmm_dmirror0", O_RDWR);
	if (fd < 0)
		err(1, "/dev/hmm_dmirror0 (is test_hmm loaded?)");
	from = map(argv[1], bytes, strtoull(argv[4], NULL, 0));
	to = map(argv[2], bytes, strtoull(argv[4], NULL, 0));
	buf = resident(WINDOW);

	for (at = 0; at < bytes; at += WINDOW) {
		size_t left = round_up(bytes - at, PAGE);
		size_t npages = (left < WINDOW ? left : WINDOW) / PAGE;

		dmirror(fd, HMM_DMIRROR_READ, "read", &from, at, buf, npages);
		dmirror(fd, HMM_DMIRROR_WRITE, "write", &to, at, buf, npages);
	}
	buf = resident(round_up(bytes, PAGE) / PAGE);
	report(fd, &from, bytes, (unsigned char *)buf);
	report(fd, &to, bytes, (unsigned char *)buf);
	return 0;
}
