/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _COMMON_MIX_H
#define _COMMON_MIX_H

#include <stdint.h>

/* The output function of splitmix64: 64 bits, each depending on all of @z. */
static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

#endif
