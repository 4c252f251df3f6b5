/* SPDX-License-Identifier: GPL-2.0 */
/*
 * RDMA within one process, by two RC queue pairs of rxe0: one side is memory with
 * on-demand paging, the other a pinned buffer. Without RDMA defined there is none.
 */
#ifndef STRESS_RDMA_H
#define STRESS_RDMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RDMA_BUF	(2UL << 12)

#ifdef RDMA
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <infiniband/verbs.h>

#define rdma_region	ibv_mr
#define RDMA_ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
			 IBV_ACCESS_REMOTE_READ)

static char *rdma_buf;
static struct ibv_context *rdma_context;
static struct ibv_pd *rdma_pd;
static struct ibv_cq *rdma_cq;
static struct ibv_qp *rdma_qp[2];
static struct ibv_mr *rdma_buf_mr;

static bool rdma_connect(struct ibv_qp *qp, uint32_t to)
{
	struct ibv_qp_attr init = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = RDMA_ACCESS,
	};
	struct ibv_qp_attr receive = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = to,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		/* Index 1 is 127.0.0.1. */
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = { .sgid_index = 1, .hop_limit = 1 },
		},
	};
	struct ibv_qp_attr send = {
		.qp_state = IBV_QPS_RTS,
		.timeout = 18,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 1,
	};

	return !ibv_query_gid(rdma_context, 1, 1, &receive.ah_attr.grh.dgid) &&
	       !ibv_modify_qp(qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			      IBV_QP_ACCESS_FLAGS) &&
	       !ibv_modify_qp(qp, &receive, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			      IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			      IBV_QP_MIN_RNR_TIMER) &&
	       !ibv_modify_qp(qp, &send, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			      IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

/* A queue pair that had an error can do no more. */
static bool rdma_reconnect(void)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = rdma_cq,
		.recv_cq = rdma_cq,
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = 4,
			.max_recv_wr = 4,
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
	};

	for (int i = 0; i < 2; i++) {
		if (rdma_qp[i])
			ibv_destroy_qp(rdma_qp[i]);
		rdma_qp[i] = ibv_create_qp(rdma_pd, &attr);
		if (!rdma_qp[i])
			return false;
	}
	return rdma_connect(rdma_qp[0], rdma_qp[1]->qp_num) &&
	       rdma_connect(rdma_qp[1], rdma_qp[0]->qp_num);
}

static bool rdma_open(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	for (int i = 0; list && list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), "rxe0"))
			rdma_context = ibv_open_device(list[i]);
	if (!rdma_context)
		return false;
	rdma_pd = ibv_alloc_pd(rdma_context);
	rdma_cq = ibv_create_cq(rdma_context, 16, NULL, NULL, 0);
	rdma_buf = mmap(NULL, RDMA_BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (!rdma_pd || !rdma_cq || rdma_buf == MAP_FAILED)
		return false;
	/* After a fork() the pinned pages have to remain those of this process. */
	madvise(rdma_buf, RDMA_BUF, MADV_DONTFORK);
	rdma_buf_mr = ibv_reg_mr(rdma_pd, rdma_buf, RDMA_BUF, RDMA_ACCESS);
	return rdma_buf_mr && rdma_reconnect();
}

static struct ibv_mr *rdma_register(char *p, size_t size)
{
	return ibv_reg_mr(rdma_pd, p, size, RDMA_ACCESS | IBV_ACCESS_ON_DEMAND);
}

static void rdma_unregister(struct ibv_mr *mr)
{
	if (mr)
		ibv_dereg_mr(mr);
}

/*
 * Copy between @p in @mr and the buffer; @reverse: @mr is the side that posts the
 * request, not the one that answers it.
 */
static bool rdma_transfer(struct ibv_mr *mr, char *p, size_t size, bool write, bool reverse)
{
	struct ibv_mr *local = reverse ? mr : rdma_buf_mr;
	struct ibv_mr *remote = reverse ? rdma_buf_mr : mr;
	struct ibv_sge sge = {
		.addr = (uintptr_t)(reverse ? p : rdma_buf),
		.length = size,
		.lkey = local->lkey,
	};
	struct ibv_send_wr *bad, wr = {
		.opcode = write == reverse ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.sg_list = &sge,
		.num_sge = 1,
		.wr.rdma = {
			.remote_addr = (uintptr_t)(reverse ? rdma_buf : p),
			.rkey = remote->rkey,
		},
	};
	time_t start = time(NULL);
	struct ibv_wc wc;
	int n;

	if (ibv_post_send(rdma_qp[0], &wr, &bad))
		return false;
	while (!(n = ibv_poll_cq(rdma_cq, 1, &wc))) {
		if (time(NULL) - start > 60)
			return false;
		sched_yield();
	}
	if (n == 1 && wc.status == IBV_WC_SUCCESS)
		return true;
	rdma_reconnect();
	return false;
}

static bool rdma_is_here(void)
{
	return true;
}
#else
struct rdma_region;

static char *rdma_buf;

static bool rdma_open(void)
{
	return true;
}

static struct rdma_region *rdma_register(char *p, size_t size)
{
	(void)p;
	(void)size;
	return NULL;
}

static void rdma_unregister(struct rdma_region *mr)
{
	(void)mr;
}

static bool rdma_transfer(struct rdma_region *mr, char *p, size_t size, bool write,
			  bool reverse)
{
	(void)mr;
	(void)p;
	(void)size;
	(void)write;
	(void)reverse;
	return false;
}

static bool rdma_is_here(void)
{
	return false;
}
#endif

#endif
