//! `memcg-bpf doctor`: checks the requirements and suggests fixes. Reads files below a root directory, for tests, and
//! queries the running kernel and daemon.

mod containerd;
mod docker;
mod engines;
mod finding;
mod machine;
mod service;
mod toml;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::find::installed::ObjectDir;
use crate::cli::output::Output;
use crate::cli::term::{Style, Terminal, json, wrap};
use finding::{CheckResult, Finding};

/// Check the kernel, cgroup setup, systemd and container engines, and suggest fixes
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sudo memcg-bpf doctor

Every line begins with ok, warn or FAIL. The exit status is 1 if a check failed.")]
pub(in crate::cli) struct Doctor {
    /// Read files below this directory
    #[arg(long, value_name = "DIR", default_value = "/", hide_short_help = true)]
    root: PathBuf,
    #[command(flatten)]
    objects: ObjectDir,
}

impl Doctor {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let objects = self.objects.read();
        let mut found = vec![machine::user(nix::unistd::geteuid().is_root())];
        found.extend(machine::cgroups(&self.root));
        found.push(machine::btf(&self.root));
        found.extend(machine::settings(&self.root));
        found.extend(machine::policies(&objects));
        found.extend(machine::hooks(&objects));
        found.push(service::systemd(&self.root));
        found.push(service::bus(&self.root));
        found.extend(service::installed(&self.root));
        if self.root == Path::new("/") {
            found.extend(service::daemon());
        }
        found.extend(engines::hook(&self.root));
        found.extend(engines::engines(&self.root));
        if self.root == Path::new("/") && engines::calls_plugins(&self.root) {
            found.push(containerd::plugin());
        }
        let success = found.iter().all(|finding| finding.verdict != CheckResult::Fail);
        let text = if as_json { json(&found)? } else { render(&found, terminal) };
        Ok(Output { success, style: line_style, ..Output::success(text) })
    }
}

fn render(found: &[Finding], terminal: &Terminal) -> String {
    let widest = found.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let width = terminal.text_width();
    let mut out = String::new();
    for finding in found {
        let verdict = match finding.verdict {
            CheckResult::Ok => "ok  ",
            CheckResult::Warn => "warn",
            CheckResult::Fail => "FAIL",
        };
        let margin = widest.saturating_add(7);
        let message = wrap(&finding.message, margin, width);
        out.push_str(&format!("{verdict} {:<widest$}  {}", finding.check, message.trim_start()));
        if let Some(advice) = &finding.advice {
            out.push_str(&wrap(&format!("→ {advice}"), margin, width));
        }
    }
    let count = |verdict| found.iter().filter(|finding| finding.verdict == verdict).count();
    out.push_str(&match (count(CheckResult::Fail), count(CheckResult::Warn)) {
        (0, 0) => "\nNo problems found.\n".to_owned(),
        (0, warned) => {
            format!("\nmemcg-bpf works, with {warned} warnings.\n").replace(" 1 warnings", " 1 warning")
        }
        (failed, _) => {
            format!("\nmemcg-bpf does not work: {failed} checks failed.\n").replace(" 1 checks", " 1 check")
        }
    });
    out
}

/// Problems that keep the OCI hook from running.
pub(in crate::cli) fn hook_problem(root: &Path) -> Vec<String> {
    let bad = engines::hook(root).into_iter().filter(|finding| finding.verdict != CheckResult::Ok);
    bad.map(|f| format!("{}; {}.", f.message, f.advice.unwrap_or_default())).collect()
}

/// Colours a line by its level.
fn line_style(line: &str) -> Option<Style> {
    match line.get(..5)? {
        "ok   " => Some(Style::Green),
        "warn " => Some(Style::Yellow),
        "FAIL " => Some(Style::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
