/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * single: refuses single requests that are larger than what its user expects of the program.
 *
 * An example of a policy of one's own; docs/writing-a-policy.md goes through it line by line.
 */
#include <memcg_bpf.h>

struct single_params {
	memcg_bpf_bytes most MEMCG_BPF_DOC("the largest request that is let through")
		MEMCG_BPF_DEFAULT("1G") MEMCG_BPF_RANGE("4K..");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Refuse single huge requests for memory.") MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(single);

MEMCG_BPF_GROWTH(single, ctx, params)
{
	return memcg_bpf_request(ctx) > params->most ? MEMCG_BPF_DENY : MEMCG_BPF_OK;
}
