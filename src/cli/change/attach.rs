//! `memcg-bpf attach`: attaches a policy line to a cgroup as operator.

use std::path::Path;

use anyhow::bail;
use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::bpf::profiles;
use crate::cli::args::CgroupArg;
use crate::cli::client::Client;
use crate::cli::find::candidates;
use crate::cli::find::installed::ObjectDir;
use crate::cli::find::target;
use crate::cli::output::Output;
use crate::cli::show::explain::describe;
use crate::cli::term::{Terminal, json};
use crate::policy::catalog::Catalog;
use crate::policy::precedence::{AllowList, resolve};
use crate::policy::request::{Origin, Request};
use crate::report::{AttachedPolicy, BindingReport};

/// Attach a policy to a running unit, container or cgroup
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf attach demo.service deny limit=64M
  memcg-bpf attach 1f2e3d4c 'deny limit=90%; observe'
  memcg-bpf attach demo.service none          override drop-ins and annotations
  memcg-bpf attach --dry-run demo.service oom show the result without attaching

Quote the line if it contains ';'.

A previous line of `memcg-bpf attach` for this cgroup is replaced as a whole. A policy of the same
name from an annotation or a drop-in is replaced; their other policies stay attached.

The option --dry-run attaches nothing. The parameter mode=dry-run attaches the policy, which then
counts and logs what it would do, but does not act.

The policy stays attached until `memcg-bpf detach`, until the cgroup is removed (when the unit or
container stops), or until systemctl stop memcg-bpfd. To keep it across restarts of a unit, add
X-MemoryBPFPolicy= to a drop-in: systemctl edit demo.service")]
pub(in crate::cli) struct Attach {
    #[command(flatten)]
    arg: CgroupArg,
    /// Show the resulting policies and attach nothing
    #[arg(long)]
    dry_run: bool,
    /// The policy line: policies with parameters, separated by ';'. See: memcg-bpf policies
    #[arg(value_name = "LINE", required = true, add = ArgValueCandidates::new(candidates::complete_line))]
    line: Vec<String>,
}

impl Attach {
    pub fn line(&self) -> String {
        self.line.join(" ")
    }

    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let client = if self.dry_run { Client::connect_to_look()? } else { Client::connect()? };
        let list: Option<Vec<BindingReport>> = client.list_if_allowed()?;
        // Without permission to list all cgroups, the request is one of the cgroup's owner.
        let origin = if list.is_some() { Origin::Operator } else { Origin::Xattr };
        let reports = list.unwrap_or_default();
        let cgroup = target::find(&self.arg.cgroup, &reports)?;
        if self.dry_run {
            let known = reports.into_iter().find(|report| report.cgroup == cgroup.as_str());
            if known.is_none() && crate::cgroup::mount::cgroup_id(&cgroup).is_err() {
                bail!("unknown cgroup {cgroup}");
            }
            let now = known.unwrap_or_else(|| BindingReport {
                cgroup: cgroup.as_str().to_owned(),
                ..BindingReport::default()
            });
            let report = preview(now, origin, self.line(), &catalog())?;
            let text = if as_json {
                json(&report)?
            } else {
                format!("{}\nNo changes were made (--dry-run).\n", describe(&report, terminal))
            };
            return Ok(Output::success(text));
        }
        let report: BindingReport = client.attach(cgroup.as_str(), &self.line())?;
        Ok(Output::success(if as_json { json(&report)? } else { describe(&report, terminal) }))
    }
}

/// The installed policies and profiles.
fn catalog() -> Catalog {
    let (profiles, _) = profiles::load(Path::new("/"));
    Catalog { policies: ObjectDir::installed().read().schemas, profiles }
}

/// The binding after a line of this origin is added, or the errors of the line.
fn preview(
    now: BindingReport,
    origin: Origin,
    line: String,
    catalog: &Catalog,
) -> anyhow::Result<BindingReport> {
    let mut requests: Vec<Request> = now
        .requests
        .iter()
        .filter_map(|asked| {
            let origin = [Origin::DropIn, Origin::Xattr, Origin::Annotation]
                .into_iter()
                .find(|origin| origin.to_string() == asked.origin)?;
            let (location, line) = (asked.location.clone(), asked.line.clone());
            Some(Request { origin, location, line, container: None, unit: None })
        })
        .collect();
    let location = format!("uid {}", nix::unistd::getuid());
    let ours = Request { origin, location, line, container: None, unit: None };
    // The line alone first, because errors of other requests are reported by `explain`.
    let wrong: Vec<String> = resolve(std::slice::from_ref(&ours), catalog, &AllowList::default())
        .errors
        .iter()
        .map(ToString::to_string)
        .collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n  "));
    }
    requests.push(ours);
    // Policies that are attached are allowed already.
    let allow = AllowList::only(catalog.policies.keys());
    let policies = resolve(&requests, catalog, &allow)
        .policies
        .into_iter()
        .map(|bound| AttachedPolicy {
            origin: bound.origin.to_string(),
            location: bound.location,
            parameters: bound.params.parameters,
            name: bound.name,
            ..AttachedPolicy::default()
        })
        .collect();
    Ok(BindingReport { policies, explanation: Vec::new(), ..now })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;
    use crate::report::RequestReport;

    fn now(line: &str) -> BindingReport {
        let request = RequestReport {
            origin: "drop-in".to_owned(),
            location: "x.conf:2".to_owned(),
            line: line.to_owned(),
        };
        BindingReport { requests: vec![request], ..BindingReport::default() }
    }

    #[test]
    fn dry_run_shows_overridden_and_kept_policies() {
        let catalog = fixture::catalog();
        let after = |line: &str| {
            let report =
                preview(now("deny limit=64M; observe"), Origin::Operator, line.to_owned(), &catalog).unwrap();
            let shown = |p: &AttachedPolicy| {
                format!("{} {} {}", p.name, p.origin, p.parameters.get("limit").map_or("", String::as_str))
            };
            report.policies.iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(after("deny limit=1G"), ["deny operator 1G", "observe drop-in "]);
        assert_eq!(after("none"), [""; 0]);
    }

    #[test]
    fn dry_run_reports_errors_of_the_line_only() {
        let error = preview(now("dney"), Origin::Operator, "deny limt=1M".to_owned(), &fixture::catalog())
            .unwrap_err()
            .to_string();
        assert!(error.contains("'limt'") && !error.contains("dney"), "{error}");
    }

    #[test]
    fn dry_run_checks_permissions_of_owners() {
        let mut catalog = fixture::catalog();
        catalog.policies.get_mut("deny").unwrap().self_binding = false;
        let error = |origin| preview(BindingReport::default(), origin, "deny limit=1G".to_owned(), &catalog);
        assert!(error(Origin::Operator).is_ok());
        let why = error(Origin::Xattr).unwrap_err().to_string();
        assert!(why.contains("may not be requested by xattrs"), "{why}");
    }
}
