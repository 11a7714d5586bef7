//! The guards against harmful actions: limits of values, rate limits, and a limit of one kill for each event. No I/O:
//! the facts about the cgroup are passed in.

use std::collections::{BTreeMap, VecDeque};

use crate::names::{CgroupId, CgroupPath};
use crate::policy::action::{Action, ActionKind, KillScope, Knob, MAX};
use crate::policy::request::Authority;
use crate::text::human_bytes;

/// The lowest memory.high in bytes: a program needs some memory to make progress.
pub const MIN_MEMORY_HIGH: u64 = 4 << 20;
/// A kill or reclaim expires after this time, because the situation has changed since the policy requested it.
const ACTION_TTL_NS: u64 = 5_000_000_000;
/// The reason when such an action is blocked.
pub const EXPIRED_MSG: &str = "expired: queued for more than 5s";
/// The time in which a kill frees memory and the stall ends; actions that were submitted before belong to the same event.
pub const KILL_COOLDOWN_NS: u64 = 1_000_000_000;
/// The longest grace period between SIGTERM and SIGKILL.
pub const MAX_GRACE_NS: u64 = 300_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;

/// The rate limits set by the administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Actions of one cgroup per second.
    pub per_second: u32,
    /// Kills requested by the policies of one cgroup in one minute.
    pub kills_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { per_second: 10, kills_per_minute: 6 }
    }
}

/// The facts about a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// True if memcg-bpfd runs in the cgroup or below it.
    pub contains_daemon: bool,
    /// memory.current in bytes.
    pub usage: u64,
    /// memory.min in bytes.
    pub min: u64,
    /// The effective maximum in bytes.
    pub effective_max: u64,
    /// The page size in bytes.
    pub page: u64,
    /// The authority behind the policy that requests the action.
    pub authority: Authority,
}

/// True if an action requested at `asked` has expired. Times are in nanoseconds on CLOCK_MONOTONIC.
pub fn is_expired(now: u64, asked: u64) -> bool {
    now.saturating_sub(asked) > ACTION_TTL_NS
}

/// The decision of the guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The action is allowed, possibly with a smaller value.
    Allow(ActionKind),
    /// The action is blocked, with the reason.
    Block(String),
}

#[derive(Debug)]
struct Kill {
    path: CgroupPath,
    cgroup: CgroupId,
    began: u64,
    finished: Option<u64>,
    dry_run: bool,
    authority: Authority,
}

impl Kill {
    fn is(&self, cgroup: CgroupId, dry_run: bool, authority: Authority) -> bool {
        self.cgroup == cgroup && self.dry_run == dry_run && self.authority == authority
    }
}

/// The state of the guards.
#[derive(Debug, Default)]
pub struct Admission {
    limits: Limits,
    /// The times of the actions of the last second, with the authority behind them.
    recent: BTreeMap<CgroupId, VecDeque<(u64, Authority)>>,
    kills: VecDeque<Kill>,
}

impl Admission {
    /// The rate limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Counts a kill that the kernel has performed.
    pub fn kill_performed(&mut self, path: &CgroupPath, action: &Action, authority: Authority) {
        self.forget_old_kills(action.time);
        let (path, cgroup, dry_run) = (path.clone(), action.cgroup, action.dry_run);
        let (began, finished) = (action.time, Some(action.time));
        self.kills.push_back(Kill { path, cgroup, began, finished, dry_run, authority });
    }

    fn forget_old_kills(&mut self, now: u64) {
        self.kills.retain(|kill| kill.finished.is_none() || now.saturating_sub(kill.began) < MINUTE_NS);
    }

    /// Sets the rate limits. Previous actions count.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A state with these limits.
    pub fn new(limits: Limits) -> Self {
        Admission { limits, ..Admission::default() }
    }

    /// Decides on an action. Allowed actions count towards the limits.
    pub fn admit(&mut self, now: u64, path: &CgroupPath, action: &Action, facts: &Facts) -> Decision {
        let bounded = match clamp(&action.kind, facts) {
            Ok(kind) => kind,
            Err(why) => return Decision::Block(why),
        };
        // Releasing a constraint is always allowed.
        if matches!(bounded, ActionKind::SetKnob(_, None)) {
            return Decision::Allow(bounded);
        }
        if !matches!(bounded, ActionKind::SetKnob(..)) && is_expired(now, action.time) {
            return Decision::Block(EXPIRED_MSG.to_owned());
        }
        if matches!(bounded, ActionKind::Kill { .. })
            && let Some(why) = self.check_kill_limit(now, path, action, facts.authority)
        {
            return Decision::Block(why);
        }
        if !self.check_rate(now, action.cgroup, facts.authority) {
            let most = self.limits.per_second;
            return Decision::Block(format!("more than {most} actions in a second (PerSecond={most})"));
        }
        if matches!(bounded, ActionKind::Kill { .. }) {
            let (cgroup, dry_run) = (action.cgroup, action.dry_run);
            let (path, authority) = (path.clone(), facts.authority);
            self.kills.push_back(Kill { path, cgroup, began: now, finished: None, dry_run, authority });
        }
        Decision::Allow(bounded)
    }

    /// The kill that was let through is over: the victims are gone, or it failed.
    pub fn kill_finished(&mut self, now: u64, cgroup: CgroupId, dry_run: bool, authority: Authority) {
        let of = |kill: &&mut Kill| kill.is(cgroup, dry_run, authority) && kill.finished.is_none();
        for kill in self.kills.iter_mut().filter(of) {
            kill.finished = Some(now);
        }
    }

    /// The kill that was let through is not done after all, and counts for nothing.
    pub fn kill_cancelled(&mut self, cgroup: CgroupId, dry_run: bool, authority: Authority) {
        self.kills.retain(|kill| !kill.is(cgroup, dry_run, authority) || kill.finished.is_some());
    }

    /// Removes a cgroup.
    pub fn forget(&mut self, cgroup: CgroupId) {
        self.recent.remove(&cgroup);
    }

    /// One event is seen by the policies of a cgroup and by those of the cgroups around it. A kill delays only kills for
    /// the same cgroup or one inside it that have no higher authority.
    fn check_kill_limit(
        &mut self,
        now: u64,
        path: &CgroupPath,
        action: &Action,
        authority: Authority,
    ) -> Option<String> {
        self.forget_old_kills(now);
        // A dry run stands for what would be done if nobody else did anything either.
        let counts = |kill: &&Kill| kill.dry_run == action.dry_run && kill.authority >= authority;
        let kills = || self.kills.iter().filter(counts);
        // A unit that was started again: what its cgroup's predecessor was killed for is not what it waits for.
        let anew = |kill: &&Kill| kill.path == *path && kill.cgroup != action.cgroup;
        for kill in kills().filter(|kill| path.is_within(&kill.path) && !anew(kill)) {
            match kill.finished {
                None => return Some(format!("a kill in {} is in progress", kill.path)),
                Some(over) if action.time < over.saturating_add(KILL_COOLDOWN_NS) => {
                    return Some(format!("a process in {} was already killed for this event", kill.path));
                }
                Some(_) => {}
            }
        }
        let most = self.limits.kills_per_minute;
        let within = kills().filter(|kill| kill.path == *path).count();
        (within >= usize::try_from(most).unwrap_or(usize::MAX))
            .then(|| format!("more than {most} kills in a minute (KillsPerMinute={most})"))
    }

    fn check_rate(&mut self, now: u64, cgroup: CgroupId, authority: Authority) -> bool {
        let recent = self.recent.entry(cgroup).or_default();
        while recent.front().is_some_and(|(then, _)| now.saturating_sub(*then) >= SECOND_NS) {
            recent.pop_front();
        }
        let counted = recent.iter().filter(|(_, of)| *of >= authority).count();
        if counted >= usize::try_from(self.limits.per_second).unwrap_or(usize::MAX) {
            return false;
        }
        recent.push_back((now, authority));
        true
    }
}

/// The action with its value within the limits.
fn clamp(verb: &ActionKind, facts: &Facts) -> Result<ActionKind, String> {
    let page = facts.page.max(1);
    let whole_pages = |bytes: u64| bytes.saturating_sub(bytes.checked_rem(page).unwrap_or(0));
    Ok(match *verb {
        // As in the kernel: rounded down to whole pages, and limited to the largest number of pages.
        ActionKind::SetKnob(Knob::High, Some(MAX)) => ActionKind::SetKnob(Knob::High, None),
        ActionKind::SetKnob(Knob::High, Some(value)) => {
            let floor = MIN_MEMORY_HIGH.max(facts.min).saturating_add(page.saturating_sub(1));
            ActionKind::SetKnob(Knob::High, Some(whole_pages(value.max(floor).min(MAX >> 1))))
        }
        ActionKind::SetKnob(Knob::Low, Some(value)) => {
            ActionKind::SetKnob(Knob::Low, Some(whole_pages(value.min(facts.effective_max))))
        }
        ActionKind::SetKnob(Knob::Freeze, Some(0)) => ActionKind::SetKnob(Knob::Freeze, None),
        ActionKind::SetKnob(Knob::Freeze, Some(_)) if facts.contains_daemon => {
            return Err("memcg-bpfd runs in this cgroup and would be frozen".to_owned());
        }
        ActionKind::SetKnob(Knob::Freeze, Some(1)) => ActionKind::SetKnob(Knob::Freeze, Some(1)),
        ActionKind::SetKnob(Knob::Freeze, Some(other)) => {
            return Err(format!("cgroup.freeze takes 0 and 1, not {other}"));
        }
        ActionKind::SetKnob(knob, None) => ActionKind::SetKnob(knob, None),
        ActionKind::Reclaim { bytes, swappiness } => {
            let bytes = whole_pages(bytes.min(facts.usage));
            if bytes == 0 {
                return Err(format!("nothing to reclaim: memory in use is {}", human_bytes(facts.usage)));
            }
            ActionKind::Reclaim { bytes, swappiness: swappiness.map(|s| s.min(200)) }
        }
        ActionKind::Kill { scope: KillScope::Group, .. } if facts.contains_daemon => {
            return Err("memcg-bpfd runs in this cgroup and would be killed".to_owned());
        }
        ActionKind::Kill { grace_ns, scope, select } => {
            ActionKind::Kill { grace_ns: grace_ns.min(MAX_GRACE_NS), scope, select }
        }
    })
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
