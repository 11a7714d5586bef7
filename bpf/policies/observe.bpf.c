/* SPDX-License-Identifier: GPL-2.0-only */
/* observe: counts and times, changes nothing. Its programs are those of core/counters.h. */
#include "memcg_bpf.h"

struct observe_params {
	MEMCG_BPF_COMMON_PARAMS;
} MEMCG_BPF_DOC(
	"Count and time growth, charges, reclaim, refaults, stalls and OOM; change nothing.")
	MEMCG_BPF_SELF_BINDING MEMCG_BPF_COUNTERS;
MEMCG_BPF_POLICY(observe);
