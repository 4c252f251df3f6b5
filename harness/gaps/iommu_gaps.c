// SPDX-License-Identifier: GPL-2.0
/*
 * IOMMU=virtio-gaps of harness/guest: QEMU's virtio-iommu maps every power of two at
 * once. One that has a VFIO device behind it says what that one's IOMMU can, and on
 * x86 that are three sizes: have the domain of QEMU's edu say so, before anything is
 * mapped in it.
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sizes.h>

static int __init gaps_init(void)
{
	struct pci_dev *edu = pci_get_device(0x1234, 0x11e8, NULL);
	struct iommu_domain *domain;
	int ret = -ENODEV;

	if (!edu)
		return ret;
	domain = iommu_get_domain_for_dev(&edu->dev);
	if (domain && domain->type & __IOMMU_DOMAIN_PAGING) {
		domain->pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G;
		ret = 0;
	}
	pci_dev_put(edu);
	return ret;
}
module_init(gaps_init);

static void __exit gaps_exit(void)
{
}
module_exit(gaps_exit);

MODULE_DESCRIPTION("An IOMMU with gaps between its page sizes");
MODULE_LICENSE("GPL");
