/* SPDX-License-Identifier: GPL-2.0-only */
/* bad_pointer: rejected by the verifier, because it uses a number as a pointer. */
#include <memcg_bpf.h>

struct bad_pointer_params {
	memcg_bpf_count where MEMCG_BPF_DOC("an address, of all things") MEMCG_BPF_DEFAULT("1");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Read what is none of its business.") MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(bad_pointer);

static int bad_pointer_growth(struct memcg_bpf_ctx *ctx, const struct bad_pointer_params *params)
{
	return *(volatile __u64 *)(unsigned long)params->where ? MEMCG_BPF_OK : MEMCG_BPF_DENY;
}

MEMCG_BPF_OPS(bad_pointer, growth = bad_pointer_growth);
