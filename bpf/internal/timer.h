/* SPDX-License-Identifier: GPL-2.0-only */
/* The hook `tick`: a timer for each binding. */
#ifndef MEMCG_BPF_TIMER_H
#define MEMCG_BPF_TIMER_H

#define MEMCG_BPF_TICK_MIN 50000000ULL	    /* limits a policy to 20 ticks a second */
#define MEMCG_BPF_TICK_MAX 3600000000000ULL /* an hour */

/* The loader stops a timer by deleting its element. */
struct memcg_bpf_timer {
	struct bpf_timer timer;
	__u64 last;
};

/* The argument of tick__0. */
struct memcg_bpf_timer_args {
	__u64 cgroup;
};

static __always_inline __u64 memcg_bpf_tick_clamp(__u64 ns)
{
	if (ns < MEMCG_BPF_TICK_MIN)
		return MEMCG_BPF_TICK_MIN;
	return ns > MEMCG_BPF_TICK_MAX ? MEMCG_BPF_TICK_MAX : ns;
}

/* The memory controller's state of the cgroup at this address; NULL when it has none of its own. */
static __always_inline struct cgroup_subsys_state *memcg_bpf_css_at(__u64 cgroup)
{
	int memory = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct cgroup_subsys_state *css = NULL;

	if (cgroup)
		bpf_core_read(&css, sizeof(css), &((struct cgroup *)cgroup)->subsys[memory & 15]);
	return css;
}

/* Why the address of the cgroup may be used: docs/decisions/0011. */
#define MEMCG_BPF_PROGRAMS_tick                                                                  \
	struct {                                                                                 \
		__uint(type, BPF_MAP_TYPE_HASH);                                                 \
		__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);                                     \
		__type(key, __u64);                                                              \
		__type(value, struct memcg_bpf_timer);                                           \
	} timers SEC(".maps");                                                                   \
	__noinline int memcg_bpf_tick_call(struct memcg_bpf_call *call,                          \
					   const memcg_bpf_policy_params *p)                     \
	{                                                                                        \
		return call && p ? memcg_bpf_tick_fn(&call->ctx, p) : MEMCG_BPF_OK;              \
	}                                                                                        \
	static int memcg_bpf_tick_timer_fn(void *map, __u64 *cgroup, struct memcg_bpf_timer *t)  \
	{                                                                                        \
		struct memcg_bpf_call call = {.cgroup = *cgroup};                                \
		struct memcg_bpf_binding *binding;                                               \
		memcg_bpf_policy_slot *slot;                                                     \
		__u64 interval = MEMCG_BPF_TICK_MIN;                                             \
		__u32 index;                                                                     \
                                                                                                 \
		binding = bpf_map_lookup_elem(&memcg_bindings, &call.cgroup);                    \
		if (!binding)                                                                    \
			return 0; /* the cgroup has been removed */                              \
		index = binding->slot;                                                           \
		call.css = memcg_bpf_css_at(binding->cgroup_ptr);                                \
		slot = bpf_map_lookup_elem(&params, &index);                                     \
		if (slot && slot->active && call.css) {                                          \
			call.now = t->last = bpf_ktime_get_ns();                                 \
			call.mode = slot->params.mode;                                           \
			interval =                                                               \
				memcg_bpf_tick_clamp(memcg_bpf_tick_interval_fn(&slot->params)); \
			memcg_bpf_tick_call(&call, &slot->params);                               \
		}                                                                                \
		bpf_timer_start(&t->timer, interval, 0);                                         \
		return 0;                                                                        \
	}                                                                                        \
	SEC("?syscall")                                                                          \
	int tick__0(struct memcg_bpf_timer_args *args)                                           \
	{                                                                                        \
		__u64 cgroup = args->cgroup;                                                     \
		struct memcg_bpf_timer *t = bpf_map_lookup_elem(&timers, &cgroup);               \
                                                                                                 \
		if (!t)                                                                          \
			return -1;                                                               \
		/* -EBUSY: the timer runs already, and goes on with the new parameters. */       \
		bpf_timer_init(&t->timer, &timers, CLOCK_MONOTONIC);                             \
		bpf_timer_set_callback(&t->timer, memcg_bpf_tick_timer_fn);                      \
		return bpf_timer_start(&t->timer, MEMCG_BPF_TICK_MIN, 0);                        \
	}                                                                                        \
	MEMCG_BPF_HOOK_END(tick)

/* No program of its own. */
#define MEMCG_BPF_PROGRAMS_tick_interval MEMCG_BPF_HOOK_END(tick_interval)

#endif
