//! The world as reports: everything that is known without looking at the kernel or at files.

use std::collections::{BTreeMap, BTreeSet};

use super::slots::WAITS;
use super::{Cgroup, Registered, World};
use crate::names::{CgroupId, CgroupPath};
use crate::policy::layer::Resolution;
use crate::policy::request::Request;
use crate::report::{AttachedPolicy, BindingReport, RequestReport};

impl World {
    /// All governed cgroups, and all registered ones whose cgroup does not exist, by path.
    pub fn describe(&self) -> Vec<BindingReport> {
        let mut all: Vec<BindingReport> =
            self.cgroups.iter().map(|(id, cgroup)| self.describe_cgroup(*id, cgroup)).collect();
        let there: BTreeSet<&CgroupPath> = self.cgroups.values().map(|cgroup| &cgroup.path).collect();
        let waiting = self.units.values().filter(|unit| !there.contains(&unit.path));
        all.extend(waiting.map(|unit| self.describe_registered(unit)));
        all.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
        all
    }

    /// Cgroups that somebody asked a policy for and none is in force on: the kernel does not tell when they go.
    pub fn unbound(&self) -> Vec<(CgroupId, CgroupPath)> {
        let unbound = self.cgroups.iter().filter(|(_, cgroup)| cgroup.slot.is_none());
        unbound.map(|(id, cgroup)| (*id, cgroup.path.clone())).collect()
    }

    /// One cgroup by its path. Describes no other: a user can have thousands of them looked for.
    pub fn describe_path(&self, path: &CgroupPath) -> Option<BindingReport> {
        if let Some((id, cgroup)) = self.cgroups.iter().find(|(_, cgroup)| cgroup.path == *path) {
            return Some(self.describe_cgroup(*id, cgroup));
        }
        self.units.values().find(|unit| unit.path == *path).map(|unit| self.describe_registered(unit))
    }

    /// The cgroups above this path that policies are in force on, with the policies' names, nearest first. One look at
    /// each cgroup that is known, however many levels the path has.
    pub fn active_above<'a>(&'a self, path: &CgroupPath) -> Vec<(&'a CgroupPath, Vec<&'a str>)> {
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

    /// So many cgroups other than this one, whose paths begin like that, have requests: also those that are refused, and
    /// those that ask for `none`, because each takes room here and a look at every call.
    pub fn others_asked_for(&self, below: &str, cgroup: CgroupId) -> usize {
        self.cgroups.iter().filter(|(id, c)| **id != cgroup && c.path.as_str().starts_with(below)).count()
    }

    fn describe_cgroup(&self, id: CgroupId, cgroup: &Cgroup) -> BindingReport {
        let state = match cgroup.slot {
            Some(_) => "active",
            None if cgroup.resolved.errors.is_empty() && !cgroup.waits => "none",
            None => "invalid",
        };
        BindingReport {
            cgroup_id: id.0,
            state: state.to_owned(),
            ..self.report(&cgroup.path, &cgroup.requests, &cgroup.resolved, cgroup.waits)
        }
    }

    fn describe_registered(&self, unit: &Registered) -> BindingReport {
        let state = if unit.slot.is_some() { "registered" } else { "invalid" };
        BindingReport {
            state: state.to_owned(),
            ..self.report(&unit.path, std::slice::from_ref(&unit.request), &unit.resolved, unit.waits)
        }
    }

    fn report(
        &self,
        path: &CgroupPath,
        requests: &[Request],
        resolved: &Resolution,
        waits: bool,
    ) -> BindingReport {
        let waits = waits.then(|| WAITS.to_owned());
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
                    hooks: hooks(&self.means.offered, &p.name),
                    missing_hooks: hooks(&self.means.missing, &p.name),
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
