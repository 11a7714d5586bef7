//! Selects the program that counts growth requests: that of core, which runs after all programs that may deny; or
//! that of a policy if it is the only one with the hook, because two programs at one function slow down every task on
//! the machine (docs/decisions/0015-growth-counter.md).

use super::abi::Op;
use super::core_object::CoreObject;
use super::error::BpfError;

/// The id of core as the growth counter. Ids of objects begin at 1.
const COUNTED_BY_CORE: u32 = 0;

/// The object of a policy that counts growth instead of core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyCounter {
    object_id: u32,
    /// Number of pages above which the kernel itself rejects a request, passed to the object.
    commit_limit: u64,
}

/// The object that counts instead of core, if it is the only one. `ids` are the objects that are attached to the hook
/// `growth`. `commit`: see [`super::attachments::RequiredAttachments`].
pub fn elect(ids: impl IntoIterator<Item = u32>, commit: Option<u64>) -> Option<PolicyCounter> {
    let mut ids = ids.into_iter();
    let only = ids.next().filter(|id| *id != COUNTED_BY_CORE && ids.next().is_none());
    only.zip(commit).map(|(object_id, commit_limit)| PolicyCounter { object_id, commit_limit })
}

/// The selected growth counter, as last written by a command to core.
#[derive(Debug, Default)]
pub struct GrowthCounter {
    /// `None` if core counts.
    selected: Option<PolicyCounter>,
}

impl GrowthCounter {
    /// True if a policy counts instead of core.
    pub fn is_policy(&self) -> bool {
        self.selected.is_some()
    }

    /// Selects the growth counter, whose program is attached. On an error the previous one stays selected.
    pub fn select(&mut self, core: &CoreObject, elected: Option<PolicyCounter>) -> Result<(), BpfError> {
        if elected != self.selected {
            let (id, limit) = elected.map_or((COUNTED_BY_CORE, 0), |by| (by.object_id, by.commit_limit));
            core.command(Op::Growth, "count growth of", limit, id, 0)?;
            self.selected = elected;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{PolicyCounter, elect};

    #[test]
    fn single_policy_counts_if_limit_is_known() {
        let seven = |commit_limit| Some(PolicyCounter { object_id: 7, commit_limit });
        assert_eq!(elect([7], Some(100)), seven(100));
        assert_eq!(elect([7], Some(u64::MAX)), seven(u64::MAX));
    }

    #[test]
    fn core_counts_otherwise() {
        assert_eq!(elect([], Some(100)), None);
        assert_eq!(elect([7, 8], Some(100)), None);
        assert_eq!(elect([7], None), None);
        assert_eq!(elect([0], Some(100)), None);
    }
}
