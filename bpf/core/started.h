/* SPDX-License-Identifier: GPL-2.0-only */
/* What is remembered of a task while it waits or reclaims. */
#ifndef MEMCG_BPF_CORE_STARTED_H
#define MEMCG_BPF_CORE_STARTED_H

static __always_inline struct memcg_bpf_started *started_of_current(void)
{
	return bpf_task_storage_get(&memcg_started, bpf_get_current_task_btf(), NULL,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

static __always_inline bool watched(__u64 until, __u64 now)
{
	return until > now;
}

#endif
