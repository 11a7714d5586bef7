//! Which cgroups can have a policy, and to which cgroups a user may attach policies.

use super::host::daemon_cgroup;
use crate::bpf::MAX_LEVEL;
use crate::cgroup::{delegation, memory, mount};
use crate::names::{CgroupId, CgroupPath, CgroupRef};
use crate::service::error::Error;

/// The cgroup of PID 1, which cannot have a policy: denying it memory would take the machine down.
const INIT_SCOPE: &str = "/init.scope";

/// Limit of the number of cgroups with a policy line, including `none`, for each unprivileged user: the 4096 slots
/// are shared by all users, and every call checks each cgroup with a line.
pub const BINDINGS_PER_USER: usize = 256;

/// Limit of the number of cgroups with a policy line for all unprivileged users together: half of the slots are for unit
/// files and administrators.
pub const BINDINGS_OF_USERS: usize = 2048;

/// The cgroups of all users.
pub const USER_CGROUPS: &str = "/user.slice/user-";

/// Why a policy cannot be attached, whether D-Bus, a unit file or a record requests it.
pub fn not_allowed(path: &CgroupPath) -> Option<String> {
    if path.is_root() {
        return Some("a policy cannot be attached to the root cgroup; name a cgroup below it".into());
    }
    let init = CgroupPath::parse(INIT_SCOPE).ok()?;
    if init.is_within(path) {
        return Some(format!("{path} is the cgroup of PID 1; a policy cannot be attached to it"));
    }
    // Slices above the daemon can have a policy, because core exempts the daemon's cgroup.
    if daemon_cgroup().is_some_and(|own| own == *path) {
        return Some(format!("{path} is the cgroup of memcg-bpfd; a policy cannot be attached to it"));
    }
    if path.level() > MAX_LEVEL {
        return Some(format!(
            "{path} is {} levels deep; policies can be attached down to level {MAX_LEVEL}, and apply to all \
             descendants",
            path.level()
        ));
    }
    None
}

/// Why a policy cannot be attached to an existing cgroup.
pub fn no_memory_controller(path: &CgroupPath) -> Option<String> {
    memory::lacks_memory_controller(path).then(|| {
        format!(
            "{path} has no memory controller: enable it in its parent (echo +memory > cgroup.subtree_control), or set \
             MemoryAccounting=yes on the unit"
        )
    })
}

/// The cgroup at a path, if a policy can be attached to it.
pub fn check(path: CgroupPath) -> Result<CgroupRef, Error> {
    if let Some(sentence) = not_allowed(&path) {
        return Err(Error::InvalidArgument(sentence));
    }
    let cgroup = mount::cgroup(path.clone()).map_err(|e| no_such_cgroup(&path, &e))?;
    match no_memory_controller(&path) {
        Some(sentence) => Err(Error::InvalidArgument(sentence)),
        None => Ok(cgroup),
    }
}

/// The id of the cgroup at a path, if it is delegated to this user.
pub fn delegated(path: &CgroupPath, uid: u32) -> Result<CgroupId, Error> {
    delegation::delegated_cgroup(path, uid)
        .map_err(|e| Error::AccessDenied(format!("permission denied for uid {uid}: {e}")))
}

/// The error for a path at which there is no cgroup.
pub fn no_such_cgroup(path: &CgroupPath, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::NoSuchCgroup(format!("there is no cgroup {path}")),
        _ => Error::NoSuchCgroup(format!("{path} cannot be examined: {error}")),
    }
}
