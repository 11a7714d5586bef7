//! `memcg-bpf check`: checks a policy line or unit files. Does not need the daemon and changes nothing.

#[cfg(test)]
mod arrangement_tests;
mod files;
mod finding;
mod inert;
mod protection;
mod quadlet;
mod units;

use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::bpf::profiles;
use crate::cli::find::candidates;
use crate::cli::find::installed::ObjectDir;
use crate::cli::output::Output;
use crate::cli::term::{escape_line, json};
use crate::policy::catalog::Catalog;
use crate::policy::diagnostic::Diagnostic;
use finding::{Finding, Severity, findings_in_line};

/// Characters of a long policy line that are shown before and after an error.
const CONTEXT: usize = 40;

/// Check a policy line or unit files for errors
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf check deny limit=64M
  memcg-bpf check --unit demo.service
  memcg-bpf check --unit /etc/systemd/system/demo.service.d/50-memory.conf

For a unit, all its files are checked together: --unit demo stands for demo.service. Parameters that can
have no effect, such as a limit above MemoryMax= of the same unit, are warnings. So is protect in a slice
that has no protection now.
The exit status is 1 if there are errors, else 0. Warnings, for example of a broken policy object that
the line does not use, do not change the exit status.")]
pub(in crate::cli) struct Check {
    /// The policy line
    #[arg(value_name = "LINE", required_unless_present = "unit", conflicts_with = "unit", add = ArgValueCandidates::new(candidates::complete_line))]
    line: Vec<String>,
    /// Check units, or unit files, drop-ins and Quadlet files, instead of a line
    #[arg(long, value_name = "UNIT|FILE", num_args = 1.., add = ArgValueCandidates::new(candidates::units))]
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
        let (profiles, broken) = profiles::load(Path::new("/"));
        let catalog = Catalog { policies: objects.schemas, profiles };
        let mut found = broken_files(&objects.errors, &broken);
        if self.unit.is_empty() {
            found.extend(findings_in_line(&self.line.join(" "), &catalog, None));
        }
        for unit in &self.unit {
            // A name without a slash is a file in the current directory, or a unit.
            let name = unit.to_str().filter(|name| *name == "/" || !name.contains('/') && !unit.exists());
            found.extend(match name.and_then(units::unit_named) {
                Some(name) => units::findings_in_unit_named(Path::new("/"), &name, &catalog),
                None => files::findings_in_file(unit, &catalog),
            });
        }
        let success = !found.iter().any(|finding| finding.wrong);
        let text = if as_json { json(&found)? } else { render(&found, success) };
        Ok(Output { success, ..Output::success(text) })
    }
}

/// Policy objects and profiles that cannot be read. They concern the result only if it depends on them: then their name
/// is unknown, which is an error of its own.
fn broken_files(objects: &[String], profiles: &[impl ToString]) -> Vec<Finding> {
    let profiles = profiles.iter().map(ToString::to_string);
    objects.iter().cloned().chain(profiles).map(|error| Finding::warning(escape_line(&error))).collect()
}

fn render(found: &[Finding], success: bool) -> String {
    let mut out = String::new();
    for finding in found {
        let prefix = match finding.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
            Severity::Note => "note: ",
        };
        out.push_str(&format!("{prefix}{}\n", finding.sentence));
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

    /// `check LINE` with all built policies, and a broken object beside them.
    fn check_beside_broken_object(line: &str, as_json: bool) -> Output {
        let built = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bpf"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        for file in ["core.bpf.o", "policies/deny.bpf.o"] {
            std::fs::copy(built.join(file), dir.path().join(file)).expect("run 'make bpf' first");
        }
        std::fs::write(dir.path().join("policies/mine.bpf.o"), "broken").unwrap();
        let objects = ObjectDir::in_dir(dir.path().to_owned());
        Check { line: vec![line.to_owned()], unit: Vec::new(), objects }.run(as_json).unwrap()
    }

    #[test]
    fn broken_object_is_a_warning_unless_the_line_needs_it() {
        let fine = check_beside_broken_object("deny limit=64M", false);
        assert!(fine.success && fine.text.ends_with("No errors.\n"), "{}", fine.text);
        assert!(fine.text.starts_with("warning: ") && fine.text.contains("/mine.bpf.o"), "{}", fine.text);
        let needed = check_beside_broken_object("mine", false);
        assert!(!needed.success && needed.text.contains("unknown policy 'mine'"), "{}", needed.text);
        let json: serde_json::Value =
            serde_json::from_str(&check_beside_broken_object("deny limit=64M", true).text).unwrap();
        assert_eq!((&json[0]["wrong"], &json[0]["severity"]), (&false.into(), &"warning".into()), "{json}");
    }
}
