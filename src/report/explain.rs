//! Sentences about each attached policy: its limits and their distance from the current usage. Every parameter that
//! is a size is compared with the usage.

use crate::policy::catalog::Catalog;
use crate::policy::line::{self, Clause, Line};
use crate::policy::schema::ParamKind;
use crate::report::{AttachedPolicy, BindingReport, RequestReport};
use crate::text::{human_bytes, parse_bytes, parse_percent};

/// The sentences of a report.
pub fn explain(report: &BindingReport, catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    match report.state.as_str() {
        "registered" => lines.push(
            "The cgroup does not exist; the policy is attached when it is created, before its first process."
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
        if let Some(schema) = catalog.policies.get(&policy.name) {
            lines.extend(
                schema
                    .params
                    .iter()
                    .filter(|p| p.kind == ParamKind::Size)
                    .filter_map(|param| limit_distance(report, policy, &param.name)),
            );
        }
    }
    lines.extend(overridden_requests(report, catalog));
    lines.extend(denial_summary(report));
    lines
}

/// The policies of an ancestor, which apply to its descendants as well.
pub fn inherited<N: AsRef<str>>(ancestor: &str, policies: impl IntoIterator<Item = N>) -> String {
    let names: Vec<String> = policies.into_iter().map(|name| name.as_ref().to_owned()).collect();
    format!("Inherited from: {ancestor} ({}).", names.join(", "))
}

/// The value of a parameter that is a size, now. `None` for 0, which stands for no limit as a default.
pub fn size_now(report: &BindingReport, policy: &AttachedPolicy, param: &str) -> Option<u64> {
    let text = policy.parameters.get(param)?;
    let now = match parse_percent(text) {
        Ok(ppm) => {
            let scaled = u128::from(report.effective_max?).checked_mul(u128::from(ppm))?;
            u64::try_from(scaled.checked_div(1_000_000)?).ok()?
        }
        Err(_) => parse_bytes(text).ok()?,
    };
    (now > 0).then_some(now)
}

/// The limit that usage reaches first: the lowest `limit=` of an enforced policy, or the effective maximum.
pub fn nearest_limit(report: &BindingReport) -> Option<u64> {
    let is_enforced =
        |policy: &&AttachedPolicy| policy.parameters.get("mode").is_none_or(|mode| mode != "dry-run");
    let enforced = report.policies.iter().filter(is_enforced);
    enforced.filter_map(|policy| size_now(report, policy, "limit")).chain(report.effective_max).min()
}

/// "limit=90% of deny is 57.6M now; memory.current is 12M, 45.6M below it."
fn limit_distance(report: &BindingReport, policy: &AttachedPolicy, param: &str) -> Option<String> {
    let text = policy.parameters.get(param)?;
    let usage = report.usage?;
    let now = size_now(report, policy, param)?;
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

/// Requests, or the parts of them, that lost against other requests.
fn overridden_requests(report: &BindingReport, catalog: &Catalog) -> Vec<String> {
    if !report.errors.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let mut none: Option<&RequestReport> = None;
    // The highest origin comes first.
    for request in &report.requests {
        let Ok(Line::Clauses(clauses)) = line::parse(&request.line) else {
            none = none.or(Some(request));
            continue;
        };
        let texts = line::clause_texts(&request.line, &clauses);
        // Parts that lost against the same request are named together.
        let mut lost: Vec<(Vec<String>, String)> = Vec::new();
        for (clause, text) in clauses.iter().zip(texts) {
            for (part, by) in lost_parts(report, request, none, clause, &text, catalog) {
                match lost.iter_mut().find(|(_, other)| *other == by) {
                    Some((parts, _)) => parts.push(part),
                    None => lost.push((vec![part], by)),
                }
            }
        }
        lines.extend(lost.into_iter().map(|(parts, by)| {
            let (text, origin, location) = (parts.join("; "), &request.origin, &request.location);
            format!("'{text}' from {origin} ({location}) is overridden by {by}.")
        }));
    }
    lines
}

/// What of a clause is not attached, and the request against which it lost. Of a profile, its policies one by one.
fn lost_parts(
    report: &BindingReport,
    request: &RequestReport,
    none: Option<&RequestReport>,
    clause: &Clause,
    text: &str,
    catalog: &Catalog,
) -> Vec<(String, String)> {
    // The `none` of an origin discards the requests of lower origins only.
    let none = none.filter(|none| none.origin != request.origin);
    let by = |name: &str| match report.policies.iter().find(|policy| policy.name == name) {
        Some(policy) if policy.origin != request.origin => {
            Some(format!("a higher origin: {} ({})", policy.origin, policy.location))
        }
        Some(policy) if policy.location != request.location => {
            Some(format!("a later request: {}", policy.location))
        }
        Some(_) => None,
        None => none.map(|none| format!("a higher origin: none from {} ({})", none.origin, none.location)),
    };
    if !catalog.profiles.contains_key(&clause.name) {
        return by(&clause.name).map(|by| (text.to_owned(), by)).into_iter().collect();
    }
    let members = catalog.expand(&Line::Clauses(vec![clause.clone()])).unwrap_or_default();
    let lost: Vec<(String, String)> =
        members.iter().filter_map(|member| Some((member.name.clone(), by(&member.name)?))).collect();
    match lost.first() {
        Some((_, by)) if lost.len() == members.len() && lost.iter().all(|(_, other)| other == by) => {
            vec![(text.to_owned(), by.clone())]
        }
        _ => lost.into_iter().map(|(name, by)| (format!("{name} of {text}"), by)).collect(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_limit_is_the_lowest_that_is_enforced() {
        let policy = |limit: &str, mode: &str| AttachedPolicy {
            name: "deny".to_owned(),
            parameters: [("limit", limit), ("mode", mode)].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..AttachedPolicy::default()
        };
        let limit = |policies: &[(&str, &str)], max| {
            let policies = policies.iter().map(|(limit, mode)| policy(limit, mode)).collect();
            nearest_limit(&BindingReport { effective_max: max, policies, ..BindingReport::default() })
        };
        let max = Some(2 << 30);
        assert_eq!(limit(&[("64M", "act")], max), Some(64 << 20));
        assert_eq!(limit(&[("50%", "act")], max), Some(1 << 30));
        assert_eq!(limit(&[("64M", "dry-run")], max), max);
        assert_eq!(limit(&[("4G", "act")], max), max);
        assert_eq!(limit(&[("0", "act"), ("lots", "act")], max), max);
        assert_eq!(limit(&[("64M", "act")], None), Some(64 << 20));
        assert_eq!(limit(&[], None), None);
    }
    use crate::policy::fixture;
    use crate::policy::profile::Profile;

    /// What is overridden where the requests are `(origin, line)`, the highest first, and these policies are attached.
    fn overridden(requests: &[(&str, &str)], attached: &[(&str, &str)]) -> Vec<String> {
        let request = |(origin, line): &(&str, &str)| RequestReport {
            origin: (*origin).to_owned(),
            location: format!("at {origin}"),
            line: (*line).to_owned(),
        };
        let policy = |(name, origin): &(&str, &str)| AttachedPolicy {
            name: (*name).to_owned(),
            origin: (*origin).to_owned(),
            location: format!("at {origin}"),
            ..AttachedPolicy::default()
        };
        let report = BindingReport {
            requests: requests.iter().map(request).collect(),
            policies: attached.iter().map(policy).collect(),
            ..BindingReport::default()
        };
        let mut catalog = fixture::catalog();
        let profile = Profile {
            name: "both".to_owned(),
            line: "deny limit=1G; observe".to_owned(),
            doc: String::new(),
            file: String::new(),
        };
        catalog.profiles.insert("both".to_owned(), profile);
        overridden_requests(&report, &catalog)
    }

    #[test]
    fn overridden_part_of_a_request_is_named() {
        let drop_in = ("drop-in", "deny limit=64M; observe");
        let by_operator = "is overridden by a higher origin: operator (at operator).";
        let attached = [("deny", "operator"), ("observe", "drop-in")];
        assert_eq!(
            overridden(&[("operator", "deny limit=1G"), drop_in], &attached),
            [format!("'deny limit=64M' from drop-in (at drop-in) {by_operator}")]
        );
        let attached = [("deny", "operator"), ("observe", "operator")];
        assert_eq!(
            overridden(&[("operator", "both"), drop_in], &attached),
            [format!("'deny limit=64M; observe' from drop-in (at drop-in) {by_operator}")]
        );
        assert_eq!(
            overridden(&[("operator", "none"), drop_in], &[]),
            [
                "'deny limit=64M; observe' from drop-in (at drop-in) is overridden by a higher origin: none from operator \
              (at operator)."
            ]
        );
        assert_eq!(overridden(&[drop_in], &[("deny", "drop-in"), ("observe", "drop-in")]), [""; 0]);
    }

    #[test]
    fn overridden_policies_of_a_profile_are_named() {
        let requests = [("operator", "deny limit=2G"), ("annotation", "both")];
        assert_eq!(
            overridden(&requests, &[("deny", "operator"), ("observe", "annotation")]),
            [
                "'deny of both' from annotation (at annotation) is overridden by a higher origin: operator (at operator)."
            ]
        );
    }

    #[test]
    fn policy_that_the_kernel_rejected_is_not_called_overridden() {
        assert_eq!(overridden(&[("drop-in", "deny limit=64M")], &[]), [""; 0]);
    }
}
