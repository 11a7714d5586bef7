//! One knob of one cgroup: found, wanted, in force.

use std::collections::{BTreeMap, BTreeSet};

use super::WriteOutcome;
use crate::policy::action::Knob;
use crate::report::KnobReport;
use crate::source::xattr::KnobRecord;

/// A failed write is tried again after this long, then after twice as long, up to the most.
const RETRY_FIRST_NS: u64 = 1_000_000_000;
const RETRY_MAX_NS: u64 = 60_000_000_000;

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
    pub fn internal(reason: &str) -> Self {
        Cause { policy: String::new(), reason: reason.to_owned(), numbers: [0; 4] }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Constraint {
    pub value: u64,
    /// As the policy said it, before the guards.
    pub requested: u64,
    pub expires: u64,
    /// Kept from before a restart: the policy has not asked for it again yet.
    pub adopted: bool,
}

#[derive(Debug)]
pub struct KnobState {
    /// What somebody else wrote last.
    original: u64,
    /// What the file holds, as far as we know.
    current: u64,
    /// The values of ours that the file may hold: none while it holds somebody else's.
    written: Vec<u64>,
    constraints: BTreeMap<String, Constraint>,
    in_flight: Option<u64>,
    cause: Cause,
    failures: u32,
    retry_at: u64,
}

impl KnobState {
    pub fn new(current: u64) -> Self {
        KnobState {
            original: current,
            current,
            written: Vec::new(),
            constraints: BTreeMap::new(),
            in_flight: None,
            cause: Cause::internal(""),
            failures: 0,
            retry_at: 0,
        }
    }

    /// What a record and the file say together. `None`: the file holds what was found, or somebody else's value, and
    /// nothing is to be put back.
    pub fn adopt(
        record: &KnobRecord,
        current: u64,
        expires: u64,
        policies: &BTreeSet<String>,
    ) -> Option<KnobState> {
        if current == record.original || !record.written.contains(&current) {
            return None;
        }
        let constraints = record.constraints.iter().filter(|(policy, _)| policies.contains(*policy));
        Some(KnobState {
            original: record.original,
            written: record.written.clone(),
            constraints: constraints
                .map(|(p, value)| {
                    (p.clone(), Constraint { value: *value, requested: *value, expires, adopted: true })
                })
                .collect(),
            cause: Cause::internal("no policy wants it any more"),
            ..KnobState::new(current)
        })
    }

    /// What is to be in force: never looser than what was found.
    fn target(&self, knob: Knob, paused: bool) -> u64 {
        let wants = self.constraints.values().filter(|_| !paused).map(|want| want.value);
        wants.fold(self.original, |strictest, value| knob.strictest(strictest, value))
    }

    /// The file was read. A value that is not ours was written by somebody else, and is what will be put back.
    pub fn observe(&mut self, current: u64) {
        if self.in_flight.is_some() || current == self.current {
            return;
        }
        self.current = current;
        if !self.written.contains(&current) {
            self.original = current;
            self.written.clear();
        }
    }

    pub fn constrain(&mut self, policy: String, want: Option<Constraint>, cause: Cause) {
        let before = match want {
            Some(want) => self.constraints.insert(policy, want),
            None => self.constraints.remove(&policy),
        };
        if before.map(|b| b.value) != want.map(|w| w.value) {
            self.set_cause(cause);
        }
    }

    /// What the policy said when it asked last.
    pub fn requested(&self, policy: &str) -> Option<u64> {
        self.constraints.get(policy).filter(|want| !want.adopted).map(|want| want.requested)
    }

    pub fn is_constrained_by(&self, policy: &str) -> bool {
        self.constraints.contains_key(policy)
    }

    pub fn renew(&mut self, policy: &str, until: u64) {
        if let Some(want) = self.constraints.get_mut(policy) {
            want.expires = until;
        }
    }

    pub fn set_cause(&mut self, cause: Cause) {
        self.cause = cause;
        (self.failures, self.retry_at) = (0, 0);
    }

    pub fn retain_policies(&mut self, policies: &BTreeSet<String>) {
        let gone: Vec<String> = self.constraints.keys().filter(|p| !policies.contains(*p)).cloned().collect();
        for policy in gone {
            self.constraints.remove(&policy);
            let reason = "the policy is not in force any more".to_owned();
            self.set_cause(Cause { policy, reason, numbers: [0; 4] });
        }
    }

    pub fn expire(&mut self, now: u64) {
        let gone: Vec<String> =
            self.constraints.iter().filter(|(_, want)| want.expires <= now).map(|(p, _)| p.clone()).collect();
        for policy in gone {
            self.constraints.remove(&policy);
            let reason = "the policy has not asked for it for 30s".to_owned();
            self.set_cause(Cause { policy, reason, numbers: [0; 4] });
        }
    }

    /// What to write now, if anything: what the file must hold, the value, and why.
    pub fn next_write(&mut self, knob: Knob, paused: bool, now: u64) -> Option<(Vec<u64>, u64, Cause)> {
        let target = self.target(knob, paused);
        if self.in_flight.is_some() || target == self.current || now < self.retry_at {
            return None;
        }
        let mut expect = self.written.clone();
        if !expect.contains(&self.current) {
            expect.push(self.current);
        }
        self.in_flight = Some(target);
        if target != self.original {
            self.written.retain(|value| *value == self.current);
            self.written.push(target);
        }
        Some((expect, target, self.cause.clone()))
    }

    pub fn write_done(&mut self, came: WriteOutcome, now: u64) {
        let Some(value) = self.in_flight.take() else { return };
        match came {
            WriteOutcome::Written => {
                self.current = value;
                self.written = if value == self.original { Vec::new() } else { vec![value] };
                (self.failures, self.retry_at) = (0, 0);
            }
            WriteOutcome::Conflict(current) => {
                self.original = current;
                self.current = current;
                self.written.clear();
            }
            WriteOutcome::Failed | WriteOutcome::Removed => {
                self.written.retain(|ours| *ours != value || value == self.current);
                let wait = RETRY_FIRST_NS.checked_shl(self.failures).unwrap_or(RETRY_MAX_NS);
                self.retry_at = now.saturating_add(wait.min(RETRY_MAX_NS));
                self.failures = self.failures.saturating_add(1).min(10);
            }
        }
    }

    /// Nothing is wanted, nothing of ours is in the file, and nothing is on its way there.
    pub fn is_idle(&self) -> bool {
        self.constraints.is_empty() && self.written.is_empty() && self.in_flight.is_none()
    }

    pub fn due(&self, knob: Knob, paused: bool) -> Option<u64> {
        let lapse = self.constraints.values().map(|want| want.expires).min();
        let waits = self.in_flight.is_none() && self.target(knob, paused) != self.current;
        lapse.into_iter().chain(waits.then_some(self.retry_at)).min()
    }

    pub fn record(&self, knob: Knob) -> Option<KnobRecord> {
        (!self.written.is_empty()).then(|| KnobRecord {
            knob,
            original: self.original,
            written: self.written.clone(),
            constraints: self.constraints.iter().map(|(policy, want)| (policy.clone(), want.value)).collect(),
        })
    }

    pub fn report(&self, knob: Knob) -> KnobReport {
        KnobReport {
            knob: knob.file().to_owned(),
            original: knob.format(self.original),
            current: knob.format(self.current),
            constraints: self
                .constraints
                .iter()
                .map(|(p, want)| (p.clone(), knob.format(want.value)))
                .collect(),
        }
    }
}
