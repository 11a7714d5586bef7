//! The calls of the D-Bus service, as the daemon receives them.

use tokio::sync::{mpsc, oneshot};

use super::authorize::Caller;
use super::error::Error;
use crate::names::{CgroupPath, ContainerId, PodName};

/// Limit of the length of a reply in bytes. The bus disconnects a sender of messages beyond 32 MiB, its default.
const REPLY_BYTES_MAX: usize = 24 << 20;

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
        /// The names of the pod and of the container, for display only.
        pod: Option<PodName>,
        /// The id of the pod's sandbox, if the line is that of the pod's own cgroup.
        sandbox: Option<ContainerId>,
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
    /// Report the last kills by the kernel's OOM killer.
    Kills {
        /// The cgroup; the root for all.
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

/// The sending end of the queue of the daemon's loop.
#[derive(Debug, Clone)]
pub struct CallSender {
    administrators: mpsc::Sender<Call>,
    owners: mpsc::Sender<Call>,
}

/// The receiving end. Calls of administrators come first.
#[derive(Debug)]
pub struct CallQueue {
    administrators: mpsc::Receiver<Call>,
    owners: mpsc::Receiver<Call>,
}

/// A queue with room for `size` calls of administrators and as many of owners of cgroups.
pub fn queue(size: usize) -> (CallSender, CallQueue) {
    let (to_administrators, administrators) = mpsc::channel(size);
    let (to_owners, owners) = mpsc::channel(size);
    let sender = CallSender { administrators: to_administrators, owners: to_owners };
    (sender, CallQueue { administrators, owners })
}

impl CallSender {
    /// The queue for the calls of this caller.
    pub(super) fn of(&self, caller: Caller) -> &mpsc::Sender<Call> {
        match caller {
            Caller::Administrator(_) => &self.administrators,
            Caller::Owner(_) => &self.owners,
        }
    }
}

impl CallQueue {
    /// The next call. `None` if the service has ended.
    pub async fn recv(&mut self) -> Option<Call> {
        tokio::select! {
            biased;
            Some(call) = self.administrators.recv() => Some(call),
            call = self.owners.recv() => call,
        }
    }

    /// The next call if one is in the queue.
    #[cfg(test)]
    pub fn try_recv(&mut self) -> Result<Call, mpsc::error::TryRecvError> {
        self.administrators.try_recv().or_else(|_| self.owners.try_recv())
    }
}

/// The JSON text of a reply.
pub fn json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Failed(e.to_string()))
}

/// A longer reply would end the connection, and the daemon with it.
pub(super) fn bounded_reply(text: String) -> Result<String, Error> {
    if text.len() > REPLY_BYTES_MAX {
        let bytes = text.len();
        return Err(Error::Failed(format!(
            "the reply has {bytes} bytes; the bus allows {REPLY_BYTES_MAX}; inspect single cgroups with memcg-bpf explain"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn administrators_pass_a_full_queue_of_owners() {
        let (sender, mut queue) = queue(8);
        let call = |command| Call { command, reply: oneshot::channel().0 };
        let owner = Caller::Owner(1000);
        while sender.of(owner).try_send(call(Command::Policies)).is_ok() {}
        sender.of(Caller::Administrator(0)).try_send(call(Command::Stats)).unwrap();
        assert_eq!(queue.recv().await.unwrap().command, Command::Stats);
        assert_eq!(queue.recv().await.unwrap().command, Command::Policies);
    }

    #[test]
    fn reply_above_limit_of_bus_is_an_error() {
        assert!(bounded_reply("x".repeat(REPLY_BYTES_MAX)).is_ok());
        let error = bounded_reply("x".repeat(REPLY_BYTES_MAX.saturating_add(1))).unwrap_err().to_string();
        assert!(error.starts_with("the reply has 25165825 bytes; the bus allows 25165824"), "{error}");
    }
}
