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

impl Kernel {
    /// Core's program that counts growth.
    pub(super) fn counts_growth(&self) -> Option<&str> {
        self.counting_hooks.get(COUNTS).and_then(Candidates::program)
    }

    /// Settles who counts, and keeps of core's programs those that then do. `commit`: see [`Kernel::need`]. Between one
    /// and the other a request may go uncounted, never is one counted twice.
    pub(super) fn share_growth(&mut self, commit: Option<u64>) -> Result<(), BpfError> {
        let program = self.counts_growth().filter(|own| self.counted.iter().any(|name| name == own));
        let program = program.map(str::to_owned);
        let asked =
            self.policies.values().chain(&self.retired).filter(|policy| policy.is_asked(ASKED)).count();
        // 0 stands for "core counts".
        let bound = commit.filter(|pages| *pages > 0 && program.is_some() && asked == 1);
        let by_core: Vec<String> = self
            .counted
            .iter()
            .filter(|name| bound.is_none() || Some(*name) != program.as_ref())
            .cloned()
            .collect();
        self.counting.keep(&by_core);
        self.command(Op::Growth, "count growth of", bound.unwrap_or(0), 0, 0)?;
        if let Some(own) = program.filter(|own| bound.is_none() && !self.counting.has(own)) {
            let link = self.attach(&own)?;
            self.counting.hold(vec![(own, link)], &self.pins);
        }
        Ok(())
    }
}

impl PolicyObject {
    /// Is its program for this hook attached?
    fn is_asked(&self, hook: &str) -> bool {
        self.is_attached() && self.has(hook)
    }
}
