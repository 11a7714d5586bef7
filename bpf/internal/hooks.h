/* SPDX-License-Identifier: GPL-2.0-only */
/* The hooks that only read and request actions; see ops.h. */
#ifndef MEMCG_BPF_HOOKS_H
#define MEMCG_BPF_HOOKS_H

/* The way from a cgroup to the bound ones above it. */
struct memcg_bpf_walk {
	struct memcg_bpf_call call;
	struct cgroup_subsys_state *self; /* of the cgroup that comes next */
	__u64 ancestors;		  /* bit 0: it is bound */
};

/* Puts the way's beginning into `walk`; false when there is nothing to visit. */
static __always_inline bool memcg_bpf_walk_begin(struct memcg_bpf_walk *walk, struct cgroup *cgroup,
						 __u64 ancestors)
{
	walk->call.ctx.at_own_limit = !(ancestors & MEMCG_BPF_ANC_SKIPPED);
	walk->ancestors = ancestors;
	walk->self = memcg_bpf_walk_first(cgroup, &walk->ancestors);
	if (!walk->self)
		return false;
	walk->call.now = bpf_ktime_get_ns();
	return true;
}

/* Moves on to the parent; false at the end of the way. */
static __always_inline bool memcg_bpf_walk_up(struct memcg_bpf_walk *walk)
{
	struct cgroup_subsys_state *self = memcg_bpf_walk_next(walk->self, &walk->ancestors);

	walk->call.ctx.at_own_limit = 0;
	if (!self)
		return false;
	walk->self = self;
	return true;
}

/*
 * The policy's function is verified separately, as part of a global function, and the walk is a
 * bpf_loop(), of which the verifier follows one step: neither multiplies the states of the other.
 * The function therefore knows kernel objects by their address only.
 *
 * by_current: the current task belongs to the subtree, and is the one that the event is about. A
 * cgroup can be reclaimed by a task that is not in it.
 */
#define MEMCG_BPF_DEFINE_HOOK(hook, by_current)                                                \
	__noinline int memcg_bpf_##hook##_call(struct memcg_bpf_call *call,                    \
					       const memcg_bpf_policy_params *p)               \
	{                                                                                      \
		return call && p ? memcg_bpf_##hook##_fn(&call->ctx, p) : MEMCG_BPF_OK;        \
	}                                                                                      \
	static long memcg_bpf_##hook##_step(__u64 i, struct memcg_bpf_walk *at)                \
	{                                                                                      \
		struct cgroup *cgroup = at->self->cgroup;                                      \
		memcg_bpf_policy_slot *slot;                                                   \
		__u32 index;                                                                   \
                                                                                               \
		if (at->ancestors & 1 && memcg_bpf_binding_slot(cgroup, &index)) {             \
			slot = bpf_map_lookup_elem(&params, &index);                           \
			at->call.css = memcg_bpf_css(cgroup);                                  \
			if (slot && slot->active && at->call.css) {                            \
				at->call.cgroup = cgroup->kn->id;                              \
				at->call.mode = slot->params.mode;                             \
				memcg_bpf_##hook##_call(&at->call, &slot->params);             \
			}                                                                      \
		}                                                                              \
		return !memcg_bpf_walk_up(at);                                                 \
	}                                                                                      \
	MEMCG_BPF_ANCESTOR_CACHE(ancestors_##hook, MEMCG_BPF_ANCESTOR_CACHE_SMALL);            \
	static __always_inline int memcg_bpf_##hook##_entry(struct cgroup *cgroup,             \
							    const struct memcg_bpf_ctx *event) \
	{                                                                                      \
		struct memcg_bpf_walk walk; /* set only for bound cgroups */                   \
                                                                                               \
		if (memcg_bpf_no_policy(cgroup))                                               \
			return 0;                                                              \
		walk = (struct memcg_bpf_walk){.call.ctx = *event, .call.culprit = by_current}; \
		if (memcg_bpf_walk_begin(&walk, cgroup,                                        \
					 memcg_bpf_ancestors(cgroup, &ancestors_##hook)))      \
			bpf_loop(MEMCG_BPF_MAX_LEVEL + 1, memcg_bpf_##hook##_step, &walk, 0);  \
		return 0;                                                                      \
	}

static __always_inline struct cgroup *memcg_bpf_current(void)
{
	return memcg_bpf_task_cgroup(bpf_get_current_task_btf());
}

/* The state of the current task; NULL when core has none. */
static __always_inline struct memcg_bpf_task_state *memcg_bpf_task_state(void)
{
	return bpf_task_storage_get(&memcg_task_state, bpf_get_current_task_btf(), NULL, 0);
}

/*
 * try_charge_memcg() also runs for charges that the per-CPU stock satisfies; only the slow path
 * comes to the page counter. Called when it is the counter of the task's own memcg: charges on
 * behalf of other cgroups are rare.
 */
#define MEMCG_BPF_PROGRAMS_charge                                                                 \
	MEMCG_BPF_DEFINE_HOOK(charge, 1)                                                             \
	SEC("?fentry/page_counter_try_charge")                                                    \
	int BPF_PROG(charge__0, struct page_counter *counter, unsigned long pages)                \
	{                                                                                         \
		struct cgroup_subsys_state *css = memcg_bpf_task_css(bpf_get_current_task_btf()); \
		struct memcg_bpf_ctx event = {.bytes = pages << MEMCG_BPF_PAGE_SHIFT};            \
                                                                                                  \
		if ((__u64)counter !=                                                             \
		    (__u64)css + bpf_core_field_offset(struct mem_cgroup, memory))                \
			return 0;                                                                 \
		return memcg_bpf_charge_entry(css->cgroup, &event);                               \
	}                                                                                         \
	MEMCG_BPF_HOOK_END(charge)

/* Up to 6.12 the kernel calls it at every return with pending work, nearly always below high. */
#define MEMCG_BPF_HIGH_CANDIDATE(number, function)                                \
	SEC("?fentry/" #function)                                                 \
	int BPF_PROG(high__##number, unsigned int gfp)                            \
	{                                                                         \
		struct task_struct *task = bpf_get_current_task_btf();            \
		unsigned int pages = task->memcg_nr_pages_over_high;              \
		struct memcg_bpf_ctx event = {.gfp = gfp};                        \
                                                                                  \
		if (!pages)                                                       \
			return 0;                                                 \
		event.bytes = (__u64)pages << MEMCG_BPF_PAGE_SHIFT;               \
		return memcg_bpf_high_entry(memcg_bpf_task_cgroup(task), &event); \
	}

#define MEMCG_BPF_PROGRAMS_high                                    \
	MEMCG_BPF_DEFINE_HOOK(high, 1)                                \
	MEMCG_BPF_HIGH_CANDIDATE(0, __mem_cgroup_handle_over_high) \
	MEMCG_BPF_HIGH_CANDIDATE(1, mem_cgroup_handle_over_high)   \
	MEMCG_BPF_HOOK_END(high)

/* The result is read by bpf_get_func_ret(), because the number of arguments changed with 6.12. */
#define MEMCG_BPF_PROGRAMS_reclaim                                                                 \
	MEMCG_BPF_DEFINE_HOOK(reclaim, 0)                                                             \
	SEC("?fexit/try_to_free_mem_cgroup_pages")                                                 \
	int BPF_PROG(reclaim__0, struct mem_cgroup *memcg, unsigned long pages, unsigned int gfp)  \
	{                                                                                          \
		struct memcg_bpf_task_state *s = memcg_bpf_task_state();                           \
		struct memcg_bpf_ctx event = {.bytes = pages << MEMCG_BPF_PAGE_SHIFT, .gfp = gfp}; \
		__u64 reclaimed = 0;                                                               \
                                                                                                   \
		bpf_get_func_ret((void *)___ctx, &reclaimed);                                      \
		event.reclaimed = reclaimed << MEMCG_BPF_PAGE_SHIFT;                               \
		event.duration_ns = s ? s->reclaim_ns : 0;                                         \
		return memcg_bpf_reclaim_entry(memcg->css.cgroup, &event);                         \
	}                                                                                          \
	MEMCG_BPF_HOOK_END(reclaim)

#define MEMCG_BPF_PROGRAMS_refault                                           \
	MEMCG_BPF_DEFINE_HOOK(refault, 1)                                       \
	SEC("?fentry/workingset_refault")                                    \
	int BPF_PROG(refault__0, struct folio *folio, void *shadow)          \
	{                                                                    \
		struct memcg_bpf_ctx event = {};                             \
                                                                             \
		return memcg_bpf_refault_entry(memcg_bpf_current(), &event); \
	}                                                                    \
	MEMCG_BPF_HOOK_END(refault)

/* At the end of the outermost stall, after core's program (fentry) has timed it. */
#define MEMCG_BPF_PROGRAMS_stall                                           \
	MEMCG_BPF_DEFINE_HOOK(stall, 1)                                       \
	SEC("?fexit/psi_memstall_leave")                                   \
	int BPF_PROG(stall__0, unsigned long *flags)                       \
	{                                                                  \
		struct memcg_bpf_task_state *s;                            \
		struct memcg_bpf_ctx event = {};                           \
                                                                           \
		if (memcg_bpf_no_policy(memcg_bpf_current()))              \
			return 0;                                          \
		s = memcg_bpf_task_state();                                \
		if (!s || s->stall || !s->stall_ns)                        \
			return 0;                                          \
		event.duration_ns = s->stall_ns;                           \
		return memcg_bpf_stall_entry(memcg_bpf_current(), &event); \
	}                                                                  \
	MEMCG_BPF_HOOK_END(stall)

#define MEMCG_BPF_PROGRAMS_oom                                           \
	MEMCG_BPF_DEFINE_HOOK(oom, 0)                                       \
	SEC("?fentry/mem_cgroup_out_of_memory")                          \
	int BPF_PROG(oom__0, struct mem_cgroup *memcg, unsigned int gfp) \
	{                                                                \
		struct memcg_bpf_ctx event = {.gfp = gfp};               \
                                                                         \
		return memcg_bpf_oom_entry(memcg->css.cgroup, &event);   \
	}                                                                \
	MEMCG_BPF_HOOK_END(oom)

#endif
