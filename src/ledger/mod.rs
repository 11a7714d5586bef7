//! What we changed in the files of cgroups and how it is put back: per cgroup and knob the value found, what each
//! policy wants, and what is in force. No I/O and no clock: values and times come with the input.

mod account;
pub mod guard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{CgroupId, CgroupPath};
use crate::policy::action::Knob;
use crate::report::KnobReport;
use crate::source::xattr::KnobRecord;
pub use account::Cause;
use account::{Account, Want};

/// A want that was not asked for again for so long lapses: nothing stays changed because a program went quiet.
pub const LEASE_NS: u64 = 30_000_000_000;

/// Something happened or was asked for.
#[derive(Debug, Clone)]
pub enum Input {
    /// These policies are in force on a cgroup now, and no others. Those that went take their wants with them.
    Bound {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// Their names.
        policies: BTreeSet<String>,
    },
    /// A cgroup is gone.
    Gone(CgroupId),
    /// A policy wants a knob at least so strict, or (`None`) does not any more.
    Want {
        /// The cgroup.
        cgroup: CgroupId,
        /// The policy's name.
        policy: String,
        /// The knob.
        knob: Knob,
        /// How strict.
        value: Option<u64>,
        /// What the policy said, before the guards.
        asked: u64,
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
    Wrote {
        /// The cgroup.
        cgroup: CgroupId,
        /// The knob.
        knob: Knob,
        /// What.
        came: Came,
    },
    /// Time has passed: wants lapse, what failed is tried again.
    Time,
    /// While paused, everything is as it was found.
    Pause(bool),
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// The file holds the value.
    Done,
    /// Nothing was written: the file holds this value, which is not ours.
    Foreign(u64),
    /// Nothing was written.
    Failed,
    /// The cgroup is gone.
    Gone,
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
    /// Write a knob, unless it holds what nobody expects. Answered by [`Input::Wrote`]; until then there is no other
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
struct Book {
    path: CgroupPath,
    policies: BTreeSet<String>,
    knobs: BTreeMap<Knob, Account>,
    recorded: Vec<KnobRecord>,
}

impl Book {
    fn new(path: CgroupPath) -> Self {
        Book { path, policies: BTreeSet::new(), knobs: BTreeMap::new(), recorded: Vec::new() }
    }

    /// Brings everything to where it belongs: the record first, then the files.
    fn settle(&mut self, cgroup: CgroupId, paused: bool, now: u64, effects: &mut Vec<Effect>) {
        let mut writes = Vec::new();
        for (knob, account) in &mut self.knobs {
            if let Some((expect, value, cause)) = account.settle(*knob, paused, now) {
                let path = self.path.clone();
                writes.push(Effect::Write(Write { cgroup, path, knob: *knob, expect, value, cause }));
            }
        }
        self.knobs.retain(|_, account| !account.is_closed());
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
    books: BTreeMap<CgroupId, Book>,
    paused: bool,
}

impl Ledger {
    /// Takes one input and says what has to be done.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let until = now.saturating_add(LEASE_NS);
        let touched = match input {
            Input::Bound { cgroup, path, policies } => {
                let book = self.books.entry(cgroup).or_insert_with(|| Book::new(path));
                for account in book.knobs.values_mut() {
                    account.keep_wants_of(&policies);
                }
                book.policies = policies;
                Some(cgroup)
            }
            Input::Gone(cgroup) => {
                self.books.remove(&cgroup);
                Some(cgroup)
            }
            Input::Want { cgroup, policy, knob, value, asked, current, cause } => {
                if let Some(book) = self.books.get_mut(&cgroup).filter(|b| b.policies.contains(&policy)) {
                    let account = book.knobs.entry(knob).or_insert_with(|| Account::new(current));
                    account.notice(current);
                    let want = value.map(|value| Want { value, asked, until, adopted: false });
                    account.want(policy, want, cause);
                }
                Some(cgroup)
            }
            Input::Renew { cgroup, policy, knob, current } => {
                let book = self.books.get_mut(&cgroup);
                if let Some(account) = book.and_then(|book| book.knobs.get_mut(&knob)) {
                    account.notice(current);
                    account.renew(&policy, until);
                }
                Some(cgroup)
            }
            Input::Adopt { cgroup, path, kept } => {
                let book = self.books.entry(cgroup).or_insert_with(|| Book::new(path));
                for (record, current) in kept {
                    if !book.knobs.contains_key(&record.knob) {
                        if let Some(account) = Account::adopt(&record, current, until, &book.policies) {
                            book.knobs.insert(record.knob, account);
                        }
                        book.recorded.push(record);
                    }
                }
                Some(cgroup)
            }
            Input::Wrote { cgroup, knob, came } => {
                if let Some(book) = self.books.get_mut(&cgroup) {
                    match (came, book.knobs.get_mut(&knob)) {
                        (Came::Gone, _) => drop(book.knobs.remove(&knob)),
                        (came, Some(account)) => account.wrote(came, now),
                        (_, None) => {}
                    }
                }
                Some(cgroup)
            }
            Input::Time => {
                for account in self.books.values_mut().flat_map(|book| book.knobs.values_mut()) {
                    account.lapse(now);
                }
                None
            }
            Input::Pause(paused) => {
                self.paused = paused;
                let cause = Cause::ours(if paused { "actions are paused" } else { "actions are resumed" });
                for account in self.books.values_mut().flat_map(|book| book.knobs.values_mut()) {
                    account.because(cause.clone());
                }
                None
            }
        };
        match touched {
            Some(cgroup) => {
                if let Some(book) = self.books.get_mut(&cgroup) {
                    book.settle(cgroup, self.paused, now, &mut effects);
                }
            }
            None => {
                for (cgroup, book) in &mut self.books {
                    book.settle(*cgroup, self.paused, now, &mut effects);
                }
            }
        }
        let idle = |book: &Book| book.knobs.is_empty() && book.policies.is_empty();
        match touched {
            Some(cgroup) if self.books.get(&cgroup).is_some_and(idle) => drop(self.books.remove(&cgroup)),
            Some(_) => {}
            None => self.books.retain(|_, book| !idle(book)),
        }
        effects
    }

    /// Has this cgroup a policy, or something to be put back?
    pub fn knows(&self, cgroup: CgroupId) -> bool {
        self.books.contains_key(&cgroup)
    }

    /// Is this policy in force on this cgroup? Then the cgroup's path.
    pub fn bound(&self, cgroup: CgroupId, policy: &str) -> Option<&CgroupPath> {
        self.books.get(&cgroup).filter(|book| book.policies.contains(policy)).map(|book| &book.path)
    }

    /// What a policy said when it asked for a knob last, while it wants it.
    pub fn asked(&self, cgroup: CgroupId, policy: &str, knob: Knob) -> Option<u64> {
        self.books.get(&cgroup)?.knobs.get(&knob)?.asked(policy)
    }

    /// Does a policy want anything of a knob?
    pub fn wants(&self, cgroup: CgroupId, policy: &str, knob: Knob) -> bool {
        let book = self.books.get(&cgroup);
        book.and_then(|book| book.knobs.get(&knob)).is_some_and(|account| account.is_wanted_by(policy))
    }

    /// When [`Input::Time`] is due next; `None` while there is nothing to wait for.
    pub fn due(&self) -> Option<u64> {
        self.books
            .values()
            .flat_map(|book| book.knobs.iter())
            .filter_map(|(k, a)| a.due(*k, self.paused))
            .min()
    }

    /// What must be written to leave everything as it was found, when nobody is left to answer [`Effect::Write`].
    pub fn restorations(&self) -> Vec<Write> {
        let of = |(cgroup, book): (&CgroupId, &Book)| {
            let (cgroup, path) = (*cgroup, book.path.clone());
            let restore = move |(knob, account): (&Knob, &Account)| {
                let record = account.record(*knob)?;
                let cause = Cause::ours("memcg-bpfd stops");
                let (expect, value) = (record.written, record.original);
                Some(Write { cgroup, path: path.clone(), knob: *knob, expect, value, cause })
            };
            book.knobs.iter().filter_map(restore).collect::<Vec<_>>()
        };
        self.books.iter().flat_map(of).collect()
    }

    /// The knobs of a cgroup that a policy wants something of.
    pub fn describe(&self, cgroup: CgroupId) -> Vec<KnobReport> {
        let book = self.books.get(&cgroup);
        book.map(|b| b.knobs.iter().map(|(k, a)| a.describe(*k)).collect()).unwrap_or_default()
    }
}
