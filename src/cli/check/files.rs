//! Reading the unit files that are to be checked.

use std::path::Path;

use super::finding::{Finding, findings_in_line};
use crate::cli::term::escape_line;
use crate::files;
use crate::names::{UnitKind, UnitName};
use crate::policy::catalog::Catalog;
use crate::source::specifier::Specifiers;
use crate::source::unit_file::{self, Spelling};
use crate::systemd::UNIT_FILE_MAX;

/// Podman's Quadlet makes services from such files and copies their `[Service]` section.
const QUADLET: [&str; 5] = ["container", "pod", "kube", "volume", "network"];

/// All errors in a unit file or drop-in.
pub(super) fn findings_in_unit(path: &Path, catalog: &Catalog) -> Vec<Finding> {
    let shown = escape_line(&path.to_string_lossy());
    let Some((kind, unit)) = unit_of(path) else {
        return vec![Finding::sentence(
            true,
            format!(
                "{shown}: not a unit file; the name must be x.service, x.slice, x.scope, or x.service.d/y.conf for a drop-in"
            ),
        )];
    };
    let text = match files::read_text(path, UNIT_FILE_MAX) {
        Ok(text) => text,
        Err(error) => return vec![Finding::sentence(true, format!("{shown}: {error}"))],
    };
    let reading = unit_file::read(kind, &shown, &text);
    let mut findings: Vec<Finding> =
        reading.warnings.iter().map(|warning| Finding::sentence(true, escape_line(warning))).collect();
    for directive in &reading.directives {
        let location = format!("{shown}:{}", directive.line);
        if directive.spelling == Spelling::Bare {
            findings.push(Finding::sentence(
                false,
                format!("{location}: systemd logs a warning about this key at every load; use X-MemoryBPFPolicy= instead"),
            ));
        }
        let (line, unexpanded) = Specifiers::default().expand(&unit, &directive.value);
        findings.extend(
            unexpanded
                .iter()
                .map(|what| Finding::sentence(true, format!("{location}: {}", escape_line(what)))),
        );
        findings.extend(findings_in_line(&line, catalog, Some(&location)));
    }
    if findings.is_empty() && reading.directives.is_empty() {
        findings.push(Finding::sentence(false, format!("{shown}: no memory policy")));
    }
    findings
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
        findings_in_unit(&path, &Catalog::default())
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
        let device = findings_in_unit(Path::new("/dev/zero"), &Catalog::default());
        assert!(device[0].wrong);
        let missing = findings_in_unit(Path::new("/nonexistent/x.service"), &Catalog::default());
        assert!(missing[0].sentence.contains("No such file"), "{}", missing[0].sentence);
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
