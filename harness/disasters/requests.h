/* SPDX-License-Identifier: GPL-2.0 */
/* Requests to the test devices, as disasters and oom-mirror make them. */
#ifndef _DISASTERS_REQUESTS_H
#define _DISASTERS_REQUESTS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "lib/test_hmm_dma_uapi.h"

#define PAGE		4096UL

/* 0, or an error. */
static inline int request(int fd, unsigned long cmd, void *args)
{
	/* -EBUSY: the memory changed all the time for a second. */
	for (int busy = 0;;) {
		if (!ioctl(fd, cmd, args))
			return 0;
		if (errno != EINTR && (errno != EBUSY || ++busy > 10))
			return errno;
	}
}

static inline int window(int fd, unsigned long cmd, char *at, size_t bytes, uint64_t flags)
{
	struct test_hmm_dma_window win = {
		.addr = (uintptr_t)at,
		.npages = bytes / PAGE,
		.flags = flags,
	};

	return request(fd, cmd, &win);
}

#endif
