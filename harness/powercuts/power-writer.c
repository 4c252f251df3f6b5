// SPDX-License-Identifier: GPL-2.0
/*
 * What the guest runs until its power is cut, and what reads the files afterwards.
 *
 * There are four files on each of two file systems: for number N the file DIR/f(N % 4),
 * with DIR the first folder for N < 4 and the second for the others.
 *
 *	f0	test_hmm or the CPU writes, msync or fsync makes it last
 *	f1	the same through a mapping with MAP_SYNC, and the CPU writes its caches back
 *	f2, f3	edu writes by DMA, otherwise like f0 and f1
 *
 * Each word of 8 bytes that is ever written tells which file, which place and which
 * write it belongs to: see word_at(). All else in a file is zero.
 *
 * power-writer write SEED GENERATION FILES SYNCER LIE DIR DIR
 *	Write for ever. Generations count up from GENERATION, in each file. FILES is a
 *	mask of the files to be written, SYNCER=1 calls fsync() and sync() at odd
 *	moments, too. LIE is "none" or a way to be wrong, which has to be noticed:
 *	early	says that a write lasts before it is synced
 *	never	the same, and does not sync, nor use MAP_SYNC
 *
 *	Before it begins, and after it is synced, each write is told to the host:
 *	B FILE GENERATION ZERO-FROM ZERO-TO FROM TO T|- WRITER OPERATION
 *		From here on, what is between the first two can be zero, and between the
 *		second two of this generation. T: the file can end at ZERO-FROM, too.
 *	A FILE GENERATION FROM TO LEAVES
 *		What is between these is as the last B said, and remains so. The write
 *		went into so many leaves of 2 MiB.
 *	Numbers are bytes. No B comes later than what it tells: QEMU has it.
 *
 * power-writer dump SEED DIR DIR
 *	S FILE SIZE, and for each stretch of a file
 *	D FILE OFFSET BYTES GENERATION
 *		0 is a hole, or zeroes; =HEX: no write of this file and place has made that.
 */
#include <stdarg.h>
#include <termios.h>
#include <time.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "device.h"

#define FILES		8
#define SIZE		(4UL << 20)
#define PAGE		4096UL
#define WORDS(bytes)	((bytes) / sizeof(uint64_t))
#define MAX_FOREIGN	64

struct file {
	unsigned int nr;
	char path[256];
	int fd, dir;
	char *map;
	int dmirror, edu;	/* edu: -1 for those that test_hmm writes */
	int map_sync;
	uint32_t gen;
	uint64_t rng;
};

static uint64_t seed;
static const char *lie = "none";
static uint64_t *buf;

static uint64_t word_at(unsigned int file, uint64_t word, uint32_t gen)
{
	uint64_t tag = mix(seed + ((uint64_t)file << 32 | word) * 0x9e3779b97f4a7c15ULL);

	return (tag >> 32 | 1) << 32 | gen;
}

static void file_path(char *path, size_t size, char **dirs, unsigned int nr)
{
	snprintf(path, size, "%s/f%u", dirs[nr / 4], nr % 4);
}

/* The host has it when this returns. */
static void say(const char *fmt, ...)
{
	char line[256];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (write(1, line, n) != n || (isatty(1) && tcdrain(1)))
		err(1, "the host does not listen");
}

/* What the CPU has in its caches of it goes to memory. */
static void write_back(char *from, char *to)
{
#if defined(__x86_64__) || defined(__i386__)
	char *p;

	for (p = from; p < to; p += 64)
		asm volatile("clflush %0" : "+m"(*p));
	asm volatile("sfence" ::: "memory");
#elif defined(__aarch64__)
	char *p;

	for (p = from; p < to; p += 64)
		asm volatile("dc cvac, %0" :: "r"(p) : "memory");
	asm volatile("dsb sy" ::: "memory");
#else
	(void)from;
	(void)to;
	errx(1, "how does this CPU write its caches back?");
#endif
}

static void map_file(struct file *f)
{
	struct stat st;

	f->fd = open(f->path, O_RDWR | O_CREAT, 0600);
	/* It can have been cut while it was short. */
	if (f->fd < 0 || fstat(f->fd, &st) || ((size_t)st.st_size < SIZE && ftruncate(f->fd, SIZE)))
		err(1, "%s", f->path);
	map_at(f->map, SIZE, f->fd, f->map_sync && strcmp(lie, "never"));
}

/* A new file with the name of the old one: opens and maps it. */
static void replace_begin(struct file *f, char *path, size_t size)
{
	struct file new = *f;

	snprintf(path, size, "%s.new", f->path);
	if (unlink(path) && errno != ENOENT)
		err(1, "%s", path);
	snprintf(new.path, sizeof(new.path), "%.250s.new", f->path);
	map_file(&new);
	close(f->fd);
	f->fd = new.fd;
}

static void replace_end(struct file *f, const char *path)
{
	if (strcmp(lie, "never") && fsync(f->fd))
		err(1, "%s: fsync", path);
	if (rename(path, f->path))
		err(1, "%s: rename", path);
	if (strcmp(lie, "never") && fsync(f->dir))
		err(1, "%s: fsync of its folder", path);
}

static void device_write(struct file *f, size_t from, size_t to, int cpu)
{
	size_t i;

	for (i = 0; i < WORDS(to - from); i++)
		buf[i] = word_at(f->nr, WORDS(from) + i, f->gen);
	if (f->edu >= 0)
		edu_write(f->edu, f->map + from, buf, to - from);
	else if (!cpu)
		dmirror_write(f->dmirror, f->map + from, buf, (to - from) / PAGE);
	else
		for (i = 0; i < WORDS(to - from); i++)
			((volatile uint64_t *)(f->map + from))[i] = buf[i];
}

static unsigned int large_leaves(struct file *f, size_t from, size_t to)
{
	unsigned char perm = 0;
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)f->map + from,
		.ptr = (uintptr_t)&perm,
		.npages = 1,
	};

	if (to - from < LEAF)
		return 0;
	request(f->dmirror, HMM_DMIRROR_SNAPSHOT, &cmd, "test_hmm's snapshot");
	return !!(perm & HMM_DMIRROR_PROT_PMD);
}

static void write_once(struct file *f)
{
	enum { OVERWRITE, PUNCH, ZERO, TRUNCATE, REPLACE } op;
	static const char *const names[] = { "overwrite", "punch", "zero", "truncate", "replace" };
	enum { RANGE, FSYNC, FDATASYNC, NOTHING } sync;
	int cpu = f->edu < 0 && !pick(&f->rng, 3);
	size_t from, to, zero_from, zero_to, done_from, done_to;
	unsigned long dice = pick(&f->rng, 100);
	char path[300] = "";
	int failed = 0;

	op = dice < 30 ? OVERWRITE : dice < 65 ? PUNCH : dice < 80 ? ZERO : dice < 90 ? TRUNCATE :
		f->map_sync ? PUNCH : REPLACE;
	dice = pick(&f->rng, 100);
	sync = dice < 45 ? RANGE : dice < 65 ? FSYNC : dice < 85 ? FDATASYNC : NOTHING;

	if (f->edu >= 0) {
		from = pick(&f->rng, SIZE / HMM_DMA_XFER_MAX) * HMM_DMA_XFER_MAX;
		to = from + HMM_DMA_XFER_MAX;
	} else if (pick(&f->rng, 8)) {
		from = pick(&f->rng, SIZE / PAGE) * PAGE;
		to = from + (1 + pick(&f->rng, 16)) * PAGE;
		if (to > SIZE)
			to = SIZE;
	} else {
		from = pick(&f->rng, SIZE / LEAF) * LEAF;
		to = from + LEAF;
	}

	/* What this makes zero, and what will be synced. */
	zero_from = zero_to = 0;
	done_from = from / PAGE * PAGE;
	done_to = (to + PAGE - 1) / PAGE * PAGE;
	switch (op) {
	case OVERWRITE:
		break;
	case PUNCH:
	case ZERO:
		zero_from = done_from;
		zero_to = done_to;
		break;
	case TRUNCATE:
		zero_from = from;
		done_to = zero_to = SIZE;
		if (sync == RANGE)
			sync = FSYNC;
		break;
	case REPLACE:
		zero_to = SIZE;
		sync = FSYNC;
		break;
	}
	if (!f->map_sync && (sync == FSYNC || sync == FDATASYNC)) {
		done_from = 0;
		done_to = SIZE;
	}

	f->gen++;
	say("B %u %u %zu %zu %zu %zu %c %s %s\n", f->nr, f->gen, zero_from, zero_to, from, to,
	    op == TRUNCATE ? 'T' : '-', cpu ? "cpu" : f->edu >= 0 ? "edu" : "test_hmm", names[op]);

	switch (op) {
	case OVERWRITE:
		break;
	case PUNCH:
		failed = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, zero_from,
				   zero_to - zero_from);
		break;
	case ZERO:
		failed = fallocate(f->fd, FALLOC_FL_ZERO_RANGE, zero_from, zero_to - zero_from);
		break;
	case TRUNCATE:
		failed = ftruncate(f->fd, zero_from) || ftruncate(f->fd, SIZE);
		break;
	case REPLACE:
		replace_begin(f, path, sizeof(path));
		break;
	}
	if (failed)
		err(1, "%s: %s", f->path, names[op]);

	device_write(f, from, to, cpu);

	if (!strcmp(lie, "early"))
		say("A %u %u %zu %zu 0\n", f->nr, f->gen, done_from, done_to);
	if (op == REPLACE)
		replace_end(f, path);
	else if (f->map_sync)
		write_back(f->map + from, f->map + to);
	else if (sync == NOTHING)
		return;
	else if (!strcmp(lie, "never"))
		;
	else if (sync == RANGE)
		failed = msync(f->map + done_from, done_to - done_from, MS_SYNC);
	else
		failed = sync == FSYNC ? fsync(f->fd) : fdatasync(f->fd);
	if (failed)
		err(1, "%s: sync", f->path);
	if (strcmp(lie, "early"))
		say("A %u %u %zu %zu %u\n", f->nr, f->gen, done_from, done_to,
		    large_leaves(f, from, to));
}

static void write_file(struct file *f)
{
	buf = malloc(LEAF);
	f->map = reserve(SIZE, 0);
	if (!buf)
		err(1, "malloc");
	map_file(f);
	f->dmirror = open_device("/dev/hmm_dmirror0");
	if (f->edu >= 0) {
		f->edu = open_device("/dev/hmm_dma_edu");
		edu_window(f->edu, f->map, SIZE);
	}
	for (;;)
		write_once(f);
}

static void sync_at_odd_moments(char **dirs, uint64_t rng)
{
	char path[256];
	int fd;

	for (;;) {
		usleep(pick(&rng, 200000));
		if (!pick(&rng, 4)) {
			sync();
			continue;
		}
		file_path(path, sizeof(path), dirs, pick(&rng, FILES));
		fd = open(path, O_RDWR);
		if (fd < 0 || fsync(fd))
			err(1, "%s: fsync", path);
		close(fd);
	}
}

static void write_files(unsigned int files, uint32_t gen, int syncer, char **dirs)
{
	unsigned int nr;
	int status;

	for (nr = 0; nr < FILES; nr++) {
		struct file f = {
			.nr = nr,
			.edu = nr & 2 ? 0 : -1,
			.map_sync = nr & 1,
			.gen = gen,
			.rng = mix(seed ^ mix((uint64_t)gen << 8 | nr)),
		};

		if (!(files & 1 << nr))
			continue;
		file_path(f.path, sizeof(f.path), dirs, nr);
		f.dir = open(dirs[nr / 4], O_RDONLY);
		if (!fork())
			write_file(&f);
	}
	if (syncer && !fork())
		sync_at_odd_moments(dirs, mix(seed ^ gen));
	wait(&status);
	errx(1, "a writer ended");
}

static void dump_file(unsigned int nr, const char *path)
{
	uint64_t at = 0, start = 0, last = 0, foreign = 0;
	static uint64_t words[WORDS(LEAF)];
	int fd = open(path, O_RDONLY);
	struct stat st;
	ssize_t n, i;

	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", path);
	printf("S %u %llu\n", nr, (unsigned long long)st.st_size);
	while ((n = read(fd, words, sizeof(words))) > 0) {
		for (i = 0; i < n / 8; i++, at += 8) {
			uint32_t gen = words[i];

			if (words[i] && words[i] != word_at(nr, at / 8, gen)) {
				if (at > start)
					printf("D %u %llu %llu %llu\n", nr,
					       (unsigned long long)start,
					       (unsigned long long)(at - start),
					       (unsigned long long)last);
				start = at + 8;
				if (foreign++ < MAX_FOREIGN)
					printf("D %u %llu 8 =%016llx\n", nr,
					       (unsigned long long)at,
					       (unsigned long long)words[i]);
				continue;
			}
			if (at > start && gen != last) {
				printf("D %u %llu %llu %llu\n", nr, (unsigned long long)start,
				       (unsigned long long)(at - start),
				       (unsigned long long)last);
				start = at;
			}
			last = gen;
		}
	}
	if (n < 0)
		err(1, "%s", path);
	if (at > start)
		printf("D %u %llu %llu %llu\n", nr, (unsigned long long)start,
		       (unsigned long long)(at - start), (unsigned long long)last);
	if (foreign > MAX_FOREIGN)
		printf("D %u 0 0 =more: %llu words\n", nr, (unsigned long long)foreign);
	close(fd);
}

int main(int argc, char **argv)
{
	char path[256];
	unsigned int nr;

	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	if (argc == 5 && !strcmp(argv[1], "dump")) {
		for (nr = 0; nr < FILES; nr++) {
			file_path(path, sizeof(path), argv + 3, nr);
			dump_file(nr, path);
		}
		return 0;
	}
	if (argc == 9 && !strcmp(argv[1], "write")) {
		lie = argv[6];
		write_files(strtoul(argv[4], NULL, 0), strtoul(argv[3], NULL, 0),
			    atoi(argv[5]), argv + 7);
	}
	errx(2, "usage: power-writer write SEED GENERATION FILES SYNCER LIE DIR DIR | dump SEED DIR DIR");
}
