/* SPDX-License-Identifier: GPL-2.0-only */
/* How long the tasks of governed cgroups wait for memory. */
#ifndef MEMCG_BPF_CORE_WAIT_H
#define MEMCG_BPF_CORE_WAIT_H

#include "started.h"
#include "suffer.h"

/* Global, so that the verifier looks at it once and not for every way up to it. */
__noinline int stall_begins_in(__u64 id, __u64 now)
{
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);
	struct memcg_bpf_stalls *stalls = bpf_map_lookup_elem(&memcg_stalls, &id);

	if (!binding || !(binding->flags & MEMCG_BPF_BINDING_COUNT) || !stalls)
		return 0;
	memcg_bpf_stall_begins(stalls, now);
	return 1;
}

/* The stall is timed for the governed cgroups above the task now: its end is theirs, too. */
static __noinline void stall_begins(struct memcg_bpf_started *s, struct cgroup *cgroup, __u64 above,
				    __u64 now)
{
	volatile __u64 *zero = &memcg_world.zero; /* the verifier must not count levels either */
	struct cgroup_subsys_state *self;
	__u64 n = *zero;

	if (above & MEMCG_BPF_DEEP)
		cgroup = memcg_bpf_climb(cgroup);
	above &= MEMCG_BPF_ABOVE;
	self = cgroup ? &cgroup->self : NULL;
	memcg_bpf_for_each_governed(self, above, i)
	{
		__u64 id = self->cgroup->kn->id;

		if (n >= MEMCG_BPF_STALL_LEVELS || !stall_begins_in(id, now))
			continue;
		s->cgroup[n & (MEMCG_BPF_STALL_LEVELS - 1)] = id;
		n = (n + 1) ^ *zero;
	}
	s->governed = n;
}

/* The current task waits no more. */
static __noinline void stall_ends(struct memcg_bpf_started *s, __u64 id, __u64 now)
{
	__u64 took = now - s->stall;

	for (int i = 0; i < MEMCG_BPF_STALL_LEVELS && i < s->governed; i++) {
		__u64 cgroup = s->cgroup[i];
		struct memcg_bpf_counters *c = bpf_map_lookup_elem(&memcg_counters, &cgroup);
		struct memcg_bpf_stalls *stalls = bpf_map_lookup_elem(&memcg_stalls, &cgroup);

		if (stalls && stalls->born <= s->stall)
			memcg_bpf_stall_ends(stalls, now);
		if (c) {
			memcg_bpf_add(&c->stalls, 1);
			memcg_bpf_add(&c->stall_ns, took);
		}
	}
	if (s->suffers)
		suffers(s, id, now);
	s->stall_took = took;
	s->stall = 0;
}

/*
 * A stall within a stall is part of it, as in PSI: its `flags` are further down the same stack. If
 * the stall we know of is not around this one, we have missed its end.
 */
MEMCG_BPF_REMEMBER(seen_stall, MEMCG_BPF_SEEN_FEW);
SEC("?fentry/psi_memstall_enter")
int BPF_PROG(count_stall_begin__0, unsigned long *flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *cgroup = memcg_bpf_task_cgroup(task);
	struct memcg_bpf_started *s;
	__u64 now = 0, above = 0, limit = 0;
	bool suffers = false;

	if (!memcg_bpf_calm(cgroup))
		above = memcg_bpf_above(cgroup, &seen_stall);
	if (memcg_world.watch_protected) {
		now = bpf_ktime_get_ns();
		suffers = watched(memcg_world.watch_protected, now) && suffers_now(task, &limit);
	}
	if (!above && !suffers)
		return 0;
	s = started_of_current();
	if (!s || (s->stall && (__u64)flags < s->frame))
		return 0;
	if (!now)
		now = bpf_ktime_get_ns();
	if (s->stall)
		stall_ends(s, cgroup->kn->id, now);
	s->stall = now;
	s->frame = (__u64)flags;
	s->suffers = suffers;
	s->limit = limit;
	stall_begins(s, cgroup, above, now);
	return 0;
}

static __always_inline void leaves(unsigned long *flags)
{
	struct memcg_bpf_started *s = memcg_bpf_started();

	if (s && s->stall && s->frame == (__u64)flags)
		stall_ends(s, memcg_bpf_current()->kn->id, bpf_ktime_get_ns());
}

SEC("?fentry/psi_memstall_leave")
int BPF_PROG(count_stall_end__0, unsigned long *flags)
{
	leaves(flags);
	return 0;
}

/*
 * Once more: the kernel skips a program while the same program is interrupted on the same CPU, and
 * a stall without an end would look like one that lasts for ever.
 */
SEC("?fexit/psi_memstall_leave")
int BPF_PROG(count_stall_ended__0, unsigned long *flags)
{
	leaves(flags);
	return 0;
}

#endif
