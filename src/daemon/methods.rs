//! Performs the calls of the D-Bus service. Paths and PIDs of callers are verified in the files of the kernel.

use super::eligibility::{
    self, BINDINGS_OF_USERS, BINDINGS_PER_USER, USER_CGROUPS, delegated, no_such_cgroup,
};
use super::state::Daemon;
use crate::cgroup::{delegation, mount, process, xattr};
use crate::engine::Input;
use crate::names::{CgroupId, CgroupPath, ContainerId};
use crate::policy::request::{Origin, Request};
use crate::report::{BindingReport, PolicyReport};
use crate::service::authorize::Caller;
use crate::service::call::{Command, json};
use crate::service::error::Error;
use crate::source::container_cgroup::container_cgroup;

/// A container that is being started, as described by its hook.
struct Container {
    id: ContainerId,
    pid: u32,
    cgroups_path: Option<String>,
    required: bool,
}

/// Answers one command with a JSON text.
pub async fn command(daemon: &mut Daemon, command: Command) -> Result<String, Error> {
    daemon.drop_removed().await;
    match command {
        Command::Attach { cgroup, line, caller } => attach(daemon, cgroup, line, caller).await,
        Command::AttachContainer { id, pid, line, cgroups_path, required, caller } => {
            let container = Container { id, pid, cgroups_path, required };
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
    let cgroup = authorized_cgroup(daemon, &path, caller)?;
    let origin = match caller {
        Caller::Administrator(_) => Origin::Operator,
        Caller::Owner(_) => Origin::Xattr,
    };
    let location = format!("uid {}", caller.uid());
    let request = Request { origin, location, line, container: None, unit: None };
    validate(daemon, &request)?;
    json(&submit(daemon, cgroup, path, request).await?)
}

async fn attach_container(
    daemon: &mut Daemon,
    container: Container,
    line: String,
    caller: Caller,
) -> Result<String, Error> {
    let Container { id, pid, cgroups_path, required } = container;
    let text = process::cgroup_text(pid).map_err(|e| {
        Error::NoSuchContainer(format!("container {id}: process {pid} cannot be examined: {e}"))
    })?;
    let path = container_cgroup(&text, cgroups_path.as_deref(), &id)
        .map_err(|e| Error::NoSuchCgroup(format!("container {id}: {e}")))?;
    let cgroup = authorized_cgroup(daemon, &path, caller)?;
    let request = Request {
        origin: Origin::Annotation,
        location: format!("container {id}"),
        line,
        container: Some(id.to_string()),
        unit: None,
    };
    if let Err(error) = validate(daemon, &request) {
        // The request is kept, so that `explain` can show why the container has no policy.
        if !required {
            daemon.apply(Input::Request { cgroup, path, request }).await;
        }
        return Err(error);
    }
    let report = submit(daemon, cgroup, path, request).await?;
    let lacking = missing_hooks(&report);
    if required && !lacking.is_empty() {
        daemon.apply(Input::Withdraw { cgroup, origin: Origin::Annotation }).await;
        return Err(Error::NotSupported(lacking.join("; ")));
    }
    json(&report)
}

fn validate(daemon: &Daemon, request: &Request) -> Result<(), Error> {
    let errors = daemon.engine.validate(request);
    if errors.is_empty() { Ok(()) } else { Err(Error::InvalidPolicy(errors.join("\n"))) }
}

/// The cgroup at this path, if this caller may attach a policy to it.
pub fn authorized_cgroup(daemon: &Daemon, path: &CgroupPath, caller: Caller) -> Result<CgroupId, Error> {
    let cgroup = eligibility::check(path)?;
    let Caller::Owner(uid) = caller else { return Ok(cgroup) };
    let owned = delegated(path, uid)?;
    let below = format!("{}/", delegation::user_manager_cgroup(uid));
    if daemon.engine.count_requests_below(&below, owned) >= BINDINGS_PER_USER {
        return Err(Error::AccessDenied(format!(
            "uid {uid} has policy lines on {BINDINGS_PER_USER} cgroups, which is the maximum for a user"
        )));
    }
    if daemon.engine.count_requests_below(USER_CGROUPS, owned) >= BINDINGS_OF_USERS {
        return Err(Error::AccessDenied(format!(
            "users have policy lines on {BINDINGS_OF_USERS} cgroups, which is the maximum for all users together"
        )));
    }
    Ok(owned)
}

/// Submits a request to the engine, and withdraws it if the kernel rejects it.
async fn submit(
    daemon: &mut Daemon,
    cgroup: CgroupId,
    path: CgroupPath,
    request: Request,
) -> Result<BindingReport, Error> {
    let origin = request.origin;
    let before = daemon.engine.request_of(cgroup, origin);
    let failures = daemon.apply(Input::Request { cgroup, path: path.clone(), request }).await;
    if !failures.is_empty() {
        // The previous request stays attached.
        let back = match before {
            Some(request) => Input::Request { cgroup, path, request },
            None => Input::Withdraw { cgroup, origin },
        };
        daemon.apply(back).await;
        return Err(Error::Failed(failures.join("\n")));
    }
    Ok(report(daemon, &path))
}

fn report(daemon: &Daemon, path: &CgroupPath) -> BindingReport {
    let mut report = daemon.engine.report_path(path).unwrap_or_else(|| BindingReport {
        cgroup: path.as_str().to_owned(),
        state: "none".to_owned(),
        ..BindingReport::default()
    });
    daemon.fill_report(&mut report);
    report
}

async fn detach(daemon: &mut Daemon, path: CgroupPath, caller: Caller) -> Result<String, Error> {
    let (cgroup, origins) = match caller {
        Caller::Administrator(_) => (
            mount::cgroup_id(&path).map_err(|e| no_such_cgroup(&path, &e))?,
            vec![Origin::Operator, Origin::Annotation, Origin::Xattr],
        ),
        // A request of the administrator is not removed.
        Caller::Owner(uid) => (delegated(&path, uid)?, vec![Origin::Annotation, Origin::Xattr]),
    };
    if daemon.engine.report_path(&path).is_none() {
        return Err(Error::NoPolicy(format!("no policy is requested for {path}")));
    }
    // The owner's attribute would be read again at the next start of the daemon.
    drop(xattr::remove_owner_policy(&path));
    for origin in origins {
        daemon.apply(Input::Withdraw { cgroup, origin }).await;
    }
    json(&report(daemon, &path))
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
    json(&BindingReport {
        cgroup: path.as_str().to_owned(),
        state: "none".to_owned(),
        explanation,
        ..BindingReport::default()
    })
}

/// Policies of ancestors, which apply to this cgroup as well.
fn ancestor_policies(daemon: &Daemon, path: &CgroupPath) -> Vec<String> {
    let ancestors = daemon.engine.bound_ancestors(path).into_iter();
    ancestors.map(|(cgroup, names)| crate::report::explain::inherited(cgroup.as_str(), names)).collect()
}

fn missing_hooks(report: &BindingReport) -> Vec<String> {
    let of = |p: &crate::report::AttachedPolicy| {
        p.missing_hooks
            .iter()
            .map(|hook| format!("this kernel lacks the hook '{hook}' that {} uses", p.name))
            .collect::<Vec<_>>()
    };
    report.policies.iter().flat_map(of).collect()
}
