/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The policy author's interface: one policy is one file that includes this header.
 *
 *	struct quiet_params {
 *		memcg_bpf_bytes most MEMCG_BPF_DOC("largest request let through")
 *			MEMCG_BPF_DEFAULT("1G") MEMCG_BPF_RANGE("4K..");
 *		MEMCG_BPF_COMMON_PARAMS;
 *	} MEMCG_BPF_DOC("Refuse single huge requests.") MEMCG_BPF_SELF_BINDING;
 *	MEMCG_BPF_POLICY(quiet);
 *
 *	MEMCG_BPF_GROWTH(quiet, ctx, params)
 *	{
 *		return memcg_bpf_request(ctx) > params->most ? MEMCG_BPF_DENY : MEMCG_BPF_OK;
 *	}
 *
 * The struct's members are the schema: their types say how text becomes a value, their tags carry
 * documentation, default and range into the object's BTF. No context holds a kernel pointer.
 */
#ifndef MEMCG_BPF_H
#define MEMCG_BPF_H

#include "internal/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "action.h"
#include "internal/stall_clock.h"

/* Of what an object and the daemon agree on; every object carries the one it was built for. */
#define MEMCG_BPF_ABI 3

/* Verdicts. */
#define MEMCG_BPF_OK	   0
#define MEMCG_BPF_DENY	   1
#define MEMCG_BPF_OVERRIDE 2 /* after asking for an action */

/* Parameter types; the daemon knows them by these names. */
typedef __u64 memcg_bpf_bytes; /* 64K, 1.5G */
typedef __u64 memcg_bpf_size;  /* bytes, or a percentage of the effective maximum */
typedef __u64 memcg_bpf_ppm;   /* 40% = 400000 */
typedef __u64 memcg_bpf_ns;    /* 250ms */
typedef __u64 memcg_bpf_count; /* an integer */
typedef __u64 memcg_bpf_bool;  /* yes, no */

/* A memcg_bpf_size with this bit holds parts per million of the effective maximum. */
#define MEMCG_BPF_SIZE_IS_PPM (1ULL << 63)

enum memcg_bpf_mode {
	MEMCG_BPF_MODE_ACT = 0,
	MEMCG_BPF_MODE_DRY_RUN = 1,
};

#define MEMCG_BPF_TEXT_OF(text) #text
#define MEMCG_BPF_TEXT(macro)	MEMCG_BPF_TEXT_OF(macro)
#define MEMCG_BPF_TAG(text)	__attribute__((btf_decl_tag(text)))
#define MEMCG_BPF_DOC(text)	MEMCG_BPF_TAG("doc:" text)
#define MEMCG_BPF_DEFAULT(text) MEMCG_BPF_TAG("default:" text)
#define MEMCG_BPF_RANGE(text)	MEMCG_BPF_TAG("range:" text)
/* The policy only ever binds the asker itself: annotations may ask for it. */
#define MEMCG_BPF_SELF_BINDING MEMCG_BPF_TAG("self-binding")
/* The policy wants the subtree's counters kept (see struct memcg_bpf_counters). */
#define MEMCG_BPF_COUNTERS MEMCG_BPF_TAG("counters")
/* The policy wants only those of stalls, reclaim, refaults and OOM kept. */
#define MEMCG_BPF_PRESSURE MEMCG_BPF_TAG("pressure")

#define MEMCG_BPF_COMMON_PARAMS                                                                   \
	enum memcg_bpf_mode mode MEMCG_BPF_DOC("dry-run decides and counts, but changes nothing") \
		MEMCG_BPF_DEFAULT("act")

/* Limits. Each stands once more on the Rust side: src/bpf/shared.rs, src/engine/slots.rs. */
#define MEMCG_BPF_MAX_BINDINGS 4096 /* ten times the containers of a full node */
#define MEMCG_BPF_MAX_LEVEL    32   /* deepest cgroup that can be governed; tasks may be deeper */
#define MEMCG_BPF_PATH_MAX     256  /* longest path that can be registered ahead */
#define MEMCG_BPF_ANCESTOR_CACHE_LARGE \
	64 /* cgroups a CPU remembers for a program that asks often */
#define MEMCG_BPF_ANCESTOR_CACHE_SMALL 16  /* for one that asks seldom; powers of two */
#define MEMCG_BPF_NO_POLICY_CACHE      256 /* ungoverned cgroups that all remember; a power of two */

/* What the shared maps of core.bpf.c hold. */
struct memcg_bpf_binding {
	__u32 slot;	  /* index into every policy's params */
	__u32 flags;	  /* MEMCG_BPF_BINDING_* */
	__u64 cgroup_ptr; /* address of its struct cgroup; 0: not known (docs/decisions/0011) */
};
#define MEMCG_BPF_BINDING_COUNT	 1 /* keep the subtree's counters */
#define MEMCG_BPF_BINDING_DAEMON 2 /* no binding: registered for the next daemon's cgroup */

struct memcg_bpf_counters {
	__u64 growth_requests; /* requests for address space that must be backed */
	__u64 growth_pages;    /* pages they asked for */
	__u64 growth_refused;  /* of those, refused by a policy or the kernel */
	__u64 growth_denied;   /* refused by a policy of this binding */
	__u64 growth_dry_run;  /* would have been refused, but mode=dry-run */
	__u64 charges;	       /* batches charged (the slow path; one is up to 64 pages) */
	__u64 charged_pages;   /* pages in those batches */
	__u64 reclaim_runs;    /* reclaim aimed at this subtree */
	__u64 reclaim_ns;      /* time it took */
	__u64 reclaimed_pages; /* what it gave */
	__u64 refaults;	       /* pages read again soon after they were reclaimed */
	__u64 stalls;	       /* times a task stalled for memory */
	__u64 stall_ns;	       /* time stalled, summed over tasks */
	__u64 oom;	       /* times the subtree, or a cgroup in it, ran out of memory */
};

/* What every program may need at once. */
struct memcg_bpf_globals {
	__u64 total_ram_pages; /* the machine's memory; written once by the loader */
	__u64 generation; /* of the bindings: what was seen under another number counts no more */
	__u32 report_all; /* tell of every cgroup that appears, not only of registered ones */
	__u32 dropped;	  /* events that found the ring buffer full */
	__u64 daemon;	  /* id of its cgroup: it needs memory to let others go */
	__u64 zero;	  /* a number of which the verifier knows nothing */
	__u32 actions_dropped;	 /* actions that found their ring buffer full */
	__u32 page_shift;	 /* log2 of a page's size; written once by the loader */
	__u64 watch_protected;	 /* until then, memcg_protected_stalls is kept */
	__u64 watch_host;	 /* until then, `host` is kept */
	__u64 commit_limit;	 /* pages beyond which the kernel refuses a request by itself */
	__u32 growth_counter_id; /* number of the object that counts growth; 0: core */
	__u32 unused;
	struct memcg_bpf_stall_clock host; /* tasks that reclaim for the whole machine */
	__u64 no_policy_cache[MEMCG_BPF_NO_POLICY_CACHE]; /* cgroups that nothing governs; see
							     walk.h */
};

/* Shared with core.bpf.c: the loader puts core's maps in place of these by name. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH); /* cgroup id → binding; preallocated: used where allocation
					    may fail */
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, __u64);
	__type(value, struct memcg_bpf_binding);
} memcg_bindings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH); /* cgroup id → counters; one for each binding */
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, __u64);
	__type(value, struct memcg_bpf_counters);
} memcg_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH); /* cgroup id → how long its tasks wait; one for each
					    binding */
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, __u64);
	__type(value, struct memcg_bpf_stall_clock);
} memcg_stalls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct memcg_bpf_task_state);
} memcg_task_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); /* cgroup id → how it suffers; kept only while a policy
						wants to know */
	__uint(max_entries, MEMCG_BPF_PROTECTED_STALLS_MAX);
	__type(key, __u64);
	__type(value, struct memcg_bpf_protected_stalls);
} memcg_protected_stalls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18); /* about 1000 actions between two turns of the daemon */
} memcg_actions SEC(".maps");

/* A variable, for its address is a constant in the program: no look-up. libbpf makes it the one
 * value of a map called as the section. */
struct memcg_bpf_globals memcg_globals SEC(".data.memcg");

/* What is above a cgroup (walk.h), as a program last found it. */
struct memcg_bpf_ancestor_entry {
	__u64 serial;
	__u64 generation;
	__u64 ancestors;
};

/* Declares the policy's parameter map: slot → struct NAME_params. */
#define MEMCG_BPF_POLICY(name)                                                       \
	struct name##_slot {                                                         \
		/* 0: this policy is not bound in this slot */                       \
		__u64 active MEMCG_BPF_TAG("abi:" MEMCG_BPF_TEXT(MEMCG_BPF_ABI));    \
		struct name##_params params;                                         \
	};                                                                           \
	struct {                                                                     \
		__uint(type, BPF_MAP_TYPE_ARRAY); /* inlined look-up */              \
		__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);                         \
		__type(key, __u32);                                                  \
		__type(value, struct name##_slot);                                   \
	} params SEC(".maps");                                                       \
	static const char memcg_bpf_name[MEMCG_BPF_NAME_MAX] SEC(".rodata") = #name; \
	/* The loader's, another one for each object. */                             \
	const volatile __u32 memcg_bpf_object_id SEC(".rodata.id") = 0;              \
	char LICENSE[] SEC("license") = "GPL"

/*
 * Declares what the policy remembers of each governed cgroup: struct NAME_state, zero when the
 * cgroup is bound, kept when its parameters change, gone with the binding.
 */
#define MEMCG_BPF_STATE(name)                                \
	struct {                                             \
		__uint(type, BPF_MAP_TYPE_HASH);             \
		__uint(max_entries, MEMCG_BPF_MAX_BINDINGS); \
		__type(key, __u64);                          \
		__type(value, struct name##_state);          \
	} state SEC(".maps")

/* That of the cgroup the policy is asked about; NULL when it is not bound any more, or not quite.
 */
#define memcg_bpf_state(ctx)                                                      \
	({                                                                        \
		__u64 __cgroup = (ctx)->cgroup; /* 6.1 wants keys on the stack */ \
		bpf_map_lookup_elem(&state, &__cgroup);                           \
	})

#include "internal/ancestors.h"
#include "internal/counters.h"
#include "context.h"
#include "internal/growth.h"
#include "ask.h"
#include "internal/hooks.h"
#include "internal/timer.h"
#include "window.h"

#endif
