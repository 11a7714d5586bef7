//! `memcg-bpf attach`: a policy line on a cgroup, as operator, until it is detached or the cgroup goes.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::client::Client;
use super::explain::describe;
use super::screen::{Screen, json};
use super::{Answer, Which, completion, target};
use crate::report::BindingReport;

/// Put a policy on a running unit, container or cgroup
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf attach demo.service deny limit=64M
  memcg-bpf attach 1f2e3d4c 'deny limit=90%; observe'
  memcg-bpf attach demo.service none          discard what drop-ins and annotations say

It holds until `memcg-bpf detach` or until the cgroup ends. To keep it over restarts of a unit,
write X-MemoryBPFPolicy= into a drop-in: systemctl edit demo.service")]
pub(super) struct Attach {
    #[command(flatten)]
    which: Which,
    /// The policy line: policies with parameters, separated by ';'. See: memcg-bpf policies
    #[arg(value_name = "LINE", required = true, trailing_var_arg = true, add = ArgValueCandidates::new(completion::line_words))]
    line: Vec<String>,
}

impl Attach {
    pub fn line(&self) -> String {
        self.line.join(" ")
    }

    pub fn run(&self, screen: &Screen, as_json: bool) -> anyhow::Result<Answer> {
        let client = Client::connect()?;
        let reports: Vec<BindingReport> = client.list()?;
        let cgroup = target::find(&self.which.cgroup, &reports)?;
        let report: BindingReport = client.attach(cgroup.as_str(), &self.line())?;
        Ok(Answer::good(if as_json { json(&report)? } else { describe(&report, screen) }))
    }
}
