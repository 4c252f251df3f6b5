// SPDX-License-Identifier: GPL-2.0
/* What odp.c and umr.c of mlx5 call in the rest of the driver: see mocks.h. */
void mock_called(const char *name);
#define STUB(f) long f(void); long f(void) { mock_called(#f); return 0; }

STUB(mlx5_cmd_exec)
STUB(mlx5_cmd_get_srq)
STUB(mlx5_core_create_mkey)
STUB(mlx5_core_destroy_mkey)
STUB(mlx5_core_query_mkey)
STUB(mlx5_core_res_hold)
STUB(mlx5_core_res_put)
STUB(mlx5_eq_create_generic)
STUB(mlx5_eq_destroy_generic)
STUB(mlx5_eq_disable)
STUB(mlx5_eq_enable)
STUB(mlx5_eq_get_eqe)
STUB(mlx5_eq_update_ci)
STUB(mlx5_ib_advise_mr)
STUB(mlx5_ib_read_wqe_rq)
STUB(mlx5_ib_read_wqe_sq)
STUB(mlx5_ib_read_wqe_srq)
