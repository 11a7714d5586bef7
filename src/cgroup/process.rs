//! The cgroup of a process, as reported by the kernel.

use std::io::{self, Read};

use super::mount::dir;
use crate::names::CgroupPath;

/// Bytes read of a command line; a process can make its own command line longer.
const ARGUMENTS_MAX: u64 = 64 * 1024;

/// The text of /proc/PID/cgroup: `0::/system.slice/x.service`.
pub fn cgroup_text(pid: u32) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
}

/// The processes in a cgroup itself.
pub fn members(path: &CgroupPath) -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string(dir(path).join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The process that is notified when this one ends.
pub fn parent(pid: u32) -> io::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|line| line.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The beginning of a process's command line, which the process may have changed.
pub fn arguments(pid: u32) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/cmdline"))?.take(ARGUMENTS_MAX).read_to_end(&mut bytes)?;
    Ok(bytes.split(|b| *b == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}
