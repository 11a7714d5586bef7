/* SPDX-License-Identifier: GPL-2.0-only */
/* Which of the cgroups above a task are bound. */
#ifndef MEMCG_BPF_ANCESTORS_H
#define MEMCG_BPF_ANCESTORS_H

/* Since 6.2. On earlier kernels fields are read by bpf_probe_read_kernel(). */
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

/* Of the nearest cgroup with a memory controller, which is charged. Never NULL in cgroup v2. */
static __always_inline struct cgroup_subsys_state *memcg_bpf_task_css(struct task_struct *task)
{
	return task->cgroups->subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)];
}

static __always_inline struct cgroup *memcg_bpf_task_cgroup(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp;
}

/* The memory controller's state of a cgroup; NULL when the controller is not enabled there. */
static __always_inline struct cgroup_subsys_state *memcg_bpf_css(struct cgroup *cgroup)
{
	return cgroup->subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)];
}

/* The id of the cgroup of a controller's state. */
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

#define MEMCG_BPF_SKIPPED_LEVELS_MAX 1024 /* below MEMCG_BPF_MAX_LEVEL */

struct memcg_bpf_to_max_level_iter {
	struct cgroup *cgroup;
};

static long memcg_bpf_to_max_level_step(__u64 i, struct memcg_bpf_to_max_level_iter *at)
{
	struct cgroup *parent = memcg_bpf_cgroup_parent(at->cgroup);

	if (!parent) /* never at a deep level; for the verifier */
		return 1;
	at->cgroup = parent;
	return parent->level <= MEMCG_BPF_MAX_LEVEL;
}

/*
 * The deepest ancestor that can be bound. A container can nest cgroups below its own, and must not
 * escape its policy by that: for NULL (deeper than any program needs) the caller denies. By
 * bpf_loop(), of which the verifier follows one step; out of line, because such depths are rare.
 */
static __noinline struct cgroup *memcg_bpf_to_max_level(struct cgroup *cgroup)
{
	struct memcg_bpf_to_max_level_iter at = {.cgroup = cgroup};

	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, memcg_bpf_to_max_level_step, &at, 0);
	cgroup = at.cgroup;
	return cgroup->level <= MEMCG_BPF_MAX_LEVEL ? cgroup : NULL;
}

/*
 * Visits the cgroups whose bit is set in `ancestors`, the nearest first. `self` is the cgroup's own
 * state, from which one load leads to the next; self->cgroup is the cgroup.
 */
#define memcg_bpf_for_each_bound(self, ancestors, i)                               \
	for (int i = 0; i <= MEMCG_BPF_MAX_LEVEL && (ancestors) && (self);         \
	     i++, (ancestors) >>= 1, (self) = (ancestors) ? (self)->parent : NULL) \
		if (!((ancestors)&1))                                              \
			continue;                                                  \
		else

/*
 * The bound ancestors of a cgroup, and the cgroup itself, in one word, so that it is read and
 * written whole. Bit n: the nth cgroup up is bound. 0: none is.
 */
#define MEMCG_BPF_ANC_MASK ((1ULL << (MEMCG_BPF_MAX_LEVEL + 1)) - 1)
/* From this bit: the slot of the nearest. */
#define MEMCG_BPF_SLOT_SHIFT 40
#define MEMCG_BPF_SLOT_MASK  (MEMCG_BPF_MAX_BINDINGS - 1)
#define MEMCG_BPF_NO_SLOT    (~0U)
/* Bits count from memcg_bpf_to_max_level(), not from the cgroup. */
#define MEMCG_BPF_ANC_SKIPPED (1ULL << 62)
/* Nested deeper than any program needs. */
#define MEMCG_BPF_ANC_TOO_DEEP (1ULL << 63)

struct memcg_bpf_find_ancestors_iter {
	struct cgroup *cgroup;
	__u64 ancestors;
};

static long memcg_bpf_find_ancestors_step(__u64 i, struct memcg_bpf_find_ancestors_iter *at)
{
	struct cgroup *cgroup = at->cgroup, *parent = memcg_bpf_cgroup_parent(cgroup);
	__u64 id = cgroup->kn->id;
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

	if (binding) {
		if (!(at->ancestors & MEMCG_BPF_ANC_MASK))
			at->ancestors |= (__u64)(binding->slot & MEMCG_BPF_SLOT_MASK)
					 << MEMCG_BPF_SLOT_SHIFT;
		at->ancestors |= 1ULL << (i & 63);
	}
	if (!parent)
		return 1;
	at->cgroup = parent;
	return 0;
}

/*
 * Looks every cgroup from this one up to the root up in the map of bindings. By bpf_loop(), of
 * which the verifier follows one step: which bits are set would be a state of its own for every
 * combination, at every level.
 */
static __always_inline __u64 memcg_bpf_find_ancestors(struct cgroup *cgroup)
{
	volatile __u64 *zero = &memcg_globals.zero; /* the verifier must not know the result */
	struct memcg_bpf_find_ancestors_iter at = {.cgroup = cgroup, .ancestors = *zero};

	if (cgroup->level > MEMCG_BPF_MAX_LEVEL) {
		at.cgroup = memcg_bpf_to_max_level(cgroup);
		if (!at.cgroup)
			return MEMCG_BPF_ANC_TOO_DEEP;
		at.ancestors = MEMCG_BPF_ANC_SKIPPED ^ *zero;
	}
	bpf_loop(MEMCG_BPF_MAX_LEVEL + 1, memcg_bpf_find_ancestors_step, &at, 0);
	return at.ancestors & MEMCG_BPF_ANC_MASK ? at.ancestors : 0;
}

/* Changes with every change of a binding. */
static __always_inline __u64 memcg_bpf_generation(void)
{
	return *(volatile __u64 *)&memcg_globals.generation;
}

/*
 * The cache of cgroups without a policy. An entry is one word, so that all CPUs can share it: 40
 * bits of the cgroup's serial number, which is never used twice, and 24 of the generation in which
 * this was found out (see bump_generation() in core/binding.h for what happens when they wrap).
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

/* Out of line: inlined it would spill registers on the path that finds an entry. */
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
 * The bound ancestors of a cgroup. They are cached by CPU and cgroup, because ancestry never
 * changes and changes of bindings are counted. `cache` belongs to the calling program alone: the
 * kernel does not run a program on a CPU on which it is already running, so no entry mixes two
 * cgroups.
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

/* `size`: a power of two. */
#define MEMCG_BPF_ANCESTOR_CACHE(name, size)                    \
	struct {                                                \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);        \
		__uint(max_entries, size);                      \
		__type(key, __u32);                             \
		__type(value, struct memcg_bpf_ancestor_entry); \
	} name SEC(".maps")

#define memcg_bpf_ancestors(cgroup, cache) \
	memcg_bpf_ancestors_cached(cgroup, cache, sizeof(*(cache)->max_entries) / sizeof(int))

/*
 * For loops by bpf_loop() over the bound cgroups. The first: the cgroup itself, or the deepest that
 * can be bound; NULL if none is. `ancestors` then says of each whether it is bound, bit 0 of this
 * one.
 */
static __always_inline struct cgroup_subsys_state *memcg_bpf_walk_first(struct cgroup *cgroup,
									__u64 *ancestors)
{
	if (*ancestors & MEMCG_BPF_ANC_SKIPPED)
		cgroup = memcg_bpf_to_max_level(cgroup);
	*ancestors &= MEMCG_BPF_ANC_MASK;
	return cgroup && *ancestors ? &cgroup->self : NULL;
}

/* The parent; NULL if no cgroup above is bound. */
static __always_inline struct cgroup_subsys_state *
memcg_bpf_walk_next(struct cgroup_subsys_state *self, __u64 *ancestors)
{
	*ancestors >>= 1;
	return *ancestors ? self->parent : NULL;
}

/* The slot of a bound cgroup; false when it has been unbound meanwhile. */
static __always_inline bool memcg_bpf_binding_slot(struct cgroup *cgroup, __u32 *slot)
{
	__u64 id = cgroup->kn->id;
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

	if (!binding)
		return false;
	*slot = binding->slot;
	return true;
}

#endif
