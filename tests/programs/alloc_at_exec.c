/* SPDX-License-Identifier: GPL-2.0-only */
/* alloc_at_exec: maps 128 MiB with its first instructions. Prints `denied` (exit 0) or `granted`
 * (exit 1).
 */
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	void *piece =
		mmap(NULL, 128 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (piece == MAP_FAILED)
		return write(1, "denied\n", 7) != 7;
	return write(1, "granted\n", 8) == 8;
}
