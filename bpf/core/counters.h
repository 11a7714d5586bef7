/* SPDX-License-Identifier: GPL-2.0-only */
/* The counters of bound cgroups and their subtrees. */
#ifndef MEMCG_BPF_CORE_COUNTERS_H
#define MEMCG_BPF_CORE_COUNTERS_H

#include "task_state.h"
#include "stall.h"

/*
 * fexit, so that denials by policies and by the kernel itself are seen. Skipped while a policy's
 * program counts: memcg_bpf_count_growth().
 */
MEMCG_BPF_ANCESTOR_CACHE(ancestors_growth, MEMCG_BPF_ANCESTOR_CACHE_LARGE);
SEC("?fexit/security_vm_enough_memory_mm")
int BPF_PROG(count_growth__0, struct mm_struct *mm, long pages, int ret)
{
	struct cgroup *cgroup = memcg_bpf_current();

	if (memcg_bpf_no_policy(cgroup) || memcg_globals.growth_counter_id)
		return 0;
	MEMCG_BPF_COUNT_ANCESTORS(cgroup, memcg_bpf_ancestors(cgroup, &ancestors_growth),
				  memcg_bpf_count_request(c, pages, ret));
	return 0;
}

/* See MEMCG_BPF_PROGRAMS_charge. */
MEMCG_BPF_ANCESTOR_CACHE(ancestors_charge, MEMCG_BPF_ANCESTOR_CACHE_LARGE);
SEC("?fentry/page_counter_try_charge")
int BPF_PROG(count_charge__0, struct page_counter *counter, unsigned long pages)
{
	struct cgroup_subsys_state *own = memcg_bpf_task_css(bpf_get_current_task_btf());

	if ((__u64)counter != (__u64)own + bpf_core_field_offset(struct mem_cgroup, memory))
		return 0;
	MEMCG_BPF_COUNT(own->cgroup, &ancestors_charge, {
		memcg_bpf_add(&c->charges, 1);
		memcg_bpf_add(&c->charged_pages, pages);
	});
	return 0;
}

SEC("?fentry/try_to_free_mem_cgroup_pages")
int BPF_PROG(count_reclaim_begin__0, struct mem_cgroup *memcg, unsigned long pages,
	     unsigned int gfp, unsigned int options)
{
	bool has_policy = !memcg_bpf_no_policy(memcg->css.cgroup);
	__u64 now = bpf_ktime_get_ns();
	struct memcg_bpf_task_state *s;

	if (has_policy || watched(memcg_globals.watch_protected, now))
		record_limit_reclaim(memcg->css.cgroup, options, now);
	/* What a task waits for because it writes memory.reclaim is nobody's limit: no stall. */
	s = options & MEMCG_RECLAIM_PROACTIVE ? task_state_create() : memcg_bpf_task_state();
	if (s)
		s->proactive = options & MEMCG_RECLAIM_PROACTIVE;
	if (s && s->stall && !s->proactive)
		limit_known(s, memcg->css.cgroup, now);
	if (!has_policy)
		return 0;
	s = task_state_create();
	if (s)
		s->reclaim = now;
	return 0;
}

/* The result is read by bpf_get_func_ret(), because the number of arguments changed with 6.12. */
MEMCG_BPF_ANCESTOR_CACHE(ancestors_reclaim, MEMCG_BPF_ANCESTOR_CACHE_SMALL);
SEC("?fexit/try_to_free_mem_cgroup_pages")
int BPF_PROG(count_reclaim_end__0, struct mem_cgroup *memcg)
{
	struct memcg_bpf_task_state *s = memcg_bpf_task_state();
	__u64 took = s && s->reclaim ? bpf_ktime_get_ns() - s->reclaim : 0;
	__u64 pages = 0;

	bpf_get_func_ret(ctx, &pages);
	if (s) {
		s->proactive = 0;
		s->reclaim = 0;
		s->reclaim_ns = took;
	}
	MEMCG_BPF_COUNT(memcg->css.cgroup, &ancestors_reclaim, {
		memcg_bpf_add(&c->reclaim_runs, 1);
		memcg_bpf_add(&c->reclaim_ns, took);
		memcg_bpf_add(&c->reclaimed_pages, pages);
	});
	return 0;
}

/* Counted for the task that reads the page again, whoever charged it. */
MEMCG_BPF_ANCESTOR_CACHE(ancestors_refault, MEMCG_BPF_ANCESTOR_CACHE_SMALL);
SEC("?fentry/workingset_refault")
int BPF_PROG(count_refault__0, struct folio *folio, void *shadow)
{
	MEMCG_BPF_COUNT(memcg_bpf_current(), &ancestors_refault, memcg_bpf_add(&c->refaults, 1));
	return 0;
}

MEMCG_BPF_ANCESTOR_CACHE(ancestors_oom, MEMCG_BPF_ANCESTOR_CACHE_SMALL);
SEC("?fentry/mem_cgroup_out_of_memory")
int BPF_PROG(count_oom__0, struct mem_cgroup *memcg)
{
	MEMCG_BPF_COUNT(memcg->css.cgroup, &ancestors_oom, memcg_bpf_add(&c->oom, 1));
	return 0;
}

#endif
