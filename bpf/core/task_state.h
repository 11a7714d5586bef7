/* SPDX-License-Identifier: GPL-2.0-only */
/* The state of a task while it is stalled or reclaims. */
#ifndef MEMCG_BPF_CORE_TASK_STATE_H
#define MEMCG_BPF_CORE_TASK_STATE_H

static __always_inline struct memcg_bpf_task_state *task_state_create(void)
{
	return bpf_task_storage_get(&memcg_task_state, bpf_get_current_task_btf(), NULL,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

static __always_inline bool watched(__u64 until, __u64 now)
{
	return until > now;
}

#endif
