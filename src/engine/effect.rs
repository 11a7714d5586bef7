//! What the engine decides: the effects of a step, and what must be attached.

use std::collections::BTreeSet;

use crate::names::{CgroupId, CgroupPath};
use crate::policy::request::Request;

/// What has to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the policies' parameters into a slot without bindings.
    WriteParams {
        /// The slot.
        slot: u32,
        /// Policy names and the bytes of their parameters.
        policies: Vec<(String, Vec<u8>)>,
    },
    /// Write the parameters of a slot in use once more, into the objects that have none yet.
    RewriteParams {
        /// The slot.
        slot: u32,
        /// Names and parameters of policies whose objects are others now.
        policies: Vec<(String, Vec<u8>)>,
    },
    /// Empty a slot that has no bindings any more.
    ClearSlot {
        /// The slot.
        slot: u32,
    },
    /// Bind a cgroup to a slot, or move it there.
    Bind {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// The slot.
        slot: u32,
        /// Keep the subtree's counters.
        count: bool,
    },
    /// End a cgroup's binding.
    Unbind {
        /// The cgroup.
        cgroup: CgroupId,
    },
    /// Register a slot for a cgroup to come.
    Register {
        /// The path it will have.
        path: CgroupPath,
        /// The slot.
        slot: u32,
        /// Keep the subtree's counters.
        count: bool,
    },
    /// Forget a registration.
    Unregister {
        /// The path.
        path: CgroupPath,
    },
    /// What must be attached from here on.
    SetAttachments(AttachSet),
    /// Record the requests on the cgroup.
    WriteRecord {
        /// The cgroup's path.
        path: CgroupPath,
        /// All requests.
        requests: Vec<Request>,
    },
    /// Remove the record.
    RemoveRecord {
        /// The cgroup's path.
        path: CgroupPath,
    },
    /// Policies are attached to a cgroup, or others than before.
    Attached {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// The policies' names.
        policies: Vec<String>,
    },
    /// No policy is attached to the cgroup any more.
    Detached {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// Why.
        reason: &'static str,
    },
    /// A request cannot be satisfied; the caller gets the error.
    Fail {
        /// The cgroup.
        path: CgroupPath,
        /// One sentence.
        sentence: String,
    },
    /// An error of a request; logged once, for its unit.
    Warn {
        /// The cgroup.
        path: CgroupPath,
        /// The unit, when known.
        unit: Option<String>,
        /// One sentence.
        sentence: String,
    },
}

/// What must be attached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachSet {
    /// Policies with bindings or registrations.
    pub policies: BTreeSet<String>,
    /// Those among them that need the subtree's counters.
    pub counting: BTreeSet<String>,
    /// Anything is bound or registered at all, or a pattern waits for cgroups that match.
    pub cgroup_events: bool,
    /// The kernel announces every new cgroup, not only registered ones.
    pub report_all_cgroups: bool,
}
