//! The environment of the hook, and its result.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::cgroup::xattr;
use crate::names::CgroupPath;
use crate::source::oci_state::ContainerRequest;

type Read = dyn Fn(&CgroupPath) -> io::Result<Option<Vec<u8>>>;
type Write = dyn Fn(&CgroupPath, &[u8]) -> io::Result<()>;
type WriteOwnerPolicy = dyn Fn(&CgroupPath, &str) -> io::Result<()>;

/// Access to the attributes of cgroups. Tests keep them in memory, because only root may write them.
pub(crate) struct Records {
    /// Reads a record.
    pub read: Box<Read>,
    /// Writes a record.
    pub write: Box<Write>,
    /// Writes the attribute that the owner of a cgroup may write without being root.
    pub write_owner_policy: Box<WriteOwnerPolicy>,
}

impl Records {
    /// The attributes of the real cgroups.
    pub fn of_cgroups() -> Self {
        Records {
            read: Box::new(xattr::read_record),
            write: Box::new(xattr::write_record),
            write_owner_policy: Box::new(xattr::write_owner_policy),
        }
    }
}

/// The environment of the hook.
pub(crate) struct Environment {
    /// The address of the system bus.
    pub bus: String,
    /// The timeout of a call.
    pub deadline: Duration,
    /// The mount point of procfs: `/proc` except in tests.
    pub proc: PathBuf,
    /// Records on cgroups.
    pub records: Records,
}

/// The result of the hook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct HookResult {
    /// True if the container must not start.
    pub fail: bool,
    /// Sentences without line feeds, for standard error and the journal.
    pub notes: Vec<String>,
    /// Sentences for the journal only.
    pub debug: Vec<String>,
    /// The container's id.
    pub container: Option<String>,
}

/// Prefixes a sentence with the container's id, shortened as engines shorten it, and with the names of its pod and of the
/// container.
pub(crate) fn prefix(request: &ContainerRequest, sentence: &str) -> String {
    let id = request.id.as_str();
    let hex = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let short = if hex { id.get(..12).unwrap_or(id) } else { id };
    let pod = request.pod.as_ref().map_or(String::new(), |pod| format!(" ({pod})"));
    format!("container {short}{pod}: {sentence}")
}
