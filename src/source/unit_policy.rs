//! The policy line of a systemd unit, from the texts of its files in systemd's own order.
//!
//! All spellings form one list, in the order of the files and of the lines in them. Assignments add up as systemd's
//! lists do. An empty assignment and `none` reset all previous ones. If two assignments name the same policy, the later
//! one replaces the earlier one with all its parameters.

use crate::names::{UnitKind, UnitName};
use crate::policy::line::{self, Line};
use crate::policy::request::{Origin, Request};
use crate::source::specifier::Specifiers;
use crate::source::unit_file::{self, Directive};
use crate::text::printable::{QUOTE_PATH_MAX, quote};

pub use crate::source::unit_file::{ParsedUnitFile, Spelling, directives, read};

/// Limit of the number of files of a unit: fragment and drop-ins. systemd has no limit.
pub const FILES_MAX: usize = 256;

/// Limit of the number of assignments of a unit: more than a person writes, few enough to compare all pairs.
pub const ASSIGNMENTS_MAX: usize = 256;

/// A policy, or a text that does not parse, with its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyClause {
    /// The policy's name. `None` for a text that does not parse, which is kept as a whole for its errors.
    pub name: Option<String>,
    /// The text in the file, with specifiers expanded.
    pub text: String,
    /// File and line.
    pub location: String,
}

impl PolicyClause {
    /// The clause as a request of its own.
    pub fn request(&self) -> Request {
        Request {
            origin: Origin::DropIn,
            location: self.location.clone(),
            line: self.text.clone(),
            container: None,
            pod: None,
            unit: None,
        }
    }
}

/// How a later assignment of a unit replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacement {
    /// It is empty or `none`.
    Reset,
    /// It names the same policy.
    Override,
}

/// A clause that a later assignment replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedClause {
    /// The clause.
    pub clause: PolicyClause,
    /// How it was replaced.
    pub how: Replacement,
    /// File and line of the later assignment.
    pub by: String,
}

/// The clauses in the files of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitClauses {
    /// The effective clauses, in order.
    pub effective: Vec<PolicyClause>,
    /// The replaced clauses, in the order of their replacement.
    pub replaced: Vec<ReplacedClause>,
    /// Warnings about other ignored lines, with file and line.
    pub warnings: Vec<String>,
    /// The location of an effective `none`. There is no other effective clause then.
    none_at: Option<String>,
    /// The last `Slice=`, with its specifiers.
    slice: Option<String>,
}

/// The contents of a unit's files, as far as they concern its memory policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitReading {
    /// The request. `None` if nothing is assigned, or all assignments are reset.
    pub request: Option<Request>,
    /// The slice of the unit, if the files name one. systemd expands more specifiers; a slice with one of these is
    /// omitted.
    pub slice: Option<UnitName>,
    /// Warnings about ignored lines, with file and line.
    pub warnings: Vec<String>,
}

impl UnitClauses {
    /// Reads the files: pairs of path and text, the fragment, then the drop-ins as systemd ordered them.
    pub fn read(unit: &UnitName, files: &[(String, String)], specifiers: &Specifiers) -> Self {
        let mut clauses = UnitClauses::default();
        if files.len() > FILES_MAX {
            clauses.warnings.push(format!(
                "{}: has {} files, of which the first {FILES_MAX} count",
                unit.as_str(),
                files.len()
            ));
        }
        let mut assignments = 0usize;
        for (path, text) in files.iter().take(FILES_MAX) {
            let reading = unit_file::read(unit.kind(), path, text);
            clauses.slice = reading.slice.or(clauses.slice);
            if assignments > ASSIGNMENTS_MAX {
                continue;
            }
            clauses.warnings.extend(reading.warnings);
            for Directive { value, line, .. } in reading.directives {
                let printable = format!("{}:{line}", quote(path, QUOTE_PATH_MAX));
                assignments = assignments.saturating_add(1);
                if assignments > ASSIGNMENTS_MAX {
                    clauses.warnings.push(format!(
                        "{printable}: ignoring this and later assignments, more than {ASSIGNMENTS_MAX} for a unit"
                    ));
                    break;
                }
                let (value, unexpanded) = specifiers.expand(unit, &value);
                clauses.warnings.extend(unexpanded.into_iter().map(|what| format!("{printable}: {what}")));
                clauses.assign(value, &format!("{path}:{line}"));
            }
        }
        clauses
    }

    /// Adds an assignment to the previous ones.
    fn assign(&mut self, value: String, location: &str) {
        if value.is_empty() {
            self.replace(Replacement::Reset, location, |_| true);
            return;
        }
        match line::parse(&value) {
            Ok(Line::None) => {
                self.replace(Replacement::Reset, location, |_| true);
                self.none_at = Some(location.to_owned());
            }
            Ok(Line::Clauses(calls)) => {
                // Only earlier assignments are replaced: the same policy twice in one assignment is an error.
                let named =
                    |piece: &PolicyClause| calls.iter().any(|c| piece.name.as_deref() == Some(&c.name));
                self.replace(Replacement::Override, location, named);
                let texts = line::clause_texts(&value, &calls);
                let location = location.to_owned();
                self.effective.extend(calls.into_iter().zip(texts).map(|(call, text)| PolicyClause {
                    name: Some(call.name),
                    text,
                    location: location.clone(),
                }));
            }
            Err(_) => {
                self.replace(Replacement::Override, location, |_| false);
                let location = location.to_owned();
                self.effective.push(PolicyClause { name: None, text: value, location });
            }
        }
    }

    /// The effective `none`.
    pub fn none(&self) -> Option<PolicyClause> {
        let (name, text) = (Some("none".to_owned()), "none".to_owned());
        self.none_at.clone().map(|location| PolicyClause { name, text, location })
    }

    /// Replaces the matching clauses, and an earlier `none`.
    fn replace(&mut self, how: Replacement, by: &str, matches: impl Fn(&PolicyClause) -> bool) {
        let none = self.none();
        self.none_at = None;
        let (gone, kept) = std::mem::take(&mut self.effective).into_iter().partition(matches);
        self.effective = kept;
        let gone: Vec<PolicyClause> = gone;
        let replaced = |clause| ReplacedClause { clause, how, by: by.to_owned() };
        self.replaced.extend(none.into_iter().chain(gone).map(replaced));
    }
}

/// Reads the files of a unit: pairs of path and text, the fragment, then the drop-ins as systemd ordered them.
pub fn read_unit(unit: &UnitName, files: &[(String, String)], specifiers: &Specifiers) -> UnitReading {
    let UnitClauses { effective, warnings, none_at, slice, .. } = UnitClauses::read(unit, files, specifiers);
    let slice = slice.and_then(|slice| UnitName::parse(&specifiers.expand(unit, &slice).0).ok());
    UnitReading {
        request: request(unit, &effective, none_at),
        slice: slice.filter(|slice| slice.kind() == UnitKind::Slice),
        warnings,
    }
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
        pod: None,
        unit: Some(unit.as_str().to_owned()),
    })
}

#[cfg(test)]
#[path = "unit_policy_tests.rs"]
mod tests;
