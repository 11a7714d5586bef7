/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file cache of the subtree, exactly. memcg_bpf_file_cache() reads the kernel's statistics,
 * which are up to 2 s old: too old for a decision at a limit. This adds up the lengths of the LRU
 * lists of each cgroup in the subtree, which takes about 100 ns for each.
 */
#ifndef MEMCG_BPF_FILE_CACHE_H
#define MEMCG_BPF_FILE_CACHE_H

/* Cgroups of a subtree that are visited; in a larger one, the statistics are used. */
#define MEMCG_BPF_FILE_CACHE_CGROUPS 256
#define MEMCG_BPF_FILE_CACHE_NODES   8 /* NUMA nodes whose lists are read */
#define MEMCG_BPF_FILE_CACHE_STEPS   (MEMCG_BPF_FILE_CACHE_CGROUPS * (2 + MEMCG_BPF_FILE_CACHE_NODES))

#define MEMCG_BPF_GENERATIONS 4 /* of the multi-generational LRU */

/* The lists are read in pairs. */
_Static_assert(LRU_ACTIVE_FILE == LRU_INACTIVE_FILE + 1, "order of the LRU lists");

/* The subtree in preorder. Addresses are numbers: the kernel's lists are followed by reads that can
 * fail, so that a cgroup that is removed meanwhile does no harm. */
struct memcg_bpf_file_cache_walk {
	__u64 root; /* address of the css where the walk began */
	__u64 css;
	__u64 nodes; /* of the machine, limited to those above */
	__u64 node;  /* the one whose lists are read next */
	__u64 left;  /* all below `css` has been visited */
	__u64 pages;
	__u64 complete;
};

static __always_inline __u64 memcg_bpf_read_u64(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/* Adds the lists of one node. */
static __always_inline void memcg_bpf_file_cache_add(struct memcg_bpf_file_cache_walk *at)
{
	__u64 lists =
		memcg_bpf_read_u64(at->css + bpf_core_field_offset(struct mem_cgroup, nodeinfo) +
				   (at->node & (MEMCG_BPF_FILE_CACHE_NODES - 1)) * sizeof(__u64));
	unsigned long pair[2];
	long generations = 0;

	if (!lists)
		return;
	if (bpf_core_field_exists(struct mem_cgroup_per_node, lruvec.lrugen.nr_pages)) {
		__u64 file =
			lists + sizeof(long) * __MAX_NR_ZONES +
			bpf_core_field_offset(struct mem_cgroup_per_node, lruvec.lrugen.nr_pages);

		for (int i = 0; i < MEMCG_BPF_GENERATIONS * __MAX_NR_ZONES; i++)
			generations += memcg_bpf_read_u64(
				file + sizeof(long) * (i / __MAX_NR_ZONES * 2 * __MAX_NR_ZONES +
						       i % __MAX_NR_ZONES));
	}
	if (generations > 0) /* each is updated on its own, and can be negative */
		at->pages += generations;
	lists += bpf_core_field_offset(struct mem_cgroup_per_node, lru_zone_size) +
		 sizeof(long) * LRU_INACTIVE_FILE;
	for (int zone = 0; zone < __MAX_NR_ZONES; zone++) {
		pair[0] = pair[1] = 0;
		bpf_probe_read_kernel(pair, sizeof(pair),
				      (void *)(lists + sizeof(long) * NR_LRU_LISTS * zone));
		at->pages += pair[0] + pair[1];
	}
}

static long memcg_bpf_file_cache_step(__u64 i, struct memcg_bpf_file_cache_walk *at)
{
	__u64 children = at->css + bpf_core_field_offset(struct cgroup_subsys_state, children);
	__u64 sibling = bpf_core_field_offset(struct cgroup_subsys_state, sibling);
	__u64 next, parent;

	if (!at->left && at->node < at->nodes) {
		memcg_bpf_file_cache_add(at);
		at->node++;
		return 0;
	}
	if (!at->left) {
		next = memcg_bpf_read_u64(children);
		if (next && next != children) {
			at->css = next - sibling;
			at->node = 0;
			return 0;
		}
	}
	if (at->css == at->root) {
		at->complete = 1;
		return 1;
	}
	next = memcg_bpf_read_u64(at->css + sibling);
	parent = memcg_bpf_read_u64(at->css +
				    bpf_core_field_offset(struct cgroup_subsys_state, parent));
	if (!next || !parent)
		return 1;
	at->left = next == parent + bpf_core_field_offset(struct cgroup_subsys_state, children);
	at->css = at->left ? parent : next - sibling;
	at->node = 0;
	return 0;
}

static __noinline bool memcg_bpf_file_cache_sum(struct cgroup_subsys_state *css, __u64 *pages)
{
	volatile __u64 *zero = &memcg_globals.zero; /* see internal/ancestors.h */
	__u64 nodes = memcg_globals.nodes;
	struct memcg_bpf_file_cache_walk at = {
		.root = (__u64)css,
		.css = (__u64)css,
		.nodes = nodes < MEMCG_BPF_FILE_CACHE_NODES ? nodes : MEMCG_BPF_FILE_CACHE_NODES,
		.node = *zero,
		.left = *zero,
		.pages = *zero,
	};

	bpf_loop(MEMCG_BPF_FILE_CACHE_STEPS, memcg_bpf_file_cache_step, &at, 0);
	*pages = at.pages;
	return at.complete && nodes <= MEMCG_BPF_FILE_CACHE_NODES;
}

/* The file cache of the subtree, now, in bytes. */
static __always_inline __u64 memcg_bpf_file_cache_now(struct memcg_bpf_ctx *ctx)
{
	__u64 pages = 0;

	if (memcg_bpf_file_cache_sum(memcg_bpf_to_call(ctx)->css, &pages))
		return pages << MEMCG_BPF_PAGE_SHIFT;
	return memcg_bpf_file_cache(ctx);
}

#endif
