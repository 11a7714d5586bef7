//! Collects the effects of one step, and the slots that it fills and clears.

use std::collections::BTreeSet;

use super::config::EngineConfig;
use super::effect::{AttachSet, Effect};
use super::slots::{Content, EXHAUSTED_MSG, Slots};
use crate::names::CgroupPath;
use crate::policy::precedence::{Resolution, ResolvedPolicy};

/// All slots are taken.
pub struct Exhausted;

/// The effects of a step, in the order in which they are performed.
pub struct Plan<'a> {
    /// The policies, profiles and permissions in this step.
    pub config: &'a EngineConfig,
    slots: &'a mut Slots,
    /// Effects that fill slots.
    before: Vec<Effect>,
    /// Effects that bind, register, record and report.
    main: Vec<Effect>,
    /// Effects that clear unused slots.
    after: Vec<Effect>,
}

impl<'a> Plan<'a> {
    /// A plan without effects.
    pub fn new(config: &'a EngineConfig, slots: &'a mut Slots) -> Self {
        Plan { config, slots, before: Vec::new(), main: Vec::new(), after: Vec::new() }
    }

    /// Adds an effect that binds, registers, records or reports.
    pub fn push(&mut self, effect: Effect) {
        self.main.push(effect);
    }

    /// Reports that no slot is free for a request.
    pub fn fail(&mut self, path: &CgroupPath) {
        self.push(Effect::Fail { path: path.clone(), sentence: EXHAUSTED_MSG.to_owned() });
    }

    /// Reports the errors of requests.
    pub fn warn(&mut self, path: &CgroupPath, unit: Option<&str>, resolved: &Resolution) {
        for error in &resolved.errors {
            self.push(Effect::Warn {
                path: path.clone(),
                unit: unit.map(str::to_owned),
                sentence: error.to_string(),
            });
        }
    }

    /// A slot with these policies, which is filled if it is new; `Ok(None)` for no policies.
    pub fn take_slot(&mut self, policies: &[ResolvedPolicy]) -> Result<Option<u32>, Exhausted> {
        if policies.is_empty() {
            return Ok(None);
        }
        let content = policies.iter().map(|p| (p.name.clone(), p.params.bytes.clone())).collect();
        let (slot, fill) = self.slots.take(&content).ok_or(Exhausted)?;
        if fill {
            self.before.push(Effect::WriteParams { slot, policies: content });
        }
        Ok(Some(slot))
    }

    /// Adds a reference to a slot that is in use.
    pub fn retain_slot(&mut self, slot: Option<u32>) {
        if let Some(slot) = slot {
            self.slots.retain(slot);
        }
    }

    /// Removes a reference to a slot, and clears the slot after the last one.
    pub fn drop_slot(&mut self, slot: Option<u32>) {
        if let Some(slot) = slot
            && self.slots.release(slot)
        {
            self.after.push(Effect::ClearSlot { slot });
        }
    }

    /// Writes the parameters of replaced policies again to all slots that were in use before this step. Returns these
    /// slots.
    pub fn rewrite_params(&mut self, replaced: &BTreeSet<String>) -> BTreeSet<u32> {
        let of_replaced = |content: &Content| -> Content {
            content.iter().filter(|(name, _)| replaced.contains(name)).cloned().collect()
        };
        let new: BTreeSet<u32> = self.before.iter().filter_map(written_slot).collect();
        let rewrites: Vec<(u32, Content)> = self
            .slots
            .used()
            .map(|(slot, content)| (slot, of_replaced(content)))
            .filter(|(slot, policies)| !policies.is_empty() && !new.contains(slot))
            .collect();
        let slots = rewrites.iter().map(|(slot, _)| *slot).collect();
        self.before
            .extend(rewrites.into_iter().map(|(slot, policies)| Effect::RewriteParams { slot, policies }));
        slots
    }

    /// Returns the effects: new slots first, then attachments, then bindings; clearing and detaching last. Updates
    /// `attached`.
    pub fn into_effects(self, attached: &mut AttachSet, report_all_cgroups: bool) -> Vec<Effect> {
        let after = desired_attachments(self.slots, self.config, report_all_cgroups);
        let before = std::mem::replace(attached, after.clone());
        let both = AttachSet {
            policies: before.policies.union(&after.policies).cloned().collect(),
            counting: before.counting.union(&after.counting).cloned().collect(),
            cgroup_events: before.cgroup_events || after.cgroup_events,
            report_all_cgroups: before.report_all_cgroups || after.report_all_cgroups,
        };
        let mut effects = self.before;
        if both != before {
            effects.push(Effect::SetAttachments(both.clone()));
        }
        effects.extend(self.main);
        if after != both {
            effects.push(Effect::SetAttachments(after));
        }
        effects.extend(self.after);
        self.slots.recycle();
        effects
    }
}

/// The slot that an effect fills.
fn written_slot(effect: &Effect) -> Option<u32> {
    match effect {
        Effect::WriteParams { slot, .. } => Some(*slot),
        _ => None,
    }
}

fn desired_attachments(slots: &Slots, config: &EngineConfig, report_all_cgroups: bool) -> AttachSet {
    let names: BTreeSet<&str> = slots.contents().flatten().map(|(name, _)| name.as_str()).collect();
    let policies: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
    let counting = policies.intersection(&config.counting).cloned().collect();
    let cgroup_events = report_all_cgroups || !policies.is_empty();
    AttachSet { policies, counting, cgroup_events, report_all_cgroups }
}
