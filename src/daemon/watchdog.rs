//! Notifies the watchdog of systemd while the loop runs.

use std::time::Duration;

use sd_notify::NotifyState;

/// The times of watchdog notifications. There are none without `WatchdogSec=`.
pub(super) struct Watchdog {
    ticks: Option<tokio::time::Interval>,
}

impl Watchdog {
    /// The interval is half of `WatchdogSec=` (sd_watchdog_enabled(3)).
    pub fn new() -> Self {
        let every = sd_notify::watchdog_enabled().and_then(|limit| limit.checked_div(2));
        let ticks = every.filter(|every| *every > Duration::ZERO).map(|every| {
            let mut ticks = tokio::time::interval(every);
            // Missed notifications are not repeated.
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        });
        Watchdog { ticks }
    }

    /// Returns when a notification is due.
    pub async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => drop(ticks.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Notifies the watchdog.
    pub fn notify(&self) {
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::debug!(%error, "notifying the watchdog");
        }
    }
}
