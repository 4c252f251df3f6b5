/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of HMM that take DAX memory from the environment have in common.
 */
#ifndef HMM_MEMORY_H
#define HMM_MEMORY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define KB(n)		((size_t)(n) << 10)
#define MB(n)		((size_t)(n) << 20)
#define GB(n)		((size_t)(n) << 30)

/* One line of a device-dax's attributes; also says no to any other device. */
static inline unsigned long long dax_attr(const struct stat *st,
					  const char *name)
{
	char path[128], link[PATH_MAX] = "";
	unsigned long long value = 0;
	FILE *f;

	if (!S_ISCHR(st->st_mode))
		return 0;
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/subsystem",
		 major(st->st_rdev), minor(st->st_rdev));
	if (readlink(path, link, sizeof(link) - 1) < 0 ||
	    strcmp(strrchr(link, '/') ?: "", "/dax"))
		return 0;
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/%s",
		 major(st->st_rdev), minor(st->st_rdev), name);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%llu", &value) != 1)
		value = 0;
	fclose(f);
	return value;
}

/* A whole number of 2 MiB blocks at 2 MiB-aligned places of the device? */
static inline bool has_pmd_extents(int fd, size_t size)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extent[16];
	} fm = {
		.map.fm_length = size,
		.map.fm_flags = FIEMAP_FLAG_SYNC,
		.map.fm_extent_count = 16,
	};
	size_t covered = 0;
	unsigned int i;

	if (ioctl(fd, FS_IOC_FIEMAP, &fm) || !fm.map.fm_mapped_extents)
		return false;
	for (i = 0; i < fm.map.fm_mapped_extents; i++) {
		const struct fiemap_extent *e = &fm.extent[i];

		if (e->fe_logical != covered || e->fe_physical % MB(2) ||
		    (e->fe_length % MB(2) && e->fe_logical + e->fe_length < size))
			return false;
		covered += e->fe_length;
	}
	return covered >= size;
}

/* Address space for @size bytes where (address - @skew) is @align-aligned. */
static inline char *reserve(size_t size, size_t align, size_t skew)
{
	char *p = mmap(NULL, size + 2 * align, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	return (char *)(((uintptr_t)p + align - 1) / align * align) + skew;
}

#endif
