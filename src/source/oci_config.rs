//! The OCI hook in a bundle's `config.json`: adds it to the specification of a container with annotations of memcg-bpf.
//! Text in, text out.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::oci_state::{CONFIG_MAX, is_ours, is_required};
use crate::text::printable::{QUOTE_ERROR_MAX, quote};

/// The OCI hook, as in oci-hooks/90-memcg-bpf.json.
pub const HOOK: &str = "/usr/libexec/oci/hooks.d/memcg-bpf-hook";
/// Its name, which is its first argument.
pub const HOOK_NAME: &str = "memcg-bpf-hook";
/// Seconds after which the runtime kills it.
pub const HOOK_TIMEOUT: u64 = 10;

/// The stages before the container's first instruction. One of them is sufficient.
const START_STAGES: [&str; 2] = ["createRuntime", "prestart"];
/// The stage after the container's end.
const STOP_STAGE: &str = "poststop";

/// Why a configuration cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The configuration is longer than [`CONFIG_MAX`].
    #[error("config.json is longer than {CONFIG_MAX} bytes")]
    TooLong,
    /// Not a JSON object.
    #[error("config.json is not that of the OCI runtime specification: {0}")]
    Malformed(String),
}

/// A parsed `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleConfig(Map<String, Value>);

impl BundleConfig {
    /// Parses the text of `config.json`.
    pub fn parse(json: &[u8]) -> Result<BundleConfig, ConfigError> {
        if json.len() > CONFIG_MAX {
            return Err(ConfigError::TooLong);
        }
        serde_json::from_slice(json)
            .map(BundleConfig)
            .map_err(|error| ConfigError::Malformed(quote(&error.to_string(), QUOTE_ERROR_MAX)))
    }

    /// True if an annotation of memcg-bpf is set, known or unknown: the hook reports unknown ones.
    pub fn is_annotated(&self) -> bool {
        self.annotations().any(|(key, _)| is_ours(key))
    }

    /// True if the container must not start without its policy.
    pub fn is_required(&self) -> bool {
        let annotations: HashMap<String, String> = self
            .annotations()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        is_required(&annotations)
    }

    fn annotations(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get("annotations").and_then(Value::as_object).into_iter().flatten()
    }

    /// The text with the hook at `path` added to each stage that lacks it; `None` if no stage lacks it.
    pub fn with_hook(mut self, path: &str) -> Result<Option<Vec<u8>>, ConfigError> {
        let hooks = self.0.entry("hooks").or_insert(Value::Null);
        if hooks.is_null() {
            *hooks = Value::Object(Map::new());
        }
        let hooks = hooks.as_object_mut().ok_or_else(|| malformed("hooks is not an object"))?;
        let mut stages = Vec::new();
        if !START_STAGES.iter().any(|stage| has_hook(hooks.get(*stage))) {
            stages.extend(START_STAGES.first());
        }
        if !has_hook(hooks.get(STOP_STAGE)) {
            stages.push(&STOP_STAGE);
        }
        for stage in &stages {
            let list = hooks.entry(**stage).or_insert(Value::Null);
            if list.is_null() {
                *list = Value::Array(Vec::new());
            }
            let list =
                list.as_array_mut().ok_or_else(|| malformed(&format!("hooks.{stage} is not a list")))?;
            list.push(json!({"path": path, "args": [HOOK_NAME], "timeout": HOOK_TIMEOUT}));
        }
        if stages.is_empty() {
            return Ok(None);
        }
        serde_json::to_vec(&self.0).map(Some).map_err(|error| malformed(&error.to_string()))
    }
}

fn malformed(why: &str) -> ConfigError {
    ConfigError::Malformed(quote(why, QUOTE_ERROR_MAX))
}

fn has_hook(list: Option<&Value>) -> bool {
    list.and_then(Value::as_array).into_iter().flatten().any(|hook| {
        let path = hook.get("path").and_then(Value::as_str).unwrap_or_default();
        path.rsplit('/').next() == Some(HOOK_NAME)
    })
}

#[cfg(test)]
#[path = "oci_config_tests.rs"]
mod tests;
