// SPDX-License-Identifier: GPL-2.0
/* What nouveau_dmem.c calls, and no test of it. */
void mock_called(const char *name);

#define STUB(f) long f(void); long f(void) { mock_called(#f); return 0; }

STUB(nouveau_bo_unpin_del)
