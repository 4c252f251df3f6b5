/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _COMMON_TAP_H
#define _COMMON_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* Of this process, how many results it has printed, and how many were bad. */
static int tests, failures;

static __attribute__((format(printf, 2, 3)))
void result(bool good, const char *format, ...)
{
	va_list args;

	printf("%sok %d ", good ? "" : "not ", ++tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	failures += !good;
}

#endif
