//! Resolves the requests for a cgroup to the attached policies.
//!
//! Different policies are added. For the same policy, the request of the highest origin applies as a whole, and its
//! parameters are not mixed with others. `none` discards the requests of lower origins. Annotations and xattrs only add
//! to the policies of drop-ins, unless the configuration allows them to override these. A request with an error is
//! rejected as a whole; the other requests apply.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::diagnostic::{Diagnostic, join_with_and, truncate};
use super::line::{self, Clause};
use super::params::{Params, from_call_partial};
use super::request::{Origin, Request};
use super::schema::PolicySchema;

/// The policies that annotations and xattrs may request. Drop-ins and operators may request all policies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    /// The names of these policies; `None` for all self-binding policies.
    pub names: Option<BTreeSet<String>>,
    /// True if annotations and xattrs may replace and discard the policies of drop-ins.
    pub override_drop_ins: bool,
}

impl AllowList {
    /// Exactly these policies, including those that are not self-binding.
    pub fn only<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        AllowList { names: Some(names.into_iter().map(Into::into).collect()), ..AllowList::default() }
    }

    /// True if this origin may request this policy.
    pub fn permits(&self, origin: Origin, schema: &PolicySchema) -> bool {
        match (origin, &self.names) {
            (Origin::DropIn | Origin::Operator, _) => true,
            (Origin::Annotation | Origin::Xattr, Some(names)) => names.contains(&schema.name),
            (Origin::Annotation | Origin::Xattr, None) => schema.self_binding,
        }
    }

    /// True if a request of this origin cannot replace or discard this policy.
    fn protects(&self, bound: &ResolvedPolicy, origin: Origin) -> bool {
        bound.origin == Origin::DropIn
            && matches!(origin, Origin::Annotation | Origin::Xattr)
            && !self.override_drop_ins
    }

    /// The policies of a catalog that annotations may request.
    fn permitted<'a>(&self, catalog: &'a Catalog) -> Vec<&'a str> {
        let permitted = |schema: &&PolicySchema| self.permits(Origin::Annotation, schema);
        catalog.policies.values().filter(permitted).map(|schema| schema.name.as_str()).collect()
    }
}

/// A policy of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPolicy {
    /// The policy's name.
    pub name: String,
    /// The origin whose request applies.
    pub origin: Origin,
    /// The location of that request.
    pub location: String,
    /// Its parameters.
    pub params: Params,
}

/// The result of all requests for a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// The policies, by name.
    pub policies: Vec<ResolvedPolicy>,
    /// The errors of the requests, the highest origin first.
    pub errors: Vec<Diagnostic>,
    /// The origins whose requests are invalid and do not apply.
    pub rejected: BTreeSet<Origin>,
}

/// Resolves the requests for one cgroup. If one origin has several requests, later ones are added to earlier ones and
/// override them for the same policy; their `none` discards only the requests of lower origins.
pub fn resolve(requests: &[Request], catalog: &Catalog, allow: &AllowList) -> Resolution {
    let mut ordered: Vec<&Request> = requests.iter().collect();
    // A stable sort: requests of one origin keep their order.
    ordered.sort_by_key(|request| request.origin);
    let mut policies_by_name: BTreeMap<String, ResolvedPolicy> = BTreeMap::new();
    let mut errors: Vec<Vec<Diagnostic>> = Vec::new();
    let mut rejected = BTreeSet::new();
    for request in ordered {
        match parse_and_check(&request.line, Some(request.origin), catalog, allow) {
            Ok(ParsedLine::Nothing) => {
                let kept: Vec<&str> = policies_by_name
                    .values()
                    .filter(|bound| allow.protects(bound, request.origin))
                    .map(|bound| bound.name.as_str())
                    .collect();
                if !kept.is_empty() {
                    errors.push(vec![kept_by_drop_in(request, "'none' does not discard", "none", &kept)]);
                }
                policies_by_name.retain(|_, bound| {
                    bound.origin >= request.origin || allow.protects(bound, request.origin)
                });
            }
            Ok(ParsedLine::Policies(policies)) => {
                for (name, params) in policies {
                    let kept =
                        policies_by_name.get(&name).filter(|bound| allow.protects(bound, request.origin));
                    if let Some(bound) = kept {
                        // The schema does not define which parameters are stricter, so only equal ones are accepted.
                        if bound.params != params {
                            errors.push(vec![kept_by_drop_in(
                                request,
                                "this does not replace",
                                &name,
                                &[&name],
                            )]);
                        }
                        continue;
                    }
                    let (origin, location) = (request.origin, request.location.clone());
                    policies_by_name.insert(name.clone(), ResolvedPolicy { name, origin, location, params });
                }
            }
            Err(wrong) => {
                errors.push(wrong.into_iter().map(|error| error.in_request(request)).collect());
                rejected.insert(request.origin);
            }
        }
    }
    Resolution {
        rejected,
        policies: policies_by_name.into_values().collect(),
        errors: errors.into_iter().rev().flatten().collect(),
    }
}

/// The report of a request that would have weakened a drop-in.
fn kept_by_drop_in(request: &Request, what: &str, word: &str, policies: &[&str]) -> Diagnostic {
    let quoted: Vec<String> = policies.iter().map(|name| format!("'{name}'")).collect();
    let message = format!(
        "{what} {} of a drop-in, which stays attached (AnnotationsOverrideDropIns=no)",
        join_with_and(quoted.iter().map(String::as_str))
    );
    Diagnostic::new(word, message).in_request(request)
}

/// A parsed and checked line.
pub(super) enum ParsedLine {
    /// `none`, or an empty line.
    Nothing,
    /// The policies, each once.
    Policies(Vec<(String, Params)>),
}

/// Parses and checks a line. Returns all errors. Without an origin, permissions are not checked.
pub(super) fn parse_and_check(
    text: &str,
    origin: Option<Origin>,
    catalog: &Catalog,
    allow: &AllowList,
) -> Result<ParsedLine, Vec<Diagnostic>> {
    let (calls, mut errors) = line::read(text);
    // All kinds of errors are reported at once, so the words of a line with an invalid grammar are looked up as well.
    let broken = !errors.is_empty();
    let named: Vec<Clause> = calls
        .into_iter()
        .filter(|call| call.name != "none" && !(broken && call.name.contains(line::is_not_in_name)))
        .collect();
    if named.is_empty() && !broken {
        return Ok(ParsedLine::Nothing);
    }
    let (calls, wrong) = catalog.expand_clauses(&named);
    errors.extend(wrong);
    let mut policies = Vec::new();
    for call in calls {
        let Some(schema) = catalog.policies.get(&call.name) else {
            continue;
        };
        if let Some(origin) = origin.filter(|origin| !allow.permits(*origin, schema)) {
            let message = format!("policy '{}' may not be requested by {origin}s", call.name);
            let error = Diagnostic::new(&call.name, message).at(call.at);
            errors.push(error.valid(join_with_and(allow.permitted(catalog))));
        }
        match from_call_partial(schema, &call, !broken) {
            Ok(params) => policies.push((call.name, params)),
            Err(wrong) => errors.extend(wrong),
        }
    }
    if errors.is_empty() {
        Ok(ParsedLine::Policies(policies))
    } else {
        errors.sort_by_key(|error| error.at);
        Err(truncate(errors))
    }
}

/// All errors of a line, as they would be reported for a request of `origin` at `place`. Without an origin,
/// permissions are not checked.
pub fn check_line(
    text: &str,
    catalog: &Catalog,
    origin: Option<Origin>,
    place: Option<&str>,
) -> Vec<Diagnostic> {
    let errors = parse_and_check(text, origin, catalog, &AllowList::default()).err().unwrap_or_default();
    let located = |error: Diagnostic| match place {
        Some(place) => error.in_location(place),
        None => error,
    };
    errors.into_iter().map(|error| Diagnostic { origin, ..located(error) }).collect()
}

#[cfg(test)]
#[path = "precedence_tests.rs"]
mod tests;
