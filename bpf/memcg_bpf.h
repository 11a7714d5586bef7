/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The policy author's interface. A policy is one file that includes this header:
 *
 *	struct quiet_params {
 *		memcg_bpf_bytes max MEMCG_BPF_DOC("largest request that is allowed")
 *			MEMCG_BPF_DEFAULT("1G") MEMCG_BPF_RANGE("4K..");
 *		MEMCG_BPF_COMMON_PARAMS;
 *	} MEMCG_BPF_DOC("Deny single huge requests.") MEMCG_BPF_SELF_BINDING;
 *	MEMCG_BPF_POLICY(quiet);
 *
 *	static int quiet_growth(struct memcg_bpf_ctx *ctx, const struct quiet_params *p)
 *	{
 *		return ctx->bytes > p->max ? MEMCG_BPF_DENY : MEMCG_BPF_OK;
 *	}
 *
 *	MEMCG_BPF_OPS(quiet, growth = quiet_growth);
 *
 * The struct's members are the schema: their types define how text becomes a value, their tags
 *carry documentation, default and range into the object's BTF.
 *
 * Public are this header and those it includes from the same directory:
 *
 *	context.h	what a policy can read about the cgroup it is called for
 *	contention.h	stalls of other cgroups and of the whole machine
 *	runnable.h	whether the cgroup has runnable tasks
 *	file_cache.h	the file cache of the subtree, exactly
 *	action.h	actions: memory.high, memory.low, reclaim, kill, freeze
 *	sync.h		locks and atomic counters for a policy's state
 *	window.h	growth of a number within a time span
 *	ops.h		the hooks, and the table of those that a policy has
 *
 * What internal/ holds may change with every version.
 */
#ifndef MEMCG_BPF_H
#define MEMCG_BPF_H

#include "internal/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* The interface between an object and the daemon; every object carries the one it was built for. */
#define MEMCG_BPF_ABI 5

/* Verdicts: what a hook returns. */
#define MEMCG_BPF_OK	   0
#define MEMCG_BPF_DENY	   1 /* growth: the request fails with ENOMEM; see memcg_bpf_deny() */
#define MEMCG_BPF_OVERRIDE 2 /* an action was requested; see action.h */

/* Parameter types; the daemon knows them by these names. */
typedef __u64 memcg_bpf_bytes; /* 64K, 1.5G */
typedef __u64 memcg_bpf_size;  /* bytes, or a percentage of the effective maximum */
typedef __u64 memcg_bpf_ppm;   /* 40% = 400000 */
typedef __u64 memcg_bpf_ns;    /* 250ms */
typedef __u64 memcg_bpf_count; /* an integer */
typedef __u64 memcg_bpf_bool;  /* yes, no */

#define MEMCG_BPF_SECOND 1000000000ULL /* in memcg_bpf_ns */

/* A memcg_bpf_size with this bit holds parts per million of the effective maximum. */
#define MEMCG_BPF_SIZE_IS_PPM (1ULL << 63)

enum memcg_bpf_mode {
	MEMCG_BPF_MODE_ACT = 0,
	MEMCG_BPF_MODE_DRY_RUN = 1,
};

#define MEMCG_BPF_TEXT_OF(text) #text
#define MEMCG_BPF_TEXT(macro)	MEMCG_BPF_TEXT_OF(macro)
#define MEMCG_BPF_TAG(text)	__attribute__((btf_decl_tag(text)))
/* Of a member, or of the struct. */
#define MEMCG_BPF_DOC(text) MEMCG_BPF_TAG("doc:" text)
/* Of a member. Without a default the parameter is required. */
#define MEMCG_BPF_DEFAULT(text) MEMCG_BPF_TAG("default:" text)
#define MEMCG_BPF_RANGE(text)	MEMCG_BPF_TAG("range:" text)
/* Of the struct: the policy affects only the cgroup that requests it, so annotations may. */
#define MEMCG_BPF_SELF_BINDING MEMCG_BPF_TAG("self-binding")
/* Of the struct: the policy reads all of struct memcg_bpf_counters. */
#define MEMCG_BPF_COUNTERS MEMCG_BPF_TAG("counters")
/* Of the struct: it reads those of stalls, reclaim, refaults and OOM only. */
#define MEMCG_BPF_PRESSURE MEMCG_BPF_TAG("pressure")

/* The last member of every policy's struct. */
#define MEMCG_BPF_COMMON_PARAMS                                                          \
	enum memcg_bpf_mode mode MEMCG_BPF_DOC("dry-run counts and logs without acting") \
		MEMCG_BPF_DEFAULT("act")

/* The counters of a bound cgroup and its subtree. */
struct memcg_bpf_counters {
	__u64 growth_requests; /* requests for address space that must be backed */
	__u64 growth_pages;    /* pages in those requests */
	__u64 growth_failed;   /* of those, denied by a policy or by the kernel */
	__u64 growth_denied;   /* denied by a policy of this binding */
	__u64 growth_dry_run;  /* not denied because of mode=dry-run */
	__u64 charges;	       /* batches charged (the slow path; a batch is up to 64 pages) */
	__u64 charged_pages;   /* pages in those batches */
	__u64 reclaim_runs;    /* reclaim aimed at this subtree */
	__u64 reclaim_ns;      /* its duration */
	__u64 reclaimed_pages; /* pages it freed */
	__u64 refaults;	       /* pages read again soon after they were reclaimed */
	__u64 stalls;	       /* times a task stalled on memory */
	__u64 stall_ns;	       /* time stalled, summed over tasks */
	__u64 oom;	       /* times the subtree, or a cgroup in it, ran out of memory */
};

/* Declares the policy and its parameter map: slot → struct NAME_params. */
#define MEMCG_BPF_POLICY(name)                                                              \
	typedef struct name##_params memcg_bpf_policy_params;                               \
	struct name##_slot {                                                                \
		/* 0: the policy is not attached in this slot */                            \
		__u64 active MEMCG_BPF_TAG("abi:" MEMCG_BPF_TEXT(MEMCG_BPF_ABI));           \
		struct name##_params params;                                                \
	};                                                                                  \
	typedef struct name##_slot memcg_bpf_policy_slot;                                   \
	struct {                                                                            \
		__uint(type, BPF_MAP_TYPE_ARRAY); /* its lookup is inlined by the kernel */ \
		__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);                                \
		__type(key, __u32);                                                         \
		__type(value, struct name##_slot);                                          \
	} params SEC(".maps");                                                              \
	static const char memcg_bpf_name[MEMCG_BPF_NAME_MAX] SEC(".rodata") = #name;        \
	/* Set by the loader; differs between objects. */                                   \
	const volatile __u32 memcg_bpf_object_id SEC(".rodata.id") = 0;                     \
	char LICENSE[] SEC("license") = "GPL"

/*
 * Declares the policy's state: one struct NAME_state for each bound cgroup, zero when the cgroup is
 * bound, kept when its parameters change, freed with the binding. The daemon creates it; for a
 * registered cgroup that is created while the daemon does not run, the first hook does.
 */
#define MEMCG_BPF_STATE(name)                                                                  \
	struct {                                                                               \
		__uint(type, BPF_MAP_TYPE_HASH);                                               \
		__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);                                   \
		__type(key, __u64);                                                            \
		__type(value, struct name##_state);                                            \
	} state SEC(".maps");                                                                  \
	static const struct name##_state memcg_bpf_no_state;                                   \
	static __noinline __attribute__((unused)) struct name##_state *memcg_bpf_state_create( \
		__u64 cgroup)                                                                  \
	{                                                                                      \
		bpf_map_update_elem(&state, &cgroup, &memcg_bpf_no_state, BPF_NOEXIST);        \
		/* Unbound meanwhile: nobody would delete it. */                               \
		if (!bpf_map_lookup_elem(&memcg_bindings, &cgroup)) {                          \
			bpf_map_delete_elem(&state, &cgroup);                                  \
			return NULL;                                                           \
		}                                                                              \
		return bpf_map_lookup_elem(&state, &cgroup);                                   \
	}                                                                                      \
	_Static_assert(1, "")

/* The state of the cgroup the hook is called for; NULL while it is being bound or unbound. */
#define memcg_bpf_state(ctx)                                                              \
	({                                                                                \
		__u64 __cgroup = memcg_bpf_cgroup(ctx); /* 6.1 wants keys on the stack */ \
		typeof(memcg_bpf_state_create(0)) __state =                               \
			bpf_map_lookup_elem(&state, &__cgroup);                           \
		__state ?: memcg_bpf_state_create(__cgroup);                              \
	})

#include "internal/shared.h"
#include "internal/ancestors.h"
#include "context.h"
#include "contention.h"
#include "runnable.h"
#include "full_stall.h"
#include "file_cache.h"
#include "internal/kill.h"
#include "action.h"
#include "sync.h"
#include "window.h"
#include "internal/counters.h"
#include "internal/growth.h"
#include "internal/hooks.h"
#include "internal/timer.h"
#include "ops.h"

#endif
