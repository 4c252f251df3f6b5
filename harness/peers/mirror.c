// SPDX-License-Identifier: GPL-2.0
/*
 * mirror.so: let a device mirror what a program maps of DAX.
 *
 * With LD_PRELOAD=mirror.so, the device of lib/test_hmm mirrors the address space of
 * each process that maps a DAX file or a device-dax, and reads all of that again and
 * again, as long as it is mapped. The program is not changed, and its files are not kept
 * open. What cannot be faulted in, as behind the end of a file, is left out. The pages
 * read are counted in the file that MIRROR_COUNT names.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <lib/test_hmm_uapi.h>

#define PAGE	4096UL		/* x86-64's */
#define CHUNK	(64 * PAGE)
#define RANGES	256

static struct range {
	uintptr_t start, end;
} ranges[RANGES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool started;
static int device = -1;
static uint64_t *pages_read;

static bool is_dax(int fd)
{
	char path[64], target[PATH_MAX];
	struct statx st;
	ssize_t n;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st))
		return false;
	if (S_ISREG(st.stx_mode))
		return st.stx_attributes & STATX_ATTR_DAX;
	if (!S_ISCHR(st.stx_mode))
		return false;
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/subsystem",
		 st.stx_rdev_major, st.stx_rdev_minor);
	n = readlink(path, target, sizeof(target));
	return n > 4 && !memcmp(target + n - 4, "/dax", 4);
}

static bool read_pages(uintptr_t addr, size_t bytes, void *buf)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = addr,
		.ptr = (uintptr_t)buf,
		.npages = bytes / PAGE,
	};

	if (ioctl(device, HMM_DMIRROR_READ, &cmd))
		return false;
	if (pages_read)
		__atomic_fetch_add(pages_read, cmd.npages, __ATOMIC_RELAXED);
	return true;
}

static void read_range(struct range r, void *buf)
{
	uintptr_t at, page, end;

	for (at = r.start; at < r.end; at = end) {
		end = r.end - at < CHUNK ? r.end : at + CHUNK;
		if (!read_pages(at, end - at, buf))
			for (page = at; page < end && read_pages(page, PAGE, buf); page += PAGE)
				;
		usleep(100);	/* the program needs the CPU, too */
	}
}

static void *read_all(void *buf)
{
	for (;;) {
		for (int i = 0; i < RANGES; i++) {
			struct range r;

			pthread_mutex_lock(&lock);
			r = ranges[i];
			pthread_mutex_unlock(&lock);
			read_range(r, buf);
		}
		usleep(1000);
	}
	return NULL;
}

/* With the lock held. The program is to notice neither the thread nor its files. */
static void start(void)
{
	const char *path = getenv("MIRROR_COUNT");
	sigset_t all, old;
	pthread_t thread;
	void *buf, *count;
	int fd;

	started = true;
	fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	device = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 900);
	close(fd);
	if (device < 0)
		return;
	fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	count = mmap(NULL, sizeof(*pages_read), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	pages_read = count == MAP_FAILED ? NULL : count;
	close(fd);
	buf = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!pthread_create(&thread, NULL, read_all, buf))
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* The device mirrors the parent, and the thread is there. */
static void forked(void)
{
	pthread_mutex_init(&lock, NULL);
	if (started)
		close(device);
	started = false;
	device = -1;
}

__attribute__((constructor)) static void at_fork(void)
{
	pthread_atfork(NULL, NULL, forked);
}

static void add(uintptr_t from, uintptr_t to)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < RANGES; i++) {
		if (ranges[i].start == ranges[i].end) {
			ranges[i] = (struct range){ from, to };
			break;
		}
	}
	if (!started)
		start();
	pthread_mutex_unlock(&lock);
}

static void remove_all(uintptr_t from, uintptr_t to)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < RANGES; i++)
		if (ranges[i].start < to && ranges[i].end > from)
			ranges[i] = (struct range){};
	pthread_mutex_unlock(&lock);
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	void *p = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
	int saved = errno;

	if (p != MAP_FAILED && is_dax(fd))
		add((uintptr_t)p, (uintptr_t)p + (len + PAGE - 1) / PAGE * PAGE);
	errno = saved;
	return p;
}

void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return mmap(addr, len, prot, flags, fd, offset);
}

int munmap(void *addr, size_t len)
{
	remove_all((uintptr_t)addr, (uintptr_t)addr + len);
	return syscall(SYS_munmap, addr, len);
}
