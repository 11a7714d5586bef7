/* SPDX-License-Identifier: GPL-2.0-only */
/* single: denies single requests above a size. An example of a policy that denies. */
#include <memcg_bpf.h>

struct single_params {
	memcg_bpf_bytes max MEMCG_BPF_DOC("largest request that is allowed") MEMCG_BPF_DEFAULT("1G")
		MEMCG_BPF_RANGE("4K..");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Deny single huge requests for memory.") MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(single);

static int single_growth(struct memcg_bpf_ctx *ctx, const struct single_params *p)
{
	return ctx->bytes > p->max ? MEMCG_BPF_DENY : MEMCG_BPF_OK;
}

MEMCG_BPF_OPS(single, growth = single_growth);
