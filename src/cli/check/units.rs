//! Checks the files of a unit that is given by its name.

use std::path::Path;

use super::files::{WITHOUT_POLICY, findings_in_text};
use super::finding::Finding;
use super::inert::inert_parameters;
use super::protection::unprotected_slices;
use crate::cli::find::target::closest_unit;
use crate::cli::term::escape_line;
use crate::files::read_text_below;
use crate::names::{ROOT_SLICE, UnitName};
use crate::policy::catalog::Catalog;
use crate::policy::line::{self, Line};
use crate::source::specifier::Specifiers;
use crate::source::unit_policy::{PolicyClause, ReplacedClause, Replacement, UnitClauses};
use crate::systemd::{UNIT_FILE_MAX, UNIT_PATH, UnitLookup, index};

/// The unit that an argument names: with its suffix, or a service without. A path names none.
pub(super) fn unit_named(text: &str) -> Option<UnitName> {
    // So that it is no option.
    if text == "/" {
        return UnitName::parse(ROOT_SLICE).ok();
    }
    UnitName::parse(text).or_else(|_| UnitName::parse(&format!("{text}.service"))).ok()
}

/// All errors in the files of a unit, in systemd's order.
pub(super) fn findings_in_unit_named(root: &Path, asked: &UnitName, catalog: &Catalog) -> Vec<Finding> {
    let index = index(root, &UNIT_PATH);
    let template = asked.is_template();
    let unit = match index.lookup(asked) {
        UnitLookup::Found(unit) => unit,
        UnitLookup::Masked(unit) => return vec![Finding::note(format!("{unit} is masked"))],
        UnitLookup::Absent => {
            let suggestion = closest_unit(asked, &index, &[]);
            let meant = suggestion.map_or(String::new(), |name| format!("; did you mean '{name}'?"));
            return vec![Finding::error(escape_line(&format!(
                "unit '{asked}' does not exist, and no file has this name{meant}"
            )))];
        }
    };
    let mut findings = Vec::new();
    let mut texts = Vec::new();
    for (path, hidden_by) in index.files_of(&unit) {
        let Ok(text) = read_text_below(root, &path, UNIT_FILE_MAX) else { continue };
        let shown = escape_line(&format!("/{}", path.strip_prefix(root).unwrap_or(&path).display()));
        if hidden_by.is_none() {
            findings.extend(findings_in_text(unit.kind(), &unit, &shown, &text, catalog).0);
            texts.push((shown, text));
        }
    }
    let clauses = UnitClauses::read(&unit, &texts, &Specifiers::default());
    for it in &clauses.replaced {
        let how = match it.how {
            Replacement::Reset => "reset",
            Replacement::Override => "overridden",
        };
        let (text, location) = (&it.clause.text, &it.clause.location);
        findings.push(Finding::note(escape_line(&format!("{location}: '{text}' is {how} by {}", it.by))));
    }
    findings.extend(clauses.replaced.iter().filter_map(|it| switched_off(it, &clauses.effective)));
    findings.extend(inert_parameters(unit.kind(), &texts, &clauses.effective, catalog));
    findings.extend(unprotected_slices(&unit, &texts, &clauses.effective, catalog));
    if unit.is_root_slice() && !clauses.effective.is_empty() {
        findings.push(Finding::warning(format!("{unit}: the root cgroup cannot have a policy")));
    }
    if findings.is_empty() && clauses.effective.is_empty() {
        let what = if template { "template" } else { "unit" };
        findings.push(Finding::note(format!("{what} {unit}: {WITHOUT_POLICY}")));
    }
    findings
}

/// An enforced policy that a later dry run of the same policy replaces: a unit has each policy once.
fn switched_off(it: &ReplacedClause, effective: &[PolicyClause]) -> Option<Finding> {
    let by = effective.iter().find(|clause| clause.location == it.by && clause.name == it.clause.name)?;
    let switches_off =
        it.how == Replacement::Override && is_dry_run(&by.text) && !is_dry_run(&it.clause.text);
    switches_off.then(|| {
        let (text, location) = (&it.clause.text, &it.clause.location);
        Finding::warning(escape_line(&format!(
            "{}: this dry run switches off '{text}' of {location}",
            by.location
        )))
    })
}

fn is_dry_run(clause: &str) -> bool {
    let Ok(Line::Clauses(clauses)) = line::parse(clause) else { return false };
    clauses.iter().flat_map(|clause| &clause.args).any(|arg| arg.key == "mode" && arg.value == "dry-run")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    fn sentences(files: &[(&str, &str)], name: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join("etc/systemd/system").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => std::fs::write(path, format!("[Service]\n{text}\n")).unwrap(),
            }
        }
        let found = findings_in_unit_named(root.path(), &unit_named(name).unwrap(), &fixture::catalog());
        let shown = |finding: &Finding| {
            let prefix = if finding.wrong { "error: " } else { "" };
            format!("{prefix}{}", finding.sentence.replace("/etc/systemd/system/", ""))
        };
        found.iter().map(shown).collect()
    }

    #[test]
    fn unit_is_checked_by_its_name_with_all_its_files() {
        let files = [
            ("web.service", "MemoryMax=1G\nX-MemoryBPFPolicy=deny limit=64M"),
            ("web.service.d/10.conf", "X-MemoryBPFPolicy=deny limit=2G"),
            ("service.d/20.conf", "X-MemoryBPFPolicy=obsrve"),
            ("websrv.service", "-> web.service"),
            ("off.service", "-> /dev/null"),
            ("plain.service", "X-MemoryBPFPolicy="),
        ];
        let web = [
            "error: service.d/20.conf:2, column 1: unknown policy 'obsrve'; did you mean 'observe'?",
            "web.service:3: 'deny limit=64M' is overridden by web.service.d/10.conf:2",
            "web.service.d/10.conf:2: limit=2G of deny is above MemoryMax=1G: the kernel kills before usage reaches it",
        ];
        for name in ["web", "web.service", "websrv", "websrv.service"] {
            assert_eq!(sentences(&files, name), web, "{name}");
        }
        assert_eq!(sentences(&files, "off"), ["off.service is masked"]);
        assert_eq!(
            sentences(&files, "wbe"),
            [
                "error: unit 'wbe.service' does not exist, and no file has this name; did you mean 'web.service'?"
            ]
        );
        assert_eq!(sentences(&files[3..], "a.slice"), ["unit a.slice: no memory policy"]);
    }
    #[test]
    fn dry_run_that_replaces_an_enforced_policy_is_a_warning() {
        let found = |first: &str, second: &str| {
            let files = [("web.service", first.to_owned()), ("web.service.d/10.conf", second.to_owned())]
                .map(|(file, line)| (file, format!("X-MemoryBPFPolicy={line}")));
            let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (*file, text.as_str())).collect();
            sentences(&files, "web")
                .into_iter()
                .filter(|text| text.contains("switches off"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found("deny limit=64M", "deny limit=1M mode=dry-run"),
            ["web.service.d/10.conf:2: this dry run switches off 'deny limit=64M' of web.service:2"]
        );
        assert_eq!(found("deny limit=64M", "oom mode=dry-run"), [""; 0]);
        assert_eq!(found("deny limit=64M mode=dry-run", "deny limit=1M mode=dry-run"), [""; 0]);
        assert_eq!(found("deny limit=64M mode=dry-run", "deny limit=1M"), [""; 0]);
    }
}
