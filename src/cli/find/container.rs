//! Names and bundles of containers. podman and CRI-O pass them to conmon, the parent of the container's first
//! process; docker stores them in a file. Data that the container itself could have written is not used.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cgroup::{process, tree};
use crate::files;
use crate::names::{CgroupPath, ContainerId};
use crate::report::BindingReport;
use crate::source::container_cgroup::process_cgroup;

/// The directory of docker's containers, one subdirectory each.
const DOCKER: &str = "var/lib/docker/containers";
/// Number of processes of a container whose parents are checked.
const PROCESSES_MAX: usize = 64;
/// Longest file of docker about a container in bytes. Usual ones have some ten KiB.
const DOCKER_FILE_MAX: usize = 1 << 20;

/// The arguments of conmon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::cli) struct Container {
    pub name: Option<String>,
    pub bundle: Option<PathBuf>,
}

/// Looks up a container by its cgroup and its full id.
pub(in crate::cli) fn lookup(cgroup: &CgroupPath, id: &str) -> Container {
    watched(cgroup, id).unwrap_or_else(|| Container { name: docker_name(Path::new("/"), id), bundle: None })
}

/// A process called conmon in the container's own cgroup is not that of an engine.
fn watched(cgroup: &CgroupPath, id: &str) -> Option<Container> {
    let inside =
        tree::descendants(cgroup).into_iter().flat_map(|path| process::members(&path).unwrap_or_default());
    let mut parents: Vec<u32> =
        inside.take(PROCESSES_MAX).filter_map(|pid| process::parent(pid).ok()).collect();
    parents.sort_unstable();
    parents.dedup();
    let outside = |pid: &u32| {
        let text = process::cgroup_text(*pid).ok();
        text.and_then(|text| process_cgroup(&text).ok()).is_some_and(|path| !path.is_within(cgroup))
    };
    parents
        .into_iter()
        .filter(outside)
        .filter_map(|pid| process::arguments(pid).ok())
        .find_map(|arguments| conmon_info(&arguments, id))
}

/// Adds the names of containers to the reports. A scope with a policy from a drop-in is one too.
pub(in crate::cli) fn add_names(reports: &mut [BindingReport]) {
    for report in reports {
        let Ok(path) = CgroupPath::parse(&report.cgroup) else { continue };
        if let Some(id) = report.container.as_deref().or_else(|| id_in(&path)) {
            report.container_name = lookup(&path, id).name;
        }
    }
}

/// The container id in a cgroup's name: the last 64 hexadecimal digits. `None` for conmon's cgroup.
pub(in crate::cli) fn id_in(cgroup: &CgroupPath) -> Option<&str> {
    let name = cgroup.file_name();
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    let (engine, id) = stem.rsplit_once('-').unwrap_or(("", stem));
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    (is_id && !engine.ends_with("conmon")).then_some(id)
}

/// `conmon … -c ID … -b BUNDLE … -n NAME …`
fn conmon_info(arguments: &[String], id: &str) -> Option<Container> {
    let program = arguments.first()?;
    let after = |flags: &[&str]| {
        arguments.windows(2).find_map(|pair| match pair {
            [flag, value] if flags.contains(&flag.as_str()) => Some(value.clone()),
            _ => None,
        })
    };
    let is_its =
        program.rsplit('/').next() == Some("conmon") && after(&["-c", "--cid"]).as_deref() == Some(id);
    is_its.then(|| Container {
        name: after(&["-n", "--name"]),
        bundle: after(&["-b", "--bundle"]).map(PathBuf::from).filter(|path| path.is_absolute()),
    })
}

fn docker_name(root: &Path, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "Name")]
        name: String,
    }
    // The id must be a plain file name, so that it cannot refer to another directory.
    let id = ContainerId::parse(id).ok()?;
    let file = root.join(DOCKER).join(id.as_str()).join("config.v2.json");
    files::read(&file, DOCKER_FILE_MAX).ok().and_then(|text| {
        let config: Config = serde_json::from_slice(&text).ok()?;
        Some(config.name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> String {
        "ab".repeat(32)
    }

    #[test]
    fn conmon_info_needs_matching_id() {
        let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let text =
            format!("/usr/bin/conmon --api-version 1 -c {0} -u {0} -r /usr/bin/crun -b /run/b -n web", id());
        let found = conmon_info(&line(&text), &id()).unwrap();
        assert_eq!(found, Container { name: Some("web".into()), bundle: Some("/run/b".into()) });
        assert_eq!(conmon_info(&line(&text), &"cd".repeat(32)), None);
        assert_eq!(conmon_info(&line(&text.replace("/conmon", "/sleep")), &id()), None);
        assert_eq!(conmon_info(&[], &id()), None);
    }

    #[test]
    fn container_id_is_read_from_cgroup_name() {
        let in_it = |path: String| id_in(&CgroupPath::parse(&path).unwrap()).map(str::to_owned);
        assert_eq!(in_it(format!("/machine.slice/libpod-{}.scope", id())), Some(id()));
        assert_eq!(in_it(format!("/kubepods.slice/{}", id())), Some(id()));
        assert_eq!(in_it(format!("/machine.slice/libpod-{}.scope/container", id())), None);
        assert_eq!(in_it(format!("/machine.slice/libpod-conmon-{}.scope", id())), None);
    }

    #[test]
    fn docker_name_is_read_from_its_file() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(DOCKER).join(id());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("config.v2.json"), r#"{"Name":"/web","State":{}}"#).unwrap();
        assert_eq!(docker_name(root.path(), &id()), Some("web".to_owned()));
        assert_eq!(docker_name(root.path(), "../x"), None);
    }
}
