// SPDX-License-Identifier: GPL-2.0
/*
 * rdma-odp [TEST...]: RDMA into and out of on-demand-paging memory, every byte
 * compared. Both ends are in this process: two RC queue pairs of rxe0. Tests:
 *
 *	data	 writes and reads of any alignment and length, by either side
 *	iova	 the same with an iova that is not the address, and atomics
 *	change	 pages that come, go, and become read-only between transfers
 *	truncate an access behind the end of a file that was cut fails, and
 *		 nothing else does
 *	fork	 what arrives after fork() is the parent's
 *	advise	 prefetch (ADVISE_MR) of what is in the MR, behind it, or no ODP MR
 *	large	 regions of 2 GiB and more
 *	flush	 a persistent flush writes back what is in persistent memory, each
 *		 byte once, and is refused for other memory
 *	reclaim	 what arrives in a page that the CPU has not written since
 *		 MADV_FREE, or ever, survives reclaim
 *
 * All of them without arguments. Prints TAP. Memory comes from HMM_DAX_* as for
 * the selftest hmm_dax.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
/* The kernel's come first: libibverbs has older ones of its own in their place. */
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <rdma/rdma_user_rxe.h>
#include <infiniband/verbs.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define KB(n)		((size_t)(n) << 10)
#define MB(n)		((size_t)(n) << 20)

#define GID_INDEX	1	/* 127.0.0.1 */
#define BUF		KB(64)	/* the largest transfer */
#define REGION		MB(4)
#define FLUSH_ACCESS	(IB_UVERBS_ACCESS_FLUSH_GLOBAL | IB_UVERBS_ACCESS_FLUSH_PERSISTENT)

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static struct ibv_cq *cq;
static struct ibv_qp *qp[2];
static struct rxe_queue_buf *sq;	/* the send queue of qp[0] */
static struct ibv_mr *buf_mr;	/* ordinary, pinned memory: the other side */
static unsigned char *buf;
static int tests, failed;

static void ok(bool good, const char *memory, const char *what)
{
	printf("%sok %d %s: %s\n", good ? "" : "not ", ++tests, memory, what);
	fflush(stdout);
	failed += !good;
}

static void connect_one(struct ibv_qp *q, uint32_t peer)
{
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_ATOMIC | FLUSH_ACCESS };

	if (ibv_modify_qp(q, &a, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			  IBV_QP_ACCESS_FLAGS))
		err(1, "INIT");
	a = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer, .max_dest_rd_atomic = 1, .min_rnr_timer = 12,
		.ah_attr = { .is_global = 1, .port_num = 1,
			     .grh = { .sgid_index = GID_INDEX, .hop_limit = 1 } } };
	if (ibv_query_gid(ctx, 1, GID_INDEX, &a.ah_attr.grh.dgid))
		err(1, "no gid %d: is 127.0.0.1 up?", GID_INDEX);
	if (ibv_modify_qp(q, &a, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			  IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		err(1, "RTR");
	a = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTS, .timeout = 18, .retry_cnt = 7,
		.rnr_retry = 7, .max_rd_atomic = 1 };
	if (ibv_modify_qp(q, &a, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			  IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC))
		err(1, "RTS");
}

/*
 * The queues that libibverbs has mapped of rxe0, as many as there are, up to @max.
 * It does not say where they are.
 */
static int queues(uintptr_t *at, int max)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	while (maps && fgets(line, sizeof(line), maps) && n < max)
		if (strstr(line, "uverbs"))
			at[n++] = strtoul(line, NULL, 16);
	if (!maps || n == max)
		errx(1, "/proc/self/maps");
	fclose(maps);
	return n;
}

/* Of the two queues that are there now and were not before, that of larger elements. */
static struct rxe_queue_buf *send_queue(const uintptr_t *before, int n)
{
	struct rxe_queue_buf *q, *found = NULL;
	uintptr_t now[32];
	int i, j, m = queues(now, ARRAY_SIZE(now));

	for (i = 0; i < m; i++) {
		for (j = 0; j < n && before[j] != now[i]; j++)
			;
		q = (struct rxe_queue_buf *)now[i];
		if (j == n && (!found || q->log2_elem_size > found->log2_elem_size))
			found = q;
	}
	if (!found || (1UL << found->log2_elem_size) < sizeof(struct rxe_send_wqe))
		errx(1, "no send queue found");
	return found;
}

/* Two fresh queue pairs; an error leaves the old ones unusable. */
static void reconnect(void)
{
	struct ibv_qp_init_attr_ex init = { .send_cq = cq, .recv_cq = cq,
		.qp_type = IBV_QPT_RC, .pd = pd,
		.cap = { .max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1,
			 .max_recv_sge = 1 },
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_READ |
				  IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
				  IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
				  IBV_QP_EX_WITH_ATOMIC_WRITE };
	uintptr_t before[32];
	int i, n = 0;

	for (i = 0; i < 2; i++) {
		if (qp[i])
			ibv_destroy_qp(qp[i]);
		if (i == 0)
			n = queues(before, ARRAY_SIZE(before));
		qp[i] = ibv_create_qp_ex(ctx, &init);
		if (!qp[i])
			err(1, "ibv_create_qp_ex");
		if (i == 0)
			sq = send_queue(before, n);
	}
	connect_one(qp[0], qp[1]->qp_num);
	connect_one(qp[1], qp[0]->qp_num);
}

static void set_up(void)
{
	int n, i;
	struct ibv_device **list = ibv_get_device_list(&n);

	for (i = 0; list && i < n; i++)
		if (!strcmp(ibv_get_device_name(list[i]), "rxe0"))
			ctx = ibv_open_device(list[i]);
	if (!ctx)
		errx(1, "no rxe0: rdma link add rxe0 type rxe netdev lo");
	pd = ibv_alloc_pd(ctx);
	cq = ibv_create_cq(ctx, 16, NULL, NULL, 0);
	buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!pd || !cq || buf == MAP_FAILED)
		err(1, "set-up");
	/* A child must not make the pinned pages the parent's former ones. */
	madvise(buf, BUF, MADV_DONTFORK);
	buf_mr = ibv_reg_mr(pd, buf, BUF, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			    IBV_ACCESS_REMOTE_READ);
	if (!buf_mr)
		err(1, "ibv_reg_mr");
	reconnect();
}

/* What became of the only request there is. */
static enum ibv_wc_status completed(void)
{
	struct ibv_wc wc;
	time_t start = time(NULL);
	int n;

	while (!(n = ibv_poll_cq(cq, 1, &wc)))
		if (time(NULL) - start > 60)
			errx(1, "no completion after a minute");
	if (n < 0)
		errx(1, "ibv_poll_cq");
	if (wc.status != IBV_WC_SUCCESS)
		reconnect();
	return wc.status;
}

static enum ibv_wc_status post(struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;

	wr->num_sge = 1;
	wr->send_flags = IBV_SEND_SIGNALED;
	if (ibv_post_send(qp[0], wr, &bad))
		err(1, "ibv_post_send");
	return completed();
}

/* An atomic write of *@word, or, which ibv_post_send() refuses, 1 added anywhere. */
static enum ibv_wc_status atomic_ex(struct ibv_mr *mr, uint64_t to, const void *word)
{
	struct ibv_qp_ex *q = ibv_qp_to_qp_ex(qp[0]);

	ibv_wr_start(q);
	q->wr_flags = IBV_SEND_SIGNALED;
	if (word) {
		ibv_wr_atomic_write(q, mr->rkey, to, word);
	} else {
		ibv_wr_atomic_fetch_add(q, mr->rkey, to, 1);
		ibv_wr_set_sge(q, buf_mr->lkey, (uintptr_t)buf, 8);
	}
	errno = ibv_wr_complete(q);
	if (errno)
		err(1, "ibv_wr_complete");
	return completed();
}

static enum ibv_wc_status rdma(enum ibv_wr_opcode opcode, struct ibv_mr *local, uint64_t at,
			       struct ibv_mr *remote, uint64_t to, size_t length)
{
	struct ibv_sge sge = { .addr = at, .length = length, .lkey = local->lkey };
	struct ibv_send_wr wr = { .opcode = opcode, .sg_list = &sge,
		.wr.rdma = { .remote_addr = to, .rkey = remote->rkey } };

	return post(&wr);
}

static enum ibv_wc_status write_to(struct ibv_mr *mr, uint64_t iova, size_t length)
{
	return rdma(IBV_WR_RDMA_WRITE, buf_mr, (uintptr_t)buf, mr, iova, length);
}

#define ODP_ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
		    IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_ON_DEMAND)

static struct ibv_mr *reg_access(void *p, size_t size, uint64_t iova, unsigned int access)
{
	struct ibv_mr *mr = ibv_reg_mr_iova(pd, p, size, iova, ODP_ACCESS | access);

	if (!mr)
		err(1, "ibv_reg_mr_iova");
	return mr;
}

static struct ibv_mr *reg(void *p, size_t size, uint64_t iova)
{
	return reg_access(p, size, iova, 0);
}

static void fill(unsigned char *p, size_t n, unsigned int seed)
{
	while (n--) {
		seed = seed * 1103515245 + 12345;
		*p++ = seed >> 16;
	}
}

/* What fill() made of it, but for the first bytes of buf from @at on. */
static bool is_filled(const unsigned char *p, size_t n, unsigned int seed, size_t at, size_t length)
{
	static unsigned char want[BUF];

	fill(want, n, seed);
	memcpy(want + at, buf, length);
	return !memcmp(p, want, n);
}

/* What is in memory does not change when the process loses its pages: a file's. */
static bool keeps_data;

/*
 * One transfer between buf and the region at @off. Every other one finds no pages in
 * the process, where that keeps the data. The bytes of the region are
 * compared with what they should be from a page before to a page behind, if it has
 * one.
 */
static bool transfer(unsigned char *p, struct ibv_mr *mr, uint64_t iova, size_t off,
		     size_t length, enum ibv_wr_opcode opcode, bool odp_is_local)
{
	static unsigned char want[BUF + KB(16)], want_buf[BUF];
	size_t from = off & ~(KB(4) - 1), to = (off + length + KB(8) - 1) & ~(KB(4) - 1);
	size_t end = ((unsigned char *)mr->addr + mr->length - p + KB(4) - 1) & ~(KB(4) - 1);
	bool into_region = (opcode == IBV_WR_RDMA_WRITE) != odp_is_local;
	static unsigned int seed = 1;
	enum ibv_wc_status status;

	from -= from ? KB(4) : 0;
	to = to < end ? to : end;
	fill(p + from, to - from, seed++);
	fill(buf, BUF, seed++);
	memcpy(want, p + from, to - from);
	memcpy(want_buf, buf, BUF);
	if (into_region)
		memcpy(want + (off - from), buf, length);
	else
		memcpy(want_buf, p + off, length);

	if (keeps_data && seed / 2 % 2 && madvise(p + from, to - from, MADV_DONTNEED))
		err(1, "MADV_DONTNEED");
	if (odp_is_local)
		status = rdma(opcode, mr, iova + off, buf_mr, (uintptr_t)buf, length);
	else
		status = rdma(opcode, buf_mr, (uintptr_t)buf, mr, iova + off, length);
	return status == IBV_WC_SUCCESS && !memcmp(want, p + from, to - from) &&
	       !memcmp(want_buf, buf, BUF);
}

static const struct { size_t off, length; } pieces[] = {
	{ KB(4), KB(4) }, { KB(4) + 100, 50 }, { KB(8) - 1, 2 }, { 1, 1023 },
	{ KB(4) + 1000, 1025 }, { KB(12) - 8, 16 }, { 0, 1 }, { KB(4) + 1, KB(4) },
	{ KB(16) + 3000, KB(40) + 77 }, { MB(2) - 100, 200 }, { MB(2) - KB(20), KB(64) },
	{ REGION - KB(8), KB(4) }, { REGION - 4000, 3800 },
};

/* Of an MR that begins @skew bytes behind @p and ends so many before the end. */
static void data(const char *memory, unsigned char *p, int64_t delta, size_t skew)
{
	static const struct { enum ibv_wr_opcode opcode; bool local; const char *name; } ways[] = {
		{ IBV_WR_RDMA_WRITE, false, "written to" },
		{ IBV_WR_RDMA_READ, false, "read from" },
		{ IBV_WR_RDMA_WRITE, true, "the source of a write" },
		{ IBV_WR_RDMA_READ, true, "the target of a read" },
	};
	uint64_t iova = (uintptr_t)p + delta;
	struct ibv_mr *mr = reg(p + skew, REGION - 2 * skew, iova + skew);
	size_t w, i, bad;
	char name[100];

	for (w = 0; w < ARRAY_SIZE(ways); w++) {
		for (i = bad = 0; i < ARRAY_SIZE(pieces); i++)
			bad += !transfer(p, mr, iova, skew + pieces[i].off, pieces[i].length,
					 ways[w].opcode, ways[w].local);
		snprintf(name, sizeof(name), "%s, iova %+lld%s, %zu of %zu pieces wrong",
			 ways[w].name, (long long)delta, skew ? ", skewed" : "",
			 bad, ARRAY_SIZE(pieces));
		ok(!bad, memory, name);
	}
	ibv_dereg_mr(mr);
}

/*
 * Transfers of any length anywhere, and between them the process writes, loses
 * pages, or shares them with a child for a moment. A copy knows every byte.
 */
static void change(const char *memory, unsigned char *p)
{
	unsigned char *copy = malloc(REGION);
	struct ibv_mr *mr = reg(p, REGION, (uintptr_t)p);
	size_t i, off, length, bad = 0, lost = 0;
	unsigned int seed = 40;
	char name[100];
	pid_t child;

	if (!copy)
		err(1, "malloc");
	fill(p, REGION, seed);
	memcpy(copy, p, REGION);
	for (i = 0; i < 2000; i++) {
		length = 1 + rand_r(&seed) % (rand_r(&seed) % 2 ? BUF : KB(4));
		off = rand_r(&seed) % (REGION - length);
		switch (rand_r(&seed) % 8) {
		case 0:
			memset(p + off, i, length);
			memset(copy + off, i, length);
			break;
		case 1:
		case 2:
			off &= ~(KB(4) - 1);
			length = (length + KB(4) - 1) & ~(KB(4) - 1);
			if (off + length > REGION)
				break;
			if (madvise(p + off, length, MADV_DONTNEED))
				err(1, "MADV_DONTNEED");
			if (!keeps_data)
				memset(copy + off, 0, length);
			lost++;
			break;
		case 3:
			/* What it shares with the child is read-only. */
			child = rand_r(&seed) % 8 ? 1 : fork();
			if (!child)
				_exit(0);
			if (child != 1)
				waitpid(child, NULL, 0);
			break;
		case 4:
		case 5:
			fill(buf, length, i);
			bad += write_to(mr, (uintptr_t)p + off, length) != IBV_WC_SUCCESS;
			memcpy(copy + off, buf, length);
			break;
		default:
			bad += rdma(IBV_WR_RDMA_READ, buf_mr, (uintptr_t)buf, mr,
				    (uintptr_t)p + off, length) != IBV_WC_SUCCESS ||
			       memcmp(buf, copy + off, length);
		}
	}
	bad += !!memcmp(p, copy, REGION);
	snprintf(name, sizeof(name), "changes between transfers, pages lost %zu times, %zu wrong",
		 lost, bad);
	ok(!bad && lost, memory, name);
	ibv_dereg_mr(mr);
	free(copy);
}

/* The sum and the value before it. */
static void atomics(const char *memory, unsigned char *p, int64_t delta)
{
	uint64_t *word = (uint64_t *)(p + KB(8) - 8), *result = (uint64_t *)buf;
	uint64_t iova = (uintptr_t)p + delta;
	struct ibv_mr *mr = reg(p, REGION, iova);
	struct ibv_sge sge = { .addr = (uintptr_t)buf, .length = 8, .lkey = buf_mr->lkey };
	struct ibv_send_wr wr = { .opcode = IBV_WR_ATOMIC_FETCH_AND_ADD, .sg_list = &sge,
		.wr.atomic = { .remote_addr = iova + KB(8) - 8, .rkey = mr->rkey,
			       .compare_add = 5 } };
	bool good;

	*word = 37;
	good = post(&wr) == IBV_WC_SUCCESS && *result == 37 && *word == 42;
	wr.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
	wr.wr.atomic.compare_add = 42;
	wr.wr.atomic.swap = 1001;
	good = good && post(&wr) == IBV_WC_SUCCESS && *result == 42 && *word == 1001;
	ok(good, memory, "atomics");

	*(uint64_t *)buf = 2002;
	ok(atomic_ex(mr, iova + KB(8) - 8, buf) == IBV_WC_SUCCESS && *word == 2002, memory,
	   "atomic write");

	/* Not a multiple of 8, and across the end of a page. */
	ok(atomic_ex(mr, iova + KB(8) - 4, NULL) == IBV_WC_REM_INV_REQ_ERR && *word == 2002,
	   memory, "unaligned atomic");
	ok(atomic_ex(mr, iova + KB(8) - 4, buf) == IBV_WC_REM_INV_REQ_ERR && *word == 2002,
	   memory, "unaligned atomic write");
	/* The last word of it, and what lies behind. */
	word = (uint64_t *)(p + REGION - 8);
	*word = 37;
	wr.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
	wr.wr.atomic.remote_addr = iova + REGION - 8;
	ok(post(&wr) == IBV_WC_SUCCESS && *word == 79, memory, "atomic at the end");
	wr.wr.atomic.remote_addr = iova + REGION;
	ok(post(&wr) == IBV_WC_REM_ACCESS_ERR, memory, "atomic behind the end");
	ibv_dereg_mr(mr);
}

/* The file has REGION bytes: half of them go, and that half only. */
static void truncated(const char *memory, unsigned char *p, int fd)
{
	uint64_t at = (uintptr_t)p;
	unsigned char *q = mmap(NULL, KB(64), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr = reg(p, REGION, at), *beside = reg(q, KB(64), (uintptr_t)q);
	bool before;

	fill(p + KB(16), KB(64), 11);
	fill(q, KB(64), 12);
	fill(buf, KB(64), 13);
	before = write_to(mr, at + MB(3), KB(8)) == IBV_WC_SUCCESS &&
		 write_to(mr, at + KB(20), KB(8)) == IBV_WC_SUCCESS &&
		 write_to(beside, (uintptr_t)q + KB(4), KB(8)) == IBV_WC_SUCCESS;
	if (ftruncate(fd, MB(2)))
		err(1, "ftruncate");
	ok(before && write_to(mr, at + MB(3), KB(8)) == IBV_WC_REM_ACCESS_ERR, memory,
	   "what was cut off is refused");
	ok(is_filled(p + KB(16), KB(64), 11, KB(4), KB(8)) &&
	   is_filled(q, KB(64), 12, KB(4), KB(8)), memory, "all else is as it was");
	ok(transfer(p, mr, at, KB(16) + 3, KB(10), IBV_WR_RDMA_WRITE, false), memory,
	   "what was left is there");
	keeps_data = false;
	ok(transfer(q, beside, (uintptr_t)q, 100, KB(10), IBV_WR_RDMA_WRITE, false), memory,
	   "another region is there");
	keeps_data = true;
	if (ftruncate(fd, REGION))
		err(1, "ftruncate");
	ok(transfer(p, mr, at, MB(3) + 3, KB(10), IBV_WR_RDMA_WRITE, false), memory,
	   "the file has grown again");
	ibv_dereg_mr(beside);
	ibv_dereg_mr(mr);
	munmap(q, KB(64));
}

/* The child holds on to the old pages until told to compare them. */
static void forked(void)
{
	unsigned char *p = mmap(NULL, KB(64), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr = reg(p, KB(64), (uintptr_t)p);
	unsigned char old[KB(16)];
	int tell[2], status;
	bool good;
	pid_t pid;

	/* The device has the pages before there is a child. */
	fill(buf, KB(16), 7);
	good = write_to(mr, (uintptr_t)p, sizeof(old)) == IBV_WC_SUCCESS;
	memcpy(old, p, sizeof(old));
	fill(buf, KB(16), 8);
	if (pipe(tell))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		char c;

		close(tell[1]);
		_exit(read(tell[0], &c, 1) != 1 || memcmp(p, old, sizeof(old)));
	}
	good &= write_to(mr, (uintptr_t)p, sizeof(old)) == IBV_WC_SUCCESS &&
		!memcmp(p, buf, sizeof(old));
	good &= write(tell[1], "x", 1) == 1;
	if (waitpid(pid, &status, 0) != pid)
		err(1, "waitpid");
	ok(good, "fork", "the parent has what arrived");
	ok(WIFEXITED(status) && !WEXITSTATUS(status), "fork", "the child has what was there");
	ibv_dereg_mr(mr);
}

/* The rxe provider of libibverbs has no ibv_advise_mr(); the kernel has. */
static int advise_sges(enum ib_uverbs_advise_mr_advice advice, uint32_t flags,
		       struct ib_uverbs_sge *sges, size_t nr)
{
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attrs[4];
	} cmd = {
		.hdr = { .length = sizeof(cmd), .object_id = UVERBS_OBJECT_MR,
			 .method_id = UVERBS_METHOD_ADVISE_MR, .num_attrs = 4,
			 .driver_id = RDMA_DRIVER_RXE },
		.attrs = {
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_PD_HANDLE, .data = pd->handle },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_ADVICE, .len = 8, .data = advice },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_FLAGS, .len = 8, .data = flags },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_SGE_LIST,
			  .len = nr * sizeof(*sges), .data = (uintptr_t)sges },
		},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cmd.attrs); i++)
		cmd.attrs[i].flags = UVERBS_ATTR_F_MANDATORY;
	return ioctl(ctx->cmd_fd, RDMA_VERBS_IOCTL, &cmd) ? errno : 0;
}

#define SYNC	IB_UVERBS_ADVISE_MR_FLAG_FLUSH

static int advise(enum ib_uverbs_advise_mr_advice advice, uint32_t flags, uint32_t lkey,
		  uint64_t addr, uint32_t length)
{
	struct ib_uverbs_sge sge = { .addr = addr, .length = length, .lkey = lkey };

	return advise_sges(advice, flags, &sge, 1);
}

/* How many of the pages has the process; and is each another than that before? */
static size_t present(unsigned char *p, size_t pages, bool *differ)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry, before = 0;
	size_t i, n = 0;

	*differ = true;
	for (i = 0; i < pages; i++) {
		if (pread(fd, &entry, 8, ((uintptr_t)p / KB(4) + i) * 8) != 8)
			err(1, "/proc/self/pagemap");
		n += entry >> 63;
		*differ &= entry != before;
		before = entry;
	}
	close(fd);
	return n;
}

/*
 * Which pages are there after each kind of prefetch of the middle one of three MiB.
 * It is one page of zeroes everywhere if that is for reads.
 */
static void prefetched(void)
{
	static const struct {
		enum ib_uverbs_advise_mr_advice advice;
		uint32_t flags;
		bool fetches;
		const char *name;
	} kinds[] = {
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, SYNC, true, "for reads" },
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, SYNC, true, "for writes" },
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT, SYNC, false, "without faults" },
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0, true, "for reads, in the background" },
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0, true,
		  "for writes, in the background" },
	};
	size_t i, n, pages = MB(1) / KB(4);

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		unsigned char *p = mmap(NULL, MB(3), PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		uint64_t iova = (uintptr_t)p + MB(256);
		struct ibv_mr *mr = reg(p, MB(3), iova);
		bool writes = kinds[i].advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE;
		time_t start = time(NULL);
		bool differ, unused;
		int ret;

		madvise(p, MB(3), MADV_NOHUGEPAGE);
		ret = advise(kinds[i].advice, kinds[i].flags, mr->lkey, iova + MB(1), MB(1));
		do {
			n = present(p + MB(1), pages, &differ);
		} while (!kinds[i].flags && n < pages && time(NULL) - start < 30);
		ok(!ret && n == (kinds[i].fetches ? pages : 0) && differ == writes &&
		   !present(p, pages, &unused) && !present(p + MB(2), pages, &unused),
		   "advise", kinds[i].name);
		ibv_dereg_mr(mr);
		munmap(p, MB(3));
	}
}

static void advised(unsigned char *p)
{
	enum ib_uverbs_advise_mr_advice write = IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE;
	uint64_t iova = (uintptr_t)p + MB(256);
	struct ibv_mr *mr = reg(p, REGION, iova);
	struct ib_uverbs_sge sges[] = {
		{ .addr = iova, .length = KB(4), .lkey = mr->lkey },
		{ .addr = iova + REGION, .length = KB(4), .lkey = mr->lkey },
	};
	uint32_t flags;
	time_t start;

	for (flags = 0; flags <= SYNC; flags += SYNC) {
		const char *how = flags ? "advise" : "advise, in the background";

		ok(!advise(write, flags, mr->lkey, iova + KB(4), MB(1)), how, "pages of the MR");
		ok(advise(write, flags, mr->lkey, iova + REGION - KB(4), KB(8)) == EINVAL, how,
		   "behind the MR");
		ok(advise(write, flags, mr->lkey, iova + KB(4), UINT32_MAX) == EINVAL, how,
		   "far behind the MR");
		ok(advise(write, flags, mr->lkey, (uintptr_t)p, KB(4)) == EINVAL, how,
		   "an address that is no iova of it");
		ok(advise(write, flags, buf_mr->lkey, (uintptr_t)buf, KB(4)) == EINVAL, how,
		   "an MR without ODP");
		ok(advise_sges(write, flags, sges, 2) == EINVAL, how, "one of two behind the MR");
	}
	prefetched();
	/* If somebody has kept a reference, rxe waits for 50 seconds. */
	start = time(NULL);
	ok(!ibv_dereg_mr(mr) && time(NULL) - start < 20, "advise", "the MR can go");
}

/* Nothing of it is there but what is used. */
static void large(void)
{
	static const size_t sizes[] = { MB(2048), MB(4096), MB(5120), MB(6144) };
	char name[40];
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned char *p = mmap(NULL, sizes[i], PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		struct ibv_mr *mr;

		if (p == MAP_FAILED)
			err(1, "mmap");
		mr = ibv_reg_mr_iova(pd, p, sizes[i], (uintptr_t)p, ODP_ACCESS);
		snprintf(name, sizeof(name), "%zu GiB", sizes[i] / MB(1024));
		ok(mr, name, "registered");
		for (j = 0; mr && j < 2; j++)
			ok(transfer(p, mr, (uintptr_t)p, j ? sizes[i] - KB(64) : KB(64), KB(40),
				    IBV_WR_RDMA_WRITE, false), name, j ? "its end" : "its start");
		if (mr)
			ok(!advise(IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT, SYNC, mr->lkey,
				   (uintptr_t)p, MB(2048)), name, "2 GiB prefetched");
		if (mr)
			ibv_dereg_mr(mr);
		munmap(p, sizes[i]);
	}
}

static const char *need(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		errx(1, "%s is not set: run dax-storage and source /run/storage", name);
	return value;
}

/* @size bytes at an address that is a multiple of 1 GiB, for the largest leaf. */
static unsigned char *map(int fd, size_t size)
{
	unsigned char *p = mmap(NULL, MB(3072), PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);

	if (p == MAP_FAILED)
		err(1, "mmap");
	p = (unsigned char *)(((uintptr_t)p + MB(1024) - 1) & ~(MB(1024) - 1));
	p = mmap(p, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static int file_in(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 || posix_fallocate(fd, 0, REGION))
		err(1, "%s", dir);
	return fd;
}

/*
 * libibverbs of Debian 12 knows no flush: the request is written into the queue that
 * it shares with the kernel, and the bell is rung with nothing.
 */
static enum ibv_wc_status flush(struct ibv_mr *mr, uint64_t iova, uint32_t length,
				enum ib_placement_type type, enum ib_selectivity_level level)
{
	uint32_t at = __atomic_load_n(&sq->producer_index, __ATOMIC_ACQUIRE) & sq->index_mask;
	struct rxe_send_wqe *wqe = (void *)(sq->data + ((size_t)at << sq->log2_elem_size));
	struct ib_uverbs_post_send_resp resp;
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_post_send post;
	} bell = {
		.hdr = { .command = IB_USER_VERBS_CMD_POST_SEND,
			 .in_words = sizeof(bell) / 4, .out_words = sizeof(resp) / 4 },
		.post = { .response = (uintptr_t)&resp, .qp_handle = qp[0]->handle,
			  .wqe_size = sizeof(struct ib_uverbs_send_wr) },
	};

	memset(wqe, 0, sizeof(*wqe));
	wqe->wr.opcode = IB_UVERBS_WR_FLUSH;
	wqe->wr.send_flags = IBV_SEND_SIGNALED;
	wqe->wr.wr.flush.remote_addr = iova;
	wqe->wr.wr.flush.length = length;
	wqe->wr.wr.flush.rkey = mr->rkey;
	wqe->wr.wr.flush.type = type;
	wqe->wr.wr.flush.level = level;
	wqe->iova = iova;
	wqe->dma.length = length;
	wqe->dma.resid = length;
	__atomic_store_n(&sq->producer_index, (at + 1) & sq->index_mask, __ATOMIC_RELEASE);
	if (write(ctx->cmd_fd, &bell, sizeof(bell)) != sizeof(bell))
		err(1, "POST_SEND");
	return completed();
}

#define TRACING "/sys/kernel/tracing/"

static void tell(const char *file, const char *what)
{
	int fd = open(file, O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, what, strlen(what)) != (ssize_t)strlen(what))
		err(1, "%s", file);
	close(fd);
}

static uint64_t phys(uintptr_t addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (pread(fd, &entry, 8, addr / KB(4) * 8) != 8)
		err(1, "/proc/self/pagemap");
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * KB(4) + addr % KB(4);
}

/*
 * How many bytes at and behind @p the kernel has written back since the trace was
 * emptied, in order; -1 if others as well. An address in its map of all memory is,
 * but for the uppermost bits, the physical one.
 */
static ssize_t written_back(unsigned char *p, size_t length)
{
	uintptr_t at = (uintptr_t)p, end = at + length;
	FILE *trace = fopen(TRACING "trace", "r");
	ssize_t sum = 0;
	char line[512];

	while (trace && fgets(line, sizeof(line), trace)) {
		char *found = strstr(line, " addr=");
		uint64_t addr, size;

		if (line[0] == '#' || !found ||
		    sscanf(found, " addr=%lx size=%lx", &addr, &size) != 2)
			continue;
		addr &= (1ULL << 39) - 1;
		while (at < end && phys(at) != addr)
			at = (at + KB(4)) & ~(KB(4) - 1);
		if (at + size > end || phys(at + size - 1) != addr + size - 1) {
			sum = -1;
			break;
		}
		at += size;
		sum += size;
	}
	if (!trace)
		err(1, TRACING "trace");
	fclose(trace);
	/* The next time it is empty. */
	close(open(TRACING "trace", O_WRONLY | O_TRUNC));
	return sum;
}

static bool flushes(struct ibv_mr *mr, unsigned char *p, size_t off, size_t length,
		    enum ib_selectivity_level level, size_t holes)
{
	bool mr_level = level == IB_FLUSH_MR;
	enum ibv_wc_status status;
	ssize_t bytes;

	written_back(p, 0);
	/* To flush all of it, neither address nor length matter. */
	status = flush(mr, mr_level ? 0 : (uintptr_t)p + MB(256) + off, mr_level ? 0 : length,
		       IB_FLUSH_PERSISTENT, level);
	bytes = written_back(p + off, length);
	if (status != IBV_WC_SUCCESS || bytes != (ssize_t)(length - holes))
		printf("# %s, %zd bytes written back, not %zu\n", ibv_wc_status_str(status), bytes,
		       length - holes);
	return status == IBV_WC_SUCCESS && bytes == (ssize_t)(length - holes);
}

static void flushed(const char *memory, unsigned char *p, int fd, bool is_file)
{
	struct ibv_mr *mr = reg_access(p, REGION, (uintptr_t)p + MB(256), FLUSH_ACCESS);
	uint64_t iova = (uintptr_t)p + MB(256);
	bool good;

	fill(p, REGION, 21);
	fill(buf, BUF, 22);
	sync();		/* which writes back as well */
	good = write_to(mr, iova + KB(4) + 100, KB(40)) == IBV_WC_SUCCESS;
	ok(good && flushes(mr, p, KB(4) + 100, KB(40), IB_FLUSH_RANGE, 0) &&
	   !memcmp(p + KB(4) + 100, buf, KB(40)), memory, "flush of what was written");
	ok(flushes(mr, p, MB(2) - 100, 200, IB_FLUSH_RANGE, 0), memory, "flush across 2 MiB");
	if (madvise(p, REGION, MADV_DONTNEED))
		err(1, "MADV_DONTNEED");
	ok(flushes(mr, p, 0, REGION, IB_FLUSH_MR, 0), memory,
	   "flush of all of it, which the process has not mapped");
	ok(flush(mr, iova, REGION, IB_FLUSH_GLOBAL, IB_FLUSH_RANGE) == IBV_WC_SUCCESS &&
	   !written_back(p, REGION), memory, "flush to where others see it");
	if (is_file) {
		int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

		if (fallocate(fd, punch, MB(1), KB(64)) || fallocate(fd, punch, MB(2), MB(2)))
			err(1, "fallocate");
		ok(flushes(mr, p, 0, REGION, IB_FLUSH_MR, KB(64) + MB(2)), memory,
		   "flush of all of it, with holes");
	}
	ibv_dereg_mr(mr);
}

/* It may not say that this is persistent. */
static bool flush_refused(struct ibv_mr *mr, uint64_t iova, size_t length,
			  enum ib_selectivity_level level)
{
	return flush(mr, iova, length, IB_FLUSH_PERSISTENT, level) == IBV_WC_REM_ACCESS_ERR;
}

static void flush_refuses(int fd)
{
	unsigned char *p = map(-1, REGION), *q;
	uint64_t iova = (uintptr_t)p + MB(256);
	struct ibv_mr *mr = reg_access(p, REGION, iova, FLUSH_ACCESS);

	fill(buf, BUF, 23);
	ok(write_to(mr, iova + KB(4), KB(8)) == IBV_WC_SUCCESS &&
	   flush(mr, iova + KB(4), KB(8), IB_FLUSH_GLOBAL, IB_FLUSH_RANGE) == IBV_WC_SUCCESS,
	   "anonymous", "flush to where others see it");
	ok(flush_refused(mr, iova + KB(8), KB(8), IB_FLUSH_RANGE), "anonymous",
	   "persistent flush of a range refused");
	ok(flush_refused(mr, 0, 0, IB_FLUSH_MR), "anonymous", "persistent flush of all refused");
	ibv_dereg_mr(mr);

	/* A private copy of one page. */
	q = mmap(p, REGION, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, fd, 0);
	if (q == MAP_FAILED)
		err(1, "mmap");
	mr = reg_access(p, REGION, iova, FLUSH_ACCESS);
	p[KB(8)]++;
	ok(flushes(mr, p, 0, KB(8), IB_FLUSH_RANGE, 0), "private", "flush of the file's pages");
	ok(flush_refused(mr, iova, KB(12), IB_FLUSH_RANGE), "private",
	   "persistent flush of a copy refused");
	/* What is not there at all cannot be made persistent. */
	munmap(p + MB(3), MB(1));
	ok(flush_refused(mr, iova + MB(3) - KB(4), KB(8), IB_FLUSH_RANGE), "private",
	   "persistent flush of what is unmapped refused");
	ibv_dereg_mr(mr);
	munmap(p, REGION);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static volatile bool stop;
static volatile uint64_t waited;	/* the longest that a page took to go, in ns */

static void *zap(void *p)
{
	while (!stop) {
		uint64_t begun = now(), took;

		madvise(p, KB(4), MADV_DONTNEED);
		took = now() - begun;
		if (took > waited)
			waited = took;
		usleep(1000);
	}
	return NULL;
}

/*
 * While a large region is flushed, it loses a page all the time: the flush does not
 * fail of it, and the page does not wait for all of the flush. What a busy machine adds
 * to the wait is not there each time. The region is large with few faults: leaves of
 * 1 GiB, and after them the page.
 */
static void flush_zapped(const char *memory, int fd)
{
	const size_t size = MB(2048) + KB(4);
	int fd_4k = open(need("HMM_DAX_DEV_PTE"), O_RDWR);
	unsigned char *p = map(fd, MB(1024));
	bool good = true, let_go = false;
	uint64_t begun;
	struct ibv_mr *mr;
	pthread_t thread;
	int i;

	if (mmap(p + MB(1024), MB(1024), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fd, 0) == MAP_FAILED ||
	    mmap(p + MB(2048), KB(4), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fd_4k, 0) == MAP_FAILED)
		err(1, "mmap");
	mr = reg_access(p, size, (uintptr_t)p, FLUSH_ACCESS);
	if (pthread_create(&thread, NULL, zap, p + MB(2048)))
		errx(1, "pthread_create");
	for (i = 0; i < 5 && good && !let_go; i++) {
		waited = 0;
		begun = now();
		good = flush(mr, 0, 0, IB_FLUSH_PERSISTENT, IB_FLUSH_MR) == IBV_WC_SUCCESS;
		usleep(10000);
		let_go = waited < (now() - begun) / 4;
	}
	ok(good, memory, "flush of a region that loses a page all the time");
	ok(let_go, memory, "a page goes while its region is flushed");
	stop = true;
	pthread_join(thread, NULL);
	ibv_dereg_mr(mr);
	munmap(p, size);
	close(fd_4k);
}

static void trace_written_back(bool on)
{
	if (on)
		tell(TRACING "kprobe_events", "p:rxe/wb arch_wb_cache_pmem addr=%di size=%si");
	tell(TRACING "events/rxe/wb/enable", on ? "1" : "0");
	if (!on)
		tell(TRACING "kprobe_events", "-:rxe/wb");
}

/*
 * 64 KiB that the CPU could write without a fault, but has not: clean for reclaim. 16 KiB
 * of them arrive from elsewhere; the first 16 KiB show that reclaim takes what it may.
 */
static void reclaimed(const char *memory, unsigned char *p, bool lazily_freed)
{
	struct ibv_mr *mr = reg(p, KB(64), (uintptr_t)p);
	unsigned char *other = map(-1, KB(4));
	bool arrived, unused;
	cpu_set_t one, all;
	size_t i;

	/* Pages wait on lists of each CPU to become the LRU's; MADV_COLD empties them. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_getaffinity(0, sizeof(all), &all) || sched_setaffinity(0, sizeof(one), &one))
		err(1, "sched_setaffinity");
	madvise(p, KB(64), MADV_NOHUGEPAGE);
	if (lazily_freed) {
		fill(p, KB(64), 31);
		madvise(other, KB(4), MADV_COLD);
		if (madvise(p, KB(64), MADV_FREE))
			err(1, "MADV_FREE");
	} else {
		for (i = 0; i < KB(64); i += KB(4))
			arrived = ((volatile unsigned char *)p)[i];
	}
	fill(buf, KB(16), 32);
	arrived = write_to(mr, (uintptr_t)p + KB(32), KB(16)) == IBV_WC_SUCCESS;
	madvise(other, KB(4), MADV_COLD);
	if (madvise(p, KB(64), MADV_PAGEOUT))
		err(1, "MADV_PAGEOUT");
	ok(!present(p, 4, &unused), memory, "reclaim took what is clean");
	ok(arrived && !memcmp(p + KB(32), buf, KB(16)), memory, "what arrived is there");
	sched_setaffinity(0, sizeof(all), &all);
	ibv_dereg_mr(mr);
	munmap(other, KB(4));
}

static bool wanted(const char *test, char **argv)
{
	if (!argv[1])
		return true;
	while (*++argv)
		if (!strcmp(*argv, test))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "data", "iova", "change", "truncate", "fork",
					     "advise", "large", "flush", "reclaim" };
	static const int64_t deltas[] = { 4096, MB(256), -(int64_t)MB(1) };
	struct { const char *name; int fd; unsigned char *p; } m[] = {
		{ "anonymous", -1, NULL }, { "ext4-dax", -1, NULL }, { "xfs-dax", -1, NULL },
		{ "device-dax, 1 GiB leaf", -1, NULL },
	};
	size_t i, j;
	int arg, fd;

	for (arg = 1; arg < argc; arg++) {
		for (i = 0; i < ARRAY_SIZE(names) && strcmp(argv[arg], names[i]); i++)
			;
		if (i == ARRAY_SIZE(names))
			errx(2, "%s: not data, iova, change, truncate, fork, advise, large, %s",
			     argv[arg], "flush, or reclaim");
	}
	m[1].fd = file_in(need("HMM_DAX_EXT4"));
	m[2].fd = file_in(need("HMM_DAX_XFS"));
	m[3].fd = open(need("HMM_DAX_DEV_PUD"), O_RDWR);
	if (m[3].fd < 0)
		err(1, "%s", need("HMM_DAX_DEV_PUD"));
	set_up();

	for (i = 0; i < ARRAY_SIZE(m); i++) {
		m[i].p = map(m[i].fd, i == 3 ? MB(1024) : REGION);
		keeps_data = m[i].fd >= 0;
		if (wanted("data", argv))
			data(m[i].name, m[i].p, 0, 0);
		for (j = 0; j < ARRAY_SIZE(deltas) && wanted("iova", argv); j++)
			data(m[i].name, m[i].p, deltas[j], 0);
		if (wanted("iova", argv)) {
			data(m[i].name, m[i].p, MB(256), 100);
			atomics(m[i].name, m[i].p, MB(256));
		}
		if (wanted("change", argv))
			change(m[i].name, m[i].p);
	}
	for (i = 1; i < 3 && wanted("truncate", argv); i++)
		truncated(m[i].name, m[i].p, m[i].fd);
	keeps_data = false;
	if (wanted("fork", argv))
		forked();
	if (wanted("advise", argv))
		advised(m[1].p);
	if (wanted("large", argv))
		large();
	if (wanted("flush", argv)) {
		trace_written_back(true);
		for (i = 1; i < 3; i++)
			flushed(m[i].name, m[i].p, m[i].fd, true);
		/* /proc/self/pagemap does not show what a leaf of 1 GiB maps. */
		fd = open(need("HMM_DAX_DEV_PMD"), O_RDWR);
		flushed("device-dax, 2 MiB leaves", map(fd, REGION), fd, false);
		flush_refuses(m[1].fd);
		trace_written_back(false);
		flush_zapped(m[3].name, m[3].fd);
	}
	if (wanted("reclaim", argv)) {
		fd = memfd_create("reclaim", 0);
		reclaimed("anonymous, MADV_FREE", map(-1, KB(64)), true);
		if (fd < 0 || ftruncate(fd, KB(64)))
			err(1, "memfd");
		reclaimed("shared memory, read by the CPU", map(fd, KB(64)), false);
	}
	printf("1..%d\n", tests);
	return failed > 0;
}
