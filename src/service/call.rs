//! The calls of the D-Bus service, as the daemon receives them.

use tokio::sync::oneshot;

use super::authorize::Caller;
use super::error::Error;
use crate::names::{CgroupPath, ContainerId};

/// What a caller wants, its arguments checked. Uids are the bus driver's word, not the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Put a policy line on a cgroup: as operator, or as its owner.
    Attach {
        /// The cgroup, never the root.
        cgroup: CgroupPath,
        /// The policy line, bounded in length, otherwise unchecked.
        line: String,
        /// Who asks.
        caller: Caller,
    },
    /// Put a policy line on the cgroup of a container that is being started.
    AttachContainer {
        /// The container's id.
        id: ContainerId,
        /// A process in the container, in the host's numbering.
        pid: u32,
        /// The policy line, bounded in length, otherwise unchecked.
        line: String,
        /// `linux.cgroupsPath` of the bundle, when the hook could read it.
        cgroups_path: Option<String>,
        /// True when the container must not start without its policy.
        required: bool,
        /// Who asks.
        caller: Caller,
    },
    /// Withdraw the operator's request for a cgroup.
    Detach {
        /// The cgroup, never the root.
        cgroup: CgroupPath,
        /// Who asks.
        caller: Caller,
    },
    /// Withdraw the request of a container that has stopped.
    DetachContainer {
        /// The container's id.
        id: ContainerId,
        /// Who asks.
        caller: Caller,
    },
    /// All bindings.
    List,
    /// One binding, with what its policies see and wait for.
    Explain {
        /// The cgroup.
        cgroup: CgroupPath,
    },
    /// All policies that can be used.
    Policies,
    /// Restore all knobs and suspend actions.
    Pause {
        /// For so many nanoseconds; 0: until it is resumed.
        for_ns: u64,
        /// Who asks.
        caller: Caller,
    },
    /// Act again.
    Resume {
        /// Who asks.
        caller: Caller,
    },
    /// Read configuration, profiles and policy objects again.
    Reload {
        /// Who asks.
        caller: Caller,
    },
    /// Action statistics: paused or not, and the counts.
    Stats,
}

/// A command on its way to the daemon's loop.
#[derive(Debug)]
pub struct Call {
    /// What is wanted.
    pub command: Command,
    /// Takes the answer: a JSON document (empty for `DetachContainer`), or why not.
    pub reply: oneshot::Sender<Result<String, Error>>,
}

/// The JSON text of a reply.
pub fn json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Failed(e.to_string()))
}
