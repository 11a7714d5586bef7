/* SPDX-License-Identifier: GPL-2.0-only */
/* The time that tasks of bound cgroups are stalled on memory. */
#ifndef MEMCG_BPF_CORE_STALL_H
#define MEMCG_BPF_CORE_STALL_H

#include "task_state.h"
#include "protected_stall.h"

/* Is the stall to be counted for this bound cgroup? `timed`: by its clock as well. Global, so that
 * the verifier follows it once and not for every path to it. */
__noinline int stall_start_in(__u64 id, __u64 now, __u32 timed)
{
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);
	struct memcg_bpf_stall_clock *stalls = bpf_map_lookup_elem(&memcg_stalls, &id);

	if (!binding || !(binding->flags & MEMCG_BPF_BINDING_COUNT) || !stalls)
		return 0;
	if (timed)
		memcg_bpf_stall_clock_start(stalls, now);
	return 1;
}

struct stall_walk {
	struct cgroup_subsys_state *self;
	struct memcg_bpf_task_state *state;
	__u64 ancestors;
	__u64 now;
	__u64 limit_level;
	__u64 bound;
	__u64 timed;
};

/* One of the bound cgroups that `ancestors` says, the nearest first. By bpf_loop(), of which the
 * verifier follows one step. */
static long stall_start_step(__u64 i, struct stall_walk *at)
{
	/* Counts that the verifier knew would make each step a state of its own. */
	volatile __u64 *zero = &memcg_globals.zero;
	struct cgroup_subsys_state *self = at->self;
	__u64 n = at->bound;

	if (at->ancestors & 1) {
		__u64 id = self->cgroup->kn->id;
		bool timed = self->cgroup->level >= at->limit_level;

		if (n < MEMCG_BPF_STALL_LEVELS && stall_start_in(id, at->now, timed)) {
			at->state->cgroup[n & (MEMCG_BPF_STALL_LEVELS - 1)] = id;
			at->timed = (at->timed | (__u64)timed << n) ^ *zero;
			at->bound = (n + 1) ^ *zero;
		}
	}
	self = memcg_bpf_walk_next(self, &at->ancestors);
	if (!self)
		return 1;
	at->self = self;
	return 0;
}

/*
 * The clocks that run are those of the cgroup whose limit the task waits for and of the bound ones
 * below it; the counters are those of all. The end of the stall is counted for the same cgroups,
 * even if the task is moved meanwhile.
 */
static __noinline void stall_start(struct memcg_bpf_task_state *s, struct cgroup *cgroup,
				   __u64 ancestors, __u64 level)
{
	volatile __u64 *zero = &memcg_globals.zero;
	struct stall_walk at = {
		.state = s,
		.bound = *zero,
		.timed = *zero,
		.ancestors = ancestors,
		.now = s->stall,
		.limit_level = level,
	};

	s->bound = 0;
	at.self = memcg_bpf_walk_first(cgroup, &at.ancestors);
	if (!at.self)
		return;
	bpf_loop(MEMCG_BPF_MAX_LEVEL + 1, stall_start_step, &at, 0);
	s->bound = at.bound;
	s->timed = at.timed;
}

struct stall_stop_walk {
	struct memcg_bpf_task_state *state;
	__u64 now;
	__u64 took;
};

static long stall_stop_step(__u64 i, struct stall_stop_walk *at)
{
	struct memcg_bpf_task_state *s = at->state;
	struct memcg_bpf_stall_clock *stalls;
	struct memcg_bpf_counters *c;
	__u64 cgroup;

	if (i >= s->bound)
		return 1;
	cgroup = s->cgroup[i & (MEMCG_BPF_STALL_LEVELS - 1)];
	stalls = bpf_map_lookup_elem(&memcg_stalls, &cgroup);
	if (stalls && s->timed & 1ULL << (i & 63) && stalls->created <= s->stall)
		memcg_bpf_stall_clock_stop(stalls, at->now);
	c = bpf_map_lookup_elem(&memcg_counters, &cgroup);
	if (c) {
		memcg_bpf_add(&c->stalls, 1);
		memcg_bpf_add(&c->stall_ns, at->took);
	}
	return 0;
}

static __noinline void stall_stop(struct memcg_bpf_task_state *s, __u64 id, __u64 now)
{
	struct stall_stop_walk at = {.state = s, .now = now, .took = now - s->stall};

	bpf_loop(MEMCG_BPF_STALL_LEVELS, stall_stop_step, &at, 0);
	if (s->protected)
		account_stall(s, id, now);
	s->stall_ns = at.took;
	s->stall = 0;
}

static long stall_cancel_step(__u64 i, struct stall_stop_walk *at)
{
	struct memcg_bpf_task_state *s = at->state;
	struct memcg_bpf_stall_clock *stalls;
	__u64 cgroup;

	if (i >= s->bound)
		return 1;
	cgroup = s->cgroup[i & (MEMCG_BPF_STALL_LEVELS - 1)];
	stalls = bpf_map_lookup_elem(&memcg_stalls, &cgroup);
	if (stalls && s->timed & 1ULL << (i & 63) && stalls->created <= s->stall)
		memcg_bpf_stall_clock_stop(stalls, at->now);
	return 0;
}

/*
 * The task reclaims memory because of the limit of this cgroup, so this is the limit that it waits
 * for. find_limit() cannot know it of a charge that is larger than its distance from a limit, such
 * as that of a huge page: the stall begins before the reclaim.
 */
MEMCG_BPF_ANCESTOR_CACHE(ancestors_limit, MEMCG_BPF_ANCESTOR_CACHE_SMALL);
static __noinline void limit_known(struct memcg_bpf_task_state *s, struct cgroup *limit, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *cgroup = memcg_bpf_task_cgroup(task);
	struct stall_stop_walk at = {.state = s, .now = now};
	__u64 id = limit->kn->id, level = limit->level;

	/* Memory can be charged to a cgroup in which the task is not. */
	if (s->limit == id || !is_below(memcg_bpf_task_css(task), id))
		return;
	bpf_loop(MEMCG_BPF_STALL_LEVELS, stall_cancel_step, &at, 0);
	s->limit = id;
	s->limit_level = level;
	s->stall = now; /* as the clocks, which leave out bindings made since */
	stall_start(s, cgroup, memcg_bpf_ancestors(cgroup, &ancestors_limit), level);
}

/*
 * A stall within a stall is part of it, as in PSI: its `flags` are further down the same stack. If
 * the known stall does not enclose this one, its end was missed.
 */
MEMCG_BPF_ANCESTOR_CACHE(ancestors_stall, MEMCG_BPF_ANCESTOR_CACHE_SMALL);
SEC("?fentry/psi_memstall_enter")
int BPF_PROG(count_stall_begin__0, unsigned long *flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *cgroup = memcg_bpf_task_cgroup(task);
	struct memcg_bpf_task_state *s;
	__u64 ancestors = 0, now;
	struct protection protection = {};
	struct limit limit = {};
	bool watching;

	if (!memcg_bpf_no_policy(cgroup))
		ancestors = memcg_bpf_ancestors(cgroup, &ancestors_stall);
	if (!ancestors && !memcg_globals.watch_protected)
		return 0;
	now = bpf_ktime_get_ns();
	watching = watched(memcg_globals.watch_protected, now);
	if (!ancestors && !watching)
		return 0;
	s = memcg_bpf_task_state();
	if (s && s->proactive)
		return 0;
	find_limit(memcg_bpf_task_css(task), now, &limit);
	if (watching)
		find_protection(task, &protection);
	if (!ancestors && !protection.protected)
		return 0;
	s = task_state_create();
	if (!s || (s->stall && (__u64)flags < s->stack_addr))
		return 0;
	if (s->stall)
		stall_stop(s, cgroup->kn->id, now);
	s->stall = now;
	s->stack_addr = (__u64)flags;
	s->protected = protection.protected;
	s->delegated = protection.delegated;
	s->delegated_level = protection.level;
	s->limit = limit.id;
	s->limit_level = limit.level;
	stall_start(s, cgroup, ancestors, limit.level);
	return 0;
}

static __always_inline void psi_leave(unsigned long *flags)
{
	struct memcg_bpf_task_state *s = memcg_bpf_task_state();

	if (s && s->stall && s->stack_addr == (__u64)flags)
		stall_stop(s, memcg_bpf_current()->kn->id, bpf_ktime_get_ns());
}

SEC("?fentry/psi_memstall_leave")
int BPF_PROG(count_stall_end__0, unsigned long *flags)
{
	psi_leave(flags);
	return 0;
}

/*
 * A second time: the kernel skips a program while the same program is interrupted on the same CPU,
 * and a stall without an end would never stop its clock.
 */
SEC("?fexit/psi_memstall_leave")
int BPF_PROG(count_stall_ended__0, unsigned long *flags)
{
	psi_leave(flags);
	return 0;
}

#endif
