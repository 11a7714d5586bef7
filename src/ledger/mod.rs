//! The knobs that the daemon changes and how it restores them: per cgroup and knob the original value, the constraint of each
//! policy, and the current value. No I/O and no clock: values and times come with the input.

pub mod admission;
mod knob;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{CgroupId, CgroupPath, CgroupRef};
use crate::policy::action::Knob;
use crate::report::KnobReport;
use crate::source::xattr::KnobRecord;
pub use knob::{Cause, WriteOutcome};
use knob::{Constraint, KnobState};

/// A constraint expires if it is not renewed for this long, so that no knob stays changed because a policy stopped running.
pub const CONSTRAINT_TTL_NS: u64 = 30_000_000_000;

/// An input of the ledger.
#[derive(Debug, Clone)]
pub enum Input {
    /// These policies are attached to a cgroup now, and no others. The constraints of detached policies are removed.
    PoliciesBound {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The policies.
        policies: BTreeSet<String>,
    },
    /// A cgroup was removed.
    CgroupRemoved(CgroupId),
    /// A policy sets or (`None`) releases its constraint of a knob.
    Constrain {
        /// The cgroup.
        cgroup: CgroupId,
        /// The policy's name.
        policy: String,
        /// The knob.
        knob: Knob,
        /// The value after admission.
        value: Option<u64>,
        /// The value that the policy requested, before admission.
        requested: u64,
        /// The current value in the file.
        current: u64,
        /// The cause.
        cause: Cause,
    },
    /// A policy renews its constraint.
    Renew {
        /// The cgroup.
        cgroup: CgroupId,
        /// The policy's name.
        policy: String,
        /// The knob.
        knob: Knob,
        /// The current value in the file.
        current: u64,
    },
    /// The knobs that an earlier daemon recorded on a cgroup, each with the value in its file now. Follows
    /// [`Input::PoliciesBound`].
    Adopt {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The knobs.
        kept: Vec<(KnobRecord, u64)>,
    },
    /// The outcome of a [`Write`].
    WriteDone {
        /// The cgroup.
        cgroup: CgroupId,
        /// The knob.
        knob: Knob,
        /// The outcome.
        outcome: WriteOutcome,
    },
    /// Time has passed: constraints expire, failed writes are repeated.
    Tick,
    /// While paused, all knobs have their original values.
    Pause(bool),
}

/// An effect. Effects are performed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Record on the cgroup the knobs that are changed or about to be changed.
    Record {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// The knobs. If empty, there is nothing left to restore.
        knobs: Vec<KnobRecord>,
    },
    /// Write a knob, unless its value is not one of the expected. Answered by [`Input::WriteDone`]; until then there is no other
    /// write to this knob.
    Write(Write),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// Its path.
    pub path: CgroupPath,
    /// The knob.
    pub knob: Knob,
    /// The values that the file may contain before the write.
    pub expect: Vec<u64>,
    /// The value.
    pub value: u64,
    /// The cause.
    pub cause: Cause,
}

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
        for (knob, state) in &mut self.knobs {
            if let Some((expect, value, cause)) = state.next_write(*knob, paused, now) {
                let path = self.path.clone();
                writes.push(Effect::Write(Write { cgroup, path, knob: *knob, expect, value, cause }));
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
            effects.push(Effect::Record { cgroup, path: self.path.clone(), knobs: records });
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
    cgroups: BTreeMap<CgroupId, CgroupEntry>,
    paused: bool,
}

impl Ledger {
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

    /// True if the cgroup has a policy, or a knob to restore.
    pub fn contains(&self, cgroup: CgroupId) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// The path of the cgroup, if this policy is attached to it.
    pub fn path_if_bound(&self, cgroup: CgroupId, policy: &str) -> Option<&CgroupPath> {
        self.cgroups.get(&cgroup).filter(|entry| entry.policies.contains(policy)).map(|entry| &entry.path)
    }

    /// The value that a policy requested last for a knob, while its constraint exists.
    pub fn requested(&self, cgroup: CgroupId, policy: &str, knob: Knob) -> Option<u64> {
        self.cgroups.get(&cgroup)?.knobs.get(&knob)?.requested(policy)
    }

    /// True if a policy has a constraint of a knob.
    pub fn is_constrained_by(&self, cgroup: CgroupId, policy: &str, knob: Knob) -> bool {
        let entry = self.cgroups.get(&cgroup);
        entry.and_then(|entry| entry.knobs.get(&knob)).is_some_and(|state| state.is_constrained_by(policy))
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
            let (cgroup, path) = (*cgroup, entry.path.clone());
            let restore = move |(knob, state): (&Knob, &KnobState)| {
                let record = state.record(*knob)?;
                let cause = Cause::internal("memcg-bpfd stops");
                let (expect, value) = (record.written, record.original);
                Some(Write { cgroup, path: path.clone(), knob: *knob, expect, value, cause })
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
