//! The shares of unprivileged callers: whose share a call takes, and how many calls a share has left. Root has no
//! limit. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::names::CgroupPath;

/// Calls that a share may make at once, for example when a rootless engine starts many containers.
pub const BURST: u32 = 32;
/// Calls that a share gets back each second. The loop performs a call in milliseconds.
pub const PER_SECOND: u32 = 8;
/// Limit of the number of shares that are remembered. Full buckets are the same as none.
const SHARES_MAX: usize = 1024;

/// Whose share a call takes. One person may have many uids (/etc/subuid), so the uid of a caller is not enough.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// The processes in the slice of this user, whatever their uids are.
    User(u32),
    /// The processes of a unit outside of user.slice, such as a service with `User=`.
    Unit(CgroupPath),
    /// All callers whose cgroup is unknown, because the process that connected has exited. One share: a user can have
    /// thousands of uids whose processes exit.
    Unknown,
    /// A caller of whom only the uid is known, without a bus to ask.
    Uid(u32),
}

impl Share {
    /// The share of a process; `text` is the text of /proc/PID/cgroup.
    pub fn of(text: Option<&str>) -> Share {
        let path = text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::")));
        let Some(path) = path.and_then(|path| CgroupPath::parse(path).ok()) else { return Share::Unknown };
        let user = path.as_str().strip_prefix("/user.slice/user-").and_then(|rest| rest.split_once(".slice"));
        if let Some(user) = user.and_then(|(user, _)| user.parse().ok()) {
            return Share::User(user);
        }
        let is_unit =
            |at: &CgroupPath| [".service", ".scope"].iter().any(|end| at.file_name().ends_with(end));
        let unit = std::iter::successors(Some(path), CgroupPath::parent).filter(is_unit).last();
        unit.map_or(Share::Unknown, Share::Unit)
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Thousandths of calls.
    left: u64,
    at: Instant,
}

const CALL: u64 = 1000;
const FULL: u64 = BURST as u64 * CALL;

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).min(Duration::from_secs(3600));
        let more =
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(u64::from(PER_SECOND));
        // One call a second is one thousandth of a call a millisecond.
        self.left = self.left.saturating_add(more).min(FULL);
        self.at = now;
    }
}

/// The rates of all shares.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: BTreeMap<Share, Bucket>,
}

impl Rates {
    /// Counts a call of the share. False if the share has made too many calls.
    pub fn take(&mut self, share: &Share, now: Instant) -> bool {
        if self.buckets.len() >= SHARES_MAX && !self.buckets.contains_key(share) {
            self.buckets.values_mut().for_each(|bucket| bucket.refill(now));
            self.buckets.retain(|_, bucket| bucket.left < FULL);
            if self.buckets.len() >= SHARES_MAX {
                self.buckets.pop_first();
            }
        }
        let bucket = self.buckets.entry(share.clone()).or_insert(Bucket { left: FULL, at: now });
        bucket.refill(now);
        let left = bucket.left.checked_sub(CALL);
        bucket.left = left.unwrap_or(bucket.left);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_follows_user_slice_not_uid() {
        let of = |_uid: u32, text: &str| Share::of(Some(text));
        let manager = "0::/user.slice/user-1000.slice/user@1000.service/user.slice/x.scope/y\n";
        assert_eq!(of(1000, manager), Share::User(1000));
        assert_eq!(of(165_536, manager), Share::User(1000), "a subordinate uid");
        assert_eq!(of(1000, "0::/user.slice/user-1001.slice/session-4.scope\n"), Share::User(1001));
        let unit = |path: &str| Share::Unit(CgroupPath::parse(path).unwrap());
        let nested = "0::/system.slice/web.service/payload/x.service\n";
        assert_eq!(of(33, nested), unit("/system.slice/web.service"));
        assert_eq!(of(100_033, nested), unit("/system.slice/web.service"));
        assert_eq!(of(7, "0::/\n"), Share::Unknown);
        assert_eq!(of(7, "0::/user.slice/user-x.slice\n"), Share::Unknown);
        assert_eq!(Share::of(None), Share::Unknown);
    }

    #[test]
    fn share_has_burst_and_rate_of_its_own() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let (one, other) = (Share::User(1000), Share::User(1001));
        let burst =
            |rates: &mut Rates, share: &Share, now| (0..1000).filter(|_| rates.take(share, now)).count();
        assert_eq!(burst(&mut rates, &one, start), 32);
        assert_eq!(burst(&mut rates, &other, start), 32, "another share has its own");
        let later = start + Duration::from_millis(1500);
        assert_eq!(burst(&mut rates, &one, later), 12);
        assert_eq!(burst(&mut rates, &one, later + Duration::from_secs(86_400)), 32, "not more than a burst");
        assert_eq!(burst(&mut rates, &one, start), 0, "time does not run backwards");
    }

    #[test]
    fn number_of_shares_is_bounded() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        for user in 0..3000 {
            assert!(rates.take(&Share::User(user), start));
            assert!(rates.buckets.len() <= SHARES_MAX);
        }
        let later = start + Duration::from_secs(60);
        assert!(rates.take(&Share::User(9999), later));
        assert_eq!(rates.buckets.len(), 1, "full buckets are forgotten");
    }
}
