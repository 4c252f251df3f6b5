/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of drivers without their hardware share. DRIVER_test.c includes
 * this once, after the driver's source; DRIVER_stubs.c defines every function that
 * the driver calls and the test has no mock of, by
 *
 *	void mock_called(const char *name);
 *	#define STUB(f) long f(void); long f(void) { mock_called(#f); return 0; }
 *
 * without any header of the kernel, which would know their types. A test in which
 * one of them is called fails.
 */
#ifndef MOCKS_H
#define MOCKS_H

#include <kunit/test.h>

static atomic_t mocks_called;
static const char *mocks_first;

void mock_called(const char *name);
void mock_called(const char *name)
{
	if (atomic_inc_return(&mocks_called) == 1)
		WRITE_ONCE(mocks_first, name);
	dump_stack();
}

/* For a suite's .exit, or its end: after this, no more calls are expected. */
static inline void mocks_exit(struct kunit *test)
{
	int n = atomic_xchg(&mocks_called, 0);

	if (n)
		KUNIT_FAIL(test, "%d calls of stubs, the first of %s()", n,
			   READ_ONCE(mocks_first));
}

#endif
