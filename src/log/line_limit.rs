//! Limits the journal lines about attached and detached policies. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::names::CgroupPath;

/// Lines of one user, or about one cgroup, in each [`SPAN`]: more than a person reads, and than a unit that restarts
/// causes.
pub const LINES_MAX: u64 = 30;
/// The span in which lines are counted.
pub const SPAN: Duration = Duration::from_secs(60);
/// Limit of the number of users and cgroups that are counted. Beyond it the oldest is forgotten.
const COUNTED_MAX: usize = 1000;

/// The lines of one user or about one cgroup.
#[derive(Debug)]
struct Count {
    began: Instant,
    lines: u64,
    left_out: u64,
}

/// The lines of all users and cgroups in the current spans.
#[derive(Debug, Default)]
pub struct LineLimit {
    counts: BTreeMap<String, Count>,
}

impl LineLimit {
    /// Counts a line about a cgroup. False if it is left out.
    pub fn admit(&mut self, path: &CgroupPath, now: Instant) -> bool {
        if self.counts.len() >= COUNTED_MAX && !self.counts.contains_key(subject(path)) {
            let oldest = self.counts.iter().min_by_key(|(_, count)| (count.left_out, count.began));
            let oldest = oldest.map(|(subject, _)| subject.clone());
            oldest.and_then(|subject| self.counts.remove(&subject));
        }
        let fresh = Count { began: now, lines: 0, left_out: 0 };
        let count = self.counts.entry(subject(path).to_owned()).or_insert(fresh);
        if count.lines < LINES_MAX {
            count.lines = count.lines.saturating_add(1);
            return true;
        }
        count.left_out = count.left_out.saturating_add(1);
        false
    }

    /// When [`LineLimit::expire`] is due: the end of the first span.
    pub fn due(&self) -> Option<Instant> {
        self.counts.values().filter_map(|count| count.began.checked_add(SPAN)).min()
    }

    /// Ends the spans that are over. Returns the users' slices and the cgroups of which lines were left out, and how
    /// many.
    pub fn expire(&mut self, now: Instant) -> Vec<(String, u64)> {
        let is_over = |count: &Count| now.saturating_duration_since(count.began) >= SPAN;
        let over = self.counts.iter().filter(|(_, count)| is_over(count) && count.left_out > 0);
        let left_out = over.map(|(subject, count)| (subject.clone(), count.left_out)).collect();
        self.counts.retain(|_, count| !is_over(count));
        left_out
    }
}

/// Whose lines those about a cgroup are: of the user's slice, because a user can make any number of cgroups, or of the
/// cgroup itself.
fn subject(path: &CgroupPath) -> &str {
    let path = path.as_str();
    let user = path.strip_prefix("/user.slice/user-").and_then(|rest| rest.split_once(".slice/"));
    user.and_then(|(_, rest)| path.strip_suffix(rest)).map_or(path, |slice| slice.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap()
    }

    #[test]
    fn lines_of_one_user_are_limited_and_counted() {
        let (mut limit, start) = (LineLimit::default(), Instant::now());
        let of_user = |user: u32, n: u64| {
            path(&format!("/user.slice/user-{user}.slice/user@{user}.service/app.slice/{n}.scope"))
        };
        assert_eq!((0..100).filter(|n| limit.admit(&of_user(1000, *n), start)).count(), 30);
        assert!(limit.admit(&of_user(1001, 1), start), "another user has lines of their own");
        let unit = path("/system.slice/x.service");
        assert_eq!((0..40).filter(|_| limit.admit(&unit, start)).count(), 30);
        assert!(limit.admit(&path("/system.slice/y.service"), start));
        assert_eq!(limit.expire(start + SPAN / 2), []);
        assert_eq!(limit.due(), Some(start + SPAN));
        let left_out =
            [("/system.slice/x.service".to_owned(), 10), ("/user.slice/user-1000.slice".to_owned(), 70)];
        assert_eq!(limit.expire(start + SPAN), left_out);
        assert_eq!(limit.due(), None);
        assert!(limit.admit(&of_user(1000, 1), start + SPAN), "a new span");
    }

    #[test]
    fn number_of_counted_cgroups_is_bounded_and_keeps_what_was_left_out() {
        let (mut limit, start) = (LineLimit::default(), Instant::now());
        let noisy = path("/noisy");
        assert_eq!((0..31).filter(|_| limit.admit(&noisy, start)).count(), 30);
        for n in 0..3000 {
            assert!(limit.admit(&path(&format!("/{n}")), start));
        }
        assert!(limit.counts.len() <= COUNTED_MAX);
        assert_eq!(limit.expire(start + SPAN), [("/noisy".to_owned(), 1)]);
    }
}
