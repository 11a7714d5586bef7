/* SPDX-License-Identifier: GPL-2.0-only */
/* protect: sets memory.low while the cgroup is active, and releases it while it is idle. */
#include "memcg_bpf.h"

struct protect_params {
	memcg_bpf_size low MEMCG_BPF_DOC("value of memory.low while the cgroup is active")
		MEMCG_BPF_RANGE("64K..");
	memcg_bpf_ppm stall MEMCG_BPF_DOC(
		"the cgroup is active if it is stalled on memory for this share of the time")
		MEMCG_BPF_DEFAULT("1%") MEMCG_BPF_RANGE("0.1%..100%");
	memcg_bpf_count refaults
		MEMCG_BPF_DOC("the cgroup is active if it refaults this many pages per second")
			MEMCG_BPF_DEFAULT("100") MEMCG_BPF_RANGE("1..1000000");
	memcg_bpf_ppm cpu MEMCG_BPF_DOC("the cgroup is active if it has runnable tasks for this "
					"share of the time (x86 with PSI only)")
		MEMCG_BPF_DEFAULT("10%") MEMCG_BPF_RANGE("1%..100%");
	memcg_bpf_ns
		window MEMCG_BPF_DOC("time span over which stall, refaults and cpu are measured")
			MEMCG_BPF_DEFAULT("1s") MEMCG_BPF_RANGE("400ms..1min");
	memcg_bpf_ns
		hold MEMCG_BPF_DOC("time that the cgroup stays protected after it was last active")
			MEMCG_BPF_DEFAULT("10s") MEMCG_BPF_RANGE("1s..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Protect a cgroup's memory while it is active, lend it to others while it is idle.")
	MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(protect);

struct protect_state {
	struct memcg_bpf_window stalled;
	struct memcg_bpf_window refaults;
	struct memcg_bpf_window cpu;
	struct memcg_bpf_constraint low;
	struct memcg_bpf_lock lock;
	__u64 busy_ticks; /* with runnable tasks */
	__u64 active;	  /* when it was last; 0: not since it was bound */
};
MEMCG_BPF_STATE(protect);

#define PROTECT_TICKS	       8	  /* in a window */
#define PROTECT_CHECK_INTERVAL 5000000ULL /* of the checks at stalls and refaults (5 ms) */

/* Called with the lock held. */
static __always_inline int protect_check(struct memcg_bpf_ctx *ctx, const struct protect_params *p,
					 struct protect_state *s)
{
	const struct memcg_bpf_counters *c = memcg_bpf_counters(ctx);
	__u64 now = memcg_bpf_now(ctx), stalled, refaults, busy, low;

	stalled = memcg_bpf_window_add(&s->stalled, p->window, now, memcg_bpf_stalled(ctx));
	refaults = memcg_bpf_window_add(&s->refaults, p->window, now, c ? c->refaults : 0);
	busy = memcg_bpf_window_add(&s->cpu, p->window, now, s->busy_ticks);
	if (stalled >= p->window / 1000 * p->stall / 1000 ||
	    refaults >= p->refaults * (p->window / 1000000) / 1000 ||
	    busy * 1000000 >= p->cpu * PROTECT_TICKS)
		s->active = now;
	if (!s->active)
		return MEMCG_BPF_OK;
	if (now - s->active > p->hold) {
		if (!memcg_bpf_constraint_end(&s->low))
			return MEMCG_BPF_OK;
		return memcg_bpf_release_low(ctx, MEMCG_BPF_REASON("idle for {ns}, {bytes} in use",
								   now - s->active,
								   memcg_bpf_usage(ctx)));
	}
	low = memcg_bpf_size_bytes(ctx, p->low);
	if (!memcg_bpf_constraint_update(ctx, &s->low, low))
		return MEMCG_BPF_OK;
	return memcg_bpf_set_low(ctx, low,
				 MEMCG_BPF_REASON("active: stalled {ns} and {count} refaults "
						  "within {ns}, {bytes} in use",
						  stalled, refaults, p->window,
						  memcg_bpf_usage(ctx)));
}

/* At a stall or a refault. While the cgroup is protected, ticks are enough. */
static __always_inline int protect_on_activity(struct memcg_bpf_ctx *ctx,
					       const struct protect_params *p)
{
	struct protect_state *s = memcg_bpf_state(ctx);
	int verdict;

	if (!s || s->low.bytes || !memcg_bpf_trylock_every(ctx, &s->lock, PROTECT_CHECK_INTERVAL))
		return MEMCG_BPF_OK;
	verdict = protect_check(ctx, p, s);
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

static int protect_tick(struct memcg_bpf_ctx *ctx, const struct protect_params *p)
{
	struct protect_state *s = memcg_bpf_state(ctx);
	int verdict;

	if (!s || !memcg_bpf_trylock(ctx, &s->lock))
		return MEMCG_BPF_OK;
	if (memcg_bpf_has_runnable(ctx))
		s->busy_ticks++;
	verdict = protect_check(ctx, p, s);
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

static __u64 protect_interval(const struct protect_params *p)
{
	return p->window / PROTECT_TICKS;
}

MEMCG_BPF_OPS(protect, stall = protect_on_activity, refault = protect_on_activity,
	      tick = protect_tick, tick_interval = protect_interval);
