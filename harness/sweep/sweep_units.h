/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SWEEP_UNITS_H
#define SWEEP_UNITS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct sweep_units - a range of the domain that an open file has
 * @iova: (in) first address
 * @phys: (in) SWEEP_UNITS_MAP: what it is mapped to; SWEEP_UNITS_PHYS: (out) what it
 *	is mapped to, 0 if it is not
 * @size: (in) in bytes, not for SWEEP_UNITS_PHYS
 * @unit: (in) as for iommu_map_units(), only for SWEEP_UNITS_MAP
 *
 * ioctl() fails as iommu_map_units() does, and with EIO if SWEEP_UNITS_UNMAP has not
 * unmapped as much as it was told.
 */
struct sweep_units {
	__u64 iova;
	__u64 phys;
	__u64 size;
	__u64 unit;
};

#define SWEEP_UNITS_MAP		_IOW('s', 0, struct sweep_units)
#define SWEEP_UNITS_UNMAP	_IOW('s', 1, struct sweep_units)
#define SWEEP_UNITS_PHYS	_IOWR('s', 2, struct sweep_units)

#endif
