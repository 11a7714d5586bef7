/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What all policies share: bindings of cgroups to slots, created and removed cgroups, and counters.
 * It knows no policy: each policy keeps its parameters under the number of the slot.
 */
#include "memcg_bpf.h"
#include "core/cgroup_events.h"
#include "core/counters.h"
#include "core/stall.h"
#include "core/host_reclaim.h"
#include "core/oom_kill.h"

char LICENSE[] SEC("license") = "GPL";

/* Puts the records of rings into core's BTF, against which src/bpf tests their layout. */
static const struct memcg_bpf_killed *const killed_type __attribute__((used));
static const struct memcg_bpf_denial *const denial_type __attribute__((used));
