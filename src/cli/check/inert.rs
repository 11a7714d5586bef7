//! Parameters that can have no effect, because a limit of the same unit is reached first.

use super::finding::Finding;
use crate::cli::term::escape_line;
use crate::names::UnitKind;
use crate::policy::catalog::Catalog;
use crate::policy::precedence::{AllowList, resolve};
use crate::source::unit_policy::PolicyClause;
use crate::text::ini::{Item, items};
use crate::text::parse_bytes;

/// Limits of a unit in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Limits {
    max: Option<Limit>,
    high: Option<Limit>,
}

#[derive(Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    /// `MemoryMax=1G`.
    text: String,
}

/// A warning for each clause that can have no effect under the limits in the unit's files.
pub(super) fn inert_parameters(
    kind: UnitKind,
    files: &[(String, String)],
    clauses: &[PolicyClause],
    catalog: &Catalog,
) -> Vec<Finding> {
    let limits = limits(kind, files);
    clauses.iter().flat_map(|clause| inert_in(clause, &limits, catalog)).collect()
}

fn inert_in(clause: &PolicyClause, limits: &Limits, catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    for policy in resolve(&[clause.request()], catalog, &AllowList::default()).policies {
        // Percentages follow the limit.
        let param = |name: &str| {
            let text = policy.params.parameters.get(name)?;
            Some((parse_bytes(text).ok()?, format!("{name}={text}")))
        };
        let mut report = |text: &str, reason: String| {
            let (location, name) = (&clause.location, &policy.name);
            findings.push(Finding::warning(escape_line(&format!("{location}: {text} of {name} {reason}"))));
        };
        let (max, high) = (limits.max.as_ref(), limits.high.as_ref());
        match policy.name.as_str() {
            "deny" => {
                if let (Some((bytes, text)), Some(max)) = (param("limit"), max)
                    && bytes > max.bytes
                {
                    report(&text, format!("is above {}: the kernel kills before usage reaches it", max.text));
                }
            }
            "oom" => {
                if let (Some((bytes, text)), Some(max)) = (param("usage"), max)
                    && bytes > max.bytes
                {
                    report(&text, format!("is above {}: it is never reached", max.text));
                }
            }
            "throttle" => {
                let floor = param("floor");
                let target = param("high").filter(|(bytes, _)| *bytes > 0).max(floor);
                if let Some((bytes, text)) = target
                    && let Some(limit) =
                        high.filter(|high| bytes >= high.bytes).or(max.filter(|max| bytes > max.bytes))
                {
                    report(&text, format!("is not below {}: memory.high is never lowered", limit.text));
                }
            }
            "reclaim" => {
                if let (Some((bytes, text)), Some(max)) = (param("floor"), max)
                    && bytes >= max.bytes
                {
                    report(&text, format!("is not below {}: nothing is ever reclaimed", max.text));
                }
            }
            _ => {}
        }
    }
    findings
}

/// The last assignments of the limits. Percentages of the machine's memory are not compared.
fn limits(kind: UnitKind, files: &[(String, String)]) -> Limits {
    let mut limits = Limits::default();
    for (_, text) in files {
        let mut section = String::new();
        for (_, item) in items(text) {
            match item {
                Item::Section(name) => section = name,
                Item::Assignment(key, value) if section == kind.section() => {
                    let limit = parse_bytes(&value).ok();
                    let limit = limit.map(|bytes| Limit { bytes, text: format!("{key}={value}") });
                    match key.as_str() {
                        "MemoryMax" => limits.max = limit,
                        "MemoryHigh" => limits.high = limit,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cli::find::installed::ObjectDir;
    use crate::names::UnitName;
    use crate::source::specifier::Specifiers;
    use crate::source::unit_policy::UnitClauses;

    /// The warnings about a service with these lines in `[Service]`, for the built policies.
    fn warnings(lines: &str) -> Vec<String> {
        let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bpf"));
        let policies = ObjectDir::in_dir(built).read().schemas;
        assert!(policies.contains_key("throttle"), "run 'make bpf' first");
        let catalog = Catalog { policies, ..Catalog::default() };
        let unit = UnitName::parse("x.service").unwrap();
        let files = [("x".to_owned(), format!("[Service]\n{lines}\n"))];
        let clauses = UnitClauses::read(&unit, &files, &Specifiers::default()).effective;
        let found = inert_parameters(unit.kind(), &files, &clauses, &catalog);
        assert!(found.iter().all(|finding| !finding.wrong));
        found.into_iter().map(|finding| finding.sentence).collect()
    }

    #[test]
    fn parameter_beyond_a_limit_of_the_unit_is_a_warning() {
        for (lines, warning) in [
            (
                "MemoryMax=100M\nX-MemoryBPFPolicy=deny limit=128M",
                "x:3: limit=128M of deny is above MemoryMax=100M: the kernel kills before usage reaches it",
            ),
            (
                "X-MemoryBPFPolicy=observe; oom usage=2G\nMemoryMax=1G",
                "x:2: usage=2G of oom is above MemoryMax=1G: it is never reached",
            ),
            (
                "MemoryHigh=64M\nX-MemoryBPFPolicy=throttle",
                "x:3: floor=64M of throttle is not below MemoryHigh=64M: memory.high is never lowered",
            ),
            (
                "MemoryMax=1G\nX-MemoryBPFPolicy=throttle floor=2G",
                "x:3: floor=2G of throttle is not below MemoryMax=1G: memory.high is never lowered",
            ),
            (
                "MemoryHigh=1G\nX-MemoryBPFPolicy=throttle high=2G",
                "x:3: high=2G of throttle is not below MemoryHigh=1G: memory.high is never lowered",
            ),
            (
                "MemoryMax=16M\nX-MemoryBPFPolicy=reclaim",
                "x:3: floor=16M of reclaim is not below MemoryMax=16M: nothing is ever reclaimed",
            ),
        ] {
            assert_eq!(warnings(lines), [warning], "{lines}");
        }
    }

    #[test]
    fn parameter_that_can_have_an_effect_is_no_warning() {
        for lines in [
            "X-MemoryBPFPolicy=deny limit=128M",
            "MemoryMax=128M\nX-MemoryBPFPolicy=deny limit=128M",
            "MemoryMax=100M\nMemoryMax=1G\nX-MemoryBPFPolicy=deny limit=128M",
            "MemoryMax=100M\nMemoryMax=infinity\nX-MemoryBPFPolicy=deny limit=128M",
            "MemoryMax=10%\nX-MemoryBPFPolicy=deny limit=128M; oom usage=1G",
            "MemoryMax=100M\nX-MemoryBPFPolicy=deny limit=90%; oom",
            "MemoryHigh=100M\nX-MemoryBPFPolicy=throttle",
            "MemoryHigh=100M\nX-MemoryBPFPolicy=deny limit=128M",
            "MemoryMax=100M\nX-MemoryBPFPolicy=deny limit=128M\nX-MemoryBPFPolicy=none",
        ] {
            assert_eq!(warnings(lines), [""; 0], "{lines}");
        }
    }
}
