/* SPDX-License-Identifier: GPL-2.0-only */
/* How a policy asks for an action. */
#ifndef MEMCG_BPF_ASK_H
#define MEMCG_BPF_ASK_H

/*
 * Asks the daemon for an action; the value is the verdict to return. `why` is a string literal, its
 * placeholders {bytes} {ns} {ppm} {count} stand for the numbers in their order:
 *
 *	return memcg_bpf_ask(ctx, MEMCG_BPF_ACT_HIGH, limit, 0, "{bytes} in use", usage, 0, 0, 0);
 *
 * What is wanted of a knob lapses 30 s after it was last asked for. The record is copied into the
 * ring, not reserved there: the verifier would follow every reservation by itself.
 */
#define memcg_bpf_ask(ctx_, kind_, value_, detail_, why, n0, n1, n2, n3)              \
	({                                                                            \
		struct memcg_bpf_action __ask = {                                     \
			.cgroup = memcg_bpf_cgroup(ctx_),                             \
			.time = bpf_ktime_get_ns(),                                   \
			.value = (value_),                                            \
			.number = {(n0), (n1), (n2), (n3)},                           \
			.kind = (kind_),                                              \
			.detail = (detail_),                                          \
			.mode = memcg_bpf_to_call(ctx_)->mode,                        \
			.reason = why,                                                \
		};                                                                    \
		int __verdict = MEMCG_BPF_OVERRIDE;                                   \
		__builtin_memcpy(__ask.policy, memcg_bpf_name, sizeof(__ask.policy)); \
		if (bpf_ringbuf_output(&memcg_actions, &__ask, sizeof(__ask), 0)) {   \
			__sync_fetch_and_add(&memcg_globals.actions_dropped, 1);      \
			__verdict = MEMCG_BPF_OK;                                     \
		}                                                                     \
		__verdict;                                                            \
	})

#endif
