/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maps N [FILE]: prints `ready`, and once FILE exists does exactly N times mmap + munmap of 64 KiB
 * of private writable memory without touching it; then prints `done` and waits until it is killed.
 */
#include "wait.h"
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1;

	wait_for(argc > 2 ? argv[2] : NULL);
	for (long i = 0; i < n; i++) {
		void *piece = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (piece == MAP_FAILED)
			return tell("denied\n");
		munmap(piece, 64 << 10);
	}
	return tell_and_wait("done\n");
}
