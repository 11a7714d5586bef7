/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a policy asks for when its verdict is OVERRIDE. The daemon carries it out, behind guards
 * that no policy can get around.
 */
#ifndef MEMCG_BPF_ACTION_H
#define MEMCG_BPF_ACTION_H

enum memcg_bpf_action_kind {
	MEMCG_BPF_ACT_HIGH = 1,	   /* memory.high in bytes; MEMCG_BPF_RELEASE takes the want back */
	MEMCG_BPF_ACT_LOW = 2,	   /* memory.low: the same */
	MEMCG_BPF_ACT_RECLAIM = 3, /* memory.reclaim in bytes; detail: swappiness */
	MEMCG_BPF_ACT_KILL = 4,	   /* value: grace in ns; detail: MEMCG_BPF_KILL_HOW() */
	MEMCG_BPF_ACT_FREEZE =
		5, /* cgroup.freeze: 1 freezes; MEMCG_BPF_RELEASE takes the want back */
};

#define MEMCG_BPF_RELEASE	     (~0ULL)
#define MEMCG_BPF_SWAPPINESS_DEFAULT (~0U) /* else 0..200 */

/* What is killed at once. */
enum memcg_bpf_kill_scope {
	MEMCG_BPF_KILL_PROCESS = 0,
	MEMCG_BPF_KILL_LEAF = 1,  /* a cgroup without children */
	MEMCG_BPF_KILL_GROUP = 2, /* all that is governed */
};

/* Which process or leaf: chosen by the daemon, for a tick cannot walk processes before 6.7. */
enum memcg_bpf_kill_select {
	MEMCG_BPF_SELECT_LARGEST = 0,
	MEMCG_BPF_SELECT_NEWEST = 1,
	MEMCG_BPF_SELECT_PRESSURE = 2,
};

#define MEMCG_BPF_KILL_HOW(scope, select) ((scope) | (select) << 8)

#define MEMCG_BPF_NAME_MAX   32
#define MEMCG_BPF_REASON_MAX 128

struct memcg_bpf_action {
	__u64 cgroup;	 /* the governed cgroup whose policy asks */
	__u64 time;	 /* bpf_ktime_get_ns() */
	__u64 value;	 /* see enum memcg_bpf_action_kind */
	__u64 number[4]; /* the numbers behind it, in the order of the placeholders */
	__u32 kind;
	__u32 detail;
	__u32 mode; /* enum memcg_bpf_mode: a dry run is logged and counted, but not done */
	__u32 unused;
	char policy[MEMCG_BPF_NAME_MAX];
	/* "stalled {ns} of the last {ns}": placeholders {bytes} {ns} {ppm} {count} */
	char reason[MEMCG_BPF_REASON_MAX];
};
_Static_assert(sizeof(struct memcg_bpf_action) == 232, "src/bpf/actions.rs");

#endif
