/* SPDX-License-Identifier: GPL-2.0-only */
/* deny: a clean ENOMEM to the program that asks for too much, instead of an OOM kill later. */
#include "memcg_bpf.h"

enum deny_cache {
	DENY_CACHE_EXCLUDE,
	DENY_CACHE_INCLUDE,
};

struct deny_params {
	memcg_bpf_size limit MEMCG_BPF_DOC(
		"requests that would bring the cgroup's memory above this are refused")
		MEMCG_BPF_RANGE("64K..");
	memcg_bpf_bytes min MEMCG_BPF_DOC("requests smaller than this are always let through")
		MEMCG_BPF_DEFAULT("0");
	enum deny_cache cache MEMCG_BPF_DOC("exclude: file cache, which the kernel drops when it "
					    "needs memory, is not counted as usage; include: it is")
		MEMCG_BPF_DEFAULT("exclude");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Refuse memory growth beyond a limit with ENOMEM, instead of an OOM kill later.")
	MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(deny);

MEMCG_BPF_GROWTH(deny, ctx, p)
{
	__u64 limit, after;

	if (ctx->bytes < p->min)
		return MEMCG_BPF_OK;
	limit = memcg_bpf_size_bytes(ctx, p->limit);
	after = memcg_bpf_usage(ctx) + ctx->bytes;
	if (after <= limit)
		return MEMCG_BPF_OK;
	/* Looked at last: it costs most and is seldom needed. */
	if (p->cache == DENY_CACHE_EXCLUDE && after <= limit + memcg_bpf_file_cache(ctx))
		return MEMCG_BPF_OK;
	return MEMCG_BPF_DENY;
}
