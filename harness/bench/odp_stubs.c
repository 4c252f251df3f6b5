// SPDX-License-Identifier: GPL-2.0
/* What mlx5's odp.c calls in the rest of the driver; nothing of it is called here. */
#include "../mocks/mlx5_stubs.c"

void mock_called(const char *name)
{
	(void)name;
	__builtin_trap();
}

STUB(mlx5_ib_dereg_mr)
STUB(mlx5_mr_cache_alloc)
STUB(mlx5r_umr_update_data_direct_ksm_pas)
STUB(mlx5r_umr_dmabuf_update_pgsz)
STUB(mlx5r_umr_update_mr_pas)
STUB(mlx5r_umr_update_xlt)
