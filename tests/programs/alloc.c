/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * alloc N [hold]: allocates and touches memory, 1 MiB at a time, until it has N MiB or malloc()
 * fails; prints which, in one line. With `hold` it then keeps the memory until it is killed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char line[128];
	long most = argc > 1 ? atol(argv[1]) : 200, had;

	setvbuf(stdout, line, _IOLBF, sizeof(line)); /* stdio must not allocate at the end */
	for (had = 0; had < most; had++) {
		char *piece = malloc(1 << 20);

		if (!piece) {
			printf("malloc returned NULL after %ld MiB: %s\n", had, strerror(errno));
			break;
		}
		memset(piece, 1, 1 << 20);
		__asm__ volatile("" ::"r"(piece)
				 : "memory"); /* the compiler must not see through it */
	}
	if (had == most)
		printf("reached %ld MiB\n", had);
	if (argc > 2 && !strcmp(argv[2], "hold"))
		pause();
	return 0;
}
