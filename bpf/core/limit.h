/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose limit a stalled task waits for. A stall at the limit of an inner cgroup is no concern of
 * the cgroups around it: nothing that they free would end it. */
#ifndef MEMCG_BPF_CORE_LIMIT_H
#define MEMCG_BPF_CORE_LIMIT_H

/* A cgroup whose memory was reclaimed because of its own limit causes stalls for this long. */
#define LIMIT_RECLAIM_SPAN 1000000000ULL
#define LIMIT_RECLAIMS_MAX 1024

/* include/linux/swap.h: memory.reclaim was written; no limit has been reached. */
#define MEMCG_RECLAIM_PROACTIVE 4

/*
 * cgroup id → when memory was last reclaimed because of its limit. Usage alone does not show it:
 * after a reclaim it is below the limit, by as much as one batch frees, which can be several large
 * folios, and this is when tasks read again what was reclaimed. LRU: any cgroup can reach its
 * limit.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LIMIT_RECLAIMS_MAX);
	__type(key, __u64);
	__type(value, __u64);
} limit_reclaims SEC(".maps");

static __always_inline void record_limit_reclaim(struct cgroup *cgroup, __u32 options, __u64 now)
{
	__u64 id = cgroup->kn->id;

	if (!(options & MEMCG_RECLAIM_PROACTIVE))
		bpf_map_update_elem(&limit_reclaims, &id, &now, BPF_ANY);
}

/* The limit: of the cgroup with this id, at this level; both 0: the machine's memory. */
struct limit {
	__u64 id;
	__u64 level;
};

struct below_search {
	struct cgroup_subsys_state *css;
	__u64 id;
	__u64 found;
};

static long is_below_step(__u64 i, struct below_search *at)
{
	at->found = memcg_bpf_css_id(at->css) == at->id;
	at->css = MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);
	return at->found || !at->css;
}

/* Is this the cgroup with this id, or one below it? */
static __noinline bool is_below(struct cgroup_subsys_state *css, __u64 id)
{
	struct below_search at = {.css = css, .id = id};

	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, is_below_step, &at, 0);
	return at.found;
}

struct limit_search {
	struct cgroup_subsys_state *css;
	__u64 now;
	__u64 found;
};

static long find_limit_step(__u64 i, struct limit_search *at)
{
	__u64 usage = MEMCG_BPF_READ(at->css, memory.usage.counter);
	__u64 limit = MEMCG_BPF_READ(at->css, memory.max);
	__u64 high = MEMCG_BPF_READ(at->css, memory.high);
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);
	__u64 id, *reclaimed;

	if (!parent)
		return 1; /* the root cgroup has no limit */
	if (high < limit)
		limit = high;
	id = memcg_bpf_css_id(at->css);
	reclaimed = bpf_map_lookup_elem(&limit_reclaims, &id);
	if (usage >= limit - limit / 32 ||
	    (reclaimed && at->now - *reclaimed < LIMIT_RECLAIM_SPAN)) {
		at->found = id;
		return 1;
	}
	at->css = parent;
	return 0;
}

/*
 * The limit that a task of this cgroup waits for when it stalls: of the nearest cgroup, from its
 * own up, whose usage is at its memory.max or memory.high or whose memory was reclaimed because of
 * them within the last second. The nearest, because the kernel checks that one first. A large
 * charge also fails further below a limit: limit_known() corrects the result.
 */
static __noinline int find_limit(struct cgroup_subsys_state *css, __u64 now, struct limit *limit)
{
	struct limit_search at = {.css = css, .now = now};
	struct cgroup *cgroup;

	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, find_limit_step, &at, 0);
	if (!at.found)
		return 0;
	cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, at.css, cgroup);
	limit->id = at.found;
	limit->level = MEMCG_BPF_FIELD(struct cgroup, cgroup, level);
	return 0;
}

#endif
