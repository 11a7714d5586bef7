//! The start of a container: attaches the requested policy, or records the request for the daemon to adopt, or
//! reports the error.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup::xattr::lock_records;
use crate::files;
use crate::names::{CgroupPath, ContainerId};
use crate::policy::request::Request;
use crate::source::container_cgroup::{PROC_CGROUP_MAX, container_cgroup};
use crate::source::oci_state::{CONFIG_MAX, ContainerRequest, cgroups_path};
use crate::source::pod::{container_request, is_of_podman, pod_cgroup, pod_request};
use crate::source::xattr::{CgroupRecord, RECORD_XATTR};

use super::call::{self, AttachArgs, CallError};
use super::result::{Environment, HookResult, prefix};

/// The error of a policy of a pod whose cgroup could not be released again.
const NO_SANDBOX_MSG: &str =
    "the engine does not pass the id of the pod's sandbox, so memcg.bpf/pod-policy has no effect";

/// The cgroup for which the hook requests a policy.
#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    /// That of the container.
    Container,
    /// That of its pod, with the id of the sandbox, if the engine passes it.
    Pod(Option<&'a ContainerId>),
}

impl Target<'_> {
    /// The end of a sentence.
    fn without(self) -> &'static str {
        match self {
            Target::Container => "without a policy",
            Target::Pod(_) => "without the policy of its pod",
        }
    }
}

/// Requests the policies of the container and of its pod from the daemon. If the daemon cannot be reached, records the
/// request.
pub(crate) fn start(request: &ContainerRequest, environment: &Environment) -> HookResult {
    let mut result = HookResult::default();
    let path = match bundle_cgroups_path(&request.bundle) {
        Ok(path) => path,
        Err(why) => {
            // The daemon can identify the cgroup by the container's id.
            result.debug.push(prefix(request, &why));
            None
        }
    };
    let began = Instant::now();
    let mut deadline = environment.deadline;
    let lines =
        [(Target::Pod(request.sandbox.as_ref()), &request.pod_line), (Target::Container, &request.line)];
    for (target, line) in lines {
        let Some(line) = line else { continue };
        let answer = attach(request, target, line, path.as_deref(), (environment, deadline));
        // The time that is left for the next call.
        deadline = environment.deadline.saturating_sub(began.elapsed());
        match answer {
            Ok(()) => result.debug.push(prefix(request, &format!("policy '{line}' is attached"))),
            Err(error) if request.required => {
                let why = format!("{error}; it does not start, because memcg.bpf/required is true");
                result.notes.push(prefix(request, &why));
                result.fail = true;
                return result;
            }
            Err(CallError::Rejected(why) | CallError::Denied(why)) => {
                result.notes.push(prefix(request, &format!("{why}; it starts {}", target.without())));
            }
            Err(CallError::Unreachable(why)) => {
                let recorded = match record(request, target, line, path.as_deref(), environment) {
                    Ok(cgroup) => format!("which is recorded on {cgroup} for memcg-bpfd to adopt"),
                    Err(problem) => format!("which could not be recorded either: {problem}"),
                };
                let sentence = format!("{why}; it starts {}, {recorded}", target.without());
                result.notes.push(prefix(request, &sentence));
            }
        }
    }
    result
}

fn attach(
    request: &ContainerRequest,
    target: Target<'_>,
    line: &str,
    cgroups_path: Option<&str>,
    (environment, deadline): (&Environment, Duration),
) -> Result<(), CallError> {
    let rejected = |why: &str| Err(CallError::Rejected(why.to_owned()));
    // D-Bus strings cannot contain it, and the error of the bus would not name it.
    if line.contains('\0') {
        return rejected("the policy line contains a zero byte");
    }
    let Some(pid) = request.pid else {
        return rejected(
            "the runtime provides no pid at this stage; use the stage createRuntime or prestart",
        );
    };
    let sandbox = match target {
        Target::Container => None,
        Target::Pod(None) => return rejected(NO_SANDBOX_MSG),
        Target::Pod(sandbox) => sandbox,
    };
    let (id, pod, required) = (request.id.as_str(), request.pod.as_ref(), request.required);
    call::attach(
        &environment.bus,
        deadline,
        AttachArgs { id, pid, line, cgroups_path, pod, sandbox, required },
    )
}

/// Adds the request to the record of the container's or the pod's cgroup.
fn record(
    request: &ContainerRequest,
    target: Target<'_>,
    line: &str,
    cgroups_path: Option<&str>,
    environment: &Environment,
) -> Result<CgroupPath, String> {
    let pid = request.pid.ok_or("the container has no process")?;
    let file = environment.proc.join(pid.to_string()).join("cgroup");
    let text = read_limited(&file, PROC_CGROUP_MAX)?;
    let text = String::from_utf8(text).map_err(|_| format!("{} is not UTF-8 text", file.display()))?;
    let container = container_cgroup(&text, cgroups_path, &request.id).map_err(|error| error.to_string())?;
    let names = request.pod.clone().filter(|_| !is_of_podman(&container));
    let line = line.to_owned();
    let (cgroup, entry) = match target {
        Target::Container => (container, container_request(&request.id, line, names)),
        Target::Pod(sandbox) => {
            let sandbox = sandbox.ok_or(NO_SANDBOX_MSG)?;
            let cgroup =
                pod_cgroup(&container).ok_or_else(|| format!("{container} is not in the cgroup of a pod"))?;
            (cgroup, pod_request(sandbox, line, names.as_ref()))
        }
    };
    write(entry, &cgroup, environment)?;
    Ok(cgroup)
}

fn write(entry: Request, cgroup: &CgroupPath, environment: &Environment) -> Result<(), String> {
    let on_cgroup = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::PermissionDenied {
            " (only root and the owner of a delegated cgroup can write it)"
        } else {
            ""
        };
        format!("{RECORD_XATTR} of {cgroup}: {error}{hint}")
    };
    let line = entry.line.clone();
    let _lock = lock_records();
    // A record that cannot be parsed may be that of a newer daemon, and must not be overwritten.
    let mut record = match (environment.records.read)(cgroup).map_err(on_cgroup)? {
        Some(bytes) => CgroupRecord::parse(&bytes).map_err(|error| error.to_string())?,
        None => CgroupRecord::default(),
    };
    if record.put(entry) {
        let bytes = record.encode().map_err(|error| error.to_string())?;
        match (environment.records.write)(cgroup, &bytes) {
            // Without root, the owner can write another attribute with the same line.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (environment.records.write_owner_policy)(cgroup, &line).map_err(|_| on_cgroup(error))?;
            }
            other => other.map_err(on_cgroup)?,
        }
    }
    Ok(())
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
