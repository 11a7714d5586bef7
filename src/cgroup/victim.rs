//! Selects the victim of a kill. Exempt are processes with oom_score_adj -1000, the daemon and PID 1.

use std::io;
use std::path::Path;

use super::knob::read_file;
use super::mount::dir;
use super::tree;
use crate::names::CgroupPath;
use crate::policy::action::VictimOrder;

/// The oom_score_adj of processes that must not be killed.
const OOM_SCORE_ADJ_MIN: i64 = -1000;

/// A process, or a cgroup that contains processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidate {
    /// The process; `None` for a whole cgroup.
    pub pid: Option<u32>,
    /// The display name.
    pub name: String,
    /// Its cgroup.
    pub path: Option<CgroupPath>,
    /// The weight in bytes: the memory, for processes adjusted by oom_score_adj.
    pub weight: i128,
    /// The memory in bytes.
    pub bytes: u64,
    /// The start time; larger is later.
    pub started: u64,
    /// The memory pressure: the share of the last 10 seconds in which some tasks were stalled.
    pub pressure: u64,
}

/// The start of a process in the unit of /proc, which counts in hundredths of a second.
fn ticks(ns: u64) -> u64 {
    ns.checked_div(10_000_000).unwrap_or(0)
}

/// True if the candidate was started at this time, in nanoseconds on CLOCK_BOOTTIME: its process id was not reused.
pub fn started(candidate: &Candidate, at: u64) -> bool {
    candidate.started == ticks(at)
}

/// True if the process that was started at this time has not exited.
pub fn is_running(pid: u32, started: u64) -> bool {
    stat(pid).is_some_and(|stat| stat.started == ticks(started) && !stat.exited)
}

/// Selects the candidate to kill, and returns the others. [`VictimOrder::Culprit`] selects the one for which
/// `is_culprit` is true; if it has ended, the largest.
pub fn select(
    mut all: Vec<Candidate>,
    select: VictimOrder,
    is_culprit: impl Fn(&Candidate) -> bool,
) -> Option<(Candidate, Vec<Candidate>)> {
    // The last one is selected; of equal ones that with more memory, then the younger one.
    let memory = |c: &Candidate| (c.weight, c.started);
    match select {
        VictimOrder::Largest => all.sort_by_key(memory),
        VictimOrder::Newest => all.sort_by_key(|c| (c.started, c.weight)),
        VictimOrder::Pressure => all.sort_by_key(|c| (c.pressure, memory(c))),
        VictimOrder::Culprit => all.sort_by_key(|c| (is_culprit(c), memory(c))),
    }
    let victim = all.pop()?;
    all.reverse();
    Some((victim, all))
}

/// The processes in a subtree that may be killed. `max` is the memory in bytes to which oom_score_adj is relative.
pub fn processes(top: &CgroupPath, max: u64) -> Vec<Candidate> {
    let mut found = Vec::new();
    for path in tree::populated(top) {
        let pressure = pressure(&path);
        for pid in pids(&path) {
            if let Some(candidate) = process(pid, &path, max) {
                found.push(Candidate { pressure, ..candidate });
            }
        }
    }
    found
}

/// The cgroups in a subtree that contain processes, except that of the daemon (`own`) and those whose processes are all
/// exempt.
pub fn populated_cgroups(top: &CgroupPath, own: Option<&CgroupPath>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for path in tree::populated(top) {
        let pids = pids(&path);
        if own.is_some_and(|own| own.is_within(&path))
            || !pids.iter().any(|pid| standing(*pid) == Standing::Killable)
        {
            continue;
        }
        let bytes = super::memory::usage(&path).unwrap_or(0);
        found.push(Candidate {
            pid: None,
            name: path.file_name().to_owned(),
            weight: bytes.into(),
            bytes,
            // The start time of a cgroup is that of its oldest process.
            started: pids.iter().filter_map(|pid| stat(*pid)).map(|s| s.started).min().unwrap_or(0),
            pressure: pressure(&path),
            path: Some(path),
        });
    }
    found
}

/// The processes of a cgroup itself. Threaded cgroups have none.
pub fn pids(path: &CgroupPath) -> Vec<u32> {
    let text = std::fs::read_to_string(dir(path).join("cgroup.procs")).unwrap_or_default();
    // 0: a process of another PID namespace.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// Whether a process may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be killed.
    Killable,
    /// It must not be killed.
    Exempt,
    /// It has exited, or /proc hides it.
    Gone,
}

/// Whether this process may be killed. One that exits at this moment says nothing about the others of its cgroup.
pub fn standing(pid: u32) -> Standing {
    if pid <= 1 || pid == std::process::id() {
        return Standing::Exempt;
    }
    match score_adjust(pid) {
        Ok(adjust) if adjust > OOM_SCORE_ADJ_MIN => Standing::Killable,
        Err(error) if is_exit(&error) => Standing::Gone,
        // Unreadable for another reason: it might be exempt.
        _ => Standing::Exempt,
    }
}

fn is_exit(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

fn process(pid: u32, path: &CgroupPath, max: u64) -> Option<Candidate> {
    let adjust = score_adjust(pid).ok().filter(|_| standing(pid) == Standing::Killable)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = memory_in(&status)?;
    // The weight that the kernel's OOM killer uses.
    let added = i128::from(adjust).saturating_mul(max.into()).checked_div(1000)?;
    let stat = stat(pid)?;
    Some(Candidate {
        pid: Some(pid),
        name: stat.name,
        path: Some(path.clone()),
        weight: i128::from(bytes).saturating_add(added),
        bytes,
        started: stat.started,
        pressure: 0,
    })
}

fn score_adjust(pid: u32) -> io::Result<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The memory that is freed with a process: its resident memory, swap and page tables. `None` for a kernel thread or
/// an exiting process.
fn memory_in(status: &str) -> Option<u64> {
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let others = ["VmSwap:", "VmPTE:"].iter().filter_map(|name| field(name));
    Some(others.fold(field("VmRSS:")?, u64::saturating_add))
}

struct Stat {
    name: String,
    started: u64,
    exited: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    stat_in(&std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?)
}

/// The name may contain spaces and parentheses; fields are counted from its end.
fn stat_in(text: &str) -> Option<Stat> {
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A zombie has no memory; X is seen only for a moment.
    let exited = matches!(fields.next()?, "Z" | "X");
    Some(Stat { name: name.to_owned(), started: fields.nth(18)?.parse().ok()?, exited })
}

fn pressure(path: &CgroupPath) -> u64 {
    let text = std::fs::read_to_string(dir(path).join("memory.pressure")).unwrap_or_default();
    pressure_in(&text).unwrap_or(0)
}

/// `some avg10=12.34 …` in hundredths of a percent.
fn pressure_in(text: &str) -> Option<u64> {
    let (whole, part) = text.strip_prefix("some avg10=")?.split_whitespace().next()?.split_once('.')?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

/// The cgroup that is killed with a process in `path`: the highest one with memory.oom.group set, not above `top`.
pub fn oom_group(path: &CgroupPath, top: &CgroupPath) -> Option<CgroupPath> {
    let mut found = None;
    let mut at = Some(path.clone());
    while let Some(cgroup) = at.filter(|cgroup| cgroup.is_within(top)) {
        if read_file(&cgroup, "memory.oom.group").is_ok_and(|set| set == 1) {
            found = Some(cgroup.clone());
        }
        at = cgroup.parent();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, weight: i128, started: u64, pressure: u64) -> Candidate {
        Candidate { name: name.to_owned(), weight, started, pressure, ..Candidate::default() }
    }

    #[test]
    fn each_order_selects_victim_and_sorts_others() {
        let all =
            vec![candidate("big", 90, 1, 5), candidate("young", 10, 9, 5), candidate("stalled", 20, 5, 80)];
        let chosen = |order| {
            let (victim, others) = select(all.clone(), order, |_| false).unwrap();
            let others: Vec<String> = others.into_iter().map(|c| c.name).collect();
            (victim.name, others.join(" "))
        };
        assert_eq!(chosen(VictimOrder::Largest), ("big".to_owned(), "stalled young".to_owned()));
        assert_eq!(chosen(VictimOrder::Newest), ("young".to_owned(), "stalled big".to_owned()));
        assert_eq!(chosen(VictimOrder::Pressure), ("stalled".to_owned(), "big young".to_owned()));
        let culprit = |name: &'static str| {
            let (victim, _) = select(all.clone(), VictimOrder::Culprit, |c| c.name == name).unwrap();
            victim.name
        };
        assert_eq!(culprit("young"), "young");
        assert_eq!(culprit("gone"), "big");
        assert_eq!(select(vec![], VictimOrder::Largest, |_| false), None);
    }

    #[test]
    fn the_kernels_texts_are_understood() {
        let stat = stat_in("42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20").unwrap();
        assert_eq!((stat.name.as_str(), stat.started), ("a) b (c)", 777));
        assert!(!stat.exited);
        let zombie = stat_in("42 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20").unwrap();
        assert!(zombie.exited && zombie.started == 777);
        let (own, boot) = (std::process::id(), 10_000_000);
        let started = super::stat(own).unwrap().started * boot;
        assert!(is_running(own, started + 1) && !is_running(own, started + boot) && !is_running(0, started));
        assert!(stat_in("42 (short) S 1").is_none());
        let status = "Name:\tx\nVmRSS:\t    100 kB\nVmPTE:\t      8 kB\nVmSwap:\t   20 kB\n";
        assert_eq!(memory_in(status), Some(128 * 1024));
        assert_eq!(memory_in("Name:\tkthreadd\n"), None);
        assert_eq!(pressure_in("some avg10=12.34 avg60=0.00 avg300=0.00 total=5\nfull …"), Some(1234));
        assert_eq!(pressure_in(""), None);
    }

    #[test]
    fn we_and_pid_1_are_never_chosen() {
        for pid in [0, 1, std::process::id()] {
            assert_eq!(standing(pid), Standing::Exempt, "{pid}");
        }
    }

    #[test]
    fn exited_process_is_gone_not_exempt() {
        assert_eq!(standing(u32::MAX), Standing::Gone);
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(standing(child.id()), Standing::Killable);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(standing(child.id()), Standing::Gone);
    }
}
