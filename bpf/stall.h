/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Time during which at least one of many tasks waits. Without a lock, and exact whatever the order
 * in which CPUs come and go: the first to begin subtracts the time, the last to end adds it.
 */
#ifndef MEMCG_BPF_STALL_H
#define MEMCG_BPF_STALL_H

struct memcg_bpf_stalls {
	__u64 tasks; /* waiting now */
	__u64 sum;   /* time waited; while any task waits, less the time at which that began */
	__u64 born;  /* tasks that began before count elsewhere */
	__u64 last;  /* the last answer of memcg_bpf_stalls_at() */
};

static __always_inline void memcg_bpf_stall_begins(struct memcg_bpf_stalls *stalls, __u64 now)
{
	if (__sync_fetch_and_add(&stalls->tasks, 1) == 0)
		__sync_fetch_and_add(&stalls->sum, -now);
}

/* Exactly once for each that began. */
static __always_inline void memcg_bpf_stall_ends(struct memcg_bpf_stalls *stalls, __u64 now)
{
	if (__sync_fetch_and_add(&stalls->tasks, -1) == 1)
		__sync_fetch_and_add(&stalls->sum, now);
}

/* Another CPU may be between its two steps; the sum is then off by the time since boot. */
static __always_inline __u64 memcg_bpf_stalls_at(struct memcg_bpf_stalls *stalls, __u64 now)
{
	__u64 tasks = *(volatile __u64 *)&stalls->tasks, sum = *(volatile __u64 *)&stalls->sum;
	__u64 last = *(volatile __u64 *)&stalls->last;

	if (tasks)
		sum += now;
	if (sum < last || sum > now - stalls->born)
		return last;
	*(volatile __u64 *)&stalls->last = sum;
	return sum;
}

#define MEMCG_BPF_STALL_LEVELS 4 /* governed cgroups above one task whose stalls are timed */

/* What a task is doing; dies with the task. Only the task itself writes it. */
struct memcg_bpf_started {
	__u64 stall; /* when its stall began; 0: it does not stall */
	__u64 frame; /* of the outermost psi_memstall_enter() */
	__u64 stall_took;
	__u64 reclaim;
	__u64 reclaim_took;
	__u64 host;  /* when it began to reclaim for the whole machine */
	__u64 limit; /* id of the cgroup whose limit it waits for; 0: the machine's memory */
	__u32 governed;
	__u32 suffers; /* its cgroup is protected */
	__u64 cgroup[MEMCG_BPF_STALL_LEVELS];
};

/* A cgroup with memory.low or memory.min whose tasks wait for memory all the same. */
struct memcg_bpf_suffering {
	__u64 begin;			     /* of the current second */
	__u64 stall;			     /* time waited in it */
	__u64 before;			     /* in the second before */
	__u64 until;			     /* the end of the last wait */
	__u64 limit;			     /* as in memcg_bpf_started */
	__u64 above[MEMCG_BPF_STALL_LEVELS]; /* governed cgroups it belongs to */
};

#define MEMCG_BPF_SUFFERING_MAX	 64
#define MEMCG_BPF_SUFFERING_SPAN 1000000000ULL

#endif
