/* SPDX-License-Identifier: GPL-2.0-only */
/* The hook `growth`. */
#ifndef MEMCG_BPF_GROWTH_H
#define MEMCG_BPF_GROWTH_H

#include "noreserve.h"

#define MEMCG_BPF_ENOMEM 12

/*
 * Is the task in a system call whose caller expects ENOMEM? The kernel makes the same check for
 * stack growth (a denial means SIGSEGV), fork, exec, swapoff and every tmpfs page (SIGBUS or
 * ENOSPC); those are never denied. Global, so that the verifier follows it once and not at every
 * level.
 */
__noinline int memcg_bpf_deniable(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

	/* The daemon needs memory to restore what policies changed. */
	if (memcg_bpf_task_cgroup(task)->kn->id == memcg_globals.daemon)
		return false;
#if defined(__TARGET_ARCH_x86)
	__u32 nr = regs->orig_ax;

	if (task->thread_info.status & 2 /* TS_COMPAT: the numbers of 32-bit programs */)
		return nr == 45 /* brk */ || nr == 90 /* mmap */ || nr == 117 /* ipc: shmget */ ||
		       nr == 125 /* mprotect */ || nr == 163 /* mremap */ ||
		       nr == 192 /* mmap2 */ || nr == 380 /* pkey_mprotect */ ||
		       nr == 395 /* shmget */;
	nr &= ~0x40000000; /* x32 uses the same numbers with this bit */
	return nr == 9 /* mmap */ || nr == 10 /* mprotect */ || nr == 12 /* brk */ ||
	       nr == 25 /* mremap */ || nr == 29 /* shmget */ || nr == 329 /* pkey_mprotect */ ||
	       nr == 453 /* map_shadow_stack */;
#elif defined(__TARGET_ARCH_arm64)
	__s32 nr = regs->syscallno;

	if (regs->pstate & 0x10 /* PSR_MODE32_BIT: the numbers of 32-bit programs */)
		return nr == 45 /* brk */ || nr == 125 /* mprotect */ || nr == 163 /* mremap */ ||
		       nr == 192 /* mmap2 */ || nr == 307 /* shmget */ ||
		       nr == 394 /* pkey_mprotect */;
	return nr == 194 /* shmget */ || nr == 214 /* brk */ || nr == 216 /* mremap */ ||
	       nr == 222 /* mmap */ || nr == 226 /* mprotect */ || nr == 288 /* pkey_mprotect */;
#endif
}

/* The record that the daemon reads; src/bpf/denials.rs. */
struct memcg_bpf_denial {
	__u64 cgroup; /* the bound cgroup */
	__u64 time;   /* bpf_ktime_get_ns() */
	__u64 bytes;  /* requested */
	__u64 usage;  /* see memcg_bpf_deny() */
	__u64 limit;  /* 0: the policy names none */
	__u64 count;  /* of denials since the last record, with this one */
	__u32 pid;    /* of the process, in the initial namespace */
	__u32 mode;   /* enum memcg_bpf_mode: a dry run denies nothing */
	char policy[MEMCG_BPF_NAME_MAX];
	char comm[16]; /* name of the process */
};
_Static_assert(sizeof(struct memcg_bpf_denial) == 104, "src/bpf/denials.rs");

/* Between two records of one policy and cgroup. */
#define MEMCG_BPF_DENIAL_INTERVAL MEMCG_BPF_SECOND

/* Reports a denial, unless one was reported within the interval: it is counted for the next. */
static __noinline int memcg_bpf_report_denial(struct memcg_bpf_denial *d, __u32 object)
{
	struct memcg_bpf_denial_key key = {.cgroup = d->cgroup, .object = object, .mode = d->mode};
	struct memcg_bpf_denial_rate none = {}, *rate;
	__u64 reported;

	rate = bpf_map_lookup_elem(&memcg_denial_rates, &key);
	if (!rate) {
		bpf_map_update_elem(&memcg_denial_rates, &key, &none, BPF_NOEXIST);
		rate = bpf_map_lookup_elem(&memcg_denial_rates, &key);
	}
	if (!rate)
		return 0;
	memcg_bpf_add(&rate->count, 1);
	reported = rate->reported;
	/* Another CPU may have reported after `time`. */
	if ((__s64)(d->time - reported) < (__s64)MEMCG_BPF_DENIAL_INTERVAL ||
	    __sync_val_compare_and_swap(&rate->reported, reported, d->time) != reported)
		return 0;
	d->count = __sync_lock_test_and_set(&rate->count, 0);
	if (bpf_ringbuf_output(&memcg_denials, d, sizeof(*d), 0))
		memcg_bpf_add(&rate->count, d->count);
	return 0;
}

/*
 * Counts a denial, or one that a dry run does not carry out, and reports it at most once a second.
 * False: the request is not denied. Global, as memcg_bpf_deniable().
 */
__noinline int memcg_bpf_record_denial(struct memcg_bpf_denial *d, __u32 object)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct memcg_bpf_counters *c;
	__u64 cgroup;

	if (!d)
		return false;
	cgroup = d->cgroup; /* 6.1 wants keys on the stack */
	c = bpf_map_lookup_elem(&memcg_counters, &cgroup);
	if (c)
		memcg_bpf_add(d->mode == MEMCG_BPF_MODE_DRY_RUN ? &c->growth_dry_run
								: &c->growth_denied,
			      1);
	d->time = bpf_ktime_get_ns();
	d->pid = task->tgid;
	bpf_probe_read_kernel_str(d->comm, sizeof(d->comm), task->group_leader->comm);
	memcg_bpf_report_denial(d, object);
	return d->mode != MEMCG_BPF_MODE_DRY_RUN;
}

static __always_inline struct memcg_bpf_denial memcg_bpf_denial_of(struct memcg_bpf_call *call)
{
	const struct memcg_bpf_ctx *ctx = &call->ctx;

	return (struct memcg_bpf_denial){
		.cgroup = call->cgroup,
		.bytes = ctx->bytes,
		.usage = ctx->denied_limit ? ctx->denied_usage : memcg_bpf_usage(&call->ctx),
		.limit = ctx->denied_limit,
		.mode = call->mode,
	};
}

/*
 * A program's name is HOOK__CANDIDATE: the loader takes the first candidate whose target the
 * running kernel has. `security_` functions can always be modified, and a denial there leaves
 * nothing to undo. The arguments (mm, pages, result of the programs before) are read where they are
 * used, not by BPF_PROG().
 */
#define MEMCG_BPF_PROGRAMS_growth                                                            \
	MEMCG_BPF_ANCESTOR_CACHE(ancestors_growth, MEMCG_BPF_ANCESTOR_CACHE_LARGE);          \
	static __always_inline int memcg_bpf_growth_verdict(struct cgroup *cgroup,           \
							    __u64 ancestors, __u64 pages)    \
	{                                                                                    \
		struct cgroup_subsys_state *self;                                            \
		__u32 nearest = ancestors >> MEMCG_BPF_SLOT_SHIFT & MEMCG_BPF_SLOT_MASK;     \
                                                                                             \
		if (ancestors & MEMCG_BPF_ANC_TOO_DEEP)                                      \
			return memcg_bpf_deniable() ? -MEMCG_BPF_ENOMEM : 0;                 \
		if (ancestors & MEMCG_BPF_ANC_SKIPPED)                                       \
			cgroup = memcg_bpf_to_max_level(cgroup);                             \
		ancestors &= MEMCG_BPF_ANC_MASK;                                             \
		self = cgroup ? &cgroup->self : NULL;                                        \
		memcg_bpf_for_each_bound(self, ancestors, i)                                 \
		{                                                                            \
			struct memcg_bpf_call call = {                                       \
				.ctx = {.bytes = pages << MEMCG_BPF_PAGE_SHIFT},             \
				.cgroup = self->cgroup->kn->id,                              \
				.css = memcg_bpf_css(self->cgroup),                          \
			};                                                                   \
			__u32 index = nearest;                                               \
			memcg_bpf_policy_slot *slot;                                         \
                                                                                             \
			nearest = MEMCG_BPF_NO_SLOT;                                         \
			if (index == MEMCG_BPF_NO_SLOT &&                                    \
			    !memcg_bpf_binding_slot(self->cgroup, &index))                   \
				continue;                                                    \
			slot = bpf_map_lookup_elem(&params, &index);                         \
			if (!slot || !slot->active || !call.css)                             \
				continue;                                                    \
			call.mode = slot->params.mode;                                       \
			if (memcg_bpf_growth_fn(&call.ctx, &slot->params) != MEMCG_BPF_DENY) \
				continue;                                                    \
			if (!memcg_bpf_deniable())                                           \
				return 0; /* the same for every cgroup above */              \
			struct memcg_bpf_denial denial = memcg_bpf_denial_of(&call);         \
			__builtin_memcpy(denial.policy, memcg_bpf_name, MEMCG_BPF_NAME_MAX); \
			if (memcg_bpf_record_denial(&denial, memcg_bpf_object_id))           \
				return -MEMCG_BPF_ENOMEM;                                    \
		}                                                                            \
		return 0;                                                                    \
	}                                                                                    \
	static __noinline int memcg_bpf_growth_bound(struct cgroup *cgroup, __u64 pages)     \
	{                                                                                    \
		__u64 ancestors = memcg_bpf_ancestors(cgroup, &ancestors_growth);            \
		int verdict = memcg_bpf_growth_verdict(cgroup, ancestors, pages);            \
                                                                                             \
		if (memcg_globals.growth_counter_id == memcg_bpf_object_id)                  \
			memcg_bpf_count_growth(cgroup, ancestors, pages, verdict);           \
		return verdict;                                                              \
	}                                                                                    \
	SEC("?fmod_ret/security_vm_enough_memory_mm")                                        \
	int growth__0(__u64 *args)                                                           \
	{                                                                                    \
		struct cgroup *cgroup = memcg_bpf_task_cgroup(bpf_get_current_task_btf());   \
                                                                                             \
		if (memcg_bpf_no_policy(cgroup) || args[2])                                  \
			return args[2];                                                      \
		return memcg_bpf_growth_bound(cgroup, args[1]);                              \
	}                                                                                    \
	MEMCG_BPF_PROGRAMS_NORESERVE                                                         \
	MEMCG_BPF_HOOK_END(growth)

#endif
