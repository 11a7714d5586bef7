//! What takes its time, done beside the daemon's loop: a write to memory.high may block for seconds, reclaim and kills
//! with grace for longer. Each kind has its own few threads, so that none keeps another from its turn; and what is done for
//! the cgroups of one user's never takes all of them.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::kill::{self, KillJob};
use crate::cgroup::delegation;
use crate::cgroup::knob::{self, WriteResult};
use crate::cgroup::reclaim::{self, Reclaimed};
use crate::ledger::{Write, admission};
use crate::names::CgroupPath;
use crate::policy::action::Action;

/// Number of threads that write knobs. A write is short, unless the kernel reclaims memory in it.
const WRITES: usize = 4;
/// Number of threads that reclaim memory, each of which uses a CPU.
const RECLAIMS: usize = 2;
/// Kills on their way at once; most only wait for a grace to pass.
const KILLS: usize = 16;

/// One user's cgroups get a share of the threads, and wait for one another beyond that.
const USER_SHARE_DIVISOR: usize = 4;

/// Something to do.
#[derive(Debug)]
pub enum Job {
    /// Writes a knob.
    Write(Write),
    /// Reclaims memory.
    Reclaim {
        /// The action, with its reason.
        action: Action,
        /// The cgroup's path.
        path: CgroupPath,
        /// Bytes to reclaim.
        bytes: u64,
        /// 0 to 200; `None` for the kernel's default.
        swappiness: Option<u8>,
    },
    /// Kills processes.
    Kill(KillJob),
}

/// The result of a job.
#[derive(Debug)]
pub enum Done {
    /// Of a write.
    Wrote(Write, WriteResult),
    /// Of a reclaim.
    Reclaimed(Action, CgroupPath, io::Result<Reclaimed>),
    /// Of a kill: its report, `None` if the cgroup was removed, or the error.
    Killed(KillJob, Result<Option<kill::KillReport>, String>),
}

impl Job {
    fn kind(&self) -> JobKind {
        match self {
            Job::Write(_) => JobKind::Writes,
            Job::Reclaim { .. } => JobKind::Reclaims,
            Job::Kill(_) => JobKind::Kills,
        }
    }

    /// Below whose service manager it is.
    fn user(&self) -> Option<u32> {
        delegation::delegated_uid(match self {
            Job::Write(write) => &write.path,
            Job::Reclaim { path, .. } => path,
            Job::Kill(job) => &job.path,
        })
    }

    fn run(self) -> Done {
        match self {
            Job::Write(write) => {
                let result = knob::write(&write.path, write.cgroup, write.knob, &write.expect, write.value);
                Done::Wrote(write, result)
            }
            Job::Reclaim { action, path, bytes, swappiness } => {
                let result = if admission::is_expired(super::clock::now(), action.time) {
                    Err(io::Error::other(admission::EXPIRED_MSG))
                } else {
                    reclaim::reclaim(&path, action.cgroup, bytes, swappiness)
                };
                Done::Reclaimed(action, path, result)
            }
            Job::Kill(job) => {
                let result = job.run();
                Done::Killed(job, result)
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobKind {
    Writes,
    Reclaims,
    Kills,
}

/// Jobs of one kind.
#[derive(Debug)]
struct Pool {
    kind: JobKind,
    max: usize,
    /// For whom each of those that are under way is done.
    running: Vec<Option<u32>>,
    waiting: VecDeque<Job>,
}

/// Of which kind it was, for whom, and what came of it.
type Finished = (JobKind, Option<u32>, Done);

/// All jobs. The caller limits the number of queued ones: one write for each knob, one reclaim and one kill for each
/// cgroup.
pub struct Jobs {
    pools: Vec<Pool>,
    sender: mpsc::UnboundedSender<Finished>,
    receiver: mpsc::UnboundedReceiver<Finished>,
}

impl Default for Jobs {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let pool = |kind, max| Pool { kind, max, running: Vec::new(), waiting: VecDeque::new() };
        let pools = vec![
            pool(JobKind::Writes, WRITES),
            pool(JobKind::Reclaims, RECLAIMS),
            pool(JobKind::Kills, KILLS),
        ];
        Jobs { pools, sender, receiver }
    }
}

impl Jobs {
    /// Starts a job, or queues it.
    pub fn start(&mut self, job: Job) {
        let kind = job.kind();
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.kind == kind) {
            pool.waiting.push_back(job);
            pool.start_next(&self.sender);
        }
    }

    /// The result of the next finished job.
    pub async fn next(&mut self) -> Done {
        match self.receiver.recv().await {
            Some((kind, user, done)) => {
                if let Some(pool) = self.pools.iter_mut().find(|pool| pool.kind == kind) {
                    pool.finished(user);
                    pool.start_next(&self.sender);
                }
                done
            }
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Starts no more jobs, and waits for writes in progress until the timeout. A write that blocks has already set
    /// its value.
    pub async fn stop(&mut self, patience: Duration) {
        self.pools.iter_mut().for_each(|pool| pool.waiting.clear());
        let over = |pools: &[Pool]| pools.iter().all(|l| l.kind != JobKind::Writes || l.running.is_empty());
        let waited = tokio::time::timeout(patience, async {
            while !over(&self.pools) {
                self.next().await;
            }
        });
        if waited.await.is_err() {
            tracing::warn!("writing a knob takes longer than {patience:?}; no longer waiting for it");
        }
    }
}

impl Pool {
    /// The first whose turn it is: who has a share of the threads already is passed over.
    fn next(&mut self) -> Option<(Option<u32>, Job)> {
        if self.running.len() >= self.max {
            return None;
        }
        let share = self.max.div_ceil(USER_SHARE_DIVISOR);
        let may =
            |user: Option<u32>| user.is_none() || self.running.iter().filter(|u| **u == user).count() < share;
        let turn = self.waiting.iter().position(|job| may(job.user()))?;
        self.waiting.remove(turn).map(|job| (job.user(), job))
    }

    fn finished(&mut self, user: Option<u32>) {
        if let Some(at) = self.running.iter().position(|running| *running == user) {
            self.running.swap_remove(at);
        }
    }

    fn start_next(&mut self, sender: &mpsc::UnboundedSender<Finished>) {
        while let Some((user, job)) = self.next() {
            self.running.push(user);
            let (kind, sender) = (self.kind, sender.clone());
            tokio::task::spawn_blocking(move || drop(sender.send((kind, user, job.run()))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Cause;
    use crate::names::CgroupId;
    use crate::policy::action::Knob;

    fn write(path: &str) -> Job {
        let path = CgroupPath::parse(path).unwrap();
        let cause = Cause::internal("a test");
        Job::Write(Write { cgroup: CgroupId(1), path, knob: Knob::High, expect: Vec::new(), value: 1, cause })
    }

    fn turns(pool: &mut Pool) -> Vec<Option<u32>> {
        let mut turns = Vec::new();
        while let Some((user, _)) = pool.next() {
            pool.running.push(user);
            turns.push(user);
        }
        turns
    }

    #[test]
    fn jobs_of_one_user_do_not_delay_others() {
        let mut pool = Pool { kind: JobKind::Kills, max: 8, running: Vec::new(), waiting: VecDeque::new() };
        let of = |uid: u32, n: usize| write(&format!("/user.slice/user-{uid}.slice/user@{uid}.service/{n}"));
        pool.waiting.extend((0..20).map(|n| of(1000, n)));
        pool.waiting.extend([of(1001, 0), write("/system.slice/a.service")]);
        assert_eq!(turns(&mut pool), [Some(1000), Some(1000), Some(1001), None]);
        pool.finished(Some(1000));
        assert_eq!(turns(&mut pool), [Some(1000)]);
        pool.waiting.extend((0..9).map(|_| write("/system.slice/a.service")));
        assert_eq!(turns(&mut pool).len(), 4, "eight at once");
    }
}
