//! What callers ask for on D-Bus. Nobody is believed: paths and pids are looked up in the kernel's own files.

use super::authority::Caller;
use super::command::{Command, Refusal};
use super::explain::explain;
use super::state::Daemon;
use crate::bpf::MAX_LEVEL;
use crate::cgroup::{delegation, memory, mount, process, xattr};
use crate::engine::Input;
use crate::names::{CgroupId, CgroupPath, ContainerId};
use crate::policy::request::{Origin, Request};
use crate::report::{BindingReport, PolicyReport};
use crate::source::container_cgroup::container_cgroup;

/// Never governed: PID 1's cgroup. Refusing it memory would take the machine down.
const INIT_SCOPE: &str = "/init.scope";

/// The most cgroups of one user without privilege that have a policy line, be it `none`: places for parameters are 4,096,
/// and everybody's, and each cgroup with a line is looked at with every call.
pub(super) const BINDINGS_PER_USER: usize = 256;

/// A container that is being started, as its hook describes it.
struct Container {
    id: ContainerId,
    pid: u32,
    cgroups_path: Option<String>,
    required: bool,
}

impl Daemon {
    /// Answers one command with a JSON text.
    pub async fn command(&mut self, command: Command) -> Result<String, Refusal> {
        self.sweep().await;
        match command {
            Command::Attach { cgroup, line, caller } => self.attach(cgroup, line, caller).await,
            Command::AttachContainer { id, pid, line, cgroups_path, required, caller } => {
                let container = Container { id, pid, cgroups_path, required };
                self.attach_container(container, line, caller).await
            }
            Command::Detach { cgroup, caller } => self.detach(cgroup, caller).await,
            Command::DetachContainer { id, caller } => self.detach_container(id, caller).await,
            Command::List => {
                let mut all = self.world.report_all();
                all.iter_mut().for_each(|report| self.complete(report));
                json(&all)
            }
            Command::Explain { cgroup } => self.explain(&cgroup),
            Command::Policies => {
                let all: Vec<PolicyReport> = self.objects.reports(&self.report);
                json(&all)
            }
            Command::Pause { for_ns, caller: _ } => {
                self.acting.pause(for_ns);
                json(&self.actions_report())
            }
            Command::Resume { caller: _ } => {
                self.acting.resume();
                json(&self.actions_report())
            }
            // The loop's own: it takes its time beside it.
            Command::Reload { .. } => Err(Refusal::Failed("not here".to_owned())),
            Command::Stats => json(&self.actions_report()),
        }
    }

    async fn attach(&mut self, path: CgroupPath, line: String, caller: Caller) -> Result<String, Refusal> {
        let cgroup = self.target(&path, caller)?;
        let origin = match caller {
            Caller::Administrator(_) => Origin::Operator,
            Caller::Owner(_) => Origin::Xattr,
        };
        let location = format!("uid {}", caller.uid());
        let request = Request { origin, location, line, container: None, unit: None };
        let faults = self.world.validate(&request);
        if !faults.is_empty() {
            return Err(Refusal::InvalidPolicy(faults.join("\n")));
        }
        self.ask(cgroup, path, request).await
    }

    async fn attach_container(
        &mut self,
        container: Container,
        line: String,
        caller: Caller,
    ) -> Result<String, Refusal> {
        let Container { id, pid, cgroups_path, required } = container;
        let text = process::cgroup_text(pid).map_err(|e| {
            Refusal::NoSuchContainer(format!("container {id}: process {pid} cannot be examined: {e}"))
        })?;
        let path = container_cgroup(&text, cgroups_path.as_deref(), &id)
            .map_err(|e| Refusal::NoSuchCgroup(format!("container {id}: {e}")))?;
        let cgroup = self.target(&path, caller)?;
        let request = Request {
            origin: Origin::Annotation,
            location: format!("container {id}"),
            line,
            container: Some(id.to_string()),
            unit: None,
        };
        let faults = self.world.validate(&request);
        if !faults.is_empty() {
            // Kept, so that `explain` can say why nothing governs the container.
            if !required {
                self.apply(Input::Request { cgroup, path, request }).await;
            }
            return Err(Refusal::InvalidPolicy(faults.join("\n")));
        }
        let answer = self.ask(cgroup, path.clone(), request).await?;
        let lacking = self.world.report_path(&path).map(|report| missing(&report)).unwrap_or_default();
        if required && !lacking.is_empty() {
            self.apply(Input::Withdraw { cgroup, origin: Origin::Annotation }).await;
            return Err(Refusal::NotSupported(lacking.join("; ")));
        }
        Ok(answer)
    }

    /// The cgroup that has this path, if this caller may have it governed.
    pub(super) fn target(&self, path: &CgroupPath, caller: Caller) -> Result<CgroupId, Refusal> {
        let cgroup = governable(path)?;
        let Caller::Owner(uid) = caller else { return Ok(cgroup) };
        let owned = owned(path, uid)?;
        let below = format!("{}/", delegation::user_manager_cgroup(uid));
        if self.world.count_requests_below(&below, owned) >= BINDINGS_PER_USER {
            return Err(Refusal::AccessDenied(format!(
                "uid {uid} has policy lines on {BINDINGS_PER_USER} cgroups, the most that one user may have"
            )));
        }
        Ok(owned)
    }

    /// Asks the engine, and takes the request back when the kernel did not go along.
    async fn ask(&mut self, cgroup: CgroupId, path: CgroupPath, request: Request) -> Result<String, Refusal> {
        let origin = request.origin;
        let before = self.world.request_of(cgroup, origin);
        let failures = self.apply(Input::Request { cgroup, path: path.clone(), request }).await;
        if !failures.is_empty() {
            // What was in force before stays in force.
            let back = match before {
                Some(request) => Input::Request { cgroup, path, request },
                None => Input::Withdraw { cgroup, origin },
            };
            self.apply(back).await;
            return Err(Refusal::Failed(failures.join("\n")));
        }
        self.report(&path)
    }

    fn report(&self, path: &CgroupPath) -> Result<String, Refusal> {
        let mut report = self.world.report_path(path).unwrap_or_else(|| BindingReport {
            cgroup: path.as_str().to_owned(),
            state: "none".to_owned(),
            ..BindingReport::default()
        });
        self.complete(&mut report);
        json(&report)
    }

    async fn detach(&mut self, path: CgroupPath, caller: Caller) -> Result<String, Refusal> {
        let (cgroup, origins) = match caller {
            Caller::Administrator(_) => (
                mount::cgroup_id(&path).map_err(|e| no_such_cgroup(&path, &e))?,
                vec![Origin::Operator, Origin::Annotation, Origin::Xattr],
            ),
            // What an administrator asked for stays.
            Caller::Owner(uid) => (owned(&path, uid)?, vec![Origin::Annotation, Origin::Xattr]),
        };
        if self.world.report_path(&path).is_none() {
            return Err(Refusal::NotGoverned(format!("no policy was asked for on {path}")));
        }
        // Else it would be back when the daemon starts again.
        drop(xattr::remove_owner_policy(&path));
        for origin in origins {
            self.apply(Input::Withdraw { cgroup, origin }).await;
        }
        self.report(&path)
    }

    async fn detach_container(&mut self, id: ContainerId, caller: Caller) -> Result<String, Refusal> {
        // poststop may come twice, and usually after the cgroup is gone: nothing to do is no error.
        let mut cgroups = self.world.cgroups_of_container(&id.to_string());
        if let Caller::Owner(uid) = caller {
            // Ids can be chosen: another user's container may have the same.
            let had = cgroups.len();
            let owns = |path: &CgroupPath, cgroup| {
                delegation::delegated_cgroup(path, uid).is_ok_and(|owned| owned == cgroup)
            };
            cgroups.retain(|cgroup| self.world.path_of(*cgroup).is_some_and(|path| owns(&path, *cgroup)));
            if cgroups.len() < had && cgroups.is_empty() {
                return Err(Refusal::AccessDenied(format!("container {id} is not one of uid {uid}'s")));
            }
        }
        for cgroup in cgroups {
            self.apply(Input::Withdraw { cgroup, origin: Origin::Annotation }).await;
        }
        Ok(String::new())
    }

    fn explain(&self, path: &CgroupPath) -> Result<String, Refusal> {
        if let Some(mut report) = self.world.report_path(path) {
            self.complete(&mut report);
            report.explanation = explain(&report, &self.objects.schemas);
            report.explanation.extend(self.above(path));
            return json(&report);
        }
        mount::cgroup_id(path).map_err(|e| no_such_cgroup(path, &e))?;
        let mut explanation = vec![format!("Nobody asked for a policy on {path}.")];
        explanation.extend(self.above(path));
        json(&BindingReport {
            cgroup: path.as_str().to_owned(),
            state: "none".to_owned(),
            explanation,
            ..BindingReport::default()
        })
    }

    /// Policies of cgroups above also speak for what is in this one.
    fn above(&self, path: &CgroupPath) -> Vec<String> {
        let said = |(cgroup, names): (&CgroupPath, Vec<&str>)| {
            format!("It is also governed by {} on {cgroup} above it.", names.join(", "))
        };
        self.world.bound_ancestors(path).into_iter().map(said).collect()
    }
}

/// The guards that hold whoever asks: D-Bus, unit files and records alike.
pub fn forbidden(path: &CgroupPath) -> Option<String> {
    if path.is_root() {
        return Some("the root cgroup cannot be governed: name one below it".into());
    }
    let init = CgroupPath::parse(INIT_SCOPE).ok()?;
    if init.is_within(path) {
        return Some(format!("{path} is PID 1's own cgroup and is never governed"));
    }
    // Slices above us may be governed: core exempts our process.
    if own().is_some_and(|own| own == *path) {
        return Some(format!("{path} is memcg-bpfd's own cgroup and is never governed"));
    }
    if path.level() > MAX_LEVEL {
        return Some(format!(
            "{path} is {} levels deep; cgroups down to level {MAX_LEVEL} can be governed, and policies on them hold \
             for everything below",
            path.level()
        ));
    }
    None
}

/// What a cgroup that exists must have besides.
pub fn uncontrolled(path: &CgroupPath) -> Option<String> {
    memory::lacks_memory_controller(path).then(|| {
        format!(
            "{path} has no memory controller: enable it in its parent (echo +memory > cgroup.subtree_control), or set \
             MemoryAccounting=yes on the unit"
        )
    })
}

fn governable(path: &CgroupPath) -> Result<CgroupId, Refusal> {
    if let Some(sentence) = forbidden(path) {
        return Err(Refusal::InvalidArgument(sentence));
    }
    let cgroup = mount::cgroup_id(path).map_err(|e| no_such_cgroup(path, &e))?;
    match uncontrolled(path) {
        Some(sentence) => Err(Refusal::InvalidArgument(sentence)),
        None => Ok(cgroup),
    }
}

fn owned(path: &CgroupPath, uid: u32) -> Result<CgroupId, Refusal> {
    delegation::delegated_cgroup(path, uid)
        .map_err(|e| Refusal::AccessDenied(format!("uid {uid} may not do that: {e}")))
}

/// Our own cgroup.
pub fn own() -> Option<CgroupPath> {
    let text = process::cgroup_text(std::process::id()).ok()?;
    CgroupPath::parse(text.trim().strip_prefix("0::")?).ok()
}

fn no_such_cgroup(path: &CgroupPath, error: &std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::NoSuchCgroup(format!("there is no cgroup {path}")),
        _ => Refusal::NoSuchCgroup(format!("{path} cannot be examined: {error}")),
    }
}

fn missing(report: &BindingReport) -> Vec<String> {
    let of = |p: &crate::report::AttachedPolicy| {
        p.missing_hooks
            .iter()
            .map(|hook| format!("this kernel lacks the hook '{hook}' that {} wants", p.name))
            .collect::<Vec<_>>()
    };
    report.policies.iter().flat_map(of).collect()
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|e| Refusal::Failed(e.to_string()))
}
