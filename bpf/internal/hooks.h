/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The hooks that can only look and ask:
 *
 *	MEMCG_BPF_CHARGE(policy, ctx, params) { … return a verdict }
 *
 *	CHARGE: memory is charged to the subtree: request (a batch of up to 64 pages).
 *
 *	HIGH: a task of it returns to user space above memory.high: request (charged above it), gfp.
 *
 *	RECLAIM: reclaim aimed at a cgroup in it has ended: request, got, took, gfp.
 *
 *	REFAULT: a task of it needs a page again soon after it was reclaimed.
 *
 *	STALL: a task of it has waited for memory: took.
 *
 *	OOM: it, or a cgroup in it, has run out: own, gfp; the kernel is about to kill.
 *
 * Each is asked once for every governed cgroup concerned, the nearest first. RECLAIM and STALL get
 * their times from core, which keeps them for policies that have these hooks.
 */
#ifndef MEMCG_BPF_HOOKS_H
#define MEMCG_BPF_HOOKS_H

/*
 * The policy's function is verified by itself, as a global function: the walk to the governed
 * cgroups does not multiply its states. So it knows kernel objects by their address only.
 */
#define MEMCG_BPF_DEFINE_HOOK(policy, hook, ctx, p)                                           \
	static __always_inline int policy##_##hook(struct memcg_bpf_ctx *ctx,                 \
						   const struct policy##_params *p);          \
	__noinline int policy##_##hook##_call(struct memcg_bpf_call *call,                    \
					      const struct policy##_params *params)           \
	{                                                                                     \
		return call && params ? policy##_##hook(&call->ctx, params) : MEMCG_BPF_OK;   \
	}                                                                                     \
	static __noinline int policy##_##hook##_walk(struct cgroup *cgroup, __u64 ancestors,  \
						     const struct memcg_bpf_ctx *event)       \
	{                                                                                     \
		struct memcg_bpf_call call = {.ctx = *event};                                 \
		struct cgroup_subsys_state *self;                                             \
		bool own = !(ancestors & MEMCG_BPF_ANC_SKIPPED);                              \
                                                                                              \
		call.ctx.now = bpf_ktime_get_ns();                                            \
		if (ancestors & MEMCG_BPF_ANC_SKIPPED)                                        \
			cgroup = memcg_bpf_to_max_level(cgroup);                              \
		ancestors &= MEMCG_BPF_ANC_MASK;                                              \
		self = cgroup ? &cgroup->self : NULL;                                         \
		memcg_bpf_for_each_bound(self, ancestors, i)                                  \
		{                                                                             \
			struct policy##_slot *slot;                                           \
			__u32 number;                                                         \
                                                                                              \
			if (!memcg_bpf_binding_slot(self->cgroup, &number))                   \
				continue;                                                     \
			slot = bpf_map_lookup_elem(&params, &number);                         \
			call.css = memcg_bpf_css(self->cgroup);                               \
			if (!slot || !slot->active || !call.css)                              \
				continue;                                                     \
			call.ctx.cgroup = self->cgroup->kn->id;                               \
			call.ctx.at_own_limit = own && !i;                                    \
			call.mode = slot->params.mode;                                        \
			policy##_##hook##_call(&call, &slot->params);                         \
		}                                                                             \
		return 0;                                                                     \
	}                                                                                     \
	MEMCG_BPF_ANCESTOR_CACHE(ancestors_##hook, MEMCG_BPF_ANCESTOR_CACHE_SMALL);           \
	static __always_inline int policy##_##hook##_entry(struct cgroup *cgroup,             \
							   const struct memcg_bpf_ctx *event) \
	{                                                                                     \
		__u64 ancestors;                                                              \
                                                                                              \
		if (memcg_bpf_no_policy(cgroup))                                              \
			return 0;                                                             \
		ancestors = memcg_bpf_ancestors(cgroup, &ancestors_##hook);                   \
		return policy##_##hook##_walk(cgroup, ancestors, event);                      \
	}

#define MEMCG_BPF_BODY(policy, hook, ctx, p)                                  \
	static __always_inline int policy##_##hook(struct memcg_bpf_ctx *ctx, \
						   const struct policy##_params *p)

static __always_inline struct cgroup *memcg_bpf_current(void)
{
	return memcg_bpf_task_cgroup(bpf_get_current_task_btf());
}

/* What core knows of the current task; NULL when it knows nothing. */
static __always_inline struct memcg_bpf_task_state *memcg_bpf_task_state(void)
{
	return bpf_task_storage_get(&memcg_task_state, bpf_get_current_task_btf(), NULL, 0);
}

/*
 * try_charge_memcg() also runs for charges that the per-CPU stock satisfies; only the slow path
 * comes to the page counter. Asked when it is the counter of the task's own memcg: charges on
 * behalf of others are rare.
 */
#define MEMCG_BPF_CHARGE(policy, ctx, p)                                                          \
	MEMCG_BPF_DEFINE_HOOK(policy, charge, ctx, p)                                             \
	SEC("?fentry/page_counter_try_charge")                                                    \
	int BPF_PROG(charge__0, struct page_counter *counter, unsigned long pages)                \
	{                                                                                         \
		struct cgroup_subsys_state *css = memcg_bpf_task_css(bpf_get_current_task_btf()); \
		struct memcg_bpf_ctx event = {.bytes = pages << MEMCG_BPF_PAGE_SHIFT};            \
                                                                                                  \
		if ((__u64)counter !=                                                             \
		    (__u64)css + bpf_core_field_offset(struct mem_cgroup, memory))                \
			return 0;                                                                 \
		return policy##_charge_entry(css->cgroup, &event);                                \
	}                                                                                         \
	MEMCG_BPF_BODY(policy, charge, ctx, p)

/* Until 6.12 the kernel calls it at every return with work, nearly always for nothing. */
#define MEMCG_BPF_HIGH_CANDIDATE(policy, number, function)                       \
	SEC("?fentry/" #function)                                                \
	int BPF_PROG(high__##number, unsigned int gfp)                           \
	{                                                                        \
		struct task_struct *task = bpf_get_current_task_btf();           \
		unsigned int pages = task->memcg_nr_pages_over_high;             \
		struct memcg_bpf_ctx event = {.gfp = gfp};                       \
                                                                                 \
		if (!pages)                                                      \
			return 0;                                                \
		event.bytes = (__u64)pages << MEMCG_BPF_PAGE_SHIFT;              \
		return policy##_high_entry(memcg_bpf_task_cgroup(task), &event); \
	}

#define MEMCG_BPF_HIGH(policy, ctx, p)                                     \
	MEMCG_BPF_DEFINE_HOOK(policy, high, ctx, p)                        \
	MEMCG_BPF_HIGH_CANDIDATE(policy, 0, __mem_cgroup_handle_over_high) \
	MEMCG_BPF_HIGH_CANDIDATE(policy, 1, mem_cgroup_handle_over_high)   \
	MEMCG_BPF_BODY(policy, high, ctx, p)

/* The number of arguments grew with 6.12, so the result is asked for instead of counted off. */
#define MEMCG_BPF_RECLAIM(policy, ctx, p)                                                         \
	MEMCG_BPF_DEFINE_HOOK(policy, reclaim, ctx, p)                                            \
	SEC("?fexit/try_to_free_mem_cgroup_pages")                                                \
	int BPF_PROG(reclaim__0, struct mem_cgroup *memcg, unsigned long pages, unsigned int gfp) \
	{                                                                                         \
		struct memcg_bpf_task_state *s = memcg_bpf_task_state();                          \
		struct memcg_bpf_ctx event = {                                                    \
			.bytes = pages << MEMCG_BPF_PAGE_SHIFT,                                   \
			.gfp = gfp,                                                               \
			.duration_ns = s ? s->reclaim_ns : 0,                                     \
		};                                                                                \
                                                                                                  \
		bpf_get_func_ret((void *)___ctx, &event.reclaimed);                               \
		event.reclaimed <<= MEMCG_BPF_PAGE_SHIFT;                                         \
		return policy##_reclaim_entry(memcg->css.cgroup, &event);                         \
	}                                                                                         \
	MEMCG_BPF_BODY(policy, reclaim, ctx, p)

#define MEMCG_BPF_REFAULT(policy, ctx, p)                                   \
	MEMCG_BPF_DEFINE_HOOK(policy, refault, ctx, p)                      \
	SEC("?fentry/workingset_refault")                                   \
	int BPF_PROG(refault__0, struct folio *folio, void *shadow)         \
	{                                                                   \
		struct memcg_bpf_ctx event = {};                            \
                                                                            \
		return policy##_refault_entry(memcg_bpf_current(), &event); \
	}                                                                   \
	MEMCG_BPF_BODY(policy, refault, ctx, p)

/* At the end of the outermost stall, after core's program (fentry) has seen it. */
#define MEMCG_BPF_STALL(policy, ctx, p)                                   \
	MEMCG_BPF_DEFINE_HOOK(policy, stall, ctx, p)                      \
	SEC("?fexit/psi_memstall_leave")                                  \
	int BPF_PROG(stall__0, unsigned long *flags)                      \
	{                                                                 \
		struct memcg_bpf_task_state *s;                           \
		struct memcg_bpf_ctx event = {};                          \
                                                                          \
		if (memcg_bpf_no_policy(memcg_bpf_current()))             \
			return 0;                                         \
		s = memcg_bpf_task_state();                               \
		if (!s || s->stall || !s->stall_ns)                       \
			return 0;                                         \
		event.duration_ns = s->stall_ns;                          \
		return policy##_stall_entry(memcg_bpf_current(), &event); \
	}                                                                 \
	MEMCG_BPF_BODY(policy, stall, ctx, p)

#define MEMCG_BPF_OOM(policy, ctx, p)                                    \
	MEMCG_BPF_DEFINE_HOOK(policy, oom, ctx, p)                       \
	SEC("?fentry/mem_cgroup_out_of_memory")                          \
	int BPF_PROG(oom__0, struct mem_cgroup *memcg, unsigned int gfp) \
	{                                                                \
		struct memcg_bpf_ctx event = {.gfp = gfp};               \
                                                                         \
		return policy##_oom_entry(memcg->css.cgroup, &event);    \
	}                                                                \
	MEMCG_BPF_BODY(policy, oom, ctx, p)

#endif
