// SPDX-License-Identifier: GPL-2.0
/*
 * flush-record DIR...: is all that a device writes into a DAX file flushed from the CPU's
 * caches by the next msync(), fsync() or fdatasync()?
 *
 * An emulated NVDIMM cannot tell: whatever the CPU has written is in the image. So this
 * records, like dm-log-writes does for blocks, each call of arch_wb_cache_pmem(), by a
 * kprobe, and puts a mark before and after each write of a device into the same record.
 * After the begin of a write there has to be a flush of each of its pages, and after its
 * end, unless one came in between.
 *
 * For each DIR, size of the leaves and writer, the device writes and syncs take turns
 * first; then both run at once. The record of the first part is also looked at without its
 * last flush, which has to be missed. Where DIR has reflink, write() copies a page of a
 * large leaf of which the CPU has written another one.
 */
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>

#include "device.h"

#define SIZE		(4UL << 20)
#define PAGE		4096UL
#define PAGES		(SIZE / PAGE)
#define TRACING		"/sys/kernel/tracing/"
#define EVENT		"hmm_dax_flush"
#define NONE		UINT64_MAX

enum writer { CPU, TEST_HMM, EDU };
static const char *const writers[] = { "cpu", "test_hmm", "edu" };

struct event {
	enum { BEGIN, END, FLUSH } type;
	uint64_t start, len;	/* pages of the file, or bytes as the kernel has them */
};

struct record {
	struct event *events;
	size_t nr, max;
};

struct test {
	enum writer writer;
	const char *dir;
	size_t leaf;
	char *map;
	int fd, dmirror, edu;
	unsigned int writes;	/* for the other thread */
	uint64_t rng;
	uint64_t phys[PAGES];
	size_t written, flushes, between, largest;
};

static int marker, tests, failed;
static uint64_t direct_map;

static void put(const char *name, const char *text, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), TRACING "%s", name);
	fd = open(path, O_WRONLY | flags);
	if (fd < 0 || (*text && write(fd, text, strlen(text)) != (ssize_t)strlen(text)))
		err(1, "%s", path);
	close(fd);
}

static void start_recording(void)
{
	put("kprobe_events", "p:" EVENT " arch_wb_cache_pmem addr=$arg1:x64 size=$arg2:x64",
	    O_APPEND);
	/* Else each CPU would have a clock of its own. */
	put("trace_clock", "counter", 0);
	put("buffer_size_kb", "8192", 0);
	put("events/kprobes/" EVENT "/enable", "1", 0);
	marker = open(TRACING "trace_marker", O_WRONLY);
	if (marker < 0)
		err(1, "trace_marker");
}

static void new_record(void)
{
	put("trace", "", O_TRUNC);
}

static void mark(char what, size_t page, size_t pages)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "hmm-dax %c %zx %zx", what, page, pages);

	if (write(marker, text, n) != n)
		err(1, "trace_marker");
}

static struct record read_record(void)
{
	FILE *trace = fopen(TRACING "trace", "r");
	struct record r = {};
	char line[512];

	if (!trace)
		err(1, "trace");
	while (fgets(line, sizeof(line), trace)) {
		unsigned long long start, len, kept, all;
		struct event e = {};
		char what, *at;

		at = strstr(line, "entries-written: ");
		if (at && sscanf(at, "entries-written: %llu/%llu", &kept, &all) == 2 && kept != all)
			errx(1, "%llu of %llu events are lost", all - kept, all);
		at = strstr(line, "hmm-dax ");
		if (at && sscanf(at, "hmm-dax %c %llx %llx", &what, &start, &len) == 3)
			e.type = what == 'w' ? BEGIN : END;
		else if ((at = strstr(line, EVENT ": ")) && (at = strstr(at, "addr=")) &&
			 sscanf(at, "addr=0x%llx size=0x%llx", &start, &len) == 2)
			e.type = FLUSH;
		else
			continue;
		e.start = start;
		e.len = len;
		if (r.nr == r.max) {
			r.max = 2 * r.max + 1024;
			r.events = realloc(r.events, r.max * sizeof(e));
			if (!r.events)
				err(1, "realloc");
		}
		r.events[r.nr++] = e;
	}
	fclose(trace);
	return r;
}

/* Where the memory of each page of the file is. No blocks have moved since. */
static void look_up(struct test *t)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t i;

	for (i = 0; i < PAGES; i++) {
		uint64_t entry;

		(void)*(volatile char *)(t->map + i * PAGE);
		if (pread(fd, &entry, 8, ((uintptr_t)t->map / PAGE + i) * 8) != 8 ||
		    !(entry >> 63) || !(entry << 9))
			errx(1, "pagemap does not tell where the memory is");
		t->phys[i] = (entry & ((1ULL << 55) - 1)) * PAGE;
	}
	close(fd);
}

static bool covers(const struct event *flush, uint64_t phys)
{
	uint64_t at = phys + direct_map;

	return flush->start <= at && at + PAGE - flush->start <= flush->len;
}

/* How many pages were written, or began to be, and not flushed any more. */
static size_t missing(struct test *t, const struct record *r, bool but_the_last)
{
	static uint64_t next[PAGES];	/* the flush that comes next */
	size_t i, page, missed = 0, end = 0;

	for (page = 0; page < PAGES; page++)
		next[page] = NONE;
	t->written = t->flushes = t->between = t->largest = 0;
	for (i = r->nr; i-- > 0;) {
		const struct event *e = &r->events[i];

		switch (e->type) {
		case FLUSH:
			if (but_the_last) {
				but_the_last = false;
				break;
			}
			t->flushes++;
			if (e->len > t->largest)
				t->largest = e->len;
			for (page = 0; page < PAGES; page++)
				if (covers(e, t->phys[page]))
					next[page] = i;
			break;
		case END:
			end = i;
			break;
		case BEGIN:
			for (page = e->start; page < e->start + e->len; page++) {
				t->written++;
				if (next[page] == NONE)
					missed++;
				else if (next[page] < end)
					t->between++;
			}
			break;
		}
	}
	return missed;
}

static void write_some(struct test *t)
{
	static char buf[16 * PAGE];
	size_t page = pick(&t->rng, PAGES), pages = 1 + pick(&t->rng, 16);

	if (page + pages > PAGES)
		pages = PAGES - page;
	if (t->writer == EDU)
		pages = 1;
	memset(buf, pick(&t->rng, 256), pages * PAGE);
	mark('w', page, pages);
	switch (t->writer) {
	case CPU:
		memcpy(t->map + page * PAGE, buf, pages * PAGE);
		break;
	case TEST_HMM:
		dmirror_write(t->dmirror, t->map + page * PAGE, buf, pages);
		break;
	case EDU:
		edu_write(t->edu, t->map + page * PAGE, buf, HMM_DMA_XFER_MAX);
		break;
	}
	mark('W', page, pages);
}

static void *write_meanwhile(void *arg)
{
	struct test *t = arg;

	while (t->writes--)
		write_some(t);
	return NULL;
}

static void sync_all(struct test *t, unsigned long how)
{
	if (how == 0 ? fsync(t->fd) : how == 1 ? fdatasync(t->fd) : msync(t->map, SIZE, MS_SYNC))
		err(1, "sync");
}

static void result(struct test *t, bool ok, const char *what, size_t missed)
{
	failed += !ok;
	printf("%s %d %s %s %s: %s: %zu pages, %zu flushes of up to %zu KiB, %zu while a write "
	       "was under way, %zu pages not flushed\n", ok ? "ok" : "not ok", ++tests, t->dir,
	       t->leaf == LEAF ? "2M" : "4K", writers[t->writer], what, t->written, t->flushes,
	       t->largest >> 10, t->between, missed);
	fflush(stdout);
}

static void take_turns(struct test *t)
{
	unsigned int round, n;
	struct record r;
	size_t missed;

	new_record();
	for (round = 0; round < 12; round++) {
		for (n = 1 + pick(&t->rng, t->writer == EDU ? 1 : 3); n; n--)
			write_some(t);
		sync_all(t, pick(&t->rng, 4));
	}
	r = read_record();
	look_up(t);
	missed = missing(t, &r, false);
	result(t, !missed && t->largest == t->leaf, "writes and syncs in turn", missed);
	missed = missing(t, &r, true);
	result(t, missed, "the same without the last flush, which is missed", missed);
	free(r.events);
}

static void at_once(struct test *t)
{
	uint64_t rng = t->rng;
	pthread_t thread;
	struct record r;
	size_t missed;

	new_record();
	t->writes = t->writer == EDU ? 8 : 80;
	if (pthread_create(&thread, NULL, write_meanwhile, t))
		errx(1, "no thread");
	while (pthread_tryjoin_np(thread, NULL)) {
		usleep(pick(&rng, 5000));
		sync_all(t, pick(&rng, 4));
	}
	sync_all(t, 0);
	r = read_record();
	look_up(t);
	missed = missing(t, &r, false);
	result(t, !missed && t->largest == t->leaf, "writes during syncs", missed);
	free(r.events);
}

static void make_file(struct test *t, bool large)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/flushed", t->dir);
	unlink(path);
	t->fd = open(path, O_RDWR | O_CREAT, 0600);
	if (t->fd < 0 || (large ? fallocate(t->fd, 0, 0, SIZE) : ftruncate(t->fd, SIZE)))
		err(1, "%s", path);
	/* Leaves of 2 MiB only where blocks are so large, and address and offset agree. */
	t->map = reserve(SIZE + LEAF, large ? 0 : PAGE);
	map_at(t->map, SIZE, t->fd, 0);
	t->leaf = large ? LEAF : PAGE;
}

/*
 * The CPU writes a page of a large leaf, and write() another one. That would be written in
 * place, but the file system has a copy of its block ready: it is told to copy in units of
 * the whole file, and a block behind the leaf is shared and was copied before.
 */
static void copy_beside(struct test *t)
{
	struct file_clone_range range = { .src_offset = LEAF + 8 * PAGE, .src_length = PAGE };
	struct fsxattr attr = { .fsx_xflags = FS_XFLAG_COWEXTSIZE, .fsx_cowextsize = SIZE };
	static char buf[PAGE];
	struct record r;
	char path[256];
	size_t missed;
	int other;

	t->writer = CPU;
	make_file(t, true);
	memset(t->map, 1, SIZE);
	sync_all(t, 0);
	snprintf(path, sizeof(path), "%s/other", t->dir);
	other = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (other < 0)
		err(1, "%s", path);
	range.src_fd = t->fd;
	if (ioctl(other, FICLONERANGE, &range)) {
		if (errno != EOPNOTSUPP)
			err(1, "FICLONERANGE");
	} else {
		if (ioctl(t->fd, FS_IOC_FSSETXATTR, &attr))
			err(1, "FS_IOC_FSSETXATTR");
		look_up(t);
		new_record();
		mark('w', 9, 1);
		memset(t->map + 9 * PAGE, 2, PAGE);
		mark('W', 9, 1);
		if (pwrite(t->fd, buf, PAGE, range.src_offset) != (ssize_t)PAGE ||
		    pwrite(t->fd, buf, PAGE, 7 * PAGE) != (ssize_t)PAGE)
			err(1, "pwrite");
		sync_all(t, 0);
		r = read_record();
		missed = missing(t, &r, false);
		result(t, !missed && t->largest == LEAF, "write() copies the page beside it",
		       missed);
		free(r.events);
	}
	close(other);
	unlink(path);
	munmap(t->map, SIZE);
	close(t->fd);
}

/* What the kernel adds to a physical address to make the virtual one that it flushes. */
static void find_direct_map(struct test *t)
{
	struct record r;

	make_file(t, false);
	memset(t->map, 1, SIZE);
	sync_all(t, 0);
	look_up(t);
	*(volatile char *)t->map = 2;
	new_record();
	sync_all(t, 0);
	r = read_record();
	if (r.nr != 1 || r.events[0].type != FLUSH || r.events[0].len != PAGE)
		errx(1, "%zu flushes of one page that the CPU has written", r.nr);
	direct_map = r.events[0].start - t->phys[0];
	if (direct_map % (1UL << 30))
		errx(1, "no direct map begins at %#llx", (unsigned long long)direct_map);
	free(r.events);
	munmap(t->map, SIZE);
	close(t->fd);
}

int main(int argc, char **argv)
{
	struct test t = { .rng = 1 };
	int i;

	if (argc < 2)
		errx(2, "usage: flush-record DIR...");
	start_recording();
	t.dmirror = open_device("/dev/hmm_dmirror0");
	t.edu = open("/dev/hmm_dma_edu", O_RDWR);
	t.dir = argv[1];
	find_direct_map(&t);
	for (i = 1; i < argc; i++) {
		t.dir = argv[i];
		copy_beside(&t);
	}
	for (i = 0; i < 2 * (argc - 1); i++) {
		t.dir = argv[1 + i / 2];
		for (t.writer = CPU; t.writer <= EDU; t.writer++) {
			if (t.writer == EDU && t.edu < 0)
				continue;
			make_file(&t, i % 2);
			if (t.writer == EDU)
				edu_window(t.edu, t.map, SIZE);
			take_turns(&t);
			at_once(&t);
			munmap(t.map, SIZE);
			close(t.fd);
		}
	}
	return failed ? 1 : 0;
}
