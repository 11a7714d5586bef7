//! One knob of one cgroup: its original value, the constraints, the current value.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::action::Knob;
use crate::report::KnobReport;
use crate::source::xattr::KnobRecord;

/// The delay before a failed write is repeated, which doubles up to the maximum.
const RETRY_FIRST_NS: u64 = 1_000_000_000;
const RETRY_MAX_NS: u64 = 60_000_000_000;

/// The policy that caused a write, and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The policy; empty if the daemon itself is the cause.
    pub policy: String,
    /// The reason, one sentence.
    pub reason: String,
    /// The numbers of the reason.
    pub numbers: [u64; 4],
}

impl Cause {
    /// A cause in the daemon itself.
    pub fn internal(reason: &str) -> Self {
        Cause { policy: String::new(), reason: reason.to_owned(), numbers: [0; 4] }
    }
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The file contains the value.
    Written,
    /// Nothing was written: the file contains this value of another program.
    Conflict(u64),
    /// Nothing was written.
    Failed,
    /// The cgroup was removed.
    Removed,
}

#[derive(Debug, Clone, Copy)]
pub struct Constraint {
    pub value: u64,
    /// The value that the policy requested, before admission.
    pub requested: u64,
    pub expires: u64,
    /// True if the constraint was adopted from a record, and the policy has not repeated it yet.
    pub adopted: bool,
}

#[derive(Debug)]
pub struct KnobState {
    /// The value that another program wrote last.
    original: u64,
    /// The last known value in the file.
    current: u64,
    /// The values of the daemon that the file may contain; empty if it contains one of another program.
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

    /// The state that follows from a record and the value in the file. `None` if the file contains the original value
    /// or one of another program, so that there is nothing to restore.
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
            cause: Cause::internal("no policy requests a value"),
            ..KnobState::new(current)
        })
    }

    /// The value that the file should contain: never looser than the original value.
    fn target(&self, knob: Knob, paused: bool) -> u64 {
        let values = self.constraints.values().filter(|_| !paused).map(|c| c.value);
        values.fold(self.original, |strictest, value| knob.strictest(strictest, value))
    }

    /// Handles a value read from the file. A value that the daemon did not write becomes the original value.
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

    pub fn constrain(&mut self, policy: String, constraint: Option<Constraint>, cause: Cause) {
        let before = match constraint {
            Some(constraint) => self.constraints.insert(policy, constraint),
            None => self.constraints.remove(&policy),
        };
        if before.map(|b| b.value) != constraint.map(|c| c.value) {
            self.set_cause(cause);
        }
    }

    /// The value that the policy requested last.
    pub fn requested(&self, policy: &str) -> Option<u64> {
        self.constraints.get(policy).filter(|c| !c.adopted).map(|c| c.requested)
    }

    pub fn is_constrained_by(&self, policy: &str) -> bool {
        self.constraints.contains_key(policy)
    }

    pub fn renew(&mut self, policy: &str, expires: u64) {
        if let Some(constraint) = self.constraints.get_mut(policy) {
            constraint.expires = expires;
        }
    }

    pub fn set_cause(&mut self, cause: Cause) {
        self.cause = cause;
        (self.failures, self.retry_at) = (0, 0);
    }

    pub fn retain_policies(&mut self, policies: &BTreeSet<String>) {
        let detached: Vec<String> =
            self.constraints.keys().filter(|p| !policies.contains(*p)).cloned().collect();
        for policy in detached {
            self.constraints.remove(&policy);
            let reason = "the policy is detached".to_owned();
            self.set_cause(Cause { policy, reason, numbers: [0; 4] });
        }
    }

    pub fn expire(&mut self, now: u64) {
        let expired: Vec<String> =
            self.constraints.iter().filter(|(_, c)| c.expires <= now).map(|(p, _)| p.clone()).collect();
        for policy in expired {
            self.constraints.remove(&policy);
            let reason = "the policy has not renewed the constraint for 30s".to_owned();
            self.set_cause(Cause { policy, reason, numbers: [0; 4] });
        }
    }

    /// The next write, if any: the expected values, the value, and the cause.
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

    pub fn write_done(&mut self, outcome: WriteOutcome, now: u64) {
        let Some(value) = self.in_flight.take() else { return };
        match outcome {
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
                self.written.retain(|written| *written != value || value == self.current);
                let wait = RETRY_FIRST_NS.checked_shl(self.failures).unwrap_or(RETRY_MAX_NS);
                self.retry_at = now.saturating_add(wait.min(RETRY_MAX_NS));
                self.failures = self.failures.saturating_add(1).min(10);
            }
        }
    }

    /// True if there is no constraint, no value of the daemon in the file, and no write in flight.
    pub fn is_idle(&self) -> bool {
        self.constraints.is_empty() && self.written.is_empty() && self.in_flight.is_none()
    }

    pub fn due(&self, knob: Knob, paused: bool) -> Option<u64> {
        let expiry = self.constraints.values().map(|c| c.expires).min();
        let pending = self.in_flight.is_none() && self.target(knob, paused) != self.current;
        expiry.into_iter().chain(pending.then_some(self.retry_at)).min()
    }

    pub fn record(&self, knob: Knob) -> Option<KnobRecord> {
        (!self.written.is_empty()).then(|| KnobRecord {
            knob,
            original: self.original,
            written: self.written.clone(),
            constraints: self.constraints.iter().map(|(policy, c)| (policy.clone(), c.value)).collect(),
        })
    }

    pub fn report(&self, knob: Knob) -> KnobReport {
        KnobReport {
            knob: knob.file().to_owned(),
            original: knob.format(self.original),
            current: knob.format(self.current),
            constraints: self.constraints.iter().map(|(p, c)| (p.clone(), knob.format(c.value))).collect(),
        }
    }
}
