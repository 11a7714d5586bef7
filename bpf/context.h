/* SPDX-License-Identifier: GPL-2.0-only */
/* What a policy is told when it is asked, and what it can find out about the governed cgroup. */
#ifndef MEMCG_BPF_CONTEXT_H
#define MEMCG_BPF_CONTEXT_H

/* Sizes in bytes, times in ns of bpf_ktime_get_ns(). What a hook does not know is 0. */
struct memcg_bpf_ctx {
	__u64 cgroup; /* id of the governed cgroup; in growth, where it would cost too much, see */
	__u64 now;    /* memcg_bpf_cgroup(); there is no time there either */
	__u64 bytes;  /* growth, charge: asked for; high: charged above it; reclaim: to be freed */
	__u64 reclaimed;    /* reclaim: freed */
	__u64 duration_ns;  /* reclaim, stall: how long */
	__u32 gfp;	    /* high, reclaim, oom: what the allocation allows */
	__u32 at_own_limit; /* oom: the limit that is hit is this cgroup's, not one below */
};

/* The policy's view, with what the header keeps to itself behind it. */
struct memcg_bpf_call {
	struct memcg_bpf_ctx ctx;
	struct cgroup_subsys_state *css;
	__u32 mode; /* of the parameters in force */
	__u32 unused;
};

#define memcg_bpf_to_call(ctx_) ((struct memcg_bpf_call *)(ctx_))

static __always_inline __u64 memcg_bpf_request(struct memcg_bpf_ctx *ctx)
{
	return ctx->bytes;
}

/* The id of the governed cgroup, which is the task's own or one above it. */
static __always_inline __u64 memcg_bpf_cgroup(struct memcg_bpf_ctx *ctx)
{
	return memcg_bpf_css_id(memcg_bpf_to_call(ctx)->css);
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

/* Is a governed cgroup (memcg_bpf_to_call(ctx)->css) below the one with this id? Inline: who never
 * asks must not have an unused function. */
static __always_inline bool memcg_bpf_is_below(struct cgroup_subsys_state *css, __u64 id)
{
	return memcg_bpf_has_ancestor(css, id);
}

/* memory.current of the governed cgroup. */
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

/* memory.high, memory.low and memory.max as they stand in its files; MEMCG_BPF_UNLIMITED: "max". */
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
 * File cache of the governed subtree in bytes: what the kernel drops before anybody runs out. At
 * most 2 s old (the kernel folds statistics up that often). The places of the LRU sizes in the
 * statistics are those of enum node_stat_item on all kernels: 6.10's compaction of the others
 * begins after them.
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

/* By bpf_loop(): in a loop within the loop over governed cgroups the verifier would follow every
 * level of one at every level of the other. */
static __noinline __u64 memcg_bpf_lowest_max(struct cgroup_subsys_state *css)
{
	struct memcg_bpf_lowest_max_iter at = {.css = css, .pages = memcg_globals.total_ram_pages};

	bpf_loop(MEMCG_BPF_MAX_LEVEL + 1, memcg_bpf_lowest_max_step, &at, 0);
	return at.pages;
}

/* The smallest memory.max from the governed cgroup up; what the machine has, where none is set. */
static __always_inline __u64 memcg_bpf_effective_max(struct memcg_bpf_ctx *ctx)
{
	return memcg_bpf_lowest_max(memcg_bpf_to_call(ctx)->css) << MEMCG_BPF_PAGE_SHIFT;
}

/* `ppm` parts per million of `bytes`, for anything below 2^56. */
static __always_inline __u64 memcg_bpf_mul_ppm(__u64 bytes, __u64 ppm)
{
	return (bytes >> MEMCG_BPF_PAGE_SHIFT) * ppm / 1000000 << MEMCG_BPF_PAGE_SHIFT;
}

/* A memcg_bpf_size as bytes now: percentages follow a memory.max that changes. */
static __always_inline __u64 memcg_bpf_size_bytes(struct memcg_bpf_ctx *ctx, memcg_bpf_size size)
{
	if (!(size & MEMCG_BPF_SIZE_IS_PPM))
		return size;
	return memcg_bpf_mul_ppm(memcg_bpf_effective_max(ctx), size & ~MEMCG_BPF_SIZE_IS_PPM);
}

/* The subtree's counters since it was bound; NULL when it is not bound any more. */
static __always_inline const struct memcg_bpf_counters *
memcg_bpf_counters(struct memcg_bpf_ctx *ctx)
{
	__u64 cgroup = ctx->cgroup;

	return bpf_map_lookup_elem(&memcg_counters, &cgroup);
}

/* For how long, since it was bound, at least one task of the subtree has been waiting for memory.
 */
static __always_inline __u64 memcg_bpf_stalled(struct memcg_bpf_ctx *ctx)
{
	__u64 cgroup = ctx->cgroup;
	struct memcg_bpf_stall_clock *stalls = bpf_map_lookup_elem(&memcg_stalls, &cgroup);

	return stalls ? memcg_bpf_stall_clock_read(stalls, ctx->now) : 0;
}

#endif
