// SPDX-License-Identifier: GPL-2.0
/* What only the series has: output as a list. */
#include <linux/hmm.h>

#include "dense.h"

int list_fault(struct hmm_range *range, struct hmm_extent *extent);

int list_fault(struct hmm_range *range, struct hmm_extent *extent)
{
	range->extents = extent;
	range->max_extents = 1;
	return hmm_range_fault(range);
}
