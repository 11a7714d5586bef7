/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exactly the kernel types and fields our programs touch, relocated at load time (CO-RE) to where
 * the running kernel has them. Nothing here says how a struct is laid out: order and omissions are
 * free.
 */
#ifndef MEMCG_BPF_KERNEL_H
#define MEMCG_BPF_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define NULL ((void *)0)
#define true 1
#define false 0

/* From uapi/linux/bpf.h, which cannot be included beside these types. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	CLOCK_MONOTONIC = 1,
};

/* Known to the verifier by this name; not relocated. */
struct bpf_timer {
	__u64 opaque[2];
} __attribute__((aligned(8)));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;

struct kernfs_iattrs {
	kuid_t ia_uid;
};

struct kernfs_node {
	__u64 id;
	const char *name;
	struct kernfs_iattrs *iattr; /* NULL while everything is root's, as it was made */
};

struct cgroup;

struct list_head {
	struct list_head *next;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
	struct list_head sibling;
	struct list_head children;
	__u64 serial_nr; /* never used twice */
};

enum cgroup_subsys_id {
	memory_cgrp_id = 4,
	CGROUP_SUBSYS_COUNT = 14,
};

struct cgroup_root {
	int hierarchy_id; /* 0: cgroup v2 */
};

enum psi_task_count {
	NR_RUNNING = 2,
	NR_PSI_TASK_COUNTS = 4,
};

enum psi_states {
	PSI_MEM_SOME = 2,
	PSI_MEM_FULL = 3,
	PSI_NONIDLE = 6,
	NR_PSI_STATES = 7,
};

struct psi_group_cpu {
	__u32 tasks[NR_PSI_TASK_COUNTS];
	__u32 state_mask;	    /* the states that go on */
	__u32 times[NR_PSI_STATES]; /* in ns, without what goes on */
	__u64 state_start;	    /* of those that go on, by the scheduler's clock */
};

struct rq {
	__u64 clock;
};

struct psi_group {
	bool enabled;		    /* since 6.1 */
	struct psi_group_cpu *pcpu; /* an offset into the area of each CPU */
	unsigned long avg[18];	    /* [enum psi_states][10 s, 60 s, 300 s] */
};

struct cgroup {
	struct cgroup_subsys_state self; /* of no controller: the cgroup's own place in the tree */
	struct cgroup_subsys_state *subsys[CGROUP_SUBSYS_COUNT]; /* NULL: controller not enabled */
	struct cgroup_root *root;
	int level;
	struct kernfs_node *kn;
	struct psi_group *psi; /* NULL without PSI */
};

struct bpf_iter__cgroup {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state
		*subsys[CGROUP_SUBSYS_COUNT]; /* the nearest with the controller */
	struct cgroup *dfl_cgrp;	      /* in the unified hierarchy */
};

struct user_namespace {
	int level; /* 0: the initial one */
};

struct cgroup_namespace {
	struct user_namespace *user_ns; /* of its creator */
	struct css_set *root_cset;
};

struct nsproxy {
	struct cgroup_namespace *cgroup_ns;
};

#if defined(__TARGET_ARCH_x86)
struct thread_info {
	__u32 status;
};

struct pt_regs {
	unsigned long bx;
	unsigned long cx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 pstate;
	__u64 orig_x0;
	__s32 syscallno;
};
#endif

/* A part of a process's address space. */
struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	unsigned long vm_flags;
};

struct cred {
	kuid_t uid;
};

struct signal_struct {
	__u32 flags;
	int nr_threads;
	short oom_score_adj; /* -1000 to 1000 */
};

typedef struct {
	__s64 counter;
} atomic_long_t;

enum {
	MM_FILEPAGES = 0,
	MM_ANONPAGES = 1,
	MM_SWAPENTS = 2,
	MM_SHMEMPAGES = 3,
	NR_MM_COUNTERS = 4,
};

struct percpu_counter {
	__s64 count;
};

/* Since 6.2. */
struct mm_struct {
	struct percpu_counter rss_stat[NR_MM_COUNTERS];
};

struct mm_rss_stat {
	atomic_long_t count[NR_MM_COUNTERS];
};

struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

struct task_struct {
	struct mm_struct *mm; /* NULL for kernel threads */
#if defined(__TARGET_ARCH_x86)
	struct thread_info thread_info;
#endif
	struct css_set *cgroups;
	struct nsproxy *nsproxy; /* NULL in a task that exits */
	unsigned int memcg_nr_pages_over_high;
	unsigned int flags;
	int tgid; /* in the initial namespace */
	struct task_struct *group_leader;
	struct signal_struct *signal;
	const struct cred *real_cred;
	__u64 start_boottime; /* in ns */
	char comm[16];
};

struct page_counter {
	atomic_long_t usage;
	unsigned long emin; /* effective: computed at the last reclaim */
	unsigned long elow;
	unsigned long min;
	unsigned long low;
	unsigned long high;
	unsigned long max;
};

/* struct memcg_vmstats: hierarchical statistics, at most 2 s old. */
struct memcg_vmstats {
	long state[64];
};

enum lru_list {
	LRU_INACTIVE_FILE = 2,
	LRU_ACTIVE_FILE = 3,
	NR_LRU_LISTS = 5,
};

enum zone_type {
	__MAX_NR_ZONES = 5,
};

/* The lists of the multi-generational LRU; named lru_gen_struct in 6.1. */
struct lru_gen_folio {
	/* [generation][0: anonymous, 1: file][zone]: 4, 2, 5. BTF has one dimension, and CO-RE
	 * finds no field whose type differs. */
	long nr_pages[40];
};

struct lruvec {
	struct lru_gen_folio lrugen;
};

/* Of one NUMA node: the pages of the cgroup itself, without its children, now. Pages on the lists
 * of the multi-generational LRU are counted only there. */
struct mem_cgroup_per_node {
	struct lruvec lruvec;
	unsigned long lru_zone_size[25]; /* [zone][enum lru_list] */
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	struct page_counter swap;
	struct memcg_vmstats *vmstats;
	bool oom_group;
	struct mem_cgroup_per_node *nodeinfo[64]; /* one for each NUMA node */
};

enum oom_constraint {
	CONSTRAINT_NONE = 0,
};

struct oom_control {
	struct mem_cgroup *memcg; /* NULL: the machine is out of memory */
	int order;
	struct task_struct *chosen;
	enum oom_constraint constraint;
};

enum node_stat_item {
	NR_INACTIVE_FILE = 2,
	NR_ACTIVE_FILE = 3,
};

#pragma clang attribute pop

struct folio;

#endif
