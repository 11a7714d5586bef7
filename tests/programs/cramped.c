/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cramped MIB [PERCENT]: takes that much memory, page by page, and says when it begins with each MiB:
 * microseconds of CLOCK_MONOTONIC. The one that takes long, or that it never ends, is the one in
 * which it was made to wait for memory. With PERCENT it says only when less than that share of the
 * machine's memory is available, and takes no more than 100 MiB a second.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

/* Percent of the machine's memory. */
static long available(void)
{
	long total = 0, rest = 0;
	FILE *file = fopen("/proc/meminfo", "r");

	if (!file ||
	    fscanf(file, "MemTotal: %ld kB MemFree: %*d kB MemAvailable: %ld", &total, &rest) != 2)
		exit(1);
	fclose(file);
	return rest * 100 / total;
}

int main(int argc, char **argv)
{
	long mib = argc > 1 ? atol(argv[1]) : 0, percent = argc > 2 ? atol(argv[2]) : 0;
	volatile char *memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int told = 0;

	if (mib <= 0 || memory == MAP_FAILED)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (long at = 0; at < mib; at++) {
		long began = now();

		if (!percent || (!told && available() < percent)) {
			printf("%ld\n", began);
			told = 1;
		}
		for (long page = 0; page < 256; page++)
			memory[(at << 20) + (page << 12)] = 1;
		if (percent)
			usleep(10000);
	}
	puts("over");
	pause();
	return 0;
}
