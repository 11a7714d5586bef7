/* alloc_in_cgroup CGROUP MIB...: joins the cgroup and maps each size once, without touching it. 'x' in place of a size
 * waits 100 ms. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[4096];
	FILE *procs;

	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cgroup.procs", argc > 1 ? argv[1] : "");
	procs = fopen(path, "w");
	if (!procs || fprintf(procs, "%d\n", getpid()) < 0 || fclose(procs)) {
		perror(path);
		return 1;
	}
	for (int i = 2; i < argc; i++) {
		size_t bytes = strtoul(argv[i], NULL, 10) << 20;
		void *at;

		if (!strcmp(argv[i], "x")) {
			usleep(100000);
			continue;
		}
		at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED) {
			perror("mmap");
			return 1;
		}
		munmap(at, bytes);
	}
	return 0;
}
