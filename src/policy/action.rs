//! The actions that a policy can request, and their reasons. No I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::CgroupId;
use crate::text::{format_duration, format_percent, human_bytes};

/// A file of a cgroup that keeps its value, so that the daemon must restore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Knob {
    /// memory.high: above it, the cgroup is throttled.
    #[serde(rename = "memory.high")]
    High,
    /// memory.low: below it, the cgroup is protected from reclaim.
    #[serde(rename = "memory.low")]
    Low,
    /// cgroup.freeze: 1 freezes the processes.
    #[serde(rename = "cgroup.freeze")]
    Freeze,
}

/// The value `max` of a knob.
pub const MAX: u64 = u64::MAX;

impl Knob {
    /// The name of the file.
    pub fn file(self) -> &'static str {
        match self {
            Knob::High => "memory.high",
            Knob::Low => "memory.low",
            Knob::Freeze => "cgroup.freeze",
        }
    }

    /// The stricter of two values: the lower high, the higher low, frozen.
    pub fn strictest(self, a: u64, b: u64) -> u64 {
        match self {
            Knob::High => a.min(b),
            Knob::Low | Knob::Freeze => a.max(b),
        }
    }

    /// The value as text: `64M`, `max`, `1`.
    pub fn format(self, value: u64) -> String {
        match (self, value) {
            (Knob::Freeze, value) => value.to_string(),
            (_, MAX) => "max".to_owned(),
            (_, 0) => "0".to_owned(),
            (_, value) => human_bytes(value),
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file())
    }
}

/// The scope of a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillScope {
    /// One process.
    Process,
    /// One cgroup of those in the subtree that contain processes.
    Leaf,
    /// The cgroup of the policy with all its descendants.
    Group,
}

/// The order in which candidates are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VictimOrder {
    /// The one with the most memory first.
    Largest,
    /// The one that started last first.
    Newest,
    /// The one with the highest memory pressure first.
    Pressure,
    /// The process for which the policy was called, or its cgroup.
    Culprit,
}

/// A requested change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// Keeps a knob at least as strict as the value; `None` releases the constraint. Expires unless it is repeated.
    SetKnob(Knob, Option<u64>),
    /// Reclaims memory of the cgroup.
    Reclaim {
        /// Bytes to reclaim.
        bytes: u64,
        /// 0 to 200; `None` for the kernel's default.
        swappiness: Option<u8>,
    },
    /// Kills processes in the subtree.
    Kill {
        /// Nanoseconds between SIGTERM and SIGKILL. If 0, SIGKILL is sent at once.
        grace_ns: u64,
        /// The scope.
        scope: KillScope,
        /// The order.
        select: VictimOrder,
    },
}

impl ActionKind {
    /// The name in reports, signals and the journal.
    pub fn name(&self) -> &'static str {
        match self {
            ActionKind::SetKnob(knob, _) => knob.file(),
            ActionKind::Reclaim { .. } => "memory.reclaim",
            ActionKind::Kill { .. } => "kill",
        }
    }
}

/// One action requested by a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The cgroup of the policy.
    pub cgroup: CgroupId,
    /// The time in nanoseconds, on the clock of `bpf_ktime_get_ns()`.
    pub time: u64,
    /// The change.
    pub kind: ActionKind,
    /// The numbers of the reason.
    pub numbers: [u64; 4],
    /// True if the action is logged and not performed.
    pub dry_run: bool,
    /// The policy's name.
    pub policy: String,
    /// The reason, with placeholders for the numbers: `stalled {ns} of the last {ns}`.
    pub reason_template: String,
    /// Of a kill: the process for which the policy was called.
    pub culprit: Option<Culprit>,
}

/// The process for which a policy requested a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// Its id in the initial namespace.
    pub pid: u32,
    /// Its start in nanoseconds on CLOCK_BOOTTIME.
    pub started: u64,
    /// Set if the kernel has killed it; the daemon then only reports it.
    pub killed: Option<Killed>,
}

/// What the kernel recorded with a kill that it performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// memory.current of the cgroup with the policy at that time, in bytes.
    pub usage: u64,
    /// The name of the process.
    pub name: String,
    /// The last part of the path of the cgroup with the policy.
    pub unit: String,
    /// The last part of the path of the process's cgroup.
    pub inner: String,
}

/// The format of a number.
type Formatter = fn(u64) -> String;

/// The placeholders in a reason, replaced in order.
const PLACEHOLDERS: [(&str, Formatter); 4] = [
    ("{bytes}", human_bytes),
    ("{ns}", human_duration),
    ("{ppm}", human_percent),
    ("{count}", |count| count.to_string()),
];

impl Action {
    /// The kill, if the kernel has performed it.
    pub fn performed(&self) -> Option<(&Culprit, &Killed)> {
        let culprit = self.culprit.as_ref()?;
        Some((culprit, culprit.killed.as_ref()?))
    }

    /// The reason with its numbers. Placeholders beyond the last number are kept.
    pub fn reason(&self) -> String {
        let mut numbers = self.numbers.iter();
        let mut out = String::new();
        let mut rest = self.reason_template.as_str();
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            out.push_str(before);
            let place = PLACEHOLDERS.iter().find(|(place, _)| from.starts_with(place));
            let filled = place.and_then(|(place, show)| Some((place.len(), show(*numbers.next()?))));
            let taken = match filled {
                Some((length, text)) => {
                    out.push_str(&text);
                    length
                }
                None => {
                    out.push('{');
                    1
                }
            };
            rest = from.get(taken..).unwrap_or("");
        }
        out.push_str(rest);
        out
    }
}

/// A rounded time span: not finer than a millisecond, unless that would be 0.
pub fn human_duration(ns: u64) -> String {
    let grain = if ns >= 1_000_000 { 1_000_000 } else { 1_000 };
    let grains = ns.checked_div(grain).unwrap_or(0);
    format_duration(grains.saturating_mul(grain))
}

/// Parts per million as a percentage with at most one decimal.
fn human_percent(ppm: u64) -> String {
    let tenths = ppm.checked_div(1000).unwrap_or(0).saturating_mul(1000);
    format_percent(u32::try_from(tenths).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(reason_template: &str, numbers: [u64; 4]) -> String {
        let kind = ActionKind::SetKnob(Knob::High, None);
        let (policy, reason_template) = ("p".to_owned(), reason_template.to_owned());
        let (cgroup, dry_run, culprit) = (CgroupId(1), false, None);
        Action { cgroup, time: 0, kind, numbers, dry_run, policy, reason_template, culprit }.reason()
    }

    #[test]
    fn numbers_take_their_places_in_order() {
        assert_eq!(
            reason(
                "stalled {ns} of the last {ns}, {bytes} above memory.high",
                [812_345_678, 2_000_000_000, 64 << 20, 0]
            ),
            "stalled 812ms of the last 2s, 64M above memory.high"
        );
        assert_eq!(
            reason("{ppm} busy, {count} tasks, {ns}", [406_789, 3, 1500, 0]),
            "40.6% busy, 3 tasks, 1us"
        );
    }

    #[test]
    fn invalid_template_is_displayed_escaped() {
        assert_eq!(reason("{} {what} {count", [1, 2, 3, 4]), "{} {what} {count");
        assert_eq!(reason("{count}{count}{count}{count}{count}", [1, 2, 3, 4]), "1234{count}");
        assert_eq!(reason("ä{count}ö{", [1, 2, 3, 4]), "ä1ö{");
        assert_eq!(reason("", [1, 2, 3, 4]), "");
    }

    #[test]
    fn the_stricter_value_is_the_lower_high_and_the_higher_low() {
        assert_eq!(Knob::High.strictest(MAX, 5), 5);
        assert_eq!(Knob::Low.strictest(0, 5), 5);
        assert_eq!(Knob::Freeze.strictest(1, 0), 1);
        assert_eq!((Knob::High.format(MAX), Knob::Low.format(0)), ("max".to_owned(), "0".to_owned()));
    }
}
