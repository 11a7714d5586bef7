//! The reports of the daemon: the documents of D-Bus `List`, `Explain`, `Policies` and of `--json`. The fields are a
//! stable interface; fields may be added.

pub mod explain;
pub mod oom_kill;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::PodName;

/// MESSAGE_ID of the journal line for each action.
pub const MSGID_ACTION: &str = "5d1f0c5fa8a34b0f9c6e4c7b1f3a2d60";
/// MESSAGE_ID of the journal line for attached policies.
pub const MSGID_ATTACHED: &str = "f05c8906e26f4043bfde054bed3d12c0";
/// MESSAGE_ID of the journal line for a cgroup whose policies are detached.
pub const MSGID_DETACHED: &str = "70ea8f1584d842f8860e90164874d0cb";
/// MESSAGE_ID of the journal line for denied requests.
pub const MSGID_DENIED: &str = "8c705c2a2d2b4c7ab5fae0318eb20c0d";

/// A cgroup with a policy, or a registration for a cgroup that does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BindingReport {
    /// Path below the cgroup2 mount.
    pub cgroup: String,
    /// The cgroup's id; 0 if the cgroup does not exist yet.
    pub cgroup_id: u64,
    /// The systemd unit, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The container's id, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The names of the pod and of its container, in Kubernetes. For display: they are not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodReport>,
    /// The container's name, with its engine. Filled in by `memcg-bpf`, not by the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// `active`, `registered` (the cgroup does not exist yet), `none` (the highest origin requests none), `invalid`
    /// (the requests have errors) or `failed` (the kernel rejected the policy): see `errors`.
    pub state: String,
    /// The attached policies.
    pub policies: Vec<AttachedPolicy>,
    /// The errors of requests for this cgroup, one sentence each.
    pub errors: Vec<String>,
    /// All requests, the highest origin first: `origin`, `location`, `line`.
    pub requests: Vec<RequestReport>,
    /// memory.current in bytes; absent if the cgroup does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    /// The lowest memory.max of the cgroup and its ancestors, or the machine's memory if none is set, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_max: Option<u64>,
    /// The subtree's counters since a policy was attached, by name (`growth_requests`, `growth_denied`, `reclaim_ns`, …).
    pub counters: BTreeMap<String, u64>,
    /// The values of memory.events.
    pub events: BTreeMap<String, u64>,
    /// The knobs with constraints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knobs: Vec<KnobReport>,
    /// The number of actions in this cgroup by outcome, since the daemon's start, as in [`ActionReport::outcome`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, u64>,
    /// The last action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action: Option<ActionReport>,
    /// The last request that a policy denied, or that a dry run would have denied, since the daemon's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_denial: Option<DenialReport>,
    /// Only in `Explain`: sentences about each policy, its limits, and their distance from the current values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explanation: Vec<String>,
}

/// The name of a pod, or of a container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PodReport {
    /// The namespace of the pod.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The container's name within the pod; absent if the cgroup is that of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl From<&PodName> for PodReport {
    fn from(pod: &PodName) -> Self {
        PodReport {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            container: pod.container().map(str::to_owned),
        }
    }
}

impl fmt::Display for PodReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}/{}", self.namespace, self.name)?;
        self.container.iter().try_for_each(|container| write!(f, " {container}"))
    }
}

/// A knob of a cgroup with constraints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KnobReport {
    /// The file: `memory.high`.
    pub knob: String,
    /// The value that another program wrote last. It is restored when the last constraint is released.
    pub original: String,
    /// The current value.
    pub current: String,
    /// The constraint of each policy.
    pub constraints: BTreeMap<String, String>,
}

/// An action and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActionReport {
    /// The policy; empty if memcg-bpfd restored the knob.
    pub policy: String,
    /// `memory.high`, `memory.low`, `cgroup.freeze`, `memory.reclaim` or `kill`.
    pub action: String,
    /// `done`, `dry-run`, `blocked`, `failed` or `removed`.
    pub outcome: String,
    /// The value of the knob before the action; for `memory.reclaim` and `kill`, memory.current. In bytes.
    pub from: u64,
    /// The value after the action; for an action that was not performed, the requested value.
    pub to: u64,
    /// The reason given by the policy, one sentence.
    pub reason: String,
    /// The numbers of the reason.
    pub numbers: Vec<u64>,
    /// The change, or why there was none, one sentence.
    pub detail: String,
    /// The time since boot in nanoseconds.
    pub time: u64,
}

/// A denied request for memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DenialReport {
    /// The policy.
    pub policy: String,
    /// `denied` or `dry-run`.
    pub outcome: String,
    /// The size of the request in bytes.
    pub requested: u64,
    /// The memory in use as the policy counts it, in bytes.
    pub usage: u64,
    /// The limit that the request would have exceeded; absent if the policy names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The number of denials since the last report, with this one.
    pub count: u64,
    /// The process, in the initial namespace.
    pub pid: u32,
    /// The name of the process.
    pub process: String,
    /// One sentence with these values.
    pub detail: String,
    /// The time since boot in nanoseconds.
    pub time: u64,
}

/// Action statistics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActionStats {
    /// True if no actions are performed and all knobs are restored.
    pub paused: bool,
    /// The remaining time of a pause in nanoseconds; absent if it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_for: Option<u64>,
    /// Since the daemon's start: `done`, `dry-run`, `blocked`, `failed`, `stale` (the policy was detached),
    /// `removed` (the cgroup was removed first), `lost` (the ring buffer was full).
    pub counts: BTreeMap<String, u64>,
    /// Number of cgroup events dropped since the daemon's start, because the ring buffer was full.
    #[serde(default)]
    pub events_lost: u64,
    /// Settings of the machine that keep policies from working as documented, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The changes of a `Reload`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Policies whose objects were replaced.
    pub replaced: Vec<String>,
    /// New policies.
    pub added: Vec<String>,
    /// Removed policies.
    pub removed: Vec<String>,
    /// New, changed and removed profiles.
    pub profiles: Vec<String>,
    /// True if the configuration was changed.
    pub configuration: bool,
    /// The current errors of requests for cgroups and units, one sentence each.
    pub errors: Vec<String>,
    /// Further warnings, one sentence each.
    pub notes: Vec<String>,
}

impl ReloadReport {
    /// A short summary.
    pub fn summary(&self) -> String {
        let some = |what: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
        };
        let configuration = self.configuration.then(|| "the configuration has changed".to_owned());
        let parts = [
            some("replaced the policies", &self.replaced),
            some("added", &self.added),
            some("removed", &self.removed),
            some("changed the profiles", &self.profiles),
            configuration,
        ];
        let changes: Vec<String> = parts.into_iter().flatten().collect();
        if changes.is_empty() { "nothing has changed".to_owned() } else { changes.join("; ") }
    }
}

/// One policy that is attached to a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttachedPolicy {
    /// The policy's name.
    pub name: String,
    /// The origin whose request applies.
    pub origin: String,
    /// The location of that request.
    pub location: String,
    /// All parameters with their values as text, including defaults.
    pub parameters: BTreeMap<String, String>,
    /// Hooks of the policy that this kernel has.
    pub hooks: Vec<String>,
    /// Hooks of the policy that this kernel lacks, and missing counters such as `stall-counters`.
    pub missing_hooks: Vec<String>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestReport {
    /// `operator`, `annotation`, `xattr` or `drop-in`.
    pub origin: String,
    /// File and line, container or user.
    pub location: String,
    /// The line as written.
    pub line: String,
}

/// A profile, as described by its file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProfileReport {
    /// The name used in policy lines.
    pub name: String,
    /// One sentence; may be empty.
    pub doc: String,
    /// The file it comes from.
    pub file: String,
    /// The policy line that replaces the name.
    pub line: String,
    /// Errors that make the profile unusable, one sentence each.
    pub errors: Vec<String>,
}

/// A policy, as described by its object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The name used in policy lines.
    pub name: String,
    /// One sentence.
    pub doc: String,
    /// The object file it comes from.
    pub file: String,
    /// True if the policy affects only the cgroup that requests it.
    pub self_binding: bool,
    /// The hooks of the policy.
    pub hooks: Vec<String>,
    /// Hooks of the policy that this kernel lacks, and missing counters such as `stall-counters`.
    pub missing_hooks: Vec<String>,
    /// Its parameters.
    pub params: Vec<ParamReport>,
}

/// One parameter of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ParamReport {
    /// The key.
    pub name: String,
    /// `size`, `size or percentage`, `percentage`, `duration`, `integer`, `boolean`, or the words separated by `|`.
    pub kind: String,
    /// One sentence of effect.
    pub doc: String,
    /// The default; absent if the parameter is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// `LOW..HIGH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
}

/// The hooks of the running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KernelReport {
    /// `uname -r`.
    pub release: String,
    /// Each hook, or group of counters, and the kernel functions to which it is attached: `growth` → `fmod_ret/…`;
    /// `null` if the kernel lacks them.
    pub hooks: BTreeMap<String, Option<String>>,
    /// Native memcg struct_ops found in the kernel's BTF.
    pub native: Vec<String>,
}
