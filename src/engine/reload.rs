//! Reload of policies, profiles and permissions: all requests are resolved again, and changed bindings are moved.

use std::collections::BTreeSet;

use super::slots::Content;
use super::step::Plan;
use super::{Effect, Engine, EngineConfig};
use crate::names::CgroupId;

impl Engine {
    /// Can all bindings be moved to other slots at once? Until then each keeps the one it has.
    pub fn has_room_for_reload(&self) -> bool {
        self.slots.at_most_half_used()
    }

    /// Resolves all requests again. Objects that replaced others get the parameters of all slots that stay in use, and the
    /// cgroups of these slots are bound again, so that the objects have state for them and their timers run.
    pub(super) fn reload(&mut self, config: EngineConfig, replaced: &BTreeSet<String>, plan: &mut Plan) {
        self.config = config;
        // They are to be attached like any that was not needed before.
        self.attached.policies.retain(|policy| !replaced.contains(policy));
        let known: Vec<_> = self.units.iter().map(|(unit, known)| (unit.clone(), known.clone())).collect();
        for (unit, known) in known {
            self.reregister(&unit, &known.path, &known.request, plan);
        }
        let before: Vec<(CgroupId, Option<u32>)> = self.cgroups.iter().map(|(id, c)| (*id, c.slot)).collect();
        for (id, _) in &before {
            self.reconcile(*id, plan);
        }
        let new = |slot: u32| {
            plan.before.iter().any(|e| matches!(e, Effect::WriteParams { slot: s, .. } if *s == slot))
        };
        let of_replaced = |content: &Content| -> Content {
            content.iter().filter(|(name, _)| replaced.contains(name)).cloned().collect()
        };
        let rewrites: Vec<Effect> = self
            .slots
            .used()
            .map(|(slot, content)| (slot, of_replaced(content)))
            .filter(|(slot, policies)| !policies.is_empty() && !new(*slot))
            .map(|(slot, policies)| Effect::RewriteParams { slot, policies })
            .collect();
        for (id, slot) in before {
            let Some(cgroup) = self.cgroups.get(&id) else { continue };
            let stays = |policies: &Effect| matches!(policies, Effect::RewriteParams { slot: s, .. } if Some(*s) == slot);
            if let Some(slot) = cgroup.slot.filter(|_| cgroup.slot == slot && rewrites.iter().any(stays)) {
                let (path, count) = (cgroup.path.clone(), self.counts(&cgroup.resolved.policies));
                plan.main.push(Effect::Bind { cgroup: id, path, slot, count });
            }
        }
        plan.before.extend(rewrites);
    }
}
