/* SPDX-License-Identifier: GPL-2.0-only */
/* The machine's own reclaim: how long anybody works for the memory of all. */
#ifndef MEMCG_BPF_CORE_HOST_H
#define MEMCG_BPF_CORE_HOST_H

#include "started.h"

SEC("?fentry/try_to_free_pages")
int BPF_PROG(count_host_begin__0)
{
	__u64 now = bpf_ktime_get_ns();
	struct memcg_bpf_started *s;

	if (!watched(memcg_world.watch_host, now))
		return 0;
	s = started_of_current();
	if (!s || s->host)
		return 0;
	s->host = now;
	memcg_bpf_stall_begins(&memcg_world.host, now);
	return 0;
}

static __always_inline void host_ends(void)
{
	struct memcg_bpf_started *s;

	if (!memcg_world.watch_host)
		return;
	s = memcg_bpf_started();
	if (!s || !s->host)
		return;
	s->host = 0;
	memcg_bpf_stall_ends(&memcg_world.host, bpf_ktime_get_ns());
}

SEC("?fexit/try_to_free_pages")
int BPF_PROG(count_host_end__0)
{
	host_ends();
	return 0;
}

/* Once more, as for stalls. */
SEC("?fexit/try_to_free_pages")
int BPF_PROG(count_host_ended__0)
{
	host_ends();
	return 0;
}

#endif
