// SPDX-License-Identifier: GPL-2.0-only
// mmap_loop SAMPLES: mmap+munmap of 64 KiB again and again; some of the rounds, the samples, between round_begins() and
// round_ends(), where tests/bench/steps.py stops the machine to follow them instruction by instruction.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define KIB64	(64 << 10)
#define WARM_UP 200 // until the kernel's caches of objects are filled
#define BETWEEN 10  // so that they are filled again

__attribute__((noinline)) void round_begins(void)
{
	asm volatile("" ::: "memory");
}

__attribute__((noinline)) void round_ends(void)
{
	asm volatile("nop" ::: "memory");
}

int main(int argc, char **argv)
{
	int samples = argc > 1 ? atoi(argv[1]) : 5;

	for (int i = 0; i < WARM_UP + samples * BETWEEN; i++) {
		int sample = i >= WARM_UP && i % BETWEEN == 0;
		void *p;

		if (sample)
			round_begins();
		p = mmap(NULL, KIB64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED || munmap(p, KIB64)) {
			perror("round");
			return 1;
		}
		if (sample)
			round_ends();
	}
	return 0;
}
