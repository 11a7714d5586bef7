//! The result of a subcommand.

use super::term::Style;

/// Text for standard output and the exit status.
#[derive(Debug)]
pub(super) struct Output {
    pub text: String,
    /// True for exit status 0, false for 1.
    pub success: bool,
    /// The style of a line on a terminal with colours.
    pub style: fn(&str) -> Option<Style>,
}

impl Output {
    pub fn success(text: String) -> Self {
        Output { text, success: true, style: |_| None }
    }
}
