//! Checks whether a cgroup is delegated to a user: it is below the user's service manager, and owned by the user.

use std::io;
use std::os::unix::fs::MetadataExt;

use thiserror::Error;

use super::mount;
use crate::names::{CgroupId, CgroupPath};

/// Why a user may not attach policies to a cgroup.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum NotDelegated {
    #[error("{path} is not below {manager}, the user manager of uid {uid}")]
    Elsewhere { path: CgroupPath, manager: String, uid: u32 },
    #[error("{path} belongs to uid {owner}, not to uid {uid}")]
    Another { path: CgroupPath, owner: u32, uid: u32 },
    #[error("{path} cannot be examined: {error}")]
    Examine { path: CgroupPath, error: io::Error },
}

/// The cgroup of a user's service manager, which systemd delegates. Policies of this cgroup itself are set by the
/// administrator: the user must not override a drop-in of `user@.service`.
pub fn user_manager_cgroup(uid: u32) -> String {
    format!("/user.slice/user-{uid}.slice/user@{uid}.service")
}

/// The user below whose service manager a cgroup is.
pub fn delegated_uid(path: &CgroupPath) -> Option<u32> {
    let (uid, _) = path.as_str().strip_prefix("/user.slice/user-")?.split_once(".slice/")?;
    uid.parse().ok().filter(|uid| path.as_str().starts_with(&format!("{}/", user_manager_cgroup(*uid))))
}

/// The id of a cgroup that is delegated to this user. The owner and the id are read with one call.
pub fn delegated_cgroup(path: &CgroupPath, uid: u32) -> Result<CgroupId, NotDelegated> {
    let metadata = examine(path, uid)?;
    if metadata.uid() == uid {
        Ok(CgroupId(metadata.ino()))
    } else {
        Err(NotDelegated::Another { path: path.clone(), owner: metadata.uid(), uid })
    }
}

fn examine(path: &CgroupPath, uid: u32) -> Result<std::fs::Metadata, NotDelegated> {
    let manager = user_manager_cgroup(uid);
    // The slash excludes the manager's own cgroup and names with the same beginning.
    if !path.as_str().starts_with(&format!("{manager}/")) {
        return Err(NotDelegated::Elsewhere { path: path.clone(), manager, uid });
    }
    let examine = |error| NotDelegated::Examine { path: path.clone(), error };
    let metadata = std::fs::symlink_metadata(mount::dir(path)).map_err(examine)?;
    if metadata.is_dir() { Ok(metadata) } else { Err(examine(io::ErrorKind::NotADirectory.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_below_user_manager_are_delegated() {
        let said =
            |path: &str| delegated_cgroup(&CgroupPath::parse(path).unwrap(), 1000).unwrap_err().to_string();
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        for path in [
            "/system.slice/x.service",
            "/user.slice/user-1000.slice",
            manager,
            "/user.slice/user-1000.slice/user@1000.service.d",
            "/user.slice/user-1000.slice/session-2.scope",
            "/user.slice/user-1001.slice/user@1001.service/app.slice",
        ] {
            assert_eq!(said(path), format!("{path} is not below {manager}, the user manager of uid 1000"));
        }
        let user = |path: &str| delegated_uid(&CgroupPath::parse(path).unwrap());
        assert_eq!(user(&format!("{manager}/app.slice/x.service")), Some(1000));
        for path in
            [manager, "/user.slice/user-01000.slice/user@1000.service/a", "/user.slice/user-x.slice/a", "/a"]
        {
            assert_eq!(user(path), None, "{path}");
        }
        let inside = format!("{manager}/nonexistent.slice");
        assert!(said(&inside).starts_with(&format!("{inside} cannot be examined: ")));
    }
}
