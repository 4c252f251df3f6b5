/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_RACE_H
#define ODP_RACE_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct odp_race_range {
	__u64 addr;
	__u64 len;
	__u64 flags;
#define ODP_RACE_HUGETLB	1	/* register: 2 MiB device pages */
#define ODP_RACE_NO_FAULT	2	/* map: only what is present */
#define ODP_RACE_READ		4	/* map: the device only reads */
};

struct odp_race_stats {
	__u64 rounds;		/* successful ODP_RACE_MAP */
	__u64 invalidations;
	__u64 upgrades;		/* mapped anew, as it could only be read */
	__u64 unlinked;		/* flagged as mapped, but translates to nothing */
	__u64 wrong;		/* translates to a page that is not at the address, or writable */
	__u64 leaked;		/* translates, but is not flagged as mapped */
	__u64 missing;		/* was asked for, but has no entry, or none to write */
	__u64 miscounted;	/* npages is not the number of pages mapped */
	__u64 map_error;	/* it could not be mapped */
	__u64 first_round;	/* the round of the first of these */
	__u64 first_ms;		/* its time since ODP_RACE_REG */
};

/* On one open file: register a range once, map parts of it any number of times. */
#define ODP_RACE_REG	_IOW('o', 1, struct odp_race_range)
#define ODP_RACE_MAP	_IOW('o', 2, struct odp_race_range)
#define ODP_RACE_STATS	_IOR('o', 3, struct odp_race_stats)

#endif
