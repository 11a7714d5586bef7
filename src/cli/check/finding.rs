//! What a check found.

use serde::Serialize;

use crate::cli::term::escape_line;
use crate::policy::catalog::Catalog;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::precedence::check_line;

/// What a finding means for the exit status: only errors count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Error,
    Warning,
    Note,
}

/// Something that was found.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// True for an error.
    pub wrong: bool,
    pub severity: Severity,
    /// The whole sentence.
    pub sentence: String,
    /// The line with the error, if the position is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub error: Option<Diagnostic>,
}

impl Finding {
    pub fn error(sentence: String) -> Self {
        Self::new(Severity::Error, sentence)
    }

    pub fn warning(sentence: String) -> Self {
        Self::new(Severity::Warning, sentence)
    }

    pub fn note(sentence: String) -> Self {
        Self::new(Severity::Note, sentence)
    }

    fn new(severity: Severity, sentence: String) -> Self {
        Finding { wrong: severity == Severity::Error, severity, sentence, line: None, error: None }
    }
}

/// The errors of one line; `location` is its file and line.
pub(super) fn findings_in_line(line: &str, catalog: &Catalog, location: Option<&str>) -> Vec<Finding> {
    check_line(line, catalog, None, location)
        .into_iter()
        .map(|error| Finding {
            line: error.at.map(|_| line.to_owned()),
            error: Some(error.clone()),
            ..Finding::error(escape_line(&error.to_string()))
        })
        .collect()
}
