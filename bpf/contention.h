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
};

static long memcg_bpf_stalled_step(void *map, __u64 *cgroup, struct memcg_bpf_protected_stalls *it,
				   struct memcg_bpf_stalled_search *search)
{
	__u64 age = search->now - it->begin, stalled = 0;

	if (*cgroup == search->own)
		return 0;
	for (int i = 0; i < MEMCG_BPF_PROTECTED_LEVELS && it->ancestors[i]; i++)
		if (it->ancestors[i] == search->own)
			return 0;
	if (age < MEMCG_BPF_PROTECTED_STALLS_SPAN && it->before > stalled)
		stalled = it->before;
	if (age < 2 * MEMCG_BPF_PROTECTED_STALLS_SPAN && it->stall > stalled)
		stalled = it->stall;
	if (stalled <= search->max)
		return 0;
	if (!it->limit || memcg_bpf_has_ancestor(search->css, it->limit))
		search->max = stalled;
	return 0;
}

/*
 * How long within the last second a cgroup with memory.low or memory.min was stalled on memory: of
 * all such cgroups outside of the bound one, the one stalled longest. A cgroup that is stalled on a
 * limit which does not include the bound cgroup is left out, because nothing that the bound cgroup
 * frees would help it. Call at least once a second.
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
	return search.max;
}

#endif
