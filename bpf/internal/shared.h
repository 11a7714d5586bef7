/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The maps and globals of core.bpf.c. Every policy object declares them too, and the loader
 * replaces them by core's.
 */
#ifndef MEMCG_BPF_SHARED_H
#define MEMCG_BPF_SHARED_H

#include "stall_clock.h"

/* Limits. Each stands once more on the Rust side: src/bpf/abi.rs, src/engine/slots.rs. */
#define MEMCG_BPF_MAX_BINDINGS 4096 /* ten times the containers of a full node */
#define MEMCG_BPF_MAX_LEVEL    32   /* deepest cgroup that can be bound; tasks may be deeper */
#define MEMCG_BPF_PATH_MAX     256  /* longest path that can be registered */

/* Entries of a program's ancestor cache on each CPU: frequent hooks, rare hooks. Powers of two. */
#define MEMCG_BPF_ANCESTOR_CACHE_LARGE 64
#define MEMCG_BPF_ANCESTOR_CACHE_SMALL 16
/* Entries of the cache of cgroups without a policy, which all programs share. A power of two. */
#define MEMCG_BPF_NO_POLICY_CACHE 256

struct memcg_bpf_binding {
	__u32 slot;	  /* index into every policy's params */
	__u32 flags;	  /* MEMCG_BPF_BINDING_* */
	__u64 cgroup_ptr; /* address of its struct cgroup; 0: unknown (docs/decisions/0011) */
};
#define MEMCG_BPF_BINDING_COUNT	 1 /* keep the subtree's counters */
#define MEMCG_BPF_BINDING_DAEMON 2 /* no binding: registered for the next daemon's cgroup */

/* Bound cgroups above one task whose stalls are counted: all, so that none of them, whoever bound
 * it, hides a stall from one above it. A power of two, above MEMCG_BPF_MAX_LEVEL. */
#define MEMCG_BPF_STALL_LEVELS	   64
#define MEMCG_BPF_PROTECTED_LEVELS 33 /* of those, kept with a protected cgroup: all */

/* The state of one task; freed with the task. Only the task itself writes it. */
struct memcg_bpf_task_state {
	__u64 stall;	  /* when its stall began; 0: it is not stalled */
	__u64 stack_addr; /* of the outermost psi_memstall_enter() */
	__u64 stall_ns;	  /* duration of its last stall */
	__u64 reclaim;	  /* when its reclaim began */
	__u64 reclaim_ns;
	__u64 host;	   /* when its reclaim for the whole machine began */
	__u64 limit;	   /* id of the cgroup at whose limit it stalls; 0: the machine's memory */
	__u64 timed;	   /* bit n: the clock of cgroup[n] runs */
	__u32 bound;	   /* entries of `cgroup` */
	__u32 protected;   /* its cgroup has memory.low or memory.min: for whom it counts */
	__u64 delegated;   /* id of the outermost delegated cgroup above it; 0: none */
	__u32 limit_level; /* of the cgroup at whose limit it stalls */
	__u32 delegated_level;
	__u64 proactive; /* not 0: it reclaims because memory.reclaim was written */
	__u64 cgroup[MEMCG_BPF_STALL_LEVELS];
};

/* A cgroup with memory.low or memory.min whose tasks stall. */
struct memcg_bpf_protected_stalls {
	__u64 begin;	 /* of the current second */
	__u64 stall;	 /* time stalled in it */
	__u64 before;	 /* in the second before */
	__u64 until;	 /* the end of the last stall */
	__u64 limit;	 /* as in memcg_bpf_task_state */
	__u64 delegated; /* as in memcg_bpf_task_state */
	/* Bound cgroups it belongs to, the nearest first; 0 ends them. */
	__u64 ancestors[MEMCG_BPF_PROTECTED_LEVELS];
};
#define MEMCG_BPF_PROTECTED_STALLS_MAX	64
#define MEMCG_BPF_PROTECTED_STALLS_SPAN 1000000000ULL

struct memcg_bpf_globals {
	__u64 total_ram_pages; /* written once by the loader */
	__u64 generation;      /* of the bindings: cached results of another generation are stale */
	__u32 report_all;      /* report every new cgroup, not only registered ones */
	__u32 dropped;	       /* events dropped because the ring buffer was full */
	__u64 daemon;	       /* id of the daemon's cgroup, whose requests are never denied */
	__u64 zero;	       /* a value the verifier does not know */
	__u32 actions_dropped; /* actions and kills dropped because a ring buffer was full */
	__u32 page_shift;      /* log2 of the page size; written once by the loader */
	__u64 watch_protected; /* memcg_protected_stalls is kept until this time */
	__u64 watch_host;      /* `host` is kept until this time */
	__u64 commit_limit;    /* pages above which the kernel itself refuses a request */
	__u32 growth_counter_id; /* id of the object that counts growth; 0: core */
	__u32 nodes;		 /* NUMA nodes; written once by the loader */
	__u64 paused_until;	 /* no kill is performed before this time */
	__u32 kills_per_minute;	 /* of one bound cgroup */
	__u32 unused;
	struct memcg_bpf_stall_clock host; /* tasks that reclaim for the whole machine */
	__u64 no_policy_cache[MEMCG_BPF_NO_POLICY_CACHE]; /* see ancestors.h */
};

/* An entry of an ancestor cache; see ancestors.h. */
struct memcg_bpf_ancestor_entry {
	__u64 serial;
	__u64 generation;
	__u64 ancestors;
};

/* cgroup id → binding. Preallocated: it is written where an allocation may fail. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, __u64);
	__type(value, struct memcg_bpf_binding);
} memcg_bindings SEC(".maps");

/* cgroup id → counters; one entry for each binding. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, __u64);
	__type(value, struct memcg_bpf_counters);
} memcg_counters SEC(".maps");

/* cgroup id → time its tasks stalled; one entry for each binding. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
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

/*
 * cgroup id → stalls; kept only while a policy reads it. LRU: any cgroup can be protected. Of tasks
 * below a delegated cgroup: the id of the delegated one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MEMCG_BPF_PROTECTED_STALLS_MAX);
	__type(key, __u64);
	__type(value, struct memcg_bpf_protected_stalls);
} memcg_protected_stalls SEC(".maps");

/* The same for cgroups below a delegated one. Read for cgroups below the same one only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MEMCG_BPF_PROTECTED_STALLS_MAX);
	__type(key, __u64);
	__type(value, struct memcg_bpf_protected_stalls);
} memcg_inner_protected_stalls SEC(".maps");

/* About 1000 actions between two reads by the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} memcg_actions SEC(".maps");

/* The kills that the kernel performed for a bound cgroup. */
struct memcg_bpf_kill_rate {
	__u64 begin; /* of the current minute */
	__u32 kills; /* in it */
	__u32 unused;
};

/* cgroup id → its kills. LRU: only cgroups in which something was killed have an entry. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct memcg_bpf_kill_rate);
} memcg_kill_rates SEC(".maps");

/* Kills that the kernel performed: about 130, which the next daemon reads if there is none now. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} memcg_kills SEC(".maps");

/* Denials of one bound cgroup by one policy. */
struct memcg_bpf_denial_key {
	__u64 cgroup;
	__u32 object; /* memcg_bpf_object_id */
	__u32 mode;
};

struct memcg_bpf_denial_rate {
	__u64 reported; /* when a denial was last reported */
	__u64 count;	/* of denials since then */
};

/* LRU: only cgroups in which something was denied have an entry. An entry that is lost costs one
 * report too many. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct memcg_bpf_denial_key);
	__type(value, struct memcg_bpf_denial_rate);
} memcg_denial_rates SEC(".maps");

/* About 570 denials. Not memcg_actions: denials are many, and must not displace an action. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} memcg_denials SEC(".maps");

/* A variable, because its address is a constant in the program and needs no map lookup. libbpf
 * names its map after the section. */
struct memcg_bpf_globals memcg_globals SEC(".data.memcg");

#endif
