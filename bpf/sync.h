/* SPDX-License-Identifier: GPL-2.0-only */
/* A policy's state is shared by all CPUs: locks and atomic counters for it. */
#ifndef MEMCG_BPF_SYNC_H
#define MEMCG_BPF_SYNC_H

/* Adds to a number that several CPUs add to. */
static __always_inline void memcg_bpf_add(__u64 *number, __u64 n)
{
	__sync_fetch_and_add(number, n);
}

struct memcg_bpf_lock {
	__u64 held;
	__u64 last; /* when it was last taken */
};

/* Never waits. False: another CPU holds the lock and decides for this event too. */
static __always_inline bool memcg_bpf_trylock(struct memcg_bpf_ctx *ctx,
					      struct memcg_bpf_lock *lock)
{
	if (__sync_val_compare_and_swap(&lock->held, 0, 1))
		return false;
	lock->last = memcg_bpf_now(ctx);
	return true;
}

/* The same, at most once per `interval_ns`: a rate limit for hooks that are called often. */
static __always_inline bool memcg_bpf_trylock_every(struct memcg_bpf_ctx *ctx,
						    struct memcg_bpf_lock *lock, __u64 interval_ns)
{
	return memcg_bpf_now(ctx) - lock->last >= interval_ns && memcg_bpf_trylock(ctx, lock);
}

static __always_inline void memcg_bpf_unlock(struct memcg_bpf_lock *lock)
{
	*(volatile __u64 *)&lock->held = 0;
}

#endif
