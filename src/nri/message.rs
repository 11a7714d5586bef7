//! The messages of NRI's API (package `nri.pkg.api.v1alpha1`) as far as the plugin reads or writes them.

use std::collections::BTreeMap;

use super::error::ProtocolError;
use super::protobuf::{Fields, Message, Value};
use crate::source::oci_state::is_ours;
use crate::source::pod::{NAME_KEYS, NAMESPACE_KEYS, POD_KEYS, SANDBOX_KEYS};

/// The service of the runtime, which the plugin calls.
pub const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// The service of the plugin, which the runtime calls.
pub const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";

/// The name under which the plugin registers.
const NAME: &str = "memcg-bpf";
/// Plugins are called in the order of their indexes. A high one adds the hook after other plugins.
const INDEX: &str = "90";

/// Values of the enumeration `Event`.
pub const STOP_POD_SANDBOX: u64 = 2;
/// The container is being created, and can be adjusted.
pub const CREATE_CONTAINER: u64 = 4;
/// The container runs. Containers that were created before the plugin was connected are found by it.
pub const POST_START_CONTAINER: u64 = 7;

/// The values PAUSED and RUNNING of the enumeration `ContainerState`. A paused container has been started.
const STARTED: [u64; 2] = [2, 3];

/// Most annotations that are kept of one pod or container. Kubernetes limits them to 256 KiB in all.
const ANNOTATIONS_MAX: usize = 1024;

/// What the runtime says of itself in Configure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The name of the runtime: `containerd`, `cri-o`.
    pub runtime: String,
    /// Its version.
    pub version: String,
    /// Milliseconds within which a plugin has to answer; 0 if unknown.
    pub request_timeout: u64,
}

/// A pod: its names and the annotations that concern memcg-bpf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// The id of its sandbox.
    pub id: String,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A container, with the annotations that concern memcg-bpf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The container's id.
    pub id: String,
    /// The id of its pod.
    pub pod: String,
    /// Its name within the pod.
    pub name: String,
    /// True if its process runs or is paused.
    pub started: bool,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Paths of the hooks that run before its process.
    pub hooks: Vec<String>,
    /// `linux.cgroupsPath` of its specification.
    pub cgroups_path: String,
    /// Its first process; 0 if there is none.
    pub pid: u32,
}

/// A pod and one of its containers, in the two forms that a request has.
pub type PodAndContainer = (Pod, Container);

/// The payload of RegisterPlugin.
pub fn register() -> Message {
    Message::new().text(1, NAME).text(2, INDEX)
}

/// The argument of Configure.
pub fn configuration(payload: &[u8]) -> Result<Configuration, ProtocolError> {
    let mut configuration = Configuration::default();
    for field in Fields::new(payload) {
        match field? {
            (2, value) => configuration.runtime = value.text()?.to_owned(),
            (3, value) => configuration.version = value.text()?.to_owned(),
            (5, value) => configuration.request_timeout = value.number(),
            _ => {}
        }
    }
    Ok(configuration)
}

/// The reply to Configure: the events to which the plugin subscribes.
pub fn subscription() -> Message {
    let bit = |event: u64| 1_u64 << event.saturating_sub(1).min(63);
    Message::new().number(2, bit(STOP_POD_SANDBOX) | bit(CREATE_CONTAINER) | bit(POST_START_CONTAINER))
}

/// The argument of Synchronize: pods, containers, and whether another call with more follows.
pub fn synchronization(
    payload: &[u8],
    mut pod: impl FnMut(Pod),
    mut container: impl FnMut(Container),
) -> Result<bool, ProtocolError> {
    let mut more = false;
    for field in Fields::new(payload) {
        match field? {
            (1, value) => pod(read_pod(value.bytes())?),
            (2, value) => container(read_container(value.bytes())?),
            (3, value) => more = value.number() != 0,
            _ => {}
        }
    }
    Ok(more)
}

/// The reply to Synchronize.
pub fn synchronized(more: bool) -> Message {
    Message::new().number(2, u64::from(more))
}

/// The argument of CreateContainer and of the other calls for one event.
pub fn pod_and_container(payload: &[u8]) -> Result<PodAndContainer, ProtocolError> {
    read_pair(payload, 1, 2)
}

/// The argument of StateChange: the event, and the pod and container.
pub fn state_change(payload: &[u8]) -> Result<(u64, PodAndContainer), ProtocolError> {
    let mut event = 0;
    for field in Fields::new(payload) {
        if let (1, value) = field? {
            event = value.number();
        }
    }
    Ok((event, read_pair(payload, 2, 3)?))
}

fn read_pair(payload: &[u8], pod_field: u64, container_field: u64) -> Result<PodAndContainer, ProtocolError> {
    let (mut pod, mut container) = (Pod::default(), Container::default());
    for field in Fields::new(payload) {
        match field? {
            (number, value) if number == pod_field => pod = read_pod(value.bytes())?,
            (number, value) if number == container_field => container = read_container(value.bytes())?,
            _ => {}
        }
    }
    Ok((pod, container))
}

fn read_pod(message: &[u8]) -> Result<Pod, ProtocolError> {
    let mut pod = Pod::default();
    for field in Fields::new(message) {
        match field? {
            (1, value) => pod.id = value.text()?.to_owned(),
            (2, value) => pod.name = value.text()?.to_owned(),
            (4, value) => pod.namespace = value.text()?.to_owned(),
            (6, value) => read_annotation(value, &mut pod.annotations)?,
            _ => {}
        }
    }
    Ok(pod)
}

fn read_container(message: &[u8]) -> Result<Container, ProtocolError> {
    let mut container = Container::default();
    for field in Fields::new(message) {
        match field? {
            (1, value) => container.id = value.text()?.to_owned(),
            (2, value) => container.pod = value.text()?.to_owned(),
            (3, value) => container.name = value.text()?.to_owned(),
            (4, value) => container.started = STARTED.contains(&value.number()),
            (6, value) => read_annotation(value, &mut container.annotations)?,
            (10, value) => read_start_hooks(value.bytes(), &mut container.hooks)?,
            (11, value) => {
                for field in Fields::new(value.bytes()) {
                    if let (5, value) = field? {
                        container.cgroups_path = value.text()?.to_owned();
                    }
                }
            }
            (12, value) => container.pid = u32::try_from(value.number()).unwrap_or(0),
            _ => {}
        }
    }
    Ok(container)
}

/// Keeps an annotation of memcg-bpf, or one with a name of the container or its pod.
fn read_annotation(
    entry: Value<'_>,
    annotations: &mut BTreeMap<String, String>,
) -> Result<(), ProtocolError> {
    let (mut key, mut text) = ("", "");
    for field in Fields::new(entry.bytes()) {
        match field? {
            (1, value) => key = value.text()?,
            (2, value) => text = value.text()?,
            _ => {}
        }
    }
    let names = [NAME_KEYS, NAMESPACE_KEYS, POD_KEYS, SANDBOX_KEYS];
    let is_name = names.iter().any(|keys| keys.contains(&key));
    if (is_ours(key) || is_name) && annotations.len() < ANNOTATIONS_MAX {
        annotations.insert(key.to_owned(), text.to_owned());
    }
    Ok(())
}

/// The paths of the hooks `prestart` and `createRuntime`.
fn read_start_hooks(message: &[u8], hooks: &mut Vec<String>) -> Result<(), ProtocolError> {
    for field in Fields::new(message) {
        let (1 | 2, hook) = field? else { continue };
        for field in Fields::new(hook.bytes()) {
            if let (1, path) = field?
                && hooks.len() < ANNOTATIONS_MAX
            {
                hooks.push(path.text()?.to_owned());
            }
        }
    }
    Ok(())
}
