//! What is told of actions: one journal line and one signal each, and the counts behind `status`.

use std::collections::BTreeMap;

use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::report::{ActionReport, BindingReport, MSGID_ACTION, MSGID_ATTACHED, MSGID_DETACHED};

/// What a policy asks for over and over without getting it is said once in this time; it is counted every time.
const REPEAT_NS: u64 = 60_000_000_000;
/// More of these are forgotten, and then said again.
const SAID_MAX: usize = 10_000;

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It would have been done.
    DryRun,
    /// A guard stood before it.
    Refused,
    /// The kernel did not go along.
    Failed,
    /// Its cgroup went away first.
    Gone,
}

impl Outcome {
    /// Its word in reports, signals and the journal.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::DryRun => "dry-run",
            Outcome::Refused => "blocked",
            Outcome::Failed => "failed",
            Outcome::Gone => "removed",
        }
    }
}

/// One action and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acted {
    pub cgroup: CgroupId,
    pub path: CgroupPath,
    /// Empty when it is our own doing.
    pub policy: String,
    pub verb: &'static str,
    pub outcome: Outcome,
    pub from: u64,
    pub to: u64,
    pub reason: String,
    pub numbers: [u64; 4],
    pub detail: String,
    pub time: u64,
}

impl Acted {
    /// As it is reported.
    pub fn report(&self) -> ActionReport {
        ActionReport {
            policy: self.policy.clone(),
            action: self.verb.to_owned(),
            outcome: self.outcome.word().to_owned(),
            from: self.from,
            to: self.to,
            reason: self.reason.clone(),
            numbers: self.numbers.to_vec(),
            detail: self.detail.clone(),
            time: self.time,
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<Outcome, u64>,
    last: Option<ActionReport>,
}

/// What was said when: cgroup, policy, verb, what became of it.
type Subject = (CgroupId, String, &'static str, Outcome);

/// All counts since the start.
#[derive(Debug, Default)]
pub struct Tallies {
    all: BTreeMap<Outcome, u64>,
    stale: u64,
    of: BTreeMap<CgroupId, Tally>,
    said: BTreeMap<Subject, (u64, u64)>,
}

impl Tallies {
    /// Counts it and writes its journal line; `None` when that was said just now.
    pub fn tell(&mut self, acted: Acted) -> Option<Acted> {
        let tally = self.of.entry(acted.cgroup).or_default();
        for counts in [&mut self.all, &mut tally.counts] {
            let count = counts.entry(acted.outcome).or_default();
            *count = count.saturating_add(1);
        }
        tally.last = Some(acted.report());
        if self.is_repeated(&acted) {
            return None;
        }
        journal(&acted);
        Some(acted)
    }

    /// What was done is always said; what was not, when it is new or was not said for a while.
    fn is_repeated(&mut self, acted: &Acted) -> bool {
        // A kill that would have been done is told as one that is done.
        if acted.outcome == Outcome::Done || (acted.outcome == Outcome::DryRun && acted.verb == "kill") {
            return false;
        }
        if self.said.len() >= SAID_MAX {
            self.said.clear();
        }
        let subject = (acted.cgroup, acted.policy.clone(), acted.verb, acted.outcome);
        // A want that would have changed is news; every refusal has another number.
        let value = if acted.outcome == Outcome::DryRun { acted.to } else { 0 };
        let before = self.said.get(&subject).copied();
        let again =
            before.is_some_and(|(then, what)| what == value && acted.time.saturating_sub(then) < REPEAT_NS);
        if !again {
            self.said.insert(subject, (acted.time, value));
        }
        again
    }

    /// The policy was not in force any more when its wish arrived.
    pub fn count_stale(&mut self) {
        self.stale = self.stale.saturating_add(1);
    }

    /// A cgroup is gone.
    pub fn forget(&mut self, cgroup: CgroupId) {
        self.of.remove(&cgroup);
        self.said.retain(|(of, ..), _| *of != cgroup);
    }

    /// Adds what is known of a cgroup.
    pub fn complete(&self, report: &mut BindingReport) {
        if let Some(tally) = self.of.get(&CgroupId(report.cgroup_id)) {
            report.actions = words(&tally.counts);
            report.last_action.clone_from(&tally.last);
        }
    }

    /// All counts, by word.
    pub fn counts(&self, lost: u64) -> BTreeMap<String, u64> {
        let mut counts = words(&self.all);
        for (word, count) in [("stale", self.stale), ("lost", lost)] {
            if count > 0 {
                counts.insert(word.to_owned(), count);
            }
        }
        counts
    }
}

fn words(counts: &BTreeMap<Outcome, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(outcome, count)| (outcome.word().to_owned(), *count)).collect()
}

/// The journal line for policies that are in force from now on.
pub fn attached(path: &CgroupPath, policies: &str) {
    let cgroup = path.as_str();
    tracing::info!(
        MESSAGE_ID = MSGID_ATTACHED,
        OBJECT_SYSTEMD_UNIT = unit_of(path),
        MEMCG_BPF_CGROUP = cgroup,
        MEMCG_BPF_POLICIES = policies,
        "{path}: {policies} in force"
    );
}

/// The journal line for a cgroup that has no policy any more.
pub fn detached(path: &CgroupPath, reason: &str) {
    let cgroup = path.as_str();
    tracing::info!(
        MESSAGE_ID = MSGID_DETACHED,
        OBJECT_SYSTEMD_UNIT = unit_of(path),
        MEMCG_BPF_CGROUP = cgroup,
        MEMCG_BPF_REASON = reason,
        "{path}: no policy in force any more: {reason}"
    );
}

/// The innermost part of the path that is called like a unit; empty when none is.
fn unit_of(path: &CgroupPath) -> &str {
    path.components().rev().find(|name| UnitName::parse(name).is_ok()).unwrap_or("")
}

/// journald shows the line with the unit as well (`journalctl -u UNIT`), for we are root.
fn journal(acted: &Acted) {
    let unit = unit_of(&acted.path);
    let who = if acted.policy.is_empty() { "memcg-bpfd" } else { &acted.policy };
    let sentence = match acted.outcome {
        Outcome::Done => format!("{}: {who}: {}: {}", acted.path, acted.detail, acted.reason),
        outcome => format!(
            "{}: {who}: {} {}: {}: {}",
            acted.path,
            acted.verb,
            outcome.word(),
            acted.detail,
            acted.reason
        ),
    };
    let sentence = crate::names::shown(&sentence, 2000);
    let (path, outcome, reason) = (acted.path.as_str(), acted.outcome.word(), acted.reason.as_str());
    let (policy, detail) = (acted.policy.as_str(), acted.detail.as_str());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                // Finds all of these lines: journalctl MESSAGE_ID=…
                MESSAGE_ID = MSGID_ACTION,
                OBJECT_SYSTEMD_UNIT = unit,
                MEMCG_BPF_CGROUP = path,
                MEMCG_BPF_POLICY = policy,
                MEMCG_BPF_ACTION = acted.verb,
                MEMCG_BPF_OUTCOME = outcome,
                MEMCG_BPF_FROM = acted.from,
                MEMCG_BPF_TO = acted.to,
                MEMCG_BPF_REASON = reason,
                MEMCG_BPF_DETAIL = detail,
                "{sentence}"
            )
        };
    }
    match acted.outcome {
        Outcome::Done if acted.verb == "kill" => line!(warn),
        Outcome::Done | Outcome::DryRun | Outcome::Gone => line!(info),
        Outcome::Refused | Outcome::Failed => line!(warn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_explained_in_the_catalog_by_fields_that_it_has() {
        let catalog = include_str!("../../systemd/memcg-bpf.catalog");
        let source = include_str!("told.rs");
        let ids: Vec<&str> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        assert_eq!(ids, [MSGID_ATTACHED, MSGID_DETACHED, MSGID_ACTION]);
        let fields: Vec<&str> = catalog.split('@').skip(1).step_by(2).collect();
        assert!(fields.len() > ids.len());
        for field in fields {
            assert!(source.contains(&format!("{field} = ")), "no line has the field {field}");
        }
    }

    fn acted(outcome: Outcome, to: u64, time: u64) -> Acted {
        Acted {
            cgroup: CgroupId(7),
            path: CgroupPath::parse("/a").unwrap(),
            policy: "p".to_owned(),
            verb: "memory.high",
            outcome,
            from: 0,
            to,
            reason: "so".to_owned(),
            numbers: [0; 4],
            detail: String::new(),
            time,
        }
    }

    #[test]
    fn what_is_done_is_always_said_and_what_is_not_done_once_a_minute() {
        let mut tallies = Tallies::default();
        let mut said = |outcome, to, time: u64| tallies.tell(acted(outcome, to, time)).is_some();
        assert!(said(Outcome::Done, 1, 1) && said(Outcome::Done, 1, 2));
        assert!(said(Outcome::Refused, 1, 1) && !said(Outcome::Refused, 2, 2));
        assert!(said(Outcome::Refused, 1, REPEAT_NS + 1));
        assert!(said(Outcome::DryRun, 1, 1) && !said(Outcome::DryRun, 1, 2) && said(Outcome::DryRun, 2, 3));
        tallies.count_stale();
        let counts = tallies.counts(3);
        let words: Vec<String> = counts.iter().map(|(word, count)| format!("{word}={count}")).collect();
        assert_eq!(words.join(" "), "blocked=3 done=2 dry-run=3 lost=3 stale=1");
        let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
        tallies.complete(&mut report);
        assert_eq!((report.actions["done"], report.last_action.unwrap().to), (2, 2));
        tallies.forget(CgroupId(7));
        let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
        tallies.complete(&mut report);
        assert!(report.actions.is_empty());
    }
}
