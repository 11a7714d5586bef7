//! The reports of the daemon: the documents behind D-Bus `List`, `Explain`, `Policies` and every `--json`.
//! The fields are a stable interface; new ones may be added.

pub mod explain;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// MESSAGE_ID of the journal line for each action.
pub const MSGID_ACTION: &str = "5d1f0c5fa8a34b0f9c6e4c7b1f3a2d60";
/// MESSAGE_ID of the journal line for attached policies.
pub const MSGID_ATTACHED: &str = "f05c8906e26f4043bfde054bed3d12c0";
/// MESSAGE_ID of the journal line for a cgroup whose policies are detached.
pub const MSGID_DETACHED: &str = "70ea8f1584d842f8860e90164874d0cb";

/// A cgroup with a policy, or a registration for a cgroup that does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BindingReport {
    /// Path below the cgroup2 mount.
    pub cgroup: String,
    /// The cgroup's id; 0 while it does not exist yet.
    pub cgroup_id: u64,
    /// The systemd unit, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The container's id, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The container's name with its engine; `memcg-bpf` looks it up, the daemon does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// `active`, `registered` (the cgroup does not exist yet), `none` (the highest origin requests none), `invalid`
    /// (the requests have errors) or `failed` (the kernel rejected the policy): see `errors`.
    pub state: String,
    /// The attached policies.
    pub policies: Vec<AttachedPolicy>,
    /// What was wrong with requests for this cgroup, one sentence each.
    pub errors: Vec<String>,
    /// All requests, the highest origin first: `origin`, `location`, `line`.
    pub requests: Vec<RequestReport>,
    /// memory.current in bytes; absent while the cgroup does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    /// The smallest memory.max up the tree, else the machine's memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_max: Option<u64>,
    /// The subtree's counters since a policy was attached, by name (`growth_requests`, `growth_denied`, `reclaim_ns`, …).
    pub counters: BTreeMap<String, u64>,
    /// memory.events of the cgroup.
    pub events: BTreeMap<String, u64>,
    /// The knobs with constraints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knobs: Vec<KnobReport>,
    /// The outcomes of actions here, since the daemon's start: as in [`ActionReport::outcome`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, u64>,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action: Option<ActionReport>,
    /// Only in `Explain`: sentences that say what each policy sees, waits for, and how far off that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explanation: Vec<String>,
}

/// A knob of a cgroup with constraints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KnobReport {
    /// The file: `memory.high`.
    pub knob: String,
    /// The value that another program wrote last. It is restored when the last constraint is released.
    pub original: String,
    /// What is in the file.
    pub current: String,
    /// Policy → its constraint.
    pub constraints: BTreeMap<String, String>,
}

/// An action and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActionReport {
    /// The policy; empty if memcg-bpfd restored a knob on its own.
    pub policy: String,
    /// `memory.high`, `memory.low`, `cgroup.freeze`, `memory.reclaim` or `kill`.
    pub action: String,
    /// `done`, `dry-run`, `refused`, `failed` or `gone`.
    pub outcome: String,
    /// The knob before; for `memory.reclaim` and `kill`, memory.current before. In bytes.
    pub from: u64,
    /// The same afterwards; for what was not done, what was asked for.
    pub to: u64,
    /// Why the policy asked, one sentence.
    pub reason: String,
    /// The numbers in it.
    pub numbers: Vec<u64>,
    /// What was done, or why not, one sentence.
    pub detail: String,
    /// When, in nanoseconds since the machine's start.
    pub time: u64,
}

/// Action statistics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActionStats {
    /// True if no actions are performed and all knobs are restored.
    pub paused: bool,
    /// For how much longer, in nanoseconds; absent: until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_for: Option<u64>,
    /// Since the daemon's start: `done`, `dry-run`, `blocked`, `failed`, `stale` (the policy was detached),
    /// `removed` (the cgroup was removed first), `lost` (the ring buffer was full).
    pub counts: BTreeMap<String, u64>,
    /// Number of cgroup events dropped since the daemon's start, because the ring buffer was full.
    #[serde(default)]
    pub events_lost: u64,
}

/// What `Reload` found different from before. What is not listed is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Policies whose objects were replaced.
    pub replaced: Vec<String>,
    /// Policies that can be used now and could not before.
    pub added: Vec<String>,
    /// Policies that cannot be used any more.
    pub removed: Vec<String>,
    /// Profiles that are new, different or gone.
    pub profiles: Vec<String>,
    /// The configuration is different.
    pub configuration: bool,
    /// What is wrong now with requests on cgroups and units, one sentence each.
    pub errors: Vec<String>,
    /// What is to be said besides, one sentence each.
    pub notes: Vec<String>,
}

impl ReloadReport {
    /// In a few words.
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
    /// Which origin won.
    pub origin: String,
    /// Where that request stands.
    pub location: String,
    /// All parameters with their values, defaults included, as text.
    pub parameters: BTreeMap<String, String>,
    /// Hooks this kernel offers the policy.
    pub hooks: Vec<String>,
    /// Hooks the policy wants and this kernel lacks.
    pub missing_hooks: Vec<String>,
}

/// One request as it came in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestReport {
    /// `operator`, `annotation`, `xattr` or `drop-in`.
    pub origin: String,
    /// File and line, container or user.
    pub location: String,
    /// The line as written.
    pub line: String,
}

/// One profile that can be used, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProfileReport {
    /// The name used in policy lines.
    pub name: String,
    /// One sentence; may be empty.
    pub doc: String,
    /// The file it comes from.
    pub file: String,
    /// The policy line it stands for.
    pub line: String,
    /// Why it cannot be used, one sentence each.
    pub errors: Vec<String>,
}

/// One policy that can be used, as its object file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The name used in policy lines.
    pub name: String,
    /// One sentence.
    pub doc: String,
    /// The object file it comes from.
    pub file: String,
    /// May annotations ask for it?
    pub self_binding: bool,
    /// The hooks it wants.
    pub hooks: Vec<String>,
    /// Hooks which this kernel lacks.
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

/// What the running kernel offers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KernelReport {
    /// `uname -r`.
    pub release: String,
    /// Each attachment candidate of each hook and whether the kernel has it: `growth` → `fmod_ret/…`.
    pub hooks: BTreeMap<String, Option<String>>,
    /// Native memcg struct_ops found in the kernel's BTF.
    pub native: Vec<String>,
}
