/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether the cgroup has runnable tasks. The kernel counts them for PSI, on each CPU. */
#ifndef MEMCG_BPF_RUNNABLE_H
#define MEMCG_BPF_RUNNABLE_H

#define MEMCG_BPF_CPUS_MAX 8192

#if defined(__TARGET_ARCH_x86)
/* The offset of each CPU's area of per-CPU variables. */
extern const unsigned long this_cpu_off __ksym __weak;

struct memcg_bpf_cpu_scan {
	__u64 tasks; /* address of the counts, less the CPU's offset */
	__u64 runnable;
};

static long memcg_bpf_cpu_scan(__u32 cpu, struct memcg_bpf_cpu_scan *scan)
{
	const unsigned long *offset = bpf_per_cpu_ptr(&this_cpu_off, cpu);
	__u32 runnable = 0;

	if (!offset)
		return 1; /* no such CPU */
	bpf_probe_read_kernel(&runnable, sizeof(runnable), (void *)(scan->tasks + *offset));
	/* Not a sum: the verifier would follow it from one CPU to the next. */
	if (!runnable)
		return 0;
	scan->runnable = 1;
	return 1;
}
#endif

/* In the subtree, now. False without PSI, and on other machines than x86. */
static __always_inline bool memcg_bpf_has_runnable(struct memcg_bpf_ctx *ctx)
{
#if defined(__TARGET_ARCH_x86)
	struct cgroup_subsys_state *css = memcg_bpf_to_call(ctx)->css;
	struct cgroup *cgroup = MEMCG_BPF_FIELD(struct cgroup_subsys_state, css, cgroup);
	struct psi_group *psi = MEMCG_BPF_FIELD(struct cgroup, cgroup, psi);
	struct memcg_bpf_cpu_scan scan = {};
	__u64 counts = 0;

	if (!&this_cpu_off || !psi || !bpf_core_enum_value_exists(enum psi_task_count, NR_RUNNING))
		return false;
	/* Read as a number: the verifier allows no arithmetic on a kernel pointer. */
	bpf_core_read(&counts, sizeof(counts), &psi->pcpu);
	scan.tasks = counts + bpf_core_field_offset(struct psi_group_cpu, tasks) +
		     sizeof(__u32) * bpf_core_enum_value(enum psi_task_count, NR_RUNNING);
	bpf_loop(MEMCG_BPF_CPUS_MAX, memcg_bpf_cpu_scan, &scan, 0);
	return scan.runnable;
#else
	return false;
#endif
}

#endif
