//! `memcg-bpf detach`: takes back what `attach` did, and what an annotation asked for.

use clap::Args;

use super::client::Client;
use super::explain::describe;
use super::screen::{Screen, json, one_line};
use super::{Answer, Which, target};
use crate::report::BindingReport;

/// Take back what was attached by hand or asked for by an annotation; drop-ins then hold again
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf detach demo.service

What a drop-in asks for stays in force. To be rid of that too, change the drop-in, or:
  memcg-bpf attach demo.service none")]
pub(super) struct Detach {
    #[command(flatten)]
    which: Which,
}

impl Detach {
    pub fn run(&self, screen: &Screen, as_json: bool) -> anyhow::Result<Answer> {
        let client = Client::connect()?;
        let reports: Vec<BindingReport> = client.list_if_allowed()?.unwrap_or_default();
        let cgroup = target::find(&self.which.cgroup, &reports)?;
        let remaining: Option<BindingReport> = client.detach(cgroup.as_str())?;
        if as_json {
            return Ok(Answer::good(json(&remaining)?));
        }
        let text = match remaining {
            Some(report) if !report.policies.is_empty() => {
                format!("Detached. What a drop-in asks for holds again:\n\n{}", describe(&report, screen))
            }
            _ => format!("Detached: {} has no memory policy any more.\n", one_line(cgroup.as_str())),
        };
        Ok(Answer::good(text))
    }
}
