/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Time during which at least one of many tasks waits. Without a lock, and exact whatever the order
 * in which CPUs come and go: the first to begin subtracts the time, the last to end adds it.
 */
#ifndef MEMCG_BPF_STALL_CLOCK_H
#define MEMCG_BPF_STALL_CLOCK_H

struct memcg_bpf_stall_clock {
	__u64 tasks;	 /* waiting now */
	__u64 sum;	 /* time waited; while any task waits, less the time at which that began */
	__u64 created;	 /* tasks that began before count elsewhere */
	__u64 last_read; /* the last result of memcg_bpf_stall_clock_read() */
};

static __always_inline void memcg_bpf_stall_clock_start(struct memcg_bpf_stall_clock *stalls,
							__u64 now)
{
	if (__sync_fetch_and_add(&stalls->tasks, 1) == 0)
		__sync_fetch_and_add(&stalls->sum, -now);
}

/* Exactly once for each that began. */
static __always_inline void memcg_bpf_stall_clock_stop(struct memcg_bpf_stall_clock *stalls,
						       __u64 now)
{
	if (__sync_fetch_and_add(&stalls->tasks, -1) == 1)
		__sync_fetch_and_add(&stalls->sum, now);
}

/* Another CPU may be between its two steps; the sum is then off by the time since boot. */
static __always_inline __u64 memcg_bpf_stall_clock_read(struct memcg_bpf_stall_clock *stalls,
							__u64 now)
{
	__u64 tasks = *(volatile __u64 *)&stalls->tasks, sum = *(volatile __u64 *)&stalls->sum;
	__u64 last = *(volatile __u64 *)&stalls->last_read;

	if (tasks)
		sum += now;
	if (sum < last || sum > now - stalls->created)
		return last;
	*(volatile __u64 *)&stalls->last_read = sum;
	return sum;
}

#define MEMCG_BPF_STALL_LEVELS 4 /* governed cgroups above one task whose stalls are timed */

/* What a task is doing; dies with the task. Only the task itself writes it. */
struct memcg_bpf_task_state {
	__u64 stall;	  /* when its stall began; 0: it does not stall */
	__u64 stack_addr; /* of the outermost psi_memstall_enter() */
	__u64 stall_ns;
	__u64 reclaim;
	__u64 reclaim_ns;
	__u64 host;  /* when it began to reclaim for the whole machine */
	__u64 limit; /* id of the cgroup whose limit it waits for; 0: the machine's memory */
	__u32 bound;
	__u32 protected; /* its cgroup is protected */
	__u64 cgroup[MEMCG_BPF_STALL_LEVELS];
};

/* A cgroup with memory.low or memory.min whose tasks wait for memory all the same. */
struct memcg_bpf_protected_stalls {
	__u64 begin;				 /* of the current second */
	__u64 stall;				 /* time waited in it */
	__u64 before;				 /* in the second before */
	__u64 until;				 /* the end of the last wait */
	__u64 limit;				 /* as in memcg_bpf_task_state */
	__u64 ancestors[MEMCG_BPF_STALL_LEVELS]; /* governed cgroups it belongs to */
};

#define MEMCG_BPF_PROTECTED_STALLS_MAX	64
#define MEMCG_BPF_PROTECTED_STALLS_SPAN 1000000000ULL

#endif
