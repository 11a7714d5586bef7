//! What callers ask for on D-Bus. Nobody is believed: paths and pids are looked up in the kernel's own files.

use super::eligibility::{self, BINDINGS_PER_USER, delegated, no_such_cgroup};
use super::state::Daemon;
use crate::cgroup::{delegation, mount, process, xattr};
use crate::engine::Input;
use crate::names::{CgroupId, CgroupPath, ContainerId};
use crate::policy::request::{Origin, Request};
use crate::report::explain::explain;
use crate::report::{BindingReport, PolicyReport};
use crate::service::authorize::Caller;
use crate::service::call::{Command, json};
use crate::service::error::Error;
use crate::source::container_cgroup::container_cgroup;

/// A container that is being started, as its hook describes it.
struct Container {
    id: ContainerId,
    pid: u32,
    cgroups_path: Option<String>,
    required: bool,
}

impl Daemon {
    /// Answers one command with a JSON text.
    pub async fn command(&mut self, command: Command) -> Result<String, Error> {
        self.drop_removed().await;
        match command {
            Command::Attach { cgroup, line, caller } => self.attach(cgroup, line, caller).await,
            Command::AttachContainer { id, pid, line, cgroups_path, required, caller } => {
                let container = Container { id, pid, cgroups_path, required };
                self.attach_container(container, line, caller).await
            }
            Command::Detach { cgroup, caller } => self.detach(cgroup, caller).await,
            Command::DetachContainer { id, caller } => self.detach_container(id, caller).await,
            Command::List => {
                let mut all = self.engine.report_all();
                all.iter_mut().for_each(|report| self.fill_report(report));
                json(&all)
            }
            Command::Explain { cgroup } => self.explain(&cgroup),
            Command::Policies => {
                let all: Vec<PolicyReport> = self.objects.reports(&self.report);
                json(&all)
            }
            Command::Pause { for_ns, caller: _ } => {
                self.actuator.pause(for_ns);
                json(&self.action_stats())
            }
            Command::Resume { caller: _ } => {
                self.actuator.resume();
                json(&self.action_stats())
            }
            // The loop's own: it takes its time beside it.
            Command::Reload { .. } => Err(Error::Failed("not here".to_owned())),
            Command::Stats => json(&self.action_stats()),
        }
    }

    async fn attach(&mut self, path: CgroupPath, line: String, caller: Caller) -> Result<String, Error> {
        let cgroup = self.authorized_cgroup(&path, caller)?;
        let origin = match caller {
            Caller::Administrator(_) => Origin::Operator,
            Caller::Owner(_) => Origin::Xattr,
        };
        let location = format!("uid {}", caller.uid());
        let request = Request { origin, location, line, container: None, unit: None };
        let errors = self.engine.validate(&request);
        if !errors.is_empty() {
            return Err(Error::InvalidPolicy(errors.join("\n")));
        }
        self.request(cgroup, path, request).await
    }

    async fn attach_container(
        &mut self,
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
        let cgroup = self.authorized_cgroup(&path, caller)?;
        let request = Request {
            origin: Origin::Annotation,
            location: format!("container {id}"),
            line,
            container: Some(id.to_string()),
            unit: None,
        };
        let errors = self.engine.validate(&request);
        if !errors.is_empty() {
            // Kept, so that `explain` can say why nothing governs the container.
            if !required {
                self.apply(Input::Request { cgroup, path, request }).await;
            }
            return Err(Error::InvalidPolicy(errors.join("\n")));
        }
        let answer = self.request(cgroup, path.clone(), request).await?;
        let lacking = self.engine.report_path(&path).map(|report| missing_hooks(&report)).unwrap_or_default();
        if required && !lacking.is_empty() {
            self.apply(Input::Withdraw { cgroup, origin: Origin::Annotation }).await;
            return Err(Error::NotSupported(lacking.join("; ")));
        }
        Ok(answer)
    }

    /// The cgroup that has this path, if this caller may have it governed.
    pub(super) fn authorized_cgroup(&self, path: &CgroupPath, caller: Caller) -> Result<CgroupId, Error> {
        let cgroup = eligibility::check(path)?;
        let Caller::Owner(uid) = caller else { return Ok(cgroup) };
        let owned = delegated(path, uid)?;
        let below = format!("{}/", delegation::user_manager_cgroup(uid));
        if self.engine.count_requests_below(&below, owned) >= BINDINGS_PER_USER {
            return Err(Error::AccessDenied(format!(
                "uid {uid} has policy lines on {BINDINGS_PER_USER} cgroups, the most that one user may have"
            )));
        }
        Ok(owned)
    }

    /// Asks the engine, and takes the request back when the kernel did not go along.
    async fn request(
        &mut self,
        cgroup: CgroupId,
        path: CgroupPath,
        request: Request,
    ) -> Result<String, Error> {
        let origin = request.origin;
        let before = self.engine.request_of(cgroup, origin);
        let failures = self.apply(Input::Request { cgroup, path: path.clone(), request }).await;
        if !failures.is_empty() {
            // What was in force before stays in force.
            let back = match before {
                Some(request) => Input::Request { cgroup, path, request },
                None => Input::Withdraw { cgroup, origin },
            };
            self.apply(back).await;
            return Err(Error::Failed(failures.join("\n")));
        }
        self.report(&path)
    }

    fn report(&self, path: &CgroupPath) -> Result<String, Error> {
        let mut report = self.engine.report_path(path).unwrap_or_else(|| BindingReport {
            cgroup: path.as_str().to_owned(),
            state: "none".to_owned(),
            ..BindingReport::default()
        });
        self.fill_report(&mut report);
        json(&report)
    }

    async fn detach(&mut self, path: CgroupPath, caller: Caller) -> Result<String, Error> {
        let (cgroup, origins) = match caller {
            Caller::Administrator(_) => (
                mount::cgroup_id(&path).map_err(|e| no_such_cgroup(&path, &e))?,
                vec![Origin::Operator, Origin::Annotation, Origin::Xattr],
            ),
            // What an administrator asked for stays.
            Caller::Owner(uid) => (delegated(&path, uid)?, vec![Origin::Annotation, Origin::Xattr]),
        };
        if self.engine.report_path(&path).is_none() {
            return Err(Error::NotGoverned(format!("no policy was asked for on {path}")));
        }
        // Else it would be back when the daemon starts again.
        drop(xattr::remove_owner_policy(&path));
        for origin in origins {
            self.apply(Input::Withdraw { cgroup, origin }).await;
        }
        self.report(&path)
    }

    async fn detach_container(&mut self, id: ContainerId, caller: Caller) -> Result<String, Error> {
        // poststop may come twice, and usually after the cgroup is gone: nothing to do is no error.
        let mut cgroups = self.engine.cgroups_of_container(&id.to_string());
        if let Caller::Owner(uid) = caller {
            // Ids can be chosen: another user's container may have the same.
            let had = cgroups.len();
            let owns = |path: &CgroupPath, cgroup| {
                delegation::delegated_cgroup(path, uid).is_ok_and(|owned| owned == cgroup)
            };
            cgroups.retain(|cgroup| self.engine.path_of(*cgroup).is_some_and(|path| owns(&path, *cgroup)));
            if cgroups.len() < had && cgroups.is_empty() {
                return Err(Error::AccessDenied(format!("container {id} is not one of uid {uid}'s")));
            }
        }
        for cgroup in cgroups {
            self.apply(Input::Withdraw { cgroup, origin: Origin::Annotation }).await;
        }
        Ok(String::new())
    }

    fn explain(&self, path: &CgroupPath) -> Result<String, Error> {
        if let Some(mut report) = self.engine.report_path(path) {
            self.fill_report(&mut report);
            report.explanation = explain(&report, &self.objects.schemas);
            report.explanation.extend(self.ancestor_policies(path));
            return json(&report);
        }
        mount::cgroup_id(path).map_err(|e| no_such_cgroup(path, &e))?;
        let mut explanation = vec![format!("Nobody asked for a policy on {path}.")];
        explanation.extend(self.ancestor_policies(path));
        json(&BindingReport {
            cgroup: path.as_str().to_owned(),
            state: "none".to_owned(),
            explanation,
            ..BindingReport::default()
        })
    }

    /// Policies of cgroups above also speak for what is in this one.
    fn ancestor_policies(&self, path: &CgroupPath) -> Vec<String> {
        let said = |(cgroup, names): (&CgroupPath, Vec<&str>)| {
            format!("It is also governed by {} on {cgroup} above it.", names.join(", "))
        };
        self.engine.bound_ancestors(path).into_iter().map(said).collect()
    }
}

fn missing_hooks(report: &BindingReport) -> Vec<String> {
    let of = |p: &crate::report::AttachedPolicy| {
        p.missing_hooks
            .iter()
            .map(|hook| format!("this kernel lacks the hook '{hook}' that {} wants", p.name))
            .collect::<Vec<_>>()
    };
    report.policies.iter().flat_map(of).collect()
}
