//! The effects of a step, and the programs that must be attached.

use std::collections::BTreeSet;

use crate::names::{CgroupId, CgroupPath, CgroupRef, PodName};
use crate::policy::request::Request;

/// An effect. Effects are performed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the policies' parameters into a slot without bindings.
    WriteParams {
        /// The slot.
        slot: u32,
        /// Policy names and the bytes of their parameters.
        policies: Vec<(String, Vec<u8>)>,
    },
    /// Write the parameters of a slot in use again, to objects that replaced others.
    RewriteParams {
        /// The slot.
        slot: u32,
        /// Names and parameters of the policies whose objects were replaced.
        policies: Vec<(String, Vec<u8>)>,
    },
    /// Clear a slot without bindings.
    ClearSlot {
        /// The slot.
        slot: u32,
    },
    /// Bind a cgroup to a slot, or move it there.
    Bind {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The slot.
        slot: u32,
        /// True if the counters of the subtree are kept.
        count: bool,
    },
    /// Remove the binding of a cgroup.
    Unbind {
        /// The cgroup.
        cgroup: CgroupId,
        /// True if requests remain, so that the counters go on from their values when the cgroup is bound again.
        keep_counters: bool,
    },
    /// Register a slot for a cgroup that does not exist yet.
    Register {
        /// The path of the cgroup.
        path: CgroupPath,
        /// The slot.
        slot: u32,
        /// True if the counters of the subtree are kept.
        count: bool,
    },
    /// Remove a registration.
    Unregister {
        /// The path.
        path: CgroupPath,
    },
    /// Set the programs that must be attached.
    SetAttachments(AttachSet),
    /// Record the requests on the cgroup, beside a request that a hook has added since.
    WriteRecord {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The requests that were recorded last.
        before: Vec<Request>,
        /// All requests.
        requests: Vec<Request>,
    },
    /// Remove the record: the daemon stops.
    RemoveRecord {
        /// The cgroup.
        cgroup: CgroupRef,
    },
    /// The attached policies of a cgroup have changed.
    Attached {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The policies' names.
        policies: Vec<String>,
        /// The names of the pod and of the container, if known.
        pod: Option<PodName>,
    },
    /// All policies of a cgroup are detached.
    Detached {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The reason.
        reason: &'static str,
    },
    /// A request cannot be fulfilled; the error is returned to the caller.
    Fail {
        /// The cgroup.
        path: CgroupPath,
        /// One sentence.
        sentence: String,
    },
    /// An error in a request; logged once, for its unit.
    Warn {
        /// The cgroup.
        path: CgroupPath,
        /// The unit, if known.
        unit: Option<String>,
        /// One sentence.
        sentence: String,
    },
}

impl Effect {
    /// The cgroup whose requests are not fulfilled if the effect fails.
    pub fn concerns(&self) -> Option<&CgroupPath> {
        match self {
            Effect::Bind { cgroup, .. }
            | Effect::WriteRecord { cgroup, .. }
            | Effect::RemoveRecord { cgroup } => Some(&cgroup.path),
            Effect::Register { path, .. } | Effect::Fail { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// The programs that must be attached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachSet {
    /// Policies with bindings or registrations.
    pub policies: BTreeSet<String>,
    /// Those among them that read counters of the subtree.
    pub counting: BTreeSet<String>,
    /// True if there is a binding, a registration, or a pattern for new cgroups.
    pub cgroup_events: bool,
    /// True if the kernel reports every new cgroup, not only registered ones.
    pub report_all_cgroups: bool,
}

/// An effect that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The cgroup whose requests it concerns; `None` if it concerns no single cgroup.
    pub path: Option<CgroupPath>,
    /// One sentence.
    pub sentence: String,
}

/// The result of effects.
#[derive(Debug, Default)]
pub struct Performed {
    /// What failed.
    pub failures: Vec<Failure>,
    /// Cgroups that were removed while they were bound.
    pub removed: Vec<CgroupId>,
}
