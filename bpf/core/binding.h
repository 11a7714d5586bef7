/* SPDX-License-Identifier: GPL-2.0-only */
/* Bindings of cgroups to slots, and the commands by which the daemon changes them. */
#ifndef MEMCG_BPF_CORE_BINDING_H
#define MEMCG_BPF_CORE_BINDING_H

static const struct memcg_bpf_counters no_counters;

/*
 * Called after the change, so that no CPU caches the old state under the new generation. An entry
 * of the cache of cgroups without a policy holds only some bits of the generation: when these wrap,
 * the cache is cleared.
 */
static __noinline void bump_generation(void)
{
	__u64 generation = __sync_fetch_and_add(&memcg_globals.generation, 1) + 1;

	if (!(generation & ((1ULL << MEMCG_BPF_NO_POLICY_GENERATION_BITS) - 1)))
		for (int i = 0; i < MEMCG_BPF_NO_POLICY_CACHE; i++)
			*(volatile __u64 *)&memcg_globals.no_policy_cache[i] = 0;
}

static int bind(__u64 cgroup, struct memcg_bpf_binding *binding)
{
	struct memcg_bpf_stall_clock stalls = {.created = bpf_ktime_get_ns()};
	struct memcg_bpf_binding *before = bpf_map_lookup_elem(&memcg_bindings, &cgroup);
	int err;

	bpf_map_update_elem(&memcg_counters, &cgroup, &no_counters, BPF_NOEXIST);
	/* Without counting, stalls may have ended unseen. */
	bpf_map_update_elem(&memcg_stalls, &cgroup, &stalls,
			    before && before->flags & MEMCG_BPF_BINDING_COUNT ? BPF_NOEXIST
									      : BPF_ANY);
	err = bpf_map_update_elem(&memcg_bindings, &cgroup, binding, BPF_ANY);
	if (err) {
		bpf_map_delete_elem(&memcg_counters, &cgroup);
		bpf_map_delete_elem(&memcg_stalls, &cgroup);
	}
	bump_generation();
	return err;
}

/* Binds a cgroup, or moves it to another slot, by its id. */
static int rebind(__u64 cgroup, struct memcg_bpf_binding *binding)
{
	struct memcg_bpf_binding *before = bpf_map_lookup_elem(&memcg_bindings, &cgroup);

	if (before)
		binding->cgroup_ptr = before->cgroup_ptr;
	return bind(cgroup, binding);
}

static int unbind(__u64 cgroup)
{
	int err = bpf_map_delete_elem(&memcg_bindings, &cgroup);

	bpf_map_delete_elem(&memcg_counters, &cgroup);
	bpf_map_delete_elem(&memcg_stalls, &cgroup);
	bump_generation();
	return err;
}

/*
 * Run on a cgroup that the daemon has bound: stores its address. Replaces the binding only if it
 * still exists, because cgroup_rmdir may have deleted it meanwhile.
 */
SEC("?iter/cgroup")
int store_cgroup_ptr(struct bpf_iter__cgroup *ctx)
{
	struct memcg_bpf_binding binding, *bound;
	struct cgroup *cgroup = ctx->cgroup;
	__u64 id;

	if (!cgroup)
		return 0;
	id = cgroup->kn->id;
	bound = bpf_map_lookup_elem(&memcg_bindings, &id);
	if (!bound)
		return 0;
	binding = *bound;
	binding.cgroup_ptr = (__u64)cgroup;
	bpf_map_update_elem(&memcg_bindings, &id, &binding, BPF_EXIST);
	return 0;
}

enum memcg_bpf_op {
	MEMCG_BPF_OP_UNBIND = 0,     /* value: cgroup id */
	MEMCG_BPF_OP_BIND = 1,	     /* value: cgroup id */
	MEMCG_BPF_OP_REPORT_ALL = 2, /* value: 1 = report every new cgroup */
	MEMCG_BPF_OP_MACHINE = 3,    /* value: pages of RAM; slot: log2 of their size; flags: nodes */
	MEMCG_BPF_OP_DAEMON = 4,     /* value: id of the daemon's cgroup */
	MEMCG_BPF_OP_GROWTH = 5,     /* value: commit_limit; slot: growth_counter_id */
	MEMCG_BPF_OP_KILLS = 6,	     /* value: paused_until; slot: kills_per_minute */
};

/*
 * The argument of `command`. The daemon changes bindings in the kernel and by the same code as
 * cgroup_mkdir, so that its updates and those of cgroup_mkdir cannot overwrite each other.
 */
struct memcg_bpf_command {
	__u64 value;
	__u32 op;
	__u32 slot;
	__u32 flags;
	__u32 unused;
};

SEC("syscall")
int command(struct memcg_bpf_command *cmd)
{
	struct memcg_bpf_binding binding = {.slot = cmd->slot, .flags = cmd->flags};

	switch (cmd->op) {
	case MEMCG_BPF_OP_UNBIND:
		return unbind(cmd->value);
	case MEMCG_BPF_OP_BIND:
		return rebind(cmd->value, &binding);
	case MEMCG_BPF_OP_REPORT_ALL:
		memcg_globals.report_all = cmd->value;
		return 0;
	case MEMCG_BPF_OP_MACHINE:
		memcg_globals.total_ram_pages = cmd->value;
		memcg_globals.page_shift = cmd->slot;
		memcg_globals.nodes = cmd->flags;
		memcg_globals.host.created = bpf_ktime_get_ns();
		return 0;
	case MEMCG_BPF_OP_DAEMON:
		memcg_globals.daemon = cmd->value;
		return 0;
	case MEMCG_BPF_OP_GROWTH:
		/* In this order: the object that counts reads the limit. */
		memcg_globals.commit_limit = cmd->value;
		*(volatile __u32 *)&memcg_globals.growth_counter_id = cmd->slot;
		return 0;
	case MEMCG_BPF_OP_KILLS:
		memcg_globals.paused_until = cmd->value;
		memcg_globals.kills_per_minute = cmd->slot;
		return 0;
	}
	return -1;
}

#endif
