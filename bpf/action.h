/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Actions. A hook requests one and returns its value, which is the verdict:
 *
 *	return memcg_bpf_reclaim(ctx, bytes, MEMCG_BPF_SWAPPINESS_DEFAULT,
 *				 MEMCG_BPF_REASON("{bytes} in use", usage));
 *
 * The daemon performs actions asynchronously, and within limits that no policy can lift.
 */
#ifndef MEMCG_BPF_ACTION_H
#define MEMCG_BPF_ACTION_H

#define MEMCG_BPF_NAME_MAX   32
#define MEMCG_BPF_REASON_MAX 96

/*
 * The last argument of every action: a string literal, whose placeholders {bytes} {ns} {ppm}
 * {count} are replaced by the numbers (at most four) in their order.
 */
#define MEMCG_BPF_REASON(text, ...) .reason = text, .number = {__VA_ARGS__}

/*
 * Sets memory.high or memory.low of the bound cgroup, in bytes. Such a constraint expires after
 * MEMCG_BPF_CONSTRAINT_TTL: request it again in time (memcg_bpf_constraint_update()). Of several
 * policies' constraints the strictest applies; the daemon restores the original value when the last
 * one is released or expires.
 */
#define memcg_bpf_set_high(ctx, bytes, reason) \
	memcg_bpf_submit(ctx, MEMCG_BPF_ACT_HIGH, bytes, 0, reason)
#define memcg_bpf_release_high(ctx, reason) \
	memcg_bpf_submit(ctx, MEMCG_BPF_ACT_HIGH, MEMCG_BPF_RELEASE, 0, reason)
#define memcg_bpf_set_low(ctx, bytes, reason) \
	memcg_bpf_submit(ctx, MEMCG_BPF_ACT_LOW, bytes, 0, reason)
#define memcg_bpf_release_low(ctx, reason) \
	memcg_bpf_submit(ctx, MEMCG_BPF_ACT_LOW, MEMCG_BPF_RELEASE, 0, reason)

/* Freezes the bound cgroup; a constraint like those above. */
#define memcg_bpf_freeze(ctx, reason) memcg_bpf_submit(ctx, MEMCG_BPF_ACT_FREEZE, 1, 0, reason)
#define memcg_bpf_release_freeze(ctx, reason) \
	memcg_bpf_submit(ctx, MEMCG_BPF_ACT_FREEZE, MEMCG_BPF_RELEASE, 0, reason)

/* Reclaims memory of the bound cgroup. Swappiness: 0 (file cache only) to 200 (swap first), from
 * Linux 6.9. */
#define memcg_bpf_reclaim(ctx, bytes, swappiness, reason) \
	memcg_bpf_submit(ctx, MEMCG_BPF_ACT_RECLAIM, bytes, swappiness, reason)
#define MEMCG_BPF_SWAPPINESS_DEFAULT (~0U) /* that of the machine */

/* What a kill ends. */
enum memcg_bpf_kill_scope {
	MEMCG_BPF_KILL_PROCESS = 0,
	MEMCG_BPF_KILL_LEAF = 1,  /* a cgroup without children */
	MEMCG_BPF_KILL_GROUP = 2, /* all of the bound cgroup */
};

/* Which process or leaf. The daemon selects it, because a tick cannot walk processes before 6.7;
 * the culprit is known in the kernel. */
enum memcg_bpf_victim_order {
	MEMCG_BPF_VICTIM_LARGEST = 0,
	MEMCG_BPF_VICTIM_NEWEST = 1,
	MEMCG_BPF_VICTIM_PRESSURE = 2,
	MEMCG_BPF_VICTIM_CULPRIT = 3, /* whose charge, stall or refault the hook is called for */
};

/*
 * Kills in the bound cgroup: SIGTERM, and SIGKILL after `grace_ns`; SIGKILL at once if that is 0.
 *
 * The kernel itself kills the culprit where one process is to be killed at once; the daemon, if it
 * runs, only reports it. It performs all other kills. Hooks that are not called for a task (tick,
 * reclaim, oom) have no culprit: the largest process is selected instead.
 */
#define memcg_bpf_kill(ctx, scope, order, grace_ns, reason)                                  \
	({                                                                                   \
		enum memcg_bpf_kill_scope __scope = (scope);                                 \
		enum memcg_bpf_victim_order __order = (order);                               \
		memcg_bpf_submit(ctx, MEMCG_BPF_ACT_KILL, grace_ns,                          \
				 (__u32)__scope | (__u32)memcg_bpf_order(ctx, __order) << 8, \
				 reason);                                                    \
	})

static __always_inline enum memcg_bpf_victim_order
memcg_bpf_order(struct memcg_bpf_ctx *ctx, enum memcg_bpf_victim_order order)
{
	return order == MEMCG_BPF_VICTIM_CULPRIT &&
			       (!memcg_bpf_to_call(ctx)->culprit || memcg_bpf_in_interrupt())
		       ? MEMCG_BPF_VICTIM_LARGEST
		       : order;
}

/* Constraints expire this long after they were last requested, so that none outlives its policy.
 * Once more in src/ledger. */
#define MEMCG_BPF_CONSTRAINT_TTL   (30 * MEMCG_BPF_SECOND)
#define MEMCG_BPF_CONSTRAINT_RENEW (MEMCG_BPF_CONSTRAINT_TTL / 3)

/* A constraint that a policy keeps in its state. */
struct memcg_bpf_constraint {
	__u64 bytes;	 /* the value requested; 0: none */
	__u64 requested; /* when */
};

/* Must the constraint be requested (again)? True when it has another value or is due for renewal;
 * it is then noted as requested. */
static __always_inline bool memcg_bpf_constraint_update(struct memcg_bpf_ctx *ctx,
							struct memcg_bpf_constraint *constraint,
							__u64 bytes)
{
	__u64 now = memcg_bpf_now(ctx);

	if (constraint->bytes == bytes && now - constraint->requested < MEMCG_BPF_CONSTRAINT_RENEW)
		return false;
	constraint->bytes = bytes;
	constraint->requested = now;
	return true;
}

/* Must the constraint be released? False when there is none. */
static __always_inline bool memcg_bpf_constraint_end(struct memcg_bpf_constraint *constraint)
{
	bool requested = constraint->bytes;

	constraint->bytes = 0;
	return requested;
}

/* --- the record that the daemon reads; src/bpf/actions.rs --- */

enum memcg_bpf_action_kind {
	MEMCG_BPF_ACT_HIGH = 1,
	MEMCG_BPF_ACT_LOW = 2,
	MEMCG_BPF_ACT_RECLAIM = 3,
	MEMCG_BPF_ACT_KILL = 4,
	MEMCG_BPF_ACT_FREEZE = 5,
};

#define MEMCG_BPF_RELEASE (~0ULL) /* as value of a constraint */

struct memcg_bpf_action {
	__u64 cgroup;	 /* the bound cgroup */
	__u64 time;	 /* bpf_ktime_get_ns() */
	__u64 value;	 /* bytes; kill: grace period in ns; freeze: 1 */
	__u64 number[4]; /* see MEMCG_BPF_REASON() */
	__u32 kind;	 /* enum memcg_bpf_action_kind */
	__u32 detail;	 /* reclaim: swappiness; kill: scope and order */
	__u32 mode;	 /* enum memcg_bpf_mode: a dry run is logged and counted only */
	__u32 pid;	 /* of the culprit; 0: there is none */
	__u64 started;	 /* when the culprit was started, in ns of the boot's clock */
	char policy[MEMCG_BPF_NAME_MAX];
	char reason[MEMCG_BPF_REASON_MAX];
};
_Static_assert(sizeof(struct memcg_bpf_action) == 208, "src/bpf/actions.rs");

#define MEMCG_BPF_UNIT_MAX 128 /* longer than any name of a scope that an engine makes */

/* A kill that the kernel has performed. */
struct memcg_bpf_killed {
	struct memcg_bpf_action action;
	__u64 usage; /* of the bound cgroup, in bytes */
	char comm[16];
	char unit[MEMCG_BPF_UNIT_MAX];	/* the last part of the bound cgroup's path */
	char inner[MEMCG_BPF_UNIT_MAX]; /* the same of the culprit's cgroup */
};

/* Reports a kill to the daemon, or to the next one. The action is the caller's, on its stack. */
static __noinline int memcg_bpf_report_kill(struct memcg_bpf_action *action,
					    struct cgroup_subsys_state *css)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *bound = MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, cgroup);
	struct memcg_bpf_killed *killed = bpf_ringbuf_reserve(&memcg_kills, sizeof(*killed), 0);

	if (!killed) {
		__sync_fetch_and_add(&memcg_globals.actions_dropped, 1);
		return 0;
	}
	killed->action = *action;
	killed->usage = (__u64)MEMCG_BPF_READ(css, memory.usage.counter) << MEMCG_BPF_PAGE_SHIFT;
	bpf_probe_read_kernel_str(killed->comm, sizeof(killed->comm), task->group_leader->comm);
	bpf_probe_read_kernel_str(killed->unit, sizeof(killed->unit),
				  BPF_CORE_READ(bound, kn, name));
	bpf_probe_read_kernel_str(killed->inner, sizeof(killed->inner),
				  memcg_bpf_task_cgroup(task)->kn->name);
	bpf_ringbuf_submit(killed, 0);
	return 1;
}

/* Names the culprit, and kills it where the kernel can do that. */
static __always_inline bool memcg_bpf_perform_kill(struct memcg_bpf_ctx *ctx,
						   struct memcg_bpf_action *action)
{
	struct memcg_bpf_call *call = memcg_bpf_to_call(ctx);
	struct task_struct *task = bpf_get_current_task_btf();

	if (action->kind != MEMCG_BPF_ACT_KILL || action->detail >> 8 != MEMCG_BPF_VICTIM_CULPRIT)
		return false;
	action->pid = task->tgid;
	action->started = task->group_leader->start_boottime;
	if ((action->detail & 0xff) != MEMCG_BPF_KILL_PROCESS || action->value ||
	    action->mode != MEMCG_BPF_MODE_ACT ||
	    !memcg_bpf_kill_current(call->cgroup, action->time))
		return false;
	memcg_bpf_report_kill(action, call->css);
	return true;
}

/* The record is copied into the ring, not reserved there: the verifier would follow every
 * reservation separately. */
#define memcg_bpf_submit(ctx_, kind_, value_, detail_, ...)                                 \
	({                                                                                  \
		struct memcg_bpf_action __action = {                                        \
			.cgroup = memcg_bpf_cgroup(ctx_),                                   \
			.time = bpf_ktime_get_ns(),                                         \
			.value = (value_),                                                  \
			.kind = (kind_),                                                    \
			.detail = (detail_),                                                \
			.mode = memcg_bpf_to_call(ctx_)->mode,                              \
			__VA_ARGS__,                                                        \
		};                                                                          \
		int __verdict = MEMCG_BPF_OVERRIDE;                                         \
		__builtin_memcpy(__action.policy, memcg_bpf_name, sizeof(__action.policy)); \
		if (!memcg_bpf_perform_kill(ctx_, &__action) &&                             \
		    bpf_ringbuf_output(&memcg_actions, &__action, sizeof(__action), 0)) {   \
			__sync_fetch_and_add(&memcg_globals.actions_dropped, 1);            \
			__verdict = MEMCG_BPF_OK;                                           \
		}                                                                           \
		__verdict;                                                                  \
	})

#endif
