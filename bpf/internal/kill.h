/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kills that the kernel performs, without the daemon: of the task for which a hook is called, by
 * bpf_send_signal(). The guards are here, because no other program can block such a kill.
 */
#ifndef MEMCG_BPF_KILL_H
#define MEMCG_BPF_KILL_H

#define MEMCG_BPF_SIGKILL	    9
#define MEMCG_BPF_PF_EXITING	    0x4
#define MEMCG_BPF_PF_KTHREAD	    0x200000
#define MEMCG_BPF_SIGNAL_GROUP_EXIT 0x4
#define MEMCG_BPF_OOM_ADJ_MIN	    -1000
#define MEMCG_BPF_MINUTE	    (60 * MEMCG_BPF_SECOND)

/* Since 6.15, and before 6.2. */
extern const int __preempt_count __ksym __weak;

/* From 6.2 to 6.14. */
struct pcpu_hot {
	int preempt_count;
} __attribute__((preserve_access_index));
extern const struct pcpu_hot pcpu_hot __ksym __weak;

#define MEMCG_BPF_INTERRUPT                                                  \
	0xfff00 /* of the preemption count: bits of soft and hard interrupts \
		 */

/*
 * Is an interrupt served? The memory of network packets is charged there, and the current task is
 * whichever was interrupted. On other machines than x86, where the count is not in a variable, a
 * charge by an interrupt is taken for one of the task.
 */
static __always_inline bool memcg_bpf_in_interrupt(void)
{
#if defined(__TARGET_ARCH_x86)
	if (&__preempt_count)
		return *(const int *)bpf_this_cpu_ptr(&__preempt_count) & MEMCG_BPF_INTERRUPT;
	if (&pcpu_hot)
		return ((const struct pcpu_hot *)bpf_this_cpu_ptr(&pcpu_hot))->preempt_count &
		       MEMCG_BPF_INTERRUPT;
#endif
	return false;
}

/* Is the process about to end? Its memory will be freed: no other needs to be killed. */
static __always_inline bool memcg_bpf_is_dying(struct task_struct *task)
{
	return task->flags & MEMCG_BPF_PF_EXITING ||
	       task->signal->flags & MEMCG_BPF_SIGNAL_GROUP_EXIT;
}

/* Memory of the process that only its end frees, in bytes: anonymous, swapped and shared memory.
 * The kernel's counters are exact to some hundred KiB. */
static __always_inline __u64 memcg_bpf_process_memory(struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	struct mm_struct___before_6_2 *old = (void *)mm;
	__s64 pages;

	if (!mm)
		return 0;
	if (bpf_core_field_exists(old->rss_stat.count))
		pages = BPF_CORE_READ(old, rss_stat.count[MM_ANONPAGES].counter) +
			BPF_CORE_READ(old, rss_stat.count[MM_SWAPENTS].counter) +
			BPF_CORE_READ(old, rss_stat.count[MM_SHMEMPAGES].counter);
	else
		pages = BPF_CORE_READ(mm, rss_stat[MM_ANONPAGES].count) +
			BPF_CORE_READ(mm, rss_stat[MM_SWAPENTS].count) +
			BPF_CORE_READ(mm, rss_stat[MM_SHMEMPAGES].count);
	return pages > 0 ? (__u64)pages << MEMCG_BPF_PAGE_SHIFT : 0;
}

/* May the task be killed? Not the daemon's, and not those that the kernel itself spares. */
static __always_inline bool memcg_bpf_is_killable(struct task_struct *task)
{
	return !(task->flags & MEMCG_BPF_PF_KTHREAD) && task->tgid != 1 &&
	       task->signal->oom_score_adj != MEMCG_BPF_OOM_ADJ_MIN &&
	       memcg_bpf_task_cgroup(task)->kn->id != memcg_globals.daemon;
}

/* Does the kernel kill the whole cgroup when it kills one of its processes? memory.oom.group holds
 * for the cgroup and for those below it. */
static long memcg_bpf_oom_group_step(__u64 i, struct memcg_bpf_ancestor_search *at)
{
	struct cgroup_subsys_state *parent =
		MEMCG_BPF_FIELD(struct cgroup_subsys_state, at->css, parent);

	if (!parent) /* the root cgroup has no such file */
		return 1;
	at->found = MEMCG_BPF_READ(at->css, oom_group);
	if (at->found || memcg_bpf_css_id(at->css) == at->id)
		return 1;
	at->css = parent;
	return 0;
}

/* From the task's cgroup up to the bound one. */
static __noinline bool memcg_bpf_in_oom_group(struct cgroup_subsys_state *css, __u64 bound)
{
	struct memcg_bpf_ancestor_search at = {.css = css, .id = bound};

	bpf_loop(MEMCG_BPF_SKIPPED_LEVELS_MAX, memcg_bpf_oom_group_step, &at, 0);
	return at.found;
}

/* KillsPerMinute=, for each bound cgroup. Counts the kill if it is allowed. */
static __noinline bool memcg_bpf_kill_allowed(__u64 cgroup, __u64 now)
{
	struct memcg_bpf_kill_rate first = {.begin = now, .kills = 1}, *rate;

	if (now < memcg_globals.paused_until || !memcg_globals.kills_per_minute)
		return false;
	rate = bpf_map_lookup_elem(&memcg_kill_rates, &cgroup);
	if (!rate)
		return !bpf_map_update_elem(&memcg_kill_rates, &cgroup, &first, BPF_NOEXIST);
	/* Another CPU may have begun a minute after `now`. */
	if ((__s64)(now - rate->begin) >= (__s64)MEMCG_BPF_MINUTE) {
		rate->begin = now;
		rate->kills = 0;
	}
	return __sync_fetch_and_add(&rate->kills, 1) < memcg_globals.kills_per_minute;
}

/* Kills the current process for the bound cgroup. False: it may not be killed here. */
static __noinline bool memcg_bpf_kill_current(__u64 cgroup, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();

	/* The rest of such a group is ended by the daemon, in one step. */
	if (!memcg_bpf_is_killable(task) ||
	    memcg_bpf_in_oom_group(memcg_bpf_task_css(task), cgroup))
		return false;
	return memcg_bpf_kill_allowed(cgroup, now) && !bpf_send_signal(MEMCG_BPF_SIGKILL);
}

#endif
