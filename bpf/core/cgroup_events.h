/* SPDX-License-Identifier: GPL-2.0-only */
/* Cgroups that appear and go away: what was prepared for them is in force before any task is in
 * them. */
#ifndef MEMCG_BPF_CORE_CGROUP_EVENTS_H
#define MEMCG_BPF_CORE_CGROUP_EVENTS_H

#include "binding.h"

/* A binding prepared for a cgroup that does not exist yet, by the path it will have. */
struct memcg_bpf_path {
	char text[MEMCG_BPF_PATH_MAX]; /* zero-padded: all bytes are the key */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags,
	       BPF_F_NO_PREALLOC); /* 256-byte keys, usually few; written only by the daemon */
	__uint(max_entries, MEMCG_BPF_MAX_BINDINGS);
	__type(key, struct memcg_bpf_path);
	__type(value, struct memcg_bpf_binding);
} memcg_registered SEC(".maps");

enum memcg_bpf_event_kind {
	MEMCG_BPF_CREATED =
		1, /* a cgroup appeared; `bound` says whether a prepared binding took force */
	MEMCG_BPF_REMOVED = 2, /* a governed cgroup went away, its binding with it */
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
	__uint(max_entries, 1 << 18); /* about 900 events between two turns of the daemon */
} memcg_events SEC(".maps");

/* One path at a time: cgroup_mkdir runs under cgroup_mutex, and 256 bytes twice are too much for
 * the stack. */
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

/* Before any task can be inside: what was prepared for this path is in force from the first
 * instruction. */
SEC("?tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	__u32 zero = 0;
	struct memcg_bpf_path *key = bpf_map_lookup_elem(&scratch, &zero);
	struct memcg_bpf_binding *registered, binding;
	__u64 id = cgroup->kn->id;

	/* A v1 hierarchy beside ours (net_cls) has paths and ids of its own. */
	if (!key || cgroup->root->hierarchy_id)
		return 0;
	__builtin_memset(key, 0, sizeof(*key));
	/* A longer path is cut and so never equals a prepared one, which ends in a zero byte before
	 * the end. */
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
