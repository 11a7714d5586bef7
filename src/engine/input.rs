//! The inputs of the engine: events of cgroups and units, and requests.

use std::collections::BTreeSet;

use super::config::EngineConfig;
use crate::names::{CgroupId, CgroupPath, CgroupRef, UnitName};
use crate::policy::request::{Origin, Request};

/// An event or a request.
#[derive(Debug, Clone)]
pub enum Input {
    /// The state of a unit and its files: its cgroup, and its policy line if there is one.
    Unit {
        /// The unit.
        unit: UnitName,
        /// The path of its current or future cgroup.
        path: CgroupPath,
        /// Its cgroup, if it exists.
        cgroup: Option<CgroupId>,
        /// The request of its files, if there is one.
        request: Option<Request>,
    },
    /// The unit's files were removed, or it was unloaded and no file on disk names it.
    UnitUnloaded(UnitName),
    /// A request for an existing cgroup. Replaces the earlier request of the same origin.
    Request {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The request.
        request: Request,
    },
    /// Removes the request of an origin.
    Withdraw {
        /// The cgroup.
        cgroup: CgroupId,
        /// The origin.
        origin: Origin,
    },
    /// A cgroup was created.
    CgroupCreated {
        /// The cgroup.
        cgroup: CgroupRef,
        /// True if the kernel has bound the registered slot.
        bound: bool,
    },
    /// A cgroup was removed.
    CgroupRemoved(CgroupId),
    /// The record found on a cgroup at start.
    Adopt {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The requests in the record.
        requests: Vec<Request>,
    },
    /// Whether the kernel must report every new cgroup, because there are patterns (templates, prefix drop-ins).
    ReportAllCgroups(bool),
    /// Policies, profiles or permissions have changed. `replaced` are policies with a new object, which has no
    /// parameters yet.
    Reload {
        /// The new configuration.
        config: EngineConfig,
        /// Names of policies.
        replaced: BTreeSet<String>,
    },
    /// The daemon stops, and no other daemon follows.
    Shutdown,
}
