//! `memcg-bpf reload`: files read again while everything stays in force.

use clap::Args;

use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::term::{escape_line, json};
use crate::report::ReloadReport;

/// Have memcg-bpfd read its configuration, profiles and policy objects again
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf reload              the same as: systemctl reload memcg-bpfd

Policies stay in force meanwhile; an object that is replaced goes when its successor is in force.
If there is a new mistake in any of the files, it is told and nothing is changed.
Unit files are systemd's to read: systemctl daemon-reload.")]
pub(in crate::cli) struct Reload {}

impl Reload {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        let report: ReloadReport = Client::connect()?.reload()?;
        let text = if as_json { json(&report)? } else { render(&report) };
        Ok(Output { success: report.errors.is_empty(), ..Output::success(text) })
    }
}

fn render(report: &ReloadReport) -> String {
    let mut text = format!("Read again: {}.\n", escape_line(&report.summary()));
    for error in &report.errors {
        text.push_str(&format!("Not in force any more: {}\n", escape_line(error)));
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
    fn what_changed_is_told_and_what_was_lost() {
        assert_eq!(render(&ReloadReport::default()), "Read again: nothing has changed.\n");
        let report = ReloadReport {
            replaced: vec!["deny".into(), "oom".into()],
            removed: vec!["x".into()],
            configuration: true,
            errors: vec!["/a: unknown policy 'x'".into()],
            ..ReloadReport::default()
        };
        assert_eq!(
            render(&report),
            "Read again: replaced the policies deny, oom; removed x; the configuration has changed.\n\
             Not in force any more: /a: unknown policy 'x'\n"
        );
    }
}
