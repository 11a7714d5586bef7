/* SPDX-License-Identifier: GPL-2.0-only */
/* Stalls of cgroups with memory.low or memory.min; see contention.h. */
#ifndef MEMCG_BPF_CORE_PROTECTED_STALL_H
#define MEMCG_BPF_CORE_PROTECTED_STALL_H

#include "limit.h"

enum {
	PROTECTED_OUTSIDE = 1, /* for all cgroups, or those outside of the delegated one */
	PROTECTED_INSIDE = 2,  /* for cgroups below the delegated one */
};

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

/* The level of the root of the task's cgroup namespace; 0 on the host. */
static __always_inline __u64 namespace_level(struct task_struct *task)
{
	return task->nsproxy->cgroup_ns->root_cset->dfl_cgrp->level;
}

/*
 * Was the task's cgroup namespace made by root of the host? Others can make one below any cgroup of
 * their own, so that it says nothing about who set memory.low.
 */
static __always_inline bool has_host_namespace(struct task_struct *task)
{
	return task->nsproxy && !task->nsproxy->cgroup_ns->user_ns->level;
}

/* The protection of a stalled task's memory. */
struct protection {
	__u64 protected; /* PROTECTED_* */
	__u64 delegated; /* id of the outermost delegated cgroup; 0: none */
	__u64 level;	 /* of that cgroup */
};

struct delegation_search {
	struct cgroup_subsys_state *css;
	struct cgroup_subsys_state *root; /* the nearest whose protection only root can set */
	__u64 namespace_level;
	__u64 delegated;
	__u64 level;
};

static long find_delegated_step(__u64 i, struct delegation_search *at)
{
	struct cgroup_subsys_state *css = at->css;
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, parent);
	struct cgroup *cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, cgroup);
	__u64 level = MEMCG_BPF_FIELD(struct cgroup, cgroup, level);

	if (!parent)
		return 1;
	if (!owned_by_root(css)) {
		at->delegated = memcg_bpf_css_id(css);
		at->level = level;
		at->root = parent;
	} else if (at->namespace_level && level > at->namespace_level) {
		at->delegated = memcg_bpf_css_id(parent);
		at->level = level - 1;
		at->root = parent;
	}
	at->css = parent;
	return 0;
}

/*
 * A cgroup is delegated if it belongs to a user other than root, or if it is the root of the cgroup
 * namespace of the task, that is, a container's: root inside can write memory.low to the cgroups
 * below it. Such values count only for cgroups below the delegated one. Outside of it the task is
 * protected if the cgroup is in which the host's root has the last word.
 */
static __noinline int find_protection(struct task_struct *task, struct protection *result)
{
	struct cgroup_subsys_state *css = memcg_bpf_task_css(task);
	struct delegation_search at = {.css = css, .root = css};

	if (!is_protected(css))
		return 0;
	at.namespace_level = namespace_level(task);
	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, find_delegated_step, &at, 0);
	result->delegated = at.delegated;
	result->level = at.level;
	if (at.delegated)
		result->protected |= PROTECTED_INSIDE;
	if (has_host_namespace(task) && (!at.delegated || is_protected(at.root)))
		result->protected |= PROTECTED_OUTSIDE;
	return 0;
}

static const struct memcg_bpf_protected_stalls no_stalls;

struct ancestors_copy {
	struct memcg_bpf_protected_stalls *to;
	struct memcg_bpf_task_state *from;
};

/* By bpf_loop(), of which the verifier follows one step. */
static long copy_ancestor_step(__u64 i, struct ancestors_copy *at)
{
	if (i >= MEMCG_BPF_PROTECTED_LEVELS)
		return 1;
	if (i >= at->from->bound) {
		at->to->ancestors[i] = 0;
		return 1;
	}
	at->to->ancestors[i] = at->from->cgroup[i];
	return 0;
}

/* Adds the end of a stall to the entry of a protected cgroup. */
static __noinline void account_stall_in(void *map, __u64 id, struct memcg_bpf_task_state *s,
					__u64 now)
{
	struct memcg_bpf_protected_stalls *it;
	struct ancestors_copy copy = {.from = s};
	__u64 from;

	it = bpf_map_lookup_elem(map, &id);
	if (!it) {
		bpf_map_update_elem(map, &id, &no_stalls, BPF_NOEXIST);
		it = bpf_map_lookup_elem(map, &id);
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
	it->delegated = s->delegated;
	copy.to = it;
	bpf_loop(MEMCG_BPF_PROTECTED_LEVELS, copy_ancestor_step, &copy, 0);
}

/*
 * Outside of a delegated cgroup, all stalls below it are those of this one cgroup: however many
 * cgroups its owner makes, they take one entry. Those inside of it have a map of their own.
 */
static __noinline void account_stall(struct memcg_bpf_task_state *s, __u64 id, __u64 now)
{
	if (s->protected & PROTECTED_INSIDE)
		account_stall_in(&memcg_inner_protected_stalls, id, s, now);
	/* Nobody outside of the delegated cgroup can help with a limit inside of it. */
	if (s->delegated && s->limit && s->limit_level >= s->delegated_level)
		return;
	if (s->protected & PROTECTED_OUTSIDE)
		account_stall_in(&memcg_protected_stalls, s->delegated ? s->delegated : id, s, now);
}

#endif
