/* SPDX-License-Identifier: GPL-2.0-only */
/* deny: a clean ENOMEM to the program that asks for too much, instead of an OOM kill later. */
#include "memcg_bpf.h"

struct deny_params {
	memcg_bpf_size limit MEMCG_BPF_DOC(
		"requests that would bring the cgroup's memory above this are refused")
		MEMCG_BPF_RANGE("64K..");
	memcg_bpf_bytes min MEMCG_BPF_DOC("requests smaller than this are always let through")
		MEMCG_BPF_DEFAULT("0");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Refuse memory growth beyond a limit with ENOMEM, instead of an OOM kill later.")
	MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(deny);

MEMCG_BPF_GROWTH(deny, ctx, p)
{
	if (ctx->request < p->min)
		return MEMCG_BPF_OK;
	if (memcg_bpf_usage(ctx) + ctx->request <= memcg_bpf_size_now(ctx, p->limit))
		return MEMCG_BPF_OK;
	return MEMCG_BPF_DENY;
}
