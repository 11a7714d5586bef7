/* SPDX-License-Identifier: GPL-2.0-only */
/* throttle: gives way while others suffer, step by step, and comes back afterwards. */
#include "memcg_bpf.h"

enum throttle_when {
	THROTTLE_WHEN_PROTECTED,
	THROTTLE_WHEN_HOST,
	THROTTLE_WHEN_GROWTH,
	THROTTLE_WHEN_ALWAYS,
};

struct throttle_params {
	enum throttle_when when MEMCG_BPF_DOC(
		"protected: while a cgroup with memory.low or memory.min waits for memory; host: "
		"while the machine itself is short; growth: when this cgroup grows too fast; "
		"always") MEMCG_BPF_DEFAULT("protected");
	memcg_bpf_ppm pressure
		MEMCG_BPF_DOC("protected, host: the share of a second that must have been waited")
			MEMCG_BPF_DEFAULT("1%") MEMCG_BPF_RANGE("0.1%..100%");
	memcg_bpf_bytes rate MEMCG_BPF_DOC("growth: what it may grow by in a second")
		MEMCG_BPF_DEFAULT("128M") MEMCG_BPF_RANGE("1M..1T");
	memcg_bpf_size high
		MEMCG_BPF_DOC("the memory.high to go to at once; 0: from what it has, step by step")
			MEMCG_BPF_DEFAULT("0");
	memcg_bpf_ppm step MEMCG_BPF_DOC("share of memory.high given away at each step")
		MEMCG_BPF_DEFAULT("5%") MEMCG_BPF_RANGE("1%..50%");
	memcg_bpf_size floor MEMCG_BPF_DOC("it keeps at least this much") MEMCG_BPF_DEFAULT("64M")
		MEMCG_BPF_RANGE("4M..");
	memcg_bpf_ns interval MEMCG_BPF_DOC("time between steps") MEMCG_BPF_DEFAULT("200ms")
		MEMCG_BPF_RANGE("50ms..1min");
	memcg_bpf_ns hold MEMCG_BPF_DOC("how long it stays down after the last cause")
		MEMCG_BPF_DEFAULT("5s") MEMCG_BPF_RANGE("0s..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Lower memory.high while others suffer, and raise it again afterwards.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(throttle);

struct throttle_state {
	struct memcg_bpf_window host;
	__u64 constraint;  /* the memory.high asked for; 0: none */
	__u64 last_action; /* when */
	__u64 last_cause;  /* when there was the last one */
	__u64 stalled;	   /* what it was */
	__u64 usage;	   /* at the last tick */
	__u64 last_tick;
	__u64 burst; /* charged since then */
	__u64 burst_began;
	__u64 lock;
};
MEMCG_BPF_STATE(throttle);

#define THROTTLE_SECOND 1000000000ULL
#define THROTTLE_RENEW	(10 * THROTTLE_SECOND) /* a third of the time after which a want lapses */
#define THROTTLE_WATCH	(5 * THROTTLE_SECOND)  /* what core watches for us, it watches so long */
#define THROTTLE_BURST_SPAN                                                       \
	(THROTTLE_SECOND / 50)	    /* growth is looked at so often between ticks \
				     */
#define THROTTLE_SLACK (8ULL << 20) /* and this much is never too fast */

/* --- causes ------------------------------------------------------------------------------------
 */

struct throttle_search {
	struct cgroup_subsys_state *css;
	__u64 own;
	__u64 now;
	__u64 most;
};

/*
 * Of those who suffer and do not belong to the throttled cgroup, the one who does most. Who waits
 * for the limit of a cgroup is helped by nobody outside of it.
 */
static long throttle_max_stalled(void *map, __u64 *cgroup, struct memcg_bpf_protected_stalls *it,
				 struct throttle_search *search)
{
	__u64 age = search->now - it->begin, waited = 0;

	if (*cgroup == search->own)
		return 0;
	for (int i = 0; i < MEMCG_BPF_STALL_LEVELS; i++)
		if (it->ancestors[i] == search->own)
			return 0;
	if (age < MEMCG_BPF_PROTECTED_STALLS_SPAN && it->before > waited)
		waited = it->before;
	if (age < 2 * MEMCG_BPF_PROTECTED_STALLS_SPAN && it->stall > waited)
		waited = it->stall;
	if (waited <= search->most)
		return 0;
	if (!it->limit || memcg_bpf_is_below(search->css, it->limit))
		search->most = waited;
	return 0;
}

/* How long others have waited within the last second. */
static __always_inline __u64 throttle_stalled(struct memcg_bpf_ctx *ctx, enum throttle_when when,
					      struct throttle_state *s)
{
	struct throttle_search search = {
		.css = memcg_bpf_to_call(ctx)->css,
		.own = ctx->cgroup,
		.now = ctx->now,
	};

	if (when == THROTTLE_WHEN_HOST) {
		memcg_globals.watch_host = ctx->now + THROTTLE_WATCH;
		return memcg_bpf_window_add(
			&s->host, THROTTLE_SECOND, ctx->now,
			memcg_bpf_stall_clock_read(&memcg_globals.host, ctx->now));
	}
	memcg_globals.watch_protected = ctx->now + THROTTLE_WATCH;
	bpf_for_each_map_elem(&memcg_protected_stalls, throttle_max_stalled, &search, 0);
	return search.most;
}

/* --- asking ------------------------------------------------------------------------------------
 */

static __always_inline int throttle_ask(struct memcg_bpf_ctx *ctx, const struct throttle_params *p,
					struct throttle_state *s, __u64 usage)
{
	s->last_action = ctx->now;
	switch (p->when) {
	case THROTTLE_WHEN_PROTECTED:
		return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_HIGH, s->constraint, 0,
				     "a protected cgroup waited for memory for {ns} of a second, "
				     "{bytes} in use here",
				     s->stalled, usage, 0, 0);
	case THROTTLE_WHEN_HOST:
		return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_HIGH, s->constraint, 0,
				     "the machine was short of memory for {ns} of a second, "
				     "{bytes} in use here",
				     s->stalled, usage, 0, 0);
	case THROTTLE_WHEN_GROWTH:
		return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_HIGH, s->constraint, 0,
				     "grew by {bytes} within {ns}, {bytes} in use", s->stalled,
				     ctx->now - s->last_tick, usage, 0);
	default:
		return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_HIGH, s->constraint, 0,
				     "always, {bytes} in use", usage, 0, 0, 0);
	}
}

static __always_inline int throttle_release(struct memcg_bpf_ctx *ctx, struct throttle_state *s,
					    __u64 usage)
{
	s->constraint = 0;
	return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_HIGH, MEMCG_BPF_RELEASE, 0,
			     "no cause for {ns}, {bytes} in use", ctx->now - s->last_cause, usage,
			     0, 0);
}

/* --- for the sake of others --------------------------------------------------------------------
 */

static __always_inline int throttle_step_down(struct memcg_bpf_ctx *ctx,
					      const struct throttle_params *p,
					      struct throttle_state *s, __u64 usage, __u64 floor)
{
	__u64 want = s->constraint, high = memcg_bpf_size_bytes(ctx, p->high), waited = 0;
	bool cause = p->when == THROTTLE_WHEN_ALWAYS;

	if (!cause) {
		waited = throttle_stalled(ctx, p->when, s);
		cause = waited / 1000 >= p->pressure;
	}
	if (cause) {
		s->last_cause = ctx->now;
		s->stalled = waited;
		if (high)
			want = high;
		else if (!want)
			want = usage - memcg_bpf_mul_ppm(usage, p->step);
		else if (usage <= want + memcg_bpf_mul_ppm(want, p->step))
			want -= memcg_bpf_mul_ppm(
				want, p->step); /* it has given, and it was not enough */
		if (want < floor)
			want = floor;
		/* Who has less than it may keep has nothing to give. */
		if (!s->constraint && usage <= want && !high)
			return MEMCG_BPF_OK;
	} else if (want && ctx->now - s->last_cause >= p->hold) {
		/* Back again, twice as fast, until it does not press against it any more. */
		want += 2 * memcg_bpf_mul_ppm(want, p->step);
		if (usage + usage / 4 < want || want >= memcg_bpf_effective_max(ctx))
			return throttle_release(ctx, s, usage);
	}
	if (!want || (want == s->constraint && ctx->now - s->last_action < THROTTLE_RENEW))
		return MEMCG_BPF_OK;
	s->constraint = want;
	return throttle_ask(ctx, p, s, usage);
}

/* --- growth ------------------------------------------------------------------------------------
 */

/* What it may grow by in so many ns. */
static __always_inline __u64 throttle_allowed(const struct throttle_params *p, __u64 ns)
{
	return p->rate / 1000000 * (ns / 1000);
}

static __always_inline int throttle_limit_growth(struct memcg_bpf_ctx *ctx,
						 const struct throttle_params *p,
						 struct throttle_state *s, __u64 usage, __u64 floor)
{
	__u64 allowed = throttle_allowed(p, ctx->now - s->last_tick), want = s->constraint;
	__u64 grew = usage > s->usage ? usage - s->usage : 0;

	if (!s->last_tick)
		return MEMCG_BPF_OK;
	if (!want && grew > allowed + THROTTLE_SLACK && usage > floor) {
		s->stalled = grew;
		s->last_cause = ctx->now;
		want = usage;
	} else if (want && usage + usage / 32 >= want) {
		s->last_cause = ctx->now; /* it presses: let it grow as fast as it may */
		want += allowed;
	} else if (want && ctx->now - s->last_cause >= p->hold) {
		return throttle_release(ctx, s, usage);
	}
	if (!want || (want == s->constraint && ctx->now - s->last_action < THROTTLE_RENEW))
		return MEMCG_BPF_OK;
	s->constraint = want;
	return throttle_ask(ctx, p, s, usage);
}

/* A burst is over before the next tick. */
MEMCG_BPF_CHARGE(throttle, ctx, p)
{
	struct throttle_state *s;
	int verdict = MEMCG_BPF_OK;
	__u64 usage;

	if (p->when != THROTTLE_WHEN_GROWTH)
		return MEMCG_BPF_OK;
	s = memcg_bpf_state(ctx);
	if (!s || s->constraint)
		return MEMCG_BPF_OK;
	if (ctx->now - s->burst_began > THROTTLE_BURST_SPAN) {
		s->burst_began = ctx->now;
		s->burst = 0;
	}
	memcg_bpf_add(&s->burst, ctx->bytes);
	if (s->burst <= throttle_allowed(p, THROTTLE_BURST_SPAN) + THROTTLE_SLACK)
		return MEMCG_BPF_OK;
	usage = memcg_bpf_usage(ctx);
	if (usage <= memcg_bpf_size_bytes(ctx, p->floor) || !memcg_bpf_trylock(&s->lock))
		return MEMCG_BPF_OK;
	if (!s->constraint) {
		s->stalled = s->burst;
		s->last_cause = ctx->now;
		s->last_tick = s->burst_began;
		s->constraint = usage;
		verdict = throttle_ask(ctx, p, s, usage);
		s->last_tick = ctx->now;
		s->usage = usage;
	}
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

MEMCG_BPF_TICK(throttle, ctx, p, p->interval)
{
	struct throttle_state *s = memcg_bpf_state(ctx);
	__u64 usage = memcg_bpf_usage(ctx), floor = memcg_bpf_size_bytes(ctx, p->floor);
	int verdict;

	if (!s || !memcg_bpf_trylock(&s->lock))
		return MEMCG_BPF_OK;
	verdict = p->when == THROTTLE_WHEN_GROWTH ? throttle_limit_growth(ctx, p, s, usage, floor)
						  : throttle_step_down(ctx, p, s, usage, floor);
	s->usage = usage;
	s->last_tick = ctx->now;
	memcg_bpf_unlock(&s->lock);
	return verdict;
}
