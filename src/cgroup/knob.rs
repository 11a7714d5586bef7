//! The files of a cgroup that keep their value, and how they are changed without overwriting changes of other
//! programs.

use std::io::{self, Read, Write};

use super::directory::{self, Access, number};
use super::mount::dir;
use super::xattr::is_removed;
use crate::names::{CgroupPath, CgroupRef};
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
    number(&text).ok_or_else(|| io::Error::other(format!("{file} of {path} contains '{}'", text.trim())))
}

/// Writes a knob, if it contains one of `expect` or the new value. May block for seconds: before Linux 7, a write
/// that lowers memory.high reclaims memory before it returns.
pub fn write(cgroup: &CgroupRef, knob: Knob, expect: &[u64], value: u64) -> WriteResult {
    match try_write(cgroup, knob, expect, value) {
        Ok(wrote) => wrote,
        Err(error) if is_removed(&error) => WriteResult::Removed,
        Err(error) => WriteResult::Failed(error),
    }
}

fn try_write(cgroup: &CgroupRef, knob: Knob, expect: &[u64], value: u64) -> io::Result<WriteResult> {
    let directory = directory::open(cgroup)?;
    let mut file = directory.file(knob.file(), Access::Both)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let current = number(&text).ok_or_else(|| io::Error::other(format!("it says '{}'", text.trim())))?;
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
        Err(_) if directory.number(knob.file()).is_ok_and(|now| now == value) => {
            Ok(WriteResult::Written(current))
        }
        Err(error) => Err(error),
    }
}
