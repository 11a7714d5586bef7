/* SPDX-License-Identifier: GPL-2.0-only */
/* From a task or a memcg up through the cgroups above it: who governs here? Not for policies: for
 * the hooks. */
#ifndef MEMCG_BPF_WALK_H
#define MEMCG_BPF_WALK_H

/* Since 6.2; before, memcg fields are read through bpf_probe_read_kernel(). */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define MEMCG_BPF_READ(css, field)                                                             \
	({                                                                                     \
		typeof(((struct mem_cgroup *)0)->field) __value;                               \
		const void *__css = (css); /* only the kernel's structs are relocated */       \
		if (bpf_rdonly_cast)                                                           \
			__value = ((struct mem_cgroup *)bpf_rdonly_cast(                       \
					   __css, bpf_core_type_id_kernel(struct mem_cgroup))) \
					  ->field;                                             \
		else                                                                           \
			__value = BPF_CORE_READ((struct mem_cgroup *)__css, field);            \
		__value;                                                                       \
	})

#define MEMCG_BPF_PAGE_SHIFT 12

/* Fibonacci hashing: ids are inode numbers, close together. */
static __always_inline __u32 memcg_bpf_place(__u64 cgroup)
{
	return (cgroup * 0x9e3779b97f4a7c15ULL) >> 50; /* 64 - log2(MEMCG_BPF_FILTER_SIZE) */
}

static __always_inline struct memcg_bpf_world *memcg_bpf_world(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&memcg_world, &zero);
}

static __always_inline struct memcg_bpf_binding *memcg_bpf_lookup(struct memcg_bpf_world *world,
								  __u64 cgroup)
{
	if (!world->count[memcg_bpf_place(cgroup)])
		return NULL;
	return bpf_map_lookup_elem(&memcg_bindings, &cgroup);
}

/* The nearest cgroup with a memory controller: never NULL under cgroup v2. */
static __always_inline struct cgroup_subsys_state *memcg_bpf_task_css(struct task_struct *task)
{
	return task->cgroups->subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)];
}

#define MEMCG_BPF_SKIP_MAX \
	1024 /* levels below MEMCG_BPF_MAX_LEVEL that we climb; bounds the verifier's work */

/*
 * Climbs to the deepest cgroup that can be governed. A container may nest its own cgroups as it
 * likes, and must not slip out from under its policy by doing so: NULL (deeper than anybody has use
 * for) is for the caller to treat as hostile.
 */
static __always_inline struct cgroup_subsys_state *memcg_bpf_climb(struct cgroup_subsys_state *css)
{
	if (css->cgroup->level <= MEMCG_BPF_MAX_LEVEL)
		return css;
	for (int i = 0; i < MEMCG_BPF_SKIP_MAX; i++) {
		css = css->parent;
		if (!css || css->cgroup->level <= MEMCG_BPF_MAX_LEVEL)
			return css;
	}
	return NULL;
}

/* Visits css and all above it; a level is at most MEMCG_BPF_MAX_LEVEL after memcg_bpf_climb(). */
#define memcg_bpf_for_each_up(css, i) \
	for (int i = 0; i <= MEMCG_BPF_MAX_LEVEL && (css); i++, (css) = (css)->parent)

static __always_inline void memcg_bpf_add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

#endif
