/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a hook can read: the event it is called for, and the bound cgroup, which is the task's own
 * or one above it. Sizes are in bytes, times in ns of bpf_ktime_get_ns().
 */
#ifndef MEMCG_BPF_CONTEXT_H
#define MEMCG_BPF_CONTEXT_H

/* The event. Members that a hook does not name are 0. */
struct memcg_bpf_ctx {
	__u64 bytes; /* growth, charge: requested; high: charged above it; reclaim: to be freed */
	/* The calls share 512 bytes of stack: the results of memcg_bpf_deny() have no room of their
	 * own. */
	union {
		__u64 reclaimed; /* reclaim: freed */
		__u64 denied_usage;
	};
	union {
		__u64 duration_ns; /* reclaim, stall */
		__u64 denied_limit;
	};
	__u32 gfp;	    /* high, reclaim, oom: flags of the allocation */
	__u32 at_own_limit; /* oom: the limit hit is that of the bound cgroup, not of one below */
};

/* The event with what the functions below need; internal. */
struct memcg_bpf_call {
	struct memcg_bpf_ctx ctx;
	__u64 cgroup;
	__u64 now; /* 0: not known yet. growth is too frequent to ask for it in advance */
	struct cgroup_subsys_state *css;
	__u32 mode;    /* of the parameters */
	__u32 culprit; /* the current task caused the event, in the bound cgroup */
};

#define memcg_bpf_to_call(ctx_) ((struct memcg_bpf_call *)(ctx_))

/* The id of the bound cgroup. */
static __always_inline __u64 memcg_bpf_cgroup(struct memcg_bpf_ctx *ctx)
{
	return memcg_bpf_to_call(ctx)->cgroup;
}

/*
 * The verdict MEMCG_BPF_DENY with the numbers that the log shows: the memory in use, as the policy
 * counts it, and the limit that the request would exceed. Without it, memory.current is shown.
 */
static __always_inline int memcg_bpf_deny(struct memcg_bpf_ctx *ctx, __u64 usage, __u64 limit)
{
	ctx->denied_usage = usage;
	ctx->denied_limit = limit;
	return MEMCG_BPF_DENY;
}

/* The time of the event: the same for all of one call of a hook. */
static __always_inline __u64 memcg_bpf_now(struct memcg_bpf_ctx *ctx)
{
	struct memcg_bpf_call *call = memcg_bpf_to_call(ctx);

	if (!call->now)
		call->now = bpf_ktime_get_ns();
	return call->now;
}

struct memcg_bpf_ancestor_search {
	struct cgroup_subsys_state *css;
	__u64 id;
	__u64 found;
};

static long memcg_bpf_ancestor_step(__u64 i, struct memcg_bpf_ancestor_search *at)
{
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);

	if (!parent)
		return 1;
	at->css = parent;
	at->found = memcg_bpf_css_id(parent) == at->id;
	return at->found;
}

static __noinline bool memcg_bpf_has_ancestor(struct cgroup_subsys_state *css, __u64 id)
{
	struct memcg_bpf_ancestor_search at = {.css = css, .id = id};

	bpf_loop(MEMCG_BPF_MAX_LEVEL + 1, memcg_bpf_ancestor_step, &at, 0);
	return at.found;
}

/* Is the bound cgroup below the one with this id? */
static __always_inline bool memcg_bpf_is_below(struct memcg_bpf_ctx *ctx, __u64 id)
{
	return memcg_bpf_has_ancestor(memcg_bpf_to_call(ctx)->css, id);
}

/* memory.current. */
static __always_inline __u64 memcg_bpf_usage(struct memcg_bpf_ctx *ctx)
{
	return (__u64)MEMCG_BPF_READ(memcg_bpf_to_call(ctx)->css, memory.usage.counter)
	       << MEMCG_BPF_PAGE_SHIFT;
}

#define MEMCG_BPF_UNLIMITED (~0ULL)

static __always_inline __u64 memcg_bpf_limit_bytes(unsigned long pages)
{
	/* "max" is as many pages as fit into a long, counted in bytes. */
	return pages >= ~0UL >> (MEMCG_BPF_PAGE_SHIFT + 2) ? MEMCG_BPF_UNLIMITED
							   : (__u64)pages << MEMCG_BPF_PAGE_SHIFT;
}

/* memory.high, memory.low and memory.max; MEMCG_BPF_UNLIMITED for "max". */
static __always_inline __u64 memcg_bpf_high(struct memcg_bpf_ctx *ctx)
{
	return memcg_bpf_limit_bytes(MEMCG_BPF_READ(memcg_bpf_to_call(ctx)->css, memory.high));
}

static __always_inline __u64 memcg_bpf_low(struct memcg_bpf_ctx *ctx)
{
	return memcg_bpf_limit_bytes(MEMCG_BPF_READ(memcg_bpf_to_call(ctx)->css, memory.low));
}

static __always_inline __u64 memcg_bpf_max(struct memcg_bpf_ctx *ctx)
{
	return memcg_bpf_limit_bytes(MEMCG_BPF_READ(memcg_bpf_to_call(ctx)->css, memory.max));
}

/*
 * The file cache of the subtree, which the kernel reclaims before it runs out of memory; at most 2
 * s old, because the kernel updates its statistics that often. The indices of the LRU sizes in the
 * statistics are those of enum node_stat_item on all kernels: the compaction of 6.10 begins after
 * them.
 */
static __always_inline __u64 memcg_bpf_file_cache(struct memcg_bpf_ctx *ctx)
{
	struct memcg_vmstats *stats = MEMCG_BPF_READ(memcg_bpf_to_call(ctx)->css, vmstats);
	int inactive = bpf_core_enum_value(enum node_stat_item, NR_INACTIVE_FILE);
	int active = bpf_core_enum_value(enum node_stat_item, NR_ACTIVE_FILE);
	long a = 0, b = 0;

	if (!bpf_core_field_exists(stats->state))
		return 0;
	bpf_core_read(&a, sizeof(a), &stats->state[inactive & 63]);
	bpf_core_read(&b, sizeof(b), &stats->state[active & 63]);
	a += b;
	return a > 0 ? (__u64)a << MEMCG_BPF_PAGE_SHIFT : 0;
}

struct memcg_bpf_lowest_max_iter {
	struct cgroup_subsys_state *css;
	__u64 pages;
};

static long memcg_bpf_lowest_max_step(__u64 i, struct memcg_bpf_lowest_max_iter *at)
{
	__u64 max = MEMCG_BPF_READ(at->css, memory.max);
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);

	if (max < at->pages)
		at->pages = max;
	if (!parent)
		return 1;
	at->css = parent;
	return 0;
}

/* By bpf_loop(): in a loop within the loop over bound cgroups the verifier would follow every level
 * of one at every level of the other. */
static __noinline __u64 memcg_bpf_lowest_max(struct cgroup_subsys_state *css)
{
	struct memcg_bpf_lowest_max_iter at = {.css = css, .pages = memcg_globals.total_ram_pages};

	bpf_loop(MEMCG_BPF_MAX_LEVEL + 1, memcg_bpf_lowest_max_step, &at, 0);
	return at.pages;
}

/* The lowest memory.max of the bound cgroup and its ancestors; without one, the RAM of the machine.
 */
static __always_inline __u64 memcg_bpf_effective_max(struct memcg_bpf_ctx *ctx)
{
	return memcg_bpf_lowest_max(memcg_bpf_to_call(ctx)->css) << MEMCG_BPF_PAGE_SHIFT;
}

/* `ppm` parts per million of `bytes`, for anything below 2^56. */
static __always_inline __u64 memcg_bpf_mul_ppm(__u64 bytes, __u64 ppm)
{
	return (bytes >> MEMCG_BPF_PAGE_SHIFT) * ppm / 1000000 << MEMCG_BPF_PAGE_SHIFT;
}

/* A memcg_bpf_size in bytes: percentages follow changes of memory.max. */
static __always_inline __u64 memcg_bpf_size_bytes(struct memcg_bpf_ctx *ctx, memcg_bpf_size size)
{
	if (!(size & MEMCG_BPF_SIZE_IS_PPM))
		return size;
	return memcg_bpf_mul_ppm(memcg_bpf_effective_max(ctx), size & ~MEMCG_BPF_SIZE_IS_PPM);
}

/* The counters of the subtree since it was bound, if the policy is tagged MEMCG_BPF_COUNTERS or
 * MEMCG_BPF_PRESSURE; NULL when it is being unbound. */
static __always_inline const struct memcg_bpf_counters *
memcg_bpf_counters(struct memcg_bpf_ctx *ctx)
{
	__u64 cgroup = memcg_bpf_cgroup(ctx);

	return bpf_map_lookup_elem(&memcg_counters, &cgroup);
}

/* The time, since it was bound, during which at least one task of the subtree was stalled on
 * memory; for policies tagged MEMCG_BPF_PRESSURE or MEMCG_BPF_COUNTERS. */
static __always_inline __u64 memcg_bpf_stalled(struct memcg_bpf_ctx *ctx)
{
	__u64 cgroup = memcg_bpf_cgroup(ctx);
	struct memcg_bpf_stall_clock *clock = bpf_map_lookup_elem(&memcg_stalls, &cgroup);

	return clock ? memcg_bpf_stall_clock_read(clock, memcg_bpf_now(ctx)) : 0;
}

#endif
