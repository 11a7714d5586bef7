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

/* What the policies write into memcg_actions must be in core's BTF: the reader's test compares. */
static const struct memcg_bpf_action *const action_type __attribute__((used));

/* One path at a time: cgroup_mkdir runs under cgroup_mutex, and 256 bytes twice are too much for
 * the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memcg_bpf_path);
} scratch SEC(".maps");

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
	struct memcg_bpf_stalls stalls = {.born = bpf_ktime_get_ns()};
	struct memcg_bpf_binding *before = bpf_map_lookup_elem(&memcg_bindings, &cgroup);
	int err;

	bpf_map_update_elem(&memcg_counters, &cgroup, &no_counters, BPF_NOEXIST);
	/* Waits may have ended unseen while nobody counted. */
	bpf_map_update_elem(&memcg_stalls, &cgroup, &stalls,
			    before && before->flags & MEMCG_BPF_BINDING_COUNT ? BPF_NOEXIST
									      : BPF_ANY);
	err = bpf_map_update_elem(&memcg_bindings, &cgroup, binding, BPF_ANY);
	if (err) {
		bpf_map_delete_elem(&memcg_counters, &cgroup);
		bpf_map_delete_elem(&memcg_stalls, &cgroup);
	}
	changed();
	return err;
}

/* Binds, or moves to another slot, a cgroup of which the daemon knows the id only. */
static int rebind(__u64 cgroup, struct memcg_bpf_binding *binding)
{
	struct memcg_bpf_binding *before = bpf_map_lookup_elem(&memcg_bindings, &cgroup);

	if (before)
		binding->place = before->place;
	return bind(cgroup, binding);
}

static int unbind(__u64 cgroup)
{
	int err = bpf_map_delete_elem(&memcg_bindings, &cgroup);

	bpf_map_delete_elem(&memcg_counters, &cgroup);
	bpf_map_delete_elem(&memcg_stalls, &cgroup);
	changed();
	return err;
}

/*
 * Shown a cgroup that the daemon has bound, notes where it is. Replaces the binding only if it
 * still exists: cgroup_rmdir may have deleted it meanwhile, and its memory may be another's.
 */
SEC("?iter/cgroup")
int place(struct bpf_iter__cgroup *ctx)
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
	binding.place = (__u64)cgroup;
	bpf_map_update_elem(&memcg_bindings, &id, &binding, BPF_EXIST);
	return 0;
}

enum memcg_bpf_op {
	MEMCG_BPF_UNBIND = 0,	/* value: cgroup id */
	MEMCG_BPF_BIND = 1,	/* value: cgroup id */
	MEMCG_BPF_ANNOUNCE = 2, /* value: 1 = tell of every new cgroup */
	MEMCG_BPF_MACHINE = 3,	/* value: the machine's pages; slot: log2 of their size */
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
		return rebind(cmd->value, &binding);
	case MEMCG_BPF_ANNOUNCE:
		memcg_world.announce = cmd->value;
		return 0;
	case MEMCG_BPF_MACHINE:
		memcg_world.machine_pages = cmd->value;
		memcg_world.page_shift = cmd->slot;
		memcg_world.host.born = bpf_ktime_get_ns();
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
		binding.place = (__u64)cgroup;
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

/* Runs `body` with `c` set for each counted cgroup from `cgroup_` up. `seen`: see walk.h. */
#define COUNT(cgroup_, seen, body)                                             \
	do {                                                                   \
		struct cgroup *cgroup = cgroup_;                               \
		struct cgroup_subsys_state *self;                              \
		__u64 above;                                                   \
		if (memcg_bpf_calm(cgroup))                                    \
			break;                                                 \
		above = memcg_bpf_above(cgroup, seen);                         \
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

/* fexit, so that a refusal by any policy or by the kernel itself is seen. */
MEMCG_BPF_REMEMBER(seen_growth, MEMCG_BPF_SEEN);
SEC("?fexit/security_vm_enough_memory_mm")
int BPF_PROG(count_growth__0, struct mm_struct *mm, long pages, int ret)
{
	COUNT(memcg_bpf_current(), &seen_growth, {
		memcg_bpf_add(&c->growth_requests, 1);
		memcg_bpf_add(&c->growth_pages, pages);
		if (ret)
			memcg_bpf_add(&c->growth_refused, 1);
	});
	return 0;
}

/* See MEMCG_BPF_CHARGE. */
MEMCG_BPF_REMEMBER(seen_charge, MEMCG_BPF_SEEN);
SEC("?fentry/page_counter_try_charge")
int BPF_PROG(count_charge__0, struct page_counter *counter, unsigned long pages)
{
	struct cgroup_subsys_state *own = memcg_bpf_task_css(bpf_get_current_task_btf());

	if ((__u64)counter != (__u64)own + bpf_core_field_offset(struct mem_cgroup, memory))
		return 0;
	COUNT(own->cgroup, &seen_charge, {
		memcg_bpf_add(&c->charges, 1);
		memcg_bpf_add(&c->charged_pages, pages);
	});
	return 0;
}

static __always_inline struct memcg_bpf_started *started_of_current(void)
{
	return bpf_task_storage_get(&memcg_started, bpf_get_current_task_btf(), NULL,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

SEC("?fentry/try_to_free_mem_cgroup_pages")
int BPF_PROG(count_reclaim_begin__0, struct mem_cgroup *memcg)
{
	struct memcg_bpf_started *s;

	if (memcg_bpf_calm(memcg->css.cgroup))
		return 0;
	s = started_of_current();
	if (s)
		s->reclaim = bpf_ktime_get_ns();
	return 0;
}

/* The number of arguments grew with 6.12, so the result is asked for instead of counted off. */
MEMCG_BPF_REMEMBER(seen_reclaim, MEMCG_BPF_SEEN_FEW);
SEC("?fexit/try_to_free_mem_cgroup_pages")
int BPF_PROG(count_reclaim_end__0, struct mem_cgroup *memcg)
{
	struct memcg_bpf_started *s = memcg_bpf_started();
	__u64 took = s && s->reclaim ? bpf_ktime_get_ns() - s->reclaim : 0;
	__u64 pages = 0;

	bpf_get_func_ret(ctx, &pages);
	if (s) {
		s->reclaim = 0;
		s->reclaim_took = took;
	}
	COUNT(memcg->css.cgroup, &seen_reclaim, {
		memcg_bpf_add(&c->reclaim_runs, 1);
		memcg_bpf_add(&c->reclaim_ns, took);
		memcg_bpf_add(&c->reclaimed_pages, pages);
	});
	return 0;
}

/* By whom, not whose: the task that has to wait for the page again. */
MEMCG_BPF_REMEMBER(seen_refault, MEMCG_BPF_SEEN_FEW);
SEC("?fentry/workingset_refault")
int BPF_PROG(count_refault__0, struct folio *folio, void *shadow)
{
	COUNT(memcg_bpf_current(), &seen_refault, memcg_bpf_add(&c->refaults, 1));
	return 0;
}

MEMCG_BPF_REMEMBER(seen_oom, MEMCG_BPF_SEEN_FEW);
SEC("?fentry/mem_cgroup_out_of_memory")
int BPF_PROG(count_oom__0, struct mem_cgroup *memcg)
{
	COUNT(memcg->css.cgroup, &seen_oom, memcg_bpf_add(&c->oom, 1));
	return 0;
}

/* --- waiting for memory
 * ------------------------------------------------------------------------------ */

static __always_inline bool watched(__u64 until, __u64 now)
{
	return until > now;
}

struct limited {
	struct cgroup_subsys_state *css;
	__u64 by;
};

static long limited_at(__u64 i, struct limited *at)
{
	__u64 usage = MEMCG_BPF_READ(at->css, memory.usage.counter);
	__u64 limit = MEMCG_BPF_READ(at->css, memory.max);
	__u64 high = MEMCG_BPF_READ(at->css, memory.high);
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);

	if (high < limit)
		limit = high;
	if (usage >= limit - limit / 32) {
		at->by = memcg_bpf_id(at->css);
		return 1;
	}
	if (!parent)
		return 1;
	at->css = parent;
	return 0;
}

/*
 * Is the memory of a task's own cgroup protected? With memory_recursiveprot, which systemd
 * mounts, the effective values also tell of protection given further up.
 */
static __always_inline bool is_protected(struct cgroup_subsys_state *css)
{
	return MEMCG_BPF_READ(css, memory.low) | MEMCG_BPF_READ(css, memory.min) |
	       MEMCG_BPF_READ(css, memory.elow) | MEMCG_BPF_READ(css, memory.emin);
}

/* Whose cgroup is it? */
static __noinline bool is_roots(struct cgroup_subsys_state *css)
{
	struct cgroup *cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, cgroup);
	struct kernfs_node *node = MEMCG_BPF_FIELD(struct cgroup, cgroup, kn);
	struct kernfs_iattrs *attributes = MEMCG_BPF_FIELD(struct kernfs_node, node, iattr);

	return !attributes || !MEMCG_BPF_FIELD(struct kernfs_iattrs, attributes, ia_uid.val);
}

/*
 * The task waits, and its memory is protected: whose limit does it wait for? The nearest cgroup's
 * from its own up that stands at it, for the kernel asks that one first; 0: the machine's memory.
 * A user's own word protects only from whoever is below a limit that is the user's as well.
 */
static __noinline bool suffers_now(struct task_struct *task, __u64 *limit)
{
	struct cgroup_subsys_state *css = memcg_bpf_task_css(task);
	struct limited at = {.css = css};

	if (!is_protected(css))
		return false;
	bpf_loop(MEMCG_BPF_SKIP_MAX, limited_at, &at, 0);
	*limit = at.by;
	return is_roots(css) || (at.by && !is_roots(at.css));
}

/* Global, so that the verifier looks at it once and not for every way up to it. */
__noinline int stall_begins_in(__u64 id, __u64 now)
{
	struct memcg_bpf_binding *binding = bpf_map_lookup_elem(&memcg_bindings, &id);
	struct memcg_bpf_stalls *stalls = bpf_map_lookup_elem(&memcg_stalls, &id);

	if (!binding || !(binding->flags & MEMCG_BPF_BINDING_COUNT) || !stalls)
		return 0;
	memcg_bpf_stall_begins(stalls, now);
	return 1;
}

/* The stall is timed for the governed cgroups above the task now: its end is theirs, too. */
static __noinline void stall_begins(struct memcg_bpf_started *s, struct cgroup *cgroup, __u64 above,
				    __u64 now)
{
	volatile __u64 *zero = &memcg_world.zero; /* the verifier must not count levels either */
	struct cgroup_subsys_state *self;
	__u64 n = *zero;

	if (above & MEMCG_BPF_DEEP)
		cgroup = memcg_bpf_climb(cgroup);
	above &= MEMCG_BPF_ABOVE;
	self = cgroup ? &cgroup->self : NULL;
	memcg_bpf_for_each_governed(self, above, i)
	{
		__u64 id = self->cgroup->kn->id;

		if (n >= MEMCG_BPF_STALL_LEVELS || !stall_begins_in(id, now))
			continue;
		s->cgroup[n & (MEMCG_BPF_STALL_LEVELS - 1)] = id;
		n = (n + 1) ^ *zero;
	}
	s->governed = n;
}

/* A protected cgroup suffers, and whose limit for; see throttle. */
static __noinline void suffers(struct memcg_bpf_started *s, __u64 id, __u64 now)
{
	struct memcg_bpf_suffering fresh = {.begin = now}, *it;
	__u64 from;

	it = bpf_map_lookup_elem(&memcg_suffering, &id);
	if (!it) {
		bpf_map_update_elem(&memcg_suffering, &id, &fresh, BPF_NOEXIST);
		it = bpf_map_lookup_elem(&memcg_suffering, &id);
		if (!it)
			return;
	}
	if (it->limit != s->limit) {
		it->limit = s->limit;
		it->before = 0;
		it->stall = 0;
		it->begin = now;
	}
	if (now - it->begin >= MEMCG_BPF_SUFFERING_SPAN) {
		it->before = now - it->begin < 2 * MEMCG_BPF_SUFFERING_SPAN ? it->stall : 0;
		it->stall = 0;
		it->begin = now;
	}
	/* Several tasks wait at once: time that was counted already is not counted again. */
	from = s->stall > it->until ? s->stall : it->until;
	if (now > from)
		memcg_bpf_add(&it->stall, now - from);
	it->until = now;
	for (int i = 0; i < MEMCG_BPF_STALL_LEVELS; i++)
		it->above[i] = i < s->governed ? s->cgroup[i] : 0;
}

/* The current task waits no more. */
static __noinline void stall_ends(struct memcg_bpf_started *s, __u64 id, __u64 now)
{
	__u64 took = now - s->stall;

	for (int i = 0; i < MEMCG_BPF_STALL_LEVELS && i < s->governed; i++) {
		__u64 cgroup = s->cgroup[i];
		struct memcg_bpf_counters *c = bpf_map_lookup_elem(&memcg_counters, &cgroup);
		struct memcg_bpf_stalls *stalls = bpf_map_lookup_elem(&memcg_stalls, &cgroup);

		if (stalls && stalls->born <= s->stall)
			memcg_bpf_stall_ends(stalls, now);
		if (c) {
			memcg_bpf_add(&c->stalls, 1);
			memcg_bpf_add(&c->stall_ns, took);
		}
	}
	if (s->suffers)
		suffers(s, id, now);
	s->stall_took = took;
	s->stall = 0;
}

/*
 * A stall within a stall is part of it, as in PSI: its `flags` are further down the same stack. If
 * the stall we know of is not around this one, we have missed its end.
 */
MEMCG_BPF_REMEMBER(seen_stall, MEMCG_BPF_SEEN_FEW);
SEC("?fentry/psi_memstall_enter")
int BPF_PROG(count_stall_begin__0, unsigned long *flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *cgroup = memcg_bpf_task_cgroup(task);
	struct memcg_bpf_started *s;
	__u64 now = 0, above = 0, limit = 0;
	bool suffers = false;

	if (!memcg_bpf_calm(cgroup))
		above = memcg_bpf_above(cgroup, &seen_stall);
	if (memcg_world.watch_protected) {
		now = bpf_ktime_get_ns();
		suffers = watched(memcg_world.watch_protected, now) && suffers_now(task, &limit);
	}
	if (!above && !suffers)
		return 0;
	s = started_of_current();
	if (!s || (s->stall && (__u64)flags < s->frame))
		return 0;
	if (!now)
		now = bpf_ktime_get_ns();
	if (s->stall)
		stall_ends(s, cgroup->kn->id, now);
	s->stall = now;
	s->frame = (__u64)flags;
	s->suffers = suffers;
	s->limit = limit;
	stall_begins(s, cgroup, above, now);
	return 0;
}

static __always_inline void leaves(unsigned long *flags)
{
	struct memcg_bpf_started *s = memcg_bpf_started();

	if (s && s->stall && s->frame == (__u64)flags)
		stall_ends(s, memcg_bpf_current()->kn->id, bpf_ktime_get_ns());
}

SEC("?fentry/psi_memstall_leave")
int BPF_PROG(count_stall_end__0, unsigned long *flags)
{
	leaves(flags);
	return 0;
}

/*
 * Once more: the kernel skips a program while the same program is interrupted on the same CPU, and
 * a stall without an end would look like one that lasts for ever.
 */
SEC("?fexit/psi_memstall_leave")
int BPF_PROG(count_stall_ended__0, unsigned long *flags)
{
	leaves(flags);
	return 0;
}

/* --- the machine's own reclaim
 * ----------------------------------------------------------------------- */

SEC("?fentry/try_to_free_pages")
int BPF_PROG(count_host_begin__0)
{
	__u64 now = bpf_ktime_get_ns();
	struct memcg_bpf_started *s;

	if (!watched(memcg_world.watch_host, now))
		return 0;
	s = started_of_current();
	if (!s || s->host)
		return 0;
	s->host = now;
	memcg_bpf_stall_begins(&memcg_world.host, now);
	return 0;
}

static __always_inline void host_ends(void)
{
	struct memcg_bpf_started *s;

	if (!memcg_world.watch_host)
		return;
	s = memcg_bpf_started();
	if (!s || !s->host)
		return;
	s->host = 0;
	memcg_bpf_stall_ends(&memcg_world.host, bpf_ktime_get_ns());
}

SEC("?fexit/try_to_free_pages")
int BPF_PROG(count_host_end__0)
{
	host_ends();
	return 0;
}

/* Once more, as for stalls. */
SEC("?fexit/try_to_free_pages")
int BPF_PROG(count_host_ended__0)
{
	host_ends();
	return 0;
}
