//! The bindings that follow from requests, and the effects that lead there: `Engine::step(input) → effects`.
//! No I/O and no clock. Knows cgroups, units, requests and slots; not how a policy decides or a map is written.

mod reload;
mod report;
mod slots;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::policy::catalog::Catalog;
use crate::policy::precedence::{AllowList, Resolution, ResolvedPolicy};
use crate::policy::request::{Origin, Request};
use slots::Slots;

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

/// Why a cgroup is detached that does not exist any more.
pub const REASON_REMOVED: &str = "the cgroup was removed";

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

/// A cgroup with requests.
#[derive(Debug, Clone)]
struct Cgroup {
    path: CgroupPath,
    requests: Vec<Request>,
    /// The attached policies, which are those of earlier requests while it is pending; and the errors of the requests.
    resolved: Resolution,
    slot: Option<u32>,
    /// No slot was free for the current requests.
    pending: bool,
}

/// A unit with a policy line: registered for the next time its cgroup appears.
#[derive(Debug, Clone)]
struct Registered {
    path: CgroupPath,
    request: Request,
    resolved: Resolution,
    slot: Option<u32>,
    pending: bool,
}

/// What can be used here: filled at start and when objects or profiles change.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// Policies and profiles.
    pub catalog: Catalog,
    /// The policies that annotations may request.
    pub allow: AllowList,
    /// Policies that need the subtree's counters.
    pub counting: BTreeSet<String>,
    /// Policy → hooks that this kernel offers.
    pub offered: BTreeMap<String, Vec<String>>,
    /// Policy → hooks that it uses and this kernel lacks.
    pub missing: BTreeMap<String, Vec<String>>,
}

/// All cgroups with requests, and all registered units.
#[derive(Debug, Default)]
pub struct Engine {
    config: EngineConfig,
    cgroups: BTreeMap<CgroupId, Cgroup>,
    units: BTreeMap<UnitName, Registered>,
    slots: Slots,
    report_all_cgroups: bool,
    attached: AttachSet,
}

impl Engine {
    /// An engine without requests.
    pub fn new(config: EngineConfig) -> Self {
        Engine { config, ..Engine::default() }
    }

    #[cfg(test)]
    fn with_slots(config: EngineConfig, max: u32) -> Self {
        Engine { slots: Slots::with_capacity(max), ..Engine::new(config) }
    }

    /// The cgroups with requests.
    pub fn cgroups(&self) -> impl Iterator<Item = (CgroupId, &CgroupPath)> {
        self.cgroups.iter().map(|(id, cgroup)| (*id, &cgroup.path))
    }

    /// The cgroups with a request for this container.
    pub fn cgroups_of_container(&self, container: &str) -> Vec<CgroupId> {
        let of = |c: &Cgroup| c.requests.iter().any(|r| r.container.as_deref() == Some(container));
        self.cgroups.iter().filter(|(_, c)| of(c)).map(|(id, _)| *id).collect()
    }

    /// The request of an origin for a cgroup.
    pub fn request_of(&self, cgroup: CgroupId, origin: Origin) -> Option<Request> {
        self.cgroups.get(&cgroup)?.requests.iter().find(|r| r.origin == origin).cloned()
    }

    /// Units with a registration, and those that a cgroup's request names.
    pub fn units(&self) -> BTreeSet<UnitName> {
        let named = self.cgroups.values().flat_map(|c| &c.requests).filter_map(|r| r.unit.as_deref());
        self.units.keys().cloned().chain(named.filter_map(|name| UnitName::parse(name).ok())).collect()
    }

    /// The unit registered under this path.
    pub fn unit_at(&self, path: &CgroupPath) -> Option<UnitName> {
        self.units.iter().find(|(_, unit)| unit.path == *path).map(|(name, _)| name.clone())
    }

    /// The path under which a unit is registered.
    pub fn registered(&self, unit: &UnitName) -> Option<&CgroupPath> {
        self.units.get(unit).map(|unit| &unit.path)
    }

    /// The path of a cgroup we know.
    pub fn path_of(&self, cgroup: CgroupId) -> Option<CgroupPath> {
        self.cgroups.get(&cgroup).map(|c| c.path.clone())
    }

    /// What can be used.
    pub fn catalog(&self) -> &Catalog {
        &self.config.catalog
    }

    /// The errors that a request would have.
    pub fn validate(&self, request: &Request) -> Vec<String> {
        let resolved = self.resolve(std::slice::from_ref(request));
        resolved.errors.iter().map(ToString::to_string).collect()
    }

    fn resolve(&self, requests: &[Request]) -> Resolution {
        crate::policy::precedence::resolve(requests, &self.config.catalog, &self.config.allow)
    }

    fn counts(&self, policies: &[ResolvedPolicy]) -> bool {
        policies.iter().any(|p| self.config.counting.contains(&p.name))
    }
}
