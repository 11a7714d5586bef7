//! What is added to a container when it is created: the OCI hook, and the annotations of its pod that concern it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::message::{Container, Pod};
use super::protobuf::Message;
use crate::names::ContainerId;
use crate::source::oci_config::{HOOK_NAME, HOOK_TIMEOUT};
use crate::source::oci_state::{
    ContainerRequest, ContainerState, NAME_KEYS, POLICY, POLICY_FOR, POLICY_OF, REQUIRED, Status,
};

/// The annotations that a container has to have, so that the hook finds the policy of its pod: those of the pod that
/// concern this container, and its name. The container's own annotations stay.
pub fn missing_annotations(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let for_one = [POLICY_FOR, POLICY_OF].map(|prefix| format!("{prefix}{}", container.name));
    let concerns = |key: &str| key == POLICY || key == REQUIRED || for_one.iter().any(|own| own == key);
    let mut missing: BTreeMap<String, String> = pod
        .annotations
        .iter()
        .filter(|(key, _)| concerns(key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if !missing.is_empty() && !NAME_KEYS.iter().any(|key| container.annotations.contains_key(*key)) {
        missing.extend(NAME_KEYS.first().map(|key| ((*key).to_owned(), container.name.clone())));
    }
    missing.retain(|key, _| !container.annotations.contains_key(key));
    missing
}

/// The request of a container with the annotations of its pod; `None` if no policy is requested, or if the id is not
/// that of a container.
pub fn request(pod: &Pod, container: &Container) -> Option<ContainerRequest> {
    let mut annotations: HashMap<String, String> = missing_annotations(pod, container).into_iter().collect();
    annotations.extend(container.annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
    let state = ContainerState {
        id: ContainerId::parse(&container.id).ok()?,
        pid: (container.pid != 0).then_some(container.pid),
        bundle: PathBuf::new(),
        status: if container.running { Status::Running } else { Status::Creating },
        annotations,
    };
    Some(state.policy_request()).filter(|request| request.line.is_some())
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
