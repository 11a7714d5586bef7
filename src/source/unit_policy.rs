//! The policy line of a systemd unit, from the texts of its files in systemd's own order.
//!
//! All spellings form one list, in the order of the files and of the lines in them. Assignments add up as systemd's
//! lists do; an empty one forgets all before it, as does `none`. Where two assignments name the same policy, the later
//! one replaces it with all its parameters.

use crate::names::{UnitKind, UnitName};
use crate::policy::line::{self, Line};
use crate::policy::request::{Origin, Request};
use crate::source::specifier::Specifiers;
use crate::source::unit_file::{self, Directive};
use crate::text::printable::{QUOTE_PATH_MAX, quote};

pub use crate::source::unit_file::{ParsedUnitFile, Spelling, directives, read};

/// Files of a unit that we read at most: fragment and drop-ins. Systemd itself has no limit.
pub const FILES_MAX: usize = 256;

/// Assignments of a unit that count at most: more than a person writes, few enough to compare each with each.
pub const ASSIGNMENTS_MAX: usize = 256;

/// One policy, or one text that is none, with its place.
struct PolicyClause {
    /// The policy's name; `None` for a text that does not parse, which is kept whole for its errors.
    name: Option<String>,
    text: String,
    location: String,
}

/// What the files ask for: the request, absent when nothing is assigned or all was reset, and warnings with file and
/// line about what does not count. `files` are pairs of path and text: the fragment, then the drop-ins as systemd
/// ordered them.
pub fn unit_policy(
    unit: &UnitName,
    files: &[(String, String)],
    specifiers: &Specifiers,
) -> (Option<Request>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut pieces: Vec<PolicyClause> = Vec::new();
    let mut none_at: Option<String> = None;
    if files.len() > FILES_MAX {
        warnings.push(format!(
            "{}: has {} files, of which the first {FILES_MAX} count",
            unit.as_str(),
            files.len()
        ));
    }
    let mut assignments = 0usize;
    for (path, text) in files.iter().take(FILES_MAX) {
        let reading = unit_file::read(unit.kind(), path, text);
        warnings.extend(reading.warnings);
        for Directive { value, line, .. } in reading.directives {
            let location = format!("{path}:{line}");
            let printable = format!("{}:{line}", quote(path, QUOTE_PATH_MAX));
            assignments = assignments.saturating_add(1);
            if assignments > ASSIGNMENTS_MAX {
                warnings.push(format!(
                    "{printable}: ignoring this and later assignments, more than {ASSIGNMENTS_MAX} for a unit"
                ));
                return (request(unit, &pieces, none_at), warnings);
            }
            let (value, unexpanded) = specifiers.expand(unit, &value);
            warnings.extend(unexpanded.into_iter().map(|what| format!("{printable}: {what}")));
            if value.is_empty() {
                pieces.clear();
                none_at = None;
                continue;
            }
            match line::parse(&value) {
                Ok(Line::None) => {
                    pieces.clear();
                    none_at = Some(location);
                }
                Ok(Line::Clauses(calls)) => {
                    none_at = None;
                    // Only earlier assignments are replaced: the same policy twice in one assignment is an error.
                    pieces
                        .retain(|piece| !calls.iter().any(|call| piece.name.as_deref() == Some(&call.name)));
                    let starts: Vec<usize> = calls.iter().map(|call| call.at).collect();
                    for (index, call) in calls.into_iter().enumerate() {
                        let next = starts.get(index.saturating_add(1)).copied();
                        let text = value.get(call.at..next.unwrap_or(value.len())).unwrap_or(&value);
                        let text = if next.is_some() { without_separator(text) } else { text };
                        pieces.push(PolicyClause {
                            name: Some(call.name),
                            text: text.to_owned(),
                            location: location.clone(),
                        });
                    }
                }
                Err(_) => {
                    none_at = None;
                    pieces.push(PolicyClause { name: None, text: value, location });
                }
            }
        }
    }
    (request(unit, &pieces, none_at), warnings)
}

/// The slice that the unit's files put it in, if they name one. Systemd expands more specifiers than we know; such a
/// slice counts as not named.
pub fn unit_slice(unit: &UnitName, files: &[(String, String)], specifiers: &Specifiers) -> Option<UnitName> {
    let readings = files.iter().take(FILES_MAX).map(|(path, text)| unit_file::read(unit.kind(), path, text));
    let slice = readings.filter_map(|reading| reading.slice).next_back()?;
    let (slice, _) = specifiers.expand(unit, &slice);
    UnitName::parse(&slice).ok().filter(|slice| slice.kind() == UnitKind::Slice)
}

/// A policy's text without the `;` that follows it and the space around that.
fn without_separator(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '\t']);
    let text = text.strip_suffix(';').unwrap_or(text);
    let trimmed = text.trim_end_matches([' ', '\t']);
    // A space after a backslash belongs to the value.
    if trimmed.ends_with('\\') { text } else { trimmed }
}

fn request(unit: &UnitName, pieces: &[PolicyClause], none_at: Option<String>) -> Option<Request> {
    let (location, line) = if pieces.is_empty() {
        (none_at?, "none".to_owned())
    } else {
        let mut places: Vec<&str> = pieces.iter().map(|piece| piece.location.as_str()).collect();
        places.dedup();
        let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        (places.join(", "), texts.join("; "))
    };
    Some(Request {
        origin: Origin::DropIn,
        location,
        line,
        container: None,
        unit: Some(unit.as_str().to_owned()),
    })
}

#[cfg(test)]
#[path = "unit_policy_tests.rs"]
mod tests;
