//! Logs actions: one journal entry for each, and the counts shown by `status`.

use std::collections::BTreeMap;

use crate::names::{CgroupId, CgroupPath, PodName, UnitName};
use crate::report::{ActionReport, BindingReport, MSGID_ACTION, MSGID_ATTACHED, MSGID_DETACHED};

/// Minimum interval between two log messages about a repeated action that was not performed. Each is counted.
pub(super) const LOG_INTERVAL_NS: u64 = 60_000_000_000;
/// Limit of the number of keys. Beyond it all are removed, and the actions are logged again.
pub(super) const LOGGED_MAX: usize = 10_000;

/// The outcome of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionOutcome {
    /// The action was performed.
    Done,
    /// The action would have been performed without dry-run.
    DryRun,
    /// A guard stopped the action.
    Blocked,
    /// The kernel rejected the action.
    Failed,
    /// The cgroup was removed before.
    Removed,
}

impl ActionOutcome {
    /// The word used in reports, signals and the journal.
    pub fn word(self) -> &'static str {
        match self {
            ActionOutcome::Done => "done",
            ActionOutcome::DryRun => "dry-run",
            ActionOutcome::Blocked => "blocked",
            ActionOutcome::Failed => "failed",
            ActionOutcome::Removed => "removed",
        }
    }
}

/// One action and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRecord {
    /// The cgroup's id.
    pub cgroup: CgroupId,
    /// The cgroup's path.
    pub path: CgroupPath,
    /// The policy; empty for writes of the daemon itself.
    pub policy: String,
    /// The knob, `reclaim` or `kill`.
    pub action: &'static str,
    /// The result.
    pub outcome: ActionOutcome,
    /// The value before the action, in bytes.
    pub from: u64,
    /// The value after the action, in bytes.
    pub to: u64,
    /// The reason that the policy gave.
    pub reason: String,
    /// The numbers of the reason.
    pub numbers: [u64; 4],
    /// The change, or why there was none.
    pub detail: String,
    /// The time on CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
}

impl ActionRecord {
    /// The report of this action.
    pub fn report(&self) -> ActionReport {
        ActionReport {
            policy: self.policy.clone(),
            action: self.action.to_owned(),
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
struct CgroupStats {
    pod: Option<PodName>,
    counts: BTreeMap<ActionOutcome, u64>,
    last: Option<ActionReport>,
}

/// Cgroup, policy, action and outcome of a log message.
type LogKey = (CgroupId, String, &'static str, ActionOutcome);

/// All counts since the start.
#[derive(Debug, Default)]
pub struct ActionStats {
    all: BTreeMap<ActionOutcome, u64>,
    stale: u64,
    of: BTreeMap<CgroupId, CgroupStats>,
    logged: BTreeMap<LogKey, (u64, u64)>,
}

impl ActionStats {
    /// Counts the action, writes its journal entry and returns it for a signal; `None` if it is suppressed.
    pub fn record(&mut self, record: ActionRecord) -> Option<ActionRecord> {
        let cgroup = self.of.entry(record.cgroup).or_default();
        for counts in [&mut self.all, &mut cgroup.counts] {
            let count = counts.entry(record.outcome).or_default();
            *count = count.saturating_add(1);
        }
        cgroup.last = Some(record.report());
        if self.is_suppressed(&record) {
            return None;
        }
        journal(&record, self.of.get(&record.cgroup).and_then(|cgroup| cgroup.pod.as_ref()));
        Some(record)
    }

    /// True if an action is not logged: it was not performed, and the same was logged recently.
    fn is_suppressed(&mut self, record: &ActionRecord) -> bool {
        // A kill in a dry run is logged as a performed one is.
        if record.outcome == ActionOutcome::Done
            || (record.outcome == ActionOutcome::DryRun && record.action == "kill")
        {
            return false;
        }
        if self.logged.len() >= LOGGED_MAX {
            self.logged.clear();
        }
        let key = (record.cgroup, record.policy.clone(), record.action, record.outcome);
        // A new value in a dry run is logged; a blocked action has a different value each time.
        let value = if record.outcome == ActionOutcome::DryRun { record.to } else { 0 };
        let before = self.logged.get(&key).copied();
        let again = before
            .is_some_and(|(then, what)| what == value && record.time.saturating_sub(then) < LOG_INTERVAL_NS);
        if !again {
            self.logged.insert(key, (record.time, value));
        }
        again
    }

    /// Sets the names of the pod and of the container of a cgroup, for the journal.
    pub fn set_pod(&mut self, cgroup: CgroupId, pod: Option<&PodName>) {
        if pod.is_some() || self.of.contains_key(&cgroup) {
            self.of.entry(cgroup).or_default().pod = pod.cloned();
        }
    }

    /// The policy was detached before its action was handled.
    pub fn count_stale(&mut self) {
        self.stale = self.stale.saturating_add(1);
    }

    /// Removes the counts of a removed cgroup.
    pub fn forget(&mut self, cgroup: CgroupId) {
        self.of.remove(&cgroup);
        self.logged.retain(|(of, ..), _| *of != cgroup);
    }

    /// Adds the counts and the last action of a cgroup.
    pub fn fill_report(&self, report: &mut BindingReport) {
        if let Some(cgroup) = self.of.get(&CgroupId(report.cgroup_id)) {
            report.actions = by_word(&cgroup.counts);
            report.last_action.clone_from(&cgroup.last);
        }
    }

    /// All counts, by the word of the outcome.
    pub fn counts(&self, lost: u64) -> BTreeMap<String, u64> {
        let mut counts = by_word(&self.all);
        for (word, count) in [("stale", self.stale), ("lost", lost)] {
            if count > 0 {
                counts.insert(word.to_owned(), count);
            }
        }
        counts
    }
}

fn by_word(counts: &BTreeMap<ActionOutcome, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(outcome, count)| (outcome.word().to_owned(), *count)).collect()
}

/// The journal line for attached policies.
pub fn attached(path: &CgroupPath, pod: Option<&PodName>, policies: &str) {
    let (cgroup, named) = (path.as_str(), named(path, pod));
    tracing::info!(
        MESSAGE_ID = MSGID_ATTACHED,
        OBJECT_SYSTEMD_UNIT = unit_of(path),
        MEMCG_BPF_CGROUP = cgroup,
        MEMCG_BPF_POD = pod.map(tracing::field::display),
        MEMCG_BPF_POLICIES = policies,
        "{named}: attached: {policies}"
    );
}

/// The journal line for a cgroup whose policies are detached.
pub fn detached(path: &CgroupPath, pod: Option<&PodName>, reason: &str) {
    let (cgroup, named) = (path.as_str(), named(path, pod));
    tracing::info!(
        MESSAGE_ID = MSGID_DETACHED,
        OBJECT_SYSTEMD_UNIT = unit_of(path),
        MEMCG_BPF_CGROUP = cgroup,
        MEMCG_BPF_POD = pod.map(tracing::field::display),
        MEMCG_BPF_REASON = reason,
        "{named}: detached: {reason}"
    );
}

/// The journal line for lines that were left out. `subject` is the path of a cgroup.
pub fn left_out(subject: &str, lines: u64) {
    tracing::warn!(
        MEMCG_BPF_CGROUP = subject,
        "{subject}: {lines} messages about policies, denied requests and kills were left out in the last minute"
    );
}

/// The path, and the names of the pod and of the container.
pub(super) fn named(path: &CgroupPath, pod: Option<&PodName>) -> String {
    pod.map_or_else(|| path.to_string(), |pod| format!("{path} (pod {pod})"))
}

/// The unit of systemd to which a cgroup belongs: the first service or scope from the root, because cgroups inside of it
/// can have any name; otherwise the last slice; empty if there is none.
pub(super) fn unit_of(path: &CgroupPath) -> &str {
    let is_unit = |name: &&str| UnitName::parse(name).is_ok();
    let is_slice = |name: &&str| name.ends_with(".slice");
    let mut units = path.components().filter(is_unit);
    let slice = path.components().take_while(is_slice).filter(is_unit).last();
    units.find(|name| !is_slice(name)).or(slice).unwrap_or("")
}

/// journald accepts the unit of a message from root and shows it with that unit (`journalctl -u UNIT`).
fn journal(record: &ActionRecord, pod: Option<&PodName>) {
    let (unit, named) = (unit_of(&record.path), named(&record.path, pod));
    let who = if record.policy.is_empty() { "memcg-bpfd" } else { &record.policy };
    let sentence = match record.outcome {
        ActionOutcome::Done => format!("{named}: {who}: {}: {}", record.detail, record.reason),
        outcome => format!(
            "{named}: {who}: {} {}: {}: {}",
            record.action,
            outcome.word(),
            record.detail,
            record.reason
        ),
    };
    let sentence = crate::text::printable::quote(&sentence, 2000);
    let (path, outcome, reason) = (record.path.as_str(), record.outcome.word(), record.reason.as_str());
    let (policy, detail) = (record.policy.as_str(), record.detail.as_str());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                // Selects all of these entries: journalctl MESSAGE_ID=…
                MESSAGE_ID = MSGID_ACTION,
                OBJECT_SYSTEMD_UNIT = unit,
                MEMCG_BPF_CGROUP = path,
                MEMCG_BPF_POD = pod.map(tracing::field::display),
                MEMCG_BPF_POLICY = policy,
                MEMCG_BPF_ACTION = record.action,
                MEMCG_BPF_OUTCOME = outcome,
                MEMCG_BPF_FROM = record.from,
                MEMCG_BPF_TO = record.to,
                MEMCG_BPF_REASON = reason,
                MEMCG_BPF_DETAIL = detail,
                "{sentence}"
            )
        };
    }
    match record.outcome {
        ActionOutcome::Done if record.action == "kill" => line!(warn),
        ActionOutcome::Done | ActionOutcome::DryRun | ActionOutcome::Removed => line!(info),
        ActionOutcome::Blocked | ActionOutcome::Failed => line!(warn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::MSGID_DENIED;
    use crate::report::oom_kill::MSGID_OOM_KILL;

    #[test]
    fn catalog_explains_every_line_by_its_fields() {
        let catalog = include_str!("../../systemd/memcg-bpf.catalog");
        let source =
            concat!(include_str!("audit.rs"), include_str!("denials.rs"), include_str!("oom_kill.rs"));
        let ids: Vec<&str> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        assert_eq!(ids, [MSGID_ATTACHED, MSGID_DETACHED, MSGID_ACTION, MSGID_DENIED, MSGID_OOM_KILL]);
        let fields: Vec<&str> = catalog.split('@').skip(1).step_by(2).collect();
        assert!(fields.len() > ids.len());
        for field in fields {
            assert!(source.contains(&format!("{field} = ")), "no line has the field {field}");
        }
    }

    fn record(outcome: ActionOutcome, to: u64, time: u64) -> ActionRecord {
        ActionRecord {
            cgroup: CgroupId(7),
            path: CgroupPath::parse("/a").unwrap(),
            policy: "p".to_owned(),
            action: "memory.high",
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
    fn performed_actions_are_always_logged_others_once_a_minute() {
        let mut stats = ActionStats::default();
        let mut said = |outcome, to, time: u64| stats.record(record(outcome, to, time)).is_some();
        assert!(said(ActionOutcome::Done, 1, 1) && said(ActionOutcome::Done, 1, 2));
        assert!(said(ActionOutcome::Blocked, 1, 1) && !said(ActionOutcome::Blocked, 2, 2));
        assert!(said(ActionOutcome::Blocked, 1, LOG_INTERVAL_NS + 1));
        assert!(
            said(ActionOutcome::DryRun, 1, 1)
                && !said(ActionOutcome::DryRun, 1, 2)
                && said(ActionOutcome::DryRun, 2, 3)
        );
        stats.count_stale();
        let counts = stats.counts(3);
        let words: Vec<String> = counts.iter().map(|(word, count)| format!("{word}={count}")).collect();
        assert_eq!(words.join(" "), "blocked=3 done=2 dry-run=3 lost=3 stale=1");
        let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
        stats.fill_report(&mut report);
        assert_eq!((report.actions["done"], report.last_action.unwrap().to), (2, 2));
        stats.forget(CgroupId(7));
        let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
        stats.fill_report(&mut report);
        assert!(report.actions.is_empty());
    }
}
