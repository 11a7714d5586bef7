/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * alloc_paced MIB [PERCENT]: allocates that much memory, page by page, and prints the time at which
 * it begins each MiB: microseconds of CLOCK_MONOTONIC. A MiB that takes long, or never ends, is one
 * in which the program stalled on memory. Meanwhile it reads 1 MiB of a file in a loop, as a program
 * reads its text: something is always reclaimable, without which systemd-oomd does not act. With
 * PERCENT it reads no file, prints only while less than that share of the machine's memory is
 * available, and allocates at most 100 MiB per second. SIGTERM is a failure, so that systemd records
 * when it ended.
 */
#include <fcntl.h>
#include <signal.h>
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

#define TEXT  (1L << 20)
#define NEEDS 8 /* a page of it for so many of the others */

/* Written anew, so that its pages count for whom runs it. */
static volatile char *text(void)
{
	static const char block[1 << 20];
	int file = open("/var/tmp/cramped", O_CREAT | O_TRUNC | O_RDWR, 0600);
	void *map;

	for (long at = 0; at < TEXT; at += sizeof(block))
		if (file < 0 || write(file, block, sizeof(block)) != sizeof(block))
			exit(1);
	if (fsync(file))
		exit(1);
	map = mmap(NULL, TEXT, PROT_READ, MAP_SHARED, file, 0);
	if (map == MAP_FAILED || madvise(map, TEXT, MADV_RANDOM))
		exit(1);
	return map;
}

static void end(int signal)
{
	(void)signal;
	_exit(1);
}

int main(int argc, char **argv)
{
	long mib = argc > 1 ? atol(argv[1]) : 0, percent = argc > 2 ? atol(argv[2]) : 0;
	volatile char *memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	volatile char *needed = percent ? NULL : text();
	int told = 0;

	if (mib <= 0 || memory == MAP_FAILED)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGTERM, end);
	for (long at = 0; at < mib; at++) {
		long began = now();

		if (!percent || (!told && available() < percent)) {
			printf("%ld\n", began);
			told = 1;
		}
		for (long page = 0; page < 256; page++) {
			memory[(at << 20) + (page << 12)] = 1;
			if (needed && page % NEEDS == 0)
				(void)needed[((at << 20) + (page << 12)) / NEEDS % TEXT];
		}
		if (percent)
			usleep(10000);
	}
	puts("over");
	pause();
	return 0;
}
