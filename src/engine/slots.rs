//! Slots: indices of parameter sets in the maps of policies. The contents of a slot do not change while cgroups are
//! bound to it, so programs never read partially written parameters. Bindings with equal contents share a slot.

use std::collections::{BTreeMap, VecDeque};

/// The maximum number of bindings (`MEMCG_BPF_MAX_BINDINGS`).
pub const SLOTS: u32 = 4096;

/// The error of a request if all slots are in use.
pub const EXHAUSTED_MSG: &str = "4096 different policy lines are in use, which is the maximum; the policies attached here \
                             stay; detach others first";
/// The error of a request that is pending until a slot is free.
pub const PENDING_MSG: &str = "4096 different policy lines are in use, which is the maximum; this one is attached as soon \
                           as another is detached";

/// The contents of a slot: policy names and the bytes of their parameters.
pub type Content = Vec<(String, Vec<u8>)>;

#[derive(Debug)]
pub struct Slots {
    max: u32,
    used: BTreeMap<u32, (Content, usize)>,
    by_content: BTreeMap<Content, u32>,
    never_used: u32,
    /// Slots released in this step, which are cleared at its end and must not be filled before.
    released: Vec<u32>,
    /// First in, first out, so that a program that still runs with a cleared slot has time to finish.
    free: VecDeque<u32>,
}

impl Default for Slots {
    fn default() -> Self {
        Slots::with_capacity(SLOTS)
    }
}

impl Slots {
    /// Slots with this capacity.
    pub fn with_capacity(max: u32) -> Self {
        Slots {
            max,
            used: BTreeMap::new(),
            by_content: BTreeMap::new(),
            never_used: 0,
            released: Vec::new(),
            free: VecDeque::new(),
        }
    }

    /// The slot for this content, and whether it must be filled; `None` if all slots are in use.
    pub fn take(&mut self, content: &Content) -> Option<(u32, bool)> {
        if let Some(slot) = self.by_content.get(content) {
            if let Some((_, holders)) = self.used.get_mut(slot) {
                *holders = holders.saturating_add(1);
            }
            return Some((*slot, false));
        }
        let slot = if self.never_used < self.max {
            let slot = self.never_used;
            self.never_used = self.never_used.saturating_add(1);
            slot
        } else {
            self.free.pop_front()?
        };
        self.used.insert(slot, (content.clone(), 1));
        self.by_content.insert(content.clone(), slot);
        Some((slot, true))
    }

    /// Removes a reference to a slot. Returns true after the last one, when the slot must be cleared.
    pub fn release(&mut self, slot: u32) -> bool {
        let Some((content, holders)) = self.used.get_mut(&slot) else { return false };
        *holders = holders.saturating_sub(1);
        if *holders > 0 {
            return false;
        }
        self.by_content.remove(content);
        self.used.remove(&slot);
        self.released.push(slot);
        true
    }

    /// Adds a reference to a slot that is in use.
    pub fn retain(&mut self, slot: u32) {
        if let Some((_, holders)) = self.used.get_mut(&slot) {
            *holders = holders.saturating_add(1);
        }
    }

    /// Makes the slots released in this step available.
    pub fn recycle(&mut self) {
        self.free.extend(self.released.drain(..));
    }

    /// True if a slot is free.
    pub fn has_free(&self) -> bool {
        self.never_used < self.max || !self.free.is_empty()
    }

    /// The contents of the slots in use, by slot.
    pub fn used(&self) -> impl Iterator<Item = (u32, &Content)> {
        self.used.iter().map(|(slot, (content, _))| (*slot, content))
    }

    /// True if there are as many free slots as used ones, so that each content can be moved.
    pub fn at_most_half_used(&self) -> bool {
        let used = u32::try_from(self.used.len()).unwrap_or(u32::MAX);
        used <= self.max.saturating_sub(used)
    }

    /// The contents of all slots in use.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        self.used.values().map(|(content, _)| content)
    }
}
