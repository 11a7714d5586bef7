//! The daemon's state and the one road through it: input → effects → kernel, records and signals.

use std::collections::{BTreeMap, BTreeSet};

use super::acting::{self, Acting};
use super::hands::{Hands, News, Outcome};
use super::lost::Lost;
use super::object::Published;
use crate::bpf::Event;
use crate::bpf::objects::PolicyObjects;
use crate::cgroup::mount;
use crate::engine::{Engine, Input, REASON_REMOVED};
use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::policy::action::{Action, MAX};
use crate::report::{ActionStats, BindingReport, KernelReport};
use crate::source::specifier::Specifiers;
use crate::systemd::{PolicyUnits, UnitFileIndex, UnitQueries};

pub struct Daemon {
    pub world: Engine,
    pub hands: Hands,
    pub acting: Acting,
    pub objects: PolicyObjects,
    pub report: KernelReport,
    /// Our object, once it is on the bus.
    pub published: Option<Published>,
    /// Questions to systemd, once it is found.
    pub inquiry: Option<UnitQueries>,
    pub discovery: PolicyUnits,
    /// Unit files as the last search found them; systemd may not have read them yet.
    pub unit_files: UnitFileIndex,
    /// Units with other files than before since the last daemon-reload: what systemd says of theirs may be older.
    pub unread: BTreeSet<UnitName>,
    /// Units that ran when systemd last told of them, since the last daemon-reload.
    pub seen_running: BTreeMap<UnitName, CgroupId>,
    pub specifiers: Specifiers,
    /// Losses we know of.
    pub lost: Lost,
    /// Paths of transient units with a policy.
    pub transient: BTreeSet<CgroupPath>,
}

impl Daemon {
    pub fn new(
        world: Engine,
        hands: Hands,
        acting: Acting,
        objects: PolicyObjects,
        report: KernelReport,
    ) -> Self {
        Daemon {
            world,
            hands,
            acting,
            objects,
            report,
            published: None,
            inquiry: None,
            discovery: PolicyUnits::default(),
            unit_files: UnitFileIndex::default(),
            unread: BTreeSet::new(),
            seen_running: BTreeMap::new(),
            specifiers: super::units::specifiers(),
            lost: Lost::default(),
            transient: BTreeSet::new(),
        }
    }

    /// Takes one input all the way. Returns what failed.
    pub async fn apply(&mut self, input: Input) -> Vec<String> {
        let gone = if let Input::CgroupRemoved(cgroup) = &input { Some(*cgroup) } else { None };
        let effects = self.world.step(input);
        let Outcome { news, mut failures, vanished } = self.hands.perform(effects);
        self.tell(news).await;
        if let Some(cgroup) = gone {
            self.acting.gone(cgroup);
        }
        for cgroup in vanished {
            let effects = self.world.step(Input::CgroupRemoved(cgroup));
            let outcome = self.hands.perform(effects);
            failures.push(format!("cgroup {cgroup} went away before it could be bound"));
            self.tell(outcome.news).await;
        }
        failures
    }

    async fn tell(&mut self, news: Vec<News>) {
        for one in &news {
            match one.clone() {
                News::Attached(path, cgroup, policies) => {
                    self.acting.bound(cgroup, path, policies.into_iter().collect());
                }
                News::Detached(_, cgroup, REASON_REMOVED) => self.acting.gone(cgroup),
                News::Detached(path, cgroup, _) | News::Unbound(path, cgroup) => {
                    self.acting.bound(cgroup, path, BTreeSet::new());
                }
            }
        }
        self.tell_acted().await;
        let Some(object) = &self.published else { return };
        for one in news {
            let sent = match &one {
                News::Attached(path, id, policies) => object.emit_attached(path, *id, policies).await,
                News::Detached(path, id, reason) => object.emit_detached(path, *id, reason).await,
                News::Unbound(..) => Ok(()),
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "sending a signal");
            }
        }
    }

    /// What policies ask for.
    pub async fn asked(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.acting.ask(action);
        }
        self.tell_acted().await;
        if let Some(lost) = self.lost.actions(self.hands.actions_dropped(), acting::now()) {
            tracing::warn!("{lost} actions that policies asked for were lost, because too many came at once");
        }
    }

    /// A signal for each thing done; its journal line is written already.
    pub async fn tell_acted(&mut self) {
        let acted = self.acting.take();
        let Some(object) = &self.published else { return };
        for one in acted {
            if let Err(error) = object.emit_acted(&one).await {
                tracing::debug!(%error, "sending a signal");
            }
        }
    }

    /// Acting as a whole.
    pub fn actions_report(&self) -> ActionStats {
        let paused_for = self.acting.paused_for();
        ActionStats {
            paused: paused_for.is_some(),
            paused_for: paused_for.filter(|left| *left != MAX),
            counts: self.acting.tallies.counts(self.hands.actions_dropped()),
            events_lost: self.hands.dropped(),
        }
    }

    /// Adds to a report what only the kernel, the cgroup's files and the ledger know.
    pub fn complete(&self, report: &mut BindingReport) {
        self.hands.complete(report);
        if report.cgroup_id != 0 {
            report.knobs = self.acting.knobs(CgroupId(report.cgroup_id));
            self.acting.tallies.complete(report);
        }
    }

    /// Forgets cgroups that went away with nothing in force on them, which nothing told us.
    pub async fn sweep(&mut self) {
        for (cgroup, path) in self.world.without_binding() {
            if mount::cgroup_id(&path).ok() != Some(cgroup) {
                self.apply(Input::CgroupRemoved(cgroup)).await;
            }
        }
    }

    /// What the kernel told since last time.
    pub async fn kernel_events(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Removed { cgroup } => self.cgroup_gone(cgroup).await,
                Event::Created { cgroup, path, bound } => {
                    let Ok(path) = CgroupPath::parse(&path) else { continue };
                    self.apply(Input::CgroupCreated { cgroup, path: path.clone(), bound }).await;
                    if !bound {
                        self.cgroup_appeared(&path).await;
                    }
                }
            }
        }
    }

    /// When the ring buffer was full, what it would have told is looked up.
    pub async fn events_lost(&mut self) {
        let lost = self.lost.events(self.hands.dropped());
        if lost == 0 {
            return;
        }
        tracing::warn!(
            "{lost} events from the kernel were lost, because too many came at once; looking at everything"
        );
        let all: Vec<_> = self.world.cgroups().map(|(id, path)| (id, path.clone())).collect();
        for (id, path) in all {
            if mount::cgroup_id(&path).ok() != Some(id) {
                self.cgroup_gone(id).await;
            }
        }
        self.rescan().await;
    }

    /// One line for the journal at start.
    pub fn summary(&self) -> String {
        let all = self.world.report_all();
        let active = all.iter().filter(|b| b.state == "active").count();
        let registered = all.iter().filter(|b| b.state == "registered").count();
        format!(
            "{} policies known, {active} cgroups governed, {registered} registered, Linux {}",
            self.objects.schemas.len(),
            self.report.release
        )
    }
}
