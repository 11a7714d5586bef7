// SPDX-License-Identifier: GPL-2.0-only
// cost ROUNDS: what a task pays for mmap+munmap, brk, a page fault, fork+exit, and for each page of
// 4 MiB that are charged and filled, or reclaimed, in nanoseconds of CLOCK_MONOTONIC, once for each
// line on its standard input: under `qemu -icount shift=0` one nanosecond is one instruction.
// Prints the minimum over the rounds, as one JSON object; the rounds are short, so that most are
// not interrupted.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB64 (64 << 10)
#define MIB4  (4 << 20)

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

// All the kernel does to give pages, with the charges that the CPU's stock does not satisfy.
static void populate(void)
{
	if (madvise(untouched, MIB4, MADV_POPULATE_WRITE))
		exit(1);
}

static int reclaim_file, cache_file;

static void reclaim(void)
{
	// EAGAIN: less than that could be had.
	if (write(reclaim_file, "4M", 2) < 0 && lseek(reclaim_file, 0, SEEK_SET) < 0)
		exit(1);
}

static void open_files(void)
{
	static char block[KIB64];
	char line[4096], path[8192];
	FILE *own = fopen("/proc/self/cgroup", "r");

	if (!own || !fgets(line, sizeof(line), own))
		exit(1);
	fclose(own);
	line[strcspn(line, "\n")] = 0;
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.reclaim", line + 3);
	reclaim_file = open(path, O_WRONLY);
	cache_file = open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
	if (reclaim_file < 0 || cache_file < 0) {
		perror(path);
		exit(1);
	}
	for (int i = 0; i < 2 * MIB4 / KIB64; i++)
		if (write(cache_file, block, KIB64) != KIB64)
			exit(1);
	fsync(cache_file);
}

// The least for a page of 4 MiB, of which `before` puts what is needed in place.
static long least_per_page(void (*before)(void), void (*work)(void), void (*after)(void))
{
	long best = -1;

	for (int i = 0; i < 20; i++) {
		long began, took;

		before();
		began = now();
		work();
		took = now() - began;
		after();
		if (best < 0 || took < best)
			best = took;
	}
	return best / (MIB4 / 4096);
}

static void map_small_pages(void)
{
	untouched = map(MIB4);
	madvise(untouched, MIB4, MADV_NOHUGEPAGE);
}

static void unmap_all(void)
{
	munmap(untouched, MIB4);
}

/* Anew, so that each of its pages has been read once, whatever was reclaimed before. */
static void fill_cache(void)
{
	static char block[KIB64];

	posix_fadvise(cache_file, 0, 0, POSIX_FADV_DONTNEED);
	for (off_t at = 0; at < 2 * MIB4; at += KIB64)
		if (pread(cache_file, block, KIB64, at) != KIB64)
			exit(1);
}

static void measure(int rounds)
{
	long clock = least(nothing, rounds);

	// One huge page would make one fault of five hundred.
	untouched = map(((size_t)rounds + 1) * 4096);
	madvise(untouched, ((size_t)rounds + 1) * 4096, MADV_NOHUGEPAGE);
	*(volatile char *)untouched = 1;
	untouched += 4096;
	printf("{\"mmap_munmap\": %ld, \"brk\": %ld, \"page_fault\": %ld, \"fork_exit\": %ld, ",
	       least(mmap_munmap, rounds) - clock, least(brk_up_down, rounds) - clock,
	       least(page_fault, rounds - 1) - clock, least(fork_exit, rounds / 4) - clock);
	untouched = (char *)((unsigned long)untouched - (size_t)rounds * 4096);
	munmap(untouched, ((size_t)rounds + 1) * 4096);
	printf("\"charged_page\": %ld, ", least_per_page(map_small_pages, populate, unmap_all));
	printf("\"reclaimed_page\": %ld}\n", least_per_page(fill_cache, reclaim, nothing));
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 500;
	char line[16];

	setvbuf(stdout, NULL, _IOLBF, 0);
	open_files();
	// One measurement for each line: the same process each time, for where its mappings happen
	// to lie changes the kernel's work by more than what is measured here.
	while (fgets(line, sizeof(line), stdin))
		measure(rounds);
	return 0;
}
