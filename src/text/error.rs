//! The error of a text that is not a quantity.

use thiserror::Error;

/// Longest suggestion in bytes: the longest number, with a suffix.
const SUGGESTION_MAX: usize = 32;

/// Why a text is not a quantity. The display has the reason and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}; valid: {valid}")]
pub struct UnitError {
    /// The reason: `it is empty`.
    pub reason: String,
    /// Valid values, in words.
    pub valid: &'static str,
    /// The corrected spelling, if it can be guessed: `64M` for `64m`.
    pub suggestion: Option<String>,
}

impl UnitError {
    pub(super) fn new(valid: &'static str, reason: impl Into<String>) -> Self {
        UnitError { reason: reason.into(), valid, suggestion: None }
    }

    /// Adds a suggestion, unless it is longer than 32 bytes.
    pub(super) fn suggest(self, suggestion: Option<String>) -> Self {
        UnitError { suggestion: suggestion.filter(|text| text.len() <= SUGGESTION_MAX), ..self }
    }
}
