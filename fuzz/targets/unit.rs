//! Unit files and drop-ins. The first character chooses the unit, [`super::PART`] separates the files.

use memcg_bpf::names::{UnitKind, UnitName};
use memcg_bpf::policy::line::{self, LINE_BYTES_MAX, Line, POLICIES_PER_LINE_MAX};
use memcg_bpf::source::specifier::Specifiers;
use memcg_bpf::source::unit_policy::{ASSIGNMENTS_MAX, UnitReading, read, read_unit};

use super::policy_line::{SENTENCE_MAX, said, written};
use super::{parts, sentence};

const UNITS: [&str; 6] = [
    "demo.service",
    "web-front@a\\x2db.service",
    "batch-jobs.slice",
    "libpod-1f2e.scope",
    "x@\\x1b\\x5b2J.service",
    "-.slice",
];
/// A directory that only root could have made; still its name must not reach a terminal.
const FILES: [&str; 2] = ["/etc/systemd/system/demo.service", "/run/systemd/system/\u{1b}[2J.d/50\n.conf"];

pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let unit = UnitName::parse(UNITS[usize::from(*first) % UNITS.len()]).unwrap();
    let specifiers = Specifiers {
        hostname: "host.example; observe".to_owned(),
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        boot_id: String::new(),
        kernel_release: "6.12.0-1-amd64".to_owned(),
    };
    let files: Vec<(String, String)> =
        FILES.iter().cycle().map(|path| (*path).to_owned()).zip(parts(rest)).collect();
    for (path, text) in &files {
        one_file(unit.kind(), path, text);
    }
    let reading = read_unit(&unit, &files, &specifiers);
    assert_eq!(reading, read_unit(&unit, &files, &specifiers), "the same files twice");
    let UnitReading { request, slice, warnings } = reading;
    for warning in &warnings {
        sentence(warning, SENTENCE_MAX);
    }
    if let Some(slice) = slice {
        assert_eq!(slice.kind(), UnitKind::Slice);
    }
    let Some(expected) = expected(&unit, &files, &specifiers) else { return };
    let line = request.map(|request| request.line);
    match (expected, line) {
        (None, line) => assert_eq!(line, None),
        (Some(calls), Some(line)) if calls.is_empty() => assert_eq!(line, "none"),
        (Some(calls), Some(line)) if calls.len() <= POLICIES_PER_LINE_MAX && line.len() <= LINE_BYTES_MAX => {
            let Ok(Line::Clauses(read)) = line::parse(&line) else {
                panic!("the sum does not parse: {line:?}")
            };
            assert_eq!(said(&read), said(&calls), "{line:?} instead of {:?}", written(&calls));
        }
        (Some(_), line) => assert!(line.is_some()),
    }
}

fn one_file(kind: UnitKind, path: &str, text: &str) {
    let reading = read(kind, path, text);
    assert!(reading.warnings.len() <= 21, "{} warnings", reading.warnings.len());
    for warning in &reading.warnings {
        sentence(warning, SENTENCE_MAX);
    }
    let lines = text.matches(['\n', '\r', '\0']).count() + 1;
    for directive in &reading.directives {
        assert!((1..=lines).contains(&directive.line), "line {} of {lines}", directive.line);
        let value = &directive.value;
        assert!(value.len() <= text.len() && !value.contains(['\n', '\r', '\0']));
        assert_eq!(value.trim_matches([' ', '\t']), value);
    }
}

/// What the assignments come to, in a second and simpler opinion; `None` where one does not parse or there are too
/// many. The inner `None`: nothing is asked for.
fn expected(
    unit: &UnitName,
    files: &[(String, String)],
    specifiers: &Specifiers,
) -> Option<Option<Vec<line::Clause>>> {
    let mut asked: Option<Vec<line::Clause>> = None;
    let mut count = 0;
    for (path, text) in files {
        for directive in read(unit.kind(), path, text).directives {
            count += 1;
            let (value, _) = specifiers.expand(unit, &directive.value);
            match line::parse(&value) {
                _ if value.is_empty() => asked = None,
                Ok(Line::None) => asked = Some(Vec::new()),
                Ok(Line::Clauses(calls)) => {
                    let so_far = asked.get_or_insert_default();
                    so_far.retain(|old| !calls.iter().any(|call| call.name == old.name));
                    so_far.extend(calls);
                }
                Err(_) => return None,
            }
        }
    }
    (count <= ASSIGNMENTS_MAX).then_some(asked)
}
