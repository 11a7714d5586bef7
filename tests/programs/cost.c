// SPDX-License-Identifier: GPL-2.0-only
// cost ROUNDS: what a task pays for mmap+munmap, brk, a page fault, fork+exit, in nanoseconds of
// CLOCK_MONOTONIC, once for each line on its standard input: under `qemu -icount shift=0` one nanosecond is one instruction. Prints the minimum over
// the rounds, as one JSON object; the rounds are short, so that most are not interrupted.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB64 (64 << 10)

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

static void nothing(void)
{
}

static void mmap_munmap(void)
{
	munmap(map(KIB64), KIB64);
}

static void brk_up_down(void)
{
	if (sbrk(KIB64) == (void *)-1 || sbrk(-KIB64) == (void *)-1)
		exit(1);
}

static char *untouched;

static void page_fault(void)
{
	*(volatile char *)untouched = 1;
	untouched += 4096;
}

static void fork_exit(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	if (child < 0 || waitpid(child, NULL, 0) != child)
		exit(1);
}

static long least(void (*work)(void), int rounds)
{
	long best = -1;

	for (int i = 0; i < rounds; i++) {
		long before = now(), took;

		work();
		took = now() - before;
		if (best < 0 || took < best)
			best = took;
	}
	return best;
}

static void measure(int rounds)
{
	long clock = least(nothing, rounds);

	// One huge page would make one fault of five hundred.
	untouched = map(((size_t)rounds + 1) * 4096);
	madvise(untouched, ((size_t)rounds + 1) * 4096, MADV_NOHUGEPAGE);
	*(volatile char *)untouched = 1;
	untouched += 4096;
	printf("{\"mmap_munmap\": %ld, \"brk\": %ld, \"page_fault\": %ld, \"fork_exit\": %ld}\n",
	       least(mmap_munmap, rounds) - clock, least(brk_up_down, rounds) - clock,
	       least(page_fault, rounds - 1) - clock, least(fork_exit, rounds / 4) - clock);
	untouched = (char *)((unsigned long)untouched - (size_t)rounds * 4096);
	munmap(untouched, ((size_t)rounds + 1) * 4096);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 500;
	char line[16];

	setvbuf(stdout, NULL, _IOLBF, 0);
	// One measurement for each line: the same process each time, for where its mappings happen to lie changes
	// the kernel's work by more than what is measured here.
	while (fgets(line, sizeof(line), stdin))
		measure(rounds);
	return 0;
}
