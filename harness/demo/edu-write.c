// SPDX-License-Identifier: GPL-2.0
/*
 * edu-write PATH LEAF TEXT: have QEMU's edu, a PCI device behind the IOMMU, write
 * TEXT by its own DMA engine to a user address: a mapping of a new file on a DAX
 * file system, or of a device-dax. The process never writes to that address.
 *
 * Prints "DMA-address leaf CPU": the address that the device was given, the size of
 * the leaf there, and what the CPU reads at the user address afterwards.
 */
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
#include <sys/stat.h>

#include <lib/test_hmm_dma_uapi.h>

#define PAGE	4096UL

static void request(int fd, unsigned long req, void *args, const char *what)
{
	if (ioctl(fd, req, args))
		err(1, "%s", what);
}

int main(int argc, char **argv)
{
	struct test_hmm_dma_window window = {};
	struct test_hmm_dma_query query = {};
	struct test_hmm_dma_xfer xfer = {};
	size_t leaf, size;
	struct stat st;
	char *map, *at;
	int fd, edu;

	if (argc != 4)
		errx(2, "usage: edu-write PATH LEAF TEXT");
	leaf = strtoull(argv[2], NULL, 0);
	size = strlen(argv[3]);
	if (!size || size > HMM_DMA_XFER_MAX)
		errx(2, "the device moves 1 to %d bytes", HMM_DMA_XFER_MAX);
	edu = open("/dev/hmm_dma_edu", O_RDWR);
	if (edu < 0)
		err(1, "/dev/hmm_dma_edu (is test_hmm_dma loaded?)");

	fd = open(argv[1], O_RDWR | O_CREAT, 0600);
	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", argv[1]);
	errno = S_ISREG(st.st_mode) ? posix_fallocate(fd, 0, leaf) : 0;
	if (errno)
		err(1, "%s", argv[1]);

	/* Aligned to the leaf, so that the CPU can map it by one entry. */
	map = mmap(NULL, 2 * leaf, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (map == MAP_FAILED)
		err(1, "mmap");
	map = (char *)(((uintptr_t)map + leaf - 1) / leaf * leaf);
	map = mmap(map, leaf, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (map == MAP_FAILED)
		err(1, "%s: mmap of %zu bytes", argv[1], leaf);
	at = map + leaf / 2;

	window.addr = (uintptr_t)map;
	window.npages = leaf / PAGE;
	request(edu, HMM_DMA_MIRROR, &window, "mirroring");
	xfer.addr = (uintptr_t)at;
	xfer.ptr = (uintptr_t)argv[3];
	xfer.size = size;
	request(edu, HMM_DMA_WRITE, &xfer, "the device's write");
	query.addr = (uintptr_t)at;
	request(edu, HMM_DMA_QUERY, &query, "the device's address");

	printf("%#llx %lu %.*s\n", (unsigned long long)query.dma, PAGE << query.order,
	       (int)size, at);
	/* A device-dax needs no sync and has none. */
	if (S_ISREG(st.st_mode) && (msync(map, leaf, MS_SYNC) || fsync(fd)))
		err(1, "%s: sync", argv[1]);
	return 0;
}
