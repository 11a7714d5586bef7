/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * load [-f FILE:RATE] MIB:SECONDS[t]...: a program with a life. Goes from one size to the next,
 * each within its time, round and round; with `t` it writes to all it has meanwhile. -f: beside
 * that it reads so many MiB of FILE a second. What it is refused it asks for again a tenth of a
 * second later.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB    (1L << 20)
#define PIECES 4096
#define TICK   0.1

static char *pieces[PIECES];
static long had;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void touch(char *piece)
{
	for (long at = 0; at < MIB; at += 4096)
		((volatile char *)piece)[at]++;
}

static void have(long wanted)
{
	while (had > wanted)
		munmap(pieces[--had], MIB);
	while (had < wanted) {
		char *piece =
			mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (piece == MAP_FAILED)
			return;
		touch(piece);
		pieces[had++] = piece;
	}
}

static void read_on(int file, long bytes)
{
	static char buffer[1 << 16];

	while (bytes > 0) {
		ssize_t got = read(file, buffer, sizeof(buffer));

		if (got <= 0 && lseek(file, 0, SEEK_SET))
			return;
		bytes -= got > 0 ? got : (long)sizeof(buffer);
	}
}

static void step(const char *text, int file, double rate)
{
	char *rest;
	long from = had, to = strtol(text, &rest, 10);
	double length = *rest == ':' ? strtod(rest + 1, &rest) : 0;
	double began = now(), last = began;

	for (;;) {
		double at = now(), part = length > 0 ? (at - began) / length : 1;

		have(from + (long)((double)(to - from) * (part < 1 ? part : 1)));
		for (long i = 0; *rest == 't' && i < had; i++)
			touch(pieces[i]);
		if (file >= 0)
			read_on(file, (long)(rate * (at - last) * (double)MIB));
		if (part >= 1)
			return;
		last = at;
		usleep((useconds_t)(TICK * 1e6));
	}
}

int main(int argc, char **argv)
{
	int file = -1, first = 1;
	double rate = 0;

	if (argc > 2 && !strcmp(argv[1], "-f")) {
		char *colon = strrchr(argv[2], ':');

		if (colon) {
			*colon = 0;
			rate = strtod(colon + 1, NULL);
		}
		file = open(argv[2], O_RDONLY);
		if (file < 0) {
			perror(argv[2]);
			return 1;
		}
		first = 3;
	}
	if (first >= argc)
		return 2;
	for (;;)
		for (int i = first; i < argc; i++)
			step(argv[i], file, rate);
}
