//! Checks of container engines: which are installed, and how each gets policies of containers.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::containerd;
use super::docker::docker;
use super::finding::{Finding, shown};

/// The only directory of hooks that podman reads by default. CRI-O reads it too.
const HOOKS_DIR: &str = "usr/share/containers/oci/hooks.d";
/// The file of memcg-bpf in this directory.
const HOOK_JSON: &str = "usr/share/containers/oci/hooks.d/90-memcg-bpf.json";
/// The directories of programs, because the caller's PATH may lack sbin.
const PROGRAM_DIRS: [&str; 6] = ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "bin", "sbin"];
/// Longest description of a hook in bytes. Usual ones have some hundred.
const JSON_MAX: u64 = 64 * 1024;

/// Checks the OCI hook and all other hooks: one malformed file keeps podman from starting any container.
pub(super) fn hook(root: &Path) -> Vec<Finding> {
    let mut found = vec![ours(root)];
    let Ok(entries) = std::fs::read_dir(root.join(HOOKS_DIR)) else { return found };
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    for name in names.iter().filter(|name| name.ends_with(".json")) {
        let path = format!("{HOOKS_DIR}/{name}");
        if path != HOOK_JSON
            && let Err(why) = parse(root, &path)
        {
            found.push(Finding::warn(
                "other hooks",
                format!("{}: {why}; podman does not start any container", shown(&path)),
                "fix or remove that file",
            ));
        }
    }
    found
}

fn ours(root: &Path) -> Finding {
    let again = "install the package memcg-bpf again";
    if !root.join(HOOK_JSON).exists() {
        return Finding::warn(
            "OCI hook",
            format!("{} is missing: annotations on containers have no effect", shown(HOOK_JSON)),
            "install the package memcg-bpf, or run make install",
        );
    }
    let json = match parse(root, HOOK_JSON) {
        Ok(json) => json,
        Err(why) => {
            let message = format!("{}: {why}; podman does not start any container", shown(HOOK_JSON));
            return Finding::fail("OCI hook", message, again);
        }
    };
    let Some(program) =
        json.pointer("/hook/path").and_then(Value::as_str).filter(|path| path.starts_with('/'))
    else {
        let message = format!("{} names no program with an absolute path", shown(HOOK_JSON));
        return Finding::fail("OCI hook", message, again);
    };
    if json.pointer("/hook/timeout").and_then(Value::as_u64).is_none() {
        let message =
            format!("{} has no timeout: a hook that hangs would block the container", shown(HOOK_JSON));
        return Finding::warn("OCI hook", message, again);
    }
    match std::fs::metadata(root.join(program.trim_start_matches('/'))) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => {
            Finding::ok("OCI hook", format!("{} runs {}", shown(HOOK_JSON), shown(program)))
        }
        Ok(_) => Finding::warn("OCI hook", format!("{} is not executable", shown(program)), again),
        Err(_) => Finding::warn(
            "OCI hook",
            format!("{} is missing; engines skip it silently", shown(program)),
            again,
        ),
    }
}

fn parse(root: &Path, path: &str) -> Result<Value, String> {
    let file = root.join(path);
    let metadata = std::fs::metadata(&file).map_err(|e| e.to_string())?;
    if !metadata.is_file() || metadata.len() > JSON_MAX {
        return Err(format!("not a file of at most {JSON_MAX} bytes"));
    }
    let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| format!("not JSON ({e})"))
}

/// The path of a program below the root.
fn program(root: &Path, name: &str) -> Option<String> {
    let mut paths = PROGRAM_DIRS.iter().map(|dir| format!("{dir}/{name}"));
    paths.find(|path| root.join(path).exists())
}

/// True if an engine is installed that calls plugins through NRI.
pub(super) fn calls_plugins(root: &Path) -> bool {
    ["containerd", "crio"].iter().any(|name| program(root, name).is_some())
}

/// The installed engines, and the setup that each requires.
pub(super) fn engines(root: &Path) -> Vec<Finding> {
    let has = |name: &str| program(root, name).is_some();
    let mut found = Vec::new();
    if has("podman") {
        let how = "podman run --annotation memcg.bpf/policy=\"deny limit=90%\" …";
        found.push(Finding::ok("podman", format!("takes the policy from an annotation: {how}")));
    }
    if has("crio") {
        found.push(Finding::ok("CRI-O", "takes the policy from an annotation of the pod, by the OCI hook"));
    }
    if let Some(program) = program(root, "containerd") {
        found.extend(containerd::findings(root, &program));
    }
    if has("dockerd") {
        found.push(docker(root));
    }
    let runtimes: Vec<&str> = ["crun", "runc", "youki"].into_iter().filter(|name| has(name)).collect();
    if !runtimes.is_empty() {
        let runtimes = runtimes.join(", ");
        let how = "no setup needed with an engine; for OCI bundles see docs/engines.md";
        found.push(Finding::ok("runtimes", format!("{runtimes}: {how}")));
    }
    if found.is_empty() {
        found.push(Finding::ok("engines", "no container engine found; policies of units work without one"));
    }
    found
}
