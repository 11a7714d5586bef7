//! From what policies ask for to what is done: guards, ledger, jobs, and one account of each action.

pub mod clock;
pub mod kill;
pub mod restore;
mod results;
pub mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::cgroup::knob::{self, WriteResult};
use crate::cgroup::{memory, mount, xattr};
use crate::ledger::admission::{Admission, Decision, Facts, Limits};
use crate::ledger::{Cause, Effect, Input, Ledger};
use crate::log::audit::{ActionOutcome, ActionRecord, ActionStats};
use crate::names::{CgroupId, CgroupPath};
use crate::policy::action::{Action, ActionKind, Knob, MAX};
use crate::source::xattr::KnobRecord;
use clock::now;
use kill::KillJob;
use workers::{Job, Jobs};

/// The acting side of the daemon.
pub struct Actuator {
    ledger: Ledger,
    admission: Admission,
    /// Writes, reclaim and kills in progress.
    pub jobs: Jobs,
    /// Counts of actions, and the log of them.
    pub stats: ActionStats,
    machine: u64,
    page: u64,
    daemon_cgroup: Option<CgroupPath>,
    /// When taking memory from a cgroup ended; [`MAX`] while it goes on.
    last_reclaim: BTreeMap<CgroupId, u64>,
    /// While paused: until when; [`MAX`]: until it is resumed.
    paused_until: Option<u64>,
    /// The same for kills on their way.
    pause_flag: Arc<AtomicBool>,
    /// What was done since the last look.
    records: Vec<ActionRecord>,
}

impl Actuator {
    /// `machine`: its memory in bytes; `own`: our cgroup.
    pub fn new(limits: Limits, machine: u64, daemon_cgroup: Option<CgroupPath>) -> Self {
        Actuator {
            ledger: Ledger::default(),
            admission: Admission::new(limits),
            jobs: Jobs::default(),
            stats: ActionStats::default(),
            machine,
            page: memory::page_size(),
            daemon_cgroup,
            last_reclaim: BTreeMap::new(),
            paused_until: None,
            pause_flag: Arc::default(),
            records: Vec::new(),
        }
    }

    /// So much may be done from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.admission.set_limits(limits);
    }

    /// These policies are in force on a cgroup from now on, and no others.
    pub fn policies_bound(&mut self, cgroup: CgroupId, path: CgroupPath, policies: BTreeSet<String>) {
        self.step(Input::PoliciesBound { cgroup, path, policies });
        self.drop_if_unused(cgroup);
    }

    /// A cgroup is gone.
    pub fn cgroup_removed(&mut self, cgroup: CgroupId) {
        self.step(Input::CgroupRemoved(cgroup));
        self.admission.forget(cgroup);
        self.stats.forget(cgroup);
        self.last_reclaim.remove(&cgroup);
    }

    /// Nobody tells of the end of a cgroup that has no policy and nothing to be put back.
    fn drop_if_unused(&mut self, cgroup: CgroupId) {
        // What is being taken from it is told in the end.
        if !self.ledger.contains(cgroup) && self.last_reclaim.get(&cgroup) != Some(&MAX) {
            self.cgroup_removed(cgroup);
        }
    }

    /// What an earlier daemon recorded on a cgroup.
    pub fn adopt(&mut self, cgroup: CgroupId, path: CgroupPath, knobs: Vec<KnobRecord>) {
        let look = |record: KnobRecord| knob::read(&path, record.knob).ok().map(|now| (record, now));
        let kept = knobs.into_iter().filter_map(look).collect();
        self.step(Input::Adopt { cgroup, path, kept });
    }

    /// Something a policy asks for.
    pub fn handle(&mut self, action: Action) {
        let Some(path) = self.ledger.path_if_bound(action.cgroup, &action.policy).cloned() else {
            self.stats.count_stale();
            return;
        };
        if let ActionKind::SetKnob(knob, value) = action.kind
            && !action.dry_run
            && value.is_some()
            && value == self.ledger.requested(action.cgroup, &action.policy, knob)
        {
            if let Ok(current) = knob::read(&path, knob) {
                self.step(Input::Renew { cgroup: action.cgroup, policy: action.policy, knob, current });
            }
            return;
        }
        // There is nothing to take back.
        if let ActionKind::SetKnob(knob, None) = action.kind
            && !action.dry_run
            && !self.ledger.is_constrained_by(action.cgroup, &action.policy, knob)
        {
            return;
        }
        let Some(facts) = self.facts(action.cgroup, &path) else {
            self.stats.count_stale();
            return;
        };
        match self.admission.admit(now(), &path, &action, &facts) {
            Decision::Block(why) => self.block(&action, &path, why),
            Decision::Allow(kind) => self.dispatch(kind, action, path, &facts),
        }
    }

    /// `None`: the cgroup is gone.
    fn facts(&self, cgroup: CgroupId, path: &CgroupPath) -> Option<Facts> {
        if mount::cgroup_id(path).ok()? != cgroup {
            return None;
        }
        Some(Facts {
            contains_daemon: self
                .daemon_cgroup
                .as_ref()
                .is_some_and(|daemon_cgroup| daemon_cgroup.is_within(path)),
            usage: memory::usage(path).ok()?,
            min: knob::read_file(path, "memory.min").unwrap_or(0),
            effective_max: memory::effective_max(path, self.machine),
            page: self.page,
        })
    }

    fn dispatch(&mut self, kind: ActionKind, action: Action, path: CgroupPath, facts: &Facts) {
        let cgroup = action.cgroup;
        match kind {
            ActionKind::SetKnob(knob, value) => self.constrain(knob, value, action, path),
            _ if self.paused_until.is_some() => {
                if matches!(kind, ActionKind::Kill { .. }) {
                    self.admission.kill_cancelled(cgroup, action.dry_run);
                }
                self.block(&action, &path, "actions are paused".to_owned());
            }
            ActionKind::Reclaim { bytes, .. } if action.dry_run => {
                let left = facts.usage.saturating_sub(bytes);
                let detail = format!("would have taken {}", crate::text::human_bytes(bytes));
                self.log_action(ActionOutcome::DryRun, &action, &path, (facts.usage, left), detail);
            }
            ActionKind::Reclaim { .. } if self.last_reclaim.get(&cgroup) == Some(&MAX) => {
                self.block(&action, &path, "memory is being taken from it already".to_owned());
            }
            // It was decided by what the cgroup had before the last helping: together they would be too much.
            ActionKind::Reclaim { .. }
                if self.last_reclaim.get(&cgroup).is_some_and(|end| action.time < *end) =>
            {
                self.stats.count_stale();
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
                paused: self.pause_flag.clone(),
            })),
        }
    }

    fn constrain(&mut self, knob: Knob, value: Option<u64>, action: Action, path: CgroupPath) {
        let Ok(current) = knob::read(&path, knob) else {
            self.stats.count_stale();
            return;
        };
        let cgroup = action.cgroup;
        let asked = match action.kind {
            ActionKind::SetKnob(_, asked) => asked.unwrap_or(0),
            _ => 0,
        };
        let cause = Cause { policy: action.policy.clone(), reason: action.reason(), numbers: action.numbers };
        let policy = action.policy.clone();
        if !action.dry_run {
            self.step(Input::Constrain { cgroup, policy, knob, value, requested: asked, current, cause });
            return;
        }
        // What it wanted before it was told to run dry is taken back.
        self.step(Input::Constrain { cgroup, policy, knob, value: None, requested: 0, current, cause });
        let to = value.map_or(current, |value| knob.strictest(current, value));
        let detail = match value {
            Some(_) if to == current => "would have changed nothing".to_owned(),
            Some(_) => format!("would have written {}", knob.format(to)),
            None => "would have put back what was found".to_owned(),
        };
        self.log_action(ActionOutcome::DryRun, &action, &path, (current, to), detail);
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        if self.paused_until.is_some_and(|until| until <= now()) {
            self.resume();
        }
        self.step(Input::Tick);
    }

    /// How long until [`Acting::time`] is due; `None` while there is nothing to wait for.
    pub fn due(&self) -> Option<Duration> {
        let resume = self.paused_until.filter(|until| *until != MAX);
        let at = self.ledger.due().into_iter().chain(resume).min()?;
        Some(Duration::from_nanos(at.saturating_sub(now())))
    }

    /// The knobs of a cgroup that policies want something of.
    pub fn knobs(&self, cgroup: CgroupId) -> Vec<crate::report::KnobReport> {
        self.ledger.describe(cgroup)
    }

    /// What was done since the last look, for the signals.
    pub fn take(&mut self) -> Vec<ActionRecord> {
        std::mem::take(&mut self.records)
    }

    fn step(&mut self, input: Input) {
        let mut unrecorded = BTreeMap::new();
        for effect in self.ledger.step(now(), input) {
            match effect {
                Effect::Record { cgroup, path, knobs } => {
                    if mount::cgroup_id(&path).ok() == Some(cgroup)
                        && let Err(why) = xattr::update_record(&path, |record| record.knobs = knobs)
                    {
                        unrecorded.insert(cgroup, why);
                    }
                }
                // What is not on record is not done: after a crash nobody could put it back.
                Effect::Write(write) => match unrecorded.get(&write.cgroup) {
                    Some(why) => {
                        let error = std::io::Error::other(why.clone());
                        self.knob_written(write, WriteResult::Failed(error));
                    }
                    None => self.jobs.start(Job::Write(write)),
                },
            }
        }
    }
}
