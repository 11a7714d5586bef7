//! Kills one process by its pidfd, or all processes of a cgroup, with SIGTERM first if there is a grace period.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directory::{self, Access};
use super::mount;
use super::victim::{Standing, pids, standing};
use super::{process, tree};
use crate::names::{CgroupId, CgroupPath, CgroupRef};

/// How long one pass over a cgroup that is killed process by process waits for the end of a process.
const PASS_WAIT: Duration = Duration::from_millis(20);
/// How long to wait for the end of processes after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// The times between two checks for the end of the victims: first, and at most.
const CHECK_INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Processes that are checked for their end one by one, if others in their cgroup must not be killed.
const WATCHED_MAX: usize = 64;

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

    fn has_ended(&self) -> bool {
        self.wait_exit(Instant::now())
    }

    /// Has it ended by then?
    fn wait_exit(&self, until: Instant) -> bool {
        loop {
            let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return matches!(other, Ok(1..)),
            }
        }
    }
}

/// What is killed.
pub enum Target {
    /// One process.
    Process(PidFd),
    /// Everything in a cgroup and below, save what must not be killed.
    Cgroup(CgroupPath, CgroupId),
}

/// How far a kill is.
pub enum Progress {
    /// It is over.
    Over(Killed),
    /// The victims have a signal, and are waited for.
    Waits(Waiting),
}

/// A kill whose victims are waited for. Occupies no thread.
pub struct Waiting {
    target: Target,
    killed: Killed,
    /// Processes to check one by one, because the cgroup will not become empty.
    watched: Vec<PidFd>,
    until: Instant,
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// Sends the first signal: SIGTERM if there is a grace, else SIGKILL.
pub fn begin(target: Target, grace: Duration) -> io::Result<Progress> {
    if grace.is_zero() {
        return force(target, 0);
    }
    let mut killed = Killed { processes: 1, ..Killed::default() };
    let mut watched = Vec::new();
    match &target {
        Target::Process(process) if !process.signal(Signal::TERM) => return force(target, 1),
        Target::Process(_) => {}
        Target::Cgroup(path, id) => {
            let (all, spared) = killable(path, *id).ok_or(io::ErrorKind::NotFound)?;
            all.iter().for_each(|process| {
                let _ = process.signal(Signal::TERM);
            });
            killed.processes = all.len();
            if spared {
                watched = all.into_iter().take(WATCHED_MAX).collect();
            }
        }
    }
    Ok(Progress::Waits(Waiting { target, killed, watched, until: after(grace) }))
}

/// Sends SIGKILL. `processes`: those that had SIGTERM before.
fn force(target: Target, processes: usize) -> io::Result<Progress> {
    let mut killed = Killed { processes: processes.max(1), forced: true, ended: false };
    match &target {
        Target::Process(process) => pidfd_send_signal(&process.fd, Signal::KILL)?,
        Target::Cgroup(path, id) => {
            let (all, spared) = killable(path, *id).ok_or(io::ErrorKind::NotFound)?;
            killed.processes = all.len().max(processes);
            // cgroup.kill is atomic, but spares nobody, and does not know threaded cgroups.
            let at = CgroupRef { id: *id, path: path.clone() };
            let at_once = || directory::open(&at)?.file("cgroup.kill", Access::Write)?.write_all(b"1");
            // If no process can be seen, /proc may hide exempt ones.
            if spared || all.is_empty() || at_once().is_err() {
                killed.ended = kill_each(path, *id, after(KILL_TIMEOUT));
                return Ok(Progress::Over(killed));
            }
        }
    }
    Ok(Progress::Waits(Waiting { target, killed, watched: Vec::new(), until: after(KILL_TIMEOUT) }))
}

impl Waiting {
    /// Waits until the victims have ended, or for no longer than the grace. Each check reads one file, however large the
    /// tree is.
    pub async fn wait(&self) {
        let (mut interval, longest) = CHECK_INTERVALS;
        while !self.has_ended() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(interval.min(left)).await;
            interval = interval.saturating_mul(2).min(longest);
        }
    }

    fn has_ended(&self) -> bool {
        match &self.target {
            Target::Process(process) => process.has_ended(),
            Target::Cgroup(path, id) => {
                (!self.watched.is_empty() && self.watched.iter().all(PidFd::has_ended))
                    || !tree::is_populated(path)
                    || !is_there(path, *id)
            }
        }
    }

    /// Goes on after [`Waiting::wait`]. `still_allowed`: is SIGKILL still wanted after a grace?
    pub fn resume(mut self, still_allowed: bool) -> io::Result<Progress> {
        let mut ended = self.has_ended();
        if ended
            && !self.watched.is_empty()
            && let Target::Cgroup(path, id) = &self.target
        {
            // The others of its cgroup, and those that were started since.
            let left = killable(path, *id).map(|(all, _)| all).unwrap_or_default();
            ended = left.is_empty();
            self.watched = left.into_iter().take(WATCHED_MAX).collect();
            if !ended && Instant::now() < self.until {
                return Ok(Progress::Waits(self));
            }
        }
        if ended || self.killed.forced || !still_allowed {
            return Ok(Progress::Over(Killed { ended, ..self.killed }));
        }
        match force(self.target, self.killed.processes) {
            // Its last process ended in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Progress::Over(Killed { ended: true, ..self.killed }))
            }
            other => other,
        }
    }
}

/// Kills all but exempt processes; true if nothing is left that may be killed. Signals again until the timeout, because
/// processes may fork faster than one pass ends.
fn kill_each(path: &CgroupPath, id: CgroupId, until: Instant) -> bool {
    loop {
        kill_leaves(path, id);
        let Some((left, _)) = killable(path, id) else { return true };
        // All of them, and then the next round.
        let signalled = left.iter().filter(|target| target.signal(Signal::KILL)).count();
        if signalled == 0 {
            return true;
        }
        // In a fork storm, each wait would give the children time to fork.
        let last = left.iter().all(|target| target.wait_exit(after(PASS_WAIT).min(until)));
        if Instant::now() >= until {
            return last && killable(path, id).is_none_or(|(left, _)| left.is_empty());
        }
    }
}

/// Kills at once each cgroup below that has no exempt process and no populated descendant, so that forks there are killed
/// as well.
fn kill_leaves(path: &CgroupPath, id: CgroupId) {
    let populated = tree::populated(path);
    for cgroup in populated.iter().filter(|cgroup| *cgroup != path) {
        let is_leaf = !populated.iter().any(|other| other != cgroup && other.is_within(cgroup));
        let standings: Vec<Standing> = pids(cgroup).into_iter().map(standing).collect();
        if !is_leaf || standings.contains(&Standing::Exempt) || !standings.contains(&Standing::Killable) {
            continue;
        }
        let Ok(leaf) = mount::cgroup_id(cgroup) else { continue };
        if !is_there(path, id) {
            return;
        }
        let leaf = CgroupRef { id: leaf, path: cgroup.clone() };
        let killed = directory::open(&leaf)
            .and_then(|directory| directory.file("cgroup.kill", Access::Write))
            .and_then(|mut file| file.write_all(b"1"));
        if let Err(error) = killed {
            tracing::debug!(%error, %cgroup, "cgroup.kill");
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
    for cgroup in tree::populated(path) {
        for pid in pids(&cgroup) {
            match standing(pid) {
                Standing::Exempt => spared = true,
                Standing::Killable => found.extend(PidFd::open(pid, path)),
                Standing::Gone => {}
            }
        }
    }
    // After the pidfds are open: the processes were in this cgroup, and not in another one at the same path.
    is_there(path, id).then_some((found, spared))
}

/// Reports to systemd, in systemd-oomd's manner, that a unit's end was a kill for want of memory: the unit then fails with
/// the result `oom-kill`, and `OOMPolicy=` applies. Before, `user.oomd_ooms` counts what begins; afterwards
/// `user.oomd_kill` counts processes. A negative number withdraws a report.
pub fn add_to_oomd_xattr(path: &CgroupPath, attribute: &str, more: i64) {
    if let Err(error) = add_to_xattr(&mount::dir(path), attribute, more) {
        tracing::debug!(%error, %path, "failed to set the xattr {attribute}");
    }
}

fn add_to_xattr(directory: &Path, attribute: &str, more: i64) -> io::Result<()> {
    let old = xattr::get(directory, attribute).ok().flatten().unwrap_or_default();
    let old: u64 = String::from_utf8_lossy(&old).trim().parse().unwrap_or(0);
    let new = old.saturating_add_signed(more);
    if new == 0 {
        xattr::remove(directory, attribute)
    } else {
        xattr::set(directory, attribute, new.to_string().as_bytes())
    }
}

#[cfg(test)]
#[path = "kill_tests.rs"]
mod tests;
