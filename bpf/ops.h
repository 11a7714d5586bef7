/* SPDX-License-Identifier: GPL-2.0-only */
/* clang-format off: a table.
 *
 * MEMCG_BPF_OPS(policy, hook = function, ...): the table at the foot of a policy's file. It emits the
 * programs of the hooks that it names, and of no others: the loader loads and attaches exactly those.
 *
 * hook           called when                                           members of ctx
 * growth         a program requests address space that must be         bytes
 *                backed by memory; the only hook that can return
 *                MEMCG_BPF_DENY
 * charge         memory is charged, in batches of up to 64 pages       bytes
 * high           a task returns to user space above memory.high        bytes, gfp
 * reclaim        reclaim aimed at a cgroup of the subtree ended        bytes, reclaimed, duration_ns, gfp
 * refault        a task reads a page again soon after its reclaim
 * stall          a task was stalled on memory                          duration_ns
 * oom            a cgroup of the subtree is out of memory, and the     at_own_limit, gfp
 *                kernel is about to kill
 * tick           the interval has passed
 * tick_interval  a timer is set: returns the interval in ns, which     (takes the parameters only)
 *                is limited to 50 ms .. 1 h; required by tick
 *
 *	static int NAME_growth(struct memcg_bpf_ctx *ctx, const struct NAME_params *p);
 *	static __u64 NAME_interval(const struct NAME_params *p);
 *
 * All hooks except tick_interval are functions like the first. A hook is called once for every bound
 * cgroup concerned, the nearest first. Each can return MEMCG_BPF_OK or the value of an action.
 *
 * All calls of a program share 512 bytes of stack: make functions that hooks call, and those named
 * for several hooks, static __always_inline.
 */
/* clang-format on */
#ifndef MEMCG_BPF_OPS_H
#define MEMCG_BPF_OPS_H

/*
 * `growth = deny_growth` is pasted to MEMCG_BPF_FUNCTION_growth = deny_growth, which defines a
 * constant pointer, and to MEMCG_BPF_PROGRAMS_growth = deny_growth, which defines the programs. The
 * compiler replaces the pointers by the functions.
 */
#define MEMCG_BPF_OPS(policy, ...)                                                             \
	_Static_assert(                                                                        \
		__builtin_types_compatible_p(struct policy##_params, memcg_bpf_policy_params), \
		"MEMCG_BPF_OPS() and MEMCG_BPF_POLICY() name different policies");             \
	MEMCG_BPF_EACH(MEMCG_BPF_FUNCTION_, __VA_ARGS__)                                       \
	MEMCG_BPF_EACH(MEMCG_BPF_PROGRAMS_, __VA_ARGS__)                                       \
	_Static_assert(1, "")

#define MEMCG_BPF_HOOK_FUNCTION(hook)                                     \
	static int (*const memcg_bpf_##hook##_fn)(struct memcg_bpf_ctx *, \
						  const memcg_bpf_policy_params *)
#define MEMCG_BPF_FUNCTION_growth  MEMCG_BPF_HOOK_FUNCTION(growth)
#define MEMCG_BPF_FUNCTION_charge  MEMCG_BPF_HOOK_FUNCTION(charge)
#define MEMCG_BPF_FUNCTION_high	   MEMCG_BPF_HOOK_FUNCTION(high)
#define MEMCG_BPF_FUNCTION_reclaim MEMCG_BPF_HOOK_FUNCTION(reclaim)
#define MEMCG_BPF_FUNCTION_refault MEMCG_BPF_HOOK_FUNCTION(refault)
#define MEMCG_BPF_FUNCTION_stall   MEMCG_BPF_HOOK_FUNCTION(stall)
#define MEMCG_BPF_FUNCTION_oom	   MEMCG_BPF_HOOK_FUNCTION(oom)
#define MEMCG_BPF_FUNCTION_tick	   MEMCG_BPF_HOOK_FUNCTION(tick)
#define MEMCG_BPF_FUNCTION_tick_interval \
	static __u64 (*const memcg_bpf_tick_interval_fn)(const memcg_bpf_policy_params *)

/* The last line of a hook's programs: what `= function` initializes. */
#define MEMCG_BPF_HOOK_END(hook) \
	static __attribute__((unused)) const void *const memcg_bpf_##hook##_end

#define MEMCG_BPF_EACH_1(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_2(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_2(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_3(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_3(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_4(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_4(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_5(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_5(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_6(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_6(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_7(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_7(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_8(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_8(to, op, ...) \
	to##op;                       \
	__VA_OPT__(MEMCG_BPF_EACH_9(to, __VA_ARGS__))
#define MEMCG_BPF_EACH_9(to, op) to##op;
#define MEMCG_BPF_EACH(to, ...)	 MEMCG_BPF_EACH_1(to, __VA_ARGS__)

#endif
