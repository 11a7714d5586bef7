//! The inputs of the engine: events of cgroups and units, and requests.

use std::collections::BTreeSet;

use super::config::EngineConfig;
use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::policy::request::{Origin, Request};

/// An event or a request.
#[derive(Debug, Clone)]
pub enum Input {
    /// What systemd and the unit's files say: where its cgroup is or will be, and the policy line if it has one.
    Unit {
        /// The unit.
        unit: UnitName,
        /// The path its cgroup has or will have.
        path: CgroupPath,
        /// Its cgroup, while it exists.
        cgroup: Option<CgroupId>,
        /// The line from its files; `None` when they have none.
        request: Option<Request>,
    },
    /// The unit's files are gone, or it is not loaded any more and nothing on disk names it.
    UnitUnloaded(UnitName),
    /// A request for a cgroup that exists; replaces the earlier request of the same origin.
    Request {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// The request.
        request: Request,
    },
    /// An origin withdraws its request.
    Withdraw {
        /// The cgroup.
        cgroup: CgroupId,
        /// The origin.
        origin: Origin,
    },
    /// A cgroup appeared; `bound` when the kernel already bound its registered slot.
    CgroupCreated {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// The registered slot is bound.
        bound: bool,
    },
    /// A cgroup was removed.
    CgroupRemoved(CgroupId),
    /// The record found on a cgroup at start.
    Adopt {
        /// The cgroup.
        cgroup: CgroupId,
        /// Its path.
        path: CgroupPath,
        /// What the record says.
        requests: Vec<Request>,
    },
    /// Whether there are patterns (templates, prefix drop-ins): every new cgroup is then announced.
    ReportAllCgroups(bool),
    /// Policies, profiles or permissions have changed; `replaced` are policies whose objects are others now,
    /// which hold no parameters yet.
    Reload {
        /// From now on.
        config: EngineConfig,
        /// Names of policies.
        replaced: BTreeSet<String>,
    },
    /// The daemon stops, and no other follows.
    Shutdown,
}
