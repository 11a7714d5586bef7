//! Traverses the cgroup tree.

use std::io;
use std::path::{Path, PathBuf};

use super::mount::{CGROUP_ROOT, dir};
use super::xattr::is_removed;
use crate::names::CgroupPath;

/// Limit of the number of cgroups in one traversal, so that a hostile tree cannot fill the daemon's memory.
const CGROUPS_MAX: usize = 1_000_000;

/// All cgroups below `top` and `top` itself, parents first. Cgroups that are removed meanwhile are omitted.
pub fn descendants(top: &CgroupPath) -> Vec<CgroupPath> {
    descend(Path::new(CGROUP_ROOT), top, |_| true)
}

/// All cgroups below `top` in which a process is, or below which one is, and `top` itself, parents first. Those that vanish
/// meanwhile are left out. Subtrees without processes are not visited.
pub fn populated(top: &CgroupPath) -> Vec<CgroupPath> {
    populated_at(Path::new(CGROUP_ROOT), top)
}

/// True if a process is in the cgroup or below it. One read, however large the tree is. Of a cgroup that was removed,
/// nothing is left.
pub fn is_populated(path: &CgroupPath) -> bool {
    is_populated_at(Path::new(CGROUP_ROOT), path)
}

/// True if a process is in this cgroup or below it, but not below this child.
pub fn is_populated_beside(path: &CgroupPath, child: &CgroupPath) -> bool {
    let beside = |name: String| path.join(&name).is_ok_and(|other| other != *child && is_populated(&other));
    let own = std::fs::read_to_string(dir(path).join("cgroup.procs")).is_ok_and(|text| !text.is_empty());
    own || children(&dir(path)).unwrap_or_default().into_iter().any(beside)
}

fn is_populated_at(mount: &Path, path: &CgroupPath) -> bool {
    match std::fs::read_to_string(dir_at(mount, path).join("cgroup.events")) {
        Ok(text) => !text.lines().any(|line| line == "populated 0"),
        Err(error) => !is_removed(&error),
    }
}

fn populated_at(mount: &Path, top: &CgroupPath) -> Vec<CgroupPath> {
    descend(mount, top, |path| is_populated_at(mount, path))
}

fn descend(mount: &Path, top: &CgroupPath, enter: impl Fn(&CgroupPath) -> bool) -> Vec<CgroupPath> {
    let mut found = vec![top.clone()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next = next.saturating_add(1);
        if found.len() >= CGROUPS_MAX {
            break;
        }
        for name in children(&dir_at(mount, &path)).unwrap_or_default() {
            if let Ok(child) = path.join(&name)
                && enter(&child)
            {
                found.push(child);
            }
        }
    }
    found
}

fn dir_at(mount: &Path, path: &CgroupPath) -> PathBuf {
    mount.join(path.as_str().trim_start_matches('/'))
}

/// Shows all cgroups below `top` and `top` itself, parents first, until `each` says false. Holds the names along one
/// branch only, and no directory open.
pub fn walk(top: &CgroupPath, each: impl FnMut(&CgroupPath) -> bool) {
    walk_at(Path::new(CGROUP_ROOT), top, each);
}

fn walk_at(mount: &Path, top: &CgroupPath, mut each: impl FnMut(&CgroupPath) -> bool) {
    let below = |path: &CgroupPath| children(&dir_at(mount, path)).unwrap_or_default().into_iter();
    let mut branch: Vec<(CgroupPath, std::vec::IntoIter<String>)> = Vec::new();
    let mut next = Some(top.clone());
    let mut seen: usize = 0;
    while let Some(path) = next {
        if !each(&path) || seen >= CGROUPS_MAX {
            return;
        }
        seen = seen.saturating_add(1);
        let names = below(&path);
        branch.push((path, names));
        next = next_cgroup(&mut branch);
    }
}

/// The next cgroup: the first child, else the next sibling of the cgroup or of an ancestor.
fn next_cgroup(branch: &mut Vec<(CgroupPath, std::vec::IntoIter<String>)>) -> Option<CgroupPath> {
    loop {
        let (path, names) = branch.last_mut()?;
        match names.next() {
            // A cgroup whose path is too long cannot have a policy.
            Some(name) => match path.join(&name) {
                Ok(child) => return Some(child),
                Err(_) => continue,
            },
            None => drop(branch.pop()),
        }
    }
}

fn children(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/d", "e/b"] {
            std::fs::create_dir_all(mount.path().join(path)).unwrap();
        }
        std::fs::write(mount.path().join("a/memory.high"), "max\n").unwrap();
        mount
    }

    fn seen(mount: &Path, top: &str, until: &str) -> Vec<String> {
        let mut seen = Vec::new();
        walk_at(mount, &CgroupPath::parse(top).unwrap(), |path| {
            seen.push(path.to_string());
            path.as_str() != until
        });
        seen
    }

    #[test]
    fn all_cgroups_are_visited_once_depth_first() {
        let mount = tree();
        assert_eq!(seen(mount.path(), "/", ""), ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/b"]);
        assert_eq!(seen(mount.path(), "/a", ""), ["/a", "/a/b", "/a/b/c", "/a/d"]);
        assert_eq!(seen(mount.path(), "/", "/a/b"), ["/", "/a", "/a/b"]);
        assert_eq!(seen(mount.path(), "/gone", ""), ["/gone"]);
    }

    #[test]
    fn subtrees_without_processes_are_not_visited() {
        let mount = tree();
        for (path, populated) in [("a", 1), ("a/b", 0), ("a/b/c", 1), ("a/d", 1), ("e", 0)] {
            let text = format!("populated {populated}\nfrozen 0\n");
            std::fs::write(mount.path().join(path).join("cgroup.events"), text).unwrap();
        }
        // c says that it is populated, which shows that nobody looked.
        let paths: Vec<String> =
            populated_at(mount.path(), &CgroupPath::root()).iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["/", "/a", "/a/d"]);
        let gone = CgroupPath::parse("/gone").unwrap();
        assert!(!is_populated_at(mount.path(), &gone));
    }

    #[test]
    fn cgroup_removed_meanwhile_is_left_out() {
        let mount = tree();
        let mut seen = Vec::new();
        walk_at(mount.path(), &CgroupPath::root(), |path| {
            if path.as_str() == "/a" {
                std::fs::remove_dir_all(mount.path().join("a/b")).unwrap();
            }
            seen.push(path.to_string());
            true
        });
        assert_eq!(seen, ["/", "/a", "/a/d", "/e", "/e/b"]);
    }
}
