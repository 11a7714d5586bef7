/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What all policies share: which cgroup is bound to which slot, the life of cgroups, and the
 * counters of governed subtrees. Knows no policy: a slot is a number, and each policy keeps its
 * parameters under it.
 */
#include "memcg_bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* A binding prepared for a cgroup that does not exist yet, by the path it will have. */
struct memcg_bpf_path {
	char text[MEMCG_BPF_PATH_MAX]; /* zero-padded: all bytes are the key */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags,
	       BPF_F_NO_PREALLOC); /* 256-byte keys, usually few; written only by the daemon */
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, struct memcg_bpf_path);
	__type(value, struct memcg_bpf_binding);
} memcg_prepared SEC(".maps");

enum memcg_bpf_event_kind {
	MEMCG_BPF_CREATED =
		1, /* a cgroup appeared; `bound` says whether a prepared binding took force */
	MEMCG_BPF_REMOVED = 2, /* a governed cgroup went away, its binding with it */
};

struct memcg_bpf_event {
	__u32 kind;
	__u32 bound;
	__u64 cgroup;
	char path[MEMCG_BPF_PATH_MAX]; /* cut at the end when longer */
};
_Static_assert(sizeof(struct memcg_bpf_event) == 16 + MEMCG_BPF_PATH_MAX, "src/bpf/events.rs");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18); /* about 900 events between two turns of the daemon */
} memcg_events SEC(".maps");

/* Written by the policies' programs. Its type must be in core's BTF for the reader's test. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18); /* about 1000 actions between two turns of the daemon */
} memcg_actions SEC(".maps");
static const struct memcg_bpf_action *const action_type __attribute__((used));

/* One path at a time: cgroup_mkdir runs under cgroup_mutex, and 256 bytes twice are too much for
 * the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memcg_bpf_path);
} scratch SEC(".maps");

struct memcg_bpf_started {
	__u64 stall;
	__u64 reclaim;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE); /* when a task's stall or reclaim began; dies with
						    the task */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct memcg_bpf_started);
} started SEC(".maps");

/* --- binding ------------------------------------------------------------------------------------
 */

static const struct memcg_bpf_counters no_counters;

/*
 * After the change, so that nobody remembers under the new number what was true before. Only some
 * of the number's bits fit into a word of `calm`: when they begin anew, what they said before is
 * wiped.
 */
static __noinline void changed(void)
{
	__u64 generation = __sync_fetch_and_add(&memcg_world.generation, 1) + 1;

	if (!(generation & ((1ULL << MEMCG_BPF_CALM_GENERATION) - 1)))
		for (int i = 0; i < MEMCG_BPF_CALM; i++)
			*(volatile __u64 *)&memcg_world.calm[i] = 0;
}

static int bind(__u64 cgroup, struct memcg_bpf_binding *binding)
{
	int err;

	bpf_map_update_elem(&memcg_counters, &cgroup, &no_counters, BPF_NOEXIST);
	err = bpf_map_update_elem(&memcg_bindings, &cgroup, binding, BPF_ANY);
	if (err)
		bpf_map_delete_elem(&memcg_counters, &cgroup);
	changed();
	return err;
}

static int unbind(__u64 cgroup)
{
	int err = bpf_map_delete_elem(&memcg_bindings, &cgroup);

	bpf_map_delete_elem(&memcg_counters, &cgroup);
	changed();
	return err;
}

enum memcg_bpf_op {
	MEMCG_BPF_UNBIND = 0,	/* value: cgroup id */
	MEMCG_BPF_BIND = 1,	/* value: cgroup id */
	MEMCG_BPF_ANNOUNCE = 2, /* value: 1 = tell of every new cgroup */
	MEMCG_BPF_MACHINE = 3,	/* value: the machine's memory in pages */
	MEMCG_BPF_DAEMON = 4,	/* value: id of the daemon's cgroup */
};

/*
 * How the daemon changes what is shared: in the kernel and by the same code as cgroup_mkdir, so
 * that no update from outside can undo one from inside.
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
	case MEMCG_BPF_UNBIND:
		return unbind(cmd->value);
	case MEMCG_BPF_BIND:
		return bind(cmd->value, &binding);
	case MEMCG_BPF_ANNOUNCE:
		memcg_world.announce = cmd->value;
		return 0;
	case MEMCG_BPF_MACHINE:
		memcg_world.machine_pages = cmd->value;
		return 0;
	case MEMCG_BPF_DAEMON:
		memcg_world.daemon = cmd->value;
		return 0;
	}
	return -1;
}

/* --- life of cgroups
 * ------------------------------------------------------------------------------ */

static void tell(__u32 kind, __u32 bound, __u64 cgroup, const char *path)
{
	struct memcg_bpf_event *event = bpf_ringbuf_reserve(&memcg_events, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&memcg_world.dropped, 1);
		return;
	}
	event->kind = kind;
	event->bound = bound;
	event->cgroup = cgroup;
	bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
	bpf_ringbuf_submit(event, 0);
}

/* Before any task can be inside: what was prepared for this path is in force from the first
 * instruction. */
SEC("?tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	__u32 zero = 0;
	struct memcg_bpf_path *key = bpf_map_lookup_elem(&scratch, &zero);
	struct memcg_bpf_binding *prepared, binding;
	__u64 id = cgroup->kn->id;

	/* A v1 hierarchy beside ours (net_cls) has paths and ids of its own. */
	if (!key || cgroup->root->hierarchy_id)
		return 0;
	__builtin_memset(key, 0, sizeof(*key));
	/* A longer path is cut and so never equals a prepared one, which ends in a zero byte before
	 * the end. */
	bpf_probe_read_kernel_str(key->text, sizeof(key->text), path);
	prepared = bpf_map_lookup_elem(&memcg_prepared, key);
	if (prepared && prepared->flags & MEMCG_BPF_BINDING_DAEMON) {
		memcg_world.daemon = id;
		return 0;
	}
	if (prepared) {
		binding = *prepared;
		bind(id, &binding);
	}
	if (prepared || memcg_world.announce)
		tell(MEMCG_BPF_CREATED, !!prepared, id, path);
	return 0;
}

SEC("?tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	__u64 id = cgroup->kn->id;

	if (cgroup->root->hierarchy_id || !bpf_map_lookup_elem(&memcg_bindings, &id))
		return 0;
	unbind(id);
	tell(MEMCG_BPF_REMOVED, 0, id, path);
	return 0;
}

/* --- counters of governed subtrees
 * ------------------------------------------------------------------ */

/* The counters of a governed cgroup, if it wants any. */
static __always_inline struct memcg_bpf_counters *counters(struct cgroup *cgroup)
{
	__u64 id = cgroup->kn->id;
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);

	if (!binding || !(binding->flags & MEMCG_BPF_BINDING_COUNT))
		return NULL;
	return bpf_map_lookup_elem(&memcg_counters, &id);
}

/* Runs `body` with `c` set for each counted cgroup from `cgroup_` up. */
#define COUNT(cgroup_, body)                                                   \
	do {                                                                   \
		struct cgroup *cgroup = cgroup_;                               \
		struct cgroup_subsys_state *self;                              \
		__u64 above;                                                   \
		if (memcg_bpf_calm(cgroup))                                    \
			break;                                                 \
		above = memcg_bpf_above(cgroup);                               \
		if (above & MEMCG_BPF_DEEP)                                    \
			cgroup = memcg_bpf_climb(cgroup);                      \
		above &= MEMCG_BPF_ABOVE;                                      \
		self = cgroup ? &cgroup->self : NULL;                          \
		memcg_bpf_for_each_governed(self, above, i)                    \
		{                                                              \
			struct memcg_bpf_counters *c = counters(self->cgroup); \
			if (c)                                                 \
				body;                                          \
		}                                                              \
	} while (0)

static __always_inline struct cgroup *current_cgroup(void)
{
	return memcg_bpf_task_cgroup(bpf_get_current_task_btf());
}

/* fexit, so that a refusal by any policy or by the kernel itself is seen. */
SEC("?fexit/security_vm_enough_memory_mm")
int BPF_PROG(count_growth__0, struct mm_struct *mm, long pages, int ret)
{
	COUNT(current_cgroup(), {
		memcg_bpf_add(&c->growth_requests, 1);
		memcg_bpf_add(&c->growth_pages, pages);
		if (ret)
			memcg_bpf_add(&c->growth_refused, 1);
	});
	return 0;
}

/*
 * try_charge_memcg() also runs for charges that the per-CPU stock satisfies; only the slow path
 * comes to the page counter. Counted when it is the counter of the task's own memcg: charges on
 * behalf of others are rare.
 */
SEC("?fentry/page_counter_try_charge")
int BPF_PROG(count_charge__0, struct page_counter *counter, unsigned long pages)
{
	struct cgroup_subsys_state *own = memcg_bpf_task_css(bpf_get_current_task_btf());

	if ((__u64)counter != (__u64)own + bpf_core_field_offset(struct mem_cgroup, memory))
		return 0;
	COUNT(own->cgroup, {
		memcg_bpf_add(&c->charges, 1);
		memcg_bpf_add(&c->charged_pages, pages);
	});
	return 0;
}

static __always_inline struct memcg_bpf_started *started_of_current(void)
{
	return bpf_task_storage_get(&started, bpf_get_current_task_btf(), NULL,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

SEC("?fentry/try_to_free_mem_cgroup_pages")
int BPF_PROG(count_reclaim_begin__0, struct mem_cgroup *memcg)
{
	struct memcg_bpf_started *s = started_of_current();

	if (s)
		s->reclaim = bpf_ktime_get_ns();
	return 0;
}

/* The number of arguments grew with 6.12, so the result is asked for instead of counted off. */
SEC("?fexit/try_to_free_mem_cgroup_pages")
int BPF_PROG(count_reclaim_end__0, struct mem_cgroup *memcg)
{
	struct memcg_bpf_started *s = started_of_current();
	__u64 took = s && s->reclaim ? bpf_ktime_get_ns() - s->reclaim : 0;
	__u64 pages = 0;

	bpf_get_func_ret(ctx, &pages);
	if (s)
		s->reclaim = 0;
	COUNT(memcg->css.cgroup, {
		memcg_bpf_add(&c->reclaim_runs, 1);
		memcg_bpf_add(&c->reclaim_ns, took);
		memcg_bpf_add(&c->reclaimed_pages, pages);
	});
	return 0;
}

/* By whom, not whose: the task that has to wait for the page again. */
SEC("?fentry/workingset_refault")
int BPF_PROG(count_refault__0, struct folio *folio, void *shadow)
{
	COUNT(current_cgroup(), memcg_bpf_add(&c->refaults, 1));
	return 0;
}

/* `flags` is nonzero in a stall within a stall; only the outer one counts, as in PSI. */
SEC("?fentry/psi_memstall_enter")
int BPF_PROG(count_stall_begin__0, unsigned long *flags)
{
	struct memcg_bpf_started *s = started_of_current();

	if (s && !s->stall)
		s->stall = bpf_ktime_get_ns();
	return 0;
}

SEC("?fentry/psi_memstall_leave")
int BPF_PROG(count_stall_end__0, unsigned long *flags)
{
	struct memcg_bpf_started *s;
	unsigned long nested = 0;
	__u64 took;

	bpf_probe_read_kernel(&nested, sizeof(nested), flags);
	if (nested)
		return 0;
	s = started_of_current();
	if (!s || !s->stall)
		return 0; /* began before we were attached */
	took = bpf_ktime_get_ns() - s->stall;
	s->stall = 0;
	COUNT(current_cgroup(), {
		memcg_bpf_add(&c->stalls, 1);
		memcg_bpf_add(&c->stall_ns, took);
	});
	return 0;
}

SEC("?fentry/mem_cgroup_out_of_memory")
int BPF_PROG(count_oom__0, struct mem_cgroup *memcg)
{
	COUNT(memcg->css.cgroup, memcg_bpf_add(&c->oom, 1));
	return 0;
}
