//! Our object on the system bus. Turns each method call into a [`Command`] for the daemon's loop and its answer into
//! a reply; checks arguments, decides nothing. `systemd/org.memcg.Bpf1.xml` is the interface; a test compares both.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zbus::fdo::{DBusProxy, RequestNameFlags};
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, DBusError, OwnedVariant, interface};

use super::arguments::{Options, bounded, container, governable, path, process};
use super::told::Acted;
use crate::names::{CgroupId, CgroupPath, ContainerId};

/// Our name on the bus.
pub const BUS_NAME: &str = "org.memcg.Bpf1";
/// Our object.
pub const OBJECT_PATH: &str = "/org/memcg/Bpf1";
/// How long a call waits for room in the daemon's queue before it is told to come back.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// What a caller wants, its arguments checked. Uids are the bus driver's word, not the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Put a policy line on a cgroup, as operator.
    Attach {
        /// The cgroup, never the root.
        cgroup: CgroupPath,
        /// The policy line, bounded in length, otherwise unchecked.
        line: String,
        /// Who asks.
        caller_uid: u32,
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
        caller_uid: u32,
    },
    /// Withdraw the operator's request for a cgroup.
    Detach {
        /// The cgroup, never the root.
        cgroup: CgroupPath,
        /// Who asks.
        caller_uid: u32,
    },
    /// Withdraw the request of a container that has stopped.
    DetachContainer {
        /// The container's id.
        id: ContainerId,
        /// Who asks.
        caller_uid: u32,
    },
    /// Somebody who asked for a container's policy has gone before we came to it: what a hook could not tell us, it
    /// records on the cgroup.
    LookForRecords,
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
        caller_uid: u32,
    },
    /// Act again.
    Resume {
        /// Who asks.
        caller_uid: u32,
    },
    /// Acting as a whole: paused or not, and the counts.
    Actions,
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

/// Puts our object on the bus and takes our name, in this order, so that no call finds nobody. `kernel` is the JSON
/// text of a `KernelReport`. Fails with `NameTaken` when another daemon runs.
pub async fn serve(
    connection: &Connection,
    calls: mpsc::Sender<Call>,
    kernel: String,
) -> zbus::Result<Published> {
    connection.object_server().at(OBJECT_PATH, Object { calls, kernel }).await?;
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    if let Err(error) = connection.request_name_with_flags(BUS_NAME, flags).await {
        connection.object_server().remove::<Object, _>(OBJECT_PATH).await?;
        return Err(error);
    }
    Ok(Published { connection: connection.clone() })
}

/// Our object while it is on the bus.
#[derive(Debug, Clone)]
pub struct Published {
    connection: Connection,
}

impl Published {
    /// Tells listeners that `policies` are now in force on a cgroup.
    pub async fn emit_attached(
        &self,
        cgroup: &CgroupPath,
        id: CgroupId,
        policies: &[String],
    ) -> zbus::Result<()> {
        Object::attached(&SignalEmitter::new(&self.connection, OBJECT_PATH)?, cgroup.as_str(), id.0, policies)
            .await
    }

    /// Tells listeners that nothing is in force on a cgroup any more, and why in one sentence.
    pub async fn emit_detached(&self, cgroup: &CgroupPath, id: CgroupId, reason: &str) -> zbus::Result<()> {
        Object::detached(&SignalEmitter::new(&self.connection, OBJECT_PATH)?, cgroup.as_str(), id.0, reason)
            .await
    }

    /// Tells listeners what became of an action.
    pub async fn emit_acted(&self, acted: &Acted) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, OBJECT_PATH)?;
        let (cgroup, id, outcome) = (acted.path.as_str(), acted.cgroup.0, acted.outcome.word());
        let action =
            serde_json::to_string(&acted.report()).map_err(|e| zbus::Error::Failure(e.to_string()))?;
        Object::acted(&emitter, cgroup, id, &acted.policy, acted.verb, outcome, &action).await
    }

    /// Leaves the bus; calls from now on start the daemon anew.
    pub async fn withdraw(self) -> zbus::Result<()> {
        self.connection.release_name(BUS_NAME).await?;
        self.connection.object_server().remove::<Object, _>(OBJECT_PATH).await?;
        Ok(())
    }
}

struct Object {
    calls: mpsc::Sender<Call>,
    kernel: String,
}

impl Object {
    async fn ask(&self, command: Command) -> Result<String, Refusal> {
        let (reply, answer) = oneshot::channel();
        match self.calls.send_timeout(Call { command, reply }, QUEUE_WAIT).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Err(Refusal::Busy("memcg-bpfd has too many requests waiting; ask again".to_owned()));
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(stopping()),
        }
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> Refusal {
    Refusal::Failed("memcg-bpfd is stopping; ask again when it runs".to_owned())
}

#[interface(name = "org.memcg.Bpf1.Manager", introspection_docs = false)]
impl Object {
    #[zbus(out_args("binding"))]
    async fn attach(
        &self,
        cgroup: &str,
        line: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let caller_uid = administrator(connection, &header).await?;
        self.ask(Command::Attach { cgroup: governable(cgroup)?, line: bounded(line)?, caller_uid }).await
    }

    #[zbus(out_args("binding"))]
    async fn attach_container(
        &self,
        id: &str,
        pid: u32,
        line: &str,
        options: BTreeMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let caller_uid = match administrator(connection, &header).await {
            Ok(uid) => uid,
            Err(refusal) => {
                if refusal == unknown_caller() {
                    drop(self.ask(Command::LookForRecords).await);
                }
                return Err(refusal);
            }
        };
        let id = container(id)?;
        let pid = process(pid)?;
        let line = bounded(line)?;
        let Options { cgroups_path, required } = Options::parse(&options)?;
        self.ask(Command::AttachContainer { id, pid, line, cgroups_path, required, caller_uid }).await
    }

    #[zbus(out_args("remaining"))]
    async fn detach(
        &self,
        cgroup: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let caller_uid = administrator(connection, &header).await?;
        self.ask(Command::Detach { cgroup: governable(cgroup)?, caller_uid }).await
    }

    async fn detach_container(
        &self,
        id: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        let caller_uid = administrator(connection, &header).await?;
        self.ask(Command::DetachContainer { id: container(id)?, caller_uid }).await.map(drop)
    }

    #[zbus(out_args("bindings"))]
    async fn list(&self) -> Result<String, Refusal> {
        self.ask(Command::List).await
    }

    #[zbus(out_args("binding"))]
    async fn explain(&self, cgroup: &str) -> Result<String, Refusal> {
        self.ask(Command::Explain { cgroup: path(cgroup)? }).await
    }

    #[zbus(out_args("policies"))]
    async fn policies(&self) -> Result<String, Refusal> {
        self.ask(Command::Policies).await
    }

    #[zbus(out_args("actions"))]
    async fn pause(
        &self,
        nanoseconds: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let caller_uid = administrator(connection, &header).await?;
        self.ask(Command::Pause { for_ns: nanoseconds, caller_uid }).await
    }

    #[zbus(out_args("actions"))]
    async fn resume(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let caller_uid = administrator(connection, &header).await?;
        self.ask(Command::Resume { caller_uid }).await
    }

    #[zbus(out_args("actions"))]
    async fn actions(&self) -> Result<String, Refusal> {
        self.ask(Command::Actions).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn kernel(&self) -> &str {
        &self.kernel
    }

    #[zbus(signal)]
    async fn attached(
        emitter: &SignalEmitter<'_>,
        cgroup: &str,
        cgroup_id: u64,
        policies: &[String],
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn detached(
        emitter: &SignalEmitter<'_>,
        cgroup: &str,
        cgroup_id: u64,
        reason: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn acted(
        emitter: &SignalEmitter<'_>,
        cgroup: &str,
        cgroup_id: u64,
        policy: &str,
        verb: &str,
        outcome: &str,
        action: &str,
    ) -> zbus::Result<()>;
}

/// The caller's uid, if it may change anything: root or our own. The bus policy says so already; a bus whose policy
/// file is missing or edited must not open the door.
async fn administrator(connection: &Connection, header: &Header<'_>) -> Result<u32, Refusal> {
    let uid = match header.sender() {
        Some(sender) => {
            let bus = DBusProxy::new(connection).await.map_err(|_| unknown_caller())?;
            let sender = BusName::from(sender.clone());
            bus.get_connection_unix_user(sender).await.map_err(|_| unknown_caller())?
        }
        // Without a bus the kernel tells who is at the other end of the socket.
        None => {
            connection.peer_creds().await.ok().and_then(|c| c.unix_user_id()).ok_or_else(unknown_caller)?
        }
    };
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        return Ok(uid);
    }
    Err(Refusal::Failed(format!("uid {uid} may not change memory policies; only root may")))
}

fn unknown_caller() -> Refusal {
    Refusal::Failed("the bus does not say who is calling; nothing was changed".to_owned())
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
