/* SPDX-License-Identifier: GPL-2.0-only */
/* throttle: lowers memory.high step by step while there is a cause, and raises it again afterwards.
 */
#include "memcg_bpf.h"

enum throttle_when {
	THROTTLE_WHEN_PROTECTED,
	THROTTLE_WHEN_HOST,
	THROTTLE_WHEN_GROWTH,
	THROTTLE_WHEN_ALWAYS,
};

struct throttle_params {
	enum throttle_when when MEMCG_BPF_DOC(
		"protected: while a cgroup with memory.low or memory.min is stalled on memory; "
		"host: while the whole machine is short of memory; growth: while this cgroup grows "
		"faster than rate; always: while the policy is attached")
		MEMCG_BPF_DEFAULT("protected");
	memcg_bpf_ppm pressure MEMCG_BPF_DOC(
		"for protected and host: stall time per second from which the condition holds")
		MEMCG_BPF_DEFAULT("1%") MEMCG_BPF_RANGE("0.1%..100%");
	memcg_bpf_bytes rate MEMCG_BPF_DOC("for growth: allowed growth per second")
		MEMCG_BPF_DEFAULT("128M") MEMCG_BPF_RANGE("1M..1T");
	memcg_bpf_size high MEMCG_BPF_DOC("value to which memory.high is set in one step; 0: "
					  "lowered step by step from current usage")
		MEMCG_BPF_DEFAULT("0");
	memcg_bpf_ppm step MEMCG_BPF_DOC("share by which each step lowers memory.high")
		MEMCG_BPF_DEFAULT("5%") MEMCG_BPF_RANGE("1%..50%");
	memcg_bpf_size floor MEMCG_BPF_DOC("lower bound of memory.high") MEMCG_BPF_DEFAULT("64M")
		MEMCG_BPF_RANGE("4M..");
	memcg_bpf_ns interval MEMCG_BPF_DOC("time between steps") MEMCG_BPF_DEFAULT("200ms")
		MEMCG_BPF_RANGE("50ms..1min");
	memcg_bpf_ns hold
		MEMCG_BPF_DOC("time that memory.high stays lowered after the condition last held")
			MEMCG_BPF_DEFAULT("5s") MEMCG_BPF_RANGE("0s..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Lower memory.high under contention, and raise it again afterwards.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_PRESSURE;
MEMCG_BPF_POLICY(throttle);

struct throttle_state {
	struct memcg_bpf_window host;
	struct memcg_bpf_constraint high;
	struct memcg_bpf_lock lock;
	__u64 last_cause; /* when */
	__u64 cause;	  /* protected, host: time stalled; growth: bytes grown */
	__u64 usage;	  /* at the last tick */
	__u64 last_tick;
	__u64 burst; /* charged since burst_began */
	__u64 burst_began;
};
MEMCG_BPF_STATE(throttle);

#define THROTTLE_BURST_SPAN (MEMCG_BPF_SECOND / 50) /* growth between ticks is measured over */
#define THROTTLE_SLACK	    (8ULL << 20)	    /* growth that is never too fast */

/* --- requests --- */

static __always_inline int throttle_request(struct memcg_bpf_ctx *ctx,
					    const struct throttle_params *p,
					    struct throttle_state *s, __u64 high, __u64 usage)
{
	if (!high || !memcg_bpf_constraint_update(ctx, &s->high, high))
		return MEMCG_BPF_OK;
	switch (p->when) {
	case THROTTLE_WHEN_PROTECTED:
		return memcg_bpf_set_high(
			ctx, high,
			MEMCG_BPF_REASON("a protected cgroup was stalled on memory "
					 "for {ns} of a second, {bytes} in use "
					 "here",
					 s->cause, usage));
	case THROTTLE_WHEN_HOST:
		return memcg_bpf_set_high(ctx, high,
					  MEMCG_BPF_REASON("the machine was short of memory for "
							   "{ns} of a second, {bytes} in use here",
							   s->cause, usage));
	case THROTTLE_WHEN_GROWTH:
		return memcg_bpf_set_high(
			ctx, high,
			MEMCG_BPF_REASON("grew by {bytes} within {ns}, {bytes} in "
					 "use",
					 s->cause, memcg_bpf_now(ctx) - s->last_tick, usage));
	default:
		return memcg_bpf_set_high(ctx, high,
					  MEMCG_BPF_REASON("always, {bytes} in use", usage));
	}
}

static __always_inline int throttle_release(struct memcg_bpf_ctx *ctx, struct throttle_state *s,
					    __u64 usage)
{
	memcg_bpf_constraint_end(&s->high);
	return memcg_bpf_release_high(ctx,
				      MEMCG_BPF_REASON("no cause for {ns}, {bytes} in use",
						       memcg_bpf_now(ctx) - s->last_cause, usage));
}

/* --- under contention --- */

/* How long others were stalled within the last second. */
static __always_inline __u64 throttle_stalled(struct memcg_bpf_ctx *ctx, enum throttle_when when,
					      struct throttle_state *s)
{
	if (when == THROTTLE_WHEN_PROTECTED)
		return memcg_bpf_protected_stalled(ctx);
	return memcg_bpf_window_add(&s->host, MEMCG_BPF_SECOND, memcg_bpf_now(ctx),
				    memcg_bpf_host_stalled(ctx));
}

static __always_inline int throttle_step_down(struct memcg_bpf_ctx *ctx,
					      const struct throttle_params *p,
					      struct throttle_state *s, __u64 usage, __u64 floor)
{
	__u64 high = s->high.bytes, at_once = memcg_bpf_size_bytes(ctx, p->high), stalled = 0;
	bool cause = p->when == THROTTLE_WHEN_ALWAYS;

	if (!cause) {
		stalled = throttle_stalled(ctx, p->when, s);
		cause = stalled / 1000 >= p->pressure;
	}
	if (cause) {
		s->last_cause = memcg_bpf_now(ctx);
		s->cause = stalled;
		if (at_once)
			high = at_once;
		else if (!high)
			high = usage - memcg_bpf_mul_ppm(usage, p->step);
		else if (usage <= high + memcg_bpf_mul_ppm(high, p->step))
			high -= memcg_bpf_mul_ppm(high, p->step); /* the last step was not enough */
		if (high < floor)
			high = floor;
		/* A cgroup below its floor has nothing to free. */
		if (!s->high.bytes && usage <= high && !at_once)
			return MEMCG_BPF_OK;
	} else if (high && memcg_bpf_now(ctx) - s->last_cause >= p->hold) {
		/* Raised twice as fast, until usage stays below it. */
		high += 2 * memcg_bpf_mul_ppm(high, p->step);
		if (usage + usage / 4 < high || high >= memcg_bpf_effective_max(ctx))
			return throttle_release(ctx, s, usage);
	}
	return throttle_request(ctx, p, s, high, usage);
}

/* --- growth --- */

/* Allowed growth within so many ns. */
static __always_inline __u64 throttle_allowed(const struct throttle_params *p, __u64 ns)
{
	return p->rate / 1000000 * (ns / 1000);
}

static __always_inline int throttle_limit_growth(struct memcg_bpf_ctx *ctx,
						 const struct throttle_params *p,
						 struct throttle_state *s, __u64 usage, __u64 floor)
{
	__u64 now = memcg_bpf_now(ctx), allowed = throttle_allowed(p, now - s->last_tick);
	__u64 grew = usage > s->usage ? usage - s->usage : 0, high = s->high.bytes;

	if (!s->last_tick)
		return MEMCG_BPF_OK;
	if (!high && grew > allowed + THROTTLE_SLACK && usage > floor) {
		s->cause = grew;
		s->last_cause = now;
		high = usage;
	} else if (high && usage + usage / 32 >= high) {
		s->last_cause = now; /* usage is at memory.high: raise it at the allowed rate */
		high += allowed;
	} else if (high && now - s->last_cause >= p->hold) {
		return throttle_release(ctx, s, usage);
	}
	return throttle_request(ctx, p, s, high, usage);
}

/* A burst can be over before the next tick. */
static int throttle_charge(struct memcg_bpf_ctx *ctx, const struct throttle_params *p)
{
	struct throttle_state *s;
	int verdict = MEMCG_BPF_OK;
	__u64 usage, now;

	if (p->when != THROTTLE_WHEN_GROWTH)
		return MEMCG_BPF_OK;
	s = memcg_bpf_state(ctx);
	if (!s || s->high.bytes)
		return MEMCG_BPF_OK;
	now = memcg_bpf_now(ctx);
	if (now - s->burst_began > THROTTLE_BURST_SPAN) {
		s->burst_began = now;
		s->burst = 0;
	}
	memcg_bpf_add(&s->burst, ctx->bytes);
	if (s->burst <= throttle_allowed(p, THROTTLE_BURST_SPAN) + THROTTLE_SLACK)
		return MEMCG_BPF_OK;
	usage = memcg_bpf_usage(ctx);
	if (usage <= memcg_bpf_size_bytes(ctx, p->floor) || !memcg_bpf_trylock(ctx, &s->lock))
		return MEMCG_BPF_OK;
	if (!s->high.bytes) {
		s->cause = s->burst;
		s->last_cause = now;
		s->last_tick = s->burst_began;
		verdict = throttle_request(ctx, p, s, usage, usage);
		s->last_tick = now;
		s->usage = usage;
	}
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

static int throttle_tick(struct memcg_bpf_ctx *ctx, const struct throttle_params *p)
{
	struct throttle_state *s = memcg_bpf_state(ctx);
	__u64 usage = memcg_bpf_usage(ctx), floor = memcg_bpf_size_bytes(ctx, p->floor);
	int verdict;

	if (!s || !memcg_bpf_trylock(ctx, &s->lock))
		return MEMCG_BPF_OK;
	verdict = p->when == THROTTLE_WHEN_GROWTH ? throttle_limit_growth(ctx, p, s, usage, floor)
						  : throttle_step_down(ctx, p, s, usage, floor);
	s->usage = usage;
	s->last_tick = memcg_bpf_now(ctx);
	memcg_bpf_unlock(&s->lock);
	return verdict;
}

static __u64 throttle_interval(const struct throttle_params *p)
{
	return p->interval;
}

MEMCG_BPF_OPS(throttle, charge = throttle_charge, tick = throttle_tick,
	      tick_interval = throttle_interval);
