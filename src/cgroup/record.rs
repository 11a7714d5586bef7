//! The record on a cgroup: an extended attribute that only root can write and that vanishes with the cgroup.

use std::io;

use super::mount::directory;
use crate::names::CgroupPath;
use crate::source::record::RECORD_XATTR;

/// Reads the record; `None` when there is none.
pub fn read_record(path: &CgroupPath) -> io::Result<Option<Vec<u8>>> {
    xattr::get(directory(path), RECORD_XATTR)
}

/// Writes the record, replacing what was there.
pub fn write_record(path: &CgroupPath, value: &[u8]) -> io::Result<()> {
    xattr::set(directory(path), RECORD_XATTR, value)
}

/// Removes the record; none is no error.
pub fn erase_record(path: &CgroupPath) -> io::Result<()> {
    match xattr::remove(directory(path), RECORD_XATTR) {
        Err(e) if e.raw_os_error() == Some(nix::libc::ENODATA) || e.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}
