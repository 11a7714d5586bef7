/* SPDX-License-Identifier: GPL-2.0-only */
/* growth_rate: denies growth above a rate. It needs the state and the time in the hook `growth`. */
#include <memcg_bpf.h>

struct growth_rate_params {
	memcg_bpf_bytes bytes MEMCG_BPF_DOC("denies growth above this within `per`")
		MEMCG_BPF_RANGE("1M..");
	memcg_bpf_ns per MEMCG_BPF_DOC("the time over which growth is measured")
		MEMCG_BPF_DEFAULT("1s") MEMCG_BPF_RANGE("100ms..1h");
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC("Deny memory growth above a rate.") MEMCG_BPF_SELF_BINDING;
MEMCG_BPF_POLICY(growth_rate);

struct growth_rate_state {
	__u64 began; /* the time span in which `bytes` were requested */
	__u64 bytes;
};
MEMCG_BPF_STATE(growth_rate);

static int growth_rate_growth(struct memcg_bpf_ctx *ctx, const struct growth_rate_params *p)
{
	struct growth_rate_state *s = memcg_bpf_state(ctx);

	if (!s)
		return MEMCG_BPF_OK;
	if (memcg_bpf_now(ctx) - s->began >= p->per) {
		s->began = memcg_bpf_now(ctx);
		s->bytes = 0;
	}
	if (s->bytes + ctx->bytes > p->bytes)
		return MEMCG_BPF_DENY;
	memcg_bpf_add(&s->bytes, ctx->bytes);
	return MEMCG_BPF_OK;
}

MEMCG_BPF_OPS(growth_rate, growth = growth_rate_growth);
