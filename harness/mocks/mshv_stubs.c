// SPDX-License-Identifier: GPL-2.0
/* What mshv_regions.c calls and no test expects. */
void mock_called(const char *name);
#define STUB(f) long f(void); long f(void) { mock_called(#f); return 0; }
