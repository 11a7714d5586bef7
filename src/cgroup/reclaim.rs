//! Reclaims memory of a cgroup by memory.reclaim.

use std::io::{self, Write};

use super::directory::{self, Access};
use super::memory::usage;
use super::xattr::is_removed;
use crate::names::CgroupRef;

/// The result of a reclaim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaimed {
    /// memory.current before, in bytes.
    pub before: u64,
    /// memory.current after, in bytes.
    pub after: u64,
    /// True if the kernel reclaimed less than requested.
    pub short: bool,
}

/// Reclaims `bytes` from the cgroup. Blocks until the kernel has finished; the CPU time is charged to the daemon. The
/// error is NotFound if the cgroup was removed.
pub fn reclaim(cgroup: &CgroupRef, bytes: u64, swappiness: Option<u8>) -> io::Result<Reclaimed> {
    let before = usage(&cgroup.path)?;
    let ask = |text: &str| {
        let file = directory::open(cgroup).and_then(|at| at.file("memory.reclaim", Access::Write));
        file.and_then(|mut file| file.write_all(text.as_bytes()))
    };
    let mut done = match swappiness {
        Some(swappiness) => ask(&format!("{bytes} swappiness={swappiness}")),
        None => ask(&bytes.to_string()),
    };
    // Before Linux 6.9, the file accepts only a number.
    if swappiness.is_some() && matches!(&done, Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL)) {
        done = ask(&bytes.to_string());
    }
    let short = match done {
        Ok(()) => false,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => true,
        Err(e) if is_removed(&e) => return Err(io::ErrorKind::NotFound.into()),
        Err(e) => return Err(e),
    };
    Ok(Reclaimed { before, after: usage(&cgroup.path)?, short })
}
