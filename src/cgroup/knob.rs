//! The files of a cgroup that keep their value, and how they are changed without overwriting changes of other
//! programs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::mount::dir;
use super::xattr::is_removed;
use crate::names::{CgroupId, CgroupPath};
use crate::policy::action::{Knob, MAX};

/// The result of a write.
#[derive(Debug)]
pub enum WriteResult {
    /// The value was written; the previous value.
    Written(u64),
    /// The file contained another value than expected; nothing was written.
    Conflict(u64),
    /// The cgroup was removed.
    Removed,
    /// Nothing was written.
    Failed(io::Error),
}

/// The current value of a knob.
pub fn read(path: &CgroupPath, knob: Knob) -> io::Result<u64> {
    read_file(path, knob.file())
}

/// The number in a file of a cgroup; `max` is [`MAX`].
pub fn read_file(path: &CgroupPath, file: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(dir(path).join(file))?;
    parse(&text).ok_or_else(|| io::Error::other(format!("{file} of {path} contains '{}'", text.trim())))
}

fn parse(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(MAX),
        number => number.parse().ok(),
    }
}

/// Writes a knob, if it contains one of `expect` or the new value. May block for seconds: before Linux 7, a write
/// that lowers memory.high reclaims memory before it returns.
pub fn write(path: &CgroupPath, id: CgroupId, knob: Knob, expect: &[u64], value: u64) -> WriteResult {
    match try_write(path, id, knob, expect, value) {
        Ok(wrote) => wrote,
        Err(error) if is_removed(&error) => WriteResult::Removed,
        Err(error) => WriteResult::Failed(error),
    }
}

fn try_write(
    path: &CgroupPath,
    id: CgroupId,
    knob: Knob,
    expect: &[u64],
    value: u64,
) -> io::Result<WriteResult> {
    // With O_NONBLOCK, newer kernels leave the reclaim to the processes of the cgroup.
    let mut file = open(path, id, knob.file(), Access::Both)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let current = parse(&text).ok_or_else(|| io::Error::other(format!("it says '{}'", text.trim())))?;
    if current == value {
        return Ok(WriteResult::Written(current));
    }
    if !expect.contains(&current) {
        return Ok(WriteResult::Conflict(current));
    }
    let text = if value == MAX && knob != Knob::Freeze { "max".to_owned() } else { value.to_string() };
    match file.write_all(text.as_bytes()) {
        Ok(()) => Ok(WriteResult::Written(current)),
        // An interrupted write may have set the value.
        Err(_) if read(path, knob).is_ok_and(|now| now == value) => Ok(WriteResult::Written(current)),
        Err(error) => Err(error),
    }
}

/// The access mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading and writing.
    Both,
    /// Writing only: some files cannot be read.
    Write,
}

/// Opens a file of the cgroup with this id, and not of another one at the same path.
pub(super) fn open(path: &CgroupPath, id: CgroupId, name: &str, mode: Access) -> io::Result<File> {
    let directory = dir(path);
    let mut options = OpenOptions::new();
    let flags = nix::libc::O_NOFOLLOW | if mode == Access::Both { nix::libc::O_NONBLOCK } else { 0 };
    options.read(mode == Access::Both).write(true).custom_flags(flags);
    let file = options.open(directory.join(name))?;
    // If the cgroup is replaced after the file was opened, writes fail with ENODEV.
    if std::fs::symlink_metadata(&directory)?.ino() == id.0 {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
