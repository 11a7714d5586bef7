//! What we changed in the files of cgroups and how it is put back: per cgroup and knob the value found, what each
//! policy wants, and what is in force. No I/O and no clock: values and times come with the input.

pub mod admission;
mod knob;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{CgroupId, CgroupPath};
use crate::policy::action::Knob;
use crate::report::KnobReport;
use crate::source::xattr::KnobRecord;
pub use knob::Cause;
use knob::{Constraint, KnobState};

/// A want that was not asked for again for so long lapses: nothing stays changed because a program went quiet.
pub const CONSTRAINT_TTL_NS: u64 = 30_000_000_000;

/// Something happened or was asked for.
#[derive(Debug, Clone)]
pub enum Input {
    /// These policies are in force on a cgroup now, and no others. Those that went take their wants with them.
    PoliciesBound {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// Their names.
        policies: BTreeSet<String>,
    },
    /// A cgroup is gone.
    CgroupRemoved(CgroupId),
    /// A policy wants a knob at least so strict, or (`None`) does not any more.
    Constrain {
        /// The cgroup.
        cgroup: CgroupId,
        /// The policy's name.
        policy: String,
        /// The knob.
        knob: Knob,
        /// How strict.
        value: Option<u64>,
        /// What the policy said, before the guards.
        requested: u64,
        /// What the file says now.
        current: u64,
        /// Why.
        cause: Cause,
    },
    /// A policy wants what it wants already.
    Renew {
        /// The cgroup.
        cgroup: CgroupId,
        /// The policy's name.
        policy: String,
        /// The knob.
        knob: Knob,
        /// What the file says now.
        current: u64,
    },
    /// What an earlier daemon recorded on a cgroup, each with what the file says now. Comes after `Bound`.
    Adopt {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// The knobs.
        kept: Vec<(KnobRecord, u64)>,
    },
    /// What came of a [`Write`].
    WriteDone {
        /// The cgroup.
        cgroup: CgroupId,
        /// The knob.
        knob: Knob,
        /// What.
        outcome: WriteOutcome,
    },
    /// Time has passed: wants lapse, what failed is tried again.
    Tick,
    /// While paused, everything is as it was found.
    Pause(bool),
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The file holds the value.
    Written,
    /// Nothing was written: the file holds this value, which is not ours.
    Conflict(u64),
    /// Nothing was written.
    Failed,
    /// The cgroup is gone.
    Removed,
}

/// What has to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Record on the cgroup what we changed and are about to change.
    Record {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// The knobs; none: there is nothing left to put back.
        knobs: Vec<KnobRecord>,
    },
    /// Write a knob, unless it holds what nobody expects. Answered by [`Input::WriteDone`]; until then there is no other
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
    /// What the file must hold: one of these.
    pub expect: Vec<u64>,
    /// The value.
    pub value: u64,
    /// Why.
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

    /// Brings everything to where it belongs: the record first, then the files.
    fn reconcile(&mut self, cgroup: CgroupId, paused: bool, now: u64, effects: &mut Vec<Effect>) {
        let mut writes = Vec::new();
        for (knob, account) in &mut self.knobs {
            if let Some((expect, value, cause)) = account.next_write(*knob, paused, now) {
                let path = self.path.clone();
                writes.push(Effect::Write(Write { cgroup, path, knob: *knob, expect, value, cause }));
            }
        }
        self.knobs.retain(|_, account| !account.is_idle());
        let records: Vec<KnobRecord> =
            self.knobs.iter().filter_map(|(knob, account)| account.record(*knob)).collect();
        let essence = |all: &[KnobRecord]| -> Vec<(Knob, u64, Vec<u64>)> {
            all.iter().map(|r| (r.knob, r.original, r.written.clone())).collect()
        };
        if essence(&records) != essence(&self.recorded) {
            self.recorded.clone_from(&records);
            effects.push(Effect::Record { cgroup, path: self.path.clone(), knobs: records });
        }
        effects.extend(writes);
    }
}

/// All books.
#[derive(Debug, Default)]
pub struct Ledger {
    cgroups: BTreeMap<CgroupId, CgroupEntry>,
    paused: bool,
}

impl Ledger {
    /// Takes one input and says what has to be done.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let expires = now.saturating_add(CONSTRAINT_TTL_NS);
        let touched = match input {
            Input::PoliciesBound { cgroup, path, policies } => {
                let book = self.cgroups.entry(cgroup).or_insert_with(|| CgroupEntry::new(path));
                for account in book.knobs.values_mut() {
                    account.retain_policies(&policies);
                }
                book.policies = policies;
                Some(cgroup)
            }
            Input::CgroupRemoved(cgroup) => {
                self.cgroups.remove(&cgroup);
                Some(cgroup)
            }
            Input::Constrain { cgroup, policy, knob, value, requested, current, cause } => {
                if let Some(book) = self.cgroups.get_mut(&cgroup).filter(|b| b.policies.contains(&policy)) {
                    let account = book.knobs.entry(knob).or_insert_with(|| KnobState::new(current));
                    account.observe(current);
                    let want = value.map(|value| Constraint { value, requested, expires, adopted: false });
                    account.constrain(policy, want, cause);
                }
                Some(cgroup)
            }
            Input::Renew { cgroup, policy, knob, current } => {
                let book = self.cgroups.get_mut(&cgroup);
                if let Some(account) = book.and_then(|book| book.knobs.get_mut(&knob)) {
                    account.observe(current);
                    account.renew(&policy, expires);
                }
                Some(cgroup)
            }
            Input::Adopt { cgroup, path, kept } => {
                let book = self.cgroups.entry(cgroup).or_insert_with(|| CgroupEntry::new(path));
                for (record, current) in kept {
                    if !book.knobs.contains_key(&record.knob) {
                        if let Some(account) = KnobState::adopt(&record, current, expires, &book.policies) {
                            book.knobs.insert(record.knob, account);
                        }
                        book.recorded.push(record);
                    }
                }
                Some(cgroup)
            }
            Input::WriteDone { cgroup, knob, outcome } => {
                if let Some(book) = self.cgroups.get_mut(&cgroup) {
                    match (outcome, book.knobs.get_mut(&knob)) {
                        (WriteOutcome::Removed, _) => drop(book.knobs.remove(&knob)),
                        (outcome, Some(account)) => account.write_done(outcome, now),
                        (_, None) => {}
                    }
                }
                Some(cgroup)
            }
            Input::Tick => {
                for account in self.cgroups.values_mut().flat_map(|book| book.knobs.values_mut()) {
                    account.expire(now);
                }
                None
            }
            Input::Pause(paused) => {
                self.paused = paused;
                let cause =
                    Cause::internal(if paused { "actions are paused" } else { "actions are resumed" });
                for account in self.cgroups.values_mut().flat_map(|book| book.knobs.values_mut()) {
                    account.set_cause(cause.clone());
                }
                None
            }
        };
        match touched {
            Some(cgroup) => {
                if let Some(book) = self.cgroups.get_mut(&cgroup) {
                    book.reconcile(cgroup, self.paused, now, &mut effects);
                }
            }
            None => {
                for (cgroup, book) in &mut self.cgroups {
                    book.reconcile(*cgroup, self.paused, now, &mut effects);
                }
            }
        }
        let idle = |book: &CgroupEntry| book.knobs.is_empty() && book.policies.is_empty();
        match touched {
            Some(cgroup) if self.cgroups.get(&cgroup).is_some_and(idle) => drop(self.cgroups.remove(&cgroup)),
            Some(_) => {}
            None => self.cgroups.retain(|_, book| !idle(book)),
        }
        effects
    }

    /// Has this cgroup a policy, or something to be put back?
    pub fn contains(&self, cgroup: CgroupId) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// Is this policy in force on this cgroup? Then the cgroup's path.
    pub fn path_if_bound(&self, cgroup: CgroupId, policy: &str) -> Option<&CgroupPath> {
        self.cgroups.get(&cgroup).filter(|book| book.policies.contains(policy)).map(|book| &book.path)
    }

    /// What a policy said when it asked for a knob last, while it wants it.
    pub fn requested(&self, cgroup: CgroupId, policy: &str, knob: Knob) -> Option<u64> {
        self.cgroups.get(&cgroup)?.knobs.get(&knob)?.requested(policy)
    }

    /// Does a policy want anything of a knob?
    pub fn is_constrained_by(&self, cgroup: CgroupId, policy: &str, knob: Knob) -> bool {
        let book = self.cgroups.get(&cgroup);
        book.and_then(|book| book.knobs.get(&knob)).is_some_and(|account| account.is_constrained_by(policy))
    }

    /// When [`Input::Tick`] is due next; `None` while there is nothing to wait for.
    pub fn due(&self) -> Option<u64> {
        self.cgroups
            .values()
            .flat_map(|book| book.knobs.iter())
            .filter_map(|(k, a)| a.due(*k, self.paused))
            .min()
    }

    /// What must be written to leave everything as it was found, when nobody is left to answer [`Effect::Write`].
    pub fn restore_writes(&self) -> Vec<Write> {
        let of = |(cgroup, book): (&CgroupId, &CgroupEntry)| {
            let (cgroup, path) = (*cgroup, book.path.clone());
            let restore = move |(knob, account): (&Knob, &KnobState)| {
                let record = account.record(*knob)?;
                let cause = Cause::internal("memcg-bpfd stops");
                let (expect, value) = (record.written, record.original);
                Some(Write { cgroup, path: path.clone(), knob: *knob, expect, value, cause })
            };
            book.knobs.iter().filter_map(restore).collect::<Vec<_>>()
        };
        self.cgroups.iter().flat_map(of).collect()
    }

    /// The knobs of a cgroup that a policy wants something of.
    pub fn describe(&self, cgroup: CgroupId) -> Vec<KnobReport> {
        let book = self.cgroups.get(&cgroup);
        book.map(|b| b.knobs.iter().map(|(k, a)| a.report(*k)).collect()).unwrap_or_default()
    }
}
