//! The cgroups with requests, and their bindings to slots.

use std::collections::BTreeMap;

use super::effect::Effect;
use super::plan::{Exhausted, Plan};
use super::registrations::Registrations;
use super::submit::{OnInvalid, SubmitError};
use crate::names::{CgroupId, CgroupPath, CgroupRef};
use crate::policy::precedence::{Resolution, ResolvedPolicy};
use crate::policy::request::{Origin, Request};

/// The reason for the detachment of a removed cgroup.
pub const REASON_REMOVED: &str = "the cgroup was removed";

/// A cgroup with requests.
#[derive(Debug, Clone)]
pub struct Cgroup {
    pub path: CgroupPath,
    pub requests: Vec<Request>,
    /// The requests that the record of the cgroup contains, unless a hook has added others.
    pub recorded: Vec<Request>,
    /// The attached policies, which are those of earlier requests while `pending` is true; and the errors of the
    /// requests.
    pub resolved: Resolution,
    pub slot: Option<u32>,
    /// No slot was free for the current requests.
    pub pending: bool,
}

/// All cgroups with requests.
#[derive(Debug, Default)]
pub struct Cgroups {
    by_id: BTreeMap<CgroupId, Cgroup>,
}

impl Cgroups {
    /// The cgroups with their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (CgroupId, &Cgroup)> {
        self.by_id.iter().map(|(id, cgroup)| (*id, cgroup))
    }

    /// The cgroups.
    pub fn all(&self) -> impl Iterator<Item = &Cgroup> {
        self.by_id.values()
    }

    /// A cgroup by its identifier.
    pub fn get(&self, id: CgroupId) -> Option<&Cgroup> {
        self.by_id.get(&id)
    }

    /// The slot to which a cgroup is bound.
    pub fn slot(&self, id: CgroupId) -> Option<u32> {
        self.get(id)?.slot
    }

    /// Adds or replaces requests for a cgroup, by origin, and updates its binding.
    pub fn request(
        &mut self,
        cgroup: CgroupRef,
        requests: Vec<Request>,
        units: &Registrations,
        plan: &mut Plan<'_>,
    ) {
        let (merged, changed) = self.merged(cgroup.id, requests);
        if changed {
            let resolved = plan.config.resolve(&merged);
            self.replace(cgroup, merged, resolved, units, plan);
        }
    }

    /// Adds or replaces one request, unless it is invalid or requires a hook that this kernel lacks.
    pub fn submit(
        &mut self,
        cgroup: CgroupRef,
        request: Request,
        on_invalid: OnInvalid,
        units: &Registrations,
        plan: &mut Plan<'_>,
    ) -> Result<(), SubmitError> {
        let origin = request.origin;
        let (merged, changed) = self.merged(cgroup.id, vec![request]);
        let resolved = plan.config.resolve(&merged);
        let mut result = Ok(());
        if resolved.rejected.contains(&origin) {
            let errors = resolved.errors.iter().filter(|error| error.origin == Some(origin));
            result = Err(SubmitError::Invalid(errors.map(ToString::to_string).collect()));
        } else if on_invalid == OnInvalid::RejectMissingHooks {
            let missing = plan.config.missing_hooks(&resolved.policies);
            if !missing.is_empty() {
                result = Err(SubmitError::MissingHooks(missing));
            }
        }
        if changed && (result.is_ok() || on_invalid == OnInvalid::Keep) {
            self.replace(cgroup, merged, resolved, units, plan);
        }
        result
    }

    /// The requests of a cgroup with these added or replaced by origin, and whether they differ from the current ones.
    fn merged(&self, id: CgroupId, requests: Vec<Request>) -> (Vec<Request>, bool) {
        let current = self.get(id).map(|cgroup| cgroup.requests.as_slice());
        let mut merged = current.unwrap_or_default().to_vec();
        for request in requests {
            merged.retain(|r| r.origin != request.origin);
            merged.push(request);
        }
        // The highest origin first, as in reports.
        merged.sort_by_key(|r| std::cmp::Reverse(r.origin));
        let changed = current != Some(merged.as_slice());
        (merged, changed)
    }

    /// Sets the requests of a cgroup, and moves it to the slot that results.
    fn replace(
        &mut self,
        cgroup: CgroupRef,
        requests: Vec<Request>,
        resolved: Resolution,
        units: &Registrations,
        plan: &mut Plan<'_>,
    ) {
        let CgroupRef { id, path } = cgroup;
        let current = self.by_id.remove(&id);
        let cgroup = match current {
            Some(current) => Cgroup { requests, pending: false, ..current },
            None => Cgroup {
                path,
                requests,
                recorded: Vec::new(),
                resolved: Resolution::default(),
                slot: None,
                pending: false,
            },
        };
        self.bind(CgroupRef { id, path: cgroup.path.clone() }, cgroup, resolved, units, plan);
    }

    /// Removes the request of an origin.
    pub fn withdraw(&mut self, id: CgroupId, origin: Origin, units: &Registrations, plan: &mut Plan<'_>) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        let before = entry.requests.len();
        entry.requests.retain(|r| r.origin != origin);
        if entry.requests.len() != before {
            entry.pending = false;
            self.reconcile(id, units, plan);
        }
    }

    /// Removes the requests of a unit's files from cgroups that exist.
    pub fn withdraw_unit(&mut self, unit: &str, units: &Registrations, plan: &mut Plan<'_>) {
        let of = |c: &Cgroup| c.requests.iter().any(|r| r.unit.as_deref() == Some(unit));
        let cgroups: Vec<CgroupId> = self.iter().filter(|(_, c)| of(c)).map(|(id, _)| id).collect();
        for id in cgroups {
            self.withdraw(id, Origin::DropIn, units, plan);
        }
    }

    /// Removes a cgroup that no longer exists.
    pub fn remove(&mut self, id: CgroupId, plan: &mut Plan<'_>) {
        let Some(cgroup) = self.by_id.remove(&id) else { return };
        if cgroup.slot.is_some() {
            plan.push(Effect::Unbind { cgroup: id, keep_counters: false });
            let cgroup = CgroupRef { id, path: cgroup.path };
            plan.push(Effect::Detached { cgroup, reason: REASON_REMOVED });
        }
        plan.drop_slot(cgroup.slot);
    }

    /// Removes all bindings and records.
    pub fn forget_all(&mut self, plan: &mut Plan<'_>) {
        for (id, cgroup) in std::mem::take(&mut self.by_id) {
            if cgroup.slot.is_some() {
                plan.push(Effect::Unbind { cgroup: id, keep_counters: false });
            }
            plan.push(Effect::RemoveRecord { cgroup: CgroupRef { id, path: cgroup.path } });
            plan.drop_slot(cgroup.slot);
        }
    }

    /// Retries cgroups without a free slot. Returns false if nothing changed.
    pub fn retry_pending(&mut self, units: &Registrations, plan: &mut Plan<'_>) -> bool {
        let pending: Vec<CgroupId> = self.iter().filter(|(_, c)| c.pending).map(|(id, _)| id).collect();
        for id in &pending {
            self.reconcile(*id, units, plan);
        }
        pending.iter().any(|id| self.get(*id).is_none_or(|c| !c.pending))
    }

    /// Binds a cgroup again to its slot.
    pub fn bind_again(&self, id: CgroupId, plan: &mut Plan<'_>) {
        let Some(cgroup) = self.get(id) else { return };
        let Some(slot) = cgroup.slot else { return };
        let count = plan.config.counts(&cgroup.resolved.policies);
        plan.push(Effect::Bind { cgroup: CgroupRef { id, path: cgroup.path.clone() }, slot, count });
    }

    /// Resolves the requests for a cgroup again and moves it to the resulting slot.
    pub fn reconcile(&mut self, id: CgroupId, units: &Registrations, plan: &mut Plan<'_>) {
        let Some(cgroup) = self.by_id.remove(&id) else { return };
        let resolved = plan.config.resolve(&cgroup.requests);
        self.bind(CgroupRef { id, path: cgroup.path.clone() }, cgroup, resolved, units, plan);
    }

    /// Adds the cgroup with the slot for these policies, or the one that it keeps while no slot is free.
    fn bind(
        &mut self,
        at: CgroupRef,
        mut cgroup: Cgroup,
        mut resolved: Resolution,
        units: &Registrations,
        plan: &mut Plan<'_>,
    ) {
        let unit = cgroup.requests.iter().find_map(|r| r.unit.clone());
        plan.warn(&at.path, unit.as_deref(), &resolved);
        let old = cgroup.slot;
        match plan.take_slot(&resolved.policies) {
            Ok(slot) => (cgroup.slot, cgroup.pending) = (slot, false),
            Err(Exhausted) => {
                if !cgroup.pending {
                    plan.fail(&at.path);
                }
                cgroup.pending = true;
                (cgroup.slot, resolved.policies) = keep_current(&cgroup, units);
                plan.retain_slot(cgroup.slot);
            }
        }
        match (old, cgroup.slot) {
            (before, Some(slot)) if before != Some(slot) => {
                let count = plan.config.counts(&resolved.policies);
                let policies = resolved.policies.iter().map(|p| p.name.clone()).collect();
                plan.push(Effect::Bind { cgroup: at.clone(), slot, count });
                let pod = cgroup.requests.iter().find_map(|r| r.pod.clone());
                plan.push(Effect::Attached { cgroup: at.clone(), policies, pod });
            }
            (Some(_), None) => {
                plan.push(Effect::Unbind { cgroup: at.id, keep_counters: !cgroup.requests.is_empty() });
                let reason = match (cgroup.requests.is_empty(), resolved.errors.is_empty()) {
                    (true, _) => "no policy is requested any more",
                    (false, true) => "the highest origin requests none",
                    (false, false) => "the current request is invalid",
                };
                plan.push(Effect::Detached { cgroup: at.clone(), reason });
            }
            _ => {}
        }
        plan.drop_slot(old);
        cgroup.resolved = resolved;
        let before = std::mem::replace(&mut cgroup.recorded, cgroup.requests.clone());
        plan.push(Effect::WriteRecord { cgroup: at.clone(), before, requests: cgroup.requests.clone() });
        if !cgroup.requests.is_empty() {
            self.by_id.insert(at.id, cgroup);
        }
    }
}

/// The slot and policies that a cgroup keeps while no slot is free for its requests: its own, or those that the
/// kernel bound when the cgroup was created.
fn keep_current(cgroup: &Cgroup, units: &Registrations) -> (Option<u32>, Vec<ResolvedPolicy>) {
    match (cgroup.slot, units.with_slot_at(&cgroup.path)) {
        (Some(slot), _) => (Some(slot), cgroup.resolved.policies.clone()),
        (None, Some(unit)) => (unit.slot, unit.resolved.policies.clone()),
        (None, None) => (None, Vec::new()),
    }
}
