/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs whose memory is counted: they wait and print without wanting any. */
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline int tell(const char *line)
{
	return write(1, line, strlen(line)) < 0;
}

/* Says `ready`, then until `file` exists; nothing without one. */
static inline void wait_for(const char *file)
{
	const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};

	if (file)
		tell("ready\n");
	while (file && access(file, F_OK))
		nanosleep(&moment, NULL);
}

static inline int tell_and_wait(const char *line)
{
	int failed = tell(line);

	pause();
	return failed;
}
