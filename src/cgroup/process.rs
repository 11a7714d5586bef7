//! A process's cgroup, as the kernel says it.

use std::io;

/// The text of /proc/PID/cgroup: `0::/system.slice/x.service`.
pub fn cgroup_text(pid: u32) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
}
