//! Finds the cgroup of a container, which has the container's limits, by the text of `/proc/PID/cgroup` and the
//! bundle's `linux.cgroupsPath`. crun runs the process in a child of this cgroup, and engines in containers run it
//! deeper still. Fails if the texts are ambiguous.

use thiserror::Error;

use crate::names::{CgroupPath, ContainerId};
use crate::text::printable::{QUOTE_MAX, QUOTE_PATH_MAX, quote};

/// Longest text of `/proc/PID/cgroup` in bytes: one PATH_MAX for each of 16 hierarchies.
pub const PROC_CGROUP_MAX: usize = 64 * 1024;

/// Prefixes of the container's id in the names of scopes, by runtime or engine.
const SCOPE_PREFIXES: [&str; 8] =
    ["libpod-", "crio-", "cri-containerd-", "docker-", "nerdctl-", "crun-", "runc-", "youki-"];

/// The suffix that the kernel appends to the path of a removed cgroup.
const DELETED: &str = " (deleted)";

/// Why the cgroup of a container is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CgroupError {
    /// cgroup v1, or both versions.
    #[error(
        "the container's process is in a cgroup v1 hierarchy ('{0}'); memory policies need cgroup v2 alone: boot with systemd.unified_cgroup_hierarchy=1"
    )]
    Legacy(String),
    /// No line for cgroup v2.
    #[error(
        "/proc/PID/cgroup has no line for cgroup v2 ('0::…'); is the pid that of a running process, and cgroup v2 mounted?"
    )]
    NoUnified,
    /// The text is longer than the kernel writes.
    #[error("/proc/PID/cgroup is longer than {PROC_CGROUP_MAX} bytes")]
    TooLong,
    /// The cgroup of the process was removed.
    #[error("the container's cgroup '{0}' is already deleted: the container has ended")]
    Deleted(String),
    /// The process is in the root cgroup, to which no policy can be attached.
    #[error(
        "the container's process is in the root cgroup: the runtime gave the container no cgroup of its own (yet)"
    )]
    Root,
    /// The path is not below the root of this cgroup namespace.
    #[error(
        "the container's cgroup '{0}' lies outside of what this cgroup namespace shows; run memcg-bpfd in the host's cgroup namespace"
    )]
    OutsideNamespace(String),
    /// `linux.cgroupsPath` is neither a path nor `slice:prefix:name`.
    #[error("linux.cgroupsPath '{0}' of the bundle is neither a path nor 'slice:prefix:name'")]
    BadCgroupsPath(String),
    /// The process is not in the cgroup of the bundle.
    #[error(
        "the container's process is in '{found}', which is not in '{wanted}' as linux.cgroupsPath of the bundle says; the runtime has not moved it there, or runs without cgroups"
    )]
    NotInCgroupsPath {
        /// The process's cgroup.
        found: String,
        /// The scope or path of the bundle.
        wanted: String,
    },
    /// There is no cgroupsPath, and no component of the path contains the id.
    #[error(
        "the container's process is in '{found}', no part of which is named after container {id}, and the bundle has no linux.cgroupsPath"
    )]
    NoIdInPath {
        /// The process's cgroup.
        found: String,
        /// The container's id.
        id: String,
    },
    /// The path occurs more than once.
    #[error("'{wanted}' occurs more than once in '{found}'; give the bundle an absolute linux.cgroupsPath")]
    Ambiguous {
        /// The process's cgroup.
        found: String,
        /// The scope or path of the bundle.
        wanted: String,
    },
}

/// The cgroup of container `id` that carries its limits: the scope (systemd driver) or the `cgroupsPath` (cgroupfs
/// driver), also where the process itself is nested deeper. `proc_cgroup` is the text of `/proc/PID/cgroup`,
/// `cgroups_path` is `linux.cgroupsPath` of the bundle's `config.json` when it could be read.
pub fn container_cgroup(
    proc_cgroup: &str,
    cgroups_path: Option<&str>,
    id: &ContainerId,
) -> Result<CgroupPath, CgroupError> {
    let process = process_cgroup(proc_cgroup)?;
    match cgroups_path.filter(|text| !text.is_empty()) {
        Some(text) if text.contains(':') => match_scope(&process, text),
        Some(text) => match_path(&process, text),
        None => match_container_id(&process, id),
    }
}

/// The cgroup v2 path of a process from the text of its `/proc/PID/cgroup`.
pub fn process_cgroup(proc_cgroup: &str) -> Result<CgroupPath, CgroupError> {
    if proc_cgroup.len() > PROC_CGROUP_MAX {
        return Err(CgroupError::TooLong);
    }
    let mut unified = None;
    for line in proc_cgroup.lines() {
        if let Some(path) = line.strip_prefix("0::") {
            unified.get_or_insert(path);
        } else if line.split(':').nth(1).is_some_and(is_v1_memory_hierarchy) {
            return Err(CgroupError::Legacy(quote(line, QUOTE_MAX)));
        }
    }
    let path = unified.ok_or(CgroupError::NoUnified)?;
    if let Some(gone) = path.strip_suffix(DELETED) {
        return Err(CgroupError::Deleted(quote(gone, QUOTE_MAX)));
    }
    let path = CgroupPath::parse(path).map_err(|_| CgroupError::OutsideNamespace(quote(path, QUOTE_MAX)))?;
    if path.is_root() { Err(CgroupError::Root) } else { Ok(path) }
}

/// A v1 hierarchy with the memory controller, or systemd's own, means a v1 or hybrid machine. A lone `net_cls`, which
/// VPN programs mount beside a pure v2 system, does not.
fn is_v1_memory_hierarchy(controllers: &str) -> bool {
    controllers.split(',').any(|name| name == "memory" || name == "name=systemd")
}

/// `slice:prefix:name`: the topmost component that is the scope, because the container chooses the names below it.
fn match_scope(process: &CgroupPath, text: &str) -> Result<CgroupPath, CgroupError> {
    let bad = || CgroupError::BadCgroupsPath(quote(text, QUOTE_MAX));
    let mut parts = text.split(':');
    let (_slice, prefix, name) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
        _ => return Err(bad()),
    };
    if name.is_empty() || text.contains(['/', '\0']) {
        return Err(bad());
    }
    let (unit, other) = match () {
        () if name.ends_with(".slice") => (name.to_owned(), None),
        // runc and crun write "-name.scope" for an empty prefix, youki "name.scope".
        () if prefix.is_empty() => (format!("-{name}.scope"), Some(format!("{name}.scope"))),
        () => (format!("{prefix}-{name}.scope"), None),
    };
    // systemd prefixes '_' to names that could be mistaken for cgroup files.
    let is_unit = |name: &str| name == unit || other.as_deref() == Some(name);
    ancestor_matching(process, |component| {
        is_unit(component) || component.strip_prefix('_').is_some_and(is_unit)
    })
    .ok_or_else(|| CgroupError::NotInCgroupsPath {
        found: quote(process.as_str(), QUOTE_PATH_MAX),
        wanted: quote(&unit, QUOTE_PATH_MAX),
    })
}

/// A path: from the root, or from another cgroup, if it is relative or from an engine in a container.
fn match_path(process: &CgroupPath, text: &str) -> Result<CgroupPath, CgroupError> {
    let bad = |_| CgroupError::BadCgroupsPath(quote(text, QUOTE_MAX));
    let absolute = text.starts_with('/');
    let wanted =
        CgroupPath::parse(&if absolute { text.to_owned() } else { format!("/{text}") }).map_err(bad)?;
    if wanted.is_root() {
        return Err(CgroupError::Root);
    }
    if absolute && process.is_within(&wanted) {
        return Ok(wanted);
    }
    let have: Vec<&str> = process.components().collect();
    let want: Vec<&str> = wanted.components().collect();
    let mut ends = have
        .windows(want.len())
        .enumerate()
        .filter(|(_, run)| *run == want)
        .map(|(start, _)| start.saturating_add(want.len()));
    match (ends.next(), ends.next()) {
        (Some(end), None) => Ok(ancestor(process, end)),
        (Some(_), Some(_)) => Err(CgroupError::Ambiguous {
            found: quote(process.as_str(), QUOTE_PATH_MAX),
            wanted: quote(text, QUOTE_PATH_MAX),
        }),
        (None, _) => {
            // crun's systemd driver creates a scope for a bare name.
            let scope = format!("{text}.scope");
            if !absolute && let Some(path) = ancestor_matching(process, |component| component == scope) {
                return Ok(path);
            }
            Err(CgroupError::NotInCgroupsPath {
                found: quote(process.as_str(), QUOTE_PATH_MAX),
                wanted: quote(text, QUOTE_PATH_MAX),
            })
        }
    }
}

/// Without a cgroupsPath: the topmost component that is named after the container as runtimes and engines do it.
fn match_container_id(process: &CgroupPath, id: &ContainerId) -> Result<CgroupPath, CgroupError> {
    let id = id.as_str();
    let named_after_it = |component: &str| {
        // A container called "system.slice" must not match system.slice.
        let plain = component == id && ![".slice", ".service", ".scope"].iter().any(|end| id.ends_with(end));
        let stem = component.strip_suffix(".scope").unwrap_or(component);
        plain || SCOPE_PREFIXES.iter().any(|prefix| stem.strip_prefix(prefix) == Some(id))
    };
    ancestor_matching(process, named_after_it).ok_or_else(|| CgroupError::NoIdInPath {
        found: quote(process.as_str(), QUOTE_PATH_MAX),
        id: quote(id, QUOTE_MAX),
    })
}

/// The path down to the topmost component that satisfies the condition.
fn ancestor_matching(process: &CgroupPath, wanted: impl Fn(&str) -> bool) -> Option<CgroupPath> {
    let index = process.components().position(wanted)?;
    Some(ancestor(process, index.saturating_add(1)))
}

/// The ancestor at this distance from the root; the path itself if it is not deeper.
fn ancestor(path: &CgroupPath, level: usize) -> CgroupPath {
    let mut at = path.clone();
    while at.level() > level {
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    at
}

#[cfg(test)]
#[path = "container_cgroup_tests.rs"]
mod tests;
