//! `memcg-bpf doctor`: what this machine offers, what is missing, and what to do about it. Looks at files below a root
//! directory, so that made-up machines can be tested, and asks the running kernel and daemon.

mod engines;
mod machine;
mod service;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::Answer;
use super::policies::ObjectDir;
use super::screen::{Paint, Screen, json, one_line, wrapped};

/// Look at this machine and say what memcg-bpf needs that is missing
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sudo memcg-bpf doctor

Every line begins with ok, warn or FAIL. The exit status is 1 when something failed.")]
pub(super) struct Doctor {
    /// Look at the files below this directory instead of /
    #[arg(long, value_name = "DIR", default_value = "/", hide_short_help = true)]
    root: PathBuf,
    #[command(flatten)]
    objects: ObjectDir,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckResult {
    Ok,
    /// Something will not work, the rest will.
    Warn,
    /// Nothing will work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    verdict: CheckResult,
    /// How it is, one sentence.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Finding { check, verdict: CheckResult::Ok, message: says.into(), advice: None }
    }

    fn warn(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { check, verdict: CheckResult::Warn, message: says.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { check, verdict: CheckResult::Fail, message: says.into(), advice: Some(advice.into()) }
    }
}

impl Doctor {
    pub fn run(&self, screen: &Screen, as_json: bool) -> anyhow::Result<Answer> {
        let objects = self.objects.read();
        let mut found = vec![machine::user(nix::unistd::geteuid().is_root())];
        found.extend(machine::cgroups(&self.root));
        found.push(machine::btf(&self.root));
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
        let good = found.iter().all(|finding| finding.verdict != CheckResult::Fail);
        let text = if as_json { json(&found)? } else { in_words(&found, screen) };
        Ok(Answer { good, paint, ..Answer::good(text) })
    }
}

fn in_words(found: &[Finding], screen: &Screen) -> String {
    let widest = found.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let width = screen.text_width();
    let mut out = String::new();
    for finding in found {
        let verdict = match finding.verdict {
            CheckResult::Ok => "ok  ",
            CheckResult::Warn => "warn",
            CheckResult::Fail => "FAIL",
        };
        let margin = widest.saturating_add(7);
        let says = wrapped(&finding.message, margin, width);
        out.push_str(&format!("{verdict} {:<widest$}  {}", finding.check, says.trim_start()));
        if let Some(advice) = &finding.advice {
            out.push_str(&wrapped(&format!("→ {advice}"), margin, width));
        }
    }
    let count = |verdict| found.iter().filter(|finding| finding.verdict == verdict).count();
    out.push_str(&match (count(CheckResult::Fail), count(CheckResult::Warn)) {
        (0, 0) => "\nAll is in order.\n".to_owned(),
        (0, warned) => format!("\nIt works; {warned} things to look at.\n").replace(" 1 things", " 1 thing"),
        (failed, _) => format!("\nIt cannot work yet: see the {failed} marked FAIL.\n"),
    });
    out
}

/// What keeps the OCI hook from running, if anything.
pub(super) fn hook_trouble(root: &Path) -> Vec<String> {
    let bad = engines::hook(root).into_iter().filter(|finding| finding.verdict != CheckResult::Ok);
    bad.map(|f| format!("{}; {}.", f.message, f.advice.unwrap_or_default())).collect()
}

/// Good, odd and bad findings by colour.
fn paint(line: &str) -> Option<Paint> {
    match line.get(..5)? {
        "ok   " => Some(Paint::Green),
        "warn " => Some(Paint::Yellow),
        "FAIL " => Some(Paint::Red),
        _ => None,
    }
}

/// A path below the root, for sentences: as it would be on that machine.
fn shown(path: &str) -> String {
    one_line(&format!("/{}", path.trim_start_matches('/')))
}

#[cfg(test)]
#[path = "doctor/tests.rs"]
mod tests;
