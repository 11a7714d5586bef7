/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * burst MIB FILE: says `ready` and waits for FILE; then takes that much memory as fast as it can,
 * holds it for half a second, gives it back, and says how many MiB a second it got. It stays until
 * FILE is gone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "wait.h"

int main(int argc, char **argv)
{
	long mib = argc > 2 ? atol(argv[1]) : 0;
	volatile char *memory;
	struct timespec from, to;

	if (mib <= 0)
		return 1;
	memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	madvise((void *)memory, mib << 20, MADV_HUGEPAGE);
	wait_for(argv[2]);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long at = 0; at < mib << 20; at += 4096)
		memory[at] = 1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	usleep(500000);
	munmap((void *)memory, mib << 20);
	printf("%ld\n", mib * 1000 /
				((to.tv_sec - from.tv_sec) * 1000 +
				 (to.tv_nsec - from.tv_nsec) / 1000000 + 1));
	fflush(stdout);
	while (access(argv[2], F_OK) == 0)
		usleep(50000);
	return 0;
}
