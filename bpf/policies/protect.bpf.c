/* SPDX-License-Identifier: GPL-2.0-only */
/* protect: keeps an important cgroup's memory while it is active, and lends it out while it is
 * idle. */
#include "memcg_bpf.h"
#include "runnable.h"

struct protect_params {
	memcg_bpf_size low MEMCG_BPF_DOC("memory.low while the cgroup is active")
		MEMCG_BPF_RANGE("64K..");
	memcg_bpf_ppm stall
		MEMCG_BPF_DOC("it is active when it waits for memory for this share of the time")
			MEMCG_BPF_DEFAULT("1%") MEMCG_BPF_RANGE("0.1%..100%");
	memcg_bpf_count refaults
		MEMCG_BPF_DOC("or when it needs so many pages in a second again that it has lost")
			MEMCG_BPF_DEFAULT("100") MEMCG_BPF_RANGE("1..1000000");
	memcg_bpf_ppm cpu MEMCG_BPF_DOC(
		"or when it has something to run for this share of the time (on x86, with PSI)")
		MEMCG_BPF_DEFAULT("10%") MEMCG_BPF_RANGE("1%..100%");
	memcg_bpf_ns window MEMCG_BPF_DOC("the time over which these are taken")
		MEMCG_BPF_DEFAULT("1s") MEMCG_BPF_RANGE("400ms..1min");
	memcg_bpf_ns hold MEMCG_BPF_DOC("it stays protected for this time after it was last active")
		MEMCG_BPF_DEFAULT("10s") MEMCG_BPF_RANGE("1s..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Protect a cgroup's memory while it is active, lend it to others while it is idle.")
	MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(protect);

struct protect_state {
	struct memcg_bpf_window stalled;
	struct memcg_bpf_window refaults;
	struct memcg_bpf_window cpu;
	__u64 busy_ticks;  /* at which something ran */
	__u64 active;	   /* when it was last; 0: not since it was bound */
	__u64 last_action; /* when memory.low was; 0: not protected */
	__u64 constraint;
	__u64 last_check;
	__u64 lock;
};
MEMCG_BPF_STATE(protect);

#define PROTECT_TICKS	       8 /* in a window */
#define PROTECT_CHECK_INTERVAL 5000000ULL
#define PROTECT_RENEW	       10000000000ULL

static __always_inline int protect_check(struct memcg_bpf_ctx *ctx, const struct protect_params *p,
					 struct protect_state *s)
{
	const struct memcg_bpf_counters *c = memcg_bpf_counters(ctx);
	__u64 stalled, refaults, running, want;

	s->last_check = ctx->now;
	stalled = memcg_bpf_window_add(&s->stalled, p->window, ctx->now, memcg_bpf_stalled(ctx));
	refaults = memcg_bpf_window_add(&s->refaults, p->window, ctx->now, c ? c->refaults : 0);
	running = memcg_bpf_window_add(&s->cpu, p->window, ctx->now, s->busy_ticks);
	if (stalled >= p->window / 1000 * p->stall / 1000 ||
	    refaults >= p->refaults * (p->window / 1000000) / 1000 ||
	    running * 1000000 >= p->cpu * PROTECT_TICKS)
		s->active = ctx->now;
	if (!s->active)
		return MEMCG_BPF_OK;
	if (ctx->now - s->active > p->hold) {
		if (!s->last_action)
			return MEMCG_BPF_OK;
		s->last_action = 0;
		return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_LOW, MEMCG_BPF_RELEASE, 0,
				     "idle for {ns}, {bytes} in use", ctx->now - s->active,
				     memcg_bpf_usage(ctx), 0, 0);
	}
	want = memcg_bpf_size_bytes(ctx, p->low);
	if (s->last_action && s->constraint == want && ctx->now - s->last_action < PROTECT_RENEW)
		return MEMCG_BPF_OK;
	s->last_action = ctx->now;
	s->constraint = want;
	return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_LOW, want, 0,
			     "active: waited {ns} and missed {count} pages within {ns}, "
			     "{bytes} in use",
			     stalled, refaults, p->window, memcg_bpf_usage(ctx));
}

static __always_inline int protect_on_activity(struct memcg_bpf_ctx *ctx,
					       const struct protect_params *p)
{
	struct protect_state *s = memcg_bpf_state(ctx);
	int verdict;

	/* Protected already, the ticks are enough. */
	if (!s || s->last_action || ctx->now - s->last_check < PROTECT_CHECK_INTERVAL ||
	    !memcg_bpf_trylock(&s->lock))
		return MEMCG_BPF_OK;
	verdict = protect_check(ctx, p, s);
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

MEMCG_BPF_STALL(protect, ctx, p)
{
	return protect_on_activity(ctx, p);
}

MEMCG_BPF_REFAULT(protect, ctx, p)
{
	return protect_on_activity(ctx, p);
}

MEMCG_BPF_TICK(protect, ctx, p, p->window / PROTECT_TICKS)
{
	struct protect_state *s = memcg_bpf_state(ctx);
	int verdict;

	if (!s || !memcg_bpf_trylock(&s->lock))
		return MEMCG_BPF_OK;
	if (memcg_bpf_has_runnable(ctx))
		s->busy_ticks++;
	verdict = protect_check(ctx, p, s);
	memcg_bpf_unlock(&s->lock);
	return verdict;
}
