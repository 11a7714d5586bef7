//! Is a policy line in order? For `memcg-bpf check`, which asks before anything is in force.

use super::catalog::Catalog;
use super::fault::Fault;
use super::layer::{Allow, evaluate};
use super::request::Origin;

/// Everything that is wrong with a line, as it would be told if `origin` asked for it in `place`; empty when it is in
/// order. Without an origin, it is not judged who may ask for what.
pub fn lint_line(text: &str, catalog: &Catalog, origin: Option<Origin>, place: Option<&str>) -> Vec<Fault> {
    let faults = evaluate(text, origin, catalog, &Allow::default()).err().unwrap_or_default();
    let told = |fault: Fault| match place {
        Some(place) => fault.in_place(place),
        None => fault,
    };
    faults.into_iter().map(|fault| Fault { origin, ..told(fault) }).collect()
}
