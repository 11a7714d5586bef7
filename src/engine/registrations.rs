//! The units with a policy line, each with a slot for its next cgroup.

use std::collections::BTreeMap;

use super::effect::Effect;
use super::plan::{Exhausted, Plan};
use crate::names::{CgroupPath, UnitName};
use crate::policy::precedence::Resolution;
use crate::policy::request::Request;

/// A unit with a policy line, registered for the next time its cgroup is created.
#[derive(Debug, Clone)]
pub struct Registered {
    pub path: CgroupPath,
    pub request: Request,
    pub resolved: Resolution,
    pub slot: Option<u32>,
    pub pending: bool,
}

/// All registered units.
#[derive(Debug, Default)]
pub struct Registrations {
    by_unit: BTreeMap<UnitName, Registered>,
}

impl Registrations {
    /// The names of the units.
    pub fn names(&self) -> impl Iterator<Item = &UnitName> {
        self.by_unit.keys()
    }

    /// The units.
    pub fn all(&self) -> impl Iterator<Item = &Registered> {
        self.by_unit.values()
    }

    /// A unit by its name.
    pub fn get(&self, unit: &UnitName) -> Option<&Registered> {
        self.by_unit.get(unit)
    }

    /// The unit registered under this path.
    pub fn unit_at(&self, path: &CgroupPath) -> Option<&UnitName> {
        self.by_unit.iter().find(|(_, unit)| unit.path == *path).map(|(name, _)| name)
    }

    /// The unit registered under this path.
    pub fn at(&self, path: &CgroupPath) -> Option<&Registered> {
        self.all().find(|unit| unit.path == *path)
    }

    /// The unit whose slot the kernel binds when a cgroup with this path is created.
    pub fn with_slot_at(&self, path: &CgroupPath) -> Option<&Registered> {
        self.all().find(|unit| unit.path == *path && unit.slot.is_some())
    }

    /// Registers a unit, unless its registration is unchanged.
    pub fn register(&mut self, unit: &UnitName, path: &CgroupPath, request: &Request, plan: &mut Plan<'_>) {
        if self.by_unit.get(unit).is_none_or(|known| known.path != *path || known.request != *request) {
            self.reregister(unit, path, request, plan);
        }
    }

    /// Resolves the requests of all units again.
    pub fn reregister_all(&mut self, plan: &mut Plan<'_>) {
        let known: Vec<_> = self.by_unit.iter().map(|(unit, known)| (unit.clone(), known.clone())).collect();
        for (unit, known) in known {
            self.reregister(&unit, &known.path, &known.request, plan);
        }
    }

    /// Retries units without a free slot. Returns false if nothing changed.
    pub fn retry_pending(&mut self, plan: &mut Plan<'_>) -> bool {
        let pending: Vec<_> = self
            .by_unit
            .iter()
            .filter(|(_, u)| u.pending)
            .map(|(unit, u)| (unit.clone(), u.clone()))
            .collect();
        for (unit, known) in &pending {
            self.reregister(unit, &known.path, &known.request, plan);
        }
        pending.iter().any(|(unit, _)| self.by_unit.get(unit).is_none_or(|u| !u.pending))
    }

    /// Removes a unit and its registration.
    pub fn forget(&mut self, unit: &UnitName, plan: &mut Plan<'_>) {
        if let Some(old) = self.by_unit.remove(unit) {
            unregister(old, plan);
        }
    }

    /// Removes all units.
    pub fn forget_all(&mut self, plan: &mut Plan<'_>) {
        for old in std::mem::take(&mut self.by_unit).into_values() {
            unregister(old, plan);
        }
    }

    fn reregister(&mut self, unit: &UnitName, path: &CgroupPath, request: &Request, plan: &mut Plan<'_>) {
        let old = self.by_unit.remove(unit);
        let mut resolved = plan.config.resolve(std::slice::from_ref(request));
        plan.warn(path, Some(unit.as_str()), &resolved);
        let (slot, pending) = match plan.take_slot(&resolved.policies) {
            Ok(slot) => (slot, false),
            Err(Exhausted) => {
                if old.as_ref().is_none_or(|old| !old.pending || old.request != *request) {
                    plan.fail(path);
                }
                // The previous registration is kept.
                resolved.policies = old.as_ref().map(|old| old.resolved.policies.clone()).unwrap_or_default();
                let slot = old.as_ref().and_then(|old| old.slot);
                plan.retain_slot(slot);
                (slot, true)
            }
        };
        let before = old.as_ref().and_then(|old| Some((&old.path, old.slot?)));
        if let Some(slot) = slot
            && before != Some((path, slot))
        {
            let count = plan.config.counts(&resolved.policies);
            plan.push(Effect::Register { path: path.clone(), slot, count });
        }
        if let Some(old) = old {
            if old.slot.is_some() && (old.path != *path || slot.is_none()) {
                plan.push(Effect::Unregister { path: old.path });
            }
            plan.drop_slot(old.slot);
        }
        let new = Registered { path: path.clone(), request: request.clone(), resolved, slot, pending };
        self.by_unit.insert(unit.clone(), new);
    }
}

fn unregister(old: Registered, plan: &mut Plan<'_>) {
    if old.slot.is_some() {
        plan.push(Effect::Unregister { path: old.path });
    }
    plan.drop_slot(old.slot);
}
