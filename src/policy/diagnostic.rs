//! An error in a text: location, offending word, valid values, closest match. Displayed as one sentence.

use std::fmt;

use serde::Serialize;

use super::request::{Origin, Request};
use crate::text::printable::{QUOTE_MAX, QUOTE_PATH_MAX, quote};

/// Number of errors reported for one line.
pub const DIAGNOSTICS_MAX: usize = 32;

/// An error in a text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Diagnostic {
    /// The origin of the request, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The location of the text: a file and line, a container, or a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Byte column in the policy line, from 0; displayed from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<usize>,
    /// The offending word, escaped.
    pub word: String,
    /// The message without the location.
    pub message: String,
    /// Valid values, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<String>,
    /// The closest valid value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Diagnostic {
    /// An error about `word`, which is escaped; `message` must be printable (see [`quote`]).
    pub fn new(word: &str, message: impl Into<String>) -> Self {
        Diagnostic { word: quote(word, QUOTE_MAX), message: message.into(), ..Diagnostic::default() }
    }

    /// Sets the byte column in the line.
    pub fn at(self, at: usize) -> Self {
        Diagnostic { at: Some(at), ..self }
    }

    /// Sets the valid values, in words.
    pub fn valid(self, valid: impl Into<String>) -> Self {
        Diagnostic { valid: Some(valid.into()), ..self }
    }

    /// Sets the closest valid value, if there is one.
    pub fn suggest(self, suggestion: Option<String>) -> Self {
        Diagnostic { suggestion, ..self }
    }

    /// Sets the location, which is escaped.
    pub fn in_location(self, location: &str) -> Self {
        Diagnostic { location: Some(quote(location, QUOTE_PATH_MAX)), ..self }
    }

    /// Sets origin and location to those of a request.
    pub fn in_request(self, request: &Request) -> Self {
        Diagnostic { origin: Some(request.origin), ..self.in_location(&request.location) }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut colon = "";
        match (self.origin, &self.location) {
            (Some(origin @ (Origin::Annotation | Origin::Xattr)), Some(place)) => {
                write!(f, "{origin} of {place}")?
            }
            (Some(origin), Some(place)) => write!(f, "{origin} {place}")?,
            (Some(origin), None) => write!(f, "{origin}")?,
            (None, Some(place)) => write!(f, "{place}")?,
            (None, None) => {}
        }
        let mut comma = "";
        if self.origin.is_some() || self.location.is_some() {
            (comma, colon) = (", ", ": ");
        }
        if let Some(at) = self.at {
            write!(f, "{comma}column {}", at.saturating_add(1))?;
            colon = ": ";
        }
        write!(f, "{colon}{}", self.message)?;
        match (&self.suggestion, &self.valid) {
            (Some(suggestion), _) => write!(f, "; did you mean '{suggestion}'?"),
            (None, Some(valid)) => write!(f, "; valid: {valid}"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The first [`DIAGNOSTICS_MAX`] errors, and the number of further ones.
pub(super) fn truncate(mut errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let more = errors.len().saturating_sub(DIAGNOSTICS_MAX);
    if more > 0 {
        errors.truncate(DIAGNOSTICS_MAX);
        errors.push(Diagnostic::new("", format!("and {more} more errors like these")));
    }
    errors
}

/// The candidate closest to a mistyped word, if one is close enough.
pub fn closest_match<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Longer words are not typos, and the cost of a comparison grows with the square of the length.
    if word.len() > QUOTE_MAX {
        return None;
    }
    let lower = word.to_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let name = candidate.to_lowercase().replace('_', "-");
            let distance = strsim::damerau_levenshtein(&lower, &name);
            let near = name.chars().count().max(lower.chars().count()).checked_div(3).unwrap_or(0).max(1);
            let begun = lower.len() >= 2 && name.starts_with(&lower);
            (begun || (distance <= near && distance < name.len())).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// `a, b and c`.
pub(super) fn join_with_and<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, init)) => format!("{} and {last}", init.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_are_escaped() {
        let word = |text: &str| Diagnostic::new(text, "").word;
        assert_eq!(crate::text::printable::passed(word), Vec::<String>::new());
        let location = |text: &str| Diagnostic::new("", "").in_location(text).location.unwrap();
        assert_eq!(crate::text::printable::passed(location), Vec::<String>::new());
    }

    #[test]
    fn diagnostic_is_one_sentence() {
        let error = Diagnostic::new("limt", "unknown parameter 'limt' of policy 'deny'")
            .at(5)
            .valid("limit and mode");
        assert_eq!(
            error.to_string(),
            "column 6: unknown parameter 'limt' of policy 'deny'; valid: limit and mode"
        );
        let error = Diagnostic { origin: Some(Origin::Annotation), ..error }
            .in_location("container 1f2e")
            .suggest(Some("limit".to_owned()));
        assert_eq!(
            error.to_string(),
            "annotation of container 1f2e, column 6: unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?"
        );
        assert_eq!(
            Diagnostic { origin: Some(Origin::DropIn), ..Diagnostic::new("", "broken") }
                .in_location("/etc/x:3\n")
                .to_string(),
            "drop-in /etc/x:3\\n: broken"
        );
        assert_eq!(Diagnostic::new("", "broken").to_string(), "broken");
    }

    #[test]
    fn words_from_outside_cannot_reach_the_terminal() {
        assert_eq!(quote("a\u{1b}[2J\u{202e}\n'", QUOTE_MAX), "a\\u{1b}[2J\\u{202e}\\n'");
        assert_eq!(quote(&"x".repeat(1 << 20), QUOTE_MAX).chars().count(), QUOTE_MAX + 1);
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["deny", "observe", "oom", "dry-run"];
        for (word, meant) in [
            ("den", Some("deny")),
            ("dney", Some("deny")),
            ("DENY", Some("deny")),
            ("obsreve", Some("observe")),
            ("dry_run", Some("dry-run")),
            ("obs", Some("observe")),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(closest_match(word, names).as_deref(), meant, "{word}");
        }
        assert_eq!(closest_match(&"d".repeat(1 << 20), names), None);
    }
}
