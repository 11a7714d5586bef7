//! Performs the calls of the D-Bus service. Paths and PIDs of callers are verified in the files of the kernel.

use super::eligibility::{
    self, BINDINGS_OF_USERS, BINDINGS_PER_USER, USER_CGROUPS, delegated, no_such_cgroup,
};
use super::state::Daemon;
use crate::cgroup::{delegation, mount, process, xattr};
use crate::engine::{Input, OnInvalid, SubmitError, report_none};
use crate::names::{CgroupPath, CgroupRef, ContainerId, PodName};
use crate::policy::request::{Origin, Request};
use crate::report::{BindingReport, PolicyReport};
use crate::service::authorize::Caller;
use crate::service::call::{Command, json};
use crate::service::error::Error;
use crate::source::container_cgroup::container_cgroup;
use crate::source::pod::{container_request, is_of_podman, pod_cgroup, pod_request};

/// A container that is being started, as described by its hook.
struct Container {
    id: ContainerId,
    pid: u32,
    cgroups_path: Option<String>,
    pod: Option<PodName>,
    /// The pod's sandbox, if the request is that of the pod's own cgroup.
    sandbox: Option<ContainerId>,
    required: bool,
}

/// Answers one command with a JSON text.
pub async fn command(daemon: &mut Daemon, command: Command) -> Result<String, Error> {
    daemon.drop_removed().await;
    match command {
        Command::Attach { cgroup, line, caller } => attach(daemon, cgroup, line, caller).await,
        Command::AttachContainer { id, pid, line, cgroups_path, pod, sandbox, required, caller } => {
            let container = Container { id, pid, cgroups_path, pod, sandbox, required };
            attach_container(daemon, container, line, caller).await
        }
        Command::Detach { cgroup, caller } => detach(daemon, cgroup, caller).await,
        Command::DetachContainer { id, caller } => detach_container(daemon, id, caller).await,
        Command::List => {
            let mut all = daemon.engine.report_all();
            all.iter_mut().for_each(|report| daemon.fill_report(report));
            json(&all)
        }
        Command::Explain { cgroup } => explain(daemon, &cgroup),
        Command::Kills { cgroup } => json(&daemon.oom_kills.of(&cgroup)),
        Command::Policies => {
            let all: Vec<PolicyReport> = daemon.objects.reports(&daemon.report);
            json(&all)
        }
        Command::Pause { for_ns, caller: _ } => {
            daemon.actuator.pause(for_ns);
            json(&daemon.action_stats())
        }
        Command::Resume { caller: _ } => {
            daemon.actuator.resume();
            json(&daemon.action_stats())
        }
        // Handled by the loop, because it takes long.
        Command::Reload { .. } => Err(Error::Failed("not here".to_owned())),
        Command::Stats => json(&daemon.action_stats()),
    }
}

async fn attach(
    daemon: &mut Daemon,
    path: CgroupPath,
    line: String,
    caller: Caller,
) -> Result<String, Error> {
    let cgroup = authorized_cgroup(daemon, path, caller)?;
    let origin = match caller {
        Caller::Administrator(_) => Origin::Operator,
        Caller::Owner(_) => Origin::Xattr,
    };
    let location = format!("uid {}", caller.uid());
    let request = Request { origin, location, line, container: None, pod: None, unit: None };
    json(&daemon.submit(cgroup, request, OnInvalid::Reject).await.map_err(submit_error)?)
}

async fn attach_container(
    daemon: &mut Daemon,
    container: Container,
    line: String,
    caller: Caller,
) -> Result<String, Error> {
    let Container { id, pid, cgroups_path, pod, sandbox, required } = container;
    let text = process::cgroup_text(pid).map_err(|e| {
        Error::NoSuchContainer(format!("container {id}: process {pid} cannot be examined: {e}"))
    })?;
    let path = container_cgroup(&text, cgroups_path.as_deref(), &id)
        .map_err(|e| Error::NoSuchCgroup(format!("container {id}: {e}")))?;
    // Only root starts pods. A user's annotations could name a pod of the system.
    let pod = pod.filter(|_| matches!(caller, Caller::Administrator(_)) && !is_of_podman(&path));
    let (path, request) = match sandbox {
        None => (path, container_request(&id, line, pod)),
        Some(sandbox) => {
            let above = pod_cgroup(&path).ok_or_else(|| {
                Error::NoSuchCgroup(format!(
                    "container {id}: its cgroup {path} is not in the cgroup of a pod, which the kubelet names \
                     …-podUID.slice or podUID"
                ))
            })?;
            (above, pod_request(&sandbox, line, pod.as_ref()))
        }
    };
    let cgroup = authorized_cgroup(daemon, path, caller)?;
    // An invalid request is kept, so that `explain` can show why the container has no policy.
    let on_invalid = if required { OnInvalid::RejectMissingHooks } else { OnInvalid::Keep };
    json(&daemon.submit(cgroup, request, on_invalid).await.map_err(submit_error)?)
}

fn submit_error(error: SubmitError) -> Error {
    match error {
        SubmitError::Invalid(errors) => Error::InvalidPolicy(errors.join("\n")),
        SubmitError::MissingHooks(missing) => Error::NotSupported(missing.join("; ")),
        SubmitError::Failed(failures) => Error::Failed(failures.join("\n")),
    }
}

/// The cgroup at this path, if this caller may attach a policy to it.
pub fn authorized_cgroup(daemon: &Daemon, path: CgroupPath, caller: Caller) -> Result<CgroupRef, Error> {
    let cgroup = eligibility::check(path)?;
    let Caller::Owner(uid) = caller else { return Ok(cgroup) };
    let owned = CgroupRef { id: delegated(&cgroup.path, uid)?, ..cgroup };
    let below = format!("{}/", delegation::user_manager_cgroup(uid));
    if daemon.engine.count_requests_below(&below, owned.id) >= BINDINGS_PER_USER {
        return Err(Error::AccessDenied(format!(
            "uid {uid} has policy lines on {BINDINGS_PER_USER} cgroups, which is the maximum for a user"
        )));
    }
    if daemon.engine.count_requests_below(USER_CGROUPS, owned.id) >= BINDINGS_OF_USERS {
        return Err(Error::AccessDenied(format!(
            "users have policy lines on {BINDINGS_OF_USERS} cgroups, which is the maximum for all users together"
        )));
    }
    Ok(owned)
}

/// Withdraws the request of the caller, so that the requests that it replaced apply again.
async fn detach(daemon: &mut Daemon, path: CgroupPath, caller: Caller) -> Result<String, Error> {
    let (cgroup, own) = match caller {
        Caller::Administrator(_) => {
            (mount::cgroup_id(&path).map_err(|e| no_such_cgroup(&path, &e))?, Origin::Operator)
        }
        Caller::Owner(uid) => (delegated(&path, uid)?, Origin::Xattr),
    };
    if daemon.engine.report_path(&path).is_none() {
        return Err(Error::NoPolicy(format!("no policy is requested for {path}")));
    }
    for origin in daemon.engine.origins_to_detach(cgroup, own) {
        if origin == Origin::Xattr {
            // The owner's attribute would be read again at the next start of the daemon.
            drop(xattr::remove_owner_policy(&path));
        }
        daemon.apply(Input::Withdraw { cgroup, origin }).await;
    }
    let mut report = daemon.engine.report_path(&path).unwrap_or_else(|| report_none(&path));
    daemon.fill_report(&mut report);
    json(&report)
}

async fn detach_container(daemon: &mut Daemon, id: ContainerId, caller: Caller) -> Result<String, Error> {
    // The stage poststop may run twice, and usually runs after the cgroup was removed, so a missing cgroup is not an
    // error.
    let mut cgroups = daemon.engine.cgroups_of_container(&id.to_string());
    if let Caller::Owner(uid) = caller {
        // Container ids can be chosen, so another user's container may have the same id.
        let had = cgroups.len();
        let owns = |path: &CgroupPath, cgroup| {
            delegation::delegated_cgroup(path, uid).is_ok_and(|owned| owned == cgroup)
        };
        cgroups.retain(|cgroup| daemon.engine.path_of(*cgroup).is_some_and(|path| owns(&path, *cgroup)));
        if cgroups.len() < had && cgroups.is_empty() {
            return Err(Error::AccessDenied(format!("container {id} does not belong to uid {uid}")));
        }
    }
    for cgroup in cgroups {
        daemon.apply(Input::Withdraw { cgroup, origin: Origin::Annotation }).await;
    }
    Ok(String::new())
}

fn explain(daemon: &Daemon, path: &CgroupPath) -> Result<String, Error> {
    if let Some(mut report) = daemon.engine.report_path(path) {
        daemon.fill_report(&mut report);
        report.explanation = crate::report::explain::explain(&report, daemon.engine.catalog());
        report.explanation.extend(ancestor_policies(daemon, path));
        return json(&report);
    }
    mount::cgroup_id(path).map_err(|e| no_such_cgroup(path, &e))?;
    let mut explanation = vec![format!("No policy is requested for {path}.")];
    explanation.extend(ancestor_policies(daemon, path));
    json(&BindingReport { explanation, ..report_none(path) })
}

/// Policies of ancestors, which apply to this cgroup as well.
fn ancestor_policies(daemon: &Daemon, path: &CgroupPath) -> Vec<String> {
    let ancestors = daemon.engine.bound_ancestors(path).into_iter();
    ancestors.map(|(cgroup, names)| crate::report::explain::inherited(cgroup.as_str(), names)).collect()
}
