//! What callers want of the daemon, and how they are refused.

use tokio::sync::oneshot;
use zbus::DBusError;

use super::authority::Caller;
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
    /// Put everything back and do nothing more.
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
    /// Acting as a whole: paused or not, and the counts.
    Stats,
}

/// A command on its way to the daemon's loop.
#[derive(Debug)]
pub struct Call {
    /// What is wanted.
    pub command: Command,
    /// Takes the answer: a JSON document (empty for `DetachContainer`), or why not.
    pub reply: oneshot::Sender<Result<String, Refusal>>,
}

/// Why a call was refused: the D-Bus error and one sentence for the caller.
#[derive(Debug, Clone, PartialEq, Eq, DBusError)]
#[zbus(prefix = "org.memcg.Bpf1.Error", impl_display = false)]
pub enum Refusal {
    /// An argument is not what it should be.
    InvalidArgument(String),
    /// The policy line is wrong; the sentence lists all faults.
    InvalidPolicy(String),
    /// The caller may not ask for this.
    AccessDenied(String),
    /// The cgroup does not exist.
    NoSuchCgroup(String),
    /// The container does not exist, or its cgroup cannot be found.
    NoSuchContainer(String),
    /// The cgroup has no policy.
    NotGoverned(String),
    /// This kernel or set-up cannot do it.
    NotSupported(String),
    /// Too much to do; ask again.
    Busy(String),
    /// Anything else.
    Failed(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.description().unwrap_or("refused"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{ERROR_ACCESS_DENIED, ERROR_BUSY, ERROR_PREFIX};

    /// Macros take no constants.
    #[test]
    fn error_names_are_those_of_the_bus_room() {
        for (error, name) in [
            (Refusal::Busy(String::new()), ERROR_BUSY),
            (Refusal::AccessDenied(String::new()), ERROR_ACCESS_DENIED),
        ] {
            assert_eq!(error.name().as_str(), format!("{ERROR_PREFIX}{name}"));
        }
    }
}
