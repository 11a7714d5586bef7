//! `memcg-bpf report`: formats a history as one HTML page without scripts and network access. Plots are in SVG.

mod cgroup_history;
mod escape;
mod html;
mod summary;
mod svg;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::monitor::history;
use crate::cli::monitor::metrics;
use crate::cli::output::Output;
use crate::cli::term::json;
use cgroup_history::group_by_cgroup;

/// Create an HTML page with plots from a history
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf report /var/tmp/history > page.html
  memcg-bpf report /var/tmp/history --output page.html

The page begins with a summary: kills, denied requests, other actions and stalls, the worst cgroup
first. It then shows the memory use of each cgroup, its limit, memory.high, memory.low, stalls, and
actions with their reasons. Times are local. With --json, prints the recorded data.")]
pub(in crate::cli) struct Report {
    /// A file written by memcg-bpf record
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the page to this file instead of standard output
    #[arg(short, long, value_name = "PAGE")]
    output: Option<PathBuf>,
}

impl Report {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        if as_json {
            anyhow::ensure!(self.output.is_none(), "--json cannot be used with --output");
            return Ok(Output::success(json(&history::read(&self.file)?)?));
        }
        let page = render_report(&self.file)?;
        match &self.output {
            Some(path) => {
                metrics::replace(path, &page)?;
                Ok(Output::success(format!("Wrote {}.\n", path.display())))
            }
            None => Ok(Output::success(page)),
        }
    }
}

/// The page of a history.
pub(in crate::cli) fn render_report(history: &Path) -> anyhow::Result<String> {
    Ok(html::render(&group_by_cgroup(&history::read(history)?)))
}
