//! One step of the world.

use std::collections::BTreeSet;

use super::{AttachSet, Cgroup, Effect, Engine, Input, Registered};
use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::policy::precedence::{Resolution, ResolvedPolicy};
use crate::policy::request::{Origin, Request};

/// All slots are taken.
struct Exhausted;

/// What a change of binding leaves to do after everything new is in force.
#[derive(Default)]
pub(super) struct Plan {
    /// New slots.
    pub(super) before: Vec<Effect>,
    /// Binding, registering, recording, telling.
    pub(super) main: Vec<Effect>,
    /// Clearing what nobody holds any more.
    after: Vec<Effect>,
}

impl Engine {
    /// Takes one input and says what has to be done, in order. The same input twice does nothing the second time.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut work = Plan::default();
        match input {
            Input::Unit { unit, path, cgroup, request } => self.unit(unit, path, cgroup, request, &mut work),
            Input::UnitUnloaded(unit) => {
                self.forget_unit(&unit, &mut work);
                self.withdraw_unit(&unit, &mut work);
            }
            Input::Request { cgroup, path, request } => {
                self.request(cgroup, path, vec![request], &mut work);
            }
            Input::Withdraw { cgroup, origin } => self.withdraw(cgroup, origin, &mut work),
            Input::CgroupCreated { cgroup, path, bound } => {
                self.cgroup_created(cgroup, path, bound, &mut work)
            }
            Input::CgroupRemoved(cgroup) => self.cgroup_removed(cgroup, &mut work),
            Input::Adopt { cgroup, path, requests } => self.request(cgroup, path, requests, &mut work),
            Input::ReportAllCgroups(all) => self.report_all_cgroups = all,
            Input::Reload { config, replaced } => self.reload(config, &replaced, &mut work),
            Input::Shutdown => self.shutdown(&mut work),
        }
        let mut effects = self.effects_of(work);
        // What waited for a slot gets it as soon as there is one, which may free others.
        while self.slots.has_free() {
            let mut work = Plan::default();
            if !self.retry_pending(&mut work) {
                break;
            }
            effects.extend(self.effects_of(work));
        }
        effects
    }

    /// Tries again for those that found no slot; false when that changed nothing.
    fn retry_pending(&mut self, work: &mut Plan) -> bool {
        let units: Vec<UnitName> =
            self.units.iter().filter(|(_, u)| u.pending).map(|(name, _)| name.clone()).collect();
        let cgroups: Vec<CgroupId> =
            self.cgroups.iter().filter(|(_, c)| c.pending).map(|(id, _)| *id).collect();
        for unit in &units {
            if let Some(Registered { path, request, .. }) = self.units.get(unit).cloned() {
                self.reregister(unit, &path, &request, work);
            }
        }
        for cgroup in &cgroups {
            self.reconcile(*cgroup, work);
        }
        units.iter().any(|unit| self.units.get(unit).is_none_or(|u| !u.pending))
            || cgroups.iter().any(|id| self.cgroups.get(id).is_none_or(|c| !c.pending))
    }

    /// New slots, then everything they need attached, then the bindings; what is not needed any more goes last.
    fn effects_of(&mut self, work: Plan) -> Vec<Effect> {
        let before = self.attached.clone();
        let after = self.desired_attachments();
        let both = AttachSet {
            policies: before.policies.union(&after.policies).cloned().collect(),
            counting: before.counting.union(&after.counting).cloned().collect(),
            cgroup_events: before.cgroup_events || after.cgroup_events,
            report_all_cgroups: before.report_all_cgroups || after.report_all_cgroups,
        };
        let mut effects = work.before;
        if both != before {
            effects.push(Effect::SetAttachments(both.clone()));
        }
        effects.extend(work.main);
        if after != both {
            effects.push(Effect::SetAttachments(after.clone()));
        }
        effects.extend(work.after);
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
    fn take_slot(&mut self, policies: &[ResolvedPolicy], work: &mut Plan) -> Result<Option<u32>, Exhausted> {
        if policies.is_empty() {
            return Ok(None);
        }
        let content = policies.iter().map(|p| (p.name.clone(), p.params.bytes.clone())).collect();
        let (slot, fill) = self.slots.take(&content).ok_or(Exhausted)?;
        if fill {
            work.before.push(Effect::WriteParams { slot, policies: content });
        }
        Ok(Some(slot))
    }

    fn drop_slot(&mut self, slot: Option<u32>, work: &mut Plan) {
        if let Some(slot) = slot
            && self.slots.release(slot)
        {
            work.after.push(Effect::ClearSlot { slot });
        }
    }

    fn unit(
        &mut self,
        unit: UnitName,
        path: CgroupPath,
        cgroup: Option<CgroupId>,
        request: Option<Request>,
        work: &mut Plan,
    ) {
        match &request {
            Some(request) => self.register(&unit, &path, request, work),
            None => self.forget_unit(&unit, work),
        }
        let Some(cgroup) = cgroup else { return };
        match request {
            Some(request) => self.request(cgroup, path, vec![request], work),
            None => self.withdraw(cgroup, Origin::DropIn, work),
        }
    }

    fn register(&mut self, unit: &UnitName, path: &CgroupPath, request: &Request, work: &mut Plan) {
        if self.units.get(unit).is_none_or(|known| known.path != *path || known.request != *request) {
            self.reregister(unit, path, request, work);
        }
    }

    pub(super) fn reregister(
        &mut self,
        unit: &UnitName,
        path: &CgroupPath,
        request: &Request,
        work: &mut Plan,
    ) {
        let old = self.units.remove(unit);
        let mut resolved = self.resolve(std::slice::from_ref(request));
        warn(path, Some(unit.as_str()), &resolved, work);
        let (slot, pending) = match self.take_slot(&resolved.policies, work) {
            Ok(slot) => (slot, false),
            Err(Exhausted) => {
                if old.as_ref().is_none_or(|old| !old.pending || old.request != *request) {
                    work.fail(path);
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
            work.main.push(Effect::Register { path: path.clone(), slot, count });
        }
        if let Some(old) = old {
            if old.slot.is_some() && (old.path != *path || slot.is_none()) {
                work.main.push(Effect::Unregister { path: old.path });
            }
            self.drop_slot(old.slot, work);
        }
        let new = Registered { path: path.clone(), request: request.clone(), resolved, slot, pending };
        self.units.insert(unit.clone(), new);
    }

    fn forget_unit(&mut self, unit: &UnitName, work: &mut Plan) {
        if let Some(old) = self.units.remove(unit) {
            if old.slot.is_some() {
                work.main.push(Effect::Unregister { path: old.path });
            }
            self.drop_slot(old.slot, work);
        }
    }

    /// Adds or replaces requests on a cgroup, by origin, and brings its binding up to date.
    fn request(&mut self, cgroup: CgroupId, path: CgroupPath, requests: Vec<Request>, work: &mut Plan) {
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
            self.reconcile(cgroup, work);
        }
    }

    fn withdraw(&mut self, cgroup: CgroupId, origin: Origin, work: &mut Plan) {
        let Some(entry) = self.cgroups.get_mut(&cgroup) else { return };
        let before = entry.requests.len();
        entry.requests.retain(|r| r.origin != origin);
        if entry.requests.len() != before {
            entry.pending = false;
            self.reconcile(cgroup, work);
        }
    }

    /// Takes back what a unit's files asked for, on cgroups that still exist.
    fn withdraw_unit(&mut self, unit: &UnitName, work: &mut Plan) {
        let of = |c: &Cgroup| c.requests.iter().any(|r| r.unit.as_deref() == Some(unit.as_str()));
        let cgroups: Vec<CgroupId> = self.cgroups.iter().filter(|(_, c)| of(c)).map(|(id, _)| *id).collect();
        for cgroup in cgroups {
            self.withdraw(cgroup, Origin::DropIn, work);
        }
    }

    /// Resolves a cgroup's requests anew and moves it to the slot that follows from them.
    pub(super) fn reconcile(&mut self, id: CgroupId, work: &mut Plan) {
        let Some(mut cgroup) = self.cgroups.remove(&id) else { return };
        let mut resolved = self.resolve(&cgroup.requests);
        let unit = cgroup.requests.iter().find_map(|r| r.unit.clone());
        warn(&cgroup.path, unit.as_deref(), &resolved, work);
        let old = cgroup.slot;
        let path = cgroup.path.clone();
        match self.take_slot(&resolved.policies, work) {
            Ok(slot) => (cgroup.slot, cgroup.pending) = (slot, false),
            Err(Exhausted) => {
                if !cgroup.pending {
                    work.fail(&path);
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
                work.main.push(Effect::Bind { cgroup: id, path: path.clone(), slot, count });
                work.main.push(Effect::Attached { cgroup: id, path: path.clone(), policies });
            }
            (Some(_), None) => {
                work.main.push(Effect::Unbind { cgroup: id });
                let reason = match (cgroup.requests.is_empty(), resolved.errors.is_empty()) {
                    (true, _) => "nobody asks for a policy any more",
                    (false, true) => "the highest origin asked for none",
                    (false, false) => "what is asked for now is not valid",
                };
                work.main.push(Effect::Detached { cgroup: id, path: path.clone(), reason });
            }
            _ => {}
        }
        self.drop_slot(old, work);
        cgroup.resolved = resolved;
        if cgroup.requests.is_empty() {
            work.main.push(Effect::RemoveRecord { path });
        } else {
            work.main.push(Effect::WriteRecord { path, requests: cgroup.requests.clone() });
            self.cgroups.insert(id, cgroup);
        }
    }

    /// What stays in force on a cgroup while no slot is left for what is asked for now: what it has, or what the kernel
    /// gave it when it appeared.
    fn keep_current(&self, cgroup: &Cgroup) -> (Option<u32>, Vec<ResolvedPolicy>) {
        let registered = || self.units.values().find(|u| u.path == cgroup.path && u.slot.is_some());
        match (cgroup.slot, registered()) {
            (Some(slot), _) => (Some(slot), cgroup.resolved.policies.clone()),
            (None, Some(unit)) => (unit.slot, unit.resolved.policies.clone()),
            (None, None) => (None, Vec::new()),
        }
    }

    /// The kernel has bound a registered cgroup, or we do it now.
    fn cgroup_created(&mut self, id: CgroupId, path: CgroupPath, bound: bool, work: &mut Plan) {
        let registered = self.units.values().find(|u| u.path == path).map(|u| u.request.clone());
        if let Some(request) = registered {
            // Binds once more what the kernel bound: it may have taken a slot that was registered before this one.
            self.request(id, path, vec![request], work);
        }
        if bound && self.cgroups.get(&id).is_none_or(|c| c.slot.is_none()) {
            // Unregistered between the kernel's event and now.
            work.main.push(Effect::Unbind { cgroup: id });
        }
    }

    fn cgroup_removed(&mut self, id: CgroupId, work: &mut Plan) {
        let Some(cgroup) = self.cgroups.remove(&id) else { return };
        if cgroup.slot.is_some() {
            work.main.push(Effect::Unbind { cgroup: id });
            let reason = super::REASON_REMOVED;
            work.main.push(Effect::Detached { cgroup: id, path: cgroup.path, reason });
        }
        self.drop_slot(cgroup.slot, work);
    }

    fn shutdown(&mut self, work: &mut Plan) {
        self.report_all_cgroups = false;
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            self.forget_unit(&unit, work);
        }
        for (id, cgroup) in std::mem::take(&mut self.cgroups) {
            if cgroup.slot.is_some() {
                work.main.push(Effect::Unbind { cgroup: id });
            }
            work.main.push(Effect::RemoveRecord { path: cgroup.path });
            self.drop_slot(cgroup.slot, work);
        }
    }
}

impl Plan {
    fn fail(&mut self, path: &CgroupPath) {
        self.main.push(Effect::Fail { path: path.clone(), sentence: super::slots::EXHAUSTED_MSG.to_owned() });
    }
}

fn warn(path: &CgroupPath, unit: Option<&str>, resolved: &Resolution, work: &mut Plan) {
    for fault in &resolved.errors {
        work.main.push(Effect::Warn {
            path: path.clone(),
            unit: unit.map(str::to_owned),
            sentence: fault.to_string(),
        });
    }
}
