/* SPDX-License-Identifier: GPL-2.0-only */
/* Stalls of cgroups with memory.low or memory.min; see contention.h. */
#ifndef MEMCG_BPF_CORE_PROTECTED_STALL_H
#define MEMCG_BPF_CORE_PROTECTED_STALL_H

#include "limit.h"

/*
 * Does the cgroup have memory.low or memory.min? With memory_recursiveprot, which systemd mounts,
 * the effective values include protection of ancestors.
 */
static __always_inline bool is_protected(struct cgroup_subsys_state *css)
{
	return MEMCG_BPF_READ(css, memory.low) | MEMCG_BPF_READ(css, memory.min) |
	       MEMCG_BPF_READ(css, memory.elow) | MEMCG_BPF_READ(css, memory.emin);
}

/*
 * Is the memory of the stalled task protected? Protection set by a user other than root counts only
 * within a limit set by a user, too.
 */
static __always_inline bool is_stalled_protected(struct cgroup_subsys_state *css,
						 const struct limit *limit)
{
	return is_protected(css) && (owned_by_root(css) || limit->by_user);
}

/* Adds the end of a stall to the entry of the protected cgroup. */
static __noinline void account_stall(struct memcg_bpf_task_state *s, __u64 id, __u64 now)
{
	struct memcg_bpf_protected_stalls fresh = {.begin = now}, *it;
	__u64 from;

	it = bpf_map_lookup_elem(&memcg_protected_stalls, &id);
	if (!it) {
		bpf_map_update_elem(&memcg_protected_stalls, &id, &fresh, BPF_NOEXIST);
		it = bpf_map_lookup_elem(&memcg_protected_stalls, &id);
		if (!it)
			return;
	}
	if (it->limit != s->limit) {
		it->limit = s->limit;
		it->before = 0;
		it->stall = 0;
		it->begin = now;
	}
	if (now - it->begin >= MEMCG_BPF_PROTECTED_STALLS_SPAN) {
		it->before = now - it->begin < 2 * MEMCG_BPF_PROTECTED_STALLS_SPAN ? it->stall : 0;
		it->stall = 0;
		it->begin = now;
	}
	/* Several tasks stall at once: time is not counted twice. */
	from = s->stall > it->until ? s->stall : it->until;
	if (now > from)
		memcg_bpf_add(&it->stall, now - from);
	it->until = now;
	for (int i = 0; i < MEMCG_BPF_PROTECTED_LEVELS; i++) {
		it->ancestors[i] = i < s->bound ? s->cgroup[i] : 0;
		if (i >= s->bound)
			break;
	}
}

#endif
