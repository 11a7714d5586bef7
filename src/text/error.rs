//! Why a text is not a quantity.

use thiserror::Error;

/// Longest suggestion in bytes: the longest number there is, with a suffix.
const SUGGESTION_MAX: usize = 32;

/// Why a text is not a quantity. The display has the reason and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}; valid: {valid}")]
pub struct UnitError {
    /// The reason: `it is empty`.
    pub reason: String,
    /// What would be valid, in words.
    pub valid: &'static str,
    /// The same quantity spelled correctly, if it can be guessed: `64M` for `64m`.
    pub suggestion: Option<String>,
}

impl UnitError {
    pub(super) fn new(valid: &'static str, reason: impl Into<String>) -> Self {
        UnitError { reason: reason.into(), valid, suggestion: None }
    }

    /// Adds a suggestion, unless it is long: a number of a hundred digits is not meant.
    pub(super) fn suggest(self, suggestion: Option<String>) -> Self {
        UnitError { suggestion: suggestion.filter(|text| text.len() <= SUGGESTION_MAX), ..self }
    }
}
