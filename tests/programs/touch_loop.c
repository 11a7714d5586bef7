/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * touch_loop MIB BUSY: allocates and touches memory and prints `ready`. Then, while the file BUSY
 * exists, writes to all of it in a loop; otherwise it sleeps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void touch(volatile char *memory, long bytes)
{
	for (long at = 0; at < bytes; at += 4096)
		memory[at]++;
}

int main(int argc, char **argv)
{
	long bytes = argc > 2 ? atol(argv[1]) << 20 : 0;
	volatile char *memory;

	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bytes <= 0 || memory == MAP_FAILED)
		return 1;
	touch(memory, bytes);
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (access(argv[2], F_OK) == 0)
			touch(memory, bytes);
		else
			usleep(100000);
	}
}
