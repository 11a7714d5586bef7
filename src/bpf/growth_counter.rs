//! Selects the program that counts growth requests: core's own, behind all that may deny; or, because two programs at one
//! function cost every task on the machine, that of the only policy with the hook (docs/decisions/0015-who-counts-growth.md).

use super::abi::Op;
use super::core::BpfRuntime;
use super::error::BpfError;
use super::hooks::{AttachCandidates, COUNT_GROWTH, GROWTH};

/// The id of core as the growth counter; no object has it.
const COUNTED_BY_CORE: u32 = 0;

impl BpfRuntime {
    /// Core's program that counts growth.
    pub(super) fn growth_counter_program(&self) -> Option<&str> {
        self.counting_hooks.get(COUNT_GROWTH).and_then(AttachCandidates::program)
    }

    /// Selects the growth counter among core and the policies for which `stays` is true, and keeps those of core's programs
    /// that are needed then. The new counter is attached before it is selected, and only the selected one counts. `commit`: see [`BpfRuntime::set_attachments`]. On an
    /// error the previous counter stays selected.
    pub(super) fn elect_growth_counter(
        &mut self,
        commit: Option<u64>,
        stays: impl Fn(&str) -> bool,
    ) -> Result<(), BpfError> {
        let program = self
            .growth_counter_program()
            .filter(|own| self.counter_names_attached.iter().any(|name| name == own));
        let program = program.map(str::to_owned);
        let attached = self
            .policies
            .iter()
            .filter(|(name, policy)| policy.is_attached() && policy.has(GROWTH) && stays(name));
        let mut ids = attached.map(|(_, policy)| policy.object_id());
        let only = ids.next().filter(|id| *id != COUNTED_BY_CORE && ids.next().is_none());
        let chosen = only.zip(commit).filter(|_| program.is_some());
        if let Some(own) = program.as_ref().filter(|own| chosen.is_none() && !self.counter_links.has(own)) {
            let link = self.attach(&self.counter_links, own)?;
            self.counter_links.adopt(vec![(own.clone(), link)], &self.pins);
        }
        if chosen != self.growth_counter {
            let (id, limit) = chosen.unwrap_or((COUNTED_BY_CORE, 0));
            self.command(Op::Growth, "count growth of", limit, id, 0)?;
            self.growth_counter = chosen;
        }
        let by_core = self
            .counter_names_attached
            .iter()
            .filter(|name| chosen.is_none() || Some(*name) != program.as_ref());
        self.counter_links.detach_except(&by_core.cloned().collect::<Vec<_>>());
        Ok(())
    }
}
