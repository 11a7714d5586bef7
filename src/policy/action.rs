//! What a policy may ask the daemon to do, and the numbers behind it. Knows no file and no process.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::CgroupId;
use crate::text::{format_duration, format_percent, human_bytes};

/// A file of a cgroup that keeps what is written to it, so that it has to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Knob {
    /// Above it the cgroup is slowed down.
    #[serde(rename = "memory.high")]
    High,
    /// Below it others' reclaim leaves the cgroup alone.
    #[serde(rename = "memory.low")]
    Low,
    /// 1: its processes stand still.
    #[serde(rename = "cgroup.freeze")]
    Freeze,
}

/// `max` in a knob.
pub const MAX: u64 = u64::MAX;

impl Knob {
    /// The file's name.
    pub fn file(self) -> &'static str {
        match self {
            Knob::High => "memory.high",
            Knob::Low => "memory.low",
            Knob::Freeze => "cgroup.freeze",
        }
    }

    /// Of two values the stricter: the lowest high, the highest low, frozen.
    pub fn strictest(self, a: u64, b: u64) -> u64 {
        match self {
            Knob::High => a.min(b),
            Knob::Low | Knob::Freeze => a.max(b),
        }
    }

    /// A value in words: `64M`, `max`, `1`.
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

/// How much a kill takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillScope {
    /// One process.
    Process,
    /// One cgroup of those in the subtree that hold processes.
    Leaf,
    /// The cgroup of the policy with everything in it.
    Group,
}

/// Which one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VictimOrder {
    /// The one with the most memory.
    Largest,
    /// The one that started last.
    Newest,
    /// The one that waits for memory most.
    Pressure,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// Keep a knob at least so strict; `None` takes that back. Has to be asked again before its lease runs out.
    SetKnob(Knob, Option<u64>),
    /// Take memory from the cgroup.
    Reclaim {
        /// How much.
        bytes: u64,
        /// 0 to 200; `None`: the kernel's own.
        swappiness: Option<u8>,
    },
    /// End something in the subtree.
    Kill {
        /// Time between SIGTERM and SIGKILL; 0: SIGKILL at once.
        grace_ns: u64,
        /// How much.
        scope: KillScope,
        /// Which.
        select: VictimOrder,
    },
}

impl ActionKind {
    /// Its name in reports, signals and the journal.
    pub fn name(&self) -> &'static str {
        match self {
            ActionKind::SetKnob(knob, _) => knob.file(),
            ActionKind::Reclaim { .. } => "memory.reclaim",
            ActionKind::Kill { .. } => "kill",
        }
    }
}

/// One thing asked for by one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The cgroup of the policy.
    pub cgroup: CgroupId,
    /// When, on the clock of `bpf_ktime_get_ns()`.
    pub time: u64,
    /// What.
    pub kind: ActionKind,
    /// The numbers behind it.
    pub numbers: [u64; 4],
    /// Decide and tell, but do nothing.
    pub dry_run: bool,
    /// The policy's name.
    pub policy: String,
    /// Why, with places for the numbers: `stalled {ns} of the last {ns}`.
    pub reason_template: String,
}

/// How a number is shown.
type Formatter = fn(u64) -> String;

/// Places for numbers in a reason, taken in order.
const PLACEHOLDERS: [(&str, Formatter); 4] = [
    ("{bytes}", human_bytes),
    ("{ns}", human_duration),
    ("{ppm}", human_percent),
    ("{count}", |count| count.to_string()),
];

impl Action {
    /// The reason with its numbers filled in. A place beyond the last number stays as it is.
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

/// A time span for people: not finer than a millisecond, except where that would be nothing.
pub fn human_duration(ns: u64) -> String {
    let grain = if ns >= 1_000_000 { 1_000_000 } else { 1_000 };
    let grains = ns.checked_div(grain).unwrap_or(0);
    format_duration(grains.saturating_mul(grain))
}

/// Parts per million for people, to a tenth of a percent.
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
        Action { cgroup: CgroupId(1), time: 0, kind, numbers, dry_run: false, policy, reason_template }
            .reason()
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
    fn a_template_with_mistakes_is_shown_and_not_trusted() {
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
