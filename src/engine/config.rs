//! The policies, profiles and permissions with which requests are resolved.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::catalog::Catalog;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::precedence::{AllowList, Resolution, ResolvedPolicy, resolve};
use crate::policy::request::Request;
use crate::source::xattr::check_shares;

/// The policies, profiles and permissions, which change with a reload.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// Policies and profiles.
    pub catalog: Catalog,
    /// The policies that annotations may request.
    pub allow: AllowList,
    /// Policies that read counters of the subtree.
    pub counting: BTreeSet<String>,
    /// Policy → its hooks that this kernel has.
    pub offered: BTreeMap<String, Vec<String>>,
    /// Policy → its hooks that this kernel lacks.
    pub missing: BTreeMap<String, Vec<String>>,
}

impl EngineConfig {
    /// The policies that follow from a cgroup's requests, and the errors of the requests.
    /// A request that exceeds its share of the record is invalid: it would be lost with the daemon.
    pub(super) fn resolve(&self, requests: &[Request]) -> Resolution {
        let mut fitting = Vec::new();
        let (mut errors, mut rejected) = (Vec::new(), Vec::new());
        for request in requests {
            match check_shares(std::slice::from_ref(request)) {
                Ok(()) => fitting.push(request.clone()),
                Err(error) => {
                    errors.push(Diagnostic::new("", error.to_string()).in_request(request));
                    rejected.push(request.origin);
                }
            }
        }
        let mut resolved = resolve(&fitting, &self.catalog, &self.allow);
        resolved.errors.extend(errors);
        resolved.rejected.extend(rejected);
        resolved
    }

    /// One sentence for each hook of these policies that this kernel lacks.
    pub(super) fn missing_hooks(&self, policies: &[ResolvedPolicy]) -> Vec<String> {
        let of = |p: &ResolvedPolicy| {
            let hooks = self.missing.get(&p.name).map(Vec::as_slice).unwrap_or_default().iter();
            let sentence = |hook| format!("this kernel lacks the hook '{hook}' that {} uses", p.name);
            hooks.map(sentence).collect::<Vec<_>>()
        };
        policies.iter().flat_map(of).collect()
    }

    /// True if one of these policies reads counters of the subtree.
    pub(super) fn counts(&self, policies: &[ResolvedPolicy]) -> bool {
        policies.iter().any(|p| self.counting.contains(&p.name))
    }
}
