//! The journal line for a kill by the kernel's OOM killer.

use super::audit::{named, unit_of};
use crate::names::{CgroupPath, PodName};
use crate::policy::action::human_duration;
use crate::report::oom_kill::{MSGID_OOM_KILL, OomKill};
use crate::text::printable::quote;

/// Kills that are reported later than this after they happened have their age in the message.
const LATE_NS: u64 = 5_000_000_000;
/// Longest message.
const MESSAGE_MAX: usize = 2000;

/// The cgroup of the victim. A path that is cut, because it is deep, can be invalid; the root cgroup stands for it.
pub fn path_of(kill: &OomKill) -> CgroupPath {
    CgroupPath::parse(&kill.victim.cgroup).unwrap_or_else(|_| CgroupPath::root())
}

/// Logs a kill that happened `age` nanoseconds ago, with the unit of the victim and, if its cgroup has a policy, the names
/// of its pod and container.
pub fn log(kill: &OomKill, age: u64, pod: Option<&PodName>) {
    let path = path_of(kill);
    let (cgroup, detail, reason) = (path.as_str(), kill.detail(), kill.reason());
    let late = if age < LATE_NS { String::new() } else { format!(", {} ago", human_duration(age)) };
    let named = named(&path, pod);
    let sentence =
        quote(&format!("{named}: OOM killer of the kernel: {detail}{late}: {reason}"), MESSAGE_MAX);
    let record = serde_json::to_string(kill).unwrap_or_default();
    let limit = kill.limit.as_ref().map_or("", |limit| limit.cgroup.as_str());
    tracing::warn!(
        // Selects all of these entries: journalctl MESSAGE_ID=…
        MESSAGE_ID = MSGID_OOM_KILL,
        OBJECT_SYSTEMD_UNIT = unit_of(&path),
        MEMCG_BPF_CGROUP = cgroup,
        MEMCG_BPF_POD = pod.map(tracing::field::display),
        MEMCG_BPF_ACTION = "kill",
        MEMCG_BPF_OUTCOME = "done",
        MEMCG_BPF_LIMIT = limit,
        MEMCG_BPF_REASON = reason.as_str(),
        MEMCG_BPF_DETAIL = detail.as_str(),
        MEMCG_BPF_OOM_KILL = record.as_str(),
        "{sentence}"
    );
}
