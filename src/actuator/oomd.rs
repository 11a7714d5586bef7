//! Reports kills to systemd, as systemd-oomd does.

use std::collections::BTreeMap;

use crate::cgroup::{kill, tree, victim};
use crate::names::CgroupPath;

/// Units of systemd's, at, above and below a cgroup, in which nothing is left after the kill, with their processes.
/// `one`: the only process of the cgroup that is killed, else all in it and below are.
pub fn units_emptied_by(cgroup: &CgroupPath, one: Option<u32>) -> Vec<(CgroupPath, usize)> {
    let mut counts: BTreeMap<CgroupPath, usize> = BTreeMap::new();
    for path in tree::populated(cgroup) {
        let pids = victim::pids(&path);
        if one.is_some_and(|one| pids.iter().any(|pid| *pid != one)) {
            return Vec::new();
        }
        let mut at = Some(path).filter(|_| !pids.is_empty());
        while let Some(path) = at.filter(|at| at.is_within(cgroup)) {
            at = path.parent();
            let count = counts.entry(path).or_default();
            *count = count.saturating_add(pids.len());
        }
    }
    let Some(all) = counts.get(cgroup).copied() else { return Vec::new() };
    let mut child = cgroup.clone();
    while let Some(path) = child.parent().filter(|path| !path.is_root()) {
        if tree::is_populated_beside(&path, &child) {
            break;
        }
        counts.insert(path.clone(), all);
        child = path;
    }
    let is_unit =
        |path: &CgroupPath| [".service", ".scope"].iter().any(|ending| path.file_name().ends_with(ending));
    counts.into_iter().filter(|(path, _)| is_unit(path)).collect()
}

/// systemd reads the attributes when the last process of a unit ends: they are set before the kill, and withdrawn if the
/// kill is not performed.
pub fn report_to_systemd(units: &[(CgroupPath, usize)], kill: bool) {
    for (unit, processes) in units {
        let processes = i64::try_from(*processes).unwrap_or(i64::MAX);
        let sign = |count: i64| if kill { count } else { count.saturating_neg() };
        kill::add_to_oomd_xattr(unit, "user.oomd_ooms", sign(1));
        kill::add_to_oomd_xattr(unit, "user.oomd_kill", sign(processes));
    }
}
