//! A profile's file.

use memcg_bpf::policy::diagnostic::Diagnostic;
use memcg_bpf::policy::line::{Line, parse};
use memcg_bpf::policy::profile::{PROFILE_DIRS, ProfileFile, load, parse_profile};

use super::policy_line::faults;
use super::{part, parts};

pub fn run(bytes: &[u8]) {
    let parts = parts(bytes);
    let (text, name) = (part(&parts, 0), part(&parts, 1));
    for name in ["gold", name] {
        match parse_profile(name, "/etc/memcg-bpf/profiles.d/gold.profile", text) {
            Ok(parsed) => {
                assert_eq!(parsed.profile.name, name);
                let line = parse(&parsed.profile.line);
                assert!(matches!(line, Ok(Line::Clauses(_))), "{:?} is no line", parsed.profile.line);
                assert!(!parsed.profile.doc.contains('\n'));
                told(text, parsed.warnings);
            }
            Err(wrong) => {
                assert!(!wrong.is_empty());
                told(text, wrong);
            }
        }
    }
    let file = |dir: &str, text: &str| ProfileFile {
        dir: dir.to_owned(),
        file_name: format!("{name}.profile"),
        text: Some(text.to_owned()),
    };
    let files = [file(PROFILE_DIRS[3], text), file(PROFILE_DIRS[0], part(&parts, 2))];
    let (profiles, wrong) = load(&files);
    assert!(profiles.len() <= 1, "a file hides those of its name");
    told("", wrong);
}

/// Columns count in the value of one `Policy=`, which stands somewhere in the file.
fn told(text: &str, wrong: Vec<Diagnostic>) {
    assert!(wrong.iter().all(|fault| fault.at.is_none_or(|at| text.is_empty() || at <= text.len())));
    let anywhere: Vec<Diagnostic> = wrong.into_iter().map(|fault| Diagnostic { at: None, ..fault }).collect();
    faults("", &anywhere);
}
