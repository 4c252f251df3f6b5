/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What power-writer and flush-record share: mappings of DAX files, and the two devices
 * that write through HMM.
 */
#ifndef _POWERCUTS_DEVICE_H
#define _POWERCUTS_DEVICE_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <lib/test_hmm_uapi.h>
#include <lib/test_hmm_dma_uapi.h>

#include "../common/mix.h"

#define LEAF	(2UL << 20)

/* A number below @n. */
static inline unsigned long pick(uint64_t *rng, unsigned long n)
{
	*rng += 0x9e3779b97f4a7c15ULL;
	return mix(*rng) % n;
}

/* Addresses for a mapping of @size bytes, aligned to a leaf, plus @skew bytes. */
static inline char *reserve(size_t size, size_t skew)
{
	char *p = mmap(NULL, size + 2 * LEAF, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return (char *)(((uintptr_t)p + LEAF - 1) / LEAF * LEAF) + skew;
}

static inline void map_at(char *at, size_t size, int fd, int sync)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE, MAP_FIXED |
		       (sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED), fd, 0);

	if (p == MAP_FAILED)
		err(1, "mmap%s of %zu bytes", sync ? " with MAP_SYNC" : "", size);
}

static inline int open_device(const char *path)
{
	int fd = open(path, O_RDWR);

	if (fd < 0)
		err(1, "%s (are test_hmm and test_hmm_dma loaded?)", path);
	return fd;
}

/* A device gives up after a second of invalidations: on a busy machine, try again. */
static inline void request(int fd, unsigned long req, void *args, const char *what)
{
	int tries = 10;

	while (ioctl(fd, req, args))
		if (errno != EBUSY || !--tries)
			err(1, "%s", what);
}

/* test_hmm: whole pages. */
static inline void dmirror_write(int fd, char *at, const void *from, size_t npages)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)from,
		.npages = npages,
	};

	request(fd, HMM_DMIRROR_WRITE, &cmd, "test_hmm's write");
	if (cmd.cpages != npages)
		errx(1, "test_hmm wrote %llu of %zu pages", (unsigned long long)cmd.cpages,
		     npages);
}

/* edu: HMM_DMA_XFER_MAX bytes at most, in the window of @fd. */
static inline void edu_window(int fd, char *at, size_t size)
{
	struct test_hmm_dma_window window = {
		.addr = (uintptr_t)at,
		.npages = size / sysconf(_SC_PAGESIZE),
	};

	request(fd, HMM_DMA_MIRROR, &window, "edu's window");
}

static inline void edu_write(int fd, char *at, const void *from, size_t size)
{
	struct test_hmm_dma_xfer xfer = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)from,
		.size = size,
	};

	request(fd, HMM_DMA_WRITE, &xfer, "edu's write");
}

#endif /* _POWERCUTS_DEVICE_H */
