/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The time during which at least one of many tasks is stalled. Lock-free, and exact in whatever
 * order CPUs start and stop it: the first start subtracts the time, the last stop adds it.
 */
#ifndef MEMCG_BPF_STALL_CLOCK_H
#define MEMCG_BPF_STALL_CLOCK_H

struct memcg_bpf_stall_clock {
	__u64 tasks; /* stalled now */
	__u64 sum;   /* time stalled; while a task is stalled, less the time at which that began */
	__u64 created;	 /* stalls that began earlier are not counted */
	__u64 last_read; /* the last result of memcg_bpf_stall_clock_read() */
};

static __always_inline void memcg_bpf_stall_clock_start(struct memcg_bpf_stall_clock *clock,
							__u64 now)
{
	if (__sync_fetch_and_add(&clock->tasks, 1) == 0)
		__sync_fetch_and_add(&clock->sum, -now);
}

/* Exactly once for each start. */
static __always_inline void memcg_bpf_stall_clock_stop(struct memcg_bpf_stall_clock *clock,
						       __u64 now)
{
	if (__sync_fetch_and_add(&clock->tasks, -1) == 1)
		__sync_fetch_and_add(&clock->sum, now);
}

/* While another CPU is between its two steps, the sum is off by the time since boot: the last
 * result is returned instead. */
static __always_inline __u64 memcg_bpf_stall_clock_read(struct memcg_bpf_stall_clock *clock,
							__u64 now)
{
	__u64 tasks = *(volatile __u64 *)&clock->tasks, sum = *(volatile __u64 *)&clock->sum;
	__u64 last = *(volatile __u64 *)&clock->last_read;

	if (tasks)
		sum += now;
	if (sum < last || sum > now - clock->created)
		return last;
	*(volatile __u64 *)&clock->last_read = sum;
	return sum;
}

#endif
