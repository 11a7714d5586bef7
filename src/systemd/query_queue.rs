//! The queue of queries about units. Each unit has at most one query in flight, so the newest reply is always the
//! last; the number of queries in flight is bounded. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::UnitName;

/// Number of queries in flight: enough to hide the latency of PID 1 without delaying its other callers.
const MAX_IN_FLIGHT: usize = 16;

/// The priority of a query, in the order of querying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The unit is being started or stopped.
    Change,
    /// A full scan.
    FullScan,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    priority: Priority,
    seq: u64,
    load: bool,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    load: bool,
    /// True if the reply must be ignored.
    outdated: bool,
}

/// Queued units and those in flight. Each unit is queued at most once.
#[derive(Debug, Default)]
pub(super) struct QueryQueue {
    entries: BTreeMap<UnitName, Entry>,
    order: BTreeSet<(Priority, u64, UnitName)>,
    in_flight: BTreeMap<UnitName, InFlight>,
    /// Units that full scans wait for.
    scan_pending: BTreeSet<UnitName>,
    next_seq: u64,
}

impl QueryQueue {
    /// Adds a unit to the queue. `load`: systemd may load the unit for the query.
    pub(super) fn add(&mut self, unit: UnitName, priority: Priority, load: bool) {
        self.next_seq = self.next_seq.saturating_add(1);
        if priority == Priority::FullScan {
            self.scan_pending.insert(unit.clone());
        }
        let mut entry = Entry { priority, seq: self.next_seq, load };
        if let Some(known) = self.entries.get(&unit) {
            self.order.remove(&(known.priority, known.seq, unit.clone()));
            // The unit keeps its position, unless its priority is higher now.
            if known.priority <= priority {
                entry = Entry { load: load || known.load, ..*known };
            } else {
                entry.load |= known.load;
            }
        }
        self.order.insert((entry.priority, entry.seq, unit.clone()));
        self.entries.insert(unit, entry);
    }

    /// The next unit to query, and whether to load it; `None` if enough queries are in flight. A unit with a query in
    /// flight is not queried again before the reply, which may be older than the change.
    pub(super) fn next(&mut self) -> Option<(UnitName, bool)> {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let place = self.order.iter().find(|(_, _, unit)| !self.in_flight.contains_key(unit))?.clone();
        self.order.remove(&place);
        let (_, _, unit) = place;
        let load = self.entries.remove(&unit)?.load;
        self.in_flight.insert(unit.clone(), InFlight { load, outdated: false });
        Some((unit, load))
    }

    /// Removes a query after its reply. Returns false if the reply is outdated and must be ignored; the unit is
    /// queued again then.
    pub(super) fn answered(&mut self, unit: &UnitName) -> bool {
        let counts = self.in_flight.remove(unit).is_none_or(|asked| !asked.outdated);
        if counts {
            self.scan_pending.remove(unit);
        }
        counts
    }

    /// The units changed: replies to queries in flight are ignored, and the units are queued again.
    pub(super) fn invalidate_in_flight(&mut self) {
        let mut again = Vec::new();
        for (unit, asked) in &mut self.in_flight {
            asked.outdated = true;
            again.push((unit.clone(), asked.load));
        }
        again.into_iter().for_each(|(unit, load)| self.add(unit, Priority::Change, load));
    }

    /// True if every unit of the full scans has been queried. Others may have been added in the meantime.
    pub(super) fn is_scan_complete(&self) -> bool {
        self.scan_pending.is_empty()
    }

    /// True if no query is queued or in flight.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> UnitName {
        UnitName::parse(&format!("{name}.service")).unwrap()
    }

    fn asked(queue: &mut QueryQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).map(|(unit, _)| unit.prefix().to_owned()).collect()
    }

    #[test]
    fn changes_come_first_and_units_are_queried_once_at_a_time() {
        let mut queue = QueryQueue::default();
        for name in ["a", "b", "c"] {
            queue.add(unit(name), Priority::FullScan, true);
        }
        queue.add(unit("c"), Priority::Change, false);
        queue.add(unit("b"), Priority::FullScan, false);
        assert_eq!(queue.next(), Some((unit("c"), true)), "more urgent now, and still to be loaded");
        assert_eq!(asked(&mut queue), ["a", "b"]);
        queue.add(unit("a"), Priority::Change, false);
        assert_eq!(queue.next(), None, "its answer is on the way");
        assert!(queue.answered(&unit("a")));
        assert_eq!(queue.next(), Some((unit("a"), false)));
        for name in ["a", "b", "c"] {
            assert!(queue.answered(&unit(name)));
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn thousand_units_are_queried_a_few_at_a_time() {
        let mut queue = QueryQueue::default();
        for round in 0..3 {
            (0..1000).for_each(|n| queue.add(unit(&format!("u{n}")), Priority::FullScan, round == 0));
        }
        let mut total = 0;
        while !queue.is_empty() {
            let some = asked(&mut queue);
            assert!(some.len() <= MAX_IN_FLIGHT);
            total += some.len();
            some.iter().for_each(|name| assert!(queue.answered(&unit(name))));
        }
        assert_eq!(total, 1000);
    }

    #[test]
    fn endless_changes_do_not_keep_a_full_scan_from_completing() {
        let mut queue = QueryQueue::default();
        for name in ["a", "b"] {
            queue.add(unit(name), Priority::FullScan, true);
        }
        for _ in 0..3 {
            queue.add(unit("busy"), Priority::Change, false);
            let some = asked(&mut queue);
            queue.invalidate_in_flight();
            assert!(some.iter().all(|name| !queue.answered(&unit(name))));
        }
        assert!(!queue.is_scan_complete(), "no answer has counted");
        assert_eq!(asked(&mut queue).len(), 3);
        queue.add(unit("busy"), Priority::Change, false);
        for name in ["a", "b"] {
            assert!(queue.answered(&unit(name)));
        }
        assert!(queue.is_scan_complete() && !queue.is_empty());
    }

    #[test]
    fn replies_from_before_a_change_are_ignored_and_repeated() {
        let mut queue = QueryQueue::default();
        queue.add(unit("a"), Priority::FullScan, false);
        queue.next();
        queue.invalidate_in_flight();
        assert!(!queue.answered(&unit("a")));
        assert_eq!(queue.next(), Some((unit("a"), false)));
        assert!(queue.answered(&unit("a")));
        assert!(queue.is_empty());
    }
}
