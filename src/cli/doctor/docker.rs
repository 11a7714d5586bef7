//! Checks of docker: whether its configuration names memcg-bpf-runc, which adds the OCI hook to containers.

use std::path::Path;

use serde_json::Value;

use super::finding::{Finding, shown};
use crate::files;
use crate::text::printable::{QUOTE_MAX, quote};

/// docker's configuration.
const DAEMON_JSON: &str = "etc/docker/daemon.json";
/// Longest configuration in bytes. Usual ones have some hundred.
const DAEMON_JSON_MAX: usize = 256 * 1024;
/// The runtime of memcg-bpf.
const RUNTIME: &str = "memcg-bpf-runc";

/// How annotations reach docker's containers. docker is installed.
pub(super) fn docker(root: &Path) -> Finding {
    let text = match files::read_text_below(root, &root.join(DAEMON_JSON), DAEMON_JSON_MAX) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => "{}".to_owned(),
        Err(error) => return unreadable(&error.to_string()),
    };
    let config: Value = match serde_json::from_str(&text) {
        Ok(config) => config,
        Err(error) => return unreadable(&format!("not JSON ({error})")),
    };
    let runtimes = config.get("runtimes").and_then(Value::as_object).into_iter().flatten();
    let ours = runtimes.filter_map(|(name, runtime)| Some((name, runtime.get("path")?.as_str()?)));
    let Some((name, path)) = ours.into_iter().find(|(_, path)| path.rsplit('/').next() == Some(RUNTIME))
    else {
        return Finding::warn(
            "docker",
            "runs no OCI hooks, so annotations have no effect",
            format!(
                "add \"runtimes\": {{\"memcg-bpf\": {{\"path\": \"/usr/bin/{RUNTIME}\"}}}} to {} (docs/engines.md), or \
                 write X-MemoryBPFPolicy= into /etc/systemd/system/docker-.scope.d/50-memory.conf under [Scope]",
                shown(DAEMON_JSON)
            ),
        );
    };
    if path.starts_with('/') && !root.join(path.trim_start_matches('/')).exists() {
        return Finding::warn(
            "docker",
            format!(
                "{} names {}, which is missing: its containers do not start",
                shown(DAEMON_JSON),
                shown(path)
            ),
            "correct the path, or remove the runtime from that file",
        );
    }
    let option = match config.get("default-runtime").and_then(Value::as_str) == Some(name) {
        true => String::new(),
        false => format!("--runtime {} ", quote(name, QUOTE_MAX)),
    };
    let how = format!("docker run {option}--annotation memcg.bpf/policy=\"deny limit=90%\" …");
    Finding::ok("docker", format!("takes the policy from an annotation: {how}"))
}

fn unreadable(why: &str) -> Finding {
    Finding::warn(
        "docker",
        format!("{}: {}; docker does not start", shown(DAEMON_JSON), quote(why, QUOTE_MAX)),
        "fix that file",
    )
}
