//! Admits the actions that policies request, and performs them: guards, ledger, workers and results.

pub mod clock;
pub mod kill;
mod oomd;
pub mod restore;
pub mod results;
pub mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cgroup::knob::WriteResult;
use crate::cgroup::reclaim::Reclaimed;
use crate::cgroup::{directory, memory, xattr};
use crate::ledger::admission::{Facts, Limits};
use crate::ledger::{Effect, Input, Ledger, Submitted, Write};
use crate::log::audit::ActionOutcome;
use crate::names::{CgroupId, CgroupPath, CgroupRef, PodName};
use crate::policy::action::{Action, ActionKind, Culprit, Killed, Knob, MAX, human_duration};
use crate::policy::request::Authority;
use crate::source::xattr::KnobRecord;
use crate::text::human_bytes;
use clock::now;
use kill::{KillJob, KillReport};
use restore::{Pause, restore_all};
use results::{ActionLog, REMOVED_MSG};
use workers::{Done, Job, Jobs};

/// Timeout of writes in progress during a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Admits the actions that policies request, and performs them.
pub struct Actuator {
    ledger: Ledger,
    /// Writes, reclaim and kills in progress.
    pub jobs: Jobs,
    /// Results of actions.
    pub log: ActionLog,
    machine: u64,
    page: u64,
    daemon_cgroup: Option<CgroupPath>,
    /// The end of the last reclaim of each cgroup; [`MAX`] while one is in progress.
    last_reclaim: BTreeMap<CgroupId, u64>,
    /// The suspension of all actions.
    pub pause: Pause,
}

impl Actuator {
    /// `machine` is the size of the memory in bytes.
    pub fn new(limits: Limits, machine: u64, daemon_cgroup: Option<CgroupPath>) -> Self {
        Actuator {
            ledger: Ledger::new(limits),
            jobs: Jobs::default(),
            log: ActionLog::default(),
            machine,
            page: memory::page_size(),
            daemon_cgroup,
            last_reclaim: BTreeMap::new(),
            pause: Pause::default(),
        }
    }

    /// Sets the rate limits of actions.
    pub fn set_limits(&mut self, limits: Limits) {
        self.ledger.admission.set_limits(limits);
    }

    /// The guards of kills that the kernel performs: the end of the pause (0 without one), and the limit in a minute.
    pub fn kill_guards(&self) -> (u64, u32) {
        let Limits { per_second, kills_per_minute } = self.ledger.admission.limits();
        // PerSecond=0 allows no actions.
        (self.pause.until(), if per_second == 0 { 0 } else { kills_per_minute })
    }

    /// Sets the policies that are attached to a cgroup.
    pub fn policies_bound(&mut self, cgroup: CgroupRef, policies: BTreeSet<String>) {
        let id = cgroup.id;
        self.step(Input::PoliciesBound { cgroup, policies });
        self.drop_if_unused(id);
    }

    /// Sets the names of the pod and of the container of a cgroup, for the journal.
    pub fn set_pod(&mut self, cgroup: CgroupId, pod: Option<&PodName>) {
        self.log.stats.set_pod(cgroup, pod);
    }

    /// Handles the removal of a cgroup.
    pub fn cgroup_removed(&mut self, cgroup: CgroupId) {
        self.step(Input::CgroupRemoved(cgroup));
        self.ledger.admission.forget(cgroup);
        self.log.stats.forget(cgroup);
        self.log.denials.forget(cgroup);
        self.last_reclaim.remove(&cgroup);
    }

    /// Drops a cgroup without a policy and without a changed knob, whose removal is not reported.
    fn drop_if_unused(&mut self, cgroup: CgroupId) {
        // Reclaim in progress is logged when it ends.
        if !self.ledger.contains(cgroup) && self.last_reclaim.get(&cgroup) != Some(&MAX) {
            self.cgroup_removed(cgroup);
        }
    }

    /// Adopts the knobs that an earlier daemon recorded on a cgroup.
    pub fn adopt(&mut self, cgroup: CgroupRef, knobs: Vec<KnobRecord>) {
        let Ok(directory) = directory::open(&cgroup) else { return };
        let look = |record: KnobRecord| {
            let current = directory.number(record.knob.file()).ok()?;
            Some((record, current))
        };
        let kept = knobs.into_iter().filter_map(look).collect();
        self.step(Input::Adopt { cgroup, kept });
    }

    /// Handles an action that a policy requests, with the authority behind the policy.
    pub fn handle(&mut self, action: Action, authority: Authority) {
        if let Some((culprit, killed)) = action.performed() {
            return self.report_kill(&action, culprit, killed, authority);
        }
        let (machine, page, daemon) = (self.machine, self.page, &self.daemon_cgroup);
        let observe = |cgroup: &CgroupRef, knob: Option<Knob>| {
            let directory = directory::open(cgroup).ok()?;
            let facts = Facts {
                contains_daemon: daemon.as_ref().is_some_and(|daemon| daemon.is_within(&cgroup.path)),
                usage: directory.number("memory.current").ok()?,
                min: directory.number("memory.min").unwrap_or(0),
                effective_max: memory::effective_max(&cgroup.path, machine),
                page,
                authority,
            };
            Some((facts, knob.and_then(|knob| directory.number(knob.file()).ok())))
        };
        let (submitted, effects) = self.ledger.submit(now(), &action, observe);
        self.perform(effects);
        match submitted {
            Submitted::Unchanged => {}
            Submitted::Stale => self.log.stats.count_stale(),
            Submitted::Blocked(path, why) => self.log.block(&action, &path, why),
            Submitted::Constrained { path, knob, value, current } if action.dry_run => {
                let to = value.map_or(current, |value| knob.strictest(current, value));
                let detail = match value {
                    Some(_) if to == current => "would have changed nothing".to_owned(),
                    Some(_) => format!("would have written {}", knob.format(to)),
                    None => "would have restored the original value".to_owned(),
                };
                self.log.log_action(ActionOutcome::DryRun, &action, &path, (current, to), detail);
            }
            Submitted::Constrained { .. } => {}
            Submitted::Allowed(path, kind, facts) => self.dispatch(kind, action, path, &facts),
        }
    }

    fn dispatch(&mut self, kind: ActionKind, action: Action, path: CgroupPath, facts: &Facts) {
        let cgroup = action.cgroup;
        match kind {
            // The ledger's effects set knobs.
            ActionKind::SetKnob(..) => {}
            _ if self.pause.is_active() => {
                if matches!(kind, ActionKind::Kill { .. }) {
                    self.ledger.admission.kill_cancelled(cgroup, action.dry_run, facts.authority);
                }
                self.log.block(&action, &path, "actions are paused".to_owned());
            }
            ActionKind::Reclaim { bytes, .. } if action.dry_run => {
                let left = facts.usage.saturating_sub(bytes);
                let detail = format!("would have reclaimed {}", human_bytes(bytes));
                self.log.log_action(ActionOutcome::DryRun, &action, &path, (facts.usage, left), detail);
            }
            ActionKind::Reclaim { .. } if self.last_reclaim.get(&cgroup) == Some(&MAX) => {
                self.log.block(&action, &path, "memory of this cgroup is already being reclaimed".to_owned());
            }
            // The request is older than the end of the last reclaim, so its size is outdated.
            ActionKind::Reclaim { .. }
                if self.last_reclaim.get(&cgroup).is_some_and(|end| action.time < *end) =>
            {
                self.log.stats.count_stale();
            }
            ActionKind::Reclaim { bytes, swappiness } => {
                self.last_reclaim.insert(cgroup, MAX);
                self.jobs.start(Job::Reclaim { action, path, bytes, swappiness });
            }
            ActionKind::Kill { grace_ns, scope, select } => self.jobs.start(Job::Kill(KillJob {
                action,
                path,
                scope,
                select,
                grace: Duration::from_nanos(grace_ns),
                daemon_cgroup: self.daemon_cgroup.clone(),
                memory_max: facts.effective_max,
                paused: self.pause.flag(),
                authority: facts.authority,
            })),
        }
    }

    /// Handles expired constraints, repeated writes and the end of a pause.
    pub fn tick(&mut self) {
        if self.pause.is_over() {
            self.resume();
        }
        self.step(Input::Tick);
    }

    /// The time until [`Actuator::tick`] is due; `None` if there is nothing to wait for.
    pub fn due(&self) -> Option<Duration> {
        let at = self.ledger.due().into_iter().chain(self.pause.end()).min()?;
        Some(Duration::from_nanos(at.saturating_sub(now())))
    }

    /// The knobs of a cgroup with constraints.
    pub fn knobs(&self, cgroup: CgroupId) -> Vec<crate::report::KnobReport> {
        self.ledger.describe(cgroup)
    }

    /// Handles the end of a write, reclaim or kill.
    pub fn job_finished(&mut self, done: Done) {
        let cgroup = match &done {
            Done::Wrote(write, _) => write.cgroup.id,
            Done::Reclaimed(action, ..) => action.cgroup,
            Done::Killed(job, _) => job.action.cgroup,
        };
        match done {
            Done::Wrote(write, result) => self.write_done(&write, result),
            Done::Reclaimed(action, path, result) => self.reclaim_done(&action, &path, result),
            Done::Killed(job, result) => self.kill_done(&job, result),
        }
        self.drop_if_unused(cgroup);
    }

    fn write_done(&mut self, write: &Write, result: WriteResult) {
        let outcome = self.log.knob_written(write, result);
        self.step(Input::WriteDone { cgroup: write.cgroup.id, knob: write.knob, outcome });
    }

    fn reclaim_done(&mut self, action: &Action, path: &CgroupPath, result: std::io::Result<Reclaimed>) {
        if let Some(end) = self.last_reclaim.get_mut(&action.cgroup) {
            *end = now();
        }
        let (outcome, values, detail) = match result {
            Ok(r) => {
                let short = if r.short { ", less than requested" } else { "" };
                let detail = format!("reclaimed {}{short}", human_bytes(r.before.saturating_sub(r.after)));
                (ActionOutcome::Done, (r.before, r.after), detail)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (ActionOutcome::Removed, (0, 0), REMOVED_MSG.to_owned())
            }
            Err(error) => (ActionOutcome::Failed, (0, 0), error.to_string()),
        };
        self.log.log_action(outcome, action, path, values, detail);
    }

    /// Reports a kill that the kernel has performed. It counts for the kills that the daemon performs, too.
    fn report_kill(&mut self, action: &Action, culprit: &Culprit, killed: &Killed, authority: Authority) {
        let path = self.ledger.kill_performed(action, &killed.unit, authority);
        let age = now().saturating_sub(action.time);
        let detail = kill::describe_kernel_kill(culprit, killed, age);
        let after = memory::usage(&path).unwrap_or(0);
        self.log.log_action(ActionOutcome::Done, action, &path, (killed.usage, after), detail);
    }

    fn kill_done(&mut self, job: &KillJob, result: Result<Option<KillReport>, String>) {
        let action = &job.action;
        self.ledger.admission.kill_finished(now(), action.cgroup, action.dry_run, job.authority);
        let (outcome, values, detail) = match result {
            Ok(Some(report)) => {
                let outcome = if action.dry_run { ActionOutcome::DryRun } else { ActionOutcome::Done };
                (outcome, (report.before, report.after), report.sentence)
            }
            Ok(None) => (ActionOutcome::Removed, (0, 0), REMOVED_MSG.to_owned()),
            Err(why) => (ActionOutcome::Failed, (0, 0), why),
        };
        self.log.log_action(outcome, action, &job.path, values, detail);
    }

    /// Restores all knobs and suspends actions for this many nanoseconds. If 0, until [`Actuator::resume`].
    pub fn pause(&mut self, for_ns: u64) {
        self.set_pause(Some(if for_ns == 0 { MAX } else { now().saturating_add(for_ns) }));
        let long = if for_ns == 0 { String::new() } else { format!(" for {}", human_duration(for_ns)) };
        tracing::info!("actions are paused{long}; all knobs are restored");
    }

    /// Ends the pause, if there is one.
    pub fn resume(&mut self) {
        if self.pause.is_active() {
            self.set_pause(None);
            tracing::info!("actions are resumed");
        }
    }

    /// Sets the end of the pause, or ends it, as recorded on the root cgroup.
    pub fn set_pause(&mut self, until: Option<u64>) {
        self.pause.set(until);
        self.step(Input::Pause(until.is_some()));
    }

    /// Ends all jobs. If `restore` is true, restores all knobs.
    pub async fn stop(&mut self, restore: bool) {
        self.jobs.stop(STOP_TIMEOUT).await;
        if !restore {
            return;
        }
        restore_all(&self.ledger, &mut self.log);
        if self.pause.is_active() {
            self.set_pause(None);
        }
    }

    fn step(&mut self, input: Input) {
        let effects = self.ledger.step(now(), input);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut unrecorded = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Record { cgroup, knobs } => {
                    if let Err(why) = xattr::update_record(&cgroup, |record| record.knobs = knobs) {
                        unrecorded.insert(cgroup.id, why);
                    }
                }
                // A value without a record is not written: after a crash it could not be restored.
                Effect::Write(write) => match unrecorded.get(&write.cgroup.id) {
                    Some(why) => {
                        let error = std::io::Error::other(why.clone());
                        self.write_done(&write, WriteResult::Failed(error));
                    }
                    None => self.jobs.start(Job::Write(write)),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
