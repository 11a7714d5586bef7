//! From what policies ask for to what is done: guards, ledger, jobs, and one account of each action.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::jobs::{Done, Job, Jobs};
use super::killing::Killing;
use super::told::{Acted, Outcome, Tallies};
use crate::cgroup::knob::{self, Wrote};
use crate::cgroup::{memory, mount, record};
use crate::ledger::guard::{Facts, Guards, Limits, Ruling};
use crate::ledger::{Came, Cause, Effect, Input, Ledger, Write};
use crate::names::{CgroupId, CgroupPath};
use crate::policy::action::{Action, Knob, MAX, Verb, human_duration};
use crate::source::record::KnobRecord;

/// How long a stop waits for writes that are on their way.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The acting side of the daemon.
pub struct Acting {
    ledger: Ledger,
    guards: Guards,
    pub jobs: Jobs,
    pub tallies: Tallies,
    machine: u64,
    page: u64,
    own: Option<CgroupPath>,
    reclaiming: BTreeSet<CgroupId>,
    /// While paused: until when; [`MAX`]: until it is resumed.
    paused_until: Option<u64>,
    /// What was done since the last look.
    acted: Vec<Acted>,
}

/// `bpf_ktime_get_ns()`, as we read it.
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.ok().and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}

impl Acting {
    /// `machine`: its memory in bytes; `own`: our cgroup.
    pub fn new(limits: Limits, machine: u64, own: Option<CgroupPath>) -> Self {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        Acting {
            ledger: Ledger::default(),
            guards: Guards::new(limits),
            jobs: Jobs::default(),
            tallies: Tallies::default(),
            machine,
            page: page.and_then(|page| u64::try_from(page).ok()).unwrap_or(4096),
            own,
            reclaiming: BTreeSet::new(),
            paused_until: None,
            acted: Vec::new(),
        }
    }

    /// These policies are in force on a cgroup from now on, and no others.
    pub fn bound(&mut self, cgroup: CgroupId, path: CgroupPath, policies: BTreeSet<String>) {
        self.step(Input::Bound { cgroup, path, policies });
    }

    /// A cgroup is gone.
    pub fn gone(&mut self, cgroup: CgroupId) {
        self.step(Input::Gone(cgroup));
        self.guards.forget(cgroup);
        self.tallies.forget(cgroup);
    }

    /// What an earlier daemon recorded on a cgroup.
    pub fn adopt(&mut self, cgroup: CgroupId, path: CgroupPath, knobs: Vec<KnobRecord>) {
        let look = |record: KnobRecord| knob::read(&path, record.knob).ok().map(|now| (record, now));
        let kept = knobs.into_iter().filter_map(look).collect();
        self.step(Input::Adopt { cgroup, path, kept });
    }

    /// Something a policy asks for.
    pub fn ask(&mut self, action: Action) {
        let Some(path) = self.ledger.bound(action.cgroup, &action.policy).cloned() else {
            self.tallies.count_stale();
            return;
        };
        if let Verb::Want(knob, value) = action.verb
            && !action.dry_run
            && value.is_some()
            && value == self.ledger.asked(action.cgroup, &action.policy, knob)
        {
            if let Ok(current) = knob::read(&path, knob) {
                self.step(Input::Renew { cgroup: action.cgroup, policy: action.policy, knob, current });
            }
            return;
        }
        let Some(facts) = self.facts(action.cgroup, &path) else {
            self.tallies.count_stale();
            return;
        };
        match self.guards.judge(now(), &path, &action, &facts) {
            Ruling::Refuse(why) => self.refuse(&action, &path, why),
            Ruling::Do(verb) => self.carry_out(verb, action, path, &facts),
        }
    }

    /// `None`: the cgroup is gone.
    fn facts(&self, cgroup: CgroupId, path: &CgroupPath) -> Option<Facts> {
        if mount::id(path).ok()? != cgroup {
            return None;
        }
        Some(Facts {
            holds_us: self.own.as_ref().is_some_and(|own| own.is_within(path)),
            usage: memory::usage(path).ok()?,
            min: knob::read_file(path, "memory.min").unwrap_or(0),
            effective_max: memory::effective_max(path, self.machine),
            page: self.page,
        })
    }

    fn carry_out(&mut self, verb: Verb, action: Action, path: CgroupPath, facts: &Facts) {
        let cgroup = action.cgroup;
        match verb {
            Verb::Want(knob, value) => self.want(knob, value, action, path),
            _ if self.paused_until.is_some() => {
                self.guards.kill_over(now(), cgroup, action.dry_run);
                self.refuse(&action, &path, "actions are paused".to_owned());
            }
            Verb::Reclaim { bytes, .. } if action.dry_run => {
                let left = facts.usage.saturating_sub(bytes);
                let detail = format!("would have taken {}", crate::units::human_bytes(bytes));
                self.tell(Outcome::DryRun, &action, &path, (facts.usage, left), detail);
            }
            Verb::Reclaim { .. } if !self.reclaiming.insert(cgroup) => {
                self.refuse(&action, &path, "memory is being taken from it already".to_owned());
            }
            Verb::Reclaim { bytes, swappiness } => {
                self.jobs.start(Job::Reclaim { action, path, bytes, swappiness });
            }
            Verb::Kill { grace_ns, scope, select } => self.jobs.start(Job::Kill(Killing {
                action,
                path,
                scope,
                select,
                grace: Duration::from_nanos(grace_ns),
                own: self.own.clone(),
                most: facts.effective_max,
            })),
        }
    }

    fn want(&mut self, knob: Knob, value: Option<u64>, action: Action, path: CgroupPath) {
        let Ok(current) = knob::read(&path, knob) else {
            self.tallies.count_stale();
            return;
        };
        let cgroup = action.cgroup;
        let asked = match action.verb {
            Verb::Want(_, asked) => asked.unwrap_or(0),
            _ => 0,
        };
        let cause = Cause { policy: action.policy.clone(), reason: action.reason(), numbers: action.numbers };
        let policy = action.policy.clone();
        if !action.dry_run {
            self.step(Input::Want { cgroup, policy, knob, value, asked, current, cause });
            return;
        }
        // What it wanted before it was told to run dry is taken back.
        self.step(Input::Want { cgroup, policy, knob, value: None, asked: 0, current, cause });
        let to = value.map_or(current, |value| knob.stricter(current, value));
        let detail = match value {
            Some(_) if to == current => "would have changed nothing".to_owned(),
            Some(_) => format!("would have written {}", knob.show(to)),
            None => "would have put back what was found".to_owned(),
        };
        self.tell(Outcome::DryRun, &action, &path, (current, to), detail);
    }

    /// A job is done.
    pub fn done(&mut self, done: Done) {
        match done {
            Done::Wrote(write, wrote) => self.wrote(write, wrote),
            Done::Reclaimed(action, path, came) => {
                self.reclaiming.remove(&action.cgroup);
                match came {
                    Ok(r) => {
                        let took = crate::units::human_bytes(r.before.saturating_sub(r.after));
                        let short = if r.short { ", less than asked for" } else { "" };
                        let detail = format!("took {took}{short}");
                        self.tell(Outcome::Done, &action, &path, (r.before, r.after), detail);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        self.tallies.count_stale();
                    }
                    Err(error) => {
                        self.tell(Outcome::Failed, &action, &path, (0, 0), error.to_string());
                    }
                }
            }
            Done::Killed(killing, came) => {
                let (action, path) = (&killing.action, &killing.path);
                self.guards.kill_over(now(), action.cgroup, action.dry_run);
                match came {
                    Ok(story) => {
                        let outcome = if action.dry_run { Outcome::DryRun } else { Outcome::Done };
                        self.tell(outcome, action, path, (story.before, story.after), story.sentence);
                    }
                    Err(why) => self.tell(Outcome::Failed, action, path, (0, 0), why),
                }
            }
        }
    }

    fn wrote(&mut self, write: Write, wrote: Wrote) {
        let Write { cgroup, ref path, knob, value, .. } = write;
        let came = match wrote {
            // Somebody else had written just that.
            Wrote::Done(before) if before == value => Came::Done,
            Wrote::Done(before) => {
                let detail = format!("{knob}: {} → {}", knob.show(before), knob.show(value));
                self.note(Outcome::Done, &write, before, detail);
                Came::Done
            }
            Wrote::Foreign(current) => {
                tracing::debug!("{path}: somebody else wrote {} to {knob}", knob.show(current));
                Came::Foreign(current)
            }
            Wrote::Gone => Came::Gone,
            Wrote::Failed(error) => {
                self.note(Outcome::Failed, &write, value, format!("writing {knob}: {error}"));
                Came::Failed
            }
        };
        self.step(Input::Wrote { cgroup, knob, came });
    }

    /// Time has passed.
    pub fn time(&mut self) {
        if self.paused_until.is_some_and(|until| until <= now()) {
            self.resume();
        }
        self.step(Input::Time);
    }

    /// How long until [`Acting::time`] is due; `None` while there is nothing to wait for.
    pub fn due(&self) -> Option<Duration> {
        let resume = self.paused_until.filter(|until| *until != MAX);
        let at = self.ledger.due().into_iter().chain(resume).min()?;
        Some(Duration::from_nanos(at.saturating_sub(now())))
    }

    /// Puts everything back and does nothing more, for so many nanoseconds; 0: until it is resumed.
    pub fn pause(&mut self, for_ns: u64) {
        let until = if for_ns == 0 { MAX } else { now().saturating_add(for_ns) };
        self.paused(Some(until));
        let long = if for_ns == 0 { String::new() } else { format!(" for {}", human_duration(for_ns)) };
        tracing::info!("actions are paused{long}; everything is put back as it was found");
    }

    /// Acts again.
    pub fn resume(&mut self) {
        if self.paused_until.is_some() {
            self.paused(None);
            tracing::info!("actions are resumed");
        }
    }

    /// As the record on the root cgroup says, which a restarted daemon finds there.
    pub fn paused(&mut self, until: Option<u64>) {
        self.paused_until = until;
        let recorded = record::change_record(&CgroupPath::root(), |record| record.paused_until = until);
        if let Err(sentence) = recorded {
            tracing::warn!("{sentence}: after a restart of memcg-bpfd this is forgotten");
        }
        self.step(Input::Pause(until.is_some()));
    }

    /// How much longer the pause lasts; [`MAX`]: until it is resumed.
    pub fn paused_for(&self) -> Option<u64> {
        self.paused_until.map(|until| if until == MAX { MAX } else { until.saturating_sub(now()) })
    }

    /// The knobs of a cgroup that policies want something of.
    pub fn knobs(&self, cgroup: CgroupId) -> Vec<crate::report::KnobReport> {
        self.ledger.describe(cgroup)
    }

    /// Ends all that is on its way. With `restore`, every knob is as it was found afterwards.
    pub async fn stop(&mut self, restore: bool) {
        self.jobs.stop(STOP_PATIENCE).await;
        if !restore {
            return;
        }
        for write in self.ledger.restorations() {
            let Write { cgroup, ref path, knob, value, ref expect, .. } = write;
            match knob::write(path, cgroup, knob, expect, value) {
                Wrote::Failed(error) => {
                    self.note(Outcome::Failed, &write, value, format!("writing {knob}: {error}"));
                    continue;
                }
                Wrote::Done(before) if before != value => {
                    let detail = format!("{knob}: {} → {}", knob.show(before), knob.show(value));
                    self.note(Outcome::Done, &write, before, detail);
                }
                _ => {}
            }
            forget_knob(path, knob);
        }
        if self.paused_until.is_some() {
            self.paused(None);
        }
    }

    /// What was done since the last look, for the signals.
    pub fn take(&mut self) -> Vec<Acted> {
        std::mem::take(&mut self.acted)
    }

    fn step(&mut self, input: Input) {
        let mut unrecorded = BTreeMap::new();
        for effect in self.ledger.step(now(), input) {
            match effect {
                Effect::Record { cgroup, path, knobs } => {
                    if mount::id(&path).ok() == Some(cgroup)
                        && let Err(why) = record::change_record(&path, |record| record.knobs = knobs)
                    {
                        unrecorded.insert(cgroup, why);
                    }
                }
                // What is not on record is not done: after a crash nobody could put it back.
                Effect::Write(write) => match unrecorded.get(&write.cgroup) {
                    Some(why) => {
                        let error = std::io::Error::other(why.clone());
                        self.wrote(write, Wrote::Failed(error));
                    }
                    None => self.jobs.start(Job::Write(write)),
                },
            }
        }
    }

    fn refuse(&mut self, action: &Action, path: &CgroupPath, why: String) {
        let to = match action.verb {
            Verb::Want(_, value) => value.unwrap_or(0),
            Verb::Reclaim { bytes, .. } => bytes,
            Verb::Kill { .. } => 0,
        };
        self.tell(Outcome::Refused, action, path, (0, to), why);
    }

    fn tell(
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
            verb: action.verb.name(),
            outcome,
            from: values.0,
            to: values.1,
            reason: action.reason(),
            numbers: action.numbers,
            detail,
            time: now(),
        }));
    }

    fn note(&mut self, outcome: Outcome, write: &Write, before: u64, detail: String) {
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

/// Takes one knob off the record of a cgroup.
fn forget_knob(path: &CgroupPath, knob: Knob) {
    let done = record::change_record(path, |record| record.knobs.retain(|kept| kept.knob != knob));
    if let Err(sentence) = done {
        tracing::warn!("{sentence}");
    }
}

/// Puts back what a record says, without a daemon. The sentences are of what failed.
pub fn put_back(path: &CgroupPath, knobs: &[KnobRecord]) -> Vec<String> {
    let Ok(cgroup) = mount::id(path) else { return Vec::new() };
    let back = |kept: &KnobRecord| match knob::write(path, cgroup, kept.knob, &kept.ours, kept.found) {
        Wrote::Failed(error) => Some(format!("putting back {} of {path}: {error}", kept.knob)),
        _ => None,
    };
    knobs.iter().filter_map(back).collect()
}
