//! The knobs that the daemon changes and how it restores them: per cgroup and knob the original value, the constraint of each
//! policy, and the current value. No I/O and no clock: values and times come with the input.

pub mod admission;
mod input;
mod knob;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{CgroupId, CgroupPath, CgroupRef};
use crate::policy::action::{Action, ActionKind, Knob};
use crate::policy::request::Authority;
use crate::report::KnobReport;
use crate::source::xattr::KnobRecord;
use admission::{Admission, Decision, Facts, Limits};
pub use input::{Effect, Input, Submitted, Write};
pub use knob::{Cause, WriteOutcome};
use knob::{Constraint, KnobState};

/// A constraint expires if it is not renewed for this long, so that no knob stays changed because a policy stopped running.
pub const CONSTRAINT_TTL_NS: u64 = 30_000_000_000;

#[derive(Debug)]
struct CgroupEntry {
    path: CgroupPath,
    policies: BTreeSet<String>,
    knobs: BTreeMap<Knob, KnobState>,
    recorded: Vec<KnobRecord>,
}

impl CgroupEntry {
    fn new(path: CgroupPath) -> Self {
        CgroupEntry { path, policies: BTreeSet::new(), knobs: BTreeMap::new(), recorded: Vec::new() }
    }

    /// Adopts recorded knobs that are not known yet.
    fn adopt(&mut self, kept: Vec<(KnobRecord, u64)>, expires: u64) {
        for (record, current) in kept {
            if self.knobs.contains_key(&record.knob) {
                continue;
            }
            if let Some(state) = KnobState::adopt(&record, current, expires, &self.policies) {
                self.knobs.insert(record.knob, state);
            }
            self.recorded.push(record);
        }
    }

    /// Returns the record and the writes that lead to the values that should be in the files, the record first.
    fn reconcile(&mut self, cgroup: CgroupId, paused: bool, now: u64, effects: &mut Vec<Effect>) {
        let mut writes = Vec::new();
        let at = CgroupRef { id: cgroup, path: self.path.clone() };
        for (knob, state) in &mut self.knobs {
            if let Some((expect, value, cause)) = state.next_write(*knob, paused, now) {
                let cgroup = at.clone();
                writes.push(Effect::Write(Write { cgroup, knob: *knob, expect, value, cause }));
            }
        }
        self.knobs.retain(|_, state| !state.is_idle());
        let records: Vec<KnobRecord> =
            self.knobs.iter().filter_map(|(knob, state)| state.record(*knob)).collect();
        let written = |all: &[KnobRecord]| -> Vec<(Knob, u64, Vec<u64>)> {
            all.iter().map(|r| (r.knob, r.original, r.written.clone())).collect()
        };
        if written(&records) != written(&self.recorded) {
            self.recorded.clone_from(&records);
            effects.push(Effect::Record { cgroup: at, knobs: records });
        }
        effects.extend(writes);
    }
}

/// The cgroups that an input changed.
enum Changed {
    Cgroup(CgroupId),
    All,
}

/// The knobs of all cgroups.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The guards.
    pub admission: Admission,
    cgroups: BTreeMap<CgroupId, CgroupEntry>,
    paused: bool,
}

impl Ledger {
    /// A ledger without constraints, with these rate limits of actions.
    pub fn new(limits: Limits) -> Self {
        Ledger { admission: Admission::new(limits), ..Ledger::default() }
    }

    /// Takes one input and returns the effects to perform.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Effect> {
        let changed = self.update(now, input);
        let mut effects = Vec::new();
        let idle = |entry: &CgroupEntry| entry.knobs.is_empty() && entry.policies.is_empty();
        match changed {
            Changed::Cgroup(cgroup) => {
                if let Some(entry) = self.cgroups.get_mut(&cgroup) {
                    entry.reconcile(cgroup, self.paused, now, &mut effects);
                }
                if self.cgroups.get(&cgroup).is_some_and(idle) {
                    self.cgroups.remove(&cgroup);
                }
            }
            Changed::All => {
                for (cgroup, entry) in &mut self.cgroups {
                    entry.reconcile(*cgroup, self.paused, now, &mut effects);
                }
                self.cgroups.retain(|_, entry| !idle(entry));
            }
        }
        effects
    }

    /// Decides on an action that a policy requests, and sets the constraint of its knob. `observe` reads the facts about
    /// the cgroup, and the value of the knob if there is one; `None` if the cgroup was removed.
    pub fn submit(
        &mut self,
        now: u64,
        action: &Action,
        observe: impl FnOnce(&CgroupRef, Option<Knob>) -> Option<(Facts, Option<u64>)>,
    ) -> (Submitted, Vec<Effect>) {
        let (cgroup, policy) = (action.cgroup, &action.policy);
        let entry = self.cgroups.get(&cgroup).filter(|entry| entry.policies.contains(policy));
        let Some(entry) = entry else { return (Submitted::Stale, Vec::new()) };
        let requested = match action.kind {
            ActionKind::SetKnob(knob, value) => Some((knob, value)),
            _ => None,
        };
        let state = requested.and_then(|(knob, _)| entry.knobs.get(&knob));
        let is_renewal = match requested {
            Some((_, Some(value))) if !action.dry_run => {
                state.and_then(|state| state.requested(policy)) == Some(value)
            }
            Some((_, None)) if !action.dry_run && !state.is_some_and(|s| s.is_constrained_by(policy)) => {
                return (Submitted::Unchanged, Vec::new());
            }
            _ => false,
        };
        let path = entry.path.clone();
        let at = CgroupRef { id: cgroup, path: path.clone() };
        let observed = observe(&at, requested.map(|(knob, _)| knob));
        let (facts, current) = match observed {
            Some((facts, current)) => (facts, current),
            None if is_renewal => return (Submitted::Unchanged, Vec::new()),
            None => return (Submitted::Stale, Vec::new()),
        };
        if is_renewal {
            let effects = match (requested, current) {
                (Some((knob, _)), Some(current)) => {
                    let policy = policy.clone();
                    self.step(now, Input::Renew { cgroup, policy, knob, current })
                }
                _ => Vec::new(),
            };
            return (Submitted::Unchanged, effects);
        }
        let kind = match self.admission.admit(now, &path, action, &facts) {
            Decision::Block(why) => return (Submitted::Blocked(path, why), Vec::new()),
            Decision::Allow(kind) => kind,
        };
        let ActionKind::SetKnob(knob, value) = kind else {
            return (Submitted::Allowed(path, kind, facts), Vec::new());
        };
        let Some(current) = current else { return (Submitted::Stale, Vec::new()) };
        let cause = Cause { policy: policy.clone(), reason: action.reason(), numbers: action.numbers };
        let requested = requested.and_then(|(_, value)| value).unwrap_or(0);
        // A constraint from before mode=dry-run is released.
        let (set, requested) = if action.dry_run { (None, 0) } else { (value, requested) };
        let policy = policy.clone();
        let constrain = Input::Constrain { cgroup, policy, knob, value: set, requested, current, cause };
        (Submitted::Constrained { path, knob, value, current }, self.step(now, constrain))
    }

    /// Applies an input to the state of the knobs, without any effect yet.
    fn update(&mut self, now: u64, input: Input) -> Changed {
        let expires = now.saturating_add(CONSTRAINT_TTL_NS);
        match input {
            Input::PoliciesBound { cgroup: CgroupRef { id: cgroup, path }, policies } => {
                let entry = self.cgroups.entry(cgroup).or_insert_with(|| CgroupEntry::new(path));
                for state in entry.knobs.values_mut() {
                    state.retain_policies(&policies);
                }
                entry.policies = policies;
                Changed::Cgroup(cgroup)
            }
            Input::CgroupRemoved(cgroup) => {
                self.cgroups.remove(&cgroup);
                Changed::Cgroup(cgroup)
            }
            Input::Constrain { cgroup, policy, knob, value, requested, current, cause } => {
                if let Some(entry) = self.cgroups.get_mut(&cgroup).filter(|e| e.policies.contains(&policy)) {
                    let state = entry.knobs.entry(knob).or_insert_with(|| KnobState::new(current));
                    state.observe(current);
                    let constraint =
                        value.map(|value| Constraint { value, requested, expires, adopted: false });
                    state.constrain(policy, constraint, cause);
                }
                Changed::Cgroup(cgroup)
            }
            Input::Renew { cgroup, policy, knob, current } => {
                let entry = self.cgroups.get_mut(&cgroup);
                if let Some(state) = entry.and_then(|entry| entry.knobs.get_mut(&knob)) {
                    state.observe(current);
                    state.renew(&policy, expires);
                }
                Changed::Cgroup(cgroup)
            }
            Input::Adopt { cgroup: CgroupRef { id: cgroup, path }, kept } => {
                let entry = self.cgroups.entry(cgroup).or_insert_with(|| CgroupEntry::new(path));
                entry.adopt(kept, expires);
                Changed::Cgroup(cgroup)
            }
            Input::WriteDone { cgroup, knob, outcome } => {
                if let Some(entry) = self.cgroups.get_mut(&cgroup) {
                    match (outcome, entry.knobs.get_mut(&knob)) {
                        (WriteOutcome::Removed, _) => drop(entry.knobs.remove(&knob)),
                        (outcome, Some(state)) => state.write_done(outcome, now),
                        (_, None) => {}
                    }
                }
                Changed::Cgroup(cgroup)
            }
            Input::Tick => {
                self.knobs_mut().for_each(|state| state.expire(now));
                Changed::All
            }
            Input::Pause(paused) => {
                self.paused = paused;
                let cause =
                    Cause::internal(if paused { "actions are paused" } else { "actions are resumed" });
                self.knobs_mut().for_each(|state| state.set_cause(cause.clone()));
                Changed::All
            }
        }
    }

    fn knobs_mut(&mut self) -> impl Iterator<Item = &mut KnobState> {
        self.cgroups.values_mut().flat_map(|entry| entry.knobs.values_mut())
    }

    /// Counts a kill that the kernel has performed. Returns the path of the cgroup. If the kill has ended the unit,
    /// the cgroup is removed, and only the last part of the path is known.
    pub fn kill_performed(&mut self, action: &Action, unit: &str, authority: Authority) -> CgroupPath {
        let known = self.cgroups.get(&action.cgroup).map(|entry| entry.path.clone());
        let path =
            known.or_else(|| CgroupPath::parse(&format!("/{unit}")).ok()).unwrap_or_else(CgroupPath::root);
        self.admission.kill_performed(&path, action, authority);
        path
    }

    /// True if the cgroup has a policy, or a knob to restore.
    pub fn contains(&self, cgroup: CgroupId) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// The time at which [`Input::Tick`] is due; `None` if there is nothing to wait for.
    pub fn due(&self) -> Option<u64> {
        self.cgroups
            .values()
            .flat_map(|entry| entry.knobs.iter())
            .filter_map(|(k, a)| a.due(*k, self.paused))
            .min()
    }

    /// The writes that restore all knobs during a stop, which are not answered by inputs.
    pub fn restore_writes(&self) -> Vec<Write> {
        let of = |(cgroup, entry): (&CgroupId, &CgroupEntry)| {
            let cgroup = CgroupRef { id: *cgroup, path: entry.path.clone() };
            let restore = move |(knob, state): (&Knob, &KnobState)| {
                Some(Write::restoring(&cgroup, &state.record(*knob)?, "memcg-bpfd stops"))
            };
            entry.knobs.iter().filter_map(restore).collect::<Vec<_>>()
        };
        self.cgroups.iter().flat_map(of).collect()
    }

    /// The knobs of a cgroup that have constraints.
    pub fn describe(&self, cgroup: CgroupId) -> Vec<KnobReport> {
        let entry = self.cgroups.get(&cgroup);
        entry.map(|b| b.knobs.iter().map(|(k, a)| a.report(*k)).collect()).unwrap_or_default()
    }
}
