//! Programs stay attached for some seconds after their last use: attaching and detaching a tracing program changes the
//! kernel's code on all CPUs, and a caller that attaches and detaches a policy in turns must not cause that each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::engine::AttachSet;

/// How long programs stay attached after their last use.
const AFTER: Duration = Duration::from_secs(10);

/// What is attached, and until when.
#[derive(Debug, Default)]
pub struct Linger {
    required: AttachSet,
    policies: BTreeMap<String, Instant>,
    counting: BTreeMap<String, Instant>,
    cgroup_events: Option<Instant>,
}

impl Linger {
    /// What to attach if `set` is required.
    pub fn set(&mut self, set: &AttachSet, now: Instant) -> AttachSet {
        let until = now.checked_add(AFTER).unwrap_or(now);
        let previous = std::mem::replace(&mut self.required, set.clone());
        keep(&mut self.policies, &previous.policies, &set.policies, until);
        keep(&mut self.counting, &previous.counting, &set.counting, until);
        if set.cgroup_events {
            self.cgroup_events = None;
        } else if previous.cgroup_events {
            self.cgroup_events = Some(until);
        }
        self.drop_expired(now);
        self.attached()
    }

    /// When a program is to be detached next.
    pub fn due(&self) -> Option<Instant> {
        self.policies.values().chain(self.counting.values()).chain(&self.cgroup_events).min().copied()
    }

    /// What to attach after the expiry of a program; `None` if no program expired.
    pub fn expire(&mut self, now: Instant) -> Option<AttachSet> {
        self.drop_expired(now).then(|| self.attached())
    }

    /// What to attach if nothing stays attached after its last use.
    pub fn end(&mut self) -> AttachSet {
        (self.policies, self.counting, self.cgroup_events) = Default::default();
        self.required.clone()
    }

    fn drop_expired(&mut self, now: Instant) -> bool {
        let before = self.due();
        self.policies.retain(|_, until| *until > now);
        self.counting.retain(|_, until| *until > now);
        self.cgroup_events = self.cgroup_events.filter(|until| *until > now);
        before.is_some_and(|due| due <= now)
    }

    fn attached(&self) -> AttachSet {
        let mut set = self.required.clone();
        set.policies.extend(self.policies.keys().cloned());
        set.counting.extend(self.counting.keys().cloned());
        set.cgroup_events |= self.cgroup_events.is_some();
        set
    }
}

fn keep(
    kept: &mut BTreeMap<String, Instant>,
    previous: &BTreeSet<String>,
    required: &BTreeSet<String>,
    until: Instant,
) {
    kept.extend(previous.difference(required).map(|name| (name.clone(), until)));
    kept.retain(|name, _| !required.contains(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(policies: &[&str]) -> AttachSet {
        let names: BTreeSet<String> = policies.iter().map(|name| (*name).to_owned()).collect();
        AttachSet {
            counting: names.clone(),
            cgroup_events: !names.is_empty(),
            policies: names,
            report_all_cgroups: false,
        }
    }

    #[test]
    fn attach_and_detach_in_turns_changes_no_program() {
        let (mut linger, mut now) = (Linger::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(linger.set(&set(&["deny"]), now), set(&["deny"]));
            assert_eq!(linger.due(), None);
            now += Duration::from_secs(9);
            assert_eq!(linger.set(&set(&[]), now), set(&["deny"]));
            now += Duration::from_secs(9);
        }
        assert_eq!(linger.expire(now), None);
        assert_eq!(linger.due(), Some(now + Duration::from_secs(1)));
        assert_eq!(linger.expire(now + Duration::from_secs(1)), Some(set(&[])));
        assert_eq!((linger.due(), linger.expire(now + AFTER * 2)), (None, None));
    }

    #[test]
    fn each_policy_expires_by_itself_and_a_stop_ends_all() {
        let (mut linger, start) = (Linger::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        linger.set(&set(&["deny", "oom", "protect"]), start);
        assert_eq!(linger.set(&set(&["oom", "protect"]), at(1)), set(&["deny", "oom", "protect"]));
        assert_eq!(linger.set(&set(&["protect"]), at(5)), set(&["deny", "oom", "protect"]));
        assert_eq!(linger.expire(at(12)), Some(set(&["oom", "protect"])));
        assert_eq!(linger.set(&set(&[]), at(13)), set(&["oom", "protect"]));
        assert_eq!(linger.end(), set(&[]));
        assert_eq!(linger.due(), None);
    }
}
