//! Facts about the machine and the process of the daemon.

use std::path::Path;

use crate::cgroup::process;
use crate::names::CgroupPath;
use crate::source::specifier::Specifiers;

/// The cgroup of the daemon.
pub fn daemon_cgroup() -> Option<CgroupPath> {
    let text = process::cgroup_text(std::process::id()).ok()?;
    CgroupPath::parse(text.trim().strip_prefix("0::")?).ok()
}

/// The values of specifiers on this machine.
pub fn specifiers() -> Specifiers {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default().trim().to_owned();
    Specifiers {
        hostname: read("/proc/sys/kernel/hostname"),
        machine_id: read("/etc/machine-id"),
        boot_id: read("/proc/sys/kernel/random/boot_id").replace('-', ""),
        kernel_release: read("/proc/sys/kernel/osrelease"),
    }
}
