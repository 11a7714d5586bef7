//! From systemd's signals to the few events the daemon needs: reload storms become one event, changes are coalesced per unit.
//! No I/O and no clock: time comes in with each signal.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use super::event::Event;
use crate::names::UnitName;

/// How long changes of units are coalesced: long enough to merge the signals of one start, short against the start.
pub(super) const COALESCE_WINDOW: Duration = Duration::from_millis(20);
/// A reload that never reports its end (PID 1 crashed or re-executed) counts as ended after this time.
pub(super) const RELOAD_MAX: Duration = Duration::from_secs(30);
/// After a reload systemd announces every unit anew; within this time such an announcement is no signal.
pub(super) const RELOAD_QUIET: Duration = Duration::from_millis(500);
/// Pending units; beyond, one full rescan is cheaper than asking for each.
pub(super) const PENDING_MAX: usize = 1024;

/// What a signal of systemd says, already parsed. Units that cannot carry a policy do not get here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    UnitNew(UnitName),
    UnitRemoved(UnitName),
    JobNew(UnitName),
    JobRemoved(UnitName),
    Reloading(bool),
    UnitFilesChanged,
    /// PID 1 left the bus.
    ManagerLost,
    /// PID 1 is (again) on the bus.
    ManagerBack,
}

/// The last signal of a unit. One event per unit is enough, because each of them means "query again".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastSignal {
    Changed,
    JobDone,
    Removed,
}

/// Gathers signals until they are worth an event.
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
    /// Takes one signal in.
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

    /// Asks for a full rescan: something was missed.
    pub(super) fn rescan_now(&mut self, now: Instant) {
        self.rescan = true;
        self.flush_by(now);
    }

    /// When [Coalescer::drain_due] will have something to say.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (self.flush_at, self.reload_ends_by) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The events due at `now`, in the order in which they should be handled.
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
        // While systemd reloads, units are freed and made anew: the rescan at the end sees them all.
        if self.reload_ends_by.is_some() {
            return events;
        }
        let pending = mem::take(&mut self.pending);
        if mem::take(&mut self.rescan) {
            // The rescan looks at every unit, so it covers all pending ones.
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
        // "A job ended" says more than "loaded": it must not be hidden by a later announcement.
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
