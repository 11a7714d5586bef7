//! Turns requests into bindings, and computes the effects: `Engine::step(input) → effects`. No I/O and no clock. Does
//! not depend on policies or maps.

mod cgroups;
mod config;
mod effect;
mod input;
mod plan;
mod registrations;
mod reload;
mod report;
mod slots;
mod submit;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::names::{CgroupId, CgroupPath, CgroupRef, UnitName};
use crate::policy::catalog::Catalog;
use crate::policy::request::{Authority, Origin, Request};
use crate::report::BindingReport;
use cgroups::Cgroups;
pub use cgroups::REASON_REMOVED;
pub use config::EngineConfig;
pub use effect::{AttachSet, Effect, Failure, Performed};
pub use input::Input;
use plan::Plan;
use registrations::Registrations;
pub use report::report_none;
use slots::Slots;
pub use submit::{OnInvalid, SubmitError};

/// All cgroups with requests, and all registered units.
#[derive(Debug, Default)]
pub struct Engine {
    config: EngineConfig,
    cgroups: Cgroups,
    units: Registrations,
    slots: Slots,
    report_all_cgroups: bool,
    attached: AttachSet,
}

impl Engine {
    /// An engine without requests.
    pub fn new(config: EngineConfig) -> Self {
        Engine { config, ..Engine::default() }
    }

    #[cfg(test)]
    fn with_slots(config: EngineConfig, max: u32) -> Self {
        Engine { slots: Slots::with_capacity(max), ..Engine::new(config) }
    }

    /// Handles an input and returns the effects to perform, in order. The same input twice has no effects the second
    /// time.
    pub fn step(&mut self, mut input: Input) -> Vec<Effect> {
        match &mut input {
            Input::ReportAllCgroups(all) => self.report_all_cgroups = *all,
            Input::Reload { config, replaced } => {
                self.config = std::mem::take(config);
                // The new objects must be attached.
                self.attached.policies.retain(|policy| !replaced.contains(policy));
            }
            Input::Shutdown => self.report_all_cgroups = false,
            _ => {}
        }
        self.plan(|units, cgroups, plan| change(units, cgroups, input, plan))
    }

    /// Returns the effects of a change, and of the requests that get a slot by it.
    fn plan(&mut self, change: impl FnOnce(&mut Registrations, &mut Cgroups, &mut Plan<'_>)) -> Vec<Effect> {
        let mut plan = Plan::new(&self.config, &mut self.slots);
        change(&mut self.units, &mut self.cgroups, &mut plan);
        let mut effects = plan.into_effects(&mut self.attached, self.report_all_cgroups);
        // Requests without a slot are retried, which may release other slots.
        while self.slots.has_free() {
            let mut plan = Plan::new(&self.config, &mut self.slots);
            let units_changed = self.units.retry_pending(&mut plan);
            let cgroups_changed = self.cgroups.retry_pending(&self.units, &mut plan);
            if !units_changed && !cgroups_changed {
                break;
            }
            effects.extend(plan.into_effects(&mut self.attached, self.report_all_cgroups));
        }
        effects
    }

    /// Submits a request for an existing cgroup. `perform` performs effects in order.
    pub fn submit(
        &mut self,
        cgroup: CgroupRef,
        request: Request,
        on_invalid: OnInvalid,
        mut perform: impl FnMut(Vec<Effect>) -> Performed,
    ) -> Result<BindingReport, SubmitError> {
        let (origin, path) = (request.origin, cgroup.path.clone());
        let before = self.request_of(cgroup.id, origin).cloned();
        let mut accepted = Ok(());
        let effects = self.plan(|units, cgroups, plan| {
            accepted = cgroups.submit(cgroup.clone(), request, on_invalid, units, plan);
        });
        let mut failures = self.perform(effects, &mut perform);
        accepted?;
        // The change may give slots to other cgroups; what fails there is logged and shown there.
        failures.retain(|failure| failure.path.as_ref() == Some(&path));
        if failures.is_empty() {
            return Ok(self.report_path(&path).unwrap_or_else(|| report_none(&path)));
        }
        let back = match before {
            Some(request) => Input::Request { cgroup, request },
            None => Input::Withdraw { cgroup: cgroup.id, origin },
        };
        self.run(back, perform);
        Err(SubmitError::Failed(failures.into_iter().map(|failure| failure.sentence).collect()))
    }

    /// Handles an input, and performs its effects. Returns the failures.
    pub fn run(&mut self, input: Input, mut perform: impl FnMut(Vec<Effect>) -> Performed) -> Vec<Failure> {
        let effects = self.step(input);
        self.perform(effects, &mut perform)
    }

    fn perform(
        &mut self,
        effects: Vec<Effect>,
        perform: &mut impl FnMut(Vec<Effect>) -> Performed,
    ) -> Vec<Failure> {
        let Performed { mut failures, removed } = perform(effects);
        for cgroup in removed {
            let path = self.path_of(cgroup);
            perform(self.step(Input::CgroupRemoved(cgroup)));
            let sentence = format!("cgroup {cgroup} was removed before its policy was attached");
            failures.push(Failure { path, sentence });
        }
        failures
    }

    /// The origins whose requests a caller withdraws who submits requests of the origin `own`: this origin, so that the
    /// requests that it replaced apply again. If it has no request, those of the annotation and of the owner.
    pub fn origins_to_detach(&self, cgroup: CgroupId, own: Origin) -> Vec<Origin> {
        match self.request_of(cgroup, own) {
            Some(_) => vec![own],
            None => vec![Origin::Annotation, Origin::Xattr],
        }
    }

    /// True if all bindings can be moved to other slots at once, as a reload with replaced objects requires.
    pub fn has_room_for_reload(&self) -> bool {
        self.slots.at_most_half_used()
    }

    /// The cgroups with requests.
    pub fn cgroups(&self) -> impl Iterator<Item = CgroupRef> {
        self.cgroups.iter().map(|(id, cgroup)| CgroupRef { id, path: cgroup.path.clone() })
    }

    /// The cgroups with a request for this container.
    pub fn cgroups_of_container(&self, container: &str) -> Vec<CgroupId> {
        let of = |request: &Request| request.container.as_deref() == Some(container);
        self.cgroups.iter().filter(|(_, c)| c.requests.iter().any(of)).map(|(id, _)| id).collect()
    }

    fn request_of(&self, cgroup: CgroupId, origin: Origin) -> Option<&Request> {
        self.cgroups.get(cgroup)?.requests.iter().find(|r| r.origin == origin)
    }

    /// The authority behind a policy on a cgroup: the lowest for a policy that is not attached.
    pub fn authority(&self, cgroup: CgroupId, policy: &str) -> Authority {
        let attached = self.cgroups.get(cgroup).map(|c| c.resolved.policies.as_slice()).unwrap_or_default();
        attached.iter().find(|p| p.name == policy).map(|p| p.origin.authority()).unwrap_or_default()
    }

    /// The path of a cgroup we know.
    pub fn path_of(&self, cgroup: CgroupId) -> Option<CgroupPath> {
        self.cgroups.get(cgroup).map(|c| c.path.clone())
    }

    /// Cgroups with requests and without attached policies. The kernel does not report their removal.
    pub fn without_binding(&self) -> Vec<CgroupRef> {
        let unbound = self.cgroups.iter().filter(|(_, cgroup)| cgroup.slot.is_none());
        unbound.map(|(id, cgroup)| CgroupRef { id, path: cgroup.path.clone() }).collect()
    }

    /// Number of cgroups other than `cgroup` whose paths begin with `below` and that have requests, including invalid
    /// ones and `none`.
    pub fn count_requests_below(&self, below: &str, cgroup: CgroupId) -> usize {
        self.cgroups.iter().filter(|(id, c)| *id != cgroup && c.path.as_str().starts_with(below)).count()
    }

    /// Units with a registration, and those named by requests for cgroups.
    pub fn units(&self) -> BTreeSet<UnitName> {
        let named = self.cgroups.all().flat_map(|c| &c.requests).filter_map(|r| r.unit.as_deref());
        self.units.names().cloned().chain(named.filter_map(|name| UnitName::parse(name).ok())).collect()
    }

    /// The unit registered under this path.
    pub fn unit_at(&self, path: &CgroupPath) -> Option<UnitName> {
        self.units.unit_at(path).cloned()
    }

    /// The path under which a unit is registered.
    pub fn registered(&self, unit: &UnitName) -> Option<&CgroupPath> {
        self.units.get(unit).map(|unit| &unit.path)
    }

    /// The policies and profiles.
    pub fn catalog(&self) -> &Catalog {
        &self.config.catalog
    }

    /// All cgroups with requests, and all registered units whose cgroup does not exist, by path.
    pub fn report_all(&self) -> Vec<BindingReport> {
        report::report_all(&self.config, &self.cgroups, &self.units)
    }

    /// The report of one cgroup.
    pub fn report_path(&self, path: &CgroupPath) -> Option<BindingReport> {
        report::report_path(&self.config, &self.cgroups, &self.units, path)
    }

    /// The ancestors of this path with attached policies, with the policies' names, nearest first.
    pub fn bound_ancestors<'a>(&'a self, path: &CgroupPath) -> Vec<(&'a CgroupPath, Vec<&'a str>)> {
        report::bound_ancestors(&self.cgroups, path)
    }
}

/// Updates registrations and bindings by an input.
fn change(units: &mut Registrations, cgroups: &mut Cgroups, input: Input, plan: &mut Plan<'_>) {
    match input {
        Input::Unit { unit, path, cgroup, request: Some(request) } => {
            units.register(&unit, &path, &request, plan);
            if let Some(id) = cgroup {
                cgroups.request(CgroupRef { id, path }, vec![request], units, plan);
            }
        }
        Input::Unit { unit, cgroup, request: None, .. } => {
            units.forget(&unit, plan);
            if let Some(cgroup) = cgroup {
                cgroups.withdraw(cgroup, Origin::DropIn, units, plan);
            }
        }
        Input::UnitUnloaded(unit) => {
            units.forget(&unit, plan);
            cgroups.withdraw_unit(unit.as_str(), units, plan);
        }
        Input::Request { cgroup, request } => cgroups.request(cgroup, vec![request], units, plan),
        Input::Withdraw { cgroup, origin } => cgroups.withdraw(cgroup, origin, units, plan),
        Input::CgroupCreated { cgroup, bound } => {
            let id = cgroup.id;
            if let Some(request) = units.at(&cgroup.path).map(|unit| unit.request.clone()) {
                // Binds the cgroup again, because the kernel may have bound it to an earlier registered slot.
                cgroups.request(cgroup, vec![request], units, plan);
            }
            if bound && cgroups.slot(id).is_none() {
                // The registration was removed after the kernel's event.
                plan.push(Effect::Unbind { cgroup: id, keep_counters: false });
            }
        }
        Input::CgroupRemoved(cgroup) => cgroups.remove(cgroup, plan),
        Input::Adopt { cgroup, requests } => cgroups.request(cgroup, requests, units, plan),
        Input::Reload { replaced, .. } => reload::reload(units, cgroups, &replaced, plan),
        Input::Shutdown => {
            units.forget_all(plan);
            cgroups.forget_all(plan);
        }
        Input::ReportAllCgroups(_) => {}
    }
}
