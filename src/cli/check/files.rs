//! Reading the unit files that are to be checked.

use std::path::Path;

use super::finding::{Finding, findings_in_line};
use super::inert::inert_parameters;
use super::protection::unprotected_slices;
use super::quadlet::{QUADLET, findings_in_annotations, service_without_container};
use crate::cli::term::escape_line;
use crate::files;
use crate::names::{ROOT_SLICE, UnitKind, UnitName};
use crate::policy::catalog::Catalog;
use crate::source::specifier::Specifiers;
use crate::source::unit_file::{self, Spelling};
use crate::source::unit_policy::UnitClauses;
use crate::systemd::UNIT_FILE_MAX;

/// The note about files without a policy.
pub(super) const WITHOUT_POLICY: &str = "no memory policy";

/// All errors in a unit file or drop-in.
pub(super) fn findings_in_file(path: &Path, catalog: &Catalog) -> Vec<Finding> {
    let shown = escape_line(&path.to_string_lossy());
    let Some((kind, unit)) = unit_of(path) else {
        return vec![Finding::error(format!(
            "{shown}: not a unit file; the name must be x.service, x.slice, x.scope, or x.service.d/y.conf for a drop-in"
        ))];
    };
    let text = match files::read_text(path, UNIT_FILE_MAX) {
        Ok(text) => text,
        Err(error) => return vec![Finding::error(format!("{shown}: {error}"))],
    };
    let (mut findings, mut lines) = findings_in_text(kind, &unit, &shown, &text, catalog);
    if path.extension().is_some_and(|ending| ending == "container") {
        let (found, policies) = findings_in_annotations(&shown, &text, catalog);
        findings.extend(found);
        lines = lines.saturating_add(policies);
    }
    let texts = [(shown.clone(), text)];
    let clauses = UnitClauses::read(&unit, &texts, &Specifiers::default()).effective;
    findings.extend(inert_parameters(kind, &texts, &clauses, catalog));
    findings.extend(unprotected_slices(&unit, &texts, &clauses, catalog));
    if unit.is_root_slice() && lines > 0 {
        findings.push(Finding::warning(format!("{shown}: the root cgroup cannot have a policy")));
    }
    if findings.is_empty() && lines == 0 {
        findings.push(Finding::note(format!("{shown}: {WITHOUT_POLICY}")));
    }
    findings
}

/// All errors in the text of a file, and the number of its lines with a policy.
pub(super) fn findings_in_text(
    kind: UnitKind,
    unit: &UnitName,
    shown: &str,
    text: &str,
    catalog: &Catalog,
) -> (Vec<Finding>, usize) {
    let reading = unit_file::read(kind, shown, text);
    let mut findings: Vec<Finding> =
        reading.warnings.iter().map(|warning| Finding::error(escape_line(warning))).collect();
    let ending = Path::new(shown).extension().and_then(|ending| ending.to_str()).unwrap_or("");
    let without_container = service_without_container(ending);
    for directive in &reading.directives {
        let location = format!("{shown}:{}", directive.line);
        if directive.spelling == Spelling::Bare {
            findings.push(Finding::note(format!(
                "{location}: systemd logs a warning about this key at every load; use X-MemoryBPFPolicy= instead"
            )));
        }
        let (line, unexpanded) = Specifiers::default().expand(unit, &directive.value);
        findings.extend(
            unexpanded.iter().map(|what| Finding::error(format!("{location}: {}", escape_line(what)))),
        );
        findings.extend(findings_in_line(&line, catalog, Some(&location)));
        if let Some(why) = &without_container {
            findings.push(Finding::warning(format!("{location}: {why}")));
        }
    }
    (findings, reading.directives.len())
}

/// What kind of unit a file is about, and a name to expand specifiers with. A drop-in's directory says it.
fn unit_of(path: &Path) -> Option<(UnitKind, UnitName)> {
    let name = path.file_name()?.to_str()?;
    let unit = if name.ends_with(".conf") {
        std::path::absolute(path).ok()?.parent()?.file_name()?.to_str()?.strip_suffix(".d")?.to_owned()
    } else {
        name.to_owned()
    };
    // `service.d` and `foo-.service.d` speak for many units; any name of theirs serves.
    let (stem, ending) = unit.rsplit_once('.').unwrap_or(("", &unit));
    let kind = match ending {
        "service" => UnitKind::Service,
        "slice" => UnitKind::Slice,
        "scope" => UnitKind::Scope,
        ending if QUADLET.contains(&ending) => UnitKind::Service,
        _ => return None,
    };
    if unit == ROOT_SLICE {
        return Some((kind, UnitName::parse(&unit).ok()?));
    }
    let stem = if stem.is_empty() || stem.ends_with('-') { format!("{stem}x") } else { stem.to_owned() };
    Some((kind, UnitName::parse(&format!("{stem}.{}", kind.suffix())).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(name: &str, text: &str) -> Vec<(bool, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let prefix = format!("{}/", dir.path().display());
        findings_in_file(&path, &Catalog::default())
            .into_iter()
            .map(|finding| (finding.wrong, finding.sentence.replace(&prefix, "")))
            .collect()
    }

    #[test]
    fn error_has_file_and_line() {
        let found = sentences("x.service.d/a.conf", "[Service]\nX-MemoryBPFPolicy=dney limit=1M\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 && found[0].1.starts_with("x.service.d/a.conf:2"), "{found:?}");
    }

    #[test]
    fn the_loud_spelling_is_noted_but_not_wrong() {
        let found = sentences("x.slice", "[Slice]\nMemoryBPFPolicy=none\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!found[0].0 && found[0].1.contains("X-MemoryBPFPolicy="), "{found:?}");
    }

    #[test]
    fn non_unit_files_are_rejected() {
        assert!(sentences("notes.txt", "")[0].1.contains("not a unit file"));
        assert!(sentences("x.conf", "")[0].1.contains("not a unit file"));
        let device = findings_in_file(Path::new("/dev/zero"), &Catalog::default());
        assert!(device[0].wrong);
        let missing = findings_in_file(Path::new("/nonexistent/x.service"), &Catalog::default());
        assert!(missing[0].sentence.contains("No such file"), "{}", missing[0].sentence);
    }

    #[test]
    fn annotations_of_a_quadlet_are_checked() {
        let text =
            "[Container]\nAnnotation=memcg.bpf/policy=deny limit=64M\n[Service]\nX-MemoryBPFPolicy=none\n";
        let found = sentences("solo.container", text);
        assert!(found[0].0 && found[0].1.starts_with("solo.container:2: podman splits"), "{found:?}");
        let quoted = "[Container]\nAnnotation=\"memcg.bpf/policy=none\"\n";
        assert_eq!(sentences("solo.container", quoted), []);
        assert!(sentences("solo.container", "[Container]\n")[0].1.contains("no memory policy"));
    }

    #[test]
    fn limit_beyond_memory_max_of_the_file_is_a_warning() {
        let text = "[Service]\nMemoryMax=1G\nX-MemoryBPFPolicy=deny limit=2G\n";
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.service"), text).unwrap();
        let found = findings_in_file(&dir.path().join("x.service"), &crate::policy::fixture::catalog());
        assert!(!found[0].wrong && found[0].sentence.contains("is above MemoryMax=1G"), "{found:?}");
    }

    #[test]
    fn line_on_the_root_slice_is_a_warning() {
        let found = sentences("-.slice.d/1.conf", "[Slice]\nX-MemoryBPFPolicy=none\n");
        assert_eq!(found, [(false, "-.slice.d/1.conf: the root cgroup cannot have a policy".to_owned())]);
    }

    #[test]
    fn policy_for_helpers_of_a_pod_is_a_warning() {
        for (file, instead) in
            [("grp.pod", "Annotation=\"memcg.bpf/policy=…\" in"), ("app.kube", "metadata.annotations")]
        {
            let found = sentences(file, "[Pod]\n[Service]\nX-MemoryBPFPolicy=none\n");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(!found[0].0 && found[0].1.contains("holds only helpers of podman"), "{found:?}");
            assert!(
                found[0].1.starts_with(&format!("{file}:3: ")) && found[0].1.contains(instead),
                "{found:?}"
            );
            assert!(sentences(file, "[Pod]\n")[0].1.contains("no memory policy"));
        }
    }

    #[test]
    fn directories_for_many_units_are_understood() {
        for (file, name) in [
            ("/etc/systemd/system/service.d/a.conf", "x.service"),
            ("/etc/systemd/system/libpod-.scope.d/a.conf", "libpod-x.scope"),
            ("/etc/systemd/system/web@.service", "web@.service"),
            ("/etc/containers/systemd/web.container", "web.service"),
        ] {
            assert_eq!(unit_of(Path::new(file)).unwrap().1.as_str(), name, "{file}");
        }
    }
}
