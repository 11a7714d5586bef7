//! Candidates for shell completion: policies, parameters, units and containers as they are now. Does not query the
//! daemon.

use std::path::Path;

use clap_complete::engine::CompletionCandidate;

use super::container;
use super::installed::ObjectDir;
use super::line_words::{self, Typed};
use crate::bpf::profiles;
use crate::cgroup::tree;
use crate::names::CgroupPath;
use crate::systemd::{UNIT_PATH, index};

/// Digits of a container ID that engines print.
const ID_SHOWN: usize = 12;
/// Number of containers that are offered by name.
const CONTAINERS_MAX: usize = 200;

/// What may come next in a policy line.
pub(in crate::cli) fn complete_line() -> Vec<CompletionCandidate> {
    let (profiles, _) = profiles::load(Path::new("/"));
    let profiles = profiles.into_values().map(|profile| (profile.name, profile.doc)).collect();
    let objects = ObjectDir::installed().read();
    let words = line_words::candidates(&Typed::now(), &objects.schemas, profiles);
    words.iter().map(|(word, doc)| candidate(word, doc)).collect()
}

/// The profiles there are.
pub(in crate::cli) fn profile_names() -> Vec<CompletionCandidate> {
    let (profiles, _) = profiles::load(Path::new("/"));
    profiles.values().map(|profile| candidate(&profile.name, &profile.doc)).collect()
}

/// The policies there are.
pub(in crate::cli) fn policy_names() -> Vec<CompletionCandidate> {
    let objects = ObjectDir::installed().read();
    objects.schemas.values().map(|schema| candidate(&schema.name, &schema.doc)).collect()
}

/// The units and containers that have a cgroup now.
pub(in crate::cli) fn cgroups() -> Vec<CompletionCandidate> {
    let tree = tree::descendants(&CgroupPath::root());
    let names = tree.iter().filter_map(|path| {
        let id = container::id_in(path).filter(|_| display_name(path).is_some())?;
        container::lookup(path, id).name
    });
    let names = names.take(CONTAINERS_MAX).map(|name| candidate(&name, "container"));
    names.chain(tree.iter().filter_map(display_name).map(CompletionCandidate::new)).collect()
}

/// The units with a file.
pub(in crate::cli) fn units() -> Vec<CompletionCandidate> {
    index(Path::new("/"), &UNIT_PATH).names().map(CompletionCandidate::new).collect()
}

/// The display name of a cgroup: a unit name, or the beginning of a container ID.
fn display_name(path: &CgroupPath) -> Option<String> {
    let name = path.file_name();
    if !path.components().rev().skip(1).all(|above| above.ends_with(".slice")) {
        return None;
    }
    let (stem, kind) = name.rsplit_once('.')?;
    match (kind, stem.rsplit_once('-')) {
        ("scope", Some((prefix, id))) if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
            // libpod-conmon-ID.scope is podman's monitor of the container.
            (!prefix.ends_with("conmon")).then(|| id.chars().take(ID_SHOWN).collect())
        }
        ("service" | "scope" | "slice", _) => Some(name.to_owned()),
        _ => None,
    }
}

fn candidate(word: &str, doc: &str) -> CompletionCandidate {
    CompletionCandidate::new(word).help(Some(doc.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_have_display_names() {
        let id = "0123456789ab".repeat(6)[..64].to_owned();
        let path = |text: String| display_name(&CgroupPath::parse(&text).unwrap());
        assert_eq!(path("/system.slice/demo.service".to_owned()).as_deref(), Some("demo.service"));
        assert_eq!(path("/machine.slice".to_owned()).as_deref(), Some("machine.slice"));
        assert_eq!(path(format!("/machine.slice/libpod-{id}.scope")).as_deref(), Some("0123456789ab"));
        assert_eq!(path(format!("/machine.slice/libpod-conmon-{id}.scope")), None);
        assert_eq!(path(format!("/machine.slice/libpod-{id}.scope/fake.service")), None);
        assert_eq!(path("/mydir".to_owned()), None);
    }
}
