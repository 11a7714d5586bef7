/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What all policies share: which cgroup is bound to which slot, the life of cgroups, and the
 * counters of governed subtrees. Knows no policy: a slot is a number, and each policy keeps its
 * parameters under it.
 */
#include "memcg_bpf.h"
#include "core/cgroup_events.h"
#include "core/counters.h"
#include "core/stall.h"
#include "core/host_reclaim.h"

char LICENSE[] SEC("license") = "GPL";

/* What the policies write into memcg_actions must be in core's BTF: the reader's test compares. */
static const struct memcg_bpf_action *const action_type __attribute__((used));
