/* SPDX-License-Identifier: GPL-2.0-only */
/* How a policy asks for an action. */
#ifndef MEMCG_BPF_ASK_H
#define MEMCG_BPF_ASK_H

/*
 * Asks the daemon for an action; the value is the verdict to return. `why` is a string literal, its
 * placeholders {bytes} {ns} {ppm} {count} stand for the numbers in their order:
 *
 *	return memcg_bpf_ask(ctx, MEMCG_BPF_HIGH, limit, 0, "{bytes} in use", usage, 0, 0, 0);
 *
 * What is wanted of a knob lapses 30 s after it was last asked for.
 */
#define memcg_bpf_ask(ctx_, verb_, value_, detail_, why, n0, n1, n2, n3)                        \
	({                                                                                      \
		static const char __why[MEMCG_BPF_REASON_MAX] = why;                            \
		struct memcg_bpf_action *__ask;                                                 \
		int __verdict = MEMCG_BPF_OK;                                                   \
		__ask = bpf_ringbuf_reserve(&memcg_actions, sizeof(*__ask), 0);                 \
		if (__ask) {                                                                    \
			__ask->cgroup = (ctx_)->cgroup;                                         \
			__ask->time = bpf_ktime_get_ns();                                       \
			__ask->value = (value_);                                                \
			__ask->number[0] = (n0);                                                \
			__ask->number[1] = (n1);                                                \
			__ask->number[2] = (n2);                                                \
			__ask->number[3] = (n3);                                                \
			__ask->verb = (verb_);                                                  \
			__ask->detail = (detail_);                                              \
			__ask->mode = memcg_bpf_at(ctx_)->mode;                                 \
			__ask->unused = 0;                                                      \
			__builtin_memcpy(__ask->policy, memcg_bpf_name, sizeof(__ask->policy)); \
			__builtin_memcpy(__ask->reason, __why, sizeof(__ask->reason));          \
			bpf_ringbuf_submit(__ask, 0);                                           \
			__verdict = MEMCG_BPF_OVERRIDE;                                         \
		} else {                                                                        \
			__sync_fetch_and_add(&memcg_world.actions_dropped, 1);                  \
		}                                                                               \
		__verdict;                                                                      \
	})

#endif
