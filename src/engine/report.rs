//! Reports of the engine: the data that needs no access to the kernel or to files.

use std::collections::{BTreeMap, BTreeSet};

use super::cgroups::{Cgroup, Cgroups};
use super::config::EngineConfig;
use super::registrations::{Registered, Registrations};
use super::slots::PENDING_MSG;
use crate::names::{CgroupId, CgroupPath};
use crate::policy::precedence::Resolution;
use crate::policy::request::Request;
use crate::report::{AttachedPolicy, BindingReport, PodReport, RequestReport};

/// All cgroups with requests, and all registered units whose cgroup does not exist, by path.
pub fn report_all(config: &EngineConfig, cgroups: &Cgroups, units: &Registrations) -> Vec<BindingReport> {
    let mut all: Vec<BindingReport> =
        cgroups.iter().map(|(id, cgroup)| report_cgroup(config, id, cgroup)).collect();
    let there: BTreeSet<&CgroupPath> = cgroups.all().map(|cgroup| &cgroup.path).collect();
    let waiting = units.all().filter(|unit| !there.contains(&unit.path));
    all.extend(waiting.map(|unit| report_registered(config, unit)));
    all.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    all
}

/// The report of one cgroup. Creates only this one, because a user can request reports of thousands of cgroups.
pub fn report_path(
    config: &EngineConfig,
    cgroups: &Cgroups,
    units: &Registrations,
    path: &CgroupPath,
) -> Option<BindingReport> {
    if let Some((id, cgroup)) = cgroups.iter().find(|(_, cgroup)| cgroup.path == *path) {
        return Some(report_cgroup(config, id, cgroup));
    }
    units.at(path).map(|unit| report_registered(config, unit))
}

/// The report of a cgroup without requests.
pub fn report_none(path: &CgroupPath) -> BindingReport {
    BindingReport { cgroup: path.as_str().to_owned(), state: "none".to_owned(), ..BindingReport::default() }
}

/// The ancestors of this path with attached policies, with the names of the policies, nearest first. Each known
/// cgroup is visited once, regardless of the depth of the path.
pub fn bound_ancestors<'a>(cgroups: &'a Cgroups, path: &CgroupPath) -> Vec<(&'a CgroupPath, Vec<&'a str>)> {
    let above =
        |cgroup: &&Cgroup| cgroup.slot.is_some() && path.is_within(&cgroup.path) && cgroup.path != *path;
    let found: BTreeMap<&CgroupPath, &Cgroup> =
        cgroups.all().filter(above).map(|cgroup| (&cgroup.path, cgroup)).collect();
    // Each ancestor's path is the beginning of the next one, so that they are sorted from the top down.
    let named = |(path, cgroup): (_, &'a Cgroup)| {
        (path, cgroup.resolved.policies.iter().map(|p| p.name.as_str()).collect())
    };
    found.into_iter().rev().map(named).collect()
}

fn report_cgroup(config: &EngineConfig, id: CgroupId, cgroup: &Cgroup) -> BindingReport {
    let state = match cgroup.slot {
        Some(_) => "active",
        None if cgroup.resolved.errors.is_empty() && !cgroup.pending => "none",
        None => "invalid",
    };
    BindingReport {
        cgroup_id: id.0,
        state: state.to_owned(),
        ..binding_report(config, &cgroup.path, &cgroup.requests, &cgroup.resolved, cgroup.pending)
    }
}

fn report_registered(config: &EngineConfig, unit: &Registered) -> BindingReport {
    let state = if unit.slot.is_some() { "registered" } else { "invalid" };
    let requests = std::slice::from_ref(&unit.request);
    BindingReport {
        state: state.to_owned(),
        ..binding_report(config, &unit.path, requests, &unit.resolved, unit.pending)
    }
}

fn binding_report(
    config: &EngineConfig,
    path: &CgroupPath,
    requests: &[Request],
    resolved: &Resolution,
    waits: bool,
) -> BindingReport {
    let waits = waits.then(|| PENDING_MSG.to_owned());
    let hooks = |of: &BTreeMap<String, Vec<String>>, name: &str| of.get(name).cloned().unwrap_or_default();
    BindingReport {
        cgroup: path.as_str().to_owned(),
        unit: requests.iter().find_map(|r| r.unit.clone()),
        container: requests.iter().find_map(|r| r.container.clone()),
        pod: requests.iter().find_map(|r| r.pod.as_ref()).map(PodReport::from),
        policies: resolved
            .policies
            .iter()
            .map(|p| AttachedPolicy {
                name: p.name.clone(),
                origin: p.origin.to_string(),
                location: p.location.clone(),
                parameters: p.params.parameters.clone(),
                hooks: hooks(&config.offered, &p.name),
                missing_hooks: hooks(&config.missing, &p.name),
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
