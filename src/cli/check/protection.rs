//! `protect` below a slice that has no protection itself, as the slice is now.

use super::finding::Finding;
use crate::cli::find::protection;
use crate::cli::term::escape_line;
use crate::names::{CgroupPath, UnitName};
use crate::policy::catalog::Catalog;
use crate::policy::precedence::{AllowList, resolve};
use crate::source::specifier::Specifiers;
use crate::source::unit_policy::{PolicyClause, read_unit};
use crate::text::parse_bytes;

/// A warning for each clause whose protection a slice of the unit limits.
pub(super) fn unprotected_slices(
    unit: &UnitName,
    files: &[(String, String)],
    clauses: &[PolicyClause],
    catalog: &Catalog,
) -> Vec<Finding> {
    limited_by(unit, files, clauses, catalog, protection::note_for)
}

fn limited_by(
    unit: &UnitName,
    files: &[(String, String)],
    clauses: &[PolicyClause],
    catalog: &Catalog,
    note: impl Fn(&CgroupPath, u64) -> Option<String>,
) -> Vec<Finding> {
    let slice = read_unit(unit, files, &Specifiers::default()).slice.or_else(|| unit.default_slice());
    let cgroup = match slice {
        Some(slice) => unit.cgroup_path_in(&slice),
        None => match unit.slice_cgroup_path() {
            Some(path) => path,
            None => return Vec::new(),
        },
    };
    let warning = |clause: &PolicyClause| {
        let note = note(&cgroup, protected_bytes(clause, catalog)?)?;
        Some(Finding::warning(escape_line(&format!("{}: {note}", clause.location))))
    };
    clauses.iter().filter_map(warning).collect()
}

/// `low=` of protect. The value of a percentage is known only while the unit runs.
fn protected_bytes(clause: &PolicyClause, catalog: &Catalog) -> Option<u64> {
    let policies = resolve(&[clause.request()], catalog, &AllowList::default()).policies;
    let protect = policies.iter().find(|policy| policy.name == "protect")?;
    parse_bytes(protect.params.parameters.get("low")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;
    use crate::source::unit_policy::UnitClauses;

    fn warnings(unit: &str, lines: &str) -> Vec<String> {
        let unit = UnitName::parse(unit).unwrap();
        let files = [("x".to_owned(), lines.to_owned())];
        let clauses = UnitClauses::read(&unit, &files, &Specifiers::default()).effective;
        let note = |path: &CgroupPath, low| Some(format!("{path} {low}"));
        let found = limited_by(&unit, &files, &clauses, &fixture::catalog(), note);
        assert!(found.iter().all(|finding| !finding.wrong));
        found.into_iter().map(|finding| finding.sentence).collect()
    }

    #[test]
    fn protection_is_compared_with_the_slices_of_the_unit() {
        let line = "[Service]\nX-MemoryBPFPolicy=protect low=1M";
        assert_eq!(warnings("db.service", line), ["x:2: /system.slice/db.service 1048576"]);
        let slice = format!("{line}\nSlice=a-b.slice");
        assert_eq!(warnings("db.service", &slice), ["x:2: /a.slice/a-b.slice/db.service 1048576"]);
        let own = "[Slice]\nX-MemoryBPFPolicy=protect low=1M";
        assert_eq!(warnings("a-b.slice", own), ["x:2: /a.slice/a-b.slice 1048576"]);
        for line in ["protect low=50%", "deny limit=1M", "none"] {
            assert_eq!(warnings("db.service", &format!("[Service]\nX-MemoryBPFPolicy={line}")), [""; 0]);
        }
    }
}
