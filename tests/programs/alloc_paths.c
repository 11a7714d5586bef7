/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * alloc_paths WHAT...: ways to allocate memory. Those that cannot return ENOMEM must succeed under
 * any limit; the others must fail with it. Prints `WHAT: ok`, `WHAT: denied (ENOMEM)` or
 * `WHAT: failed: …` for each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB   (1L << 20)
#define LARGE (128 * MIB)
#define RW    (PROT_READ | PROT_WRITE)
#define ANON  (MAP_PRIVATE | MAP_ANONYMOUS)

/* 0, or -1 with errno, as system calls do. */
static int mapped(void *at)
{
	return at == MAP_FAILED ? -1 : 0;
}

static __attribute__((noinline)) long deeper(long kilobytes)
{
	volatile char frame[1024];

	frame[0] = frame[1023] = (char)kilobytes;
	return kilobytes ? deeper(kilobytes - 1) + frame[0] - frame[1023] : 0;
}

/* 24 MiB of the main thread's stack, which grows by page faults: a denied request would be SIGSEGV.
 */
static int recursion(void)
{
	const struct rlimit enough = {64 * MIB, 64 * MIB};

	if (setrlimit(RLIMIT_STACK, &enough))
		return -1;
	return (int)deeper(24 * 1024);
}

/* Mapped in pieces that are each small enough, then touched: more than the limit, all of it
 * accounted. */
static int fork_large(void)
{
	char *pieces[16];
	int status;
	pid_t child;

	for (int i = 0; i < 16; i++) {
		pieces[i] = mmap(NULL, 3 * MIB, RW, ANON, -1, 0);
		if (pieces[i] == MAP_FAILED)
			return -1;
	}
	for (int i = 0; i < 16; i++)
		memset(pieces[i], 1, 3 * MIB);
	child = fork();
	if (child < 0)
		return -1;
	if (!child) {
		memset(pieces[0], 2, 3 * MIB); /* copy on write needs memory, not permission */
		_exit(7);
	}
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) {
		errno = ECHILD;
		return -1;
	}
	return 0;
}

static pthread_barrier_t all_there;

static void *thread(void *unused)
{
	pthread_barrier_wait(&all_there);
	return unused;
}

/* 1,000 threads alive at once, each with that much stack. */
static int threads(size_t stack)
{
	static pthread_t ids[1000];
	pthread_attr_t attr;

	pthread_barrier_init(&all_there, NULL, 1001);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack);
	for (int i = 0; i < 1000; i++) {
		errno = pthread_create(&ids[i], &attr, thread, NULL);
		if (errno) {
			printf("after %d threads: ", i);
			return -1;
		}
	}
	pthread_barrier_wait(&all_there);
	for (int i = 0; i < 1000; i++)
		pthread_join(ids[i], NULL);
	return 0;
}

static int threads_with_large_stacks(void)
{
	return threads(8 * MIB);
}

static int threads_with_small_stacks(void)
{
	return threads(64 << 10);
}

static int protect(void)
{
	void *at = mmap(NULL, LARGE, PROT_NONE, ANON, -1, 0);

	return mapped(at) ? -1 : mprotect(at, LARGE, RW);
}

static int remap(void)
{
	void *at = mmap(NULL, MIB, RW, ANON, -1, 0);

	return mapped(at) ? -1 : mapped(mremap(at, MIB, LARGE, MREMAP_MAYMOVE));
}

static int brk_(void)
{
	return mapped(sbrk(LARGE)); /* (void *)-1, like MAP_FAILED */
}

static int private(void)
{
	return mapped(mmap(NULL, LARGE, RW, ANON, -1, 0));
}

static int shared(void)
{
	return mapped(mmap(NULL, LARGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

static int shm(void)
{
	int id = shmget(IPC_PRIVATE, LARGE, 0600);

	if (id >= 0)
		shmctl(id, IPC_RMID, NULL);
	return id < 0 ? -1 : 0;
}

/* Address space that the kernel does not count, as much as sanitizers and virtual machines of
 * languages reserve. */
static char *reserved(int access)
{
	return mmap(NULL, 1L << 40, access, ANON | MAP_NORESERVE, -1, 0);
}

static int noreserve(void)
{
	return mapped(reserved(RW)) || mapped(reserved(PROT_NONE)) ? -1 : 0;
}

/* A part of it is taken into use. */
static int commit(void)
{
	char *at = reserved(PROT_NONE);

	return mapped(at) ? -1 : mprotect(at + LARGE, LARGE, RW);
}

/* Bit by bit, as the arenas of glibc's threads grow. */
static int arena(void)
{
	char *at = reserved(PROT_NONE);

	if (mapped(at))
		return -1;
	for (long i = 0; i < LARGE; i += MIB / 4) {
		if (mprotect(at + i, MIB / 4, RW))
			return -1;
		memset(at + i, 1, MIB / 4);
	}
	return 0;
}

/* As jemalloc and mimalloc get their pieces. */
static int pieces(void)
{
	for (long i = 0; i < LARGE; i += MIB) {
		char *at = mmap(NULL, MIB, RW, ANON | MAP_NORESERVE, -1, 0);

		if (mapped(at))
			return -1;
		memset(at, 1, MIB);
	}
	return 0;
}

/* Memory that is in use already, more than half of the limit, as compilers of machine code do. */
static int access_(void)
{
	char *at = reserved(PROT_NONE);

	if (mapped(at))
		return -1;
	for (long i = 0; i < 11 * MIB; i += MIB / 4) {
		if (mprotect(at + i, MIB / 4, RW))
			return -1;
		memset(at + i, 1, MIB / 4);
	}
	return mprotect(at, 11 * MIB, PROT_READ | PROT_EXEC) || mprotect(at, 11 * MIB, RW) ? -1 : 0;
}

/* Pages of a tmpfs file, by write (if denied: ENOSPC) and by fault (if denied: SIGBUS): exempt. */
static int tmpfs(void)
{
	static char piece[MIB];
	int fd = memfd_create("edge", 0);
	char *at;

	if (fd < 0 || ftruncate(fd, 48 * MIB))
		return -1;
	for (int i = 0; i < 24; i++)
		if (write(fd, piece, MIB) != MIB)
			return -1;
	at = mmap(NULL, 48 * MIB, RW, MAP_SHARED, fd, 0);
	if (mapped(at))
		return -1;
	for (long i = 24 * MIB; i < 48 * MIB; i += 4096)
		at[i] = 1;
	return munmap(at, 48 * MIB) || close(fd);
}

static const struct {
	const char *name;
	int (*try)(void);
} edges[] = {
	{"recursion", recursion},
	{"fork", fork_large},
	{"threads", threads_with_large_stacks},
	{"small-threads", threads_with_small_stacks},
	{"mprotect", protect},
	{"mremap", remap},
	{"brk", brk_},
	{"private", private},
	{"shared", shared},
	{"shm", shm},
	{"noreserve", noreserve},
	{"commit", commit},
	{"arena", arena},
	{"pieces", pieces},
	{"access", access_},
	{"tmpfs", tmpfs},
};

/* Each in a process of its own: one must not use up the room of the next. */
static void try(const char *what)
{
	int status;
	pid_t child = fork();

	if (child > 0) {
		if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
			printf("%s: failed: killed by signal %d\n", what, WTERMSIG(status));
		return;
	}
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		if (strcmp(edges[i].name, what))
			continue;
		errno = 0;
		if (!edges[i].try())
			printf("%s: ok\n", what);
		else if (errno == ENOMEM)
			printf("%s: denied (ENOMEM)\n", what);
		else
			printf("%s: failed: %s\n", what, strerror(errno));
		_exit(0);
	}
	printf("%s: failed: no such case\n", what);
	_exit(2);
}

int main(int argc, char **argv)
{
	static char line[256];

	setvbuf(stdout, line, _IOLBF, sizeof(line));
	for (int i = 1; i < argc; i++)
		try(argv[i]);
	return 0;
}
