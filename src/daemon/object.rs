//! Our object on the system bus. Turns each method call into a [`Command`] for the daemon's loop and its answer into
//! a reply; checks arguments, decides nothing. `systemd/org.memcg.Bpf1.xml` is the interface; a test compares both.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zbus::fdo::{DBusProxy, RequestNameFlags};
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, DBusError, OwnedVariant, Variant, interface};

use crate::names::{CGROUP_PATH_MAX, CgroupId, CgroupPath, ContainerId};

/// Our name on the bus.
pub const BUS_NAME: &str = "org.memcg.Bpf1";
/// Our object.
pub const OBJECT_PATH: &str = "/org/memcg/Bpf1";
/// Longest policy line passed on, in bytes: the grammar's own limit.
pub const LINE_MAX: usize = 4096;
/// Longest container id looked at, in bytes; the grammar in `names` may be narrower.
const ID_MAX: usize = 1024;
/// How long a call waits for room in the daemon's queue before it is told to come back.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// The option of `AttachContainer` with the runtime's `linux.cgroupsPath`.
const CGROUPS_PATH: &str = "cgroups-path";
/// The option of `AttachContainer` that makes refusals fatal for the container.
const REQUIRED: &str = "required";

/// What a caller wants, its arguments checked. Uids are the bus driver's word, not the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Put a policy line on a cgroup, as operator.
    Attach {
        /// The cgroup, never the root.
        cgroup: CgroupPath,
        /// The policy line, at most [`LINE_MAX`] bytes, otherwise unchecked.
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
        /// The policy line, at most [`LINE_MAX`] bytes, otherwise unchecked.
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
    /// All bindings.
    List,
    /// One binding, with what its policies see and wait for.
    Explain {
        /// The cgroup.
        cgroup: CgroupPath,
    },
    /// All policies that can be used.
    Policies,
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
        let caller_uid = administrator(connection, &header).await?;
        let id = container(id)?;
        // Anything above cannot be a process id, and 0 is the caller itself in every call of the kernel.
        if pid == 0 || i32::try_from(pid).is_err() {
            return Err(invalid(format!("{pid} is not the id of a process")));
        }
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

fn invalid(sentence: String) -> Refusal {
    Refusal::InvalidArgument(sentence)
}

fn path(text: &str) -> Result<CgroupPath, Refusal> {
    // Checked here so that the error does not repeat a megabyte.
    if text.len() > CGROUP_PATH_MAX {
        let length = text.len();
        return Err(invalid(format!(
            "the cgroup path has {length} bytes; at most {CGROUP_PATH_MAX} are possible"
        )));
    }
    CgroupPath::parse(text).map_err(|error| invalid(error.to_string()))
}

fn governable(text: &str) -> Result<CgroupPath, Refusal> {
    let path = path(text)?;
    if path.is_root() {
        return Err(invalid("the root cgroup cannot be governed; name a cgroup below it".to_owned()));
    }
    Ok(path)
}

fn container(text: &str) -> Result<ContainerId, Refusal> {
    if text.len() > ID_MAX {
        return Err(invalid(format!(
            "the container id has {} bytes; at most {ID_MAX} are possible",
            text.len()
        )));
    }
    ContainerId::parse(text).map_err(|error| invalid(error.to_string()))
}

fn bounded(line: &str) -> Result<String, Refusal> {
    if line.len() > LINE_MAX {
        let length = line.len();
        return Err(Refusal::InvalidPolicy(format!(
            "the policy line has {length} bytes; at most {LINE_MAX} are allowed"
        )));
    }
    Ok(line.to_owned())
}

/// The options of `AttachContainer`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    cgroups_path: Option<String>,
    required: bool,
}

impl Options {
    fn parse(given: &BTreeMap<String, OwnedVariant>) -> Result<Self, Refusal> {
        let mut options = Options::default();
        for (key, value) in given {
            match (key.as_str(), &**value) {
                (CGROUPS_PATH, Variant::Str(path)) if path.len() <= CGROUP_PATH_MAX => {
                    options.cgroups_path = Some(path.as_str().to_owned());
                }
                (CGROUPS_PATH, Variant::Str(path)) => {
                    let length = path.len();
                    return Err(invalid(format!(
                        "option '{CGROUPS_PATH}' has {length} bytes; at most {CGROUP_PATH_MAX} are possible"
                    )));
                }
                (REQUIRED, Variant::Bool(required)) => options.required = *required,
                (CGROUPS_PATH, other) => return Err(mistyped(CGROUPS_PATH, "a string (s)", other)),
                (REQUIRED, other) => return Err(mistyped(REQUIRED, "a boolean (b)", other)),
                (unknown, _) => {
                    let word: String = unknown.chars().take(64).flat_map(char::escape_debug).collect();
                    return Err(invalid(format!(
                        "unknown option '{word}'; valid are '{CGROUPS_PATH}' (s) and '{REQUIRED}' (b)"
                    )));
                }
            }
        }
        Ok(options)
    }
}

fn mistyped(option: &str, wanted: &str, value: &Variant<'_>) -> Refusal {
    let signature: String = value.value_signature().to_string().chars().take(64).collect();
    invalid(format!("option '{option}' must be {wanted}, not of type '{signature}'"))
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
