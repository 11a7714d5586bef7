//! Is a policy line in order? For `memcg-bpf check`, which asks before anything is in force.

use super::catalog::Catalog;
use super::fault::Diagnostic;
use super::layer::{AllowList, parse_and_check};
use super::request::Origin;

/// Everything that is wrong with a line, as it would be told if `origin` asked for it in `place`; empty when it is in
/// order. Without an origin, it is not judged who may ask for what.
pub fn lint_line(
    text: &str,
    catalog: &Catalog,
    origin: Option<Origin>,
    place: Option<&str>,
) -> Vec<Diagnostic> {
    let faults = parse_and_check(text, origin, catalog, &AllowList::default()).err().unwrap_or_default();
    let told = |fault: Diagnostic| match place {
        Some(place) => fault.in_place(place),
        None => fault,
    };
    faults.into_iter().map(|fault| Diagnostic { origin, ..told(fault) }).collect()
}
