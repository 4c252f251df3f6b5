// SPDX-License-Identifier: GPL-2.0
/*
 * fuzz-known pud|backing|check|release
 *
 * What fuzz found, one at a time, and leaves alone since. All of it is in Linux 7.3 without
 * the series as well. Each of these makes that kernel warn, crash, or hang:
 *
 *   pud      mprotect() of a leaf of 1 GiB to PROT_NONE and back: pudp_invalidate() warns, as
 *            x86's pud_present() does not know PROT_NONE (HMM_DAX_DEV_PUD)
 *   backing  HMM_DMIRROR_READ of memory that another file of the same device has migrated:
 *            the driver reads the device page's own memory, which does not exist
 *   check    HMM_DMIRROR_CHECK_EXCLUSIVE of 2^51 pages never ends, and cannot be killed
 *   release  HMM_DMIRROR_RELEASE while another process migrates to the same device
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/test_hmm_uapi.h"

#define PAGE	4096UL

static int open_node(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

static char *map(void *at, size_t size, int fd)
{
	char *got = mmap(at, size, PROT_READ | PROT_WRITE,
			 fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0) :
				  MAP_SHARED | MAP_FIXED, fd, 0);

	if (got == MAP_FAILED)
		err(1, "mmap");
	return got;
}

static void request(int fd, unsigned int cmd, const char *name, char *addr, uint64_t npages,
		    char *buf)
{
	struct hmm_dmirror_cmd args = {
		.addr = (uintptr_t)addr, .npages = npages, .ptr = (uintptr_t)buf,
	};
	int ret = ioctl(fd, cmd, &args);

	if (ret)
		warn("%s", name);
	else
		printf("%s: %llu pages\n", name, (unsigned long long)args.cpages);
}

#define REQUEST(fd, cmd, ...)	request(fd, HMM_DMIRROR_ ## cmd, #cmd, __VA_ARGS__)

static void pud(void)
{
	const char *name = getenv("HMM_DAX_DEV_PUD");
	char *p = map((void *)0x100040000000, 1UL << 30, open_node(name ?: "HMM_DAX_DEV_PUD"));

	*p = 1;
	if (mprotect(p, 1UL << 30, PROT_NONE) || mprotect(p, 1UL << 30, PROT_READ | PROT_WRITE))
		err(1, "mprotect");
	printf("byte %d\n", *p);
}

static void backing(char *buf)
{
	int fd = open_node("/dev/hmm_dmirror0"), other = open_node("/dev/hmm_dmirror0");
	char *p = map(NULL, 4 * PAGE, -1);

	memset(p, 1, 4 * PAGE);
	REQUEST(fd, MIGRATE_TO_DEV, p, 4, buf);
	REQUEST(other, READ, p, 4, buf);
	printf("byte %d, must be 1\n", *buf);
}

static void check(char *buf)
{
	int fd = open_node("/dev/hmm_dmirror0"), status;
	pid_t pid = fork();

	if (!pid) {
		REQUEST(fd, CHECK_EXCLUSIVE, NULL + PAGE, (1ULL << 51) - 1, buf);
		_exit(0);
	}
	sleep(5);
	kill(pid, SIGKILL);
	sleep(5);
	printf("%s\n", waitpid(pid, &status, WNOHANG) == pid ? "it has ended" :
	       "5 s after SIGKILL it is still there");
	fflush(stdout);
	_exit(0);
}

static void release(char *buf)
{
	pid_t pid = fork();
	int fd = open_node("/dev/hmm_dmirror0");
	char *p = map(NULL, 512 * PAGE, -1);

	for (int i = 0; i < 50; i++) {
		if (pid) {
			REQUEST(fd, RELEASE, p, 1, buf);
			continue;
		}
		memset(p, i, 512 * PAGE);
		REQUEST(fd, MIGRATE_TO_DEV, p, 512, buf);
	}
	if (!pid)
		_exit(0);
	wait(NULL);
}

int main(int argc, char **argv)
{
	char *buf = map(NULL, 1 << 21, -1);

	if (argc != 2)
		errx(2, "usage: fuzz-known pud|backing|check|release");
	if (!strcmp(argv[1], "pud"))
		pud();
	else if (!strcmp(argv[1], "backing"))
		backing(buf);
	else if (!strcmp(argv[1], "check"))
		check(buf);
	else if (!strcmp(argv[1], "release"))
		release(buf);
	else
		errx(2, "no such thing: %s", argv[1]);
	return 0;
}
