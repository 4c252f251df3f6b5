// SPDX-License-Identifier: GPL-2.0
/*
 * sweep_units: iommu_map_units(), which dma_iova_link_units() is made of, called by who
 * can have the allocations of his own calls fail. Each open file has a domain of the IOMMU
 * that QEMU's edu is behind. No device is attached to it, so any address will do.
 */
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

#include "sweep_units.h"

static struct pci_dev *edu;

static long units_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct iommu_domain *domain = file->private_data;
	void __user *user = (void __user *)arg;
	struct sweep_units u;

	if (copy_from_user(&u, user, sizeof(u)))
		return -EFAULT;
	switch (cmd) {
	case SWEEP_UNITS_MAP:
		/* As dma_iova_link() does it, under the lock of a driver. */
		return iommu_map_units(domain, u.iova, u.phys, u.size, u.unit,
				       IOMMU_READ | IOMMU_WRITE, GFP_ATOMIC);
	case SWEEP_UNITS_UNMAP:
		return iommu_unmap(domain, u.iova, u.size) == u.size ? 0 : -EIO;
	case SWEEP_UNITS_PHYS:
		u.phys = iommu_iova_to_phys(domain, u.iova);
		return copy_to_user(user, &u, sizeof(u)) ? -EFAULT : 0;
	}
	return -ENOTTY;
}

static int units_open(struct inode *inode, struct file *file)
{
	struct iommu_domain *domain = iommu_paging_domain_alloc(&edu->dev);

	if (IS_ERR(domain))
		return PTR_ERR(domain);
	file->private_data = domain;
	return 0;
}

static int units_release(struct inode *inode, struct file *file)
{
	iommu_domain_free(file->private_data);
	return 0;
}

static const struct file_operations units_fops = {
	.owner		= THIS_MODULE,
	.open		= units_open,
	.release	= units_release,
	.unlocked_ioctl	= units_ioctl,
};

static struct miscdevice units_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "sweep_units",
	.fops	= &units_fops,
};

static int __init units_init(void)
{
	int ret;

	edu = pci_get_device(0x1234, 0x11e8, NULL);
	if (!edu)
		return -ENODEV;
	ret = misc_register(&units_misc);
	if (ret)
		pci_dev_put(edu);
	return ret;
}
module_init(units_init);

static void __exit units_exit(void)
{
	misc_deregister(&units_misc);
	pci_dev_put(edu);
}
module_exit(units_exit);

MODULE_DESCRIPTION("Map by units in a domain without a device");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_LICENSE("GPL");
