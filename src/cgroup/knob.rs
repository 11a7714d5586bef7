//! The files of a cgroup that keep what is written to them, and how they are changed without treading on others.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::mount::dir;
use super::xattr::is_removed;
use crate::names::{CgroupId, CgroupPath};
use crate::policy::action::{Knob, MAX};

/// What came of a write.
#[derive(Debug)]
pub enum WriteResult {
    /// The file holds the value, which was this before.
    Written(u64),
    /// It holds this, which nobody expected; nothing was written.
    Conflict(u64),
    /// The cgroup is gone.
    Removed,
    /// Nothing was written.
    Failed(io::Error),
}

/// What a knob holds now.
pub fn read(path: &CgroupPath, knob: Knob) -> io::Result<u64> {
    read_file(path, knob.file())
}

/// A number from one of a cgroup's files; `max` is [`MAX`].
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

/// Writes a knob, if it holds one of `expect` (or the value already). May block for seconds: before Linux 7, lowering
/// memory.high frees memory before it returns.
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
    // Non-blocking: where the kernel knows that, it leaves the freeing to the cgroup's own processes.
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
        // An interrupted write may have set the value all the same.
        Err(_) if read(path, knob).is_ok_and(|now| now == value) => Ok(WriteResult::Written(current)),
        Err(error) => Err(error),
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To read and to write.
    Both,
    /// Some files cannot be read.
    Write,
}

/// Opens a file of this very cgroup, and not of another one that has its path by now.
pub(super) fn open(path: &CgroupPath, id: CgroupId, name: &str, mode: Access) -> io::Result<File> {
    let directory = dir(path);
    let mut options = OpenOptions::new();
    let flags = nix::libc::O_NOFOLLOW | if mode == Access::Both { nix::libc::O_NONBLOCK } else { 0 };
    options.read(mode == Access::Both).write(true).custom_flags(flags);
    let file = options.open(directory.join(name))?;
    // A file that was opened before its cgroup was replaced writes to nothing any more (ENODEV).
    if std::fs::symlink_metadata(&directory)?.ino() == id.0 {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
