//! The state of the daemon, and the handling of an input: input → effects → kernel, records and signals.

use std::collections::BTreeSet;
use std::path::Path;

use super::apply::EffectApplier;
use super::change::StateChange;
use super::oom_kills::OomKillHistory;
use super::overflow::OverflowStats;
use crate::actuator::{Actuator, clock};
use crate::bpf::Takeover;
use crate::bpf::objects::PolicyObjects;
use crate::bpf::settings::problems;
use crate::cgroup::mount;
use crate::engine::{Engine, Failure, Input, OnInvalid, REASON_REMOVED, SubmitError};
use crate::log::{denials, oom_kill};
use crate::names::{CgroupId, CgroupRef};
use crate::policy::action::{Action, MAX};
use crate::policy::denial::Denial;
use crate::policy::request::Request;
use crate::report::oom_kill::OomKill;
use crate::report::{ActionStats, BindingReport, KernelReport};
use crate::service::api::PublishedObject;

pub struct Daemon {
    pub engine: Engine,
    pub applier: EffectApplier,
    pub actuator: Actuator,
    pub objects: PolicyObjects,
    pub report: KernelReport,
    /// The last kills by the kernel's OOM killer.
    pub oom_kills: OomKillHistory,
    /// The D-Bus object, once it is published.
    pub published: Option<PublishedObject>,
    /// Losses that are already handled.
    pub overflow: OverflowStats,
}

impl Daemon {
    pub fn new(
        engine: Engine,
        applier: EffectApplier,
        actuator: Actuator,
        objects: PolicyObjects,
        report: KernelReport,
    ) -> Self {
        Daemon {
            engine,
            applier,
            actuator,
            objects,
            report,
            oom_kills: OomKillHistory::default(),
            published: None,
            overflow: OverflowStats::default(),
        }
    }

    /// Handles one input: performs its effects and emits signals. Returns the failures.
    pub async fn apply(&mut self, input: Input) -> Vec<Failure> {
        let gone = if let Input::CgroupRemoved(cgroup) = &input { Some(*cgroup) } else { None };
        let mut changes = Vec::new();
        let failures = self.engine.run(input, |effects| self.applier.apply_all(effects, &mut changes));
        self.publish(changes).await;
        if let Some(cgroup) = gone {
            self.actuator.cgroup_removed(cgroup);
            self.applier.forget(cgroup);
        }
        failures
    }

    /// Submits a request for an existing cgroup. Returns the report of the cgroup.
    pub async fn submit(
        &mut self,
        cgroup: CgroupRef,
        request: Request,
        on_invalid: OnInvalid,
    ) -> Result<BindingReport, SubmitError> {
        let mut changes = Vec::new();
        let perform = |effects| self.applier.apply_all(effects, &mut changes);
        let submitted = self.engine.submit(cgroup, request, on_invalid, perform);
        self.publish(changes).await;
        submitted.map(|mut report| {
            self.fill_report(&mut report);
            report
        })
    }

    async fn publish(&mut self, changes: Vec<StateChange>) {
        for one in &changes {
            match one.clone() {
                StateChange::Attached(cgroup, policies) => {
                    self.actuator.set_pod(cgroup.id, self.applier.log.pod(cgroup.id));
                    self.actuator.policies_bound(cgroup, policies.into_iter().collect());
                }
                StateChange::Detached(cgroup, REASON_REMOVED) => {
                    self.actuator.cgroup_removed(cgroup.id);
                    self.applier.forget(cgroup.id);
                }
                StateChange::Detached(cgroup, _) | StateChange::Unbound(cgroup) => {
                    self.actuator.policies_bound(cgroup, BTreeSet::new());
                }
            }
        }
        self.publish_actions().await;
        let Some(object) = &self.published else { return };
        for one in changes {
            let sent = match &one {
                StateChange::Attached(cgroup, policies) => object.emit_attached(cgroup, policies).await,
                StateChange::Detached(cgroup, reason) => object.emit_detached(cgroup, reason).await,
                StateChange::Unbound(..) => Ok(()),
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "sending a signal");
            }
        }
    }

    /// Handles the actions that policies request.
    pub async fn handle_actions(&mut self, actions: Vec<Action>) {
        for action in actions {
            let authority = self.engine.authority(action.cgroup, &action.policy);
            self.actuator.handle(action, authority);
        }
        self.publish_actions().await;
        if let Some(lost) = self.overflow.actions(self.applier.actions_dropped(), clock::now()) {
            tracing::warn!(
                "{lost} actions of policies and kills by the kernel were lost because a ring buffer was full"
            );
        }
    }

    /// Logs denied requests, and emits a signal for each that is logged.
    pub async fn handle_denials(&mut self, denials: Vec<Denial>) {
        for denial in denials {
            // The cgroup was removed, or the policy is detached.
            let Some(path) = self.engine.path_of(denial.cgroup) else { continue };
            let cgroup = denial.cgroup;
            let Some(record) = self.actuator.log.denials.record(&path, denial) else { continue };
            // The owner of a delegated cgroup can create any number of cgroups.
            if !self.applier.log.admit(&path) {
                continue;
            }
            denials::log(&record, self.applier.log.pod(cgroup));
            let Some(object) = &self.published else { continue };
            if let Err(error) = object.emit_denied(&record).await {
                tracing::debug!(%error, "sending a signal");
            }
        }
    }

    /// Takes over from the previous daemon, and reports the kills that were made since it was killed.
    pub async fn take_over(&mut self) {
        let Takeover { kills, oom_kills, .. } = self.applier.take_over();
        self.handle_actions(kills).await;
        self.report_oom_kills(oom_kills).await;
    }

    /// Reports kills by the kernel's OOM killer, in the journal and by a signal.
    pub async fn report_oom_kills(&mut self, kills: Vec<OomKill>) {
        for mut kill in kills {
            let age = OomKillHistory::date(&mut kill);
            // A user whose processes are killed in a loop leaves room for the kills of others.
            if self.oom_kills.is_known(&kill) || !self.applier.log.admit(&oom_kill::path_of(&kill)) {
                continue;
            }
            self.oom_kills.add(kill.clone());
            oom_kill::log(&kill, age, self.applier.log.pod(CgroupId(kill.victim.cgroup_id)));
            let Some(object) = &self.published else { continue };
            if let Err(error) = object.emit_oom_killed(&kill.victim).await {
                tracing::debug!(%error, "sending a signal");
            }
        }
    }

    /// Emits a signal for each action. Its journal entry is already written.
    pub async fn publish_actions(&mut self) {
        let records = self.actuator.log.take();
        let Some(object) = &self.published else { return };
        for one in records {
            if let Err(error) = object.emit_acted(&one).await {
                tracing::debug!(%error, "sending a signal");
            }
        }
    }

    /// Action statistics.
    pub fn action_stats(&self) -> ActionStats {
        let pause_remaining = self.actuator.pause.remaining();
        ActionStats {
            paused: pause_remaining.is_some(),
            paused_for: pause_remaining.filter(|left| *left != MAX),
            counts: self.actuator.log.stats.counts(self.applier.actions_dropped()),
            events_lost: self.applier.events_dropped(),
            problems: problems(Path::new("/")).iter().map(ToString::to_string).collect(),
        }
    }

    /// Adds data of the kernel, of the cgroup's files and of the ledger to a report.
    pub fn fill_report(&self, report: &mut BindingReport) {
        self.applier.fill_report(report);
        if report.cgroup_id != 0 {
            report.knobs = self.actuator.knobs(CgroupId(report.cgroup_id));
            self.actuator.log.stats.fill_report(report);
            self.actuator.log.denials.fill_report(report);
        }
    }

    /// Drops cgroups that were removed without an attached policy, which no event reports.
    pub async fn drop_removed(&mut self) {
        for CgroupRef { id, path } in self.engine.without_binding() {
            if mount::cgroup_id(&path).ok() != Some(id) {
                self.apply(Input::CgroupRemoved(id)).await;
            }
        }
    }

    /// One line for the journal at start.
    pub fn summary(&self) -> String {
        let all = self.engine.report_all();
        let active = all.iter().filter(|b| b.state == "active").count();
        let registered = all.iter().filter(|b| b.state == "registered").count();
        format!(
            "{} policies known, {active} cgroups with a policy, {registered} registered, Linux {}",
            self.objects.schemas.len(),
            self.report.release
        )
    }
}
