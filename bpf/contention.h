/* SPDX-License-Identifier: GPL-2.0-only */
/* Stalls outside the bound cgroup. core.bpf.c times them only while a policy reads them. */
#ifndef MEMCG_BPF_CONTENTION_H
#define MEMCG_BPF_CONTENTION_H

/* core.bpf.c keeps what a policy reads for this long. */
#define MEMCG_BPF_WATCH_NS (5 * MEMCG_BPF_SECOND)

/* The time during which at least one task of the machine reclaimed memory for the whole machine,
 * counted from the first call. Call at least once a second. */
static __always_inline __u64 memcg_bpf_host_stalled(struct memcg_bpf_ctx *ctx)
{
	__u64 now = memcg_bpf_now(ctx);

	memcg_globals.watch_host = now + MEMCG_BPF_WATCH_NS;
	return memcg_bpf_stall_clock_read(&memcg_globals.host, now);
}

struct memcg_bpf_stalled_search {
	struct cgroup_subsys_state *css;
	__u64 own;
	__u64 now;
	__u64 max;
	__u64 inner; /* 1: only of the cgroups below the delegated one in which this one is */
};

struct memcg_bpf_stalled_ancestor {
	struct memcg_bpf_protected_stalls *it;
	__u64 own;
	__u64 found;
};

static long memcg_bpf_stalled_ancestor_step(__u64 i, struct memcg_bpf_stalled_ancestor *at)
{
	__u64 id;

	if (i >= MEMCG_BPF_PROTECTED_LEVELS)
		return 1;
	id = at->it->ancestors[i];
	at->found = id == at->own;
	return at->found || !id;
}

static long memcg_bpf_stalled_step(void *map, __u64 *cgroup, struct memcg_bpf_protected_stalls *it,
				   struct memcg_bpf_stalled_search *search)
{
	struct memcg_bpf_stalled_ancestor above = {.it = it, .own = search->own};
	__u64 age = search->now - it->begin, stalled = 0;

	if (*cgroup == search->own)
		return 0;
	bpf_loop(MEMCG_BPF_PROTECTED_LEVELS, memcg_bpf_stalled_ancestor_step, &above, 0);
	if (above.found)
		return 0;
	if (age < MEMCG_BPF_PROTECTED_STALLS_SPAN && it->before > stalled)
		stalled = it->before;
	if (age < 2 * MEMCG_BPF_PROTECTED_STALLS_SPAN && it->stall > stalled)
		stalled = it->stall;
	if (stalled <= search->max)
		return 0;
	if (it->limit && !memcg_bpf_has_ancestor(search->css, it->limit))
		return 0;
	if (it->delegated && memcg_bpf_has_ancestor(search->css, it->delegated) != !!search->inner)
		return 0;
	search->max = stalled;
	return 0;
}

/*
 * How long within the last second a cgroup with memory.low or memory.min was stalled on memory: of
 * all such cgroups outside of the bound one, the one stalled longest. A cgroup that is stalled on a
 * limit which does not include the bound cgroup is left out, because nothing that the bound cgroup
 * frees would help it. Protection set below a delegated cgroup counts only for bound cgroups below
 * it. Call at least once a second.
 */
static __always_inline __u64 memcg_bpf_protected_stalled(struct memcg_bpf_ctx *ctx)
{
	struct memcg_bpf_stalled_search search = {
		.css = memcg_bpf_to_call(ctx)->css,
		.own = memcg_bpf_cgroup(ctx),
		.now = memcg_bpf_now(ctx),
	};

	memcg_globals.watch_protected = search.now + MEMCG_BPF_WATCH_NS;
	bpf_for_each_map_elem(&memcg_protected_stalls, memcg_bpf_stalled_step, &search, 0);
	search.inner = 1;
	bpf_for_each_map_elem(&memcg_inner_protected_stalls, memcg_bpf_stalled_step, &search, 0);
	return search.max;
}

#endif
