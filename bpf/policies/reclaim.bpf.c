/* SPDX-License-Identifier: GPL-2.0-only */
/* reclaim: reclaims memory that is not used, in small batches. */
#include "memcg_bpf.h"

struct reclaim_params {
	memcg_bpf_ppm pressure
		MEMCG_BPF_DOC("stops when tasks are stalled on memory for this share of the time")
			MEMCG_BPF_DEFAULT("0.1%") MEMCG_BPF_RANGE("0.01%..100%");
	memcg_bpf_ns interval MEMCG_BPF_DOC("time between two batches") MEMCG_BPF_DEFAULT("2s")
		MEMCG_BPF_RANGE("100ms..1h");
	memcg_bpf_ppm step MEMCG_BPF_DOC("maximum batch size, as a share of the memory in use")
		MEMCG_BPF_DEFAULT("1%") MEMCG_BPF_RANGE("0.1%..50%");
	memcg_bpf_size floor MEMCG_BPF_DOC("amount of memory that is never reclaimed")
		MEMCG_BPF_DEFAULT("16M");
	memcg_bpf_count swappiness MEMCG_BPF_DOC("0: file cache only; 200: prefers swap (since "
						 "Linux 6.9); 201: the system's setting")
		MEMCG_BPF_DEFAULT("201") MEMCG_BPF_RANGE("0..201");
	memcg_bpf_bytes rate MEMCG_BPF_DOC("maximum amount reclaimed per second")
		MEMCG_BPF_DEFAULT("64M") MEMCG_BPF_RANGE("1M..1T");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Reclaim cold memory continuously, within a pressure budget.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(reclaim);

struct reclaim_state {
	__u64 last_check; /* at the last tick: */
	__u64 stalled;
	__u64 refaults;
	__u64 reclaimed;
	__u64 requested;    /* bytes, at the last tick */
	__u64 backoff;	    /* intervals of the last backoff */
	__u64 backoff_left; /* of it, still to wait */
};
MEMCG_BPF_STATE(reclaim);

#define RECLAIM_BATCH_MIN     (256ULL << 10) /* below this the kernel's work is not worth it */
#define RECLAIM_BACKOFF_MAX   32
#define RECLAIM_REFAULT_LIMIT 4 /* one refault in so many pages requested is too many */
#define RECLAIM_YIELD_LIMIT   4 /* fewer pages than one in so many requested are too few */

/* Twice as long each time, until a batch succeeds. */
static __always_inline int reclaim_backoff(struct reclaim_state *s)
{
	s->backoff = s->backoff ? s->backoff * 2 : 1;
	if (s->backoff > RECLAIM_BACKOFF_MAX)
		s->backoff = RECLAIM_BACKOFF_MAX;
	s->backoff_left = s->backoff;
	return MEMCG_BPF_OK;
}

static __always_inline int reclaim_batch(struct memcg_bpf_ctx *ctx, const struct reclaim_params *p,
					 struct reclaim_state *s, __u64 share)
{
	__u64 usage = memcg_bpf_usage(ctx), floor = memcg_bpf_size_bytes(ctx, p->floor);
	__u64 max = p->rate / 1000 * (p->interval / 1000000), batch;

	/* Smaller, the nearer the budget. */
	batch = memcg_bpf_mul_ppm(usage, p->step) / p->pressure * (p->pressure - share);
	if (batch > max)
		batch = max;
	if (usage < floor + batch)
		batch = usage > floor ? usage - floor : 0;
	if (batch < RECLAIM_BATCH_MIN)
		return MEMCG_BPF_OK;
	s->requested = batch;
	return memcg_bpf_reclaim(
		ctx, batch, p->swappiness > 200 ? MEMCG_BPF_SWAPPINESS_DEFAULT : p->swappiness,
		MEMCG_BPF_REASON(
			"stalled on memory {ppm} of the time (limit {ppm}), {bytes} in use", share,
			p->pressure, usage));
}

static int reclaim_tick(struct memcg_bpf_ctx *ctx, const struct reclaim_params *p)
{
	struct reclaim_state *s = memcg_bpf_state(ctx);
	const struct memcg_bpf_counters *c = memcg_bpf_counters(ctx);
	__u64 now = memcg_bpf_now(ctx), stalled, refaults, reclaimed, requested, elapsed, share;

	if (!s || !c)
		return MEMCG_BPF_OK;
	elapsed = (now - s->last_check) / 1000;
	stalled = memcg_bpf_stalled(ctx) - s->stalled;
	refaults = c->refaults - s->refaults;
	reclaimed = c->reclaimed_pages - s->reclaimed;
	requested = s->requested >> MEMCG_BPF_PAGE_SHIFT;
	s->stalled += stalled;
	s->refaults += refaults;
	s->reclaimed += reclaimed;
	s->requested = 0;
	if (!s->last_check || !elapsed) {
		s->last_check = now; /* nothing to compare with yet */
		return MEMCG_BPF_OK;
	}
	s->last_check = now;
	share = stalled * 1000 / elapsed; /* ns in us: parts per million */
	if (share >= p->pressure)
		return reclaim_backoff(s);
	if (requested && (refaults > requested / RECLAIM_REFAULT_LIMIT ||
			  reclaimed < requested / RECLAIM_YIELD_LIMIT))
		return reclaim_backoff(s);
	if (s->backoff_left) {
		s->backoff_left--;
		return MEMCG_BPF_OK;
	}
	if (requested)
		s->backoff /= 2; /* the last batch succeeded */
	return reclaim_batch(ctx, p, s, share);
}

static __u64 reclaim_interval(const struct reclaim_params *p)
{
	return p->interval;
}

MEMCG_BPF_OPS(reclaim, tick = reclaim_tick, tick_interval = reclaim_interval);
