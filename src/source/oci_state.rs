//! The data that an OCI runtime passes to its hooks: the container's state with its annotations, and the bundle's
//! configuration. Parses JSON and returns one request.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{ContainerState as SpecStatus, State};
use serde::Deserialize;
use thiserror::Error;

use super::pod::{self, NAME_KEYS, POD_POLICY};
use crate::names::{CGROUP_PATH_MAX, ContainerId, PodName};
use crate::text::printable::{QUOTE_ERROR_MAX, QUOTE_MAX, quote};

/// Annotation with the policy line of a container, or of every container of a pod.
pub const POLICY: &str = "memcg.bpf/policy";

/// Before a container's name: annotation with the policy line of that container of a pod. It wins over [`POLICY`].
pub const POLICY_OF: &str = "memcg.bpf/policy.";

/// The same as [`POLICY_OF`], over which it wins. Kubernetes limits the part of a key after the slash to 63 characters,
/// which is the limit of a container's name, too.
pub const POLICY_FOR: &str = "policy.memcg.bpf/";

/// Annotation that is true if the container must not start without its policy.
pub const REQUIRED: &str = "memcg.bpf/required";

/// Prefix of all annotations of memcg-bpf.
const OURS: &str = "memcg.bpf/";

/// Annotations with the type of the container: containerd, CRI-O. A pod's sandbox keeps its namespaces open and never
/// has a policy.
const TYPE_KEYS: [&str; 2] = ["io.kubernetes.cri.container-type", pod::CRIO_TYPE];

/// Number of unknown annotations that are reported.
const UNKNOWN_MAX: usize = 4;

/// Longest state in bytes. A container's annotations may hold 256 KiB in Kubernetes; engines add their own.
pub const STATE_MAX: usize = 1024 * 1024;

/// Longest `config.json` in bytes. Seccomp profiles and mounts make a few hundred KiB.
pub const CONFIG_MAX: usize = 8 * 1024 * 1024;

/// Why a state or a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// Standard input was empty.
    #[error(
        "the container state is empty; this program is called by an OCI runtime, which writes the state to its standard input"
    )]
    Empty,
    /// The state is longer than [`STATE_MAX`].
    #[error("the container state is longer than {STATE_MAX} bytes")]
    TooLong,
    /// Not the JSON of the runtime specification.
    #[error("the container state is not that of the OCI runtime specification: {0}")]
    Malformed(String),
    /// `status` is missing: the stage is not known.
    #[error("the container state has no status")]
    NoStatus,
    /// `id` is missing or no container id.
    #[error("the container state has no usable id: {0}")]
    BadId(String),
    /// `config.json` is longer than [`CONFIG_MAX`] or no JSON.
    #[error("config.json of the bundle cannot be read: {0}")]
    BadConfig(String),
}

/// The status of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The runtime is creating the environment.
    Creating,
    /// The environment exists, and the user's program has not been started.
    Created,
    /// The user's program runs.
    Running,
    /// The container has ended.
    Stopped,
}

/// The used part of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// The container's id.
    pub id: ContainerId,
    /// The container's first process in the runtime's pid namespace; absent at poststop.
    pub pid: Option<u32>,
    /// The bundle's directory; empty when not given.
    pub bundle: PathBuf,
    /// The status.
    pub status: Status,
    /// All annotations.
    pub annotations: HashMap<String, String>,
}

/// The request in a container's annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRequest {
    /// The container's id.
    pub id: ContainerId,
    /// Its first process; absent at poststop.
    pub pid: Option<u32>,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The status.
    pub status: Status,
    /// The policy line; `none` for an empty annotation, `None` if there is none.
    pub line: Option<String>,
    /// The policy line of the pod's own cgroup; `none` for an empty annotation, `None` if there is none.
    pub pod_line: Option<String>,
    /// The names of the pod and of the container, for display.
    pub pod: Option<PodName>,
    /// The id of the pod's sandbox.
    pub sandbox: Option<ContainerId>,
    /// True when the container must not start without its policy.
    pub required: bool,
    /// True if there is a policy for one container of a pod, and the engine does not pass the container's name.
    pub container_name_unknown: bool,
    /// Warnings about the annotations, one sentence each, which do not stop the container.
    pub warnings: Vec<String>,
}

impl ContainerState {
    /// Parses the JSON that a runtime writes to a hook's standard input.
    pub fn parse(json: &[u8]) -> Result<ContainerState, StateError> {
        if json.len() > STATE_MAX {
            return Err(StateError::TooLong);
        }
        if json.iter().all(u8::is_ascii_whitespace) {
            return Err(StateError::Empty);
        }
        let malformed =
            |error: serde_json::Error| StateError::Malformed(quote(&error.to_string(), QUOTE_ERROR_MAX));
        // oci-spec reads a missing status as "stopped", which would turn a start into an end.
        #[derive(Deserialize)]
        struct StatusPresence {
            status: Option<serde::de::IgnoredAny>,
        }
        let presence: StatusPresence = serde_json::from_slice(json).map_err(malformed)?;
        let state: State = serde_json::from_slice(json).map_err(malformed)?;
        if presence.status.is_none() {
            return Err(StateError::NoStatus);
        }
        let id = ContainerId::parse(state.id())
            .map_err(|error| StateError::BadId(quote(&error.to_string(), QUOTE_ERROR_MAX)))?;
        Ok(ContainerState {
            id,
            pid: state.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            bundle: state.bundle().clone(),
            status: match state.status() {
                SpecStatus::Creating => Status::Creating,
                SpecStatus::Created => Status::Created,
                SpecStatus::Running => Status::Running,
                SpecStatus::Stopped => Status::Stopped,
            },
            annotations: state.annotations().clone().unwrap_or_default(),
        })
    }

    /// The request in the annotations.
    pub fn policy_request(&self) -> ContainerRequest {
        let mut warnings = Vec::new();
        let text = |line: &str| match line.trim() {
            "" => "none".to_owned(),
            line => line.to_owned(),
        };
        let line = self.policy_line(&mut warnings).map(text);
        let pod_line = self.annotations.get(POD_POLICY).map(|line| text(line));
        // A runtime may leave a sandbox behind that fails to start. The pod's containers fail instead.
        let is_sandbox = self.first_of(&TYPE_KEYS) == Some("sandbox");
        let required = self.required(&mut warnings) && !is_sandbox;
        let mut unknown: Vec<&String> = self.annotations.keys().filter(|key| is_unknown(key)).collect();
        unknown.sort();
        for key in unknown.into_iter().take(UNKNOWN_MAX) {
            warnings.push(format!(
                "ignoring annotation '{}'; there are {POLICY}, {POLICY_FOR}CONTAINER, {POLICY_OF}CONTAINER, {POD_POLICY} and {REQUIRED}",
                quote(key, QUOTE_MAX)
            ));
        }
        let named = self.first_of(&NAME_KEYS).is_some() || is_sandbox;
        let one_of_pod = self.annotations.keys().any(|key| is_for_one_container(key));
        let container_name_unknown = line.is_none() && !named && one_of_pod;
        ContainerRequest {
            id: self.id.clone(),
            pid: self.pid,
            bundle: self.bundle.clone(),
            status: self.status,
            line,
            pod_line,
            pod: pod::pod_name(&self.annotations),
            sandbox: pod::sandbox(&self.annotations),
            required,
            container_name_unknown,
            warnings,
        }
    }

    fn policy_line(&self, warnings: &mut Vec<String>) -> Option<&str> {
        if self.first_of(&TYPE_KEYS) == Some("sandbox") {
            return None;
        }
        let general = self.annotations.get(POLICY).map(String::as_str);
        match self.first_of(&NAME_KEYS) {
            Some(name) => [POLICY_FOR, POLICY_OF]
                .iter()
                .find_map(|prefix| self.annotations.get(&format!("{prefix}{name}")))
                .map(String::as_str)
                .or(general),
            None => {
                if let Some(key) = self.annotations.keys().filter(|key| is_for_one_container(key)).min() {
                    warnings.push(format!(
                        "ignoring annotation '{}': the engine does not say which container of a pod this is; use {POLICY}",
                        quote(key, QUOTE_MAX)
                    ));
                }
                general
            }
        }
    }

    fn required(&self, warnings: &mut Vec<String>) -> bool {
        let Some(text) = self.annotations.get(REQUIRED) else { return false };
        parse_required(text).unwrap_or_else(|| {
            // Only a valid value can keep a container from starting.
            warnings.push(format!(
                "annotation {REQUIRED} is '{}', which is neither true nor false; taken as false",
                quote(text, QUOTE_MAX)
            ));
            false
        })
    }

    fn first_of(&self, keys: &[&'static str; 2]) -> Option<&str> {
        pod::first_of(&self.annotations, keys)
    }
}

/// True if the annotations say that the container must not start without its policy.
pub fn is_required(annotations: &HashMap<String, String>) -> bool {
    annotations.get(REQUIRED).and_then(|text| parse_required(text)).unwrap_or(false)
}

fn parse_required(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "y" | "t" => Some(true),
        "false" | "no" | "off" | "0" | "n" | "f" | "" => Some(false),
        _ => None,
    }
}

/// True for an annotation of memcg-bpf, known or unknown.
pub fn is_ours(key: &str) -> bool {
    key.starts_with(OURS) || key.starts_with(POLICY_FOR)
}

fn is_for_one_container(key: &str) -> bool {
    key.starts_with(POLICY_OF) || key.starts_with(POLICY_FOR)
}

fn is_unknown(key: &str) -> bool {
    key.starts_with(OURS) && ![POLICY, POD_POLICY, REQUIRED].contains(&key) && !key.starts_with(POLICY_OF)
}

/// `linux.cgroupsPath` in the text of a bundle's `config.json`; `None` if it is absent or empty.
pub fn cgroups_path(json: &[u8]) -> Result<Option<String>, StateError> {
    #[derive(Deserialize)]
    struct Config {
        linux: Option<Linux>,
    }
    #[derive(Deserialize)]
    struct Linux {
        #[serde(rename = "cgroupsPath")]
        cgroups_path: Option<String>,
    }
    if json.len() > CONFIG_MAX {
        return Err(StateError::BadConfig(format!("it is longer than {CONFIG_MAX} bytes")));
    }
    let config: Config = serde_json::from_slice(json)
        .map_err(|error| StateError::BadConfig(quote(&error.to_string(), QUOTE_ERROR_MAX)))?;
    let path = config.linux.and_then(|linux| linux.cgroups_path).filter(|path| !path.is_empty());
    // Longer paths are not valid, and could not be sent over D-Bus.
    if path.as_deref().is_some_and(|path| path.len() > CGROUP_PATH_MAX || path.contains('\0')) {
        return Err(StateError::BadConfig("linux.cgroupsPath is no path".to_owned()));
    }
    Ok(path)
}

#[cfg(test)]
#[path = "oci_state_tests.rs"]
mod tests;
