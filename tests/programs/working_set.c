/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * working_set MIB: keeps a working set of that size, and every 5 ms touches a part of it and
 * allocates, fills and frees one MiB. Prints `ready` when the set is complete. The first SIGTERM
 * prints how many microseconds the MiB took since the start or the last SIGUSR1: the 50th, 95th and
 * 99th percentile and the maximum. The second ends it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB  (1L << 20)
#define MOST 1000000

static volatile sig_atomic_t over, anew;
static int took[MOST];

static void end(int signal)
{
	if (signal == SIGUSR1)
		anew = 1;
	else
		over = 1;
}

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static volatile char *map(long bytes)
{
	volatile char *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		exit(1);
	madvise((void *)memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

static int by_length(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int main(int argc, char **argv)
{
	long bytes = argc > 1 ? atol(argv[1]) * MIB : 0, at = 0;
	volatile char *set;
	int n = 0;

	if (bytes <= 0)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGTERM, end);
	signal(SIGUSR1, end);
	set = map(bytes);
	for (long page = 0; page < bytes; page += 4096)
		set[page] = (char)page;
	puts("ready");
	while (!over && n < MOST) {
		long began = now();
		volatile char *one = map(MIB);

		if (anew)
			anew = n = 0;
		for (long page = 0; page < MIB; page += 4096)
			one[page] = 1;
		munmap((void *)one, MIB);
		took[n++] = (int)(now() - began);
		for (int page = 0; page < 1024; page++, at = (at + 4096) % bytes)
			set[at]++;
		usleep(5000);
	}
	qsort(took, n, sizeof(*took), by_length);
	printf("n=%d p50=%d p95=%d p99=%d most=%d\n", n, took[n / 2], took[n * 95L / 100],
	       took[n * 99L / 100], took[n - 1]);
	signal(SIGTERM, SIG_DFL);
	for (;;)
		pause();
}
