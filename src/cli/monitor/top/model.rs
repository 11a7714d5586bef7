//! The state of `top`: the last report of each cgroup and a bounded history. No I/O.

use std::collections::{BTreeMap, VecDeque};

use crate::cli::show::explain::name_of;
use crate::report::BindingReport;

/// Number of samples kept for each cgroup, as many as the widest screen has columns.
const HISTORY_MAX: usize = 300;

/// The sort key of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Memory,
    Name,
    Stall,
    Refaults,
    Denied,
}

/// A cgroup.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub name: String,
    pub report: BindingReport,
    /// Memory in bytes, stall time in tenths of a percent, refaults per second.
    pub usage: VecDeque<u64>,
    pub stall: VecDeque<u64>,
    pub refaults: VecDeque<u64>,
    pub seen: f64,
}

impl Row {
    pub fn counter(&self, name: &str) -> u64 {
        self.report.counters.get(name).copied().unwrap_or(0)
    }
}

/// The state of the screen.
#[derive(Debug, Default)]
pub(super) struct Model {
    rows: BTreeMap<String, Row>,
    pub sort: Sort,
    pub paused: bool,
    /// The error of the last call.
    pub trouble: Option<String>,
    /// Only rows that contain this text are shown.
    pub filter: String,
    /// True while the filter is being typed.
    pub typing: bool,
    /// True while the keys are explained.
    pub help: bool,
    /// The first line of the details of the selected cgroup, while they are shown.
    pub details: Option<u16>,
    /// The selected cgroup.
    chosen: Option<String>,
}

impl Model {
    /// Adds reports of time `now`, in seconds.
    pub fn take(&mut self, reports: Vec<BindingReport>, now: f64) {
        self.trouble = None;
        let mut rows = BTreeMap::new();
        for report in reports {
            let mut row = self.rows.remove(&report.cgroup).unwrap_or_default();
            let length = now - row.seen;
            // All counters are zero: no counters are attached, so the stall time is unknown.
            let counted = ["charges", "growth_requests", "stall_ns", "refaults"]
                .iter()
                .any(|name| report.counters.get(*name).is_some_and(|count| *count > 0));
            if row.report.cgroup_id == report.cgroup_id && length > 0.0 && counted {
                let gained = |name: &str| {
                    let after = report.counters.get(name).copied().unwrap_or(0);
                    after.saturating_sub(row.counter(name)) as f64 / length
                };
                // Nanoseconds per second → tenths of a percent.
                let (stall, refaults) = (gained("stall_ns") / 1e6, gained("refaults"));
                push(&mut row.stall, stall as u64);
                push(&mut row.refaults, refaults as u64);
            }
            push(&mut row.usage, report.usage.unwrap_or(0));
            row.name = name_of(&report);
            row.seen = now;
            rows.insert(report.cgroup.clone(), Row { report, ..row });
        }
        self.rows = rows;
    }

    /// The sorted rows that pass the filter.
    pub fn rows(&self) -> Vec<&Row> {
        let filter = self.filter.to_lowercase();
        let passes = |row: &&Row| {
            let has = |text: &str| text.to_lowercase().contains(&filter);
            has(&row.name)
                || has(&row.report.cgroup)
                || row.report.policies.iter().any(|policy| has(&policy.name))
        };
        let mut rows: Vec<&Row> = self.rows.values().filter(passes).collect();
        let last = |history: &VecDeque<u64>| std::cmp::Reverse(history.back().copied());
        match self.sort {
            Sort::Memory => rows.sort_by_key(|row| last(&row.usage)),
            Sort::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::Stall => rows.sort_by_key(|row| last(&row.stall)),
            Sort::Refaults => rows.sort_by_key(|row| last(&row.refaults)),
            Sort::Denied => rows.sort_by_key(|row| std::cmp::Reverse(row.counter("growth_denied"))),
        }
        rows
    }

    /// The index of the selected row: the same cgroup after sorting, else the first.
    pub fn chosen(&self) -> usize {
        let is_it = |row: &&Row| Some(&row.report.cgroup) == self.chosen.as_ref();
        self.rows().iter().position(is_it).unwrap_or(0)
    }

    pub fn choose(&mut self, by: isize) {
        let at = self.chosen().saturating_add_signed(by).min(self.rows().len().saturating_sub(1));
        let chosen = self.rows().get(at).map(|row| row.report.cgroup.clone());
        self.chosen = chosen;
    }
}

fn push(history: &mut VecDeque<u64>, value: u64) {
    history.push_back(value);
    if history.len() > HISTORY_MAX {
        history.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::cli::monitor::top) fn report(unit: &str, usage: u64, stall_ns: u64) -> BindingReport {
        BindingReport {
            cgroup: format!("/{unit}"),
            cgroup_id: 1,
            unit: Some(unit.to_owned()),
            usage: Some(usage),
            counters: [("stall_ns".to_owned(), stall_ns)].into(),
            ..BindingReport::default()
        }
    }

    #[test]
    fn stall_share_is_increase_per_time() {
        let mut model = Model::default();
        model.take(vec![report("a.service", 1, 0)], 0.0);
        model.take(vec![report("a.service", 1, 500_000_000)], 2.0);
        assert_eq!(model.rows()[0].stall, [250]);
    }

    #[test]
    fn recreated_cgroup_has_no_rate() {
        let mut model = Model::default();
        model.take(vec![report("a.service", 1, 900)], 0.0);
        model.take(vec![BindingReport { cgroup_id: 2, ..report("a.service", 1, 0) }], 1.0);
        assert!(model.rows()[0].stall.is_empty());
    }

    #[test]
    fn selection_follows_cgroup_after_sorting() {
        let mut model = Model::default();
        model.take(vec![report("a.service", 1, 0), report("b.service", 2, 0)], 0.0);
        model.choose(1);
        assert_eq!(model.rows()[model.chosen()].name, "a.service");
        model.take(vec![report("a.service", 3, 0), report("b.service", 2, 0)], 1.0);
        assert_eq!((model.chosen(), model.rows()[0].name.as_str()), (0, "a.service"));
        model.choose(-1);
        model.choose(9);
        assert_eq!(model.chosen(), 1);
    }

    #[test]
    fn filter_selects_rows_by_name_path_and_policy() {
        let mut model = Model::default();
        let mut other = report("b.service", 2, 0);
        other.policies.push(crate::report::AttachedPolicy { name: "oom".to_owned(), ..Default::default() });
        model.take(vec![report("A.service", 1, 0), other], 0.0);
        let mut names = |filter: &str| {
            model.filter = filter.to_owned();
            model.rows().iter().map(|row| row.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names("a.s"), ["A.service"]);
        assert_eq!(names("OOM"), ["b.service"]);
        assert_eq!(names("x"), [""; 0]);
        assert_eq!(names("").len(), 2);
        model.filter = "a.s".to_owned();
        model.choose(5);
        assert_eq!(model.chosen(), 0);
    }

    #[test]
    fn history_is_bounded_and_removed_cgroups_are_dropped() {
        let mut model = Model::default();
        (0..1000).for_each(|n| model.take(vec![report("a.service", n, 0)], n as f64));
        assert_eq!(model.rows()[0].usage.len(), HISTORY_MAX);
        model.take(Vec::new(), 1000.0);
        assert!(model.rows().is_empty());
    }
}
