//! Other policies, profiles or permissions than before: everything is judged again, and what changes is moved.

use std::collections::BTreeSet;

use super::slots::Content;
use super::step::Plan;
use super::{Effect, Engine, EngineConfig};
use crate::names::CgroupId;

impl Engine {
    /// Can everything that is in force be moved to other slots at once? Until then each keeps the one it has.
    pub fn has_room_for_reload(&self) -> bool {
        self.slots.at_most_half_used()
    }

    /// Judges all requests again. Objects that replaced others get the parameters of all that stays where it is, and
    /// whoever is bound is bound again, so that they have memory of it and their timers run.
    pub(super) fn reload(&mut self, means: EngineConfig, replaced: &BTreeSet<String>, work: &mut Plan) {
        self.config = means;
        // They are to be attached like any that was not needed before.
        self.attached.policies.retain(|policy| !replaced.contains(policy));
        let known: Vec<_> = self.units.iter().map(|(unit, known)| (unit.clone(), known.clone())).collect();
        for (unit, known) in known {
            self.reregister(&unit, &known.path, &known.request, work);
        }
        let before: Vec<(CgroupId, Option<u32>)> = self.cgroups.iter().map(|(id, c)| (*id, c.slot)).collect();
        for (id, _) in &before {
            self.reconcile(*id, work);
        }
        let new = |slot: u32| {
            work.before.iter().any(|e| matches!(e, Effect::WriteParams { slot: s, .. } if *s == slot))
        };
        let of_replaced = |content: &Content| -> Content {
            content.iter().filter(|(name, _)| replaced.contains(name)).cloned().collect()
        };
        let refill: Vec<Effect> = self
            .slots
            .used()
            .map(|(slot, content)| (slot, of_replaced(content)))
            .filter(|(slot, policies)| !policies.is_empty() && !new(*slot))
            .map(|(slot, policies)| Effect::RewriteParams { slot, policies })
            .collect();
        for (id, slot) in before {
            let Some(cgroup) = self.cgroups.get(&id) else { continue };
            let stays = |policies: &Effect| matches!(policies, Effect::RewriteParams { slot: s, .. } if Some(*s) == slot);
            if let Some(slot) = cgroup.slot.filter(|_| cgroup.slot == slot && refill.iter().any(stays)) {
                let (path, count) = (cgroup.path.clone(), self.counts(&cgroup.resolved.policies));
                work.main.push(Effect::Bind { cgroup: id, path, slot, count });
            }
        }
        work.before.extend(refill);
    }
}
