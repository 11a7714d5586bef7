//! The events that follow from systemd's signals.

use crate::names::UnitName;

/// A change of units. Each event means "query again".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A unit was loaded or is being started or stopped: its files may have changed.
    UnitChanged(UnitName),
    /// A job of the unit ended: its cgroup may be a new one, or removed.
    JobDone(UnitName),
    /// A unit was unloaded. Its cgroup may still exist.
    UnitRemoved(UnitName),
    /// Anything may have changed, because of a daemon-reload or because events were lost. A full scan is needed.
    RescanRequired,
    /// PID 1 is no longer on the bus, or the connection ended. [`Event::RescanRequired`] follows when it is back.
    ManagerLost,
}
