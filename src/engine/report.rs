//! The engine's reports: everything that is known without looking at the kernel or at files.

use std::collections::{BTreeMap, BTreeSet};

use super::slots::PENDING_MSG;
use super::{Cgroup, Engine, Registered};
use crate::names::{CgroupId, CgroupPath};
use crate::policy::precedence::Resolution;
use crate::policy::request::Request;
use crate::report::{AttachedPolicy, BindingReport, RequestReport};

impl Engine {
    /// All cgroups with requests, and all registered units whose cgroup does not exist, by path.
    pub fn report_all(&self) -> Vec<BindingReport> {
        let mut all: Vec<BindingReport> =
            self.cgroups.iter().map(|(id, cgroup)| self.report_cgroup(*id, cgroup)).collect();
        let there: BTreeSet<&CgroupPath> = self.cgroups.values().map(|cgroup| &cgroup.path).collect();
        let waiting = self.units.values().filter(|unit| !there.contains(&unit.path));
        all.extend(waiting.map(|unit| self.report_registered(unit)));
        all.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
        all
    }

    /// Cgroups with requests and without attached policies. The kernel does not report their removal.
    pub fn without_binding(&self) -> Vec<(CgroupId, CgroupPath)> {
        let unbound = self.cgroups.iter().filter(|(_, cgroup)| cgroup.slot.is_none());
        unbound.map(|(id, cgroup)| (*id, cgroup.path.clone())).collect()
    }

    /// One cgroup by its path. Describes no other: a user can have thousands of them looked for.
    pub fn report_path(&self, path: &CgroupPath) -> Option<BindingReport> {
        if let Some((id, cgroup)) = self.cgroups.iter().find(|(_, cgroup)| cgroup.path == *path) {
            return Some(self.report_cgroup(*id, cgroup));
        }
        self.units.values().find(|unit| unit.path == *path).map(|unit| self.report_registered(unit))
    }

    /// The ancestors of this path with attached policies, with the policies' names, nearest first. One look at
    /// each cgroup that is known, however many levels the path has.
    pub fn bound_ancestors<'a>(&'a self, path: &CgroupPath) -> Vec<(&'a CgroupPath, Vec<&'a str>)> {
        let above =
            |cgroup: &&Cgroup| cgroup.slot.is_some() && path.is_within(&cgroup.path) && cgroup.path != *path;
        let found: BTreeMap<&CgroupPath, &Cgroup> =
            self.cgroups.values().filter(above).map(|cgroup| (&cgroup.path, cgroup)).collect();
        // Each is the beginning of the next, so their order by name is from the top down.
        let named = |(path, cgroup): (_, &'a Cgroup)| {
            (path, cgroup.resolved.policies.iter().map(|p| p.name.as_str()).collect())
        };
        found.into_iter().rev().map(named).collect()
    }

    /// So many cgroups other than this one, whose paths begin like that, have requests: also invalid ones, and
    /// those for `none`, because each takes room here and a look at every call.
    pub fn count_requests_below(&self, below: &str, cgroup: CgroupId) -> usize {
        self.cgroups.iter().filter(|(id, c)| **id != cgroup && c.path.as_str().starts_with(below)).count()
    }

    fn report_cgroup(&self, id: CgroupId, cgroup: &Cgroup) -> BindingReport {
        let state = match cgroup.slot {
            Some(_) => "active",
            None if cgroup.resolved.errors.is_empty() && !cgroup.pending => "none",
            None => "invalid",
        };
        BindingReport {
            cgroup_id: id.0,
            state: state.to_owned(),
            ..self.binding_report(&cgroup.path, &cgroup.requests, &cgroup.resolved, cgroup.pending)
        }
    }

    fn report_registered(&self, unit: &Registered) -> BindingReport {
        let state = if unit.slot.is_some() { "registered" } else { "invalid" };
        BindingReport {
            state: state.to_owned(),
            ..self.binding_report(
                &unit.path,
                std::slice::from_ref(&unit.request),
                &unit.resolved,
                unit.pending,
            )
        }
    }

    fn binding_report(
        &self,
        path: &CgroupPath,
        requests: &[Request],
        resolved: &Resolution,
        waits: bool,
    ) -> BindingReport {
        let waits = waits.then(|| PENDING_MSG.to_owned());
        let hooks =
            |of: &BTreeMap<String, Vec<String>>, name: &str| of.get(name).cloned().unwrap_or_default();
        BindingReport {
            cgroup: path.as_str().to_owned(),
            unit: requests.iter().find_map(|r| r.unit.clone()),
            container: requests.iter().find_map(|r| r.container.clone()),
            policies: resolved
                .policies
                .iter()
                .map(|p| AttachedPolicy {
                    name: p.name.clone(),
                    origin: p.origin.to_string(),
                    location: p.location.clone(),
                    parameters: p.params.parameters.clone(),
                    hooks: hooks(&self.config.offered, &p.name),
                    missing_hooks: hooks(&self.config.missing, &p.name),
                })
                .collect(),
            errors: resolved.errors.iter().map(ToString::to_string).chain(waits).collect(),
            requests: requests
                .iter()
                .map(|r| RequestReport {
                    origin: r.origin.to_string(),
                    location: r.location.clone(),
                    line: r.line.clone(),
                })
                .collect(),
            ..BindingReport::default()
        }
    }
}
