//! From systemd's signals to the few events the daemon needs: reload storms swallowed, changes gathered per unit.
//! No I/O and no clock: time comes in with each signal.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use super::watch::Event;
use crate::names::UnitName;

/// How long changes of units are gathered: long enough to merge the signals of one start, short against the start.
pub(super) const GATHER: Duration = Duration::from_millis(20);
/// A reload that never reports its end (PID 1 crashed or re-executed) counts as ended after this time.
pub(super) const RELOAD_MAX: Duration = Duration::from_secs(30);
/// After a reload systemd announces every unit anew; within this time such an announcement is no news.
pub(super) const SETTLE: Duration = Duration::from_millis(500);
/// Units gathered at once; beyond, one full rescan is cheaper than asking for each.
pub(super) const GATHERED_MAX: usize = 1024;

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

/// The last thing heard of a unit. One event per unit is enough: each of them means "look again".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Changed,
    JobDone,
    Gone,
}

/// Gathers signals until they are worth an event.
#[derive(Debug, Default)]
pub(super) struct Digest {
    gathered: BTreeMap<UnitName, News>,
    flush_at: Option<Instant>,
    reload_ends_by: Option<Instant>,
    settled_at: Option<Instant>,
    rescan: bool,
    manager_lost: bool,
}

impl Digest {
    /// Takes one signal in.
    pub(super) fn take(&mut self, signal: Signal, now: Instant) {
        match signal {
            Signal::UnitNew(unit) if !self.settling(now) => self.gather(unit, News::Changed, now),
            Signal::UnitRemoved(unit) if !self.settling(now) => self.gather(unit, News::Gone, now),
            Signal::UnitNew(_) | Signal::UnitRemoved(_) => {}
            Signal::JobNew(unit) => self.gather(unit, News::Changed, now),
            Signal::JobRemoved(unit) => self.gather(unit, News::JobDone, now),
            Signal::Reloading(true) => {
                self.reload_ends_by = Some(after(now, RELOAD_MAX));
                self.gathered.clear();
                self.flush_at = None;
            }
            Signal::Reloading(false) => {
                self.reload_ends_by = None;
                self.settled_at = Some(after(now, SETTLE));
                self.rescan_now(now);
            }
            Signal::UnitFilesChanged => {
                self.rescan = true;
                self.flush_by(after(now, GATHER));
            }
            Signal::ManagerLost => {
                self.gathered.clear();
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

    /// When [`Digest::ready`] will have something to say.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (self.flush_at, self.reload_ends_by) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The events due at `now`, in the order in which they should be handled.
    pub(super) fn ready(&mut self, now: Instant) -> Vec<Event> {
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
        let gathered = mem::take(&mut self.gathered);
        if mem::take(&mut self.rescan) {
            // The rescan looks at every unit, so it covers what was gathered.
            events.push(Event::Reloaded);
            return events;
        }
        events.extend(gathered.into_iter().map(|(unit, news)| match news {
            News::Changed => Event::UnitChanged(unit),
            News::JobDone => Event::JobDone(unit),
            News::Gone => Event::UnitGone(unit),
        }));
        events
    }

    fn gather(&mut self, unit: UnitName, news: News, now: Instant) {
        if self.reload_ends_by.is_some() {
            return;
        }
        if self.gathered.len() >= GATHERED_MAX && !self.gathered.contains_key(&unit) {
            self.gathered.clear();
            self.rescan_now(now);
            return;
        }
        let entry = self.gathered.entry(unit).or_insert(news);
        // "A job ended" says more than "loaded": it must not be hidden by a later announcement.
        if !(*entry == News::JobDone && news == News::Changed) {
            *entry = news;
        }
        self.flush_by(after(now, GATHER));
    }

    fn settling(&self, now: Instant) -> bool {
        self.reload_ends_by.is_some() || self.settled_at.is_some_and(|end| now < end)
    }

    fn flush_by(&mut self, at: Instant) {
        self.flush_at = Some(self.flush_at.map_or(at, |earlier| earlier.min(at)));
    }
}

fn after(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
