//! Sentences about each attached policy: its limits and their distance from the current usage. Every parameter that
//! is a size is compared with the usage.

use crate::policy::schema::{ParamKind, PolicySchema};
use crate::report::{AttachedPolicy, BindingReport};
use crate::text::{human_bytes, parse_bytes, parse_percent};

/// The sentences of a report.
pub fn explain(
    report: &BindingReport,
    schemas: &std::collections::BTreeMap<String, PolicySchema>,
) -> Vec<String> {
    let mut lines = Vec::new();
    match report.state.as_str() {
        "registered" => lines.push(
            "The cgroup does not exist yet; the policy is attached when it is created, before its first process."
                .to_owned(),
        ),
        "invalid" => lines.push("No policy is attached, because the request is invalid.".to_owned()),
        "failed" => lines.push("No policy is attached, because the kernel rejected it.".to_owned()),
        "none" => lines.push("No policy is attached, because the highest origin requests none.".to_owned()),
        _ => {}
    }
    for policy in &report.policies {
        lines.push(format!(
            "{} is attached, requested by {} ({}).",
            policy.name, policy.origin, policy.location
        ));
        for hook in &policy.missing_hooks {
            lines.push(format!("{} uses the hook '{hook}', which this kernel lacks.", policy.name));
        }
        if policy.parameters.get("mode").is_some_and(|mode| mode == "dry-run") {
            lines.push(format!("{} makes no changes, because of mode=dry-run.", policy.name));
        }
        if let Some(schema) = schemas.get(&policy.name) {
            lines.extend(
                schema
                    .params
                    .iter()
                    .filter(|p| p.kind == ParamKind::Size)
                    .filter_map(|param| limit_distance(report, policy, &param.name)),
            );
        }
    }
    lines.extend(overridden_requests(report));
    lines.extend(denial_summary(report));
    lines
}

/// The policies of an ancestor, which apply to its descendants as well.
pub fn inherited<N: AsRef<str>>(ancestor: &str, policies: impl IntoIterator<Item = N>) -> String {
    let names: Vec<String> = policies.into_iter().map(|name| name.as_ref().to_owned()).collect();
    format!("Inherited from: {ancestor} ({}).", names.join(", "))
}

/// "limit=90% of deny is 57.6M now; memory.current is 12M, 45.6M below it."
fn limit_distance(report: &BindingReport, policy: &AttachedPolicy, param: &str) -> Option<String> {
    let text = policy.parameters.get(param)?;
    let usage = report.usage?;
    let now = match parse_percent(text) {
        Ok(ppm) => {
            let scaled = u128::from(report.effective_max?).checked_mul(u128::from(ppm))?;
            u64::try_from(scaled.checked_div(1_000_000)?).ok()?
        }
        Err(_) => parse_bytes(text).ok()?,
    };
    if now == 0 {
        return None; // as a default it stands for no limit
    }
    let usage_words = human_bytes(usage);
    Some(match now.checked_sub(usage) {
        Some(room) => format!(
            "{param}={text} of {} is {} now; memory.current is {usage_words}, {} below it.",
            policy.name,
            human_bytes(now),
            human_bytes(room)
        ),
        None => format!(
            "{param}={text} of {} is {} now; memory.current is {usage_words}, {} above it.",
            policy.name,
            human_bytes(now),
            human_bytes(usage.saturating_sub(now))
        ),
    })
}

/// Requests that lost against a higher origin.
fn overridden_requests(report: &BindingReport) -> Vec<String> {
    let wins = |location: &str| report.policies.iter().any(|p| p.location == location);
    let lost = report
        .requests
        .iter()
        .filter(|r| report.errors.is_empty() && !wins(&r.location) && !r.line.is_empty());
    lost.filter(|r| r.line != "none")
        .map(|r| format!("'{}' from {} ({}) is overridden by a higher origin.", r.line, r.origin, r.location))
        .collect()
}

fn denial_summary(report: &BindingReport) -> Option<String> {
    let denied = report.counters.get("growth_denied").copied().unwrap_or(0);
    let dry = report.counters.get("growth_dry_run").copied().unwrap_or(0);
    match (report.state.as_str(), denied, dry) {
        ("active", 0, 0) => Some("No growth request has been denied.".to_owned()),
        ("active", denied, 0) => Some(format!("{denied} growth requests have been denied.")),
        ("active", denied, dry) => Some(format!(
            "{denied} growth requests have been denied, and {dry} more would have been denied without dry-run."
        )),
        _ => None,
    }
}
