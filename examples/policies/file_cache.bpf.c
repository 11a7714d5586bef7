/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * file_cache: keeps a cgroup's file cache below a limit.
 *
 * An example of a policy that acts; docs/writing-a-policy.md explains it.
 */
#include <memcg_bpf.h>

struct file_cache_params {
	memcg_bpf_size limit MEMCG_BPF_DOC("reclaims file cache above this")
		MEMCG_BPF_RANGE("1M..");
	memcg_bpf_ns interval MEMCG_BPF_DOC("time between two checks") MEMCG_BPF_DEFAULT("5s")
		MEMCG_BPF_RANGE("2s..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Keep the file cache of a cgroup below a limit.") MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(file_cache);

static int file_cache_tick(struct memcg_bpf_ctx *ctx, const struct file_cache_params *p)
{
	__u64 cache = memcg_bpf_file_cache(ctx), limit = memcg_bpf_size_bytes(ctx, p->limit);

	if (cache <= limit)
		return MEMCG_BPF_OK;
	/* Swappiness 0: file cache only. */
	return memcg_bpf_reclaim(
		ctx, cache - limit, 0,
		MEMCG_BPF_REASON("{bytes} of file cache, limit {bytes}", cache, limit));
}

static __u64 file_cache_interval(const struct file_cache_params *p)
{
	return p->interval;
}

MEMCG_BPF_OPS(file_cache, tick = file_cache_tick, tick_interval = file_cache_interval);
