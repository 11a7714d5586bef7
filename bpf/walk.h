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

static __always_inline struct memcg_bpf_world *memcg_bpf_world(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&memcg_world, &zero);
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

/* Visits the cgroups among them whose bit is set in `above`, the nearest first. */
#define memcg_bpf_for_each_governed(css, above, i)                    \
	for (int i = 0; i <= MEMCG_BPF_MAX_LEVEL && (above) && (css); \
	     i++, (above) >>= 1, (css) = (css)->parent)               \
		if (!((above)&1))                                     \
			continue;                                     \
		else

#define MEMCG_BPF_ABOVE	   ((1ULL << (MEMCG_BPF_MAX_LEVEL + 1)) - 1)
#define MEMCG_BPF_DEEP	   (1ULL << 62) /* bits count from memcg_bpf_climb(css), not from css */
#define MEMCG_BPF_TOO_DEEP (1ULL << 63) /* nested deeper than anybody has use for */

/* What is above a cgroup. */
struct memcg_bpf_above {
	__u64 bits; /* see struct memcg_bpf_seen */
	__u64 slot; /* of the nearest governed cgroup */
};

/*
 * Asks the map of bindings for every cgroup from css up. The verifier must not follow which bits
 * are set: it would take every combination for a state of its own.
 */
static __always_inline struct memcg_bpf_above memcg_bpf_look(struct memcg_bpf_world *world,
							     struct cgroup_subsys_state *css)
{
	volatile __u64 *zero = &world->zero;
	struct memcg_bpf_above above = {.bits = *zero, .slot = *zero};

	if (css->cgroup->level > MEMCG_BPF_MAX_LEVEL) {
		css = memcg_bpf_climb(css);
		if (!css) {
			above.bits = MEMCG_BPF_TOO_DEEP;
			return above;
		}
		above.bits = MEMCG_BPF_DEEP ^ *zero;
	}
	memcg_bpf_for_each_up(css, i)
	{
		__u64 id = css->cgroup->kn->id;
		struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

		if (!binding)
			continue;
		if (!(above.bits & MEMCG_BPF_ABOVE))
			above.slot = binding->slot;
		above.bits = (above.bits | 1ULL << i) ^ *zero;
	}
	return above;
}

/*
 * Which cgroups from css up are governed. Nearly always nothing has changed since this CPU last
 * asked for the same cgroup: ancestry never changes, and bindings are counted. The entry is read
 * before what it is checked by and written the other way round, for a task that preempts us here
 * may use it too.
 */
static __always_inline struct memcg_bpf_above memcg_bpf_above(struct memcg_bpf_world *world,
							      struct cgroup_subsys_state *css)
{
	__u64 serial = css->serial_nr;
	__u64 generation = *(volatile __u64 *)&world->generation;
	__u32 place = serial & (MEMCG_BPF_SEEN - 1);
	volatile struct memcg_bpf_seen *known = bpf_map_lookup_elem(&seen, &place);
	struct memcg_bpf_above above;

	if (known) {
		above.bits = known->above;
		above.slot = known->slot;
		if (known->serial == serial && known->generation == generation)
			return above;
	}
	above = memcg_bpf_look(world, css);
	if (known) {
		known->serial = 0;
		known->above = above.bits;
		known->slot = above.slot;
		known->generation = generation;
		known->serial = serial;
	}
	return above;
}

/* The slot of a governed cgroup; false when it has been unbound meanwhile. */
static __always_inline bool memcg_bpf_slot(struct cgroup_subsys_state *css, __u32 *slot)
{
	__u64 id = css->cgroup->kn->id;
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

	if (!binding)
		return false;
	*slot = binding->slot;
	return true;
}

static __always_inline void memcg_bpf_add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

#endif
