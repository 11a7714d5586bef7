//! What came of jobs and of refusals: back into the ledger, and one account of each.

use super::acting::{Acting, now};
use super::jobs::Done;
use super::told::{Acted, Outcome};
use crate::cgroup::knob::WriteResult;
use crate::ledger::{Input, Write, WriteOutcome};
use crate::names::CgroupPath;
use crate::policy::action::{Action, ActionKind};
use crate::text::human_bytes;

/// Said of what came too late.
const GONE: &str = "the cgroup went away before it was done";

impl Acting {
    /// A job is done.
    pub fn done(&mut self, done: Done) {
        let cgroup = match &done {
            Done::Wrote(write, _) => write.cgroup,
            Done::Reclaimed(action, ..) => action.cgroup,
            Done::Killed(killing, _) => killing.action.cgroup,
        };
        self.account(done);
        self.forget_the_ungoverned(cgroup);
    }

    fn account(&mut self, done: Done) {
        match done {
            Done::Wrote(write, wrote) => self.wrote(write, wrote),
            Done::Reclaimed(action, path, came) => {
                if let Some(end) = self.reclaimed.get_mut(&action.cgroup) {
                    *end = now();
                }
                match came {
                    Ok(r) => {
                        let took = human_bytes(r.before.saturating_sub(r.after));
                        let short = if r.short { ", less than asked for" } else { "" };
                        let detail = format!("took {took}{short}");
                        self.tell(Outcome::Done, &action, &path, (r.before, r.after), detail);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        self.tell(Outcome::Gone, &action, &path, (0, 0), GONE.to_owned());
                    }
                    Err(error) => {
                        self.tell(Outcome::Failed, &action, &path, (0, 0), error.to_string());
                    }
                }
            }
            Done::Killed(killing, came) => {
                let (action, path) = (&killing.action, &killing.path);
                self.guards.kill_finished(now(), action.cgroup, action.dry_run);
                match came {
                    Ok(Some(story)) => {
                        let outcome = if action.dry_run { Outcome::DryRun } else { Outcome::Done };
                        self.tell(outcome, action, path, (story.before, story.after), story.sentence);
                    }
                    Ok(None) => self.tell(Outcome::Gone, action, path, (0, 0), GONE.to_owned()),
                    Err(why) => self.tell(Outcome::Failed, action, path, (0, 0), why),
                }
            }
        }
    }

    pub(super) fn wrote(&mut self, write: Write, wrote: WriteResult) {
        let Write { cgroup, ref path, knob, value, .. } = write;
        let outcome = match wrote {
            // Somebody else had written just that.
            WriteResult::Written(before) if before == value => WriteOutcome::Written,
            WriteResult::Written(before) => {
                let detail = format!("{knob}: {} → {}", knob.format(before), knob.format(value));
                self.note(Outcome::Done, &write, before, detail);
                WriteOutcome::Written
            }
            WriteResult::Conflict(current) => {
                tracing::debug!("{path}: somebody else wrote {} to {knob}", knob.format(current));
                WriteOutcome::Conflict(current)
            }
            WriteResult::Removed => {
                self.note(Outcome::Gone, &write, value, GONE.to_owned());
                WriteOutcome::Removed
            }
            WriteResult::Failed(error) => {
                self.note(Outcome::Failed, &write, value, format!("writing {knob}: {error}"));
                WriteOutcome::Failed
            }
        };
        self.step(Input::WriteDone { cgroup, knob, outcome });
    }

    pub(super) fn refuse(&mut self, action: &Action, path: &CgroupPath, why: String) {
        let to = match action.kind {
            ActionKind::SetKnob(_, value) => value.unwrap_or(0),
            ActionKind::Reclaim { bytes, .. } => bytes,
            ActionKind::Kill { .. } => 0,
        };
        self.tell(Outcome::Refused, action, path, (0, to), why);
    }

    pub(super) fn tell(
        &mut self,
        outcome: Outcome,
        action: &Action,
        path: &CgroupPath,
        values: (u64, u64),
        detail: String,
    ) {
        self.acted.extend(self.tallies.tell(Acted {
            cgroup: action.cgroup,
            path: path.clone(),
            policy: action.policy.clone(),
            verb: action.kind.name(),
            outcome,
            from: values.0,
            to: values.1,
            reason: action.reason(),
            numbers: action.numbers,
            detail,
            time: now(),
        }));
    }

    pub(super) fn note(&mut self, outcome: Outcome, write: &Write, before: u64, detail: String) {
        self.acted.extend(self.tallies.tell(Acted {
            cgroup: write.cgroup,
            path: write.path.clone(),
            policy: write.cause.policy.clone(),
            verb: write.knob.file(),
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
        let mut acting = Acting::new(Limits::default(), 1 << 30, None);
        let write = Write {
            cgroup: CgroupId(7),
            path: CgroupPath::parse("/gone").unwrap(),
            knob: Knob::High,
            expect: vec![1],
            value: 2,
            cause: Cause::internal("a test"),
        };
        acting.done(Done::Wrote(write, WriteResult::Removed));
        assert_eq!(acting.tallies.counts(0), BTreeMap::from([("removed".to_owned(), 1)]));
        let acted = acting.take();
        assert_eq!((acted.len(), acted[0].detail.as_str()), (1, GONE));
        let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
        acting.tallies.complete(&mut report);
        assert_eq!((report.actions, report.last_action), (BTreeMap::new(), None));
    }
}
