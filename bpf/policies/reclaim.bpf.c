/* SPDX-License-Identifier: GPL-2.0-only */
/* reclaim: gives memory back that nobody misses, a little at a time. */
#include "memcg_bpf.h"

struct reclaim_params {
	memcg_bpf_ppm pressure
		MEMCG_BPF_DOC("stops when tasks wait for memory for this share of the time")
			MEMCG_BPF_DEFAULT("0.1%") MEMCG_BPF_RANGE("0.01%..100%");
	memcg_bpf_ns interval MEMCG_BPF_DOC("time between two helpings") MEMCG_BPF_DEFAULT("2s")
		MEMCG_BPF_RANGE("100ms..1h");
	memcg_bpf_ppm step MEMCG_BPF_DOC("the largest helping, as a share of what is in use")
		MEMCG_BPF_DEFAULT("1%") MEMCG_BPF_RANGE("0.1%..50%");
	memcg_bpf_size floor MEMCG_BPF_DOC("leaves at least this much") MEMCG_BPF_DEFAULT("16M");
	memcg_bpf_count swappiness MEMCG_BPF_DOC(
		"0: file cache only, 200: swap first (from Linux 6.9); 201: as the machine is set")
		MEMCG_BPF_DEFAULT("201") MEMCG_BPF_RANGE("0..201");
	memcg_bpf_bytes rate MEMCG_BPF_DOC("takes at most this much in a second")
		MEMCG_BPF_DEFAULT("64M") MEMCG_BPF_RANGE("1M..1T");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Give cold memory back continuously, within a budget of pressure.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(reclaim);

struct reclaim_state {
	__u64 looked; /* at the last tick: */
	__u64 stalled;
	__u64 refaults;
	__u64 reclaimed;
	__u64 asked;  /* bytes, then */
	__u64 pause;  /* intervals to wait still */
	__u64 pauses; /* how many the last time */
};
MEMCG_BPF_STATE(reclaim);

#define RECLAIM_LEAST	   (256ULL << 10) /* a smaller helping is not worth the kernel's while */
#define RECLAIM_PAUSES_MAX 32
#define RECLAIM_MISSED	   4 /* one page in so many that is needed again is too many */
#define RECLAIM_FRUITLESS  4 /* and so is one in so many that was got */

/* Longer each time, until something goes well again. */
static __always_inline int reclaim_pause(struct reclaim_state *s)
{
	s->pauses = s->pauses ? s->pauses * 2 : 1;
	if (s->pauses > RECLAIM_PAUSES_MAX)
		s->pauses = RECLAIM_PAUSES_MAX;
	s->pause = s->pauses;
	return MEMCG_BPF_OK;
}

static __always_inline int reclaim_helping(struct memcg_bpf_ctx *ctx,
					   const struct reclaim_params *p, struct reclaim_state *s,
					   __u64 share)
{
	__u64 usage = memcg_bpf_usage(ctx), floor = memcg_bpf_size_now(ctx, p->floor);
	__u64 most = p->rate / 1000 * (p->interval / 1000000), helping;

	/* Less, the nearer the budget. */
	helping = memcg_bpf_part(usage, p->step) / p->pressure * (p->pressure - share);
	if (helping > most)
		helping = most;
	if (usage < floor + helping)
		helping = usage > floor ? usage - floor : 0;
	if (helping < RECLAIM_LEAST)
		return MEMCG_BPF_OK;
	s->asked = helping;
	return memcg_bpf_ask(
		ctx, MEMCG_BPF_RECLAIM, helping,
		p->swappiness > 200 ? MEMCG_BPF_SWAPPINESS_DEFAULT : p->swappiness,
		"waited for memory {ppm} of the time ({ppm} is allowed), {bytes} in use", share,
		p->pressure, usage, 0);
}

MEMCG_BPF_TICK(reclaim, ctx, p, p->interval)
{
	struct reclaim_state *s = memcg_bpf_state(ctx);
	const struct memcg_bpf_counters *c = memcg_bpf_counters(ctx);
	__u64 stalled, refaults, reclaimed, asked, elapsed, share;

	if (!s || !c)
		return MEMCG_BPF_OK;
	elapsed = (ctx->now - s->looked) / 1000;
	stalled = memcg_bpf_stalled(ctx) - s->stalled;
	refaults = c->refaults - s->refaults;
	reclaimed = c->reclaimed_pages - s->reclaimed;
	asked = s->asked >> MEMCG_BPF_PAGE_SHIFT;
	s->stalled += stalled;
	s->refaults += refaults;
	s->reclaimed += reclaimed;
	s->asked = 0;
	if (!s->looked || !elapsed) {
		s->looked = ctx->now; /* nothing to compare with yet */
		return MEMCG_BPF_OK;
	}
	s->looked = ctx->now;
	share = stalled * 1000 / elapsed; /* ns in us: parts per million */
	if (share >= p->pressure)
		return reclaim_pause(s);
	if (asked && (refaults > asked / RECLAIM_MISSED || reclaimed < asked / RECLAIM_FRUITLESS))
		return reclaim_pause(s);
	if (s->pause) {
		s->pause--;
		return MEMCG_BPF_OK;
	}
	if (asked)
		s->pauses /= 2; /* it went well */
	return reclaim_helping(ctx, p, s, share);
}
