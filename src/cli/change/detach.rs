//! `memcg-bpf detach`: removes requests of `attach` and of annotations.

use clap::Args;

use crate::cli::args::CgroupArg;
use crate::cli::client::Client;
use crate::cli::find::target;
use crate::cli::output::Output;
use crate::cli::show::explain::describe;
use crate::cli::term::{Terminal, escape_line, json};
use crate::report::BindingReport;

/// Detach policies that were attached by `attach` or an annotation; policies of drop-ins apply again
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf detach demo.service

Policies of drop-ins stay attached. To detach these too, change the drop-in, or run:
  memcg-bpf attach demo.service none")]
pub(in crate::cli) struct Detach {
    #[command(flatten)]
    arg: CgroupArg,
}

impl Detach {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let client = Client::connect()?;
        let reports: Vec<BindingReport> = client.list_if_allowed()?.unwrap_or_default();
        let cgroup = target::find(&self.arg.cgroup, &reports)?;
        let remaining: Option<BindingReport> = client.detach(cgroup.as_str())?;
        if as_json {
            return Ok(Output::success(json(&remaining)?));
        }
        let text = match remaining {
            Some(report) if !report.policies.is_empty() => {
                format!("Detached. Policies of drop-ins apply again:\n\n{}", describe(&report, terminal))
            }
            _ => format!("Detached: {} has no memory policy.\n", escape_line(cgroup.as_str())),
        };
        Ok(Output::success(text))
    }
}
