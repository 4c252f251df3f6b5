// SPDX-License-Identifier: GPL-2.0
/*
 * hmm-bench faults: what one hmm_range_fault() over a cold range costs in
 * handle_mm_fault() calls, one line "case pages leaves order faults" for each
 * mapping. Memory comes from HMM_DAX_* as for the selftest hmm_dax.
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

#include "hmm_bench.h"

#define MB(n) ((size_t)(n) << 20)
#define GB(n) ((size_t)(n) << 30)

static int bench;

static const char *need(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		errx(1, "%s is not set: run dax-storage and source /run/storage", name);
	return value;
}

/* An unused address that is @skew beyond a multiple of @align. */
static char *place(size_t size, size_t align, size_t skew)
{
	char *p = mmap(NULL, size + 2 * align, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	munmap(p, size + 2 * align);
	return (char *)(((uintptr_t)p + align - 1) / align * align) + skew;
}

static void measure(const char *name, int fd, size_t size, size_t align, size_t skew, int flags)
{
	struct hmm_bench_fault f = { .npages = size / 4096, .flags = flags };
	char *p = mmap(place(size, align, skew), size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);

	if (p == MAP_FAILED)
		err(1, "%s: mmap", name);
	f.addr = (uintptr_t)p;
	if (ioctl(bench, HMM_BENCH_FAULT, &f))
		err(1, "%s: HMM_BENCH_FAULT", name);
	printf("%s %llu %llu %u %llu\n", name, (unsigned long long)f.npages,
	       (unsigned long long)f.leaves, f.max_order, (unsigned long long)f.faults);
	fflush(stdout);
	munmap(p, size);
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

static void faults(void)
{
	int fd = open(need("HMM_DAX_DEV_1G"), O_RDWR);

	if (fd < 0)
		err(1, "%s", need("HMM_DAX_DEV_1G"));
	measure("fault_cold_pud_1g", fd, GB(1), GB(1), 0, 0);
	measure("fault_cold_pud_1g_write", fd, GB(1), GB(1), 0, HMM_BENCH_WRITE);
	close(fd);

	fd = written_file(need("HMM_DAX_EXT4"), MB(256));
	measure("fault_cold_pmd_256m", fd, MB(256), MB(2), 0, 0);
	measure("fault_cold_pmd_256m_write", fd, MB(256), MB(2), 0, HMM_BENCH_WRITE);
	/* Addresses out of step with the file's blocks: mapped by pages. */
	measure("fault_cold_pte_64m", fd, MB(64), MB(2), 4096, 0);
	measure("fault_cold_pte_64m_write", fd, MB(64), MB(2), 4096, HMM_BENCH_WRITE);
	/* A hole of one page: pages in the first 2 MiB, PMD leaves behind. */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
		err(1, "%s: punch", need("HMM_DAX_EXT4"));
	measure("fault_cold_mixed_16m", fd, MB(16), MB(2), 0, 0);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[1], "faults"))
		errx(2, "usage: hmm-bench faults");
	bench = open("/dev/hmm_bench", O_RDWR);
	if (bench < 0)
		err(1, "/dev/hmm_bench (is hmm_bench.ko loaded?)");
	faults();
	return 0;
}
