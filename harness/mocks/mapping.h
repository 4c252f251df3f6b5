/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of a process for KUnit tests: anonymous, or DAX, whose files the module
 * is given by
 *
 *	dax=FILE:SHIFT[,FILE:SHIFT...]
 *
 * Each FILE is to be mapped with leaves of 1 << SHIFT bytes. To be included once.
 */
#ifndef MAPPING_H
#define MAPPING_H

#include <kunit/test.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>

static struct mapping_file {
	struct file *file;
	unsigned int shift;
	char name[64];
} mapping_files[8];
static int mapping_nr;

static void mapping_close(void *arg)
{
	while (mapping_nr)
		filp_close(mapping_files[--mapping_nr].file, NULL);
}

/* Files are opened here, in modprobe: a test's thread has another root folder. */
static int mapping_open(const char *val, const struct kernel_param *kp)
{
	char *copy = kstrdup(val, GFP_KERNEL), *next = copy, *name, *colon;
	int ret = copy ? 0 : -ENOMEM;

	while (!ret && (name = strsep(&next, ","))) {
		struct mapping_file *f = &mapping_files[mapping_nr];

		colon = strrchr(name, ':');
		if (!colon || mapping_nr == ARRAY_SIZE(mapping_files)) {
			ret = -EINVAL;
			break;
		}
		*colon = '\0';
		ret = kstrtouint(colon + 1, 0, &f->shift);
		if (ret)
			break;
		f->file = filp_open(name, O_RDWR, 0);
		if (IS_ERR(f->file)) {
			ret = PTR_ERR(f->file);
			break;
		}
		strscpy(f->name, name);
		mapping_nr++;
	}
	if (ret) {
		pr_err("dax=%s: %pe\n", val, ERR_PTR(ret));
		mapping_close(NULL);
	}
	kfree(copy);
	return ret;
}

static const struct kernel_param_ops mapping_ops = {
	.set = mapping_open,
	.free = mapping_close,
};
module_param_cb(dax, &mapping_ops, NULL, 0);
MODULE_PARM_DESC(dax, "DAX files to map, FILE:SHIFT of the leaves");

/* For KUNIT_CASE_PARAM(): the files one by one, and no case without any. */
static inline const void *mapping_gen_params(struct kunit *test, const void *prev,
					     char *desc)
{
	const struct mapping_file *f = prev ? (const struct mapping_file *)prev + 1 :
					      mapping_files;

	if (f >= mapping_files + mapping_nr)
		return NULL;
	strscpy(desc, f->name, KUNIT_PARAM_DESC_SIZE);
	return f;
}

/* Map @file, shared, or, without one, anonymous memory at @addr; it goes with the test. */
static inline unsigned long mapping_map(struct kunit *test, struct file *file,
					unsigned long addr, unsigned long len,
					unsigned long prot, unsigned long offset)
{
	addr = kunit_vm_mmap(test, file, addr, len, prot,
			     (file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) |
			     MAP_FIXED, offset);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	return addr;
}

/* The page that the CPU has at @addr, faulted in for reading or for writing. */
static inline phys_addr_t mapping_cpu_phys(struct kunit *test, unsigned long addr,
					   bool write)
{
	struct page *page;
	phys_addr_t phys;

	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(addr, 1, write ? FOLL_WRITE : 0,
						     &page));
	phys = page_to_phys(page);
	put_page(page);
	return phys + offset_in_page(addr);
}

/* The same, 0 if the CPU has none there now. */
static inline phys_addr_t mapping_present_phys(unsigned long addr)
{
	struct page *page;
	phys_addr_t phys;

	if (get_user_pages_fast_only(addr, 1, 0, &page) != 1)
		return 0;
	phys = page_to_phys(page);
	put_page(page);
	return phys + offset_in_page(addr);
}

#endif
