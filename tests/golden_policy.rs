//! Wrong policy lines and the exact sentences about them: `tests/golden/policy/*.txt`.
//!
//! `> LINE` is a policy line as written (`␛`, `␀` and `␊` stand for the control characters they picture), the indented
//! lines below it are what is said about it, and `@ ORIGIN PLACE` says who asks from there on. With `BLESS=1` in the
//! environment the sentences are written instead of compared.

// Functions beside the #[test] ones are test code too.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::fs;
use std::path::{Path, PathBuf};

use memcg_bpf::policy::precedence::check_line;
use memcg_bpf::policy::precedence::{AllowList, resolve};
use memcg_bpf::policy::request::{Origin, Request};
use memcg_bpf::policy::{catalog, profile, schema};

#[path = "../src/policy/fixture.rs"]
mod fixture;

/// The text with the sentences that are true now, and how many lines were judged.
fn judged(text: &str) -> (String, usize) {
    let catalog = fixture::catalog();
    let (mut origin, mut place) = (Origin::Annotation, String::new());
    let mut out = String::new();
    let mut lines = 0;
    for row in text.lines() {
        if row.starts_with("  ") {
            continue;
        }
        out.push_str(row);
        out.push('\n');
        if let Some(rest) = row.strip_prefix("@ ") {
            let (who, where_) = rest.split_once(' ').unwrap_or((rest, ""));
            origin = match who {
                "drop-in" => Origin::DropIn,
                "xattr" => Origin::Xattr,
                "operator" => Origin::Operator,
                _ => Origin::Annotation,
            };
            place = where_.to_owned();
        }
        let Some(written) = row.strip_prefix('>') else { continue };
        let line = written.strip_prefix(' ').unwrap_or(written);
        let line = line.replace('␛', "\u{1b}").replace('␀', "\0").replace('␊', "\n");
        let faults = check_line(&line, &catalog, Some(origin), Some(&place));
        let request =
            Request { origin, location: place.clone(), line, container: None, pod: None, unit: None };
        let resolved = resolve(&[request], &catalog, &AllowList::default());
        assert_eq!(resolved.errors, faults, "check_line and resolve report the same errors: {row}");
        assert!(
            faults.is_empty() || resolved.policies.is_empty(),
            "no policy of an invalid line is used: {row}"
        );
        if faults.is_empty() {
            out.push_str("  fine\n");
        }
        for fault in faults {
            out.push_str(&format!("  {fault}\n"));
        }
        lines += 1;
    }
    (out, lines)
}

fn golden_files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    files
}

#[test]
fn every_wrong_line_has_its_exact_sentences() {
    let mut lines = 0;
    for file in golden_files() {
        let text = fs::read_to_string(&file).unwrap();
        let (now, count) = judged(&text);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &now).unwrap();
        } else {
            assert_eq!(now, text, "{} (BLESS=1 writes it anew)", file.display());
        }
        lines += count;
    }
    assert!(lines >= 40, "{lines} lines");
}
