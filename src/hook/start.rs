//! A container's start: from its request to a binding in force, or to a record for the daemon to adopt, or to a reason.

use std::io;
use std::path::Path;

use crate::cgroup::xattr::{read_record, write_owner_policy, write_record};
use crate::files;
use crate::names::CgroupPath;
use crate::policy::request::{Origin, Request};
use crate::source::container_cgroup::{PROC_CGROUP_MAX, container_cgroup};
use crate::source::oci_state::{CONFIG_MAX, ContainerRequest, cgroups_path};
use crate::source::xattr::{CgroupRecord, RECORD_XATTR};

use super::call::{self, Attachment, CallError};
use super::{Outcome, Records, Surroundings, about};

/// Records on the real cgroups.
pub(crate) struct CgroupRecords;

impl Records for CgroupRecords {
    fn read(&self, cgroup: &CgroupPath) -> io::Result<Option<Vec<u8>>> {
        read_record(cgroup)
    }

    fn write(&self, cgroup: &CgroupPath, record: &[u8]) -> io::Result<()> {
        write_record(cgroup, record)
    }

    fn write_wish(&self, cgroup: &CgroupPath, line: &str) -> io::Result<()> {
        write_owner_policy(cgroup, line)
    }
}

/// Asks for the policy; see the module's text for what comes of it.
pub(crate) fn start(request: &ContainerRequest, line: &str, surroundings: &Surroundings) -> Outcome {
    let id = request.id.as_str();
    let mut outcome = Outcome::default();
    let path = match bundle_cgroups_path(&request.bundle) {
        Ok(path) => path,
        Err(why) => {
            // The daemon can still go by the container's id.
            outcome.debug.push(about(id, &why));
            None
        }
    };
    let answer = match request.pid {
        // D-Bus strings cannot hold it, and no answer of the bus would say so.
        _ if line.contains('\0') => Err(CallError::Refused("the policy line holds a zero byte".to_owned())),
        None => Err(CallError::Refused(
            "the runtime gives no pid at this stage; use the stages createRuntime or prestart".to_owned(),
        )),
        Some(pid) => {
            let wish =
                Attachment { id, pid, line, cgroups_path: path.as_deref(), required: request.required };
            call::attach(&surroundings.bus, surroundings.deadline, wish)
        }
    };
    match answer {
        Ok(()) => outcome.debug.push(about(id, &format!("policy '{line}' is in force"))),
        Err(error) if request.required => {
            outcome.fail = true;
            outcome
                .notes
                .push(about(id, &format!("{error}; it does not start, because memcg.bpf/required is true")));
        }
        Err(CallError::Refused(why) | CallError::Denied(why)) => {
            outcome.notes.push(about(id, &format!("{why}; it starts without a policy")));
        }
        Err(CallError::Unreachable(why)) => {
            outcome.notes.push(about(id, &match record(request, line, path.as_deref(), surroundings) {
                Ok(cgroup) => format!("{why}; it starts without a policy, which is recorded on {cgroup} for memcg-bpfd to adopt"),
                Err(problem) => format!("{why}; it starts without a policy, which could not be recorded either: {problem}"),
            }));
        }
    }
    outcome
}

/// Writes the request on the container's cgroup, beside those that are there.
fn record(
    request: &ContainerRequest,
    line: &str,
    cgroups_path: Option<&str>,
    surroundings: &Surroundings,
) -> Result<CgroupPath, String> {
    let id = request.id.as_str();
    let pid = request.pid.ok_or("the container has no process")?;
    let file = surroundings.proc.join(pid.to_string()).join("cgroup");
    let text = read_limited(&file, PROC_CGROUP_MAX)?;
    let text = String::from_utf8(text).map_err(|_| format!("{} is not UTF-8 text", file.display()))?;
    let cgroup = container_cgroup(&text, cgroups_path, &request.id).map_err(|error| error.to_string())?;
    let on_cgroup = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::PermissionDenied {
            " (root may record, and the owner of a delegated cgroup)"
        } else {
            ""
        };
        format!("{RECORD_XATTR} of {cgroup}: {error}{hint}")
    };
    // A record that cannot be read may be a newer daemon's: it is not ours to overwrite.
    let mut record = match surroundings.records.read(&cgroup).map_err(on_cgroup)? {
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
        match surroundings.records.write(&cgroup, &bytes) {
            // Not root: what an owner may write says less, but the same line.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                surroundings.records.write_wish(&cgroup, line).map_err(|_| on_cgroup(error))?;
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
