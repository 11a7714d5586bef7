/* SPDX-License-Identifier: GPL-2.0-only */
/* How much a growing number grew within the last so many ns. */
#ifndef MEMCG_BPF_WINDOW_H
#define MEMCG_BPF_WINDOW_H

#define MEMCG_BPF_WINDOW_PARTS 16 /* a power of two */

struct memcg_bpf_window {
	__u64 part[MEMCG_BPF_WINDOW_PARTS];
	__u64 width;
	__u64 turn; /* now / width at the last look */
	__u64 last; /* the number then */
};

/*
 * Looks at `number` at time `now`; returns its growth within the last `span`. What grew between two
 * looks counts for the time of the second: look often. The first look, and one that comes
 * later than `span` after the last, starts anew. Not for two CPUs at once: see memcg_bpf_trylock().
 */
static __always_inline __u64 memcg_bpf_window_add(struct memcg_bpf_window *w, __u64 span, __u64 now,
						  __u64 number)
{
	__u64 width = span / MEMCG_BPF_WINDOW_PARTS, turn, sum = 0;
	bool anew;

	if (!width)
		return 0;
	turn = now / width;
	anew = w->width != width || turn - w->turn >= MEMCG_BPF_WINDOW_PARTS;
	for (int i = 0; i < MEMCG_BPF_WINDOW_PARTS; i++) {
		/* The parts between the last look's and now's, now's included, are over. */
		__u64 age = (turn - i) & (MEMCG_BPF_WINDOW_PARTS - 1);

		if (anew || age < turn - w->turn)
			w->part[i] = 0;
	}
	if (anew)
		w->last = number;
	w->part[turn & (MEMCG_BPF_WINDOW_PARTS - 1)] += number - w->last;
	w->width = width;
	w->turn = turn;
	w->last = number;
	for (int i = 0; i < MEMCG_BPF_WINDOW_PARTS; i++)
		sum += w->part[i];
	return sum;
}

/* Takes what one CPU alone may touch; false: another has it, and decides in our stead. */
static __always_inline bool memcg_bpf_trylock(__u64 *taken)
{
	return __sync_val_compare_and_swap(taken, 0, 1) == 0;
}

static __always_inline void memcg_bpf_unlock(__u64 *taken)
{
	*(volatile __u64 *)taken = 0;
}

#endif
