/* SPDX-License-Identifier: GPL-2.0-only */
/* deny: fails requests for memory with ENOMEM before the cgroup runs out of memory. */
#include "memcg_bpf.h"

enum deny_cache {
	DENY_CACHE_EXCLUDE,
	DENY_CACHE_INCLUDE,
};

struct deny_params {
	memcg_bpf_size limit MEMCG_BPF_DOC(
		"denies requests that would raise the cgroup's memory usage above this")
		MEMCG_BPF_RANGE("64K..");
	memcg_bpf_bytes min MEMCG_BPF_DOC("never denies requests smaller than this")
		MEMCG_BPF_DEFAULT("0");
	enum deny_cache cache MEMCG_BPF_DOC("exclude: usage does not include file cache, which the "
					    "kernel can reclaim; include: it does")
		MEMCG_BPF_DEFAULT("exclude");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Deny memory growth above a limit with ENOMEM, instead of an OOM kill later.")
	MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(deny);

static int deny_growth(struct memcg_bpf_ctx *ctx, const struct deny_params *p)
{
	__u64 limit, usage, after, cache;

	if (ctx->bytes < p->min)
		return MEMCG_BPF_OK;
	limit = memcg_bpf_size_bytes(ctx, p->limit);
	usage = memcg_bpf_usage(ctx);
	after = usage + ctx->bytes;
	if (after <= limit)
		return MEMCG_BPF_OK;
	/* Read last: it costs most and is seldom needed. */
	cache = p->cache == DENY_CACHE_EXCLUDE ? memcg_bpf_file_cache(ctx) : 0;
	if (after <= limit + cache)
		return MEMCG_BPF_OK;
	return memcg_bpf_deny(ctx, usage > cache ? usage - cache : 0, limit);
}

MEMCG_BPF_OPS(deny, growth = deny_growth);
