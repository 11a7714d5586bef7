/* SPDX-License-Identifier: GPL-2.0-only */
/* From a task or a memcg up through the cgroups above it: who governs here? Not for policies: for
 * the hooks. */
#ifndef MEMCG_BPF_ANCESTORS_H
#define MEMCG_BPF_ANCESTORS_H

/* Since 6.2; before, fields are read through bpf_probe_read_kernel(). */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/* A field of a kernel struct of which only the address is known. */
#define MEMCG_BPF_FIELD(type, pointer, field)                                                    \
	({                                                                                       \
		typeof(((type *)0)->field) __value;                                              \
		const void *__at = (pointer); /* only the kernel's structs relocate */           \
		if (bpf_rdonly_cast)                                                             \
			__value = ((type *)bpf_rdonly_cast(__at, bpf_core_type_id_kernel(type))) \
					  ->field;                                               \
		else                                                                             \
			__value = BPF_CORE_READ((type *)__at, field);                            \
		__value;                                                                         \
	})

#define MEMCG_BPF_READ(css, field) MEMCG_BPF_FIELD(struct mem_cgroup, css, field)

#if defined(__TARGET_ARCH_x86)
#define MEMCG_BPF_PAGE_SHIFT 12
#else /* arm64 is built for pages of 4, 16 or 64 KiB */
#define MEMCG_BPF_PAGE_SHIFT memcg_globals.page_shift
#endif

/* The nearest cgroup with a memory controller: who pays. Never NULL under cgroup v2. */
static __always_inline struct cgroup_subsys_state *memcg_bpf_task_css(struct task_struct *task)
{
	return task->cgroups->subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)];
}

static __always_inline struct cgroup *memcg_bpf_task_cgroup(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp;
}

/* The memory controller's side of a cgroup; NULL when the controller is not enabled there. */
static __always_inline struct cgroup_subsys_state *memcg_bpf_css(struct cgroup *cgroup)
{
	return cgroup->subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)];
}

/* Of a cgroup of which only the memory controller's side is at hand. */
static __always_inline __u64 memcg_bpf_css_id(struct cgroup_subsys_state *css)
{
	struct cgroup *cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, cgroup);
	struct kernfs_node *node = MEMCG_BPF_FIELD(struct cgroup, cgroup, kn);

	return MEMCG_BPF_FIELD(struct kernfs_node, node, id);
}

static __always_inline struct cgroup *memcg_bpf_cgroup_parent(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *parent = cgroup->self.parent;

	return parent ? parent->cgroup : NULL;
}

#define MEMCG_BPF_SKIPPED_LEVELS_MAX 1024 /* levels below MEMCG_BPF_MAX_LEVEL that we climb */

struct memcg_bpf_to_max_level_iter {
	struct cgroup *cgroup;
};

static long memcg_bpf_to_max_level_step(__u64 i, struct memcg_bpf_to_max_level_iter *at)
{
	struct cgroup *parent = memcg_bpf_cgroup_parent(at->cgroup);

	if (!parent) /* never, for the root is not deep; and for the verifier no pointer */
		return 1;
	at->cgroup = parent;
	return parent->level <= MEMCG_BPF_MAX_LEVEL;
}

/*
 * Climbs to the deepest cgroup that can be governed. A container may nest its own cgroups as it
 * likes, and must not slip out from under its policy by doing so: NULL (deeper than anybody has use
 * for) is for the caller to treat as hostile. By bpf_loop(), of which the verifier looks at one
 * step; out of line, for nearly nobody nests as deep.
 */
static __noinline struct cgroup *memcg_bpf_to_max_level(struct cgroup *cgroup)
{
	struct memcg_bpf_to_max_level_iter at = {.cgroup = cgroup};

	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, memcg_bpf_to_max_level_step, &at, 0);
	cgroup = at.cgroup;
	return cgroup->level <= MEMCG_BPF_MAX_LEVEL ? cgroup : NULL;
}

/* Visits a cgroup and all above it; a level is at most MEMCG_BPF_MAX_LEVEL after
 * memcg_bpf_to_max_level().
 */
#define memcg_bpf_for_each_ancestor(cgroup, i)                \
	for (int i = 0; i <= MEMCG_BPF_MAX_LEVEL && (cgroup); \
	     i++, (cgroup) = memcg_bpf_cgroup_parent(cgroup))

/*
 * Visits those whose bit is set in `above`, the nearest first. `self` is a cgroup's own state, from
 * which one load leads to the next; self->cgroup is the cgroup.
 */
#define memcg_bpf_for_each_bound(self, ancestors, i)                               \
	for (int i = 0; i <= MEMCG_BPF_MAX_LEVEL && (ancestors) && (self);         \
	     i++, (ancestors) >>= 1, (self) = (ancestors) ? (self)->parent : NULL) \
		if (!((ancestors)&1))                                              \
			continue;                                                  \
		else

/* What is above a cgroup, in one number, so that it is read and written whole. 0: nothing governs
 * it. */
#define MEMCG_BPF_ANC_MASK                                                    \
	((1ULL << (MEMCG_BPF_MAX_LEVEL + 1)) - 1) /* bit n: the nth cgroup up \
						   */
#define MEMCG_BPF_SLOT_SHIFT 40			  /* from here the slot of the nearest */
#define MEMCG_BPF_SLOT_MASK  (MEMCG_BPF_MAX_BINDINGS - 1)
#define MEMCG_BPF_NO_SLOT    (~0U)
#define MEMCG_BPF_ANC_SKIPPED \
	(1ULL << 62) /* bits count from memcg_bpf_to_max_level(), not from the cgroup */
#define MEMCG_BPF_ANC_TOO_DEEP (1ULL << 63) /* nested deeper than anybody has use for */

/*
 * Asks the map of bindings for every cgroup from here up. The verifier must not follow which bits
 * are set: it would take every combination for a state of its own.
 */
static __always_inline __u64 memcg_bpf_find_ancestors(struct cgroup *cgroup)
{
	volatile __u64 *zero = &memcg_globals.zero;
	__u64 ancestors = *zero;

	if (cgroup->level > MEMCG_BPF_MAX_LEVEL) {
		cgroup = memcg_bpf_to_max_level(cgroup);
		if (!cgroup)
			return MEMCG_BPF_ANC_TOO_DEEP;
		ancestors = MEMCG_BPF_ANC_SKIPPED ^ *zero;
	}
	memcg_bpf_for_each_ancestor(cgroup, i)
	{
		__u64 id = cgroup->kn->id;
		struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

		if (!binding)
			continue;
		if (!(ancestors & MEMCG_BPF_ANC_MASK))
			ancestors |= (__u64)(binding->slot & MEMCG_BPF_SLOT_MASK)
				     << MEMCG_BPF_SLOT_SHIFT;
		ancestors = (ancestors | 1ULL << i) ^ *zero;
	}
	return ancestors & MEMCG_BPF_ANC_MASK ? ancestors : 0;
}

/* The bindings' number now. What was found out under another number counts no more. */
static __always_inline __u64 memcg_bpf_generation(void)
{
	return *(volatile __u64 *)&memcg_globals.generation;
}

/*
 * Nothing governs this cgroup, and somebody found that out since the last change of a binding. One
 * word says which cgroup and when, so that it can be shared by all CPUs: 40 bits of a serial number
 * that is never used twice, 24 of the generation (see changed() in core/bind.h for what happens
 * when they are used up).
 */
#define MEMCG_BPF_NO_POLICY_GENERATION_BITS 24

static __always_inline __u64 memcg_bpf_no_policy_word(__u64 serial, __u64 generation)
{
	return serial << MEMCG_BPF_NO_POLICY_GENERATION_BITS |
	       (generation & ((1ULL << MEMCG_BPF_NO_POLICY_GENERATION_BITS) - 1));
}

static __always_inline volatile __u64 *memcg_bpf_no_policy_entry(__u64 serial)
{
	return &memcg_globals.no_policy_cache[serial & (MEMCG_BPF_NO_POLICY_CACHE - 1)];
}

static __always_inline bool memcg_bpf_no_policy(struct cgroup *cgroup)
{
	__u64 serial = cgroup->self.serial_nr;

	return *memcg_bpf_no_policy_entry(serial) ==
	       memcg_bpf_no_policy_word(serial, memcg_bpf_generation());
}

/* Out of line, to leave the registers to those who know already. */
static __noinline __u64 memcg_bpf_ancestors_fill(struct cgroup *cgroup, __u64 generation,
						 void *cache, __u32 size)
{
	__u64 serial = cgroup->self.serial_nr, ancestors = memcg_bpf_find_ancestors(cgroup);
	__u32 index = serial & (size - 1);
	volatile struct memcg_bpf_ancestor_entry *entry = bpf_map_lookup_elem(cache, &index);

	if (!ancestors) {
		*memcg_bpf_no_policy_entry(serial) = memcg_bpf_no_policy_word(serial, generation);
		return 0;
	}
	if (entry) {
		entry->serial = 0;
		entry->ancestors = ancestors;
		entry->generation = generation;
		entry->serial = serial;
	}
	return ancestors;
}

/*
 * Which cgroups from here up are governed. Nearly always nothing has changed since this CPU last
 * asked for the same cgroup: ancestry never changes, and bindings are counted. `cache` is the
 * asking program's own: the kernel never runs a program on a CPU on which it is running already, so
 * no entry is half one cgroup's and half another's.
 */
static __always_inline __u64 memcg_bpf_ancestors_cached(struct cgroup *cgroup, void *cache,
							__u32 size)
{
	__u64 serial = cgroup->self.serial_nr, generation = memcg_bpf_generation();
	__u32 index = serial & (size - 1);
	volatile struct memcg_bpf_ancestor_entry *entry = bpf_map_lookup_elem(cache, &index);

	if (entry) {
		__u64 ancestors = entry->ancestors;

		if (entry->serial == serial && entry->generation == generation)
			return ancestors;
	}
	return memcg_bpf_ancestors_fill(cgroup, generation, cache, size);
}

/* The last answers of one program, on each CPU. `size`: a power of two. */
#define MEMCG_BPF_ANCESTOR_CACHE(name, size)                    \
	struct {                                                \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);        \
		__uint(max_entries, size);                      \
		__type(key, __u32);                             \
		__type(value, struct memcg_bpf_ancestor_entry); \
	} name SEC(".maps")

#define memcg_bpf_ancestors(cgroup, cache) \
	memcg_bpf_ancestors_cached(cgroup, cache, sizeof(*(cache)->max_entries) / sizeof(int))

/* The slot of a governed cgroup; false when it has been unbound meanwhile. */
static __always_inline bool memcg_bpf_binding_slot(struct cgroup *cgroup, __u32 *slot)
{
	__u64 id = cgroup->kn->id;
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
