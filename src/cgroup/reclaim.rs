//! Taking memory from a cgroup: memory.reclaim.

use std::io::{self, Write};

use super::knob::{Access, open};
use super::memory::usage;
use super::xattr::is_removed;
use crate::names::{CgroupId, CgroupPath};

/// What it gave: memory.current before and after, and whether it was less than asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaimed {
    /// memory.current before.
    pub before: u64,
    /// memory.current after.
    pub after: u64,
    /// The kernel found less than it was asked for.
    pub short: bool,
}

/// Asks the kernel to take `bytes` from the cgroup. Blocks until it has; the time is charged to us. Not found: the cgroup
/// is gone.
pub fn reclaim(path: &CgroupPath, id: CgroupId, bytes: u64, swappiness: Option<u8>) -> io::Result<Reclaimed> {
    let before = usage(path)?;
    let ask = |text: &str| {
        open(path, id, "memory.reclaim", Access::Write).and_then(|mut f| f.write_all(text.as_bytes()))
    };
    let mut done = match swappiness {
        Some(swappiness) => ask(&format!("{bytes} swappiness={swappiness}")),
        None => ask(&bytes.to_string()),
    };
    // Before 6.9 the file takes nothing but a number.
    if swappiness.is_some() && matches!(&done, Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL)) {
        done = ask(&bytes.to_string());
    }
    let short = match done {
        Ok(()) => false,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => true,
        Err(e) if is_removed(&e) => return Err(io::ErrorKind::NotFound.into()),
        Err(e) => return Err(e),
    };
    Ok(Reclaimed { before, after: usage(path)?, short })
}
