//! What is added to a container when it is created: the OCI hook, and the annotations of its pod that concern it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::message::{Container, Pod};
use super::protobuf::Message;
use crate::names::ContainerId;
use crate::source::oci_config::{HOOK_NAME, HOOK_TIMEOUT};
use crate::source::oci_state::{
    ContainerRequest, ContainerState, POLICY, POLICY_FOR, POLICY_OF, REQUIRED, Status,
};
use crate::source::pod::{NAME_KEYS, NAMESPACE_KEYS, POD_KEYS, POD_POLICY, SANDBOX_KEYS};

/// The annotations that a container has to have, so that the hook finds the policy of its pod: those of the pod that
/// concern this container, and the names of both. The container's own annotations stay.
pub fn missing_annotations(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let for_one = [POLICY_FOR, POLICY_OF].map(|prefix| format!("{prefix}{}", container.name));
    let concerns =
        |key: &str| [POLICY, POD_POLICY, REQUIRED].contains(&key) || for_one.iter().any(|own| own == key);
    let mut missing: BTreeMap<String, String> =
        pod.annotations.iter().filter(|(key, _)| concerns(key)).map(owned).collect();
    let names = [
        (NAME_KEYS, &container.name),
        (NAMESPACE_KEYS, &pod.namespace),
        (POD_KEYS, &pod.name),
        (SANDBOX_KEYS, &pod.id),
    ];
    if !missing.is_empty() {
        for (keys, name) in names {
            if !keys.iter().any(|key| container.annotations.contains_key(*key)) {
                let [key, _] = keys;
                missing.insert(key.to_owned(), name.clone());
            }
        }
    }
    missing.retain(|key, _| !container.annotations.contains_key(key));
    missing
}

/// The request of a container with the annotations of its pod; `None` if no policy is requested, or if the id is not
/// that of a container.
pub fn request(pod: &Pod, container: &Container) -> Option<ContainerRequest> {
    let missing = missing_annotations(pod, container);
    let annotations = missing.iter().chain(&container.annotations).map(owned).collect();
    let state = state(container, annotations)?;
    Some(state.policy_request()).filter(|request| request.line.is_some() || request.pod_line.is_some())
}

/// What is not valid in the annotations of the pod and of the container, one sentence each. Without what the hook reports
/// itself, if it runs with the container's own annotations and with those in `hook`.
pub fn warnings(pod: &Pod, container: &Container, hook: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let of = |annotations| {
        state(container, annotations).map(|state| state.policy_request().warnings).unwrap_or_default()
    };
    let concerns = |key: &str| !is_of_other_container(key, &container.name);
    let mut all: HashMap<String, String> =
        pod.annotations.iter().filter(|(key, _)| concerns(key)).map(owned).collect();
    all.extend(container.annotations.iter().map(owned));
    let [key, _] = NAME_KEYS;
    all.insert(key.to_owned(), container.name.clone());
    let mut found = of(all);
    if let Some(copied) = hook {
        let reported = of(copied.iter().chain(&container.annotations).map(owned).collect());
        found.retain(|warning| !reported.contains(warning));
    }
    found
}

/// True if the hook runs before the container's process and finds the annotations of the pod.
pub fn is_complete(pod: &Pod, container: &Container) -> bool {
    has_hook(container) && missing_annotations(pod, container).is_empty()
}

fn is_of_other_container(key: &str, name: &str) -> bool {
    [POLICY_FOR, POLICY_OF].iter().any(|prefix| key.strip_prefix(prefix).is_some_and(|of| of != name))
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// The container's state with these annotations; `None` if the id is not that of a container.
fn state(container: &Container, annotations: HashMap<String, String>) -> Option<ContainerState> {
    Some(ContainerState {
        id: ContainerId::parse(&container.id).ok()?,
        pid: (container.pid != 0).then_some(container.pid),
        bundle: PathBuf::new(),
        status: if container.started { Status::Running } else { Status::Creating },
        annotations,
    })
}

/// True if the container's specification names the hook already.
pub fn has_hook(container: &Container) -> bool {
    container.hooks.iter().any(|path| path.rsplit('/').next() == Some(HOOK_NAME))
}

/// The reply to CreateContainer, with the path of the hook. It is empty unless a policy is requested for the container.
pub fn reply(pod: &Pod, container: &Container, hook: &str) -> Message {
    if request(pod, container).is_none() {
        return Message::new();
    }
    let mut adjustment = Message::new();
    for (key, value) in missing_annotations(pod, container) {
        adjustment = adjustment.message(2, &Message::new().text(1, &key).text(2, &value));
    }
    if !has_hook(container) {
        let timeout = Message::new().number(1, HOOK_TIMEOUT);
        let hook = Message::new().text(1, hook).text(2, HOOK_NAME).message(4, &timeout);
        // The fields createRuntime and poststop.
        adjustment = adjustment.message(5, &Message::new().message(2, &hook).message(6, &hook));
    }
    if adjustment.encoded().is_empty() { adjustment } else { Message::new().message(1, &adjustment) }
}
