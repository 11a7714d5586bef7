//! The policies, profiles and permissions with which requests are resolved.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::catalog::Catalog;
use crate::policy::precedence::{AllowList, Resolution, ResolvedPolicy, resolve};
use crate::policy::request::Request;

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
    pub(super) fn resolve(&self, requests: &[Request]) -> Resolution {
        resolve(requests, &self.catalog, &self.allow)
    }

    /// True if one of these policies reads counters of the subtree.
    pub(super) fn counts(&self, policies: &[ResolvedPolicy]) -> bool {
        policies.iter().any(|p| self.counting.contains(&p.name))
    }
}
