/* SPDX-License-Identifier: GPL-2.0-only */
/* Created and removed cgroups: a registered binding becomes active before any task is inside. */
#ifndef MEMCG_BPF_CORE_CGROUP_EVENTS_H
#define MEMCG_BPF_CORE_CGROUP_EVENTS_H

#include "binding.h"

/* The path that a cgroup will have when it is created. */
struct memcg_bpf_path {
	char text[MEMCG_BPF_PATH_MAX]; /* zero-padded: all bytes are the key */
};

/* path → binding. Not preallocated: 256-byte keys, usually few, written only by the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, struct memcg_bpf_path);
	__type(value, struct memcg_bpf_binding);
} memcg_registered SEC(".maps");

enum memcg_bpf_event_kind {
	MEMCG_BPF_CREATED = 1, /* `bound`: a registered binding became active */
	MEMCG_BPF_REMOVED = 2, /* a bound cgroup, with its binding */
};

struct memcg_bpf_event {
	__u32 kind;
	__u32 bound;
	__u64 cgroup;
	char path[MEMCG_BPF_PATH_MAX]; /* cut at the end when longer */
};
_Static_assert(sizeof(struct memcg_bpf_event) == 16 + MEMCG_BPF_PATH_MAX, "src/bpf/events.rs");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18); /* about 900 events between two reads by the daemon */
} memcg_events SEC(".maps");

/* One entry: cgroup_mkdir runs under cgroup_mutex, and two paths do not fit on the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memcg_bpf_path);
} scratch SEC(".maps");

static void emit_event(__u32 kind, __u32 bound, __u64 cgroup, const char *path)
{
	struct memcg_bpf_event *event = bpf_ringbuf_reserve(&memcg_events, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&memcg_globals.dropped, 1);
		return;
	}
	event->kind = kind;
	event->bound = bound;
	event->cgroup = cgroup;
	bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
	bpf_ringbuf_submit(event, 0);
}

/* Runs before any task can be inside: a registered policy is active from the first instruction. */
SEC("?tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	__u32 zero = 0;
	struct memcg_bpf_path *key = bpf_map_lookup_elem(&scratch, &zero);
	struct memcg_bpf_binding *registered, binding;
	__u64 id = cgroup->kn->id;

	/* A v1 hierarchy (net_cls) has paths and ids of its own. */
	if (!key || cgroup->root->hierarchy_id)
		return 0;
	__builtin_memset(key, 0, sizeof(*key));
	/* A longer path is cut and never equals a registered one, which ends in a zero byte. */
	bpf_probe_read_kernel_str(key->text, sizeof(key->text), path);
	registered = bpf_map_lookup_elem(&memcg_registered, key);
	if (registered && registered->flags & MEMCG_BPF_BINDING_DAEMON) {
		memcg_globals.daemon = id;
		return 0;
	}
	if (registered) {
		binding = *registered;
		binding.cgroup_ptr = (__u64)cgroup;
		bind(id, &binding);
	}
	if (registered || memcg_globals.report_all)
		emit_event(MEMCG_BPF_CREATED, !!registered, id, path);
	return 0;
}

SEC("?tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	__u64 id = cgroup->kn->id;

	if (cgroup->root->hierarchy_id || !bpf_map_lookup_elem(&memcg_bindings, &id))
		return 0;
	unbind(id);
	emit_event(MEMCG_BPF_REMOVED, 0, id, path);
	return 0;
}

#endif
