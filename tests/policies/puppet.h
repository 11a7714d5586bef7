/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A policy without a will of its own: what a test makes it ask for, it asks for. A program in the
 * governed cgroup pulls the string by asking for address space that it never touches.
 */
#include "memcg_bpf.h"

enum puppet_verb {
	PUPPET_HIGH = MEMCG_BPF_ACT_HIGH,
	PUPPET_LOW = MEMCG_BPF_ACT_LOW,
	PUPPET_RECLAIM = MEMCG_BPF_ACT_RECLAIM,
	PUPPET_KILL = MEMCG_BPF_ACT_KILL,
	PUPPET_FREEZE = MEMCG_BPF_ACT_FREEZE,
};

#define PUPPET_PARAMS(name)                                                                       \
	struct name##_params {                                                                    \
		enum puppet_verb verb MEMCG_BPF_DOC("what to ask for");                           \
		memcg_bpf_bytes least MEMCG_BPF_DOC("requests from this size on pull")            \
			MEMCG_BPF_DEFAULT("8M");                                                  \
		memcg_bpf_bytes off MEMCG_BPF_DOC("a request of this size lets go")               \
			MEMCG_BPF_DEFAULT("1G");                                                  \
		memcg_bpf_count value MEMCG_BPF_DOC("what to ask for; 0: as much as the request") \
			MEMCG_BPF_DEFAULT("0");                                                   \
		memcg_bpf_count detail MEMCG_BPF_DOC("the action's detail")                       \
			MEMCG_BPF_DEFAULT("0");                                                   \
		MEMCG_BPF_COMMON_PARAMS;                                                          \
	} MEMCG_BPF_DOC("Ask for what a test wants.") MEMCG_BPF_SELF_BINDING

#define PUPPET(name)                                                                            \
	PUPPET_PARAMS(name);                                                                    \
	MEMCG_BPF_POLICY(name);                                                                 \
	static int name##_growth(struct memcg_bpf_ctx *ctx, const struct name##_params *params) \
	{                                                                                       \
		__u64 request = ctx->bytes;                                                     \
		__u64 value = params->value ? params->value : request;                          \
                                                                                                \
		if (request < params->least)                                                    \
			return MEMCG_BPF_OK;                                                    \
		if (request == params->off)                                                     \
			value = MEMCG_BPF_RELEASE;                                              \
		return memcg_bpf_submit(                                                        \
			ctx, params->verb, value, params->detail,                               \
			MEMCG_BPF_REASON("a request of {bytes} was seen", request));            \
	}                                                                                       \
	MEMCG_BPF_OPS(name, growth = name##_growth);
