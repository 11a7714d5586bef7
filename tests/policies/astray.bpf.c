/* SPDX-License-Identifier: GPL-2.0-only */
/* astray: what the verifier refuses, because it reads where a number points to. */
#include <memcg_bpf.h>

struct astray_params {
	memcg_bpf_count where MEMCG_BPF_DOC("an address, of all things") MEMCG_BPF_DEFAULT("1");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Read what is none of its business.") MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(astray);

static int astray_growth(struct memcg_bpf_ctx *ctx, const struct astray_params *params)
{
	return *(volatile __u64 *)(unsigned long)params->where ? MEMCG_BPF_OK : MEMCG_BPF_DENY;
}

MEMCG_BPF_OPS(astray, growth = astray_growth);
