//! Logs denied requests: journal entries, limited in rate, and the last denial of each cgroup.

use std::collections::BTreeMap;

use super::audit::{LOG_INTERVAL_NS, LOGGED_MAX, named, unit_of};
use crate::names::{CgroupId, CgroupPath, PodName};
use crate::policy::denial::Denial;
use crate::report::{BindingReport, DenialReport, MSGID_DENIED};

/// A denial that was logged, for its signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenialRecord {
    /// The path of the cgroup with the policy.
    pub path: CgroupPath,
    /// The denial. Its count is that of all denials since the last record.
    pub denial: Denial,
}

impl DenialRecord {
    /// The report of this denial.
    pub fn report(&self) -> DenialReport {
        let Denial { requested, usage, limit, count, pid, time, .. } = self.denial;
        DenialReport {
            policy: self.denial.policy.clone(),
            outcome: self.denial.outcome().to_owned(),
            requested,
            usage,
            limit,
            count,
            pid,
            process: self.denial.process.clone(),
            detail: self.denial.sentence(),
            time,
        }
    }
}

/// The state of one policy on one cgroup, or of its dry run.
#[derive(Debug, Default)]
struct Logged {
    /// The time of the last journal entry.
    time: Option<u64>,
    /// Denials since then.
    count: u64,
}

/// The denials of each cgroup.
#[derive(Debug, Default)]
pub struct DenialLog {
    logged: BTreeMap<(CgroupId, String, bool), Logged>,
    last: BTreeMap<CgroupId, DenialReport>,
}

impl DenialLog {
    /// Counts a denial and returns its record for the journal and the signal. `None` if another denial by the
    /// policy was logged recently; the next record then includes it in its count. A limit that has changed makes no
    /// difference, because the owner of a delegated cgroup can change what percentages refer to.
    pub fn record(&mut self, path: &CgroupPath, mut denial: Denial) -> Option<DenialRecord> {
        if self.logged.len() >= LOGGED_MAX {
            self.logged.clear();
        }
        let key = (denial.cgroup, denial.policy.clone(), denial.dry_run);
        let logged = self.logged.entry(key).or_default();
        logged.count = logged.count.saturating_add(denial.count);
        let suppressed = logged.time.is_some_and(|time| denial.time.saturating_sub(time) < LOG_INTERVAL_NS);
        if !suppressed {
            (denial.count, logged.count) = (logged.count, 0);
            logged.time = Some(denial.time);
        }
        let record = DenialRecord { path: path.clone(), denial };
        // There is no message to which a number could refer.
        let alone = Denial { count: 1, ..record.denial.clone() };
        self.last.insert(alone.cgroup, DenialReport { detail: alone.sentence(), ..record.report() });
        if suppressed {
            return None;
        }
        Some(record)
    }

    /// Drops what is kept for a removed cgroup.
    pub fn forget(&mut self, cgroup: CgroupId) {
        self.last.remove(&cgroup);
        self.logged.retain(|(of, ..), _| *of != cgroup);
    }

    /// Adds the last denial of a cgroup.
    pub fn fill_report(&self, report: &mut BindingReport) {
        report.last_denial = self.last.get(&CgroupId(report.cgroup_id)).cloned();
    }
}

/// Writes the journal entry of a denial.
pub fn log(record: &DenialRecord, pod: Option<&PodName>) {
    let DenialRecord { path, denial } = record;
    let (named, detail) = (named(path, pod), denial.sentence());
    // Absent for a policy without a limit.
    let limit = denial.limit.map(|limit| limit.to_string()).unwrap_or_default();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                MESSAGE_ID = MSGID_DENIED,
                OBJECT_SYSTEMD_UNIT = unit_of(path),
                MEMCG_BPF_CGROUP = path.as_str(),
                MEMCG_BPF_POD = pod.map(tracing::field::display),
                MEMCG_BPF_POLICY = denial.policy.as_str(),
                MEMCG_BPF_OUTCOME = denial.outcome(),
                MEMCG_BPF_REQUESTED = denial.requested,
                MEMCG_BPF_USAGE = denial.usage,
                MEMCG_BPF_LIMIT = limit.as_str(),
                MEMCG_BPF_COUNT = denial.count,
                MEMCG_BPF_PID = denial.pid,
                MEMCG_BPF_PROCESS = denial.process.as_str(),
                MEMCG_BPF_DETAIL = detail.as_str(),
                "{named}: {}: {detail}",
                denial.policy
            )
        };
    }
    if denial.dry_run { line!(info) } else { line!(warn) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(time: u64, count: u64) -> Denial {
        Denial {
            cgroup: CgroupId(7),
            time,
            requested: 32 << 20,
            usage: 60 << 20,
            limit: Some(64 << 20),
            count,
            pid: 4711,
            dry_run: false,
            policy: "deny".to_owned(),
            process: "java".to_owned(),
        }
    }

    #[test]
    fn denials_are_logged_once_a_minute_with_their_number() {
        let path = CgroupPath::parse("/a").unwrap();
        let mut log = DenialLog::default();
        let mut count = |denial: Denial| log.record(&path, denial).map(|record| record.denial.count);
        assert_eq!(count(denial(1, 1)), Some(1));
        assert_eq!([count(denial(2, 100)), count(denial(3, 20))], [None, None]);
        // A dry run is logged by itself.
        assert_eq!(count(Denial { dry_run: true, ..denial(4, 9) }), Some(9));
        assert_eq!(count(denial(LOG_INTERVAL_NS + 1, 7)), Some(127));
        assert_eq!(count(Denial { limit: Some(1), ..denial(LOG_INTERVAL_NS + 2, 5) }), None);
        let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
        log.fill_report(&mut report);
        let last = report.last_denial.clone().unwrap();
        assert_eq!((last.outcome.as_str(), last.limit, last.count), ("denied", Some(1), 5));
        assert!(last.detail.ends_with(" in use"), "{last:?}");
        log.forget(CgroupId(7));
        log.fill_report(&mut report);
        assert_eq!(report.last_denial, None);
    }
}
