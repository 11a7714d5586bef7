//! A kill by the kernel's OOM killer: its record, and the sentences about it.

use serde::{Deserialize, Serialize};

use crate::names::CgroupPath;
use crate::text::printable::quote;
use crate::text::{PPM_ONE, format_duration, format_percent, human_bytes};

/// MESSAGE_ID of the journal line for each kill by the kernel's OOM killer.
pub const MSGID_OOM_KILL: &str = "3a6d2c1be0f94d2fa4d0c3c5b7b86e19";

/// A second in nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;
/// Longest name of a process in a sentence.
const NAME_MAX: usize = 64;

/// A kill by the kernel's OOM killer. The fields are a stable interface; fields may be added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OomKill {
    /// The time of the kill in microseconds since 1970.
    pub time_us: u64,
    /// The same on CLOCK_MONOTONIC, in nanoseconds.
    pub monotonic_ns: u64,
    /// The killed process.
    pub victim: OomProcess,
    /// Anonymous memory of the victim in bytes.
    pub anon: u64,
    /// Mapped files in the victim's memory, in bytes.
    pub file: u64,
    /// Shared memory of the victim in bytes.
    pub shmem: u64,
    /// Swapped memory of the victim in bytes.
    pub swap: u64,
    /// The cgroup all of whose processes were killed (memory.oom.group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Why the kernel killed: `memory.max` (the cgroup `limit` was at its limit), `machine` (the machine was out of
    /// memory), `cpuset` or `memory-policy` (the NUMA nodes that a process may use were), or `sysrq`.
    pub cause: String,
    /// The cgroup that was at its limit, if a cgroup was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<OomLimit>,
    /// The machine's memory in bytes, if no cgroup was at its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<u64>,
    /// The process whose allocation was at the limit.
    pub culprit: OomProcess,
    /// The fraction of the last minute in which some tasks were stalled on memory, in ppm: of the cgroup at its limit.
    /// Absent if the kernel does not measure pressure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_some_ppm: Option<u32>,
    /// The same for all tasks at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_full_ppm: Option<u32>,
}

/// A process at the time of a kill.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OomProcess {
    /// The process id in the initial namespace.
    pub pid: u32,
    /// The name of the process.
    pub name: String,
    /// The user id of the process.
    pub uid: u32,
    /// oom_score_adj of the process.
    pub oom_score_adj: i32,
    /// The path of its cgroup; cut where it is deeper than eight levels.
    pub cgroup: String,
    /// The id of its cgroup.
    pub cgroup_id: u64,
    /// The time since it was started, in nanoseconds.
    pub running_ns: u64,
}

/// A cgroup at its limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OomLimit {
    /// The path of the cgroup.
    pub cgroup: String,
    /// The id of the cgroup.
    pub cgroup_id: u64,
    /// memory.current in bytes.
    pub usage: u64,
    /// memory.max in bytes.
    pub max: u64,
    /// memory.swap.current in bytes.
    pub swap_usage: u64,
    /// memory.swap.max in bytes; the highest number if it is `max`.
    pub swap_max: u64,
}

impl OomKill {
    /// True if the victim was in this cgroup or below, or if it is the cgroup that was at its limit.
    pub fn concerns(&self, cgroup: &CgroupPath) -> bool {
        if cgroup.is_root() {
            return true;
        }
        let is_within = CgroupPath::parse(&self.victim.cgroup).is_ok_and(|path| path.is_within(cgroup));
        is_within || self.limit.as_ref().is_some_and(|limit| limit.cgroup == cgroup.as_str())
    }

    /// The kill as the owner of a cgroup may see it: the process at fault is named only if it is in the cgroup.
    pub fn seen_from(&self, cgroup: &CgroupPath) -> OomKill {
        let is_inside = CgroupPath::parse(&self.culprit.cgroup).is_ok_and(|path| path.is_within(cgroup));
        match is_inside {
            true => self.clone(),
            false => OomKill { culprit: OomProcess::default(), ..self.clone() },
        }
    }

    /// "killed process 4711 (eat) with SIGKILL: 60M anonymous, …".
    pub fn detail(&self) -> String {
        let victim = &self.victim;
        let group = self.group.as_ref().map_or(String::new(), |group| {
            format!(" and all others in {} (memory.oom.group)", quote(group, NAME_MAX.saturating_mul(4)))
        });
        format!(
            "killed process {} ({}){group} with SIGKILL: {}",
            victim.pid,
            quote(&victim.name, NAME_MAX),
            self.sizes()
        )
    }

    /// "60M anonymous, 1M of mapped files, started 2s before": the victim's memory, and its age.
    pub fn sizes(&self) -> String {
        let mut parts: Vec<String> = [
            (self.anon, "anonymous"),
            (self.file, "of mapped files"),
            (self.shmem, "shared"),
            (self.swap, "swapped"),
        ]
        .into_iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, what)| format!("{} {what}", human_bytes(bytes)))
        .collect();
        parts.push(format!("started {} before", seconds(self.victim.running_ns)));
        if self.victim.oom_score_adj != 0 {
            parts.push(format!("oom_score_adj {}", self.victim.oom_score_adj));
        }
        parts.join(", ")
    }

    /// "/a was at memory.max=64M; …": the limit, whose allocation it was, and the stalls of the last minute.
    pub fn reason(&self) -> String {
        let parts = [Some(self.limit()), Some(self.allocation()), self.stalls()];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// "/a was at memory.max=64M with 64M used": the limit, and whose it is.
    pub fn limit(&self) -> String {
        match (&self.limit, self.cause.as_str()) {
            (Some(limit), _) => limit.sentence(),
            (None, "sysrq") => "requested by SysRq".to_owned(),
            (None, "cpuset") => "the NUMA nodes of a cpuset were out of memory".to_owned(),
            (None, "memory-policy") => "the NUMA nodes of a memory policy were out of memory".to_owned(),
            _ => {
                let size = self.machine.map_or(String::new(), |bytes| format!(" ({})", human_bytes(bytes)));
                format!("the machine was out of memory{size}")
            }
        }
    }

    /// The stalls of the last minute; `None` if the kernel does not measure pressure.
    pub fn stalls(&self) -> Option<String> {
        let (some, full) = self.stalled_some_ppm.zip(self.stalled_full_ppm)?;
        Some(format!(
            "tasks were stalled for {} of the last minute, all tasks at once for {}",
            percent(some),
            percent(full)
        ))
    }

    /// Whose allocation was at the limit.
    pub fn allocation(&self) -> String {
        let culprit = &self.culprit;
        if culprit.pid == 0 {
            return "the allocation was of another cgroup's process".to_owned();
        }
        if culprit.pid == self.victim.pid {
            return "the allocation was its own".to_owned();
        }
        format!(
            "the allocation was of process {} ({}, in {})",
            culprit.pid,
            quote(&culprit.name, NAME_MAX),
            quote(&culprit.cgroup, NAME_MAX.saturating_mul(4))
        )
    }
}

impl OomLimit {
    fn sentence(&self) -> String {
        let swap = match (self.swap_usage, self.swap_max) {
            (0, u64::MAX) => String::new(),
            (_, 0) => ", memory.swap.max=0".to_owned(),
            (used, u64::MAX) => format!(", {} swapped", human_bytes(used)),
            (used, max) => format!(", memory.swap.max={} with {} used", human_bytes(max), human_bytes(used)),
        };
        let (cgroup, max) = (quote(&self.cgroup, NAME_MAX.saturating_mul(4)), human_bytes(self.max));
        format!("{cgroup} was at memory.max={max} with {} used{swap}", human_bytes(self.usage))
    }
}

/// A duration without fractions of a second, unless it is shorter than one.
fn seconds(ns: u64) -> String {
    let whole = ns.checked_div(SECOND_NS).unwrap_or(0).saturating_mul(SECOND_NS);
    if whole > 0 {
        return format_duration(whole);
    }
    let ms = ns.checked_div(1_000_000).unwrap_or(0);
    format!("{ms}ms")
}

/// A percentage without fractions.
fn percent(ppm: u32) -> String {
    let one = PPM_ONE.checked_div(100).unwrap_or(1);
    format_percent(ppm.checked_div(one).unwrap_or(0).saturating_mul(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, name: &str, cgroup: &str) -> OomProcess {
        OomProcess {
            pid,
            name: name.to_owned(),
            cgroup: cgroup.to_owned(),
            running_ns: 2 * SECOND_NS + 5,
            ..OomProcess::default()
        }
    }

    fn kill() -> OomKill {
        OomKill {
            victim: process(4711, "eat", "/a/b"),
            anon: 60 << 20,
            file: 1 << 20,
            cause: "memory.max".to_owned(),
            limit: Some(OomLimit {
                cgroup: "/a".to_owned(),
                usage: 64 << 20,
                max: 64 << 20,
                swap_max: u64::MAX,
                ..OomLimit::default()
            }),
            culprit: process(12, "sh", "/a/c"),
            stalled_some_ppm: Some(125_000),
            stalled_full_ppm: Some(80_000),
            ..OomKill::default()
        }
    }

    #[test]
    fn sentences_name_victim_limit_and_culprit() {
        let kill = kill();
        assert_eq!(
            kill.detail(),
            "killed process 4711 (eat) with SIGKILL: 60M anonymous, 1M of mapped files, started 2s before"
        );
        assert_eq!(
            kill.reason(),
            "/a was at memory.max=64M with 64M used; the allocation was of process 12 (sh, in /a/c); tasks were stalled \
             for 12% of the last minute, all tasks at once for 8%"
        );
    }

    #[test]
    fn group_swap_and_own_allocation_are_named() {
        let mut kill = kill();
        kill.group = Some("/a/b".to_owned());
        kill.culprit = kill.victim.clone();
        (kill.victim.oom_score_adj, kill.victim.running_ns) = (500, 250_000_000);
        (kill.stalled_some_ppm, kill.limit.as_mut().unwrap().swap_max) = (None, 0);
        assert_eq!(
            kill.detail(),
            "killed process 4711 (eat) and all others in /a/b (memory.oom.group) with SIGKILL: 60M anonymous, 1M of \
             mapped files, started 250ms before, oom_score_adj 500"
        );
        let reason = kill.reason();
        assert!(reason.contains("memory.swap.max=0; the allocation was its own"), "{reason}");
        assert!(!reason.contains("stalled"), "{reason}");
    }

    #[test]
    fn machine_without_memory_is_named() {
        let mut kill = OomKill { limit: None, machine: Some(8 << 30), cause: "machine".to_owned(), ..kill() };
        assert!(
            kill.reason().starts_with("the machine was out of memory (8G); the allocation was of process 12")
        );
        kill.cause = "cpuset".to_owned();
        assert!(kill.reason().starts_with("the NUMA nodes of a cpuset were out of memory; "));
    }

    #[test]
    fn names_are_printed_on_one_line() {
        let mut kill = kill();
        kill.victim.name = "a\nb\u{1b}[2J".to_owned();
        assert!(kill.detail().contains("(a\\nb\\u{1b}[2J)"), "{}", kill.detail());
    }
}
