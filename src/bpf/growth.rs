//! Who counts requests for address space: core, by a program of its own behind all that may refuse; or, as two programs at
//! one function cost every task on the machine, the one policy that is asked (docs/decisions/0015-who-counts-growth.md).

use super::attach::Candidates;
use super::core::Kernel;
use super::error::BpfError;
use super::policy::PolicyObject;
use super::shared::Op;

/// Core's hook, and that of the policies at the same function.
const COUNTS: &str = "count_growth";
const ASKED: &str = "growth";
/// Core's number as one who counts; no object has it.
const CORE: u32 = 0;

impl Kernel {
    /// Core's program that counts growth.
    pub(super) fn counts_growth(&self) -> Option<&str> {
        self.counting_hooks.get(COUNTS).and_then(Candidates::program)
    }

    /// Settles who counts, of the policies for which `stays` says yes, and keeps of core's programs those that then do: who
    /// is to count is there before it is named, and only who is named counts. `commit`: see [`Kernel::need`]. On an
    /// error whoever counted until now is still named.
    pub(super) fn share_growth(
        &mut self,
        commit: Option<u64>,
        stays: impl Fn(&str) -> bool,
    ) -> Result<(), BpfError> {
        let program = self.counts_growth().filter(|own| self.counted.iter().any(|name| name == own));
        let program = program.map(str::to_owned);
        let asked = self.policies.iter().filter(|(name, policy)| policy.is_asked(ASKED) && stays(name));
        let mut numbers = asked.map(|(_, policy)| policy.number());
        let only = numbers.next().filter(|number| *number != CORE && numbers.next().is_none());
        let chosen = only.zip(commit).filter(|_| program.is_some());
        if let Some(own) = program.as_ref().filter(|own| chosen.is_none() && !self.counting.has(own)) {
            let link = self.attach(&self.counting, own)?;
            self.counting.hold(vec![(own.clone(), link)], &self.pins);
        }
        if chosen != self.growth {
            let (number, bound) = chosen.unwrap_or((CORE, 0));
            self.command(Op::Growth, "count growth of", bound, number, 0)?;
            self.growth = chosen;
        }
        let by_core = self.counted.iter().filter(|name| chosen.is_none() || Some(*name) != program.as_ref());
        self.counting.keep(&by_core.cloned().collect::<Vec<_>>());
        Ok(())
    }
}

impl PolicyObject {
    /// Is its program for this hook attached?
    fn is_asked(&self, hook: &str) -> bool {
        self.is_attached() && self.has(hook)
    }
}
