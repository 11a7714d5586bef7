//! The policies, profiles and permissions with which requests are resolved.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::catalog::Catalog;
use crate::policy::precedence::{AllowList, Resolution, ResolvedPolicy, resolve};
use crate::policy::request::Request;

/// What can be used here: filled at start and when objects or profiles change.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// Policies and profiles.
    pub catalog: Catalog,
    /// The policies that annotations may request.
    pub allow: AllowList,
    /// Policies that need the subtree's counters.
    pub counting: BTreeSet<String>,
    /// Policy → hooks that this kernel offers.
    pub offered: BTreeMap<String, Vec<String>>,
    /// Policy → hooks that it uses and this kernel lacks.
    pub missing: BTreeMap<String, Vec<String>>,
}

impl EngineConfig {
    /// The policies that follow from a cgroup's requests, and the errors of the requests.
    pub(super) fn resolve(&self, requests: &[Request]) -> Resolution {
        resolve(requests, &self.catalog, &self.allow)
    }

    /// Does any of these policies need the subtree's counters?
    pub(super) fn counts(&self, policies: &[ResolvedPolicy]) -> bool {
        policies.iter().any(|p| self.counting.contains(&p.name))
    }
}
