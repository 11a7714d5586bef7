/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The hook `growth` for memory that is reserved without a request (MAP_NORESERVE): the kernel makes
 * its check (see growth.h) for all other memory. glibc before 2.41 reserves the arenas of threads
 * in this way; jemalloc, mimalloc and V8 do as well.
 */
#ifndef MEMCG_BPF_NORESERVE_H
#define MEMCG_BPF_NORESERVE_H

/* include/linux/mm.h; uapi/asm-generic/mman-common.h; the same on x86 and arm64. */
#define MEMCG_BPF_VM_ACCESS	0x7 /* VM_READ | VM_WRITE | VM_EXEC */
#define MEMCG_BPF_VM_SHARED	0x8
#define MEMCG_BPF_VM_NORESERVE	0x200000
#define MEMCG_BPF_VM_HUGETLB	0x400000
#define MEMCG_BPF_PROT_WRITE	0x2
#define MEMCG_BPF_MAP_TYPE	0xf
#define MEMCG_BPF_MAP_PRIVATE	0x2
#define MEMCG_BPF_MAP_NORESERVE 0x4000

/*
 * The pages of the area that this mprotect() takes into use. Allocators expect that this can fail.
 * Areas that were accessible before are left out: their memory may be in use already, and programs
 * that only change the access do not expect a failure.
 */
static __always_inline __u64 memcg_bpf_committed_pages(const struct vm_area_struct *area,
						       __u64 access)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 flags = area->vm_flags, start, end;

	if (!(access & MEMCG_BPF_PROT_WRITE) || !(flags & MEMCG_BPF_VM_NORESERVE) ||
	    flags & (MEMCG_BPF_VM_ACCESS | MEMCG_BPF_VM_SHARED | MEMCG_BPF_VM_HUGETLB))
		return 0;
		/* From the arguments of the system call, because the area can be larger. */
#if defined(__TARGET_ARCH_x86)
	if (task->thread_info.status & 2 /* TS_COMPAT: a 32-bit program */) {
		start = (__u32)regs->bx;
		end = start + (__u32)regs->cx;
	} else {
		start = regs->di;
		end = start + regs->si;
	}
#elif defined(__TARGET_ARCH_arm64)
	start = regs->orig_x0;
	end = start + regs->regs[1];
#endif
	if (start < area->vm_start)
		start = area->vm_start;
	if (end > area->vm_end)
		end = area->vm_end;
	if (end <= start)
		return 0;
	return (end - start + (1ULL << MEMCG_BPF_PAGE_SHIFT) - 1) >> MEMCG_BPF_PAGE_SHIFT;
}

/*
 * The arguments of growth_mprotect__0: area, access requested, access granted, result so far. Those
 * of growth_mmap__0: file, access, flags, result so far. A reservation that is accessible at once
 * can be much larger than the memory it will ever use, so that its size says nothing: it is denied
 * when its first page would be.
 */
#define MEMCG_BPF_PROGRAMS_NORESERVE                                                              \
	MEMCG_BPF_ANCESTOR_CACHE(ancestors_mprotect, MEMCG_BPF_ANCESTOR_CACHE_SMALL);             \
	MEMCG_BPF_ANCESTOR_CACHE(ancestors_mmap, MEMCG_BPF_ANCESTOR_CACHE_SMALL);                 \
	SEC("?fmod_ret/security_file_mprotect")                                                   \
	int growth_mprotect__0(__u64 *args)                                                       \
	{                                                                                         \
		struct cgroup *cgroup = memcg_bpf_task_cgroup(bpf_get_current_task_btf());        \
		__u64 pages;                                                                      \
                                                                                                  \
		if (memcg_bpf_no_policy(cgroup) || args[3])                                       \
			return args[3];                                                           \
		pages = memcg_bpf_committed_pages((const struct vm_area_struct *)args[0],         \
						  args[2]);                                       \
		return pages ? memcg_bpf_growth_verdict(                                          \
				       cgroup, memcg_bpf_ancestors(cgroup, &ancestors_mprotect),  \
				       pages)                                                     \
			     : 0;                                                                 \
	}                                                                                         \
	SEC("?fmod_ret/security_mmap_file")                                                       \
	int growth_mmap__0(__u64 *args)                                                           \
	{                                                                                         \
		struct cgroup *cgroup;                                                            \
                                                                                                  \
		if (!(args[2] & MEMCG_BPF_MAP_NORESERVE) || args[0] || args[3] ||                 \
		    (args[2] & MEMCG_BPF_MAP_TYPE) != MEMCG_BPF_MAP_PRIVATE ||                    \
		    !(args[1] & MEMCG_BPF_PROT_WRITE))                                            \
			return args[3];                                                           \
		cgroup = memcg_bpf_task_cgroup(bpf_get_current_task_btf());                       \
		if (memcg_bpf_no_policy(cgroup))                                                  \
			return 0;                                                                 \
		return memcg_bpf_growth_verdict(cgroup,                                           \
						memcg_bpf_ancestors(cgroup, &ancestors_mmap), 1); \
	}

#endif
