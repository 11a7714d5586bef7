//! One connection to a runtime, from the registration on: what is received, what is sent, and what happened.

use std::collections::BTreeMap;

use super::adjustment::{has_hook, is_complete, missing_annotations, reply, request, warnings};
use super::error::ProtocolError;
use super::message::{
    CREATE_CONTAINER, Configuration, Container, PLUGIN_SERVICE, POST_START_CONTAINER, Pod, RUNTIME_SERVICE,
    STOP_POD_SANDBOX, configuration, pod_and_container, register, state_change, subscription,
    synchronization, synchronized,
};
use super::mux::{Demultiplexer, PLUGIN, RUNTIME, write_frames};
use super::protobuf::Message;
use super::ttrpc::{Reader, Received, UNIMPLEMENTED, encode_error, encode_request, encode_response};
use crate::names::{ContainerId, PodName};
use crate::source::pod::POD_POLICY;
use crate::text::printable::{QUOTE_ERROR_MAX, QUOTE_MAX, quote};

/// The stream of the only call of ours.
const REGISTER_STREAM: u32 = 1;

/// Most containers of one synchronization whose warnings are reported.
const WARNED_MAX: usize = 64;

/// Most pods and containers that are remembered of one synchronization. A node runs a few hundred.
const SYNCHRONIZED_MAX: usize = 16_384;

/// A container with a requested policy that was created without the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateContainer {
    /// The container's id.
    pub id: ContainerId,
    /// Its first process.
    pub pid: u32,
    /// The policy line of the container.
    pub line: Option<String>,
    /// The policy line of the pod's own cgroup.
    pub pod_line: Option<String>,
    /// The names of the pod and of the container.
    pub pod: Option<PodName>,
    /// The id of the pod's sandbox.
    pub sandbox: Option<ContainerId>,
    /// `linux.cgroupsPath`, if the runtime passes it.
    pub cgroups_path: Option<String>,
    /// True if the container must not start without its policy.
    pub required: bool,
    /// `NAMESPACE/POD CONTAINER`, printable.
    pub name: String,
}

/// A container whose annotations are not all valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerWarnings {
    /// The container's id, printable.
    pub id: String,
    /// `NAMESPACE/POD CONTAINER`, printable.
    pub name: String,
    /// One sentence for each annotation, printable.
    pub warnings: Vec<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The runtime accepted the registration.
    Registered,
    /// The runtime rejected the registration, for this reason.
    NotRegistered(String),
    /// The runtime introduced itself.
    Configured(Configuration),
    /// All pods and containers are known. Those that run and request a policy are listed; `dropped` others were too many.
    Synchronized {
        /// The containers.
        containers: Vec<LateContainer>,
        /// The number of pods and containers that were not looked at.
        dropped: usize,
    },
    /// The hook was added to this container, whose name is `NAMESPACE/POD CONTAINER`.
    Adjusted(String),
    /// Annotations of a container or its pod are not valid. The container starts all the same.
    Warned(ContainerWarnings),
    /// A container started without the hook, because it was created before the plugin was connected.
    Started(LateContainer),
    /// A pod with a policy of its own has stopped. The id is that of its sandbox.
    PodStopped(ContainerId),
    /// The runtime ends the connection.
    Shutdown,
}

/// The protocol's state.
#[derive(Debug, Default)]
pub struct Session {
    /// The path of the hook that is added.
    hook: String,
    frames: Demultiplexer,
    calls: Reader,
    replies: Reader,
    /// Of the parts of a synchronization received so far.
    pods: BTreeMap<String, Pod>,
    containers: Vec<Container>,
    dropped: usize,
}

impl Session {
    /// A new session, which adds the hook with this path, and the bytes to send first.
    pub fn start(hook: &str) -> (Session, Vec<u8>) {
        let mut out = Vec::new();
        let call = encode_request(REGISTER_STREAM, RUNTIME_SERVICE, "RegisterPlugin", &register());
        write_frames(RUNTIME, &call, &mut out);
        (Session { hook: hook.to_owned(), ..Session::default() }, out)
    }

    /// Takes received bytes. Appends what is to be sent to `out`, and what happened to `events`, also if an error ends the
    /// session.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), ProtocolError> {
        self.frames.push(bytes);
        while let Some((connection, payload)) = self.frames.next_frame()? {
            match connection {
                PLUGIN => self.calls.push(&payload),
                RUNTIME => self.replies.push(&payload),
                _ => continue,
            }
            while let Some(received) = self.replies.next_message()? {
                if let Received::Response { stream: REGISTER_STREAM, error } = received {
                    events.push(match error {
                        None => Event::Registered,
                        Some(error) => Event::NotRegistered(quote(&error, QUOTE_ERROR_MAX)),
                    });
                }
            }
            while let Some(received) = self.calls.next_message()? {
                let Received::Request { stream, service, method, payload } = received else { continue };
                let response = if service == PLUGIN_SERVICE {
                    encode_response(stream, &self.answer(&method, &payload, events)?)
                } else {
                    encode_error(stream, UNIMPLEMENTED, "memcg-bpf-nri has no such service")
                };
                write_frames(PLUGIN, &response, out);
            }
        }
        Ok(())
    }

    /// The reply to a call. Calls that need no reply get an empty one, whether they are known or not: a plugin that answers
    /// with an error can keep a pod from starting.
    fn answer(
        &mut self,
        method: &str,
        payload: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<Message, ProtocolError> {
        match method {
            "Configure" => {
                let mut configuration = configuration(payload)?;
                configuration.runtime = quote(&configuration.runtime, QUOTE_MAX);
                configuration.version = quote(&configuration.version, QUOTE_MAX);
                events.push(Event::Configured(configuration));
                Ok(subscription())
            }
            "Synchronize" => self.synchronize(payload, events),
            "CreateContainer" => {
                let (pod, container) = pod_and_container(payload)?;
                Ok(self.create(&pod, &container, events))
            }
            "PostStartContainer" => {
                let (pod, container) = pod_and_container(payload)?;
                started(&pod, container, events);
                Ok(Message::new())
            }
            "StopPodSandbox" => {
                events.extend(stopped(&pod_and_container(payload)?.0));
                Ok(Message::new())
            }
            "StateChange" => {
                let (event, (pod, container)) = state_change(payload)?;
                match event {
                    STOP_POD_SANDBOX => events.extend(stopped(&pod)),
                    CREATE_CONTAINER => return Ok(self.create(&pod, &container, events)),
                    POST_START_CONTAINER => started(&pod, container, events),
                    _ => {}
                }
                Ok(Message::new())
            }
            "Shutdown" => {
                events.push(Event::Shutdown);
                Ok(Message::new())
            }
            _ => Ok(Message::new()),
        }
    }

    /// The reply to CreateContainer.
    fn create(&self, pod: &Pod, container: &Container, events: &mut Vec<Event>) -> Message {
        let reply = reply(pod, container, &self.hook);
        if !reply.encoded().is_empty() {
            events.push(Event::Adjusted(display(pod, container)));
        }
        let copied = request(pod, container).map(|_| missing_annotations(pod, container));
        events.extend(warned(pod, container, copied.as_ref()));
        reply
    }

    fn synchronize(&mut self, payload: &[u8], events: &mut Vec<Event>) -> Result<Message, ProtocolError> {
        let Session { pods, containers, dropped, .. } = self;
        let mut more_dropped = 0_usize;
        let more = synchronization(
            payload,
            |pod| {
                if pods.len() < SYNCHRONIZED_MAX {
                    pods.insert(pod.id.clone(), pod);
                } else {
                    *dropped = dropped.saturating_add(1);
                }
            },
            |container| {
                // Pods may follow in a later part, so nothing is known yet of the policy.
                match container.started && container.pid != 0 {
                    true if containers.len() < SYNCHRONIZED_MAX => containers.push(container),
                    true => more_dropped = more_dropped.saturating_add(1),
                    false => {}
                }
            },
        )?;
        self.dropped = self.dropped.saturating_add(more_dropped);
        if !more {
            let pods = std::mem::take(&mut self.pods);
            let none = Pod::default();
            let (mut late, mut warned_of) = (Vec::new(), Vec::new());
            for container in std::mem::take(&mut self.containers) {
                let pod = pods.get(&container.pod).unwrap_or(&none);
                if warned_of.len() < WARNED_MAX {
                    let none_copied = BTreeMap::new();
                    warned_of.extend(warned(pod, &container, has_hook(&container).then_some(&none_copied)));
                }
                late.extend(late_container(pod, container));
            }
            events.push(Event::Synchronized { containers: late, dropped: std::mem::take(&mut self.dropped) });
            events.append(&mut warned_of);
        }
        Ok(synchronized(more))
    }
}

/// A container that started without the hook, or without the annotations of its pod, although it requests a policy. The
/// hook's own report of a complete container is not repeated.
fn started(pod: &Pod, container: Container, events: &mut Vec<Event>) {
    if !is_complete(pod, &container) {
        events.extend(late_container(pod, container).map(Event::Started));
    }
}

fn stopped(pod: &Pod) -> Option<Event> {
    let id = ContainerId::parse(&pod.id).ok().filter(|_| pod.annotations.contains_key(POD_POLICY));
    id.map(Event::PodStopped)
}

/// Reports annotations that are not valid, unless the hook does, which gets the annotations in `hook` besides the
/// container's own.
fn warned(pod: &Pod, container: &Container, hook: Option<&BTreeMap<String, String>>) -> Option<Event> {
    let warnings = warnings(pod, container, hook);
    let id = quote(&container.id, QUOTE_MAX);
    (!warnings.is_empty())
        .then(|| Event::Warned(ContainerWarnings { id, name: display(pod, container), warnings }))
}

fn late_container(pod: &Pod, container: Container) -> Option<LateContainer> {
    let request = request(pod, &container)?;
    Some(LateContainer {
        pid: request.pid?,
        line: request.line,
        pod_line: request.pod_line,
        pod: request.pod,
        sandbox: request.sandbox,
        required: request.required,
        name: display(pod, &container),
        id: request.id,
        cgroups_path: Some(container.cgroups_path).filter(|path| !path.is_empty()),
    })
}

fn display(pod: &Pod, container: &Container) -> String {
    let part = |text: &str| quote(text, QUOTE_MAX);
    format!("{}/{} {}", part(&pod.namespace), part(&pod.name), part(&container.name))
}
