//! The cgroup of a process, as reported by the kernel.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

use super::mount::dir;
use crate::names::CgroupPath;

/// Bytes read of a command line; a process can make its own command line longer.
const ARGUMENTS_MAX: u64 = 64 * 1024;

/// The text of /proc/PID/cgroup: `0::/system.slice/x.service`.
pub fn cgroup_text(pid: u32) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
}

/// The text of /proc/PID/cgroup, if this process belongs to this user. A process that has exited fails, and so does one of
/// another user that has its id now.
pub fn cgroup_text_of_user(pid: u32, uid: u32) -> io::Result<String> {
    // Both files are those of one process, even if its id is used again meanwhile.
    let process = File::open(format!("/proc/{pid}"))?;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/fd/{}/{file}", process.as_raw_fd()));
    let status = read("status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    // The bus knows the effective uid with which the process connected; the first two are real and effective.
    if line.split_ascii_whitespace().take(2).any(|one| one.parse() == Ok(uid)) {
        read("cgroup")
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_of_reused_process_id_is_not_that_of_the_caller() {
        let (own, uid) = (std::process::id(), nix::unistd::getuid().as_raw());
        assert_eq!(cgroup_text_of_user(own, uid).unwrap(), cgroup_text(own).unwrap());
        // The process that connected as another user has exited, and this one has its id.
        assert!(cgroup_text_of_user(own, uid.wrapping_add(1)).is_err());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(cgroup_text_of_user(child.id(), uid).is_err());
    }
}
