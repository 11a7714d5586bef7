//! Containers that were created without the plugin: requests their policies from the daemon, on a thread of its own.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::hook::call::{self, AttachArgs, CallError};
use crate::nri::LateContainer;
use crate::text::printable::{QUOTE_MAX, quote};

/// Lists of containers that wait: one for each connection to the runtime and each container that started without the
/// hook. More are dropped, and found by the next synchronization.
const QUEUE_MAX: usize = 4096;

/// The longest time for one call. Nobody waits for it, and the daemon may be loading a policy.
const DEADLINE: Duration = Duration::from_secs(30);

/// The way to the thread.
pub struct Queue(SyncSender<Vec<LateContainer>>);

impl Queue {
    /// Queues containers; never blocks.
    pub fn push(&self, containers: Vec<LateContainer>) {
        let count = containers.len();
        if count > 0 && self.0.try_send(containers).is_err() {
            tracing::warn!("Ignoring {count} containers that started without a policy: the queue is full");
        }
    }
}

/// Starts the thread, which calls the daemon on the bus at `address`.
pub fn start(address: &'static str) -> io::Result<Queue> {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    std::thread::Builder::new().name("late".to_owned()).spawn(move || run(address, &receiver))?;
    Ok(Queue(sender))
}

fn run(address: &str, receiver: &Receiver<Vec<LateContainer>>) {
    while let Ok(containers) = receiver.recv() {
        // Without the list, the call for each container shows whether the daemon can be reached.
        let known = call::list_containers(address, DEADLINE).unwrap_or_else(|error| {
            tracing::warn!("Failed to list the containers with a policy: {error}");
            BTreeSet::new()
        });
        for container in containers.iter().filter(|container| !known.contains(container.id.as_str())) {
            let (line, name) = (quote(&container.line, QUOTE_MAX), &container.name);
            let id = container.id.short();
            match attach(address, container) {
                Ok(()) => tracing::warn!(
                    CONTAINER_ID_FULL = container.id.as_str(),
                    "container {id} ({name}) started without its policy; attached '{line}' now"
                ),
                Err(error) => {
                    let required =
                        if container.required { ", although memcg.bpf/required is true" } else { "" };
                    tracing::error!(
                        CONTAINER_ID_FULL = container.id.as_str(),
                        "container {id} ({name}) runs without its policy '{line}'{required}: {error}"
                    );
                }
            }
        }
    }
}

fn attach(address: &str, container: &LateContainer) -> Result<(), CallError> {
    if container.line.contains('\0') {
        return Err(CallError::Rejected("the policy line contains a zero byte".to_owned()));
    }
    let args = AttachArgs {
        id: container.id.as_str(),
        pid: container.pid,
        line: &container.line,
        cgroups_path: container.cgroups_path.as_deref(),
        required: container.required,
    };
    call::attach(address, DEADLINE, args)
}
