//! Walking the cgroup tree.

use std::io;

use super::mount::directory;
use crate::names::CgroupPath;

/// More cgroups than any machine runs; keeps a hostile tree from filling our memory.
const CGROUPS_MAX: usize = 1_000_000;

/// All cgroups below `top` and `top` itself, parents first. Those that vanish meanwhile are left out.
pub fn all(top: &CgroupPath) -> Vec<CgroupPath> {
    let mut found = vec![top.clone()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next = next.saturating_add(1);
        if found.len() >= CGROUPS_MAX {
            break;
        }
        for name in children(&path).unwrap_or_default() {
            if let Ok(child) = path.join(&name) {
                found.push(child);
            }
        }
    }
    found
}

fn children(path: &CgroupPath) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory(path))? {
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
