// SPDX-License-Identifier: GPL-2.0-only
// alloc_loop: maps 128 MiB in a loop until SIGTERM; prints the time of each first success after a failure, and at the
// end how often the mapping was denied and how often it succeeded.
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define MIB128 (128 << 20)

static volatile sig_atomic_t over;

static void end(int signal)
{
	(void)signal;
	over = 1;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
	unsigned long denied = 0, got = 0, in_row = 0;

	signal(SIGTERM, end);
	while (!over) {
		void *p = mmap(NULL, MIB128, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED) {
			if (in_row)
				printf("got %lu in a row until %.6f\n", in_row, now());
			in_row = 0;
			denied++;
		} else {
			if (!in_row)
				printf("gets it from %.6f\n", now());
			got++;
			in_row++;
			munmap(p, MIB128);
		}
	}
	printf("denied %lu got %lu\n", denied, got);
	return 0;
}
