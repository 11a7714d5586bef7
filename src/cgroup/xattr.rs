//! The record on a cgroup: an extended attribute that only root can write and that is removed with the cgroup.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use xattr::FileExt;

use super::directory;
use super::mount::dir;
use crate::names::{CgroupPath, CgroupRef};
use crate::source::xattr::{CgroupRecord, OWNER_POLICY_XATTR, RECORD_XATTR, RecordError};

/// Reads the record; `None` if there is none.
pub fn read_record(path: &CgroupPath) -> io::Result<Option<Vec<u8>>> {
    xattr::get(dir(path), RECORD_XATTR)
}

/// Writes the record and replaces the previous one.
pub fn write_record(path: &CgroupPath, value: &[u8]) -> io::Result<()> {
    xattr::set(dir(path), RECORD_XATTR, value)
}

/// Reads the policy line of the owner of a cgroup; `None` if there is none.
pub fn read_owner_policy(path: &CgroupPath) -> io::Result<Option<Vec<u8>>> {
    xattr::get(dir(path), OWNER_POLICY_XATTR)
}

/// Writes the policy line of the owner.
pub fn write_owner_policy(path: &CgroupPath, line: &str) -> io::Result<()> {
    xattr::set(dir(path), OWNER_POLICY_XATTR, line.as_bytes())
}

/// How long [`lock_records`] waits for another program that changes a record.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
/// The directory that is locked while a record is changed. Only root can open it: whoever can open a file can hold a lock
/// on it, and make the daemon wait.
const LOCKED: &str = "/sys/fs/bpf";

/// Locks records against changes by other programs while the result is kept: the hook and the daemon read, change and
/// write them. `None` without root or bpffs, or after [`LOCK_TIMEOUT`].
pub fn lock_records() -> Option<Flock<File>> {
    let mut file = File::open(LOCKED).ok()?;
    let began = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((_, error)) if error != Errno::EWOULDBLOCK || began.elapsed() >= LOCK_TIMEOUT => return None,
            Err((unlocked, _)) => file = unlocked,
        }
        std::thread::sleep(LOCK_INTERVAL);
    }
}

/// Changes a part of the record. An empty record is removed. A removed cgroup is not an error.
pub fn update_record(cgroup: &CgroupRef, change: impl FnOnce(&mut CgroupRecord)) -> Result<(), String> {
    let text = |what: &str, error: &dyn std::fmt::Display| format!("{what} the record of {cgroup}: {error}");
    let _lock = lock_records();
    let directory = match directory::open(cgroup) {
        Ok(directory) => directory,
        Err(error) if is_removed(&error) => return Ok(()),
        Err(error) => return Err(text("reading", &error)),
    };
    let attributes = directory.attributes();
    let old = match attributes.get_xattr(RECORD_XATTR) {
        Ok(old) => old,
        Err(error) if is_removed(&error) => return Ok(()),
        Err(error) => return Err(text("reading", &error)),
    };
    // A record that cannot be parsed is replaced.
    let mut record = old.as_deref().and_then(|bytes| CgroupRecord::parse(bytes).ok()).unwrap_or_default();
    change(&mut record);
    let done = if record.is_empty() {
        if old.is_some() { attributes.remove_xattr(RECORD_XATTR) } else { Ok(()) }
    } else {
        let bytes = record.encode().map_err(|error: RecordError| format!("{cgroup}: {error}"))?;
        if old.as_ref() == Some(&bytes) { Ok(()) } else { attributes.set_xattr(RECORD_XATTR, &bytes) }
    };
    match done {
        Err(error) if !is_removed(&error) && error.raw_os_error() != Some(nix::libc::ENODATA) => {
            Err(text("writing", &format!("{error} (memcg-bpfd needs CAP_SYS_ADMIN)")))
        }
        _ => Ok(()),
    }
}

/// Removes the record, if there is one.
pub fn remove_record(path: &CgroupPath) -> io::Result<()> {
    remove(path, RECORD_XATTR)
}

/// Removes the policy line of the owner, if there is one.
pub fn remove_owner_policy(path: &CgroupPath) -> io::Result<()> {
    remove(path, OWNER_POLICY_XATTR)
}

fn remove(path: &CgroupPath, attribute: &str) -> io::Result<()> {
    match xattr::remove(dir(path), attribute) {
        Err(e) if e.raw_os_error() == Some(nix::libc::ENODATA) || is_removed(&e) => Ok(()),
        other => other,
    }
}

/// ENODEV: the cgroup was removed during the call.
pub(super) fn is_removed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}
