/* SPDX-License-Identifier: GPL-2.0-only */
/* The growth of a number within the last so many ns. */
#ifndef MEMCG_BPF_WINDOW_H
#define MEMCG_BPF_WINDOW_H

#define MEMCG_BPF_WINDOW_PARTS 16 /* a power of two */

struct memcg_bpf_window {
	__u64 part[MEMCG_BPF_WINDOW_PARTS];
	__u64 width;
	__u64 turn; /* now / width at the last call */
	__u64 last; /* the number at the last call */
};

/*
 * Adds what `number` has grown by since the last call; returns its growth within the last `span`.
 * Growth is dated to the call that sees it: call often. The first call, and one later than `span`
 * after the last, starts anew. Not for two CPUs at once: see memcg_bpf_trylock().
 */
static __always_inline __u64 memcg_bpf_window_add(struct memcg_bpf_window *w, __u64 span, __u64 now,
						  __u64 number)
{
	__u64 width = span / MEMCG_BPF_WINDOW_PARTS, turn, sum = 0;
	bool reset;

	if (!width)
		return 0;
	turn = now / width;
	reset = w->width != width || turn - w->turn >= MEMCG_BPF_WINDOW_PARTS;
	for (int i = 0; i < MEMCG_BPF_WINDOW_PARTS; i++) {
		/* Parts after that of the last call, up to that of now, are cleared. */
		__u64 age = (turn - i) & (MEMCG_BPF_WINDOW_PARTS - 1);

		if (reset || age < turn - w->turn)
			w->part[i] = 0;
	}
	if (reset)
		w->last = number;
	w->part[turn & (MEMCG_BPF_WINDOW_PARTS - 1)] += number - w->last;
	w->width = width;
	w->turn = turn;
	w->last = number;
	for (int i = 0; i < MEMCG_BPF_WINDOW_PARTS; i++)
		sum += w->part[i];
	return sum;
}

/* Forgets all growth so far. */
static __always_inline void memcg_bpf_window_reset(struct memcg_bpf_window *w)
{
	w->width = 0;
}

#endif
