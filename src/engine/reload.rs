//! Reload of policies, profiles and permissions: all requests are resolved again, and changed bindings are moved.

use std::collections::BTreeSet;

use super::cgroups::Cgroups;
use super::plan::Plan;
use super::registrations::Registrations;
use crate::names::CgroupId;

/// Resolves all requests again. Objects that replaced others get the parameters of all slots in use, and the cgroups
/// of these slots are bound again, so that the objects have state for them and start their timers.
pub fn reload(
    units: &mut Registrations,
    cgroups: &mut Cgroups,
    replaced: &BTreeSet<String>,
    plan: &mut Plan<'_>,
) {
    units.reregister_all(plan);
    let before: Vec<(CgroupId, Option<u32>)> = cgroups.iter().map(|(id, c)| (id, c.slot)).collect();
    for (id, _) in &before {
        cgroups.reconcile(*id, units, plan);
    }
    let rewritten = plan.rewrite_params(replaced);
    for (id, slot) in before {
        if cgroups.slot(id) == slot && slot.is_some_and(|slot| rewritten.contains(&slot)) {
            cgroups.bind_again(id, plan);
        }
    }
}
