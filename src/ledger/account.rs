//! One knob of one cgroup: found, wanted, in force.

use std::collections::{BTreeMap, BTreeSet};

use super::Came;
use crate::policy::action::Knob;
use crate::report::KnobReport;
use crate::source::xattr::KnobRecord;

/// A failed write is tried again after this long, then after twice as long, up to the most.
const RETRY_FIRST_NS: u64 = 1_000_000_000;
const RETRY_MOST_NS: u64 = 60_000_000_000;

/// Who made us write, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The policy; empty when it is our own doing.
    pub policy: String,
    /// One sentence.
    pub reason: String,
    /// The numbers behind it.
    pub numbers: [u64; 4],
}

impl Cause {
    /// Our own doing.
    pub fn ours(reason: &str) -> Self {
        Cause { policy: String::new(), reason: reason.to_owned(), numbers: [0; 4] }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Want {
    pub value: u64,
    /// As the policy said it, before the guards.
    pub asked: u64,
    pub until: u64,
    /// Kept from before a restart: the policy has not asked for it again yet.
    pub adopted: bool,
}

#[derive(Debug)]
pub struct Account {
    /// What somebody else wrote last.
    found: u64,
    /// What the file holds, as far as we know.
    holds: u64,
    /// The values of ours that the file may hold: none while it holds somebody else's.
    ours: Vec<u64>,
    wants: BTreeMap<String, Want>,
    flight: Option<u64>,
    cause: Cause,
    failures: u32,
    retry_at: u64,
}

impl Account {
    pub fn new(current: u64) -> Self {
        Account {
            found: current,
            holds: current,
            ours: Vec::new(),
            wants: BTreeMap::new(),
            flight: None,
            cause: Cause::ours(""),
            failures: 0,
            retry_at: 0,
        }
    }

    /// What a record and the file say together. `None`: the file holds what was found, or somebody else's value, and
    /// nothing is to be put back.
    pub fn adopt(
        record: &KnobRecord,
        current: u64,
        until: u64,
        policies: &BTreeSet<String>,
    ) -> Option<Account> {
        if current == record.original || !record.written.contains(&current) {
            return None;
        }
        let wants = record.constraints.iter().filter(|(policy, _)| policies.contains(*policy));
        Some(Account {
            found: record.original,
            ours: record.written.clone(),
            wants: wants
                .map(|(p, value)| (p.clone(), Want { value: *value, asked: *value, until, adopted: true }))
                .collect(),
            cause: Cause::ours("no policy wants it any more"),
            ..Account::new(current)
        })
    }

    /// What is to be in force: never looser than what was found.
    fn target(&self, knob: Knob, paused: bool) -> u64 {
        let wants = self.wants.values().filter(|_| !paused).map(|want| want.value);
        wants.fold(self.found, |strictest, value| knob.strictest(strictest, value))
    }

    /// The file was read. A value that is not ours was written by somebody else, and is what will be put back.
    pub fn notice(&mut self, current: u64) {
        if self.flight.is_some() || current == self.holds {
            return;
        }
        self.holds = current;
        if !self.ours.contains(&current) {
            self.found = current;
            self.ours.clear();
        }
    }

    pub fn want(&mut self, policy: String, want: Option<Want>, cause: Cause) {
        let before = match want {
            Some(want) => self.wants.insert(policy, want),
            None => self.wants.remove(&policy),
        };
        if before.map(|b| b.value) != want.map(|w| w.value) {
            self.because(cause);
        }
    }

    /// What the policy said when it asked last.
    pub fn asked(&self, policy: &str) -> Option<u64> {
        self.wants.get(policy).filter(|want| !want.adopted).map(|want| want.asked)
    }

    pub fn is_wanted_by(&self, policy: &str) -> bool {
        self.wants.contains_key(policy)
    }

    pub fn renew(&mut self, policy: &str, until: u64) {
        if let Some(want) = self.wants.get_mut(policy) {
            want.until = until;
        }
    }

    pub fn because(&mut self, cause: Cause) {
        self.cause = cause;
        (self.failures, self.retry_at) = (0, 0);
    }

    pub fn keep_wants_of(&mut self, policies: &BTreeSet<String>) {
        let gone: Vec<String> = self.wants.keys().filter(|p| !policies.contains(*p)).cloned().collect();
        for policy in gone {
            self.wants.remove(&policy);
            let reason = "the policy is not in force any more".to_owned();
            self.because(Cause { policy, reason, numbers: [0; 4] });
        }
    }

    pub fn lapse(&mut self, now: u64) {
        let gone: Vec<String> =
            self.wants.iter().filter(|(_, want)| want.until <= now).map(|(p, _)| p.clone()).collect();
        for policy in gone {
            self.wants.remove(&policy);
            let reason = "the policy has not asked for it for 30s".to_owned();
            self.because(Cause { policy, reason, numbers: [0; 4] });
        }
    }

    /// What to write now, if anything: what the file must hold, the value, and why.
    pub fn settle(&mut self, knob: Knob, paused: bool, now: u64) -> Option<(Vec<u64>, u64, Cause)> {
        let target = self.target(knob, paused);
        if self.flight.is_some() || target == self.holds || now < self.retry_at {
            return None;
        }
        let mut expect = self.ours.clone();
        if !expect.contains(&self.holds) {
            expect.push(self.holds);
        }
        self.flight = Some(target);
        if target != self.found {
            self.ours.retain(|value| *value == self.holds);
            self.ours.push(target);
        }
        Some((expect, target, self.cause.clone()))
    }

    pub fn wrote(&mut self, came: Came, now: u64) {
        let Some(value) = self.flight.take() else { return };
        match came {
            Came::Done => {
                self.holds = value;
                self.ours = if value == self.found { Vec::new() } else { vec![value] };
                (self.failures, self.retry_at) = (0, 0);
            }
            Came::Foreign(current) => {
                self.found = current;
                self.holds = current;
                self.ours.clear();
            }
            Came::Failed | Came::Gone => {
                self.ours.retain(|ours| *ours != value || value == self.holds);
                let wait = RETRY_FIRST_NS.checked_shl(self.failures).unwrap_or(RETRY_MOST_NS);
                self.retry_at = now.saturating_add(wait.min(RETRY_MOST_NS));
                self.failures = self.failures.saturating_add(1).min(10);
            }
        }
    }

    /// Nothing is wanted, nothing of ours is in the file, and nothing is on its way there.
    pub fn is_closed(&self) -> bool {
        self.wants.is_empty() && self.ours.is_empty() && self.flight.is_none()
    }

    pub fn due(&self, knob: Knob, paused: bool) -> Option<u64> {
        let lapse = self.wants.values().map(|want| want.until).min();
        let waits = self.flight.is_none() && self.target(knob, paused) != self.holds;
        lapse.into_iter().chain(waits.then_some(self.retry_at)).min()
    }

    pub fn record(&self, knob: Knob) -> Option<KnobRecord> {
        (!self.ours.is_empty()).then(|| KnobRecord {
            knob,
            original: self.found,
            written: self.ours.clone(),
            constraints: self.wants.iter().map(|(policy, want)| (policy.clone(), want.value)).collect(),
        })
    }

    pub fn describe(&self, knob: Knob) -> KnobReport {
        KnobReport {
            knob: knob.file().to_owned(),
            original: knob.format(self.found),
            current: knob.format(self.holds),
            constraints: self.wants.iter().map(|(p, want)| (p.clone(), knob.format(want.value))).collect(),
        }
    }
}
