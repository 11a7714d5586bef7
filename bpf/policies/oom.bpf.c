/* SPDX-License-Identifier: GPL-2.0-only */
/* oom: kills while the cgroup is stalled on memory, before the machine becomes unresponsive. */
#include "memcg_bpf.h"

struct oom_params {
	memcg_bpf_ppm pressure MEMCG_BPF_DOC(
		"kills when at least one task is stalled on memory for this share of the time")
		MEMCG_BPF_DEFAULT("60%") MEMCG_BPF_RANGE("1%..100%");
	memcg_bpf_ns for_ MEMCG_BPF_DOC("time span over which that share is measured")
		MEMCG_BPF_DEFAULT("2s") MEMCG_BPF_RANGE("100ms..10min");
	memcg_bpf_size
		usage MEMCG_BPF_DOC("kills only while the cgroup uses at least this much memory")
			MEMCG_BPF_DEFAULT("0");
	enum memcg_bpf_kill_scope kill MEMCG_BPF_DOC(
		"scope of a kill: one process, one cgroup without children, or the whole cgroup")
		MEMCG_BPF_DEFAULT("process");
	enum memcg_bpf_victim_order
		select MEMCG_BPF_DOC("the victim: the process or cgroup with most memory, the one "
				     "started last, or the one whose cgroup is stalled most")
			MEMCG_BPF_DEFAULT("largest");
	memcg_bpf_ns
		grace MEMCG_BPF_DOC("time between SIGTERM and SIGKILL; 0: SIGKILL is sent at once")
			MEMCG_BPF_DEFAULT("0s") MEMCG_BPF_RANGE("0s..5min");
	memcg_bpf_ns cooldown
		MEMCG_BPF_DOC("minimum time between two kills, by this policy or by the kernel")
			MEMCG_BPF_DEFAULT("5s") MEMCG_BPF_RANGE("100ms..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Kill early, when the cgroup is mostly stalled on memory.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(oom);

struct oom_state {
	struct memcg_bpf_window stalled;
	struct memcg_bpf_lock lock;
	__u64 cooldown_until;
};
MEMCG_BPF_STATE(oom);

#define OOM_CHECK_INTERVAL 2000000ULL /* of the checks when stalls end (2 ms) */

static __always_inline int oom_kill_victim(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
					   struct oom_state *s, __u64 stalled)
{
	__u64 usage = memcg_bpf_usage(ctx);
	int verdict;

	if (usage < memcg_bpf_size_bytes(ctx, p->usage))
		return MEMCG_BPF_OK;
	verdict = memcg_bpf_kill(ctx, p->kill, p->select, p->grace,
				 MEMCG_BPF_REASON("stalled on memory for {ns} of the last {ns} "
						  "(limit {ppm}), {bytes} in use",
						  stalled, p->for_, p->pressure, usage));
	if (verdict == MEMCG_BPF_OVERRIDE) {
		s->cooldown_until = memcg_bpf_now(ctx) + p->cooldown;
		memcg_bpf_window_reset(&s->stalled); /* the kill answers the stalls so far */
	}
	return verdict;
}

/* Called with the lock held, which it releases. */
static __always_inline int oom_check(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
				     struct oom_state *s)
{
	__u64 now = memcg_bpf_now(ctx), stalled;
	int verdict = MEMCG_BPF_OK;

	stalled = memcg_bpf_window_add(&s->stalled, p->for_, now, memcg_bpf_stalled(ctx));
	if (stalled > p->for_)
		stalled = p->for_;
	if (stalled >= p->for_ / 1000 * p->pressure / 1000 && now >= s->cooldown_until)
		verdict = oom_kill_victim(ctx, p, s, stalled);
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
	return p->for_ / 8;
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
	memcg_bpf_window_reset(&s->stalled);
	if (cooldown || p->kill != MEMCG_BPF_KILL_GROUP || !ctx->at_own_limit)
		return MEMCG_BPF_OK;
	return memcg_bpf_kill(ctx, p->kill, p->select, p->grace,
			      MEMCG_BPF_REASON("the kernel found no memory for it, {bytes} in use",
					       memcg_bpf_usage(ctx)));
}

MEMCG_BPF_OPS(oom, stall = oom_stall, oom = oom_oom, tick = oom_tick, tick_interval = oom_interval);
