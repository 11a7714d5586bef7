//! Our object on the system bus. Turns each method call into a [`Command`] for the daemon's loop and its answer into
//! a reply; checks arguments, decides nothing. `systemd/org.memcg.Bpf1.xml` is the interface; a test compares both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use zbus::fdo::RequestNameFlags;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedVariant, interface};

use super::arguments::{Options, bounded, container, governable, path, process};
use super::authority::{Authority, Deed, Permit, unknown_caller};
use super::command::{Call, Command, Refusal};
use super::told::Acted;
pub use crate::bus::{NAME as BUS_NAME, PATH as OBJECT_PATH};
use crate::names::{CgroupId, CgroupPath};

/// How long a call waits for room in the daemon's queue before it is told to come back.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// Puts our object on the bus and takes our name, in this order, so that no call finds nobody. `kernel` is the JSON
/// text of a `KernelReport`; `missed` hears of containers whose hooks may leave a record instead. Fails with `NameTaken`
/// when another daemon runs.
pub async fn serve(
    connection: &Connection,
    calls: mpsc::Sender<Call>,
    missed: Arc<Notify>,
    kernel: String,
) -> zbus::Result<Published> {
    let object = Object { calls, missed, kernel, authority: Authority::default() };
    connection.object_server().at(OBJECT_PATH, object).await?;
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
        let report =
            serde_json::to_string(&acted.report()).map_err(|e| zbus::Error::Failure(e.to_string()))?;
        Object::acted(&emitter, cgroup, id, &acted.policy, acted.verb, outcome, &report).await
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
    /// A flag and no call: where the queue is full, a call would be lost too.
    missed: Arc<Notify>,
    kernel: String,
    authority: Authority,
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

    /// What a hook could not have from us it records on the container's cgroup: somebody has to look there.
    fn missed(&self, refusal: &Refusal) {
        if matches!(refusal, Refusal::Busy(_)) || *refusal == unknown_caller() {
            self.missed.notify_one();
        }
    }

    async fn look(
        &self,
        cgroup: Option<&CgroupPath>,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Permit, Refusal> {
        self.authority.permit(Deed::Look, cgroup, connection, header).await
    }
}

/// A hook asks again, and then the next daemon; or it records its request for that one.
fn stopping() -> Refusal {
    Refusal::Busy("memcg-bpfd is stopping; ask again when it runs".to_owned())
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
        let (cgroup, line) = (governable(cgroup)?, bounded(line)?);
        let permit = self.authority.permit(Deed::Manage, Some(&cgroup), connection, &header).await?;
        self.ask(Command::Attach { cgroup, line, caller: permit.caller }).await
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
        let permit = self.authority.engine(connection, &header).await;
        let permit = permit.inspect_err(|refusal| self.missed(refusal))?;
        let id = container(id)?;
        let pid = process(pid)?;
        let line = bounded(line)?;
        let Options { cgroups_path, required } = Options::parse(&options)?;
        let caller = permit.caller;
        let answer =
            self.ask(Command::AttachContainer { id, pid, line, cgroups_path, required, caller }).await;
        answer.inspect_err(|refusal| self.missed(refusal))
    }

    #[zbus(out_args("remaining"))]
    async fn detach(
        &self,
        cgroup: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let cgroup = governable(cgroup)?;
        let permit = self.authority.permit(Deed::Manage, Some(&cgroup), connection, &header).await?;
        self.ask(Command::Detach { cgroup, caller: permit.caller }).await
    }

    async fn detach_container(
        &self,
        id: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        let permit = self.authority.engine(connection, &header).await?;
        self.ask(Command::DetachContainer { id: container(id)?, caller: permit.caller }).await.map(drop)
    }

    #[zbus(out_args("bindings"))]
    async fn list(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let _permit = self.look(None, connection, &header).await?;
        self.ask(Command::List).await
    }

    #[zbus(out_args("binding"))]
    async fn explain(
        &self,
        cgroup: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let cgroup = path(cgroup)?;
        let _permit = self.look(Some(&cgroup), connection, &header).await?;
        self.ask(Command::Explain { cgroup }).await
    }

    #[zbus(out_args("policies"))]
    async fn policies(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let _permit = self.look(None, connection, &header).await?;
        self.ask(Command::Policies).await
    }

    #[zbus(out_args("actions"))]
    async fn pause(
        &self,
        nanoseconds: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let permit = self.authority.permit(Deed::Manage, None, connection, &header).await?;
        self.ask(Command::Pause { for_ns: nanoseconds, caller: permit.caller }).await
    }

    #[zbus(out_args("actions"))]
    async fn resume(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let permit = self.authority.permit(Deed::Manage, None, connection, &header).await?;
        self.ask(Command::Resume { caller: permit.caller }).await
    }

    #[zbus(out_args("changes"))]
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let permit = self.authority.permit(Deed::Manage, None, connection, &header).await?;
        self.ask(Command::Reload { caller: permit.caller }).await
    }

    #[zbus(out_args("stats"))]
    async fn stats(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Refusal> {
        let _permit = self.look(None, connection, &header).await?;
        self.ask(Command::Stats).await
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
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
