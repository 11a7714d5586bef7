//! The result of one check.

use serde::Serialize;

use crate::cli::term::escape_line;

/// The level of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckResult {
    Ok,
    /// Some features are unavailable.
    Warn,
    /// memcg-bpf does not work.
    Fail,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The subject.
    pub check: &'static str,
    pub verdict: CheckResult,
    /// The result, one sentence.
    pub message: String,
    /// The suggested fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Finding { check, verdict: CheckResult::Ok, message: message.into(), advice: None }
    }

    pub fn warn(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { check, verdict: CheckResult::Warn, message: message.into(), advice: Some(advice.into()) }
    }

    pub fn fail(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { check, verdict: CheckResult::Fail, message: message.into(), advice: Some(advice.into()) }
    }
}

/// A path for messages, without the root directory of tests.
pub(super) fn shown(path: &str) -> String {
    escape_line(&format!("/{}", path.trim_start_matches('/')))
}
