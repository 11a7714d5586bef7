//! The kills by the kernel's OOM killer that the daemon has reported.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::actuator::clock;
use crate::names::CgroupPath;
use crate::report::oom_kill::OomKill;

/// Kills that are remembered: a machine with more of them in memory has another problem.
const KILLS_MAX: usize = 256;

/// The last kills, the latest last.
#[derive(Debug, Default)]
pub struct OomKillHistory {
    kills: VecDeque<OomKill>,
}

impl OomKillHistory {
    /// Sets the time of a kill, and returns its age in nanoseconds.
    pub fn date(kill: &mut OomKill) -> u64 {
        let age = clock::now().saturating_sub(kill.monotonic_ns);
        kill.time_us = realtime_us().saturating_sub(age.checked_div(1000).unwrap_or(0));
        age
    }

    /// True if the kill is remembered: the programs of the previous daemon and of this one record the same kill while
    /// both are attached.
    pub fn is_known(&self, kill: &OomKill) -> bool {
        self.kills.iter().any(|known| {
            let age = known.monotonic_ns.abs_diff(kill.monotonic_ns);
            known.victim.pid == kill.victim.pid && age < SAME_NS
        })
    }

    /// Remembers a kill.
    pub fn add(&mut self, kill: OomKill) {
        if self.kills.len() >= KILLS_MAX {
            self.kills.pop_front();
        }
        self.kills.push_back(kill);
    }

    /// The remembered kills that concern a cgroup, the latest last. The process at fault is named only if it is in the
    /// cgroup, because the owner of a cgroup need not see the processes of others.
    pub fn of(&self, cgroup: &CgroupPath) -> Vec<OomKill> {
        let concerned = self.kills.iter().filter(|kill| kill.concerns(cgroup));
        concerned.map(|kill| kill.seen_from(cgroup)).collect()
    }
}

/// Two records of one kill are made by two programs at the same function. A process id is not reused so soon.
const SAME_NS: u64 = 1_000_000_000;

/// Microseconds since 1970.
fn realtime_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| u64::try_from(since.as_micros()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::oom_kill::OomProcess;

    fn kill(pid: u32, monotonic_ns: u64) -> OomKill {
        OomKill { monotonic_ns, victim: OomProcess { pid, ..OomProcess::default() }, ..OomKill::default() }
    }

    #[test]
    fn kill_recorded_by_two_programs_is_reported_once() {
        let mut history = OomKillHistory::default();
        history.add(kill(7, 100));
        assert!(history.is_known(&kill(7, 90)) && history.is_known(&kill(7, 110)));
        assert!(!history.is_known(&kill(8, 100)));
        assert!(!history.is_known(&kill(7, 101 + SAME_NS)), "the process id is reused");
    }

    #[test]
    fn history_is_bounded() {
        let mut history = OomKillHistory::default();
        for pid in 0..1000 {
            history.add(kill(pid, 1));
        }
        let pids: Vec<u32> = history.of(&CgroupPath::root()).iter().map(|kill| kill.victim.pid).collect();
        assert_eq!((pids.len(), pids.first(), pids.last()), (KILLS_MAX, Some(&744), Some(&999)));
    }
}
