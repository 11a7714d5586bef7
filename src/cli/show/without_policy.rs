//! Units and containers that run without a policy of their own.

use crate::cgroup::memory;
use crate::cli::find::container;
use crate::names::CgroupPath;
use crate::report::BindingReport;
use crate::report::explain::inherited;

/// `state` of a cgroup without a request. The daemon does not report such cgroups.
pub(in crate::cli) const WITHOUT_POLICY: &str = "no-policy";

/// A report for each running service, scope and container that has none.
pub(in crate::cli) fn reports(tree: &[CgroupPath], known: &[BindingReport]) -> Vec<BindingReport> {
    let is_known = |path: &CgroupPath| known.iter().any(|report| report.cgroup == path.as_str());
    let machine = memory::total_ram().unwrap_or(u64::MAX);
    let found = tree.iter().filter(|path| is_unit_or_container(path) && !is_known(path));
    found.map(|path| report(path, known, machine)).collect()
}

fn report(path: &CgroupPath, known: &[BindingReport], machine: u64) -> BindingReport {
    let usage = memory::usage(path).ok();
    let id = container::id_in(path);
    BindingReport {
        cgroup: path.as_str().to_owned(),
        state: WITHOUT_POLICY.to_owned(),
        unit: id.is_none().then(|| path.file_name().to_owned()),
        container: id.map(str::to_owned),
        usage,
        effective_max: usage.map(|_| memory::effective_max(path, machine)),
        explanation: inherited_policies(path.as_str(), known),
        ..BindingReport::default()
    }
}

/// A sentence for each ancestor with policies.
pub(in crate::cli) fn inherited_policies(cgroup: &str, known: &[BindingReport]) -> Vec<String> {
    let is_above = |report: &&BindingReport| {
        let rest = cgroup.strip_prefix(report.cgroup.as_str());
        !report.policies.is_empty() && rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let names = |report: &BindingReport| {
        let names: Vec<String> = report.policies.iter().map(|policy| policy.name.clone()).collect();
        inherited(&report.cgroup, names)
    };
    known.iter().filter(is_above).map(names).collect()
}

/// Units lie below slices only. Containers of engines without systemd may lie anywhere; what a container has created
/// inside is its own.
fn is_unit_or_container(path: &CgroupPath) -> bool {
    let name = path.file_name();
    let above: Vec<&str> = path.components().rev().skip(1).collect();
    let in_slices = above.iter().all(|part| part.ends_with(".slice"));
    let is_monitor = name.strip_suffix(".scope").is_some_and(|stem| stem.contains("-conmon-"));
    if is_monitor {
        return false;
    }
    if in_slices && (name.ends_with(".service") || name.ends_with(".scope")) {
        return true;
    }
    let is_inside = above.iter().any(|part| part.ends_with(".scope") || part.ends_with(".service"));
    container::id_in(path).is_some() && !is_inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::AttachedPolicy;

    #[test]
    fn units_and_containers_without_policy_are_listed() {
        let id = "ab".repeat(32);
        let paths = [
            "/system.slice/a.service".to_owned(),
            "/system.slice/b.service".to_owned(),
            "/system.slice/b.service/inner".to_owned(),
            format!("/machine.slice/libpod-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/machine.slice/libpod-conmon-{id}.scope"),
            format!("/kubepods/{id}"),
            "/system.slice".to_owned(),
        ];
        let tree: Vec<CgroupPath> = paths.iter().map(|path| CgroupPath::parse(path).unwrap()).collect();
        let bound = |cgroup: &str| BindingReport {
            cgroup: cgroup.to_owned(),
            policies: vec![AttachedPolicy { name: "deny".to_owned(), ..AttachedPolicy::default() }],
            ..BindingReport::default()
        };
        let found = reports(&tree, &[bound("/system.slice/a.service"), bound("/machine.slice")]);
        let listed: Vec<&str> = found.iter().map(|report| report.cgroup.as_str()).collect();
        assert_eq!(listed, [&paths[1], &paths[3], &paths[6]]);
        assert_eq!(found[0].unit.as_deref(), Some("b.service"));
        assert_eq!(found[1].container, Some(id));
        assert_eq!(found[1].explanation, ["Inherited from: /machine.slice (deny)."]);
        assert!(found.iter().all(|report| report.state == WITHOUT_POLICY && report.policies.is_empty()));
    }
}
