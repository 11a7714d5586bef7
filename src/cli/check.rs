//! `memcg-bpf check`: is a policy line, or what unit files say, in order? Asks nobody; changes nothing.

mod files;

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;

use super::policies::ObjectDir;
use super::screen::{json, one_line};
use super::{Answer, completion};
use crate::bpf::profiles;
use crate::policy::catalog::Catalog;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::precedence::check_line;

/// Characters of a long policy line that are shown before and after a fault.
const AROUND: usize = 40;

/// Look for mistakes in a policy line or in unit files, before anything is in force
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf check deny limit=64M
  memcg-bpf check --unit /etc/systemd/system/demo.service.d/50-memory.conf

The exit status is 0 when all is in order, and 1 when something is wrong.")]
pub(super) struct Check {
    /// The policy line
    #[arg(value_name = "LINE", required_unless_present = "unit", conflicts_with = "unit", add = ArgValueCandidates::new(completion::line_words))]
    line: Vec<String>,
    /// Unit files and drop-ins instead of a line
    #[arg(long, value_name = "FILE", num_args = 1..)]
    unit: Vec<PathBuf>,
    #[command(flatten)]
    objects: ObjectDir,
}

/// Something that was found.
#[derive(Debug, Serialize)]
struct Finding {
    /// True when it keeps the policy from doing what its author meant.
    wrong: bool,
    /// The whole sentence.
    sentence: String,
    /// The line with the mistake, when there is one to point at.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    fault: Option<Diagnostic>,
}

impl Finding {
    fn sentence(wrong: bool, sentence: String) -> Self {
        Finding { wrong, sentence, line: None, fault: None }
    }
}

impl Check {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Answer> {
        let objects = self.objects.read();
        if objects.schemas.is_empty() {
            let why: Vec<String> = objects.errors.iter().map(|error| one_line(error)).collect();
            anyhow::bail!(
                "there are no policies to check against: install the package memcg-bpf, or name the directory of its \
                 objects with --objects{}",
                if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) }
            );
        }
        let (profiles, broken) = profiles::load(std::path::Path::new("/"));
        let catalog = Catalog { policies: objects.schemas, profiles };
        let mut found: Vec<Finding> =
            objects.errors.into_iter().map(|error| Finding::sentence(true, one_line(&error))).collect();
        found.extend(broken.into_iter().map(|fault| Finding::sentence(true, one_line(&fault.to_string()))));
        if self.unit.is_empty() {
            found.extend(in_line(&self.line.join(" "), &catalog, None));
        }
        for path in &self.unit {
            found.extend(files::in_unit(path, &catalog));
        }
        let good = !found.iter().any(|finding| finding.wrong);
        let text = if as_json { json(&found)? } else { in_words(&found, good) };
        Ok(Answer { good, ..Answer::good(text) })
    }
}

/// What is wrong with one line; `place` is where it stands.
fn in_line(line: &str, catalog: &Catalog, place: Option<&str>) -> Vec<Finding> {
    check_line(line, catalog, None, place)
        .into_iter()
        .map(|fault| Finding {
            wrong: true,
            sentence: one_line(&fault.to_string()),
            line: fault.at.map(|_| line.to_owned()),
            fault: Some(fault),
        })
        .collect()
}

fn in_words(found: &[Finding], good: bool) -> String {
    let mut out = String::new();
    for finding in found {
        out.push_str(&format!("{}{}\n", if finding.wrong { "" } else { "note: " }, finding.sentence));
        if let (Some(line), Some(fault)) = (&finding.line, &finding.fault) {
            out.push_str(&pointed(line, fault));
        }
    }
    let wrong = found.iter().filter(|finding| finding.wrong).count();
    match (good, wrong) {
        (true, _) => out.push_str("In order.\n"),
        (false, 1) => out.push_str("1 mistake.\n"),
        (false, n) => out.push_str(&format!("{n} mistakes.\n")),
    }
    out
}

/// The line, and under the offending word a row of marks. Both are counted after escaping, as they are shown.
fn pointed(line: &str, fault: &Diagnostic) -> String {
    let at = fault.at.unwrap_or(0).min(line.len());
    let (before, after) = match (line.get(..at), line.get(at..)) {
        (Some(before), Some(after)) => (one_line(before), one_line(after)),
        // Inside of a character: better no mark than one in the wrong place.
        _ => return format!("    {}\n", one_line(&line.chars().take(AROUND).collect::<String>())),
    };
    let skipped = before.chars().count().saturating_sub(AROUND);
    let mut shown: String = before.chars().skip(skipped).collect();
    if skipped > 0 {
        shown.insert(0, '…');
    }
    let column = shown.chars().count();
    let rest = after.chars().count();
    shown.extend(after.chars().take(AROUND));
    if rest > AROUND {
        shown.push('…');
    }
    let marks = fault.word.chars().count().clamp(1, rest.clamp(1, AROUND));
    format!("    {shown}\n    {}^{}\n", " ".repeat(column), "~".repeat(marks.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_under_the_word() {
        let fault = Diagnostic::new("limt", "unknown").at(5);
        assert_eq!(pointed("deny limt=64M", &fault), "    deny limt=64M\n         ^~~~\n");
    }

    #[test]
    fn the_mark_is_right_after_escaped_characters_and_in_long_lines() {
        let fault = Diagnostic::new("x", "unknown").at(2);
        assert_eq!(pointed("\u{1b} x", &fault), "    \\u{1b} x\n           ^\n");
        let long = format!("{}bad{}", "a".repeat(4000), "b".repeat(4000));
        let text = pointed(&long, &Diagnostic::new("bad", "unknown").at(4000));
        let (shown, marks) = text.split_once('\n').unwrap();
        assert!(shown.chars().count() < 100, "{shown}");
        assert_eq!(shown.chars().position(|c| c == 'b'), marks.find('^'), "{text}");
    }

    #[test]
    fn a_place_beyond_the_line_or_inside_a_character_does_no_harm() {
        assert_eq!(pointed("deny", &Diagnostic::new("", "unfinished").at(900)), "    deny\n        ^\n");
        assert_eq!(pointed("ä", &Diagnostic::new("x", "odd").at(1)), "    ä\n");
    }

    #[test]
    fn all_mistakes_are_told_and_counted() {
        let found = in_line("dney limit=64M; obsrve", &Catalog::default(), Some("x.conf:3"));
        let text = in_words(&found, false);
        assert!(text.ends_with("2 mistakes.\n"), "{text}");
        assert!(text.contains("x.conf:3"), "{text}");
        assert!(in_words(&[], true).contains("In order."));
    }
}
