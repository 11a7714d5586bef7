//! Coalesces systemd's signals into events: all signals of a reload become one event, and those of a unit become one.
//! No I/O and no clock: the time is passed with each signal.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use super::event::Event;
use crate::names::UnitName;

/// Time for which changes of a unit are coalesced: covers the signals of one start, and is short compared to it.
pub(super) const COALESCE_WINDOW: Duration = Duration::from_millis(20);
/// Timeout of a reload whose end is not signalled, because PID 1 crashed or re-executed itself.
pub(super) const RELOAD_MAX: Duration = Duration::from_secs(30);
/// After a reload, systemd announces all units again. Announcements within this time are ignored.
pub(super) const RELOAD_QUIET: Duration = Duration::from_millis(500);
/// Limit of pending units. Beyond it, one full scan is cheaper than a query for each unit.
pub(super) const PENDING_MAX: usize = 1024;

/// A parsed signal of systemd. Signals of units that cannot have a policy are filtered out before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    UnitNew(UnitName),
    UnitRemoved(UnitName),
    JobNew(UnitName),
    JobRemoved(UnitName),
    Reloading(bool),
    UnitFilesChanged,
    /// PID 1 is no longer on the bus.
    ManagerLost,
    /// PID 1 is on the bus, again or for the first time.
    ManagerBack,
}

/// The last signal of a unit. One event per unit is enough, because each means "query again".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastSignal {
    Changed,
    JobDone,
    Removed,
}

/// Coalesces signals into events.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    pending: BTreeMap<UnitName, LastSignal>,
    flush_at: Option<Instant>,
    reload_ends_by: Option<Instant>,
    quiet_until: Option<Instant>,
    rescan: bool,
    manager_lost: bool,
}

impl Coalescer {
    /// Records a signal.
    pub(super) fn take(&mut self, signal: Signal, now: Instant) {
        match signal {
            Signal::UnitNew(unit) if !self.is_reload_quiet(now) => {
                self.record(unit, LastSignal::Changed, now)
            }
            Signal::UnitRemoved(unit) if !self.is_reload_quiet(now) => {
                self.record(unit, LastSignal::Removed, now)
            }
            Signal::UnitNew(_) | Signal::UnitRemoved(_) => {}
            Signal::JobNew(unit) => self.record(unit, LastSignal::Changed, now),
            Signal::JobRemoved(unit) => self.record(unit, LastSignal::JobDone, now),
            Signal::Reloading(true) => {
                self.reload_ends_by = Some(after(now, RELOAD_MAX));
                self.pending.clear();
                self.flush_at = None;
            }
            Signal::Reloading(false) => {
                self.reload_ends_by = None;
                self.quiet_until = Some(after(now, RELOAD_QUIET));
                self.rescan_now(now);
            }
            Signal::UnitFilesChanged => {
                self.rescan = true;
                self.flush_by(after(now, COALESCE_WINDOW));
            }
            Signal::ManagerLost => {
                self.pending.clear();
                self.manager_lost = true;
                self.flush_by(now);
            }
            Signal::ManagerBack => {
                self.reload_ends_by = None;
                self.rescan_now(now);
            }
        }
    }

    /// Requests a full scan, because signals were lost.
    pub(super) fn rescan_now(&mut self, now: Instant) {
        self.rescan = true;
        self.flush_by(now);
    }

    /// When [Coalescer::drain_due] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (self.flush_at, self.reload_ends_by) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The events due at `now`, in the order in which they must be handled.
    pub(super) fn drain_due(&mut self, now: Instant) -> Vec<Event> {
        if self.reload_ends_by.is_some_and(|end| end <= now) {
            self.take(Signal::Reloading(false), now);
        }
        if self.flush_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.flush_at = None;
        let mut events = Vec::new();
        if mem::take(&mut self.manager_lost) {
            events.push(Event::ManagerLost);
        }
        // During a reload, systemd unloads and loads units. The scan at the end covers them.
        if self.reload_ends_by.is_some() {
            return events;
        }
        let pending = mem::take(&mut self.pending);
        if mem::take(&mut self.rescan) {
            // The scan queries every unit, including the pending ones.
            events.push(Event::RescanRequired);
            return events;
        }
        events.extend(pending.into_iter().map(|(unit, signal)| match signal {
            LastSignal::Changed => Event::UnitChanged(unit),
            LastSignal::JobDone => Event::JobDone(unit),
            LastSignal::Removed => Event::UnitRemoved(unit),
        }));
        events
    }

    fn record(&mut self, unit: UnitName, signal: LastSignal, now: Instant) {
        if self.reload_ends_by.is_some() {
            return;
        }
        if self.pending.len() >= PENDING_MAX && !self.pending.contains_key(&unit) {
            self.pending.clear();
            self.rescan_now(now);
            return;
        }
        let entry = self.pending.entry(unit).or_insert(signal);
        // "A job ended" must not be replaced by a later "loaded".
        if !(*entry == LastSignal::JobDone && signal == LastSignal::Changed) {
            *entry = signal;
        }
        self.flush_by(after(now, COALESCE_WINDOW));
    }

    fn is_reload_quiet(&self, now: Instant) -> bool {
        self.reload_ends_by.is_some() || self.quiet_until.is_some_and(|end| now < end)
    }

    fn flush_by(&mut self, at: Instant) {
        self.flush_at = Some(self.flush_at.map_or(at, |earlier| earlier.min(at)));
    }
}

fn after(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;
