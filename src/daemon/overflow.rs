//! Events and actions that were dropped because a ring buffer was full: the kernel counts them, and the daemon logs
//! them.

/// Minimum interval between two log messages.
const LOG_INTERVAL_NS: u64 = 60_000_000_000;

/// The losses since the start of the daemon that are already handled.
#[derive(Debug, Default)]
pub struct OverflowStats {
    events: u64,
    actions: u64,
    logged: Option<u64>,
}

impl OverflowStats {
    /// Number of events lost since the last call.
    pub fn events(&mut self, all: u64) -> u64 {
        all.saturating_sub(std::mem::replace(&mut self.events, all))
    }

    /// Number of lost actions to log: those since the last log message.
    pub fn actions(&mut self, all: u64, now: u64) -> Option<u64> {
        let more = all.checked_sub(self.actions).filter(|more| *more > 0)?;
        if self.logged.is_some_and(|logged| now.saturating_sub(logged) < LOG_INTERVAL_NS) {
            return None;
        }
        (self.actions, self.logged) = (all, Some(now));
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_events_are_new_once() {
        let mut stats = OverflowStats::default();
        assert_eq!([0, 3, 3, 10].map(|all| stats.events(all)), [0, 3, 0, 7]);
    }

    #[test]
    fn lost_actions_are_logged_once_a_minute_and_completely() {
        let mut stats = OverflowStats::default();
        let second = 1_000_000_000;
        assert_eq!(stats.actions(0, second), None);
        assert_eq!(stats.actions(5, 2 * second), Some(5));
        assert_eq!(stats.actions(5, 3 * second), None);
        assert_eq!(stats.actions(9, 4 * second), None, "so soon");
        assert_eq!(stats.actions(9, 62 * second), Some(4));
        assert_eq!(stats.actions(9, 200 * second), None);
    }
}
