/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compile UNITS KEEP [PAUSE [PASSES [KIB]]]: a build as memory sees it. It parses its graph once,
 * which it hardly needs again (KEEP MiB of heap), and writes 64 headers of KIB (1024) each. Then
 * UNITS compilers (0: without end) run one after the other; each reads a few of the headers, the
 * same ones again and again, takes 8 to 24 times KIB of heap for its syntax tree, walks through it
 * PASSES times (3), writes an object file and is gone. PAUSE ms pass between two of them. Says
 * `parsed` when it begins with them, and in the end how many milliseconds they took and how many of
 * those a processor. All numbers are the same in each run.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB	(1L << 20)
#define HEADERS 64
#define DIR	"/var/tmp/compile"

static size_t piece = MIB;
static uint64_t state = 88172645463325252ULL;

static uint64_t dice(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static long now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

/* Half of each page is of use to a compressor. */
static char *tree(long bytes)
{
	char *heap = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (heap == MAP_FAILED)
		exit(1);
	for (long at = 0; at < bytes; at += 64)
		*(uint64_t *)(heap + at) = dice();
	return heap;
}

static void header(char *path, int n)
{
	sprintf(path, DIR ".%d", n);
}

static void headers(void)
{
	static char block[MIB];
	char path[64];

	for (int n = 0; n < HEADERS; n++) {
		int file;

		header(path, n);
		file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
		for (size_t at = 0; at < piece; at += 64)
			*(uint64_t *)(block + at) = dice();
		if (file < 0 || write(file, block, piece) != (ssize_t)piece || fsync(file))
			exit(1);
		close(file);
	}
}

static void unit(long passes)
{
	static char block[MIB];
	long bytes = (8 + dice() % 17) * piece;
	char path[64], *heap;
	int object;

	/* Most units need the same dozen. */
	for (int n = 0; n < 16; n++) {
		int file;

		header(path, n < 12 ? n : (int)(dice() % HEADERS));
		file = open(path, O_RDONLY);
		if (file < 0 || read(file, block, piece) < 0)
			_exit(1);
		close(file);
	}
	heap = tree(bytes);
	for (long pass = 0; pass < passes; pass++)
		for (long at = 0; at < bytes; at += 64)
			*(uint64_t *)(heap + at) += *(uint64_t *)(heap + (at * 67) % bytes / 8 * 8);
	object = open(DIR ".o", O_CREAT | O_TRUNC | O_WRONLY, 0600);
	if (object < 0 || write(object, heap, piece / 4) < 0)
		_exit(1);
	_exit(0);
}

int main(int argc, char **argv)
{
	long units = argc > 1 ? atol(argv[1]) : 0, keep = argc > 2 ? atol(argv[2]) * MIB : 0;
	long pause = argc > 3 ? atol(argv[3]) : 0, passes = argc > 4 ? atol(argv[4]) : 3, began;
	struct rusage used;
	volatile char *graph;

	if (argc > 5 && atol(argv[5]) > 0 && atol(argv[5]) <= 1024)
		piece = atol(argv[5]) << 10;
	setvbuf(stdout, NULL, _IOLBF, 0);
	headers();
	graph = keep ? tree(keep) : NULL;
	puts("parsed");
	began = now(CLOCK_MONOTONIC);
	for (long n = 0; !units || n < units; n++) {
		pid_t child;
		int status;

		dice();
		child = fork();
		if (child == 0)
			unit(passes);
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			return 1;
		/* The edges of one node. */
		if (keep)
			graph[dice() % keep]++;
		usleep(pause * 1000);
	}
	getrusage(RUSAGE_CHILDREN, &used);
	printf("%ld %ld\n", now(CLOCK_MONOTONIC) - began,
	       (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000L +
		       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000);
	return 0;
}
