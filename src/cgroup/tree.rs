//! Traverses the cgroup tree.

use std::io;
use std::path::Path;

use super::mount::{CGROUP_ROOT, dir};
use crate::names::CgroupPath;

/// Limit of the number of cgroups in one traversal, so that a hostile tree cannot fill the daemon's memory.
const CGROUPS_MAX: usize = 1_000_000;

/// All cgroups below `top` and `top` itself, parents first. Cgroups that are removed meanwhile are omitted.
pub fn descendants(top: &CgroupPath) -> Vec<CgroupPath> {
    let mut found = vec![top.clone()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next = next.saturating_add(1);
        if found.len() >= CGROUPS_MAX {
            break;
        }
        for name in children(&dir(&path)).unwrap_or_default() {
            if let Ok(child) = path.join(&name) {
                found.push(child);
            }
        }
    }
    found
}

/// Shows all cgroups below `top` and `top` itself, parents first, until `each` says false. Holds the names along one
/// branch only, and no directory open.
pub fn walk(top: &CgroupPath, each: impl FnMut(&CgroupPath) -> bool) {
    walk_at(Path::new(CGROUP_ROOT), top, each);
}

fn walk_at(mount: &Path, top: &CgroupPath, mut each: impl FnMut(&CgroupPath) -> bool) {
    let below = |path: &CgroupPath| {
        children(&mount.join(path.as_str().trim_start_matches('/'))).unwrap_or_default().into_iter()
    };
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
