/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * touch N [FILE]: prints `ready`, and once FILE exists faults exactly N pages in, in one mapping
 * that it made before; then prints `done` and keeps them until it is killed.
 */
#include "wait.h"
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1, page = sysconf(_SC_PAGESIZE);
	volatile char *pages =
		mmap(NULL, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return tell("denied\n");
	madvise((void *)pages, n * page, MADV_NOHUGEPAGE); /* one fault a page */
	wait_for(argc > 2 ? argv[2] : NULL);
	for (long i = 0; i < n; i++)
		pages[i * page] = 1;
	return tell_and_wait("done\n");
}
