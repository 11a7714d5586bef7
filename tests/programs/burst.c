/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * burst MIB: takes that much memory as fast as it can, holds it for half a second, and says how
 * many MiB a second it got.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long mib = argc > 1 ? atol(argv[1]) : 0;
	volatile char *memory =
		mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timespec from, to;

	if (mib <= 0 || memory == MAP_FAILED)
		return 1;
	madvise((void *)memory, mib << 20, MADV_HUGEPAGE);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long at = 0; at < mib << 20; at += 4096)
		memory[at] = 1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%ld\n", mib * 1000 /
				((to.tv_sec - from.tv_sec) * 1000 +
				 (to.tv_nsec - from.tv_nsec) / 1000000 + 1));
	usleep(500000);
	return 0;
}
