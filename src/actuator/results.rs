//! What came of jobs and of refusals: back into the ledger, and one account of each.

use super::Actuator;
use super::clock::now;
use super::workers::Done;
use crate::cgroup::knob::WriteResult;
use crate::ledger::{Input, Write, WriteOutcome};
use crate::log::audit::{ActionOutcome, ActionRecord};
use crate::names::CgroupPath;
use crate::policy::action::{Action, ActionKind};
use crate::text::human_bytes;

/// Said of what came too late.
const REMOVED_MSG: &str = "the cgroup went away before it was done";

impl Actuator {
    /// A job is done.
    pub fn job_finished(&mut self, done: Done) {
        let cgroup = match &done {
            Done::Wrote(write, _) => write.cgroup,
            Done::Reclaimed(action, ..) => action.cgroup,
            Done::Killed(kill, _) => kill.action.cgroup,
        };
        self.record_result(done);
        self.drop_if_unused(cgroup);
    }

    fn record_result(&mut self, done: Done) {
        match done {
            Done::Wrote(write, wrote) => self.knob_written(write, wrote),
            Done::Reclaimed(action, path, came) => {
                if let Some(end) = self.last_reclaim.get_mut(&action.cgroup) {
                    *end = now();
                }
                match came {
                    Ok(r) => {
                        let took = human_bytes(r.before.saturating_sub(r.after));
                        let short = if r.short { ", less than asked for" } else { "" };
                        let detail = format!("took {took}{short}");
                        self.log_action(ActionOutcome::Done, &action, &path, (r.before, r.after), detail);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        self.log_action(
                            ActionOutcome::Removed,
                            &action,
                            &path,
                            (0, 0),
                            REMOVED_MSG.to_owned(),
                        );
                    }
                    Err(error) => {
                        self.log_action(ActionOutcome::Failed, &action, &path, (0, 0), error.to_string());
                    }
                }
            }
            Done::Killed(kill, came) => {
                let (action, path) = (&kill.action, &kill.path);
                self.admission.kill_finished(now(), action.cgroup, action.dry_run);
                match came {
                    Ok(Some(report)) => {
                        let outcome =
                            if action.dry_run { ActionOutcome::DryRun } else { ActionOutcome::Done };
                        self.log_action(
                            outcome,
                            action,
                            path,
                            (report.before, report.after),
                            report.sentence,
                        );
                    }
                    Ok(None) => {
                        self.log_action(ActionOutcome::Removed, action, path, (0, 0), REMOVED_MSG.to_owned())
                    }
                    Err(why) => self.log_action(ActionOutcome::Failed, action, path, (0, 0), why),
                }
            }
        }
    }

    pub(super) fn knob_written(&mut self, write: Write, wrote: WriteResult) {
        let Write { cgroup, ref path, knob, value, .. } = write;
        let outcome = match wrote {
            // Somebody else had written just that.
            WriteResult::Written(before) if before == value => WriteOutcome::Written,
            WriteResult::Written(before) => {
                let detail = format!("{knob}: {} → {}", knob.format(before), knob.format(value));
                self.log_write(ActionOutcome::Done, &write, before, detail);
                WriteOutcome::Written
            }
            WriteResult::Conflict(current) => {
                tracing::debug!("{path}: somebody else wrote {} to {knob}", knob.format(current));
                WriteOutcome::Conflict(current)
            }
            WriteResult::Removed => {
                self.log_write(ActionOutcome::Removed, &write, value, REMOVED_MSG.to_owned());
                WriteOutcome::Removed
            }
            WriteResult::Failed(error) => {
                self.log_write(ActionOutcome::Failed, &write, value, format!("writing {knob}: {error}"));
                WriteOutcome::Failed
            }
        };
        self.step(Input::WriteDone { cgroup, knob, outcome });
    }

    pub(super) fn block(&mut self, action: &Action, path: &CgroupPath, why: String) {
        let to = match action.kind {
            ActionKind::SetKnob(_, value) => value.unwrap_or(0),
            ActionKind::Reclaim { bytes, .. } => bytes,
            ActionKind::Kill { .. } => 0,
        };
        self.log_action(ActionOutcome::Blocked, action, path, (0, to), why);
    }

    pub(super) fn log_action(
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

    pub(super) fn log_write(&mut self, outcome: ActionOutcome, write: &Write, before: u64, detail: String) {
        self.records.extend(self.stats.record(ActionRecord {
            cgroup: write.cgroup,
            path: write.path.clone(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ledger::Cause;
    use crate::ledger::admission::Limits;
    use crate::names::CgroupId;
    use crate::policy::action::Knob;
    use crate::report::BindingReport;

    #[test]
    fn what_comes_of_a_cgroup_that_is_gone_is_counted_and_nothing_of_it_is_kept() {
        let mut actuator = Actuator::new(Limits::default(), 1 << 30, None);
        let write = Write {
            cgroup: CgroupId(7),
            path: CgroupPath::parse("/gone").unwrap(),
            knob: Knob::High,
            expect: vec![1],
            value: 2,
            cause: Cause::internal("a test"),
        };
        actuator.job_finished(Done::Wrote(write, WriteResult::Removed));
        assert_eq!(actuator.stats.counts(0), BTreeMap::from([("removed".to_owned(), 1)]));
        let records = actuator.take();
        assert_eq!((records.len(), records[0].detail.as_str()), (1, REMOVED_MSG));
        let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
        actuator.stats.fill_report(&mut report);
        assert_eq!((report.actions, report.last_action), (BTreeMap::new(), None));
    }
}
