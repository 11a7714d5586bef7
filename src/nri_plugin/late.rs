//! Containers that were created without the plugin: requests their policies from the daemon, on a thread of its own.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::hook::call::{self, AttachArgs, CallError};
use crate::names::ContainerId;
use crate::nri::LateContainer;
use crate::text::printable::{QUOTE_MAX, quote};

/// Lists of containers that wait: one for each connection to the runtime and each container that started without the
/// hook. More are dropped, and found by the next synchronization.
const QUEUE_MAX: usize = 4096;

/// The longest time for one call. Nobody waits for it, and the daemon may be loading a policy.
const DEADLINE: Duration = Duration::from_secs(30);

/// Something for the thread to do.
enum Task {
    /// Request the policies of these containers.
    Attach(Vec<LateContainer>),
    /// Withdraw the policy of the pod with this sandbox.
    Detach(ContainerId),
}

/// The way to the thread.
pub struct Queue(SyncSender<Task>);

impl Queue {
    /// Queues containers; never blocks.
    pub fn push(&self, containers: Vec<LateContainer>) {
        let count = containers.len();
        if count > 0 && self.0.try_send(Task::Attach(containers)).is_err() {
            tracing::warn!("Ignoring {count} containers that started without a policy: the queue is full");
        }
    }

    /// Queues the end of a pod; never blocks. Without it, the policy ends with the pod's cgroup.
    pub fn detach(&self, sandbox: ContainerId) {
        if self.0.try_send(Task::Detach(sandbox)).is_err() {
            tracing::debug!("ignoring a pod that has stopped: the queue is full");
        }
    }
}

/// Starts the thread, which calls the daemon on the bus at `address`.
pub fn start(address: &'static str) -> io::Result<Queue> {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    std::thread::Builder::new().name("late".to_owned()).spawn(move || run(address, &receiver))?;
    Ok(Queue(sender))
}

fn run(address: &str, receiver: &Receiver<Task>) {
    while let Ok(task) = receiver.recv() {
        match task {
            Task::Attach(containers) => attach_all(address, &containers),
            Task::Detach(sandbox) => {
                if let Err(error) = call::detach(address, DEADLINE, sandbox.as_str()) {
                    tracing::debug!("nothing to detach for sandbox {}: {error}", sandbox.short());
                }
            }
        }
    }
}

fn attach_all(address: &str, containers: &[LateContainer]) {
    // Without the list, the call for each container shows whether the daemon can be reached.
    let mut known = call::list_containers(address, DEADLINE).unwrap_or_else(|error| {
        tracing::warn!("Failed to list the containers with a policy: {error}");
        BTreeSet::new()
    });
    for container in containers {
        // The containers of a pod share its policy.
        let pod = container.sandbox.as_ref().zip(container.pod_line.as_deref());
        let new_pod = pod.filter(|(sandbox, _)| !known.contains(sandbox.as_str()));
        if let Some((sandbox, line)) = new_pod {
            known.insert(sandbox.as_str().to_owned());
            report(container, "the policy of its pod", line, attach(address, container, line, Some(sandbox)));
        }
        let own = container.line.as_deref().filter(|_| !known.contains(container.id.as_str()));
        if let Some(line) = own {
            report(container, "its policy", line, attach(address, container, line, None));
        }
    }
}

fn report(container: &LateContainer, what: &str, line: &str, result: Result<(), CallError>) {
    let (line, name, id) = (quote(line, QUOTE_MAX), &container.name, container.id.short());
    match result {
        Ok(()) => tracing::warn!(
            CONTAINER_ID_FULL = container.id.as_str(),
            "container {id} ({name}) started without {what}; attached '{line}' now"
        ),
        Err(error) => {
            let required = if container.required { ", although memcg.bpf/required is true" } else { "" };
            tracing::error!(
                CONTAINER_ID_FULL = container.id.as_str(),
                "container {id} ({name}) runs without {what} '{line}'{required}: {error}"
            );
        }
    }
}

fn attach(
    address: &str,
    container: &LateContainer,
    line: &str,
    sandbox: Option<&ContainerId>,
) -> Result<(), CallError> {
    if line.contains('\0') {
        return Err(CallError::Rejected("the policy line contains a zero byte".to_owned()));
    }
    let args = AttachArgs {
        id: container.id.as_str(),
        pid: container.pid,
        line,
        cgroups_path: container.cgroups_path.as_deref(),
        pod: container.pod.as_ref(),
        sandbox,
        required: container.required,
    };
    call::attach(address, DEADLINE, args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::fake_daemon::{Behaviour, FakeDaemon};
    use crate::names::PodName;

    fn container(id: &str, line: Option<&str>) -> LateContainer {
        LateContainer {
            id: ContainerId::parse(id).unwrap(),
            pid: 7,
            line: line.map(str::to_owned),
            pod_line: Some("deny limit=1G".to_owned()),
            pod: PodName::parse("default/web app").ok(),
            sandbox: ContainerId::parse("5a").ok(),
            cgroups_path: None,
            required: false,
            name: "default/web app".to_owned(),
        }
    }

    #[test]
    fn policy_of_a_pod_is_requested_once_for_all_its_containers() {
        let daemon = FakeDaemon::start(Behaviour::Accepts);
        attach_all(&daemon.address(), &[container("c1", Some("observe")), container("c2", None)]);
        let options = r#"pod=Str("default/web app") required=Bool(false)"#;
        assert_eq!(
            daemon.calls(),
            [
                format!(r#"attach c1 7 'deny limit=1G' {options} sandbox=Str("5a")"#),
                format!("attach c1 7 'observe' {options}"),
            ]
        );
    }

    #[test]
    fn thread_withdraws_the_policy_of_a_stopped_pod() {
        let daemon = FakeDaemon::start(Behaviour::Accepts);
        let queue = start(daemon.address().leak()).unwrap();
        queue.detach(ContainerId::parse("5a").unwrap());
        let began = std::time::Instant::now();
        while daemon.calls().is_empty() && began.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(daemon.calls(), ["detach 5a"]);
    }
}
