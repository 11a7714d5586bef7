//! What a check found.

use serde::Serialize;

use crate::cli::term::escape_line;
use crate::policy::catalog::Catalog;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::precedence::check_line;

/// Something that was found.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// True for an error, false for a note.
    pub wrong: bool,
    /// The whole sentence.
    pub sentence: String,
    /// The line with the error, if the position is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub error: Option<Diagnostic>,
}

impl Finding {
    pub fn sentence(wrong: bool, sentence: String) -> Self {
        Finding { wrong, sentence, line: None, error: None }
    }
}

/// The errors of one line; `location` is its file and line.
pub(super) fn findings_in_line(line: &str, catalog: &Catalog, location: Option<&str>) -> Vec<Finding> {
    check_line(line, catalog, None, location)
        .into_iter()
        .map(|error| Finding {
            wrong: true,
            sentence: escape_line(&error.to_string()),
            line: error.at.map(|_| line.to_owned()),
            error: Some(error),
        })
        .collect()
}
