/* SPDX-License-Identifier: GPL-2.0-only */
/* Stalls of cgroups with memory.low or memory.min, and the limits that cause them; see
 * contention.h. */
#ifndef MEMCG_BPF_CORE_PROTECTED_STALL_H
#define MEMCG_BPF_CORE_PROTECTED_STALL_H

struct limit_search {
	struct cgroup_subsys_state *css;
	__u64 by;
};

static long find_limiting_cgroup_step(__u64 i, struct limit_search *at)
{
	__u64 usage = MEMCG_BPF_READ(at->css, memory.usage.counter);
	__u64 limit = MEMCG_BPF_READ(at->css, memory.max);
	__u64 high = MEMCG_BPF_READ(at->css, memory.high);
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);

	if (high < limit)
		limit = high;
	if (usage >= limit - limit / 32) {
		at->by = memcg_bpf_css_id(at->css);
		return 1;
	}
	if (!parent)
		return 1;
	at->css = parent;
	return 0;
}

/*
 * Does the cgroup have memory.low or memory.min? With memory_recursiveprot, which systemd mounts,
 * the effective values include protection of ancestors.
 */
static __always_inline bool is_protected(struct cgroup_subsys_state *css)
{
	return MEMCG_BPF_READ(css, memory.low) | MEMCG_BPF_READ(css, memory.min) |
	       MEMCG_BPF_READ(css, memory.elow) | MEMCG_BPF_READ(css, memory.emin);
}

static __noinline bool owned_by_root(struct cgroup_subsys_state *css)
{
	struct cgroup *cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, cgroup);
	struct kernfs_node *node = MEMCG_BPF_FIELD(struct cgroup, cgroup, kn);
	struct kernfs_iattrs *attributes = MEMCG_BPF_FIELD(struct kernfs_node, node, iattr);

	return !attributes || !MEMCG_BPF_FIELD(struct kernfs_iattrs, attributes, ia_uid.val);
}

/*
 * Is the stalled task's memory protected? `limit` is the cgroup at whose limit it stalls: the
 * nearest from its own up whose usage is at its limit, because the kernel checks that one first; 0:
 * the machine's memory. Protection set by a user other than root counts only within a limit set by
 * a user, too.
 */
static __noinline bool is_stalled_protected(struct task_struct *task, __u64 *limit)
{
	struct cgroup_subsys_state *css = memcg_bpf_task_css(task);
	struct limit_search at = {.css = css};

	if (!is_protected(css))
		return false;
	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, find_limiting_cgroup_step, &at, 0);
	*limit = at.by;
	return owned_by_root(css) || (at.by && !owned_by_root(at.css));
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
	for (int i = 0; i < MEMCG_BPF_STALL_LEVELS; i++)
		it->ancestors[i] = i < s->bound ? s->cgroup[i] : 0;
}

#endif
