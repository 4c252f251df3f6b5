/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tests of DAX and of HMM take DAX memory from the environment with this.
 */
#ifndef HMM_MEMORY_H
#define HMM_MEMORY_H

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <mm/hugepage_settings.h>
#include <mm/vm_util.h>

#define MB(n)		((size_t)(n) << 20)

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

/* What maps memory, a page at the least. */
enum leaf { PTE, PMD, PUD };

/* 0: without transparent huge pages the kernel does not tell. */
static inline size_t pmd_size(void)
{
	static size_t size;

	if (!size)
		size = read_pmd_pagesize();
	return size;
}

/*
 * Bytes; 0: there are none of that size. Only a device-dax has PUD leaves, which
 * are as large as its alignment: the one that @env names.
 */
static inline size_t leaf_size(enum leaf leaf, const char *env)
{
	const char *where = env ? getenv(env) : NULL;
	struct stat st;
	size_t size;

	if (leaf != PUD)
		return leaf == PMD ? pmd_size() : psize();
	if (!pmd_size() || !where || stat(where, &st))
		return 0;
	size = dax_attr(&st, "align");
	return size > pmd_size() ? size : 0;
}

#define NO_LEAF		"no page table leaves of that size"

/* How many of the leaves that a test would like: at most 1 GiB, as a rule. */
static inline size_t leaf_count(enum leaf leaf, size_t wanted)
{
	return leaf == PMD && pmd_size() > MB(64) && wanted > 2 ? 2 : wanted;
}

/* What address space and files are aligned to. */
static inline size_t leaf_align(size_t leaf)
{
	return leaf > pmd_size() ? leaf : pmd_size();
}

/* Have hugetlb pages of that size, if that is what the kernel's default is. */
static inline void setup_hugetlb_pmds(size_t n)
{
	if (pmd_size() && default_huge_page_size() == pmd_size())
		hugetlb_setup_default(leaf_count(PMD, n));
}

/* A file of hugetlb pages; or -1, and @why there is none. */
static inline int hugetlb_file(size_t size, const char **why)
{
	int fd = -1;

	if (default_huge_page_size() == pmd_size())
		fd = memfd_create("hmm", MFD_HUGETLB);
	if (fd < 0) {
		*why = "no hugetlb pages of a PMD's size by default";
		return -1;
	}
	if (hugetlb_free_pages(pmd_size()) >= size / pmd_size() &&
	    !ftruncate(fd, size))
		return fd;
	*why = "not enough free hugetlb pages";
	close(fd);
	return -1;
}

/* Can PMD leaves map the file: is all of it at places of the device that do? */
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

		if (e->fe_logical != covered || e->fe_physical % pmd_size() ||
		    (e->fe_length % pmd_size() &&
		     e->fe_logical + e->fe_length < size))
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
