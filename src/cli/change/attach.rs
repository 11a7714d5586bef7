//! `memcg-bpf attach`: attaches a policy line to a cgroup as operator.

use std::path::Path;

use anyhow::bail;
use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::dry_run::{dry_run_line, refuse_weakening};
use super::preview::{preview, render};
use crate::bpf::profiles;
use crate::cli::args::CgroupArg;
use crate::cli::client::Client;
use crate::cli::find::candidates;
use crate::cli::find::installed::{DefaultParams, ObjectDir};
use crate::cli::find::{protection, target};
use crate::cli::output::Output;
use crate::cli::show::explain::describe;
use crate::cli::term::{Terminal, json};
use crate::policy::catalog::Catalog;
use crate::policy::request::Origin;
use crate::report::BindingReport;

/// Attach a policy to a running unit, container or cgroup
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf attach demo.service deny limit=64M
  memcg-bpf attach 1f2e3d4c 'deny limit=90%; observe'
  memcg-bpf attach demo.service none          override drop-ins and annotations
  memcg-bpf attach --dry-run demo.service oom count and log kills without performing them
  memcg-bpf attach --check demo.service oom   show what would change and attach nothing

Quote the line if it contains ';'.

A previous line of `memcg-bpf attach` for this cgroup is replaced as a whole. A policy of the same
name from an annotation or a drop-in is replaced; their other policies stay attached.

A dry run (--dry-run, or the parameter mode=dry-run) attaches a policy without effect: it counts and
logs what it would deny, kill and reclaim. `memcg-bpf status` and `memcg-bpf events` show the result.
A dry run never switches off an enforced policy: other policies stay attached, and for a policy that
is enforced on this cgroup already, the command fails unless --replace is given.

The policy stays attached until `memcg-bpf detach`, until the cgroup is removed (when the unit or
container stops), or until systemctl stop memcg-bpfd. To keep it across restarts of a unit, add
X-MemoryBPFPolicy= to a drop-in: systemctl edit demo.service")]
pub(in crate::cli) struct Attach {
    #[command(flatten)]
    arg: CgroupArg,
    /// Check the line, show what it would change, and attach nothing
    #[arg(long)]
    check: bool,
    /// Attach the policies without effect (mode=dry-run), in addition to those that are attached
    #[arg(long)]
    dry_run: bool,
    /// Replace an enforced policy by a dry run of the same policy
    #[arg(long)]
    replace: bool,
    /// The policy line: policies with parameters, separated by ';'. See: memcg-bpf policies
    #[arg(value_name = "LINE", required = true, add = ArgValueCandidates::new(candidates::complete_line))]
    line: Vec<String>,
}

impl Attach {
    pub fn line(&self) -> String {
        self.line.join(" ")
    }

    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let client = if self.check { Client::connect_to_look()? } else { Client::connect()? };
        let list: Option<Vec<BindingReport>> = client.list_if_allowed()?;
        // Without permission to list all cgroups, the request is one of the cgroup's owner.
        let origin = if list.is_some() { Origin::Operator } else { Origin::Xattr };
        let reports = list.unwrap_or_default();
        let cgroup = target::find(&self.arg.cgroup, &reports)?;
        let known = reports.into_iter().find(|report| report.cgroup == cgroup.as_str());
        if self.check && known.is_none() && crate::cgroup::mount::cgroup_id(&cgroup).is_err() {
            bail!("unknown cgroup {cgroup}");
        }
        let now = match known {
            Some(known) => known,
            None if self.check && origin == Origin::Xattr => client.explain(cgroup.as_str())?,
            // Whoever may not see the cgroup may still give a password for the change.
            None if origin == Origin::Xattr => {
                client.explain_if_allowed(cgroup.as_str())?.unwrap_or_default()
            }
            None => BindingReport::default(),
        };
        let now = BindingReport { cgroup: cgroup.as_str().to_owned(), ..now };
        let catalog = catalog();
        let line = self.effective_line(&now, origin, &catalog)?;
        let after = preview(now.clone(), origin, line.clone(), &catalog);
        // Errors of the line are those of the daemon, which may know other policies.
        if let Some(after) = after.as_ref().ok().filter(|_| !self.replace) {
            refuse_weakening(&now, after)?;
        }
        if self.check {
            let after = after?;
            let text = if as_json {
                json(&after)?
            } else {
                let changes = render(&now, &after, terminal, &DefaultParams::installed());
                format!("{changes}\nThe line is valid. Nothing was changed (--check).\n")
            };
            return Ok(Output::success(text));
        }
        let mut report: BindingReport = client.attach(cgroup.as_str(), &line)?;
        report.explanation.extend(protection::note(&report));
        Ok(Output::success(if as_json { json(&report)? } else { describe(&report, terminal) }))
    }

    /// The line that is attached: with --dry-run, the policies of the previous line stay attached beside it.
    fn effective_line(
        &self,
        now: &BindingReport,
        origin: Origin,
        catalog: &Catalog,
    ) -> anyhow::Result<String> {
        if !self.dry_run {
            return Ok(self.line());
        }
        let previous = now.requests.iter().find(|request| request.origin == origin.to_string());
        dry_run_line(previous.map(|request| request.line.as_str()), &self.line(), catalog)
    }
}

/// The installed policies and profiles.
fn catalog() -> Catalog {
    let (profiles, _) = profiles::load(Path::new("/"));
    Catalog { policies: ObjectDir::installed().read().schemas, profiles }
}
