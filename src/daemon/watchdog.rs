//! Notifies the watchdog of systemd while the loop runs.

use std::time::Duration;

use sd_notify::NotifyState;

/// When the next sign of life is due; never without `WatchdogSec=`.
pub(super) struct Watchdog {
    ticks: Option<tokio::time::Interval>,
}

impl Watchdog {
    /// Twice as often as systemd wants it (sd_watchdog_enabled(3)).
    pub fn new() -> Self {
        let every = sd_notify::watchdog_enabled().and_then(|limit| limit.checked_div(2));
        let ticks = every.filter(|every| *every > Duration::ZERO).map(|every| {
            let mut ticks = tokio::time::interval(every);
            // After a long turn of the loop one sign of life is enough.
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        });
        Watchdog { ticks }
    }

    /// Returns when a sign of life is due.
    pub async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => drop(ticks.tick().await),
            None => std::future::pending().await,
        }
    }

    /// The sign of life.
    pub fn notify(&self) {
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::debug!(%error, "notifying the watchdog");
        }
    }
}
