//! The mount point of the unified hierarchy, and the ids of cgroups.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use thiserror::Error;

use crate::names::{CgroupId, CgroupPath, CgroupRef};

/// The mount point of cgroup v2 on all current distributions.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Why the cgroups of this machine cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum MountError {
    #[error(
        "cgroup v2 is not mounted at {CGROUP_ROOT}: this machine uses cgroup v1 or the hybrid layout; boot it with \
         systemd.unified_cgroup_hierarchy=1"
    )]
    NotUnified,
    #[error("{CGROUP_ROOT} cannot be examined: {0}")]
    Examine(io::Error),
    #[error(
        "the memory controller is not enabled in {CGROUP_ROOT}/cgroup.controllers: remove cgroup_disable=memory from the kernel command line"
    )]
    NoMemory,
}

/// Checks that the unified hierarchy is mounted with the memory controller.
pub fn require_unified() -> Result<(), MountError> {
    require_unified_at(Path::new(CGROUP_ROOT))
}

fn require_unified_at(mount: &Path) -> Result<(), MountError> {
    let found = statfs(mount).map_err(|e| MountError::Examine(e.into()))?;
    if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(MountError::NotUnified);
    }
    let controllers =
        std::fs::read_to_string(mount.join("cgroup.controllers")).map_err(MountError::Examine)?;
    if controllers.split_whitespace().any(|c| c == "memory") { Ok(()) } else { Err(MountError::NoMemory) }
}

/// The directory of a cgroup.
pub fn dir(path: &CgroupPath) -> PathBuf {
    Path::new(CGROUP_ROOT).join(path.as_str().trim_start_matches('/'))
}

/// The id of the cgroup that has this path now. cgroupfs has no symbolic links.
pub fn cgroup_id(path: &CgroupPath) -> io::Result<CgroupId> {
    let metadata = std::fs::symlink_metadata(dir(path))?;
    if metadata.is_dir() { Ok(CgroupId(metadata.ino())) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// The cgroup that has this path now.
pub fn cgroup(path: CgroupPath) -> io::Result<CgroupRef> {
    Ok(CgroupRef { id: cgroup_id(&path)?, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_system_is_not_the_unified_hierarchy() {
        assert!(matches!(require_unified_at(Path::new("/proc")), Err(MountError::NotUnified)));
        assert!(matches!(require_unified_at(Path::new("/nonexistent")), Err(MountError::Examine(_))));
    }
}
