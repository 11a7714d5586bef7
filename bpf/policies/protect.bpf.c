/* SPDX-License-Identifier: GPL-2.0-only */
/* protect: keeps an important cgroup's memory while it is active, and lends it out while it is
 * idle. */
#include "memcg_bpf.h"
#include "running.h"

struct protect_params {
	memcg_bpf_size low MEMCG_BPF_DOC("memory.low while the cgroup is active")
		MEMCG_BPF_RANGE("64K..");
	memcg_bpf_ppm stall
		MEMCG_BPF_DOC("it is active when it waits for memory for this share of the time")
			MEMCG_BPF_DEFAULT("1%") MEMCG_BPF_RANGE("0.1%..100%");
	memcg_bpf_count refaults
		MEMCG_BPF_DOC("or when it needs so many pages in a second again that it has lost")
			MEMCG_BPF_DEFAULT("100") MEMCG_BPF_RANGE("1..1000000");
	memcg_bpf_ppm running MEMCG_BPF_DOC(
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
	struct memcg_bpf_window running;
	__u64 looks;  /* at which something ran */
	__u64 active; /* when it was last; 0: not since it was bound */
	__u64 asked;  /* when memory.low was; 0: not protected */
	__u64 want;
	__u64 looked;
	__u64 deciding;
};
MEMCG_BPF_STATE(protect);

#define PROTECT_TICKS 8 /* in a window */
#define PROTECT_LOOK  5000000ULL
#define PROTECT_RENEW 10000000000ULL

static __always_inline int protect_look(struct memcg_bpf_ctx *ctx, const struct protect_params *p,
					struct protect_state *s)
{
	const struct memcg_bpf_counters *c = memcg_bpf_counters(ctx);
	__u64 stalled, refaults, running, want;

	s->looked = ctx->now;
	stalled = memcg_bpf_grew(&s->stalled, p->window, ctx->now, memcg_bpf_stalled(ctx));
	refaults = memcg_bpf_grew(&s->refaults, p->window, ctx->now, c ? c->refaults : 0);
	running = memcg_bpf_grew(&s->running, p->window, ctx->now, s->looks);
	if (stalled >= p->window / 1000 * p->stall / 1000 ||
	    refaults >= p->refaults * (p->window / 1000000) / 1000 ||
	    running * 1000000 >= p->running * PROTECT_TICKS)
		s->active = ctx->now;
	if (!s->active)
		return MEMCG_BPF_OK;
	if (ctx->now - s->active > p->hold) {
		if (!s->asked)
			return MEMCG_BPF_OK;
		s->asked = 0;
		return memcg_bpf_ask(ctx, MEMCG_BPF_LOW, MEMCG_BPF_LET_GO, 0,
				     "idle for {ns}, {bytes} in use", ctx->now - s->active,
				     memcg_bpf_usage(ctx), 0, 0);
	}
	want = memcg_bpf_size_now(ctx, p->low);
	if (s->asked && s->want == want && ctx->now - s->asked < PROTECT_RENEW)
		return MEMCG_BPF_OK;
	s->asked = ctx->now;
	s->want = want;
	return memcg_bpf_ask(ctx, MEMCG_BPF_LOW, want, 0,
			     "active: waited {ns} and missed {count} pages within {ns}, "
			     "{bytes} in use",
			     stalled, refaults, p->window, memcg_bpf_usage(ctx));
}

static __always_inline int protect_wakes(struct memcg_bpf_ctx *ctx, const struct protect_params *p)
{
	struct protect_state *s = memcg_bpf_state(ctx);
	int verdict;

	/* Protected already, the ticks are enough. */
	if (!s || s->asked || ctx->now - s->looked < PROTECT_LOOK || !memcg_bpf_claim(&s->deciding))
		return MEMCG_BPF_OK;
	verdict = protect_look(ctx, p, s);
	memcg_bpf_release(&s->deciding);
	return verdict;
}

MEMCG_BPF_STALL(protect, ctx, p)
{
	return protect_wakes(ctx, p);
}

MEMCG_BPF_REFAULT(protect, ctx, p)
{
	return protect_wakes(ctx, p);
}

MEMCG_BPF_TICK(protect, ctx, p, p->window / PROTECT_TICKS)
{
	struct protect_state *s = memcg_bpf_state(ctx);
	int verdict;

	if (!s || !memcg_bpf_claim(&s->deciding))
		return MEMCG_BPF_OK;
	if (memcg_bpf_running(ctx))
		s->looks++;
	verdict = protect_look(ctx, p, s);
	memcg_bpf_release(&s->deciding);
	return verdict;
}
