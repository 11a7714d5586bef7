/* SPDX-License-Identifier: GPL-2.0-only */
/* readers FILE N: N processes that read blocks of the file at random, without end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char block[65536];
	struct stat file;
	int fd;

	if (argc != 3 || (fd = open(argv[1], O_RDONLY)) < 0 || fstat(fd, &file)) {
		perror("readers FILE N");
		return 1;
	}
	for (int n = atoi(argv[2]); n > 1; n--)
		if (!fork())
			break;
	srandom(getpid());
	for (;;)
		if (pread(fd, block, sizeof(block),
			  random() % (file.st_size / (long)sizeof(block)) * (long)sizeof(block)) <
		    0)
			return 1;
}
