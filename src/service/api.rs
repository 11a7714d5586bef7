//! The D-Bus object. Checks the arguments of method calls, passes them as [`Command`]s to the daemon's loop and
//! returns the replies. `systemd/org.memcg.Bpf1.xml` describes the interface; a test compares both.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use zbus::fdo::RequestNameFlags;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, interface};

use super::args::{
    OptionDict, Options, cgroup_path, container_id, non_root_cgroup, pid as parse_pid, policy_line,
};
use super::authorize::{Authorization, Authorizer, Operation, unknown_caller};
use super::call::{Call, CallSender, Command, bounded_reply};
use super::error::Error;
pub use crate::bus::{NAME as BUS_NAME, PATH as OBJECT_PATH};
use crate::log::audit::ActionRecord;
use crate::log::denials::DenialRecord;
use crate::names::{CgroupPath, CgroupRef};
use crate::report::oom_kill::OomProcess;

/// Timeout for room in the queue, after which a call fails with `Busy`.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// Publishes the object and requests the bus name, in this order, so that every call is answered. `kernel` is the
/// JSON text of a `KernelReport`. `rescan_requested` is notified when an OCI hook may leave a record. Fails with
/// `NameTaken` if another daemon runs.
pub async fn serve(
    connection: &Connection,
    calls: CallSender,
    rescan_requested: Arc<Notify>,
    kernel: String,
    authorizer: Authorizer,
) -> zbus::Result<PublishedObject> {
    let object = Object { calls, rescan_requested, kernel, authorizer };
    connection.object_server().at(OBJECT_PATH, object).await?;
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    if let Err(error) = connection.request_name_with_flags(BUS_NAME, flags).await {
        connection.object_server().remove::<Object, _>(OBJECT_PATH).await?;
        return Err(error);
    }
    Ok(PublishedObject { connection: connection.clone() })
}

/// The published object.
#[derive(Debug, Clone)]
pub struct PublishedObject {
    connection: Connection,
}

impl PublishedObject {
    /// Signals that `policies` are attached to a cgroup.
    pub async fn emit_attached(&self, cgroup: &CgroupRef, policies: &[String]) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, OBJECT_PATH)?;
        Object::attached(&emitter, cgroup.path.as_str(), cgroup.id.0, policies).await
    }

    /// Signals that all policies of a cgroup are detached, and the reason.
    pub async fn emit_detached(&self, cgroup: &CgroupRef, reason: &str) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, OBJECT_PATH)?;
        Object::detached(&emitter, cgroup.path.as_str(), cgroup.id.0, reason).await
    }

    /// Signals the outcome of an action.
    pub async fn emit_acted(&self, record: &ActionRecord) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, OBJECT_PATH)?;
        let (cgroup, id, outcome) = (record.path.as_str(), record.cgroup.0, record.outcome.word());
        let report =
            serde_json::to_string(&record.report()).map_err(|e| zbus::Error::Failure(e.to_string()))?;
        Object::acted(&emitter, cgroup, id, &record.policy, record.action, outcome, &report).await
    }

    /// Signals a denied request, or one that a dry run would have denied.
    pub async fn emit_denied(&self, record: &DenialRecord) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, OBJECT_PATH)?;
        let denial = &record.denial;
        let report =
            serde_json::to_string(&record.report()).map_err(|e| zbus::Error::Failure(e.to_string()))?;
        let (cgroup, id, outcome) = (record.path.as_str(), denial.cgroup.0, denial.outcome());
        Object::denied(&emitter, cgroup, id, &denial.policy, outcome, &report).await
    }

    /// Signals a kill by the kernel's OOM killer. `Kills` returns the other facts.
    pub async fn emit_oom_killed(&self, victim: &OomProcess) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, OBJECT_PATH)?;
        Object::oom_killed(&emitter, &victim.cgroup, victim.cgroup_id, victim.pid).await
    }

    /// Releases the bus name. Later calls start the daemon again.
    pub async fn unpublish(self) -> zbus::Result<()> {
        self.connection.release_name(BUS_NAME).await?;
        self.connection.object_server().remove::<Object, _>(OBJECT_PATH).await?;
        Ok(())
    }
}

struct Object {
    calls: CallSender,
    /// Not a command: the queue may be full.
    rescan_requested: Arc<Notify>,
    kernel: String,
    authorizer: Authorizer,
}

impl Object {
    async fn call(&self, authorization: Authorization, command: Command) -> Result<String, Error> {
        let (reply, answer) = oneshot::channel();
        match self.calls.of(authorization.caller).send_timeout(Call { command, reply }, QUEUE_WAIT).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Err(Error::Busy("memcg-bpfd has too many requests waiting; ask again".to_owned()));
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(shutting_down()),
        }
        answer.await.unwrap_or_else(|_| Err(shutting_down())).and_then(bounded_reply)
    }

    /// A hook whose call failed records its request on the cgroup of the container, so a scan must find it.
    fn request_rescan(&self, error: &Error) {
        if matches!(error, Error::Busy(_)) || *error == unknown_caller() {
            self.rescan_requested.notify_one();
        }
    }

    async fn authorize_inspect(
        &self,
        cgroup: Option<&CgroupPath>,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Authorization, Error> {
        self.authorizer.authorize(Operation::Inspect, cgroup, connection, header).await
    }
}

/// A hook repeats the call, which reaches the next daemon, or records its request.
fn shutting_down() -> Error {
    Error::Busy("memcg-bpfd is stopping; ask again when it runs".to_owned())
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
    ) -> Result<String, Error> {
        let (cgroup, line) = (non_root_cgroup(cgroup)?, policy_line(line)?);
        let authorization =
            self.authorizer.authorize(Operation::Manage, Some(&cgroup), connection, &header).await?;
        let caller = authorization.caller;
        self.call(authorization, Command::Attach { cgroup, line, caller }).await
    }

    #[zbus(out_args("binding"))]
    async fn attach_container(
        &self,
        id: &str,
        pid: u32,
        line: &str,
        options: OptionDict,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let authorization = self.authorizer.authorize_engine(connection, &header).await;
        let authorization = authorization.inspect_err(|error| self.request_rescan(error))?;
        let id = container_id(id)?;
        let pid = parse_pid(pid)?;
        let line = policy_line(line)?;
        let Options { cgroups_path, pod, sandbox, required } = Options::parse(&options)?;
        let caller = authorization.caller;
        let command =
            Command::AttachContainer { id, pid, line, cgroups_path, pod, sandbox, required, caller };
        let answer = self.call(authorization, command).await;
        answer.inspect_err(|error| self.request_rescan(error))
    }

    #[zbus(out_args("remaining"))]
    async fn detach(
        &self,
        cgroup: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let cgroup = non_root_cgroup(cgroup)?;
        let authorization =
            self.authorizer.authorize(Operation::Manage, Some(&cgroup), connection, &header).await?;
        let caller = authorization.caller;
        self.call(authorization, Command::Detach { cgroup, caller }).await
    }

    async fn detach_container(
        &self,
        id: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let authorization = self.authorizer.authorize_engine(connection, &header).await?;
        let caller = authorization.caller;
        self.call(authorization, Command::DetachContainer { id: container_id(id)?, caller }).await.map(drop)
    }

    #[zbus(out_args("bindings"))]
    async fn list(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let authorization = self.authorize_inspect(None, connection, &header).await?;
        self.call(authorization, Command::List).await
    }

    #[zbus(out_args("binding"))]
    async fn explain(
        &self,
        cgroup: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let cgroup = cgroup_path(cgroup)?;
        let authorization = self.authorize_inspect(Some(&cgroup), connection, &header).await?;
        self.call(authorization, Command::Explain { cgroup }).await
    }

    #[zbus(out_args("policies"))]
    async fn policies(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let authorization = self.authorize_inspect(None, connection, &header).await?;
        self.call(authorization, Command::Policies).await
    }

    #[zbus(out_args("actions"))]
    async fn pause(
        &self,
        nanoseconds: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let authorization = self.authorizer.authorize(Operation::Manage, None, connection, &header).await?;
        let caller = authorization.caller;
        self.call(authorization, Command::Pause { for_ns: nanoseconds, caller }).await
    }

    #[zbus(out_args("actions"))]
    async fn resume(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let authorization = self.authorizer.authorize(Operation::Manage, None, connection, &header).await?;
        let caller = authorization.caller;
        self.call(authorization, Command::Resume { caller }).await
    }

    #[zbus(out_args("changes"))]
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let authorization = self.authorizer.authorize(Operation::Manage, None, connection, &header).await?;
        let caller = authorization.caller;
        self.call(authorization, Command::Reload { caller }).await
    }

    #[zbus(out_args("kills"))]
    async fn kills(
        &self,
        cgroup: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let cgroup = cgroup_path(cgroup)?;
        let authorization = self.authorize_inspect(Some(&cgroup), connection, &header).await?;
        self.call(authorization, Command::Kills { cgroup }).await
    }

    #[zbus(out_args("stats"))]
    async fn stats(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let authorization = self.authorize_inspect(None, connection, &header).await?;
        self.call(authorization, Command::Stats).await
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
        action: &str,
        outcome: &str,
        report: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn denied(
        emitter: &SignalEmitter<'_>,
        cgroup: &str,
        cgroup_id: u64,
        policy: &str,
        outcome: &str,
        report: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn oom_killed(
        emitter: &SignalEmitter<'_>,
        cgroup: &str,
        cgroup_id: u64,
        pid: u32,
    ) -> zbus::Result<()>;
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
