//! `memcg-bpf reload`: reloads files while policies stay attached.

use clap::Args;

use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::term::{escape_line, json};
use crate::report::ReloadReport;

/// Reload the configuration, profiles and policy objects of memcg-bpfd
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf reload              the same as: systemctl reload memcg-bpfd

Policies stay attached during the reload. A replaced object is detached after its successor is attached.
If a file has a new error, the error is reported and nothing is changed.
To reload unit files, run: systemctl daemon-reload")]
pub(in crate::cli) struct Reload {}

impl Reload {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        let report: ReloadReport = Client::connect()?.reload()?;
        let text = if as_json { json(&report)? } else { render(&report) };
        Ok(Output { success: report.errors.is_empty(), ..Output::success(text) })
    }
}

fn render(report: &ReloadReport) -> String {
    let mut text = format!("Reloaded: {}.\n", escape_line(&report.summary()));
    for error in &report.errors {
        text.push_str(&format!("Detached: {}\n", escape_line(error)));
    }
    for note in &report.notes {
        text.push_str(&format!("Note: {}\n", escape_line(note)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_lists_changes_and_errors() {
        assert_eq!(render(&ReloadReport::default()), "Reloaded: nothing has changed.\n");
        let report = ReloadReport {
            replaced: vec!["deny".into(), "oom".into()],
            removed: vec!["x".into()],
            configuration: true,
            errors: vec!["/a: unknown policy 'x'".into()],
            ..ReloadReport::default()
        };
        assert_eq!(
            render(&report),
            "Reloaded: replaced the policies deny, oom; removed x; the configuration has changed.\n\
             Detached: /a: unknown policy 'x'\n"
        );
    }
}
