/* SPDX-License-Identifier: GPL-2.0-only */
/* oom: end the right thing early, before the machine crawls. */
#include "memcg_bpf.h"

/* As enum memcg_bpf_kill_select and _scope. */
enum oom_select {
	OOM_SELECT_LARGEST,
	OOM_SELECT_NEWEST,
	OOM_SELECT_PRESSURE,
};

enum oom_kill {
	OOM_KILL_PROCESS,
	OOM_KILL_LEAF,
	OOM_KILL_GROUP,
};

struct oom_params {
	memcg_bpf_ppm pressure MEMCG_BPF_DOC(
		"kills when at least one task waits for memory for this share of the time")
		MEMCG_BPF_DEFAULT("60%") MEMCG_BPF_RANGE("1%..100%");
	memcg_bpf_ns for_ MEMCG_BPF_DOC("the time over which that share is taken")
		MEMCG_BPF_DEFAULT("2s") MEMCG_BPF_RANGE("100ms..10min");
	memcg_bpf_size
		usage MEMCG_BPF_DOC("kills only while the cgroup has at least this much memory")
			MEMCG_BPF_DEFAULT("0");
	enum oom_kill kill MEMCG_BPF_DOC("what ends: one process, one cgroup without children, or "
					 "all that is governed") MEMCG_BPF_DEFAULT("process");
	enum oom_select select MEMCG_BPF_DOC(
		"which process or cgroup: the one with most memory, the one started last, or the "
		"one whose cgroup waits most") MEMCG_BPF_DEFAULT("largest");
	memcg_bpf_ns grace MEMCG_BPF_DOC("time between SIGTERM and SIGKILL; 0: SIGKILL at once")
		MEMCG_BPF_DEFAULT("0s") MEMCG_BPF_RANGE("0s..5min");
	memcg_bpf_ns cooldown
		MEMCG_BPF_DOC("after a kill, by us or by the kernel, none follows for this time")
			MEMCG_BPF_DEFAULT("5s") MEMCG_BPF_RANGE("100ms..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Kill early, when the cgroup only waits for memory.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(oom);

struct oom_state {
	struct memcg_bpf_window stalled;
	__u64 lock;
	__u64 last_check;
	__u64 cooldown_until; /* until then no kill: one has just been */
};
MEMCG_BPF_STATE(oom);

#define OOM_CHECK_INTERVAL 2000000ULL /* at stalls, look at most so often (2 ms) */

static __always_inline int oom_kill_victim(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
					   struct oom_state *s, __u64 stalled)
{
	__u64 usage = memcg_bpf_usage(ctx);
	int verdict;

	if (usage < memcg_bpf_size_bytes(ctx, p->usage))
		return MEMCG_BPF_OK;
	verdict = memcg_bpf_ask(
		ctx, MEMCG_BPF_ACT_KILL, p->grace, MEMCG_BPF_KILL_HOW(p->kill, p->select),
		"tasks waited for memory for {ns} of the last {ns} ({ppm} is allowed), "
		"{bytes} in use",
		stalled, p->for_, p->pressure, usage);
	if (verdict == MEMCG_BPF_OVERRIDE) {
		s->cooldown_until = ctx->now + p->cooldown;
		s->stalled.width = 0; /* what was waited so far has had its answer */
	}
	return verdict;
}

static __always_inline int oom_check(struct memcg_bpf_ctx *ctx, const struct oom_params *p,
				     struct oom_state *s)
{
	int verdict = MEMCG_BPF_OK;
	__u64 stalled;

	if (!memcg_bpf_trylock(&s->lock))
		return MEMCG_BPF_OK;
	s->last_check = ctx->now;
	stalled = memcg_bpf_window_add(&s->stalled, p->for_, ctx->now, memcg_bpf_stalled(ctx));
	if (stalled > p->for_)
		stalled = p->for_;
	if (stalled >= p->for_ / 1000 * p->pressure / 1000 && ctx->now >= s->cooldown_until)
		verdict = oom_kill_victim(ctx, p, s, stalled);
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

/* A wait has ended. */
MEMCG_BPF_STALL(oom, ctx, p)
{
	struct oom_state *s = memcg_bpf_state(ctx);

	return s && ctx->now - s->last_check > OOM_CHECK_INTERVAL ? oom_check(ctx, p, s)
								  : MEMCG_BPF_OK;
}

/* For waits that do not end. */
MEMCG_BPF_TICK(oom, ctx, p, p->for_ / 8)
{
	struct oom_state *s = memcg_bpf_state(ctx);

	return s ? oom_check(ctx, p, s) : MEMCG_BPF_OK;
}

/* The kernel was first. It kills one process; who said `group` does not want the rest to linger. */
MEMCG_BPF_OOM(oom, ctx, p)
{
	struct oom_state *s = memcg_bpf_state(ctx);
	bool again;

	if (!s)
		return MEMCG_BPF_OK;
	again = ctx->now < s->cooldown_until;
	s->cooldown_until = ctx->now + p->cooldown;
	s->stalled.width = 0;
	if (again || p->kill != OOM_KILL_GROUP || !ctx->at_own_limit)
		return MEMCG_BPF_OK;
	return memcg_bpf_ask(
		ctx, MEMCG_BPF_ACT_KILL, p->grace, MEMCG_BPF_KILL_HOW(p->kill, p->select),
		"the kernel found no memory for it, {bytes} in use", memcg_bpf_usage(ctx), 0, 0, 0);
}
