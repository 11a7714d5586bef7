//! `memcg-bpf check`: checks a policy line or unit files. Does not need the daemon and changes nothing.

mod files;
mod finding;

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::bpf::profiles;
use crate::cli::find::candidates;
use crate::cli::find::installed::ObjectDir;
use crate::cli::output::Output;
use crate::cli::term::{escape_line, json};
use crate::policy::catalog::Catalog;
use crate::policy::diagnostic::Diagnostic;
use finding::{Finding, findings_in_line};

/// Characters of a long policy line that are shown before and after an error.
const CONTEXT: usize = 40;

/// Check a policy line or unit files for errors
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf check deny limit=64M
  memcg-bpf check --unit /etc/systemd/system/demo.service.d/50-memory.conf

The exit status is 0 if there are no errors, else 1.")]
pub(in crate::cli) struct Check {
    /// The policy line
    #[arg(value_name = "LINE", required_unless_present = "unit", conflicts_with = "unit", add = ArgValueCandidates::new(candidates::complete_line))]
    line: Vec<String>,
    /// Check unit files and drop-ins instead of a line
    #[arg(long, value_name = "FILE", num_args = 1..)]
    unit: Vec<PathBuf>,
    #[command(flatten)]
    objects: ObjectDir,
}

impl Check {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        let objects = self.objects.read();
        if objects.schemas.is_empty() {
            let why: Vec<String> = objects.errors.iter().map(|error| escape_line(error)).collect();
            anyhow::bail!(
                "no policy is installed: install the package memcg-bpf, or set the directory of the policy objects \
                 with --objects{}",
                if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) }
            );
        }
        let (profiles, broken) = profiles::load(std::path::Path::new("/"));
        let catalog = Catalog { policies: objects.schemas, profiles };
        let mut found: Vec<Finding> =
            objects.errors.into_iter().map(|error| Finding::sentence(true, escape_line(&error))).collect();
        found
            .extend(broken.into_iter().map(|error| Finding::sentence(true, escape_line(&error.to_string()))));
        if self.unit.is_empty() {
            found.extend(findings_in_line(&self.line.join(" "), &catalog, None));
        }
        for path in &self.unit {
            found.extend(files::findings_in_unit(path, &catalog));
        }
        let success = !found.iter().any(|finding| finding.wrong);
        let text = if as_json { json(&found)? } else { render(&found, success) };
        Ok(Output { success, ..Output::success(text) })
    }
}

fn render(found: &[Finding], success: bool) -> String {
    let mut out = String::new();
    for finding in found {
        out.push_str(&format!("{}{}\n", if finding.wrong { "" } else { "note: " }, finding.sentence));
        if let (Some(line), Some(error)) = (&finding.line, &finding.error) {
            out.push_str(&underline(line, error));
        }
    }
    let wrong = found.iter().filter(|finding| finding.wrong).count();
    match (success, wrong) {
        (true, _) => out.push_str("No errors.\n"),
        (false, 1) => out.push_str("1 error.\n"),
        (false, n) => out.push_str(&format!("{n} errors.\n")),
    }
    out
}

/// The line, and under the offending word a row of marks. Both are counted after escaping, as they are shown.
fn underline(line: &str, error: &Diagnostic) -> String {
    let at = error.at.unwrap_or(0).min(line.len());
    let (before, after) = match (line.get(..at), line.get(at..)) {
        (Some(before), Some(after)) => (escape_line(before), escape_line(after)),
        // Inside of a character: better no mark than one in the wrong location.
        _ => return format!("    {}\n", escape_line(&line.chars().take(CONTEXT).collect::<String>())),
    };
    let skipped = before.chars().count().saturating_sub(CONTEXT);
    let mut shown: String = before.chars().skip(skipped).collect();
    if skipped > 0 {
        shown.insert(0, '…');
    }
    let column = shown.chars().count();
    let rest = after.chars().count();
    shown.extend(after.chars().take(CONTEXT));
    if rest > CONTEXT {
        shown.push('…');
    }
    let marks = error.word.chars().count().clamp(1, rest.clamp(1, CONTEXT));
    format!("    {shown}\n    {}^{}\n", " ".repeat(column), "~".repeat(marks.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_is_below_the_word() {
        let error = Diagnostic::new("limt", "unknown").at(5);
        assert_eq!(underline("deny limt=64M", &error), "    deny limt=64M\n         ^~~~\n");
    }

    #[test]
    fn mark_position_after_escapes_and_in_long_lines() {
        let error = Diagnostic::new("x", "unknown").at(2);
        assert_eq!(underline("\u{1b} x", &error), "    \\u{1b} x\n           ^\n");
        let long = format!("{}bad{}", "a".repeat(4000), "b".repeat(4000));
        let text = underline(&long, &Diagnostic::new("bad", "unknown").at(4000));
        let (shown, marks) = text.split_once('\n').unwrap();
        assert!(shown.chars().count() < 100, "{shown}");
        assert_eq!(shown.chars().position(|c| c == 'b'), marks.find('^'), "{text}");
    }

    #[test]
    fn invalid_error_position_has_no_mark() {
        assert_eq!(underline("deny", &Diagnostic::new("", "unfinished").at(900)), "    deny\n        ^\n");
        assert_eq!(underline("ä", &Diagnostic::new("x", "odd").at(1)), "    ä\n");
    }

    #[test]
    fn all_errors_are_reported_and_counted() {
        let found = findings_in_line("dney limit=64M; obsrve", &Catalog::default(), Some("x.conf:3"));
        let text = render(&found, false);
        assert!(text.ends_with("2 errors.\n"), "{text}");
        assert!(text.contains("x.conf:3"), "{text}");
        assert!(render(&[], true).contains("No errors."));
    }
}
