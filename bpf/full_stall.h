/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The time during which all tasks of the subtree that could run were stalled on memory: "full" of
 * memory.pressure. The kernel keeps it for each CPU (PSI) and computes the average over the CPUs,
 * weighted by the time each was not idle, only every 2 s. This does the same whenever it is called.
 */
#ifndef MEMCG_BPF_FULL_STALL_H
#define MEMCG_BPF_FULL_STALL_H

/* CPU n belongs to group n % 64. Exact if one CPU of each group ran tasks of the cgroup; if more
 * did, they are taken for equally busy. */
#define MEMCG_BPF_CPU_GROUPS	 64
#define MEMCG_BPF_CPUS_PER_GROUP 8

/* The kernel's times have 32 bits of nanoseconds: between two calls, their sum over a group must
 * grow by less than half of that. */
#define MEMCG_BPF_FULL_STALL_SPAN (0x7fffffffULL / MEMCG_BPF_CPUS_PER_GROUP)
/* Policies set their timer to less than that. */
#define MEMCG_BPF_FULL_STALL_TICK 200000000ULL

struct memcg_bpf_full_stall {
	__u64 at;    /* the last call; 0: none */
	__u64 sum;   /* the result of the last call */
	__u64 clock; /* the scheduler's clock less ours, at `at` */
	__u32 full[MEMCG_BPF_CPU_GROUPS];
	__u32 busy[MEMCG_BPF_CPU_GROUPS];
};

/* Forgets the last call: for a time in which nothing was stalled. */
static __always_inline void memcg_bpf_full_stall_pause(struct memcg_bpf_full_stall *f)
{
	f->at = 0;
}

#if defined(__TARGET_ARCH_x86)
extern const struct rq runqueues __ksym __weak;

struct memcg_bpf_full_stall_scan {
	struct memcg_bpf_full_stall *result;
	__u64 times; /* address of the times, less the CPU's offset */
	__u64 now;   /* of the scheduler's clock */
	__u64 last;  /* the same at the last call */
	__u64 first; /* only fill in `result` */
	__u64 busy;  /* in units of 1024 ns, as in the kernel's own sum with jiffies */
	__u64 weighted;
};

/* One of the times of one CPU, as far as the kernel has added it up. */
static __always_inline __u32 memcg_bpf_psi_time(__u64 cpu, __u32 state)
{
	__u32 time = 0;

	bpf_probe_read_kernel(&time, sizeof(time),
			      (void *)(cpu + bpf_core_field_offset(struct psi_group_cpu, times) +
				       sizeof(time) * state));
	return time;
}

/* When the states that go on began. */
static __always_inline __u64 memcg_bpf_psi_begin(__u64 cpu)
{
	__u64 begin = 0;

	bpf_probe_read_kernel(
		&begin, sizeof(begin),
		(void *)(cpu + bpf_core_field_offset(struct psi_group_cpu, state_start)));
	return begin;
}

static __always_inline __u32 memcg_bpf_psi_full(void)
{
	return bpf_core_enum_value(enum psi_states, PSI_MEM_FULL) & 31;
}

/* Growth since the last call. A read while the kernel writes can be too large: the next one waits
 * until the time has passed. */
static __always_inline __u32 memcg_bpf_grown(__u32 *last, __u32 now, bool first)
{
	__u32 grown = now - *last;

	if (!first && (__s32)grown < 0)
		return 0;
	*last = now;
	return first ? 0 : grown;
}

static long memcg_bpf_full_stall_step(__u32 i, struct memcg_bpf_full_stall_scan *scan)
{
	__u32 full = 0, busy = 0, cpus = 0, group = i & (MEMCG_BPF_CPU_GROUPS - 1);
	__u32 nonidle = bpf_core_enum_value(enum psi_states, PSI_NONIDLE), stalled, ran;

	for (__u32 n = 0; n < MEMCG_BPF_CPUS_PER_GROUP; n++) {
		const unsigned long *offset =
			bpf_per_cpu_ptr(&this_cpu_off, group + n * MEMCG_BPF_CPU_GROUPS);
		__u64 at, begin = 0, lasts;
		__u32 mask = 0;

		if (!offset)
			break;
		at = scan->times + *offset;
		begin = memcg_bpf_psi_begin(at);
		bpf_probe_read_kernel(
			&mask, sizeof(mask),
			(void *)(at + bpf_core_field_offset(struct psi_group_cpu, state_mask)));
		stalled = memcg_bpf_psi_time(at, memcg_bpf_psi_full());
		ran = memcg_bpf_psi_time(at, nonidle);
		/* Unless the state has just ended, and its time was added. The CPU's clock can be
		 * slightly ahead. */
		lasts = scan->now - begin;
		if (lasts > scan->now || memcg_bpf_psi_begin(at) != begin)
			lasts = 0;
		full += mask & 1U << memcg_bpf_psi_full() ? stalled + lasts : stalled;
		busy += mask & 1U << (nonidle & 31) ? ran + lasts : ran;
		/* CPUs that ran nothing of the cgroup since the last call, or do not exist, do not
		 * count. */
		if (mask & 1U << (nonidle & 31) || begin > scan->last)
			cpus++;
	}
	if (!bpf_per_cpu_ptr(&this_cpu_off, group))
		return 1;
	full = memcg_bpf_grown(&scan->result->full[group], full, scan->first);
	busy = memcg_bpf_grown(&scan->result->busy[group], busy, scan->first);
	scan->busy += busy >> 10;
	scan->weighted += (__u64)(full >> 10) * (busy >> 10) / (cpus ?: 1);
	return 0;
}

/*
 * The scheduler's clock, which no helper returns. Each CPU keeps a copy, which is as old as the
 * CPU is idle: the greatest distance to our clock that was seen is right. It is reduced by a
 * thousandth of the time, because NTP changes the rate of our clock by half of that at most.
 */
static __always_inline __u64 memcg_bpf_scheduler_clock(struct memcg_bpf_full_stall *f, __u64 now)
{
	const struct rq *rq = bpf_this_cpu_ptr(&runqueues);
	__u64 clock = rq->clock - now, last = f->clock - (now - f->at) / 1024;

	if (f->at && (__s64)(last - clock) > 0)
		clock = last;
	f->clock = clock;
	return now + clock;
}
#endif

/* Does the kernel keep the times of this subtree? Not with psi=0, with 0 in cgroup.pressure, on
 * machines with more than 512 CPUs, and on other machines than x86. */
static __noinline bool memcg_bpf_full_stall_times(struct cgroup_subsys_state *css, __u64 *times)
{
#if defined(__TARGET_ARCH_x86)
	struct cgroup *cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, cgroup);
	struct psi_group *psi = MEMCG_BPF_FIELD(struct cgroup, cgroup, psi);

	if (!&this_cpu_off || !&runqueues || !psi ||
	    !bpf_core_enum_value_exists(enum psi_states, PSI_MEM_FULL) ||
	    bpf_per_cpu_ptr(&this_cpu_off, MEMCG_BPF_CPU_GROUPS * MEMCG_BPF_CPUS_PER_GROUP))
		return false;
	if (bpf_core_field_exists(struct psi_group, enabled) &&
	    !MEMCG_BPF_FIELD(struct psi_group, psi, enabled))
		return false;
	return !bpf_core_read(times, sizeof(*times), &psi->pcpu) && *times;
#else
	return false;
#endif
}

/*
 * The time, since the first call, during which all tasks of the subtree were stalled; without PSI,
 * during which at least one was. Call it at least every MEMCG_BPF_FULL_STALL_TICK while
 * memcg_bpf_stalled() grows: after a longer time, the growth since the last call is not counted.
 * Not for two CPUs at once: see memcg_bpf_trylock().
 */
static __always_inline __u64 memcg_bpf_full_stalled(struct memcg_bpf_ctx *ctx,
						    struct memcg_bpf_full_stall *f)
{
	__u64 times = 0;

	if (!memcg_bpf_full_stall_times(memcg_bpf_to_call(ctx)->css, &times))
		return memcg_bpf_stalled(ctx);
#if defined(__TARGET_ARCH_x86)
	__u64 now = memcg_bpf_now(ctx), last = f->at + f->clock;
	struct memcg_bpf_full_stall_scan scan = {
		.result = f,
		.times = times,
		.now = memcg_bpf_scheduler_clock(f, now),
		.last = last,
		.first = !f->at || now - f->at > MEMCG_BPF_FULL_STALL_SPAN,
	};

	bpf_loop(MEMCG_BPF_CPU_GROUPS, memcg_bpf_full_stall_step, &scan, 0);
	if (scan.busy)
		f->sum += scan.weighted / scan.busy << 10;
	f->at = now;
#endif
	return f->sum;
}

#endif
