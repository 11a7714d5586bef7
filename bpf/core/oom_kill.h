/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kills by the kernel's own OOM killer, in any cgroup: with a policy or without. Nothing runs
 * except when it kills.
 */
#ifndef MEMCG_BPF_CORE_OOM_KILL_H
#define MEMCG_BPF_CORE_OOM_KILL_H

/* Deeper parts of a path are left out: the unit or container is above them. A power of two. */
#define OOM_KILL_LEVELS 8

struct memcg_bpf_oom_task {
	__u64 cgroup;  /* id */
	__u64 started; /* in ns of the boot's clock */
	__u64 age;     /* since then */
	__u32 pid;
	__u32 uid;
	__u32 level; /* of its cgroup; 0: the root cgroup */
	__s32 oom_score_adj;
	char comm[16];
	char path[OOM_KILL_LEVELS][MEMCG_BPF_UNIT_MAX]; /* the parts of the path, topmost first */
};

struct memcg_bpf_oom_kill {
	__u64 time; /* bpf_ktime_get_ns() */
	/* Memory of the victim, in bytes. */
	__u64 anon;
	__u64 file;
	__u64 shmem;
	__u64 swap;
	/* The cgroup that was at its limit, in bytes; id 0: the machine. It is one of the victim's
	 * path. */
	__u64 limit;
	__u64 usage;
	__u64 max;
	__u64 swap_usage;
	__u64 swap_max;
	__u32 limit_level;
	__u32 group_level; /* of the cgroup that is killed as a whole; 0: none is */
	__u32 some;	   /* stalled in the last minute, in ppm; OOM_KILL_UNKNOWN without PSI */
	__u32 full;
	__u32 constraint; /* enum oom_constraint */
	__s32 order;	  /* of the allocation; -1: SysRq */
	struct memcg_bpf_oom_task victim;
	struct memcg_bpf_oom_task culprit; /* whose allocation was at the limit */
};
_Static_assert(sizeof(struct memcg_bpf_oom_task) == 56 + OOM_KILL_LEVELS * MEMCG_BPF_UNIT_MAX,
	       "src/bpf/oom_kills.rs");
_Static_assert(sizeof(struct memcg_bpf_oom_kill) == 104 + 2 * sizeof(struct memcg_bpf_oom_task),
	       "src/bpf/oom_kills.rs");

#define OOM_KILL_UNKNOWN (~0U)

/* About 55 kills, which the next daemon reads if there is none now. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 17);
} memcg_oom_kills SEC(".maps");

/* One entry: the kernel kills one process at a time, under oom_lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memcg_bpf_oom_kill);
} oom_kill_scratch SEC(".maps");

struct oom_kill_path_walk {
	struct cgroup *cgroup;
	struct memcg_bpf_oom_task *task;
};

static long oom_kill_path_step(__u64 i, struct oom_kill_path_walk *at)
{
	struct cgroup *cgroup = at->cgroup, *parent = memcg_bpf_cgroup_parent(cgroup);
	__u32 part = cgroup->level - 1;

	if (!parent)
		return 1;
	if (part < OOM_KILL_LEVELS)
		bpf_probe_read_kernel_str(at->task->path[part & (OOM_KILL_LEVELS - 1)],
					  MEMCG_BPF_UNIT_MAX, cgroup->kn->name);
	at->cgroup = parent;
	return 0;
}

static __noinline void oom_kill_describe(struct memcg_bpf_oom_task *out, struct task_struct *task)
{
	struct cgroup *cgroup = memcg_bpf_task_cgroup(task);
	struct oom_kill_path_walk at = {.cgroup = cgroup, .task = out};

	out->cgroup = cgroup->kn->id;
	out->started = task->group_leader->start_boottime;
	out->age = bpf_ktime_get_boot_ns() - out->started;
	out->pid = task->tgid;
	out->uid = BPF_CORE_READ(task, real_cred, uid.val);
	out->level = cgroup->level;
	out->oom_score_adj = task->signal->oom_score_adj;
	bpf_probe_read_kernel_str(out->comm, sizeof(out->comm), task->group_leader->comm);
	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, oom_kill_path_step, &at, 0);
}

static __always_inline __u64 oom_kill_bytes(__s64 pages)
{
	return pages > 0 ? (__u64)pages << MEMCG_BPF_PAGE_SHIFT : 0;
}

/* PAGE_COUNTER_MAX and more: no limit. */
static __always_inline __u64 oom_kill_limit(__u64 pages)
{
	return pages >= ~0ULL >> 1 >> MEMCG_BPF_PAGE_SHIFT ? ~0ULL : pages << MEMCG_BPF_PAGE_SHIFT;
}

static __noinline void oom_kill_memory(struct memcg_bpf_oom_kill *out, struct task_struct *victim)
{
	struct mm_struct *mm = victim->mm;
	struct mm_struct___before_6_2 *old = (void *)mm;

	out->anon = out->file = out->shmem = out->swap = 0;
	if (!mm)
		return;
	if (bpf_core_field_exists(old->rss_stat.count)) {
		out->file =
			oom_kill_bytes(BPF_CORE_READ(old, rss_stat.count[MM_FILEPAGES].counter));
		out->anon =
			oom_kill_bytes(BPF_CORE_READ(old, rss_stat.count[MM_ANONPAGES].counter));
		out->swap = oom_kill_bytes(BPF_CORE_READ(old, rss_stat.count[MM_SWAPENTS].counter));
		out->shmem =
			oom_kill_bytes(BPF_CORE_READ(old, rss_stat.count[MM_SHMEMPAGES].counter));
	} else {
		out->file = oom_kill_bytes(BPF_CORE_READ(mm, rss_stat[MM_FILEPAGES].count));
		out->anon = oom_kill_bytes(BPF_CORE_READ(mm, rss_stat[MM_ANONPAGES].count));
		out->swap = oom_kill_bytes(BPF_CORE_READ(mm, rss_stat[MM_SWAPENTS].count));
		out->shmem = oom_kill_bytes(BPF_CORE_READ(mm, rss_stat[MM_SHMEMPAGES].count));
	}
}

/* The kernel keeps averages of the fraction of the last minute: in percent, with 11 bits after the
 * point. */
static __always_inline __u32 oom_kill_stalled(__u64 average)
{
	return average * 10000 >> 11;
}

static __noinline void oom_kill_limit_of(struct memcg_bpf_oom_kill *out, struct mem_cgroup *memcg)
{
	struct cgroup *cgroup = memcg->css.cgroup;
	struct psi_group *psi = cgroup->psi;

	out->limit = cgroup->kn->id;
	out->limit_level = cgroup->level;
	out->usage = oom_kill_bytes(BPF_CORE_READ(memcg, memory.usage.counter));
	out->max = oom_kill_limit(BPF_CORE_READ(memcg, memory.max));
	out->swap_usage = oom_kill_bytes(BPF_CORE_READ(memcg, swap.usage.counter));
	out->swap_max = oom_kill_limit(BPF_CORE_READ(memcg, swap.max));
	if (psi) {
		out->some = oom_kill_stalled(BPF_CORE_READ(psi, avg[PSI_MEM_SOME * 3 + 1]));
		out->full = oom_kill_stalled(BPF_CORE_READ(psi, avg[PSI_MEM_FULL * 3 + 1]));
	}
}

struct oom_kill_group_search {
	struct cgroup_subsys_state *css;
	__u64 limit;
	__u64 level;
};

/* The topmost with memory.oom.group, from the victim's cgroup to the one at its limit. */
static long oom_kill_group_step(__u64 i, struct oom_kill_group_search *at)
{
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);
	struct cgroup *cgroup;

	if (!parent)
		return 1;
	if (MEMCG_BPF_READ(at->css, oom_group)) {
		cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, cgroup);
		at->level = MEMCG_BPF_FIELD(struct cgroup, cgroup, level);
	}
	if (memcg_bpf_css_id(at->css) == at->limit)
		return 1;
	at->css = parent;
	return 0;
}

/* Such a process ends by itself: the kernel only lets it have memory for that. */
static __always_inline bool oom_kill_is_ending(struct task_struct *task)
{
	return task->signal->flags & MEMCG_BPF_SIGNAL_GROUP_EXIT ||
	       (task->flags & MEMCG_BPF_PF_EXITING && task->signal->nr_threads == 1);
}

SEC("?fentry/oom_kill_process")
int BPF_PROG(record_oom_kill, struct oom_control *oc)
{
	__u32 zero = 0;
	struct memcg_bpf_oom_kill *out = bpf_map_lookup_elem(&oom_kill_scratch, &zero);
	struct task_struct *victim = oc->chosen;
	struct mem_cgroup *memcg = oc->memcg;
	struct oom_kill_group_search group = {};

	if (!out || !victim || oom_kill_is_ending(victim))
		return 0;
	out->time = bpf_ktime_get_ns();
	out->constraint = oc->constraint;
	out->order = oc->order;
	out->limit = out->usage = out->swap_usage = 0;
	out->max = out->swap_max = ~0ULL;
	out->limit_level = 0;
	out->some = out->full = OOM_KILL_UNKNOWN;
	if (memcg)
		oom_kill_limit_of(out, memcg);
	else
		out->max = oom_kill_bytes(memcg_globals.total_ram_pages);
	oom_kill_memory(out, victim);
	group.css = memcg_bpf_task_css(victim);
	group.limit = out->limit;
	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, oom_kill_group_step, &group, 0);
	out->group_level = group.level;
	oom_kill_describe(&out->victim, victim);
	oom_kill_describe(&out->culprit, bpf_get_current_task_btf());
	if (bpf_ringbuf_output(&memcg_oom_kills, out, sizeof(*out), 0))
		__sync_fetch_and_add(&memcg_globals.actions_dropped, 1);
	return 0;
}

#endif
