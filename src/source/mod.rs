//! Carriers of policy lines: OCI state and annotations, unit files and drop-ins, records on cgroups.
//! Text in, requests with origins out. Reads no file itself.

pub mod container_cgroup;
pub mod oci_state;
pub mod specifier;
pub mod unit_file;
pub mod unit_policy;
pub mod xattr;

/// Characters of a foreign text that a sentence shows: enough to recognise it, too few to flood a journal.
const SHOWN_CHARS: usize = 64;

/// A text from outside, fit for a one-line sentence: control characters escaped, cut after [`SHOWN_CHARS`].
pub(crate) fn shown(text: &str) -> String {
    shown_up_to(text, SHOWN_CHARS)
}

/// The same with another length, for texts that are sentences themselves.
pub(crate) fn shown_up_to(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= limit {
            out.push('…');
            break;
        }
        // Bidirectional overrides and the like can make a terminal show another text than the one written.
        let invisible = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || invisible { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
