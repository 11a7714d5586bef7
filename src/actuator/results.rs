//! The results of actions and writes: counts each, logs it once, and keeps it for the signal.

use super::clock::now;
use crate::cgroup::knob::WriteResult;
use crate::ledger::{Write, WriteOutcome};
use crate::log::audit::{ActionOutcome, ActionRecord, ActionStats};
use crate::log::denials::DenialLog;
use crate::names::CgroupPath;
use crate::policy::action::{Action, ActionKind};

/// The detail of an action whose cgroup was removed before.
pub const REMOVED_MSG: &str = "the cgroup was removed before the action was performed";

/// Counts and logs results.
#[derive(Debug, Default)]
pub struct ActionLog {
    /// Counts of actions.
    pub stats: ActionStats,
    /// Denied requests.
    pub denials: DenialLog,
    /// Actions without a signal yet.
    records: Vec<ActionRecord>,
}

impl ActionLog {
    /// Actions since the last call, for the signals.
    pub fn take(&mut self) -> Vec<ActionRecord> {
        std::mem::take(&mut self.records)
    }

    /// Logs the result of a write to a knob. Returns the outcome for the ledger.
    pub fn knob_written(&mut self, write: &Write, result: WriteResult) -> WriteOutcome {
        let Write { cgroup, knob, value, .. } = write;
        match result {
            // Another program had written the same value.
            WriteResult::Written(before) if before == *value => WriteOutcome::Written,
            WriteResult::Written(before) => {
                let detail = format!("{knob}: {} → {}", knob.format(before), knob.format(*value));
                self.log_write(ActionOutcome::Done, write, before, detail);
                WriteOutcome::Written
            }
            WriteResult::Conflict(current) => {
                tracing::debug!("{cgroup}: another program wrote {} to {knob}", knob.format(current));
                WriteOutcome::Conflict(current)
            }
            WriteResult::Removed => {
                self.log_write(ActionOutcome::Removed, write, *value, REMOVED_MSG.to_owned());
                WriteOutcome::Removed
            }
            WriteResult::Failed(error) => {
                self.log_write(ActionOutcome::Failed, write, *value, format!("writing {knob}: {error}"));
                WriteOutcome::Failed
            }
        }
    }

    /// Logs an action that a guard blocked.
    pub fn block(&mut self, action: &Action, path: &CgroupPath, why: String) {
        let to = match action.kind {
            ActionKind::SetKnob(_, value) => value.unwrap_or(0),
            ActionKind::Reclaim { bytes, .. } => bytes,
            ActionKind::Kill { .. } => 0,
        };
        self.log_action(ActionOutcome::Blocked, action, path, (0, to), why);
    }

    /// Counts and logs the outcome of an action. `values` are the values before and after.
    pub fn log_action(
        &mut self,
        outcome: ActionOutcome,
        action: &Action,
        path: &CgroupPath,
        values: (u64, u64),
        detail: String,
    ) {
        self.records.extend(self.stats.record(ActionRecord {
            cgroup: action.cgroup,
            path: path.clone(),
            policy: action.policy.clone(),
            action: action.kind.name(),
            outcome,
            from: values.0,
            to: values.1,
            reason: action.reason(),
            numbers: action.numbers,
            detail,
            time: now(),
        }));
    }

    /// Counts and logs the outcome of a write to a knob.
    pub fn log_write(&mut self, outcome: ActionOutcome, write: &Write, before: u64, detail: String) {
        self.records.extend(self.stats.record(ActionRecord {
            cgroup: write.cgroup.id,
            path: write.cgroup.path.clone(),
            policy: write.cause.policy.clone(),
            action: write.knob.file(),
            outcome,
            from: before,
            to: write.value,
            reason: write.cause.reason.clone(),
            numbers: write.cause.numbers,
            detail,
            time: now(),
        }));
    }
}
