/* SPDX-License-Identifier: GPL-2.0-only */
/* oom: kills before the kernel runs out of memory for the cgroup, or while the cgroup is stalled on
 * memory. */
#include "memcg_bpf.h"

enum oom_select {
	OOM_SELECT_AUTO = 0,
	OOM_SELECT_CULPRIT = 1,
	OOM_SELECT_LARGEST = 2,
	OOM_SELECT_NEWEST = 3,
	OOM_SELECT_PRESSURE = 4,
};

enum oom_stall_kind {
	OOM_STALL_FULL = 0,
	OOM_STALL_SOME = 1,
};

struct oom_params {
	memcg_bpf_size usage MEMCG_BPF_DOC("kills when the cgroup uses this much memory, file "
					   "cache not included; 0 switches this trigger off")
		MEMCG_BPF_DEFAULT("0");
	memcg_bpf_ppm pressure MEMCG_BPF_DOC(
		"kills when the cgroup is stalled on memory for this share of the time")
		MEMCG_BPF_DEFAULT("60%") MEMCG_BPF_RANGE("1%..100%");
	enum oom_stall_kind stall MEMCG_BPF_DOC(
		"the time that pressure counts: while all tasks that could run are stalled, or "
		"while at least one is; as in memory.pressure") MEMCG_BPF_DEFAULT("full");
	memcg_bpf_ns for_ MEMCG_BPF_DOC("time span over which that share is measured")
		MEMCG_BPF_DEFAULT("2s") MEMCG_BPF_RANGE("100ms..10min");
	memcg_bpf_size min_usage MEMCG_BPF_DOC(
		"kills for pressure only while the cgroup uses at least this much memory")
		MEMCG_BPF_DEFAULT("0");
	enum memcg_bpf_kill_scope kill MEMCG_BPF_DOC(
		"scope of a kill: one process, one cgroup without children, or the whole cgroup")
		MEMCG_BPF_DEFAULT("process");
	enum oom_select
		select MEMCG_BPF_DOC("the victim: the process whose request or stall it was, the "
				     "process or cgroup with most memory, the one started last, "
				     "or the one whose cgroup is stalled most; auto: culprit for "
				     "usage, largest for pressure") MEMCG_BPF_DEFAULT("auto");
	memcg_bpf_ns
		grace MEMCG_BPF_DOC("time between SIGTERM and SIGKILL; 0: SIGKILL is sent at once")
			MEMCG_BPF_DEFAULT("0s") MEMCG_BPF_RANGE("0s..5min");
	memcg_bpf_ns cooldown MEMCG_BPF_DOC(
		"minimum time between two kills for pressure, by this policy or by the kernel")
		MEMCG_BPF_DEFAULT("5s") MEMCG_BPF_RANGE("100ms..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Kill early, before memory runs out or while the cgroup is mostly stalled on it.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(oom);

struct oom_state {
	struct memcg_bpf_window stalled;
	struct memcg_bpf_window full;
	struct memcg_bpf_full_stall psi;
	struct memcg_bpf_lock lock;
	__u64 cooldown_until;
	struct memcg_bpf_lock usage_lock;
	__u64 charged;	    /* bytes charged since the cgroup was bound */
	__u64 check_at;	    /* below this much charged, usage cannot have reached its limit */
	__u64 checked;	    /* when that was computed */
	__u64 victim_until; /* until then, the victim of `usage` has time to free its memory */
};
MEMCG_BPF_STATE(oom);

#define OOM_CHECK_INTERVAL 2000000ULL	    /* of the checks when stalls end (2 ms) */
#define OOM_VICTIM_EXITS   MEMCG_BPF_SECOND /* the longest time without another kill */
#define OOM_SMALL	   32 /* a process with less than this part of the limit is small */
#define OOM_RECHECK	   MEMCG_BPF_SECOND /* of a limit that may have been lowered */

static __always_inline enum memcg_bpf_victim_order oom_order(const struct oom_params *p,
							     enum memcg_bpf_victim_order automatic)
{
	switch (p->select) {
	case OOM_SELECT_CULPRIT:
		return MEMCG_BPF_VICTIM_CULPRIT;
	case OOM_SELECT_LARGEST:
		return MEMCG_BPF_VICTIM_LARGEST;
	case OOM_SELECT_NEWEST:
		return MEMCG_BPF_VICTIM_NEWEST;
	case OOM_SELECT_PRESSURE:
		return MEMCG_BPF_VICTIM_PRESSURE;
	default:
		/* A cgroup or a leaf is selected by its size: the culprit is one process. */
		return p->kill == MEMCG_BPF_KILL_PROCESS ? automatic : MEMCG_BPF_VICTIM_LARGEST;
	}
}

/*
 * Is the process too small to be the culprit? One that reads files requests memory as well. Its end
 * would free next to nothing, so the next request decides, as long as half of the room up to the
 * limit is left: many small processes can be the cause together.
 */
static __always_inline bool oom_is_small(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
					 __u64 limit, __u64 usage)
{
	__u64 max = memcg_bpf_effective_max(ctx);

	if (oom_order(p, MEMCG_BPF_VICTIM_CULPRIT) != MEMCG_BPF_VICTIM_CULPRIT || max <= limit)
		return false;
	return memcg_bpf_process_memory(bpf_get_current_task_btf()) < limit / OOM_SMALL &&
	       usage < limit + (max - limit) / 2;
}

/*
 * Without swap, anonymous memory causes no stalls until there is none left: this trigger comes
 * before. File cache does not count, because the kernel reclaims it instead of killing. The victim
 * is the process that requests more: the largest one is often the one that others need.
 *
 * Called with the lock held. `charged`: what was charged when `usage` was read.
 */
static __always_inline int oom_check_usage(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
					   struct oom_state *s, __u64 charged)
{
	__u64 usage = memcg_bpf_usage(ctx) + ctx->bytes, cache = 0, now = memcg_bpf_now(ctx);
	__u64 limit = memcg_bpf_size_bytes(ctx, p->usage);

	s->checked = now;
	if (usage >= limit) {
		cache = memcg_bpf_file_cache_now(ctx);
		usage = usage > cache ? usage - cache : 0;
	}
	if (usage < limit) {
		s->check_at = charged + limit - usage;
		s->victim_until = 0;
		return MEMCG_BPF_OK;
	}
	/* A process that is about to end will free what it has: its last charges need no answer.
	 * A charge by an interrupt is not the task's: the next one decides. */
	if (now < s->victim_until || memcg_bpf_is_dying(bpf_get_current_task_btf()) ||
	    memcg_bpf_in_interrupt())
		return MEMCG_BPF_OK;
	if (oom_is_small(ctx, p, limit, usage))
		return MEMCG_BPF_OK;
	/* A dry run frees nothing: without the longer time it would be logged every second. */
	s->victim_until = now + (p->mode == MEMCG_BPF_MODE_ACT ? OOM_VICTIM_EXITS : p->cooldown);
	return memcg_bpf_kill(ctx, p->kill, oom_order(p, MEMCG_BPF_VICTIM_CULPRIT), p->grace,
			      MEMCG_BPF_REASON("{bytes} in use without {bytes} of file cache "
					       "(limit {bytes}), {bytes} more requested",
					       usage, cache, limit, ctx->bytes));
}

/*
 * Usage cannot have reached its limit before as much was charged as was missing at the last check,
 * so nearly all charges only add to a sum. The limit itself may have been lowered: it is read again
 * after OOM_RECHECK.
 */
static int oom_charge(struct memcg_bpf_ctx *ctx, const struct oom_params *p)
{
	struct oom_state *s;
	__u64 charged;
	int verdict;

	if (!p->usage)
		return MEMCG_BPF_OK;
	s = memcg_bpf_state(ctx);
	if (!s)
		return MEMCG_BPF_OK;
	charged = __sync_fetch_and_add(&s->charged, ctx->bytes) + ctx->bytes;
	if (charged < s->check_at && memcg_bpf_now(ctx) - s->checked < OOM_RECHECK)
		return MEMCG_BPF_OK;
	if (!memcg_bpf_trylock(ctx, &s->usage_lock))
		return MEMCG_BPF_OK;
	verdict = oom_check_usage(ctx, p, s, charged);
	memcg_bpf_unlock(&s->usage_lock);
	return verdict;
}

static __always_inline void oom_forget_stalls(struct oom_state *s)
{
	memcg_bpf_window_reset(&s->stalled);
	memcg_bpf_window_reset(&s->full);
}

static __always_inline int oom_kill_stalled(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
					    struct oom_state *s, __u64 stalled)
{
	__u64 usage = memcg_bpf_usage(ctx);
	int verdict;

	if (usage < memcg_bpf_size_bytes(ctx, p->min_usage))
		return MEMCG_BPF_OK;
	verdict = memcg_bpf_kill(ctx, p->kill, oom_order(p, MEMCG_BPF_VICTIM_LARGEST), p->grace,
				 MEMCG_BPF_REASON("stalled on memory for {ns} of the last {ns} "
						  "(limit {ppm}), {bytes} in use",
						  stalled, p->for_, p->pressure, usage));
	if (verdict == MEMCG_BPF_OVERRIDE) {
		s->cooldown_until = memcg_bpf_now(ctx) + p->cooldown;
		oom_forget_stalls(s); /* the kill answers the stalls so far */
	}
	return verdict;
}

/*
 * Many tasks that read files stall in turn: nearly always one of them is stalled, and all get on.
 * A cgroup that needs help has no task that gets on. The stalls of both kinds must be that long:
 * ours are those at the limit of this cgroup or of one above it, the kernel's are all.
 */
static __always_inline __u64 oom_stalled(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
					 struct oom_state *s)
{
	__u64 now = memcg_bpf_now(ctx), full;
	__u64 stalled = memcg_bpf_window_add(&s->stalled, p->for_, now, memcg_bpf_stalled(ctx));

	if (p->stall == OOM_STALL_FULL && !stalled)
		memcg_bpf_full_stall_pause(&s->psi);
	if (p->stall == OOM_STALL_FULL && stalled) {
		full = memcg_bpf_window_add(&s->full, p->for_, now,
					    memcg_bpf_full_stalled(ctx, &s->psi));
		if (full < stalled)
			stalled = full;
	}
	return stalled < p->for_ ? stalled : p->for_;
}

/* Called with the lock held, which it releases. */
static __always_inline int oom_check(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
				     struct oom_state *s)
{
	__u64 stalled = oom_stalled(ctx, p, s);
	int verdict = MEMCG_BPF_OK;

	if (stalled >= p->for_ / 1000 * p->pressure / 1000 &&
	    memcg_bpf_now(ctx) >= s->cooldown_until)
		verdict = oom_kill_stalled(ctx, p, s, stalled);
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

static int oom_stall(struct memcg_bpf_ctx *ctx, const struct oom_params *p)
{
	struct oom_state *s = memcg_bpf_state(ctx);

	if (!s || !memcg_bpf_trylock_every(ctx, &s->lock, OOM_CHECK_INTERVAL))
		return MEMCG_BPF_OK;
	return oom_check(ctx, p, s);
}

/* For stalls that do not end. */
static int oom_tick(struct memcg_bpf_ctx *ctx, const struct oom_params *p)
{
	struct oom_state *s = memcg_bpf_state(ctx);

	if (!s || !memcg_bpf_trylock(ctx, &s->lock))
		return MEMCG_BPF_OK;
	return oom_check(ctx, p, s);
}

static __u64 oom_interval(const struct oom_params *p)
{
	__u64 interval = p->for_ / 8;

	return p->stall == OOM_STALL_FULL && interval > MEMCG_BPF_FULL_STALL_TICK
		       ? MEMCG_BPF_FULL_STALL_TICK
		       : interval;
}

/* The kernel kills one process: with kill=group, the rest of the cgroup must not linger. */
static int oom_oom(struct memcg_bpf_ctx *ctx, const struct oom_params *p)
{
	struct oom_state *s = memcg_bpf_state(ctx);
	bool cooldown;

	if (!s)
		return MEMCG_BPF_OK;
	cooldown = memcg_bpf_now(ctx) < s->cooldown_until;
	s->cooldown_until = memcg_bpf_now(ctx) + p->cooldown;
	oom_forget_stalls(s);
	if (cooldown || p->kill != MEMCG_BPF_KILL_GROUP || !ctx->at_own_limit)
		return MEMCG_BPF_OK;
	return memcg_bpf_kill(ctx, p->kill, oom_order(p, MEMCG_BPF_VICTIM_LARGEST), p->grace,
			      MEMCG_BPF_REASON("the kernel found no memory for it, {bytes} in use",
					       memcg_bpf_usage(ctx)));
}

MEMCG_BPF_OPS(oom, charge = oom_charge, stall = oom_stall, oom = oom_oom, tick = oom_tick,
	      tick_interval = oom_interval);
