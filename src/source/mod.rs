//! Carriers of policy lines: OCI state and annotations, unit files and drop-ins, records on cgroups.
//! Text in, requests with origins out. Reads no file itself.

pub mod container_cgroup;
pub mod oci_state;
pub mod specifier;
pub mod unit_file;
pub mod unit_policy;
pub mod xattr;

use crate::text::printable::{QUOTE_MAX, quote};

/// The beginning of a text from outside, made printable.
pub(crate) fn shown(text: &str) -> String {
    quote(text, QUOTE_MAX)
}

/// The same with another length, for texts that are sentences themselves.
pub(crate) fn shown_up_to(text: &str, limit: usize) -> String {
    quote(text, limit)
}

#[test]
fn hostile_characters_are_escaped() {
    assert_eq!(crate::text::printable::passed(shown), Vec::<String>::new());
}
