//! Kills one process by its pidfd, or all processes of a cgroup, with SIGTERM first if there is a grace period.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::knob::{Access, open};
use super::mount;
use super::victim::{is_unkillable, pids};
use super::{process, tree};
use crate::names::{CgroupId, CgroupPath};

/// Maximum number of passes over a cgroup that is killed process by process.
const MAX_PASSES: usize = 20;
/// How long to wait for the end of processes after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an emptying cgroup is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The result of a kill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Killed {
    /// Number of processes that received a signal.
    pub processes: usize,
    /// True if SIGKILL was sent.
    pub forced: bool,
    /// True if the processes have exited.
    pub ended: bool,
}

/// A process, referred to by a descriptor: a signal cannot reach another process that reuses its id.
pub struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// Opens the process, if it is in `path` or below.
    pub fn open(pid: u32, path: &CgroupPath) -> io::Result<PidFd> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let fd = pidfd_open(raw, PidfdFlags::empty())?;
        // Read after the pidfd was opened: until the process is reaped, its id is not reused.
        let text = process::cgroup_text(pid)?;
        let at = text.lines().find_map(|line| line.strip_prefix("0::")).map(CgroupPath::parse);
        match at {
            Some(Ok(at)) if at.is_within(path) => Ok(PidFd { fd }),
            _ => Err(gone()),
        }
    }

    fn signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.fd, signal).is_ok()
    }

    /// Has it ended within this time?
    fn wait_exit(&self, within: Duration) -> bool {
        let until = Instant::now().checked_add(within);
        loop {
            let left = until.map_or(within, |until| until.saturating_duration_since(Instant::now()));
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return matches!(other, Ok(1..)),
            }
        }
    }
}

/// Ends one process. Blocks for the grace, and until it is gone. `may`: after the grace, is SIGKILL still wanted?
pub fn process(target: &PidFd, grace: Duration, still_allowed: impl Fn() -> bool) -> io::Result<Killed> {
    let mut killed = Killed { processes: 1, ..Killed::default() };
    if !grace.is_zero() && target.signal(Signal::TERM) {
        if target.wait_exit(grace) {
            return Ok(Killed { ended: true, ..killed });
        }
        if !still_allowed() {
            return Ok(killed);
        }
    }
    killed.forced = true;
    pidfd_send_signal(&target.fd, Signal::KILL)?;
    killed.ended = target.wait_exit(KILL_TIMEOUT);
    Ok(killed)
}

/// Ends everything in a cgroup and below, save what must not be killed. Blocks as [`process`] does.
pub fn cgroup(
    path: &CgroupPath,
    id: CgroupId,
    grace: Duration,
    still_allowed: impl Fn() -> bool,
) -> io::Result<Killed> {
    let (all, spared) = killable(path, id).ok_or(io::ErrorKind::NotFound)?;
    let mut killed = Killed { processes: all.len(), ..Killed::default() };
    if !grace.is_zero() {
        for target in &all {
            target.signal(Signal::TERM);
        }
        if wait_empty(path, id, grace) {
            return Ok(Killed { ended: true, ..killed });
        }
        if !still_allowed() {
            return Ok(killed);
        }
    }
    killed.forced = true;
    // cgroup.kill is atomic, but spares nobody, and does not know threaded cgroups.
    let at_once = || open(path, id, "cgroup.kill", Access::Write)?.write_all(b"1");
    if spared || at_once().is_err() {
        kill_each(path, id);
    }
    killed.ended = wait_empty(path, id, KILL_TIMEOUT);
    Ok(killed)
}

fn kill_each(path: &CgroupPath, id: CgroupId) {
    for _ in 0..MAX_PASSES {
        let Some((left, _)) = killable(path, id) else { return };
        // All of them, and then the next round.
        let signalled = left.iter().filter(|target| target.signal(Signal::KILL)).count();
        if signalled == 0 {
            return;
        }
        for target in &left {
            target.wait_exit(KILL_TIMEOUT);
        }
    }
}

/// A restarted unit has a cgroup with the same path, which must not be killed.
fn is_there(path: &CgroupPath, id: CgroupId) -> bool {
    mount::cgroup_id(path).is_ok_and(|found| found == id)
}

/// The processes in a subtree that may be killed, and whether there are others. `None` if the cgroup was removed.
fn killable(path: &CgroupPath, id: CgroupId) -> Option<(Vec<PidFd>, bool)> {
    let mut spared = false;
    let mut found = Vec::new();
    for cgroup in tree::descendants(path) {
        for pid in pids(&cgroup) {
            if is_unkillable(pid) {
                spared = true;
            } else if let Ok(target) = PidFd::open(pid, path) {
                found.push(target);
            }
        }
    }
    // After the pidfds are open: the processes were in this cgroup, and not in another one at the same path.
    is_there(path, id).then_some((found, spared))
}

/// Is nothing left within this time but what must not be killed?
fn wait_empty(path: &CgroupPath, id: CgroupId, within: Duration) -> bool {
    let began = Instant::now();
    loop {
        let over = tree::descendants(path).iter().all(|cgroup| pids(cgroup).into_iter().all(is_unkillable));
        if over || !is_there(path, id) {
            return true;
        }
        if began.elapsed() >= within {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Reports to systemd, in systemd-oomd's manner, that a unit's end was a kill for want of memory: the unit then fails with
/// the result `oom-kill`, and `OOMPolicy=` applies. Before, `user.oomd_ooms` counts what begins; afterwards
/// `user.oomd_kill` counts processes.
pub fn set_oomd_xattr(path: &CgroupPath, attribute: &str, more: usize) {
    let directory = mount::dir(path);
    let old = xattr::get(&directory, attribute).ok().flatten().unwrap_or_default();
    let old: u64 = String::from_utf8_lossy(&old).trim().parse().unwrap_or(0);
    let new = old.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
    if let Err(error) = xattr::set(directory, attribute, new.to_string().as_bytes()) {
        tracing::debug!(%error, %path, "failed to set the xattr {attribute}");
    }
}
