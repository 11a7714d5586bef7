//! Many requests for one cgroup → the policies in force there.
//!
//! Different policies add up; of the same policy, the highest origin's is taken whole, not mixed with the others.
//! `none` from an origin discards what lower origins asked for. A request with anything wrong in it is refused whole, so
//! that half of what somebody meant is never in force, while the other requests stand.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::encode::{Params, judge};
use super::fault::{Fault, cap, listed};
use super::line::{self, Call};
use super::request::{Origin, Request};
use super::schema::PolicySchema;

/// What annotations and xattrs may ask for; drop-ins and operators may ask for anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// These policies and no others; `None` stands for all that bind only the asker itself.
    pub names: Option<BTreeSet<String>>,
}

impl Allow {
    /// Exactly these policies, even such as take memory from others.
    pub fn only<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Allow { names: Some(names.into_iter().map(Into::into).collect()) }
    }

    /// May this origin ask for this policy?
    pub fn permits(&self, origin: Origin, schema: &PolicySchema) -> bool {
        match (origin, &self.names) {
            (Origin::DropIn | Origin::Operator, _) => true,
            (Origin::Annotation | Origin::Xattr, Some(names)) => names.contains(&schema.name),
            (Origin::Annotation | Origin::Xattr, None) => schema.self_binding,
        }
    }

    /// The policies of a catalog that annotations may ask for.
    fn permitted<'a>(&self, catalog: &'a Catalog) -> Vec<&'a str> {
        let permitted = |schema: &&PolicySchema| self.permits(Origin::Annotation, schema);
        catalog.policies.values().filter(permitted).map(|schema| schema.name.as_str()).collect()
    }
}

/// One policy in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The policy's name.
    pub name: String,
    /// Whose request won.
    pub origin: Origin,
    /// Where that request stands.
    pub place: String,
    /// Its parameters.
    pub params: Params,
}

/// What comes of all requests for one cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// The policies in force, by name.
    pub policies: Vec<Bound>,
    /// What was wrong, the highest origin first.
    pub faults: Vec<Fault>,
}

/// Layers the requests for one cgroup. Where one origin asks several times, a later request adds to the earlier ones
/// and wins for the same policy; its `none` discards those of lower origins only.
pub fn resolve(requests: &[Request], catalog: &Catalog, allow: &Allow) -> Resolved {
    let mut ordered: Vec<&Request> = requests.iter().collect();
    // Stable: requests of one origin keep their order.
    ordered.sort_by_key(|request| request.origin);
    let mut in_force: BTreeMap<String, Bound> = BTreeMap::new();
    let mut faults: Vec<Vec<Fault>> = Vec::new();
    for request in ordered {
        match evaluate(&request.line, Some(request.origin), catalog, allow) {
            Ok(Asked::Nothing) => in_force.retain(|_, bound| bound.origin >= request.origin),
            Ok(Asked::Policies(policies)) => {
                for (name, params) in policies {
                    let (origin, place) = (request.origin, request.place.clone());
                    in_force.insert(name.clone(), Bound { name, origin, place, params });
                }
            }
            Err(wrong) => faults.push(wrong.into_iter().map(|fault| fault.in_request(request)).collect()),
        }
    }
    Resolved {
        policies: in_force.into_values().collect(),
        faults: faults.into_iter().rev().flatten().collect(),
    }
}

/// What a line asks for.
pub(super) enum Asked {
    /// `none`, or empty.
    Nothing,
    /// These policies, each once.
    Policies(Vec<(String, Params)>),
}

/// A line → what it asks for, or everything that is wrong with it. Without an origin, everything may be asked for.
pub(super) fn evaluate(
    text: &str,
    origin: Option<Origin>,
    catalog: &Catalog,
    allow: &Allow,
) -> Result<Asked, Vec<Fault>> {
    let (calls, mut faults) = line::read(text);
    // Errors of all kinds are told at once, so the words of a line with broken grammar are looked up as well.
    let broken = !faults.is_empty();
    let named: Vec<Call> = calls
        .into_iter()
        .filter(|call| call.name != "none" && !(broken && call.name.contains('=')))
        .collect();
    if named.is_empty() && !broken {
        return Ok(Asked::Nothing);
    }
    let (calls, wrong) = catalog.expand_calls(&named);
    faults.extend(wrong);
    let mut policies = Vec::new();
    for call in calls {
        let Some(schema) = catalog.policies.get(&call.name) else {
            continue;
        };
        if let Some(origin) = origin.filter(|origin| !allow.permits(*origin, schema)) {
            let message = format!("policy '{}' may not be asked for by {origin}s", call.name);
            let fault = Fault::new(&call.name, message).at(call.at);
            faults.push(fault.valid(listed(allow.permitted(catalog))));
        }
        match judge(schema, &call, !broken) {
            Ok(params) => policies.push((call.name, params)),
            Err(wrong) => faults.extend(wrong),
        }
    }
    if faults.is_empty() {
        Ok(Asked::Policies(policies))
    } else {
        faults.sort_by_key(|fault| fault.at);
        Err(cap(faults))
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
