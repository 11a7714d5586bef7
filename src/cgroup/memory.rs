//! The memory files of a cgroup.

use std::collections::BTreeMap;
use std::io;

use super::mount::dir;
use crate::names::CgroupPath;

/// Reads a file of a cgroup. Errors name the file.
fn read(path: &CgroupPath, file: &str) -> io::Result<String> {
    std::fs::read_to_string(dir(path).join(file))
        .map_err(|e| io::Error::new(e.kind(), format!("reading {file} of {path}: {e}")))
}

/// memory.current in bytes.
pub fn usage(path: &CgroupPath) -> io::Result<u64> {
    let text = read(path, "memory.current")?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::other(format!("memory.current of {path} contains '{}'", text.trim())))
}

/// True if the cgroup lacks the memory controller, so that no policy can be attached. False if the cgroup was
/// removed: the check is one access to one file, because the cgroup may be removed and created again at any time.
pub fn lacks_memory_controller(path: &CgroupPath) -> bool {
    read(path, "cgroup.controllers").is_ok_and(|all| !all.split_whitespace().any(|one| one == "memory"))
}

/// The lowest memory.max of the cgroup and its ancestors in bytes; `machine` if none is set.
pub fn effective_max(path: &CgroupPath, machine: u64) -> u64 {
    let mut least = machine;
    let mut at = Some(path.clone());
    while let Some(cgroup) = at {
        // The value is "max", or the cgroup is the root, which has no such file.
        if let Some(max) = read(&cgroup, "memory.max").ok().and_then(|t| t.trim().parse().ok()) {
            least = least.min(max);
        }
        at = cgroup.parent();
    }
    least
}

/// memory.events: `low high max oom oom_kill oom_group_kill …`.
pub fn events(path: &CgroupPath) -> BTreeMap<String, u64> {
    let text = read(path, "memory.events").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

/// The shares of the last 10 seconds in which some tasks, and all tasks, were stalled on memory, in percent as the
/// kernel writes them. Fails if the kernel does not measure pressure (psi=0).
pub fn pressure(path: &CgroupPath) -> io::Result<(String, String)> {
    let text = read(path, "memory.pressure")?;
    let of = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_whitespace().find_map(|word| word.strip_prefix("avg10=")).map(str::to_owned)
    };
    of("some")
        .zip(of("full"))
        .ok_or_else(|| io::Error::other(format!("memory.pressure of {path} contains '{text}'")))
}

/// The page size in bytes. 4096 on x86; arm64 supports three sizes.
pub fn page_size() -> u64 {
    let said = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    said.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

/// The machine's memory in bytes (MemTotal).
pub fn total_ram() -> io::Result<u64> {
    of_meminfo(&std::fs::read_to_string("/proc/meminfo")?, "MemTotal")
}

fn of_meminfo(text: &str, key: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .and_then(|kib| kib.checked_mul(1024))
        .ok_or_else(|| io::Error::other(format!("/proc/meminfo has no {key}")))
}

/// Number of pages above which the kernel itself rejects a request for address space, regardless of free memory.
/// `None` if it may reject any request, because it limits the sum of all requests (`vm.overcommit_memory=2`), or if
/// the limit cannot be read.
pub fn commit_limit_pages() -> Option<u64> {
    let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").ok()?;
    commit_limit_pages_of(&mode, &std::fs::read_to_string("/proc/meminfo").ok()?, page_size())
}

/// As in `__vm_enough_memory()` in mm/util.c.
fn commit_limit_pages_of(mode: &str, meminfo: &str, page: u64) -> Option<u64> {
    match mode.trim() {
        "0" => {
            let (memory, swap) =
                (of_meminfo(meminfo, "MemTotal").ok()?, of_meminfo(meminfo, "SwapTotal").ok()?);
            memory.checked_add(swap)?.checked_div(page)
        }
        "1" => Some(u64::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_limit_depends_on_overcommit_mode() {
        let meminfo = "MemTotal:        8000 kB\nMemFree:         1000 kB\nSwapTotal:       4000 kB\n";
        assert_eq!(commit_limit_pages_of("0\n", meminfo, 4096), Some(3000));
        assert_eq!(commit_limit_pages_of("0\n", "MemTotal: 8000 kB\nSwapTotal: 0 kB\n", 4096), Some(2000));
        assert_eq!(commit_limit_pages_of("1\n", meminfo, 4096), Some(u64::MAX));
        // The kernel may reject any request, or the mode is unknown.
        for (mode, meminfo) in
            [("2\n", meminfo), ("", meminfo), ("0\n", "MemTotal: 8000 kB\n"), ("0\n", "SwapTotal: 1 kB\n")]
        {
            assert_eq!(commit_limit_pages_of(mode, meminfo, 4096), None, "{mode:?} {meminfo:?}");
        }
    }
}
