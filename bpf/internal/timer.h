/* SPDX-License-Identifier: GPL-2.0-only */
/* The hook `tick`: asked again and again, by a timer for each binding. */
#ifndef MEMCG_BPF_TIMER_H
#define MEMCG_BPF_TIMER_H

#define MEMCG_BPF_TICK_MIN 50000000ULL	    /* a policy never costs more than 20 ticks a second */
#define MEMCG_BPF_TICK_MAX 3600000000000ULL /* an hour */

/* Deleting an element cancels its timer: that is how the loader stops it. */
struct memcg_bpf_timer {
	struct bpf_timer timer;
	__u64 last;
};

static __always_inline __u64 memcg_bpf_period(__u64 ns)
{
	if (ns < MEMCG_BPF_TICK_MIN)
		return MEMCG_BPF_TICK_MIN;
	return ns > MEMCG_BPF_TICK_MAX ? MEMCG_BPF_TICK_MAX : ns;
}

/*
 * MEMCG_BPF_TICK(policy, ctx, params, period in ns) { … return a verdict }
 *
 * The period is an expression of params, taken between 50 ms and an hour, and computed anew at each
 * tick. Why the address of the cgroup may be used: docs/decisions/0011.
 */
#define MEMCG_BPF_TICK(policy, ctx, p, period)                                                 \
	struct {                                                                               \
		__uint(type, BPF_MAP_TYPE_HASH);                                               \
		__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);                                   \
		__type(key, __u64);                                                            \
		__type(value, struct memcg_bpf_timer);                                         \
	} timers SEC(".maps");                                                                 \
	static __always_inline int policy##_tick(struct memcg_bpf_ctx *ctx,                    \
						 const struct policy##_params *p);             \
	__noinline int policy##_tick_call(struct memcg_bpf_call *call,                         \
					  const struct policy##_params *params)                \
	{                                                                                      \
		return call && params ? policy##_tick(&call->ctx, params) : MEMCG_BPF_OK;      \
	}                                                                                      \
	static __always_inline __u64 policy##_tick_period(const struct policy##_params *p)     \
	{                                                                                      \
		return memcg_bpf_period(period);                                               \
	}                                                                                      \
	static int policy##_tick_timer_fn(void *map, __u64 *cgroup, struct memcg_bpf_timer *t) \
	{                                                                                      \
		struct memcg_bpf_call call = {.ctx = {.cgroup = *cgroup}};                     \
		struct memcg_bpf_binding *binding;                                             \
		struct policy##_slot *slot;                                                    \
		__u64 again = MEMCG_BPF_TICK_MIN;                                              \
		__u32 number;                                                                  \
                                                                                               \
		binding = bpf_map_lookup_elem(&memcg_bindings, &call.ctx.cgroup);              \
		if (!binding)                                                                  \
			return 0; /* the cgroup is gone */                                     \
		number = binding->slot;                                                        \
		call.css = memcg_bpf_css_at(binding->cgroup_ptr);                              \
		slot = bpf_map_lookup_elem(&params, &number);                                  \
		if (slot && slot->active && call.css) {                                        \
			call.ctx.now = t->last = bpf_ktime_get_ns();                           \
			call.mode = slot->params.mode;                                         \
			again = policy##_tick_period(&slot->params);                           \
			policy##_tick_call(&call, &slot->params);                              \
		}                                                                              \
		bpf_timer_start(&t->timer, again, 0);                                          \
		return 0;                                                                      \
	}                                                                                      \
	SEC("?syscall")                                                                        \
	int tick__0(struct memcg_bpf_timer_args *whom)                                         \
	{                                                                                      \
		__u64 cgroup = whom->cgroup;                                                   \
		struct memcg_bpf_timer *t = bpf_map_lookup_elem(&timers, &cgroup);             \
                                                                                               \
		if (!t)                                                                        \
			return -1;                                                             \
		/* -EBUSY: it is ticking already, and goes on with the new parameters. */      \
		bpf_timer_init(&t->timer, &timers, CLOCK_MONOTONIC);                           \
		bpf_timer_set_callback(&t->timer, policy##_tick_timer_fn);                     \
		return bpf_timer_start(&t->timer, MEMCG_BPF_TICK_MIN, 0);                      \
	}                                                                                      \
	static __always_inline int policy##_tick(struct memcg_bpf_ctx *ctx,                    \
						 const struct policy##_params *p)

/* What the loader tells tick__0. */
struct memcg_bpf_timer_args {
	__u64 cgroup;
};

/* The memory controller's state of the cgroup at this address; NULL when it has none of its own. */
static __always_inline struct cgroup_subsys_state *memcg_bpf_css_at(__u64 cgroup)
{
	int memory = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct cgroup_subsys_state *css = NULL;

	if (cgroup)
		bpf_core_read(&css, sizeof(css), &((struct cgroup *)cgroup)->subsys[memory & 15]);
	return css;
}

#endif
