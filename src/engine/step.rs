//! One step of the engine.

use std::collections::BTreeSet;

use super::{AttachSet, Cgroup, Effect, Engine, Input, Registered};
use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::policy::precedence::{Resolution, ResolvedPolicy};
use crate::policy::request::{Origin, Request};

/// All slots are taken.
struct Exhausted;

/// The effects of a step by the order in which they are performed.
#[derive(Default)]
pub(super) struct Plan {
    /// New slots.
    pub(super) before: Vec<Effect>,
    /// Binding, registering, recording, reporting.
    pub(super) main: Vec<Effect>,
    /// Clearing what nobody holds any more.
    after: Vec<Effect>,
}

impl Engine {
    /// Takes one input and says what has to be done, in order. The same input twice does nothing the second time.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut plan = Plan::default();
        match input {
            Input::Unit { unit, path, cgroup, request } => self.unit(unit, path, cgroup, request, &mut plan),
            Input::UnitUnloaded(unit) => {
                self.forget_unit(&unit, &mut plan);
                self.withdraw_unit(&unit, &mut plan);
            }
            Input::Request { cgroup, path, request } => {
                self.request(cgroup, path, vec![request], &mut plan);
            }
            Input::Withdraw { cgroup, origin } => self.withdraw(cgroup, origin, &mut plan),
            Input::CgroupCreated { cgroup, path, bound } => {
                self.cgroup_created(cgroup, path, bound, &mut plan)
            }
            Input::CgroupRemoved(cgroup) => self.cgroup_removed(cgroup, &mut plan),
            Input::Adopt { cgroup, path, requests } => self.request(cgroup, path, requests, &mut plan),
            Input::ReportAllCgroups(all) => self.report_all_cgroups = all,
            Input::Reload { config, replaced } => self.reload(config, &replaced, &mut plan),
            Input::Shutdown => self.shutdown(&mut plan),
        }
        let mut effects = self.effects_of(plan);
        // What waited for a slot gets it as soon as there is one, which may free others.
        while self.slots.has_free() {
            let mut plan = Plan::default();
            if !self.retry_pending(&mut plan) {
                break;
            }
            effects.extend(self.effects_of(plan));
        }
        effects
    }

    /// Tries again for those that found no slot; false when that changed nothing.
    fn retry_pending(&mut self, plan: &mut Plan) -> bool {
        let units: Vec<UnitName> =
            self.units.iter().filter(|(_, u)| u.pending).map(|(name, _)| name.clone()).collect();
        let cgroups: Vec<CgroupId> =
            self.cgroups.iter().filter(|(_, c)| c.pending).map(|(id, _)| *id).collect();
        for unit in &units {
            if let Some(Registered { path, request, .. }) = self.units.get(unit).cloned() {
                self.reregister(unit, &path, &request, plan);
            }
        }
        for cgroup in &cgroups {
            self.reconcile(*cgroup, plan);
        }
        units.iter().any(|unit| self.units.get(unit).is_none_or(|u| !u.pending))
            || cgroups.iter().any(|id| self.cgroups.get(id).is_none_or(|c| !c.pending))
    }

    /// New slots, then everything they need attached, then the bindings; what is not needed any more goes last.
    fn effects_of(&mut self, plan: Plan) -> Vec<Effect> {
        let before = self.attached.clone();
        let after = self.desired_attachments();
        let both = AttachSet {
            policies: before.policies.union(&after.policies).cloned().collect(),
            counting: before.counting.union(&after.counting).cloned().collect(),
            cgroup_events: before.cgroup_events || after.cgroup_events,
            report_all_cgroups: before.report_all_cgroups || after.report_all_cgroups,
        };
        let mut effects = plan.before;
        if both != before {
            effects.push(Effect::SetAttachments(both.clone()));
        }
        effects.extend(plan.main);
        if after != both {
            effects.push(Effect::SetAttachments(after.clone()));
        }
        effects.extend(plan.after);
        self.slots.recycle();
        self.attached = after;
        effects
    }

    fn desired_attachments(&self) -> AttachSet {
        let names: BTreeSet<&str> = self.slots.contents().flatten().map(|(name, _)| name.as_str()).collect();
        let policies: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        let counting = policies.intersection(&self.config.counting).cloned().collect();
        let cgroup_events = self.report_all_cgroups || !policies.is_empty();
        AttachSet { policies, counting, cgroup_events, report_all_cgroups: self.report_all_cgroups }
    }

    /// A slot with these policies, filled if need be; `Ok(None)` for no policies.
    fn take_slot(&mut self, policies: &[ResolvedPolicy], plan: &mut Plan) -> Result<Option<u32>, Exhausted> {
        if policies.is_empty() {
            return Ok(None);
        }
        let content = policies.iter().map(|p| (p.name.clone(), p.params.bytes.clone())).collect();
        let (slot, fill) = self.slots.take(&content).ok_or(Exhausted)?;
        if fill {
            plan.before.push(Effect::WriteParams { slot, policies: content });
        }
        Ok(Some(slot))
    }

    fn drop_slot(&mut self, slot: Option<u32>, plan: &mut Plan) {
        if let Some(slot) = slot
            && self.slots.release(slot)
        {
            plan.after.push(Effect::ClearSlot { slot });
        }
    }

    fn unit(
        &mut self,
        unit: UnitName,
        path: CgroupPath,
        cgroup: Option<CgroupId>,
        request: Option<Request>,
        plan: &mut Plan,
    ) {
        match &request {
            Some(request) => self.register(&unit, &path, request, plan),
            None => self.forget_unit(&unit, plan),
        }
        let Some(cgroup) = cgroup else { return };
        match request {
            Some(request) => self.request(cgroup, path, vec![request], plan),
            None => self.withdraw(cgroup, Origin::DropIn, plan),
        }
    }

    fn register(&mut self, unit: &UnitName, path: &CgroupPath, request: &Request, plan: &mut Plan) {
        if self.units.get(unit).is_none_or(|known| known.path != *path || known.request != *request) {
            self.reregister(unit, path, request, plan);
        }
    }

    pub(super) fn reregister(
        &mut self,
        unit: &UnitName,
        path: &CgroupPath,
        request: &Request,
        plan: &mut Plan,
    ) {
        let old = self.units.remove(unit);
        let mut resolved = self.resolve(std::slice::from_ref(request));
        warn(path, Some(unit.as_str()), &resolved, plan);
        let (slot, pending) = match self.take_slot(&resolved.policies, plan) {
            Ok(slot) => (slot, false),
            Err(Exhausted) => {
                if old.as_ref().is_none_or(|old| !old.pending || old.request != *request) {
                    plan.fail(path);
                }
                // What was registered until now, rather than nothing.
                resolved.policies = old.as_ref().map(|old| old.resolved.policies.clone()).unwrap_or_default();
                let slot = old.as_ref().and_then(|old| old.slot);
                slot.inspect(|slot| self.slots.retain(*slot));
                (slot, true)
            }
        };
        let before = old.as_ref().and_then(|old| Some((&old.path, old.slot?)));
        if let Some(slot) = slot
            && before != Some((path, slot))
        {
            let count = self.counts(&resolved.policies);
            plan.main.push(Effect::Register { path: path.clone(), slot, count });
        }
        if let Some(old) = old {
            if old.slot.is_some() && (old.path != *path || slot.is_none()) {
                plan.main.push(Effect::Unregister { path: old.path });
            }
            self.drop_slot(old.slot, plan);
        }
        let new = Registered { path: path.clone(), request: request.clone(), resolved, slot, pending };
        self.units.insert(unit.clone(), new);
    }

    fn forget_unit(&mut self, unit: &UnitName, plan: &mut Plan) {
        if let Some(old) = self.units.remove(unit) {
            if old.slot.is_some() {
                plan.main.push(Effect::Unregister { path: old.path });
            }
            self.drop_slot(old.slot, plan);
        }
    }

    /// Adds or replaces requests on a cgroup, by origin, and brings its binding up to date.
    fn request(&mut self, cgroup: CgroupId, path: CgroupPath, requests: Vec<Request>, plan: &mut Plan) {
        let entry = self.cgroups.entry(cgroup).or_insert_with(|| Cgroup {
            path,
            requests: Vec::new(),
            resolved: Resolution::default(),
            slot: None,
            pending: false,
        });
        let before = entry.requests.clone();
        for request in requests {
            entry.requests.retain(|r| r.origin != request.origin);
            entry.requests.push(request);
        }
        // The highest origin first, as it is shown.
        entry.requests.sort_by_key(|r| std::cmp::Reverse(r.origin));
        if entry.requests != before {
            entry.pending = false;
            self.reconcile(cgroup, plan);
        }
    }

    fn withdraw(&mut self, cgroup: CgroupId, origin: Origin, plan: &mut Plan) {
        let Some(entry) = self.cgroups.get_mut(&cgroup) else { return };
        let before = entry.requests.len();
        entry.requests.retain(|r| r.origin != origin);
        if entry.requests.len() != before {
            entry.pending = false;
            self.reconcile(cgroup, plan);
        }
    }

    /// Withdraws the requests of a unit's files, on cgroups that still exist.
    fn withdraw_unit(&mut self, unit: &UnitName, plan: &mut Plan) {
        let of = |c: &Cgroup| c.requests.iter().any(|r| r.unit.as_deref() == Some(unit.as_str()));
        let cgroups: Vec<CgroupId> = self.cgroups.iter().filter(|(_, c)| of(c)).map(|(id, _)| *id).collect();
        for cgroup in cgroups {
            self.withdraw(cgroup, Origin::DropIn, plan);
        }
    }

    /// Resolves a cgroup's requests anew and moves it to the slot that follows from them.
    pub(super) fn reconcile(&mut self, id: CgroupId, plan: &mut Plan) {
        let Some(mut cgroup) = self.cgroups.remove(&id) else { return };
        let mut resolved = self.resolve(&cgroup.requests);
        let unit = cgroup.requests.iter().find_map(|r| r.unit.clone());
        warn(&cgroup.path, unit.as_deref(), &resolved, plan);
        let old = cgroup.slot;
        let path = cgroup.path.clone();
        match self.take_slot(&resolved.policies, plan) {
            Ok(slot) => (cgroup.slot, cgroup.pending) = (slot, false),
            Err(Exhausted) => {
                if !cgroup.pending {
                    plan.fail(&path);
                }
                cgroup.pending = true;
                (cgroup.slot, resolved.policies) = self.keep_current(&cgroup);
                cgroup.slot.inspect(|slot| self.slots.retain(*slot));
            }
        }
        match (old, cgroup.slot) {
            (before, Some(slot)) if before != Some(slot) => {
                let count = self.counts(&resolved.policies);
                let policies = resolved.policies.iter().map(|p| p.name.clone()).collect();
                plan.main.push(Effect::Bind { cgroup: id, path: path.clone(), slot, count });
                plan.main.push(Effect::Attached { cgroup: id, path: path.clone(), policies });
            }
            (Some(_), None) => {
                plan.main.push(Effect::Unbind { cgroup: id });
                let reason = match (cgroup.requests.is_empty(), resolved.errors.is_empty()) {
                    (true, _) => "no policy is requested any more",
                    (false, true) => "the highest origin requests none",
                    (false, false) => "the current request is invalid",
                };
                plan.main.push(Effect::Detached { cgroup: id, path: path.clone(), reason });
            }
            _ => {}
        }
        self.drop_slot(old, plan);
        cgroup.resolved = resolved;
        if cgroup.requests.is_empty() {
            plan.main.push(Effect::RemoveRecord { path });
        } else {
            plan.main.push(Effect::WriteRecord { path, requests: cgroup.requests.clone() });
            self.cgroups.insert(id, cgroup);
        }
    }

    /// What stays attached to a cgroup while no slot is free for its current requests: its policies, or those that the kernel
    /// bound when it was created.
    fn keep_current(&self, cgroup: &Cgroup) -> (Option<u32>, Vec<ResolvedPolicy>) {
        let registered = || self.units.values().find(|u| u.path == cgroup.path && u.slot.is_some());
        match (cgroup.slot, registered()) {
            (Some(slot), _) => (Some(slot), cgroup.resolved.policies.clone()),
            (None, Some(unit)) => (unit.slot, unit.resolved.policies.clone()),
            (None, None) => (None, Vec::new()),
        }
    }

    /// The kernel has bound a registered cgroup, or we do it now.
    fn cgroup_created(&mut self, id: CgroupId, path: CgroupPath, bound: bool, plan: &mut Plan) {
        let registered = self.units.values().find(|u| u.path == path).map(|u| u.request.clone());
        if let Some(request) = registered {
            // Binds once more what the kernel bound: it may have taken a slot that was registered before this one.
            self.request(id, path, vec![request], plan);
        }
        if bound && self.cgroups.get(&id).is_none_or(|c| c.slot.is_none()) {
            // Unregistered between the kernel's event and now.
            plan.main.push(Effect::Unbind { cgroup: id });
        }
    }

    fn cgroup_removed(&mut self, id: CgroupId, plan: &mut Plan) {
        let Some(cgroup) = self.cgroups.remove(&id) else { return };
        if cgroup.slot.is_some() {
            plan.main.push(Effect::Unbind { cgroup: id });
            let reason = super::REASON_REMOVED;
            plan.main.push(Effect::Detached { cgroup: id, path: cgroup.path, reason });
        }
        self.drop_slot(cgroup.slot, plan);
    }

    fn shutdown(&mut self, plan: &mut Plan) {
        self.report_all_cgroups = false;
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            self.forget_unit(&unit, plan);
        }
        for (id, cgroup) in std::mem::take(&mut self.cgroups) {
            if cgroup.slot.is_some() {
                plan.main.push(Effect::Unbind { cgroup: id });
            }
            plan.main.push(Effect::RemoveRecord { path: cgroup.path });
            self.drop_slot(cgroup.slot, plan);
        }
    }
}

impl Plan {
    fn fail(&mut self, path: &CgroupPath) {
        self.main.push(Effect::Fail { path: path.clone(), sentence: super::slots::EXHAUSTED_MSG.to_owned() });
    }
}

fn warn(path: &CgroupPath, unit: Option<&str>, resolved: &Resolution, plan: &mut Plan) {
    for error in &resolved.errors {
        plan.main.push(Effect::Warn {
            path: path.clone(),
            unit: unit.map(str::to_owned),
            sentence: error.to_string(),
        });
    }
}
