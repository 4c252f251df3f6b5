// SPDX-License-Identifier: GPL-2.0
/*
 * A driver that mirrors a process and lets a device access its memory by DMA, as
 * that of a GPU does: with hmm_range_fault() and hmm_range_dma_map().
 *
 * The device is QEMU's "edu" (-device edu,dma_mask=0xffffffffffff), whose engine
 * copies between memory and a buffer inside of the device. A platform device,
 * without IOMMU, goes through the same code, but can only be asked what it has
 * mapped.
 *
 * There are two locks. That of the device serializes all requests, and so all
 * users of the engine; faulting and mapping happen under it. That of a mirror
 * is the one of the invalidate() callback. It protects the map, and is held as
 * long as the device uses an address of the map. No memory is allocated under
 * it but GFP_ATOMIC, and none of the user's is touched.
 */
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iopoll.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/string_choices.h>
#include <linux/uaccess.h>

#include "test_hmm_dma_uapi.h"

#define EDU_VENDOR		0x1234
#define EDU_DEVICE		0x11e8

#define EDU_DMA_SRC		0x80
#define EDU_DMA_DST		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_CMD		0x98
#define EDU_DMA_START		BIT(0)	/* reads as 1 until it is done */
#define EDU_DMA_TO_MEMORY	BIT(1)
#define EDU_BUFFER		0x40000	/* the device's own, at its own address */

/* A device; open files hold it, also when it is long unbound. */
struct test_hmm_dma_dev {
	struct kref		ref;
	struct miscdevice	misc;
	struct mutex		lock;		/* all below, one request a time */
	struct device		*dev;		/* NULL: unbound */
	struct list_head	mirrors;
	void __iomem		*mmio;		/* NULL: no DMA engine */
	void			*bounce;	/* HMM_DMA_XFER_MAX bytes */
	dma_addr_t		bounce_dma;
};

/*
 * An entry of the device's page table. A real device has one in its own memory;
 * this one is told an address for each transfer.
 */
struct test_hmm_dma_pte {
	dma_addr_t		dma;
	unsigned long		hmm_pfn;	/* without HMM_PFN_VALID: none */
};

/* An open file. */
struct test_hmm_dma_mirror {
	struct test_hmm_dma_dev	*hdev;
	struct list_head	node;
	struct mm_struct	*mm;
	struct mmu_interval_notifier notifier;
	struct test_hmm_dma_pte	*ptes;		/* NULL: no window */
	struct mutex		lock;		/* what follows, ptes, see above */
	struct hmm_dma_window	window;
	u64			invalidations;
};

static struct test_hmm_dma_pte *
test_hmm_dma_pte(struct test_hmm_dma_mirror *mirror, unsigned long addr)
{
	return &mirror->ptes[(addr - mirror->window.start) >> PAGE_SHIFT];
}

/* Take part of the window from the device, and what comes with it. */
static void test_hmm_dma_take_back(struct test_hmm_dma_mirror *mirror,
				   unsigned long start, unsigned long end)
{
	lockdep_assert_held(&mirror->lock);
	if (!hmm_range_dma_widen(&mirror->window, &start, &end))
		return;
	/* First the device, then the IOMMU: nothing faults in between. */
	memset(test_hmm_dma_pte(mirror, start), 0,
	       ((end - start) >> PAGE_SHIFT) * sizeof(*mirror->ptes));
	hmm_range_dma_unmap(&mirror->window, start, end);
}

static bool test_hmm_dma_invalidate(struct mmu_interval_notifier *mni,
				    const struct mmu_notifier_range *range,
				    unsigned long cur_seq)
{
	struct test_hmm_dma_mirror *mirror =
		container_of(mni, struct test_hmm_dma_mirror, notifier);

	/* Whoever has the lock may be waiting for the device, so do we. */
	if (mmu_notifier_range_blockable(range))
		mutex_lock(&mirror->lock);
	else if (!mutex_trylock(&mirror->lock))
		return false;

	mmu_interval_set_seq(mni, cur_seq);
	mirror->invalidations++;

	/* The callback's range may go beyond the window. */
	test_hmm_dma_take_back(mirror, range->start, range->end);

	mutex_unlock(&mirror->lock);
	return true;
}

static const struct mmu_interval_notifier_ops test_hmm_dma_notifier_ops = {
	.invalidate = test_hmm_dma_invalidate,
};

static void test_hmm_dma_destroy_window(struct test_hmm_dma_mirror *mirror)
{
	if (!mirror->ptes)
		return;
	/*
	 * Without the notifier the pages could go at any time, so first take
	 * them from the device. New ones would need the device's lock.
	 */
	mutex_lock(&mirror->lock);
	test_hmm_dma_take_back(mirror, mirror->window.start,
			       mirror->window.end);
	mutex_unlock(&mirror->lock);
	mmu_interval_notifier_remove(&mirror->notifier);
	hmm_dma_window_destroy(&mirror->window);
	kvfree(mirror->ptes);
	mirror->ptes = NULL;
}

static int test_hmm_dma_create_window(struct test_hmm_dma_mirror *mirror,
				      const struct test_hmm_dma_window *win)
{
	unsigned long start = win->addr;
	unsigned long size = win->npages << PAGE_SHIFT;
	int ret;

	test_hmm_dma_destroy_window(mirror);
	if (!win->npages || win->npages > TASK_SIZE >> PAGE_SHIFT ||
	    win->flags || !PAGE_ALIGNED(win->addr) || win->addr > TASK_SIZE ||
	    size > TASK_SIZE - win->addr)
		return -EINVAL;

	mirror->ptes = kvcalloc(win->npages, sizeof(*mirror->ptes),
				GFP_KERNEL | __GFP_NOWARN);
	if (!mirror->ptes)
		return -ENOMEM;
	ret = hmm_dma_window_init(&mirror->window, mirror->hdev->dev, start,
				  start + size, NULL);
	if (ret)
		goto err_ptes;
	mirror->invalidations = 0;
	/* The callback can be called from here on. */
	ret = mmu_interval_notifier_insert(&mirror->notifier, mirror->mm, start,
					   size, &test_hmm_dma_notifier_ops);
	if (ret)
		goto err_window;
	return 0;

err_window:
	hmm_dma_window_destroy(&mirror->window);
err_ptes:
	kvfree(mirror->ptes);
	mirror->ptes = NULL;
	return ret;
}

static bool test_hmm_dma_in_window(const struct test_hmm_dma_mirror *mirror,
				   u64 addr, u64 size)
{
	return mirror->ptes && addr >= mirror->window.start &&
	       addr < mirror->window.end && size <= mirror->window.end - addr;
}

/* Tell the device of what is mapped now. Returns how many leaves are new to it. */
static u64 test_hmm_dma_set(struct test_hmm_dma_mirror *mirror,
			    const struct hmm_range *range,
			    const struct hmm_dma_batch *batch)
{
	struct hmm_extent mapped;
	unsigned long addr, pfn;
	dma_addr_t dma;
	unsigned int i;
	u64 leaves = 0;

	for (i = 0; i < range->nr_extents; i++) {
		if (!hmm_range_dma_mapped(&mirror->window, range, batch, i,
					  &mapped, &dma))
			continue;
		for (addr = mapped.start; addr < mapped.end; addr += PAGE_SIZE) {
			struct test_hmm_dma_pte *pte =
				test_hmm_dma_pte(mirror, addr);
			unsigned long size;

			pfn = hmm_extent_entry(&mapped, addr);
			size = PAGE_SIZE << hmm_pfn_to_map_order(pfn);
			/* What is there may allow the device more already. */
			if (pte->hmm_pfn == pfn ||
			    pte->hmm_pfn == (pfn | HMM_PFN_WRITE))
				continue;
			if (IS_ALIGNED(addr, size) || addr == mapped.start)
				leaves++;
			pte->dma = dma + (addr - mapped.start);
			pte->hmm_pfn = pfn;
		}
	}
	return leaves;
}

/* What the fault handler of a driver does. */
static int test_hmm_dma_fault(struct test_hmm_dma_mirror *mirror,
			      unsigned long start, unsigned long end, u64 flags,
			      u64 *mapped)
{
	unsigned long timeout = msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	unsigned long deadline = jiffies + timeout;
	struct hmm_extent extents[16];
	struct hmm_range range = {
		.notifier = &mirror->notifier,
		.start = start,
		.end = end,
		.extents = extents,
		.max_extents = ARRAY_SIZE(extents),
	};
	struct hmm_dma_batch batch = {
		.dir = flags & (HMM_DMA_MAP_WRITE | HMM_DMA_MAP_SNAPSHOT) ?
			DMA_BIDIRECTIONAL : DMA_TO_DEVICE,
	};
	int ret = 0;

	if (!(flags & HMM_DMA_MAP_SNAPSHOT))
		range.default_flags |= HMM_PFN_REQ_FAULT;
	if (flags & HMM_DMA_MAP_WRITE)
		range.default_flags |= HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;

	while (!ret && range.start < range.end) {
		ret = hmm_range_fault_unlocked_timeout(&range, timeout);
		if (!ret)
			ret = hmm_range_dma_prepare(&mirror->window, &range,
						    &batch);
		if (ret)
			break;

		mutex_lock(&mirror->lock);
		ret = -EAGAIN;
		if (!mmu_interval_read_retry(range.notifier,
					     range.notifier_seq)) {
			ret = hmm_range_dma_map(&mirror->window, &range,
						&batch);
			if (ret == -EEXIST) {
				/* It was only to be read so far. */
				test_hmm_dma_take_back(mirror,
						       batch.stale_start,
						       batch.stale_end);
				ret = hmm_range_dma_map(&mirror->window, &range,
							&batch);
			}
		}
		if (!ret)
			*mapped += test_hmm_dma_set(mirror, &range, &batch);
		mutex_unlock(&mirror->lock);

		if (!ret)
			range.start = extents[range.nr_extents - 1].end;
		else if (ret == -EAGAIN)
			ret = time_after(jiffies, deadline) ? -EBUSY : 0;
	}
	hmm_range_dma_finish(&batch);
	return ret;
}

static int test_hmm_dma_map(struct test_hmm_dma_mirror *mirror,
			    struct test_hmm_dma_window *win, bool map)
{
	const u64 known = HMM_DMA_MAP_WRITE | HMM_DMA_MAP_SNAPSHOT;
	u64 size = win->npages << PAGE_SHIFT;
	u64 mapped = 0;
	int ret;

	win->mapped = 0;
	if (!win->npages || size >> PAGE_SHIFT != win->npages ||
	    !PAGE_ALIGNED(win->addr) || (win->flags & ~(map ? known : 0)) ||
	    !test_hmm_dma_in_window(mirror, win->addr, size))
		return -EINVAL;
	if (map) {
		ret = test_hmm_dma_fault(mirror, win->addr, win->addr + size,
					 win->flags, &mapped);
		if (!ret)
			win->mapped = mapped;
		return ret;
	}
	mutex_lock(&mirror->lock);
	test_hmm_dma_take_back(mirror, win->addr, win->addr + size);
	mutex_unlock(&mirror->lock);
	return 0;
}

/*
 * The device is about to access @addr. If that succeeds the mirror is locked, and
 * @dma good for *@size bytes until it is unlocked.
 */
static int test_hmm_dma_get(struct test_hmm_dma_mirror *mirror, unsigned long addr,
			    bool write, struct test_hmm_dma_xfer *xfer, dma_addr_t *dma,
		       size_t *size)
{
	unsigned long deadline =
		jiffies + msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	unsigned long page = addr & PAGE_MASK;
	struct test_hmm_dma_pte *pte = test_hmm_dma_pte(mirror, addr);
	u64 mapped = 0;
	int ret;

	for (;;) {
		mutex_lock(&mirror->lock);
		if (pte->hmm_pfn & HMM_PFN_VALID &&
		    (!write || pte->hmm_pfn & HMM_PFN_WRITE)) {
			*dma = pte->dma + offset_in_page(addr);
			*size = min(*size, hmm_leaf_end(pte->hmm_pfn, addr) -
				    addr);
			return 0;
		}
		mutex_unlock(&mirror->lock);

		/* A device page fault. What it maps can be gone again. */
		if (time_after(jiffies, deadline))
			return -EBUSY;
		xfer->faults++;
		ret = test_hmm_dma_fault(mirror, page, page + PAGE_SIZE,
					 write ? HMM_DMA_MAP_WRITE : 0, &mapped);
		if (ret)
			return ret;
	}
}

static int edu_copy(struct test_hmm_dma_dev *hdev, u64 src, u64 dst, size_t size,
		    u64 direction)
{
	u64 cmd;

	writeq(src, hdev->mmio + EDU_DMA_SRC);
	writeq(dst, hdev->mmio + EDU_DMA_DST);
	writeq(size, hdev->mmio + EDU_DMA_COUNT);
	writeq(EDU_DMA_START | direction, hdev->mmio + EDU_DMA_CMD);
	return readq_poll_timeout(hdev->mmio + EDU_DMA_CMD, cmd,
				  !(cmd & EDU_DMA_START), 2 * USEC_PER_MSEC,
				  10 * USEC_PER_SEC);
}

static int edu_read(struct test_hmm_dma_dev *hdev, u64 src, size_t offset,
		    size_t size)
{
	return edu_copy(hdev, src, EDU_BUFFER + offset, size, 0);
}

static int edu_write(struct test_hmm_dma_dev *hdev, u64 dst, size_t offset,
		     size_t size)
{
	return edu_copy(hdev, EDU_BUFFER + offset, dst, size,
			EDU_DMA_TO_MEMORY);
}

/* Between the mirrored process's memory and the device's buffer. */
static int test_hmm_dma_copy(struct test_hmm_dma_mirror *mirror,
			     struct test_hmm_dma_xfer *xfer, bool write)
{
	struct test_hmm_dma_dev *hdev = mirror->hdev;
	size_t done, size;
	dma_addr_t dma;
	int ret;

	if (!test_hmm_dma_in_window(mirror, xfer->addr, xfer->size))
		return -EINVAL;
	for (done = 0; done < xfer->size; done += size) {
		size = xfer->size - done;
		ret = test_hmm_dma_get(mirror, xfer->addr + done, write, xfer, &dma,
				       &size);
		if (ret)
			return ret;
		if (write)
			ret = edu_write(hdev, dma, done, size);
		else
			ret = edu_read(hdev, dma, done, size);
		mutex_unlock(&mirror->lock);
		if (ret)
			return ret;
	}
	return 0;
}

static int test_hmm_dma_copy_raw(struct test_hmm_dma_mirror *mirror,
				 struct test_hmm_dma_xfer *xfer, bool write)
{
	struct test_hmm_dma_dev *hdev = mirror->hdev;

	/* For those who look for unexpected faults in the kernel log. */
	dev_info(hdev->dev, "the IOMMU is expected to refuse a %s of %#llx\n",
		 str_write_read(write), xfer->addr);
	return write ? edu_write(hdev, xfer->addr, 0, xfer->size) :
		       edu_read(hdev, xfer->addr, 0, xfer->size);
}

static int test_hmm_dma_xfer(struct test_hmm_dma_mirror *mirror,
			     struct test_hmm_dma_xfer *xfer, void *buf, unsigned int cmd)
{
	bool write = cmd == HMM_DMA_WRITE || cmd == HMM_DMA_RAW_WRITE;
	bool raw = cmd == HMM_DMA_RAW_READ || cmd == HMM_DMA_RAW_WRITE;
	struct test_hmm_dma_dev *hdev = mirror->hdev;
	int ret;

	xfer->faults = 0;
	if (!hdev->mmio)
		return -EOPNOTSUPP;
	if (write) {
		memcpy(hdev->bounce, buf, xfer->size);
		ret = edu_read(hdev, hdev->bounce_dma, 0, xfer->size);
		if (ret)
			return ret;
	}
	ret = raw ? test_hmm_dma_copy_raw(mirror, xfer, write) :
		    test_hmm_dma_copy(mirror, xfer, write);
	if (ret || write)
		return ret;
	ret = edu_write(hdev, hdev->bounce_dma, 0, xfer->size);
	if (!ret)
		memcpy(buf, hdev->bounce, xfer->size);
	return ret;
}

static void test_hmm_dma_iova(struct test_hmm_dma_mirror *mirror,
			      struct test_hmm_dma_query *query)
{
	struct iommu_domain *domain =
		iommu_get_domain_for_dev(mirror->hdev->dev);

	query->iommu_phys = domain ? iommu_iova_to_phys(domain, query->dma) : 0;
}

static int test_hmm_dma_query(struct test_hmm_dma_mirror *mirror,
			      struct test_hmm_dma_query *query)
{
	struct test_hmm_dma_pte *pte;

	if (!test_hmm_dma_in_window(mirror, query->addr, 1))
		return -EINVAL;
	pte = test_hmm_dma_pte(mirror, query->addr);
	query->flags = 0;
	mutex_lock(&mirror->lock);
	if (pte->hmm_pfn & HMM_PFN_VALID) {
		query->dma = pte->dma + offset_in_page(query->addr);
		query->phys = hmm_pfn_to_phys(pte->hmm_pfn) +
			      offset_in_page(query->addr);
		query->order = hmm_pfn_to_map_order(pte->hmm_pfn);
		query->flags = HMM_DMA_IS_MAPPED;
		if (pte->hmm_pfn & HMM_PFN_WRITE)
			query->flags |= HMM_DMA_IS_WRITABLE;
		test_hmm_dma_iova(mirror, query);
	}
	mutex_unlock(&mirror->lock);
	return 0;
}

union test_hmm_dma_args {
	struct test_hmm_dma_window	window;
	struct test_hmm_dma_xfer	xfer;
	struct test_hmm_dma_query	query;
	struct test_hmm_dma_stats	stats;
};

static int test_hmm_dma_request(struct test_hmm_dma_mirror *mirror, unsigned int cmd,
				union test_hmm_dma_args *args, void *buf)
{
	switch (cmd) {
	case HMM_DMA_MIRROR:
		return test_hmm_dma_create_window(mirror, &args->window);
	case HMM_DMA_MAP:
	case HMM_DMA_UNMAP:
		return test_hmm_dma_map(mirror, &args->window, cmd == HMM_DMA_MAP);
	case HMM_DMA_READ:
	case HMM_DMA_WRITE:
	case HMM_DMA_RAW_READ:
	case HMM_DMA_RAW_WRITE:
		return test_hmm_dma_xfer(mirror, &args->xfer, buf, cmd);
	case HMM_DMA_QUERY:
		return test_hmm_dma_query(mirror, &args->query);
	case HMM_DMA_IOVA:
		test_hmm_dma_iova(mirror, &args->query);
		return 0;
	case HMM_DMA_STATS:
		args->stats.invalidations = mirror->invalidations;
		return 0;
	}
	return -ENOTTY;
}

/* The caller's memory is only touched without locks: a mirror may be of it. */
static long test_hmm_dma_ioctl(struct file *file, unsigned int cmd,
			       unsigned long arg)
{
	struct test_hmm_dma_mirror *mirror = file->private_data;
	struct test_hmm_dma_dev *hdev = mirror->hdev;
	size_t size = _IOC_SIZE(cmd);
	union test_hmm_dma_args args;
	void *buf = NULL;
	int ret;

	if (_IOC_TYPE(cmd) != 'H' || size > sizeof(args))
		return -ENOTTY;
	if (copy_from_user(&args, (void __user *)arg, size))
		return -EFAULT;
	switch (cmd) {
	case HMM_DMA_READ:
	case HMM_DMA_WRITE:
	case HMM_DMA_RAW_READ:
	case HMM_DMA_RAW_WRITE:
		if (!args.xfer.size || args.xfer.size > HMM_DMA_XFER_MAX)
			return -EINVAL;
		buf = memdup_user(u64_to_user_ptr(args.xfer.ptr),
				  args.xfer.size);
		if (IS_ERR(buf))
			return PTR_ERR(buf);
	}

	ret = -ESRCH;
	if (!mmget_not_zero(mirror->mm))
		goto out;
	ret = mutex_lock_interruptible(&hdev->lock);
	if (ret)
		goto out_mm;
	if (hdev->dev || cmd == HMM_DMA_STATS)
		ret = test_hmm_dma_request(mirror, cmd, &args, buf);
	else
		ret = -ENODEV;
	mutex_unlock(&hdev->lock);

	if (!ret && (cmd == HMM_DMA_READ || cmd == HMM_DMA_RAW_READ) &&
	    copy_to_user(u64_to_user_ptr(args.xfer.ptr), buf, args.xfer.size))
		ret = -EFAULT;
	if (copy_to_user((void __user *)arg, &args, size))
		ret = -EFAULT;
out_mm:
	mmput(mirror->mm);
out:
	kfree(buf);
	return ret;
}

static void test_hmm_dma_dev_free(struct kref *ref)
{
	kfree(container_of(ref, struct test_hmm_dma_dev, ref));
}

/* Not after misc_deregister(), which waits for those that run. */
static int test_hmm_dma_open(struct inode *inode, struct file *file)
{
	struct test_hmm_dma_dev *hdev =
		container_of(file->private_data, struct test_hmm_dma_dev, misc);
	struct test_hmm_dma_mirror *mirror = kzalloc_obj(*mirror);

	if (!mirror)
		return -ENOMEM;
	kref_get(&hdev->ref);
	mirror->hdev = hdev;
	mutex_init(&mirror->lock);
	mmgrab(current->mm);
	mirror->mm = current->mm;
	mutex_lock(&hdev->lock);
	list_add(&mirror->node, &hdev->mirrors);
	mutex_unlock(&hdev->lock);
	file->private_data = mirror;
	return 0;
}

static int test_hmm_dma_release(struct inode *inode, struct file *file)
{
	struct test_hmm_dma_mirror *mirror = file->private_data;
	struct test_hmm_dma_dev *hdev = mirror->hdev;

	mutex_lock(&hdev->lock);
	test_hmm_dma_destroy_window(mirror);
	list_del(&mirror->node);
	mutex_unlock(&hdev->lock);
	mmdrop(mirror->mm);
	mutex_destroy(&mirror->lock);
	kfree(mirror);
	kref_put(&hdev->ref, test_hmm_dma_dev_free);
	return 0;
}

static const struct file_operations test_hmm_dma_fops = {
	.owner		= THIS_MODULE,
	.open		= test_hmm_dma_open,
	.release	= test_hmm_dma_release,
	.unlocked_ioctl	= test_hmm_dma_ioctl,
};

/* From here on there is a node in /dev; *@hdev is ready for requests. */
static int test_hmm_dma_register(struct test_hmm_dma_dev *hdev, struct device *dev,
				 const char *name)
{
	kref_init(&hdev->ref);
	mutex_init(&hdev->lock);
	INIT_LIST_HEAD(&hdev->mirrors);
	hdev->dev = dev;
	hdev->misc.minor = MISC_DYNAMIC_MINOR;
	hdev->misc.name = name;
	hdev->misc.fops = &test_hmm_dma_fops;
	return misc_register(&hdev->misc);
}

/* Nothing of the device is used any more, though files may still be open. */
static void test_hmm_dma_unregister(struct test_hmm_dma_dev *hdev)
{
	struct test_hmm_dma_mirror *mirror;

	misc_deregister(&hdev->misc);
	mutex_lock(&hdev->lock);
	list_for_each_entry(mirror, &hdev->mirrors, node)
		test_hmm_dma_destroy_window(mirror);
	hdev->dev = NULL;
	mutex_unlock(&hdev->lock);
	kref_put(&hdev->ref, test_hmm_dma_dev_free);
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct test_hmm_dma_dev *hdev;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(48));
	if (ret)
		return ret;

	hdev = kzalloc_obj(*hdev);
	if (!hdev)
		return -ENOMEM;
	hdev->mmio = pcim_iomap_region(pdev, 0, "test_hmm_dma");
	if (IS_ERR(hdev->mmio)) {
		ret = PTR_ERR(hdev->mmio);
		goto err;
	}
	ret = -ENOMEM;
	hdev->bounce = dmam_alloc_coherent(&pdev->dev, HMM_DMA_XFER_MAX,
					   &hdev->bounce_dma, GFP_KERNEL);
	if (!hdev->bounce)
		goto err;
	pci_set_master(pdev);
	ret = test_hmm_dma_register(hdev, &pdev->dev, "hmm_dma_edu");
	if (ret)
		goto err;
	pci_set_drvdata(pdev, hdev);
	return 0;

err:
	kfree(hdev);
	return ret;
}

static void edu_remove(struct pci_dev *pdev)
{
	test_hmm_dma_unregister(pci_get_drvdata(pdev));
	pci_clear_master(pdev);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR, EDU_DEVICE) },
	{}
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name		= "test_hmm_dma",
	.id_table	= edu_ids,
	.probe		= edu_probe,
	.remove		= edu_remove,
};

static struct platform_device *direct_pdev;
static struct test_hmm_dma_dev *direct;

static int __init direct_init(void)
{
	int ret;

	direct_pdev = platform_device_register_simple("hmm_dma_direct", -1,
						      NULL, 0);
	if (IS_ERR(direct_pdev))
		return PTR_ERR(direct_pdev);
	/* The device does no DMA, so no caches need maintenance. */
	dev_set_dma_coherent(&direct_pdev->dev);
	ret = dma_set_mask_and_coherent(&direct_pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		goto err_pdev;
	ret = -ENOMEM;
	direct = kzalloc_obj(*direct);
	if (!direct)
		goto err_pdev;
	ret = test_hmm_dma_register(direct, &direct_pdev->dev, "hmm_dma_direct");
	if (ret)
		goto err_free;
	return 0;

err_free:
	kfree(direct);
err_pdev:
	platform_device_unregister(direct_pdev);
	return ret;
}

static void direct_exit(void)
{
	test_hmm_dma_unregister(direct);
	platform_device_unregister(direct_pdev);
}

static int __init test_hmm_dma_init(void)
{
	int ret = direct_init();

	if (ret)
		return ret;
	ret = pci_register_driver(&edu_driver);
	if (ret)
		direct_exit();
	return ret;
}

static void __exit test_hmm_dma_exit(void)
{
	pci_unregister_driver(&edu_driver);
	direct_exit();
}

module_init(test_hmm_dma_init);
module_exit(test_hmm_dma_exit);
MODULE_DESCRIPTION("Test of HMM's DMA mappings, on QEMU's edu device");
MODULE_LICENSE("GPL");
