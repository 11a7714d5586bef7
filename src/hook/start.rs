//! The start of a container: attaches the requested policy, or records the request for the daemon to adopt, or
//! reports the error.

use std::io;
use std::path::Path;

use crate::cgroup::xattr::lock_records;
use crate::files;
use crate::names::CgroupPath;
use crate::policy::request::{Origin, Request};
use crate::source::container_cgroup::{PROC_CGROUP_MAX, container_cgroup};
use crate::source::oci_state::{CONFIG_MAX, ContainerRequest, cgroups_path};
use crate::source::xattr::{CgroupRecord, RECORD_XATTR};

use super::call::{self, AttachArgs, CallError};
use super::result::{Environment, HookResult, prefix};

/// Requests the policy from the daemon. If the daemon cannot be reached, records the request.
pub(crate) fn start(request: &ContainerRequest, line: &str, environment: &Environment) -> HookResult {
    let id = request.id.as_str();
    let mut result = HookResult::default();
    let path = match bundle_cgroups_path(&request.bundle) {
        Ok(path) => path,
        Err(why) => {
            // The daemon can identify the cgroup by the container's id.
            result.debug.push(prefix(id, &why));
            None
        }
    };
    let answer = match request.pid {
        // D-Bus strings cannot contain it, and the error of the bus would not name it.
        _ if line.contains('\0') => {
            Err(CallError::Rejected("the policy line contains a zero byte".to_owned()))
        }
        None => Err(CallError::Rejected(
            "the runtime provides no pid at this stage; use the stage createRuntime or prestart".to_owned(),
        )),
        Some(pid) => {
            let args =
                AttachArgs { id, pid, line, cgroups_path: path.as_deref(), required: request.required };
            call::attach(&environment.bus, environment.deadline, args)
        }
    };
    match answer {
        Ok(()) => result.debug.push(prefix(id, &format!("policy '{line}' is attached"))),
        Err(error) if request.required => {
            result.fail = true;
            result
                .notes
                .push(prefix(id, &format!("{error}; it does not start, because memcg.bpf/required is true")));
        }
        Err(CallError::Rejected(why) | CallError::Denied(why)) => {
            result.notes.push(prefix(id, &format!("{why}; it starts without a policy")));
        }
        Err(CallError::Unreachable(why)) => {
            result.notes.push(prefix(id, &match record(request, line, path.as_deref(), environment) {
                Ok(cgroup) => format!("{why}; it starts without a policy, which is recorded on {cgroup} for memcg-bpfd to adopt"),
                Err(problem) => format!("{why}; it starts without a policy, which could not be recorded either: {problem}"),
            }));
        }
    }
    result
}

/// Adds the request to the record of the container's cgroup.
fn record(
    request: &ContainerRequest,
    line: &str,
    cgroups_path: Option<&str>,
    environment: &Environment,
) -> Result<CgroupPath, String> {
    let id = request.id.as_str();
    let pid = request.pid.ok_or("the container has no process")?;
    let file = environment.proc.join(pid.to_string()).join("cgroup");
    let text = read_limited(&file, PROC_CGROUP_MAX)?;
    let text = String::from_utf8(text).map_err(|_| format!("{} is not UTF-8 text", file.display()))?;
    let cgroup = container_cgroup(&text, cgroups_path, &request.id).map_err(|error| error.to_string())?;
    let on_cgroup = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::PermissionDenied {
            " (only root and the owner of a delegated cgroup can write it)"
        } else {
            ""
        };
        format!("{RECORD_XATTR} of {cgroup}: {error}{hint}")
    };
    let _lock = lock_records();
    // A record that cannot be parsed may be that of a newer daemon, and must not be overwritten.
    let mut record = match (environment.records.read)(&cgroup).map_err(on_cgroup)? {
        Some(bytes) => CgroupRecord::parse(&bytes).map_err(|error| error.to_string())?,
        None => CgroupRecord::default(),
    };
    let changed = record.put(Request {
        origin: Origin::Annotation,
        location: format!("container {id}"),
        line: line.to_owned(),
        container: Some(id.to_owned()),
        unit: None,
    });
    if changed {
        let bytes = record.encode().map_err(|error| error.to_string())?;
        match (environment.records.write)(&cgroup, &bytes) {
            // Without root, the owner can write another attribute with the same line.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (environment.records.write_owner_policy)(&cgroup, line).map_err(|_| on_cgroup(error))?;
            }
            other => other.map_err(on_cgroup)?,
        }
    }
    Ok(cgroup)
}

/// `linux.cgroupsPath` of the bundle's configuration.
fn bundle_cgroups_path(bundle: &Path) -> Result<Option<String>, String> {
    if !bundle.is_absolute() {
        return Err("the container state names no bundle".to_owned());
    }
    let json = read_limited(&bundle.join("config.json"), CONFIG_MAX)?;
    cgroups_path(&json).map_err(|error| error.to_string())
}

/// The content of a regular file (or one of procfs) of at most `limit` bytes.
fn read_limited(path: &Path, limit: usize) -> Result<Vec<u8>, String> {
    files::read(path, limit).map_err(|error| format!("reading {}: {error}", path.display()))
}
