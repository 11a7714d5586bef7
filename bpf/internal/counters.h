/* SPDX-License-Identifier: GPL-2.0-only */
/* Counting in all bound cgroups above a task: for core and the hooks. */
#ifndef MEMCG_BPF_COUNTERS_H
#define MEMCG_BPF_COUNTERS_H

/* The counters of a bound cgroup, if any policy reads them. */
static __always_inline struct memcg_bpf_counters *memcg_bpf_counters_of(struct cgroup *cgroup)
{
	__u64 id = cgroup->kn->id;
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

	if (!binding || !(binding->flags & MEMCG_BPF_BINDING_COUNT))
		return NULL;
	return bpf_map_lookup_elem(&memcg_counters, &id);
}

/* Runs `body` with `c` set for each cgroup from `cgroup_` up that has counters. */
#define MEMCG_BPF_COUNT_ANCESTORS(cgroup_, ancestors_, body)                                \
	do {                                                                                \
		struct cgroup *__from = cgroup_;                                            \
		struct cgroup_subsys_state *self;                                           \
		__u64 __ancestors = ancestors_;                                             \
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

/* The same for a cgroup whose ancestors are not known yet. `cache`: see ancestors.h. */
#define MEMCG_BPF_COUNT(cgroup_, cache, body)                                                      \
	do {                                                                                       \
		struct cgroup *__own = cgroup_;                                                    \
		if (!memcg_bpf_no_policy(__own))                                                   \
			MEMCG_BPF_COUNT_ANCESTORS(__own, memcg_bpf_ancestors(__own, cache), body); \
	} while (0)

/* One request for address space. */
static __always_inline void memcg_bpf_count_request(struct memcg_bpf_counters *c, __u64 pages,
						    bool refused)
{
	memcg_bpf_add(&c->growth_requests, 1);
	memcg_bpf_add(&c->growth_pages, pages);
	if (refused)
		memcg_bpf_add(&c->growth_failed, 1);
}

struct memcg_bpf_count_growth_walk {
	struct cgroup_subsys_state *self;
	__u64 ancestors;
	__u64 pages;
	__u64 refused;
};

static long memcg_bpf_count_growth_step(__u64 i, struct memcg_bpf_count_growth_walk *at)
{
	struct cgroup_subsys_state *self = at->self;
	struct memcg_bpf_counters *c;

	if (at->ancestors & 1) {
		c = memcg_bpf_counters_of(self->cgroup);
		if (c)
			memcg_bpf_count_request(c, at->pages, at->refused);
	}
	self = memcg_bpf_walk_next(self, &at->ancestors);
	if (!self)
		return 1;
	at->self = self;
	return 0;
}

/*
 * Counts a request for the only policy with a growth hook. A second program at the function,
 * core's, would cost every task of the machine 132 instructions for each request
 * (docs/decisions/0015). That the kernel refuses the request afterwards is computed in advance. By
 * bpf_loop(): the verifier comes here from every step of the policy's own loop.
 */
static __noinline __attribute__((unused)) void
memcg_bpf_count_growth(struct cgroup *cgroup, __u64 ancestors, __u64 pages, bool refused)
{
	struct memcg_bpf_count_growth_walk at = {
		.ancestors = ancestors,
		.pages = pages,
		.refused = refused || pages > memcg_globals.commit_limit,
	};

	at.self = memcg_bpf_walk_first(cgroup, &at.ancestors);
	if (!at.self)
		return;
	bpf_loop(MEMCG_BPF_MAX_LEVEL + 1, memcg_bpf_count_growth_step, &at, 0);
}

#endif
