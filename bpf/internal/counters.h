/* SPDX-License-Identifier: GPL-2.0-only */
/* Counting for whoever governs a cgroup. Not for policies: for core and the hooks. */
#ifndef MEMCG_BPF_COUNTERS_H
#define MEMCG_BPF_COUNTERS_H

/* The counters of a governed cgroup, if it wants any. */
static __always_inline struct memcg_bpf_counters *memcg_bpf_counters_of(struct cgroup *cgroup)
{
	__u64 id = cgroup->kn->id;
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

	if (!binding || !(binding->flags & MEMCG_BPF_BINDING_COUNT))
		return NULL;
	return bpf_map_lookup_elem(&memcg_counters, &id);
}

/* Runs `body` with `c` set for each counted cgroup from `cgroup_` up, of which `above_` is known.
 */
#define MEMCG_BPF_COUNT_ANCESTORS(cgroup_, above_, body)                                    \
	do {                                                                                \
		struct cgroup *__from = cgroup_;                                            \
		struct cgroup_subsys_state *self;                                           \
		__u64 __ancestors = above_;                                                 \
		if (__ancestors & MEMCG_BPF_ANC_SKIPPED)                                    \
			__from = memcg_bpf_to_max_level(__from);                            \
		__ancestors &= MEMCG_BPF_ANC_MASK;                                          \
		self = __from ? &__from->self : NULL;                                       \
		memcg_bpf_for_each_bound(self, __ancestors, i)                              \
		{                                                                           \
			struct memcg_bpf_counters *c = memcg_bpf_counters_of(self->cgroup); \
			if (c)                                                              \
				body;                                                       \
		}                                                                           \
	} while (0)

/* The same for a cgroup of which nothing is known yet. `seen`: see walk.h. */
#define MEMCG_BPF_COUNT(cgroup_, seen, body)                                                      \
	do {                                                                                      \
		struct cgroup *__own = cgroup_;                                                   \
		if (!memcg_bpf_no_policy(__own))                                                  \
			MEMCG_BPF_COUNT_ANCESTORS(__own, memcg_bpf_ancestors(__own, seen), body); \
	} while (0)

/* One request for address space. */
static __always_inline void memcg_bpf_count_request(struct memcg_bpf_counters *c, __u64 pages,
						    bool refused)
{
	memcg_bpf_add(&c->growth_requests, 1);
	memcg_bpf_add(&c->growth_pages, pages);
	if (refused)
		memcg_bpf_add(&c->growth_refused, 1);
}

/*
 * Counts a request on which the one policy that is asked has decided, for a second program at the
 * function, core's, would cost every task on the machine 132 instructions for each request
 * (docs/decisions/0015). What the kernel refuses after it is foreseen.
 */
static __noinline __attribute__((unused)) void
memcg_bpf_count_growth(struct cgroup *cgroup, __u64 ancestors, __u64 pages, bool refused)
{
	if (pages > memcg_globals.commit_limit)
		refused = true;
	MEMCG_BPF_COUNT_ANCESTORS(cgroup, ancestors, memcg_bpf_count_request(c, pages, refused));
}

#endif
