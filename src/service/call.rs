//! The calls of the D-Bus service, as the daemon receives them.

use tokio::sync::oneshot;

use super::authorize::Caller;
use super::error::Error;
use crate::names::{CgroupPath, ContainerId};

/// A call with checked arguments. Uids are those reported by the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Attach a policy line to a cgroup, as operator or as its owner.
    Attach {
        /// The cgroup, never the root.
        cgroup: CgroupPath,
        /// The policy line, bounded in length, otherwise unchecked.
        line: String,
        /// The caller.
        caller: Caller,
    },
    /// Attach a policy line to the cgroup of a container that is being started.
    AttachContainer {
        /// The container's id.
        id: ContainerId,
        /// A process in the container, by its id on the host.
        pid: u32,
        /// The policy line, bounded in length, otherwise unchecked.
        line: String,
        /// `linux.cgroupsPath` of the bundle, if the hook could read it.
        cgroups_path: Option<String>,
        /// True if the container must not start without its policy.
        required: bool,
        /// The caller.
        caller: Caller,
    },
    /// Withdraw requests for a cgroup.
    Detach {
        /// The cgroup, never the root.
        cgroup: CgroupPath,
        /// The caller.
        caller: Caller,
    },
    /// Withdraw the request for a container that has stopped.
    DetachContainer {
        /// The container's id.
        id: ContainerId,
        /// The caller.
        caller: Caller,
    },
    /// Report all bindings.
    List,
    /// Report one binding, with explanations.
    Explain {
        /// The cgroup.
        cgroup: CgroupPath,
    },
    /// Report all policies that can be used.
    Policies,
    /// Restore all knobs and suspend actions.
    Pause {
        /// Duration in nanoseconds. If 0, actions stay suspended until `Resume`.
        for_ns: u64,
        /// The caller.
        caller: Caller,
    },
    /// End the pause.
    Resume {
        /// The caller.
        caller: Caller,
    },
    /// Reload configuration, profiles and policy objects.
    Reload {
        /// The caller.
        caller: Caller,
    },
    /// Report action statistics.
    Stats,
}

/// A command in the queue of the daemon's loop.
#[derive(Debug)]
pub struct Call {
    /// The command.
    pub command: Command,
    /// Receives the reply: a JSON document (empty for `DetachContainer`), or the error.
    pub reply: oneshot::Sender<Result<String, Error>>,
}

/// The JSON text of a reply.
pub fn json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Failed(e.to_string()))
}
