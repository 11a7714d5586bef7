/* SPDX-License-Identifier: GPL-2.0-only */
/* The time that tasks reclaim memory for the whole machine. */
#ifndef MEMCG_BPF_CORE_HOST_RECLAIM_H
#define MEMCG_BPF_CORE_HOST_RECLAIM_H

#include "task_state.h"

SEC("?fentry/try_to_free_pages")
int BPF_PROG(count_host_reclaim_begin__0)
{
	__u64 now = bpf_ktime_get_ns();
	struct memcg_bpf_task_state *s;

	if (!watched(memcg_globals.watch_host, now))
		return 0;
	s = task_state_create();
	if (!s || s->host)
		return 0;
	s->host = now;
	memcg_bpf_stall_clock_start(&memcg_globals.host, now);
	return 0;
}

static __always_inline void host_reclaim_end(void)
{
	struct memcg_bpf_task_state *s;

	if (!memcg_globals.watch_host)
		return;
	s = memcg_bpf_task_state();
	if (!s || !s->host)
		return;
	s->host = 0;
	memcg_bpf_stall_clock_stop(&memcg_globals.host, bpf_ktime_get_ns());
}

SEC("?fexit/try_to_free_pages")
int BPF_PROG(count_host_reclaim_end__0)
{
	host_reclaim_end();
	return 0;
}

/* A second time, as for stalls. */
SEC("?fexit/try_to_free_pages")
int BPF_PROG(count_host_reclaim_ended__0)
{
	host_reclaim_end();
	return 0;
}

#endif
