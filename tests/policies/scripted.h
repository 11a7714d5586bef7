/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A policy that requests the action which a test sets by parameters. A program in the cgroup
 * triggers it by requesting address space that it never touches.
 */
#include "memcg_bpf.h"

enum scripted_action {
	SCRIPTED_HIGH = MEMCG_BPF_ACT_HIGH,
	SCRIPTED_LOW = MEMCG_BPF_ACT_LOW,
	SCRIPTED_RECLAIM = MEMCG_BPF_ACT_RECLAIM,
	SCRIPTED_KILL = MEMCG_BPF_ACT_KILL,
	SCRIPTED_FREEZE = MEMCG_BPF_ACT_FREEZE,
};

#define SCRIPTED_PARAMS(name)                                                                \
	struct name##_params {                                                               \
		enum scripted_action verb MEMCG_BPF_DOC("the action to request");            \
		memcg_bpf_bytes least MEMCG_BPF_DOC("smallest request that triggers it")     \
			MEMCG_BPF_DEFAULT("8M");                                             \
		memcg_bpf_bytes off MEMCG_BPF_DOC("a request of this size releases")         \
			MEMCG_BPF_DEFAULT("1G");                                             \
		memcg_bpf_count value MEMCG_BPF_DOC("its value; 0: the size of the request") \
			MEMCG_BPF_DEFAULT("0");                                              \
		memcg_bpf_count detail MEMCG_BPF_DOC("the action's detail")                  \
			MEMCG_BPF_DEFAULT("0");                                              \
		MEMCG_BPF_COMMON_PARAMS;                                                     \
	} MEMCG_BPF_DOC("Request the actions of a test.") MEMCG_BPF_SELF_BINDING

#define SCRIPTED(name)                                                                          \
	SCRIPTED_PARAMS(name);                                                                  \
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
