//! Threads for operations that may block: a write to memory.high for seconds, reclaim and kills for longer. Each kind of
//! job has its own threads, so that no kind delays another. The cgroups of one user, unit or container never occupy all
//! threads of a kind.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::kill::{self, KillJob, Stage, WaitingKill};
use crate::cgroup::delegation;
use crate::cgroup::knob::{self, WriteResult};
use crate::cgroup::reclaim::{self, Reclaimed};
use crate::ledger::{Write, admission};
use crate::names::{CgroupPath, CgroupRef};
use crate::policy::action::Action;

/// Number of threads that write knobs. A write is short, unless the kernel reclaims memory in it.
const WRITES: usize = 4;
/// Number of threads that reclaim memory, each of which uses a CPU.
const RECLAIMS: usize = 2;
/// Number of threads that kill. A grace period occupies no thread.
const KILLS: usize = 16;

/// Each user, unit and container can use this fraction of the threads. Further jobs wait.
const SHARE_DIVISOR: usize = 4;

/// A job.
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
    /// Continues a kill whose victim has ended, or whose grace period is over.
    ResumeKill(KillJob, Box<WaitingKill>),
}

/// The user, unit or container whose share of the threads a job takes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Share {
    /// The cgroups of a user.
    User(u32),
    /// A unit or container, or a cgroup outside of any.
    Cgroup(CgroupPath),
}

impl Share {
    fn of(path: &CgroupPath) -> Share {
        if let Some(uid) = delegation::delegated_uid(path) {
            return Share::User(uid);
        }
        let is_unit =
            |at: &CgroupPath| [".service", ".scope"].iter().any(|end| at.file_name().ends_with(end));
        let outermost_unit =
            std::iter::successors(Some(path.clone()), CgroupPath::parent).filter(is_unit).last();
        Share::Cgroup(outermost_unit.unwrap_or_else(|| path.clone()))
    }
}

/// The state of a job after its run.
enum Outcome {
    Done(Done),
    Waits(KillJob, Box<WaitingKill>),
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
            Job::Kill(_) | Job::ResumeKill(..) => JobKind::Kills,
        }
    }

    fn share(&self) -> Share {
        Share::of(match self {
            Job::Write(write) => &write.cgroup.path,
            Job::Reclaim { path, .. } => path,
            Job::Kill(job) | Job::ResumeKill(job, _) => &job.path,
        })
    }

    fn run(self) -> Outcome {
        let done = match self {
            Job::Write(write) => {
                let result = knob::write(&write.cgroup, write.knob, &write.expect, write.value);
                Done::Wrote(write, result)
            }
            Job::Reclaim { action, path, bytes, swappiness } => {
                let result = if admission::is_expired(super::clock::now(), action.time) {
                    Err(io::Error::other(admission::EXPIRED_MSG))
                } else {
                    reclaim::reclaim(&CgroupRef { id: action.cgroup, path: path.clone() }, bytes, swappiness)
                };
                Done::Reclaimed(action, path, result)
            }
            Job::Kill(job) => match job.run() {
                Stage::Over(result) => Done::Killed(job, result),
                Stage::Waits(waiting) => return Outcome::Waits(job, waiting),
            },
            Job::ResumeKill(job, waiting) => match job.resume(*waiting) {
                Stage::Over(result) => Done::Killed(job, result),
                Stage::Waits(waiting) => return Outcome::Waits(job, waiting),
            },
        };
        Outcome::Done(done)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobKind {
    Writes,
    Reclaims,
    Kills,
}

/// Jobs of one kind.
struct Pool {
    kind: JobKind,
    max: usize,
    /// The shares that the jobs in progress take.
    running: Vec<Share>,
    waiting: VecDeque<Job>,
}

enum Message {
    /// The thread of a job is free.
    Finished(JobKind, Share, Outcome),
    /// A kill has waited for its victim.
    Resume(KillJob, Box<WaitingKill>),
}

/// All jobs. The caller limits the number of queued ones: one write for each knob, one reclaim and one kill for each
/// cgroup.
pub struct Jobs {
    pools: Vec<Pool>,
    sender: mpsc::UnboundedSender<Message>,
    receiver: mpsc::UnboundedReceiver<Message>,
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
        loop {
            let (kind, share, outcome) = match self.receiver.recv().await {
                Some(Message::Finished(kind, share, outcome)) => (kind, share, outcome),
                Some(Message::Resume(job, waiting)) => {
                    self.start(Job::ResumeKill(job, waiting));
                    continue;
                }
                // This type holds a sender, so the channel is never closed.
                None => std::future::pending().await,
            };
            if let Some(pool) = self.pools.iter_mut().find(|pool| pool.kind == kind) {
                pool.finished(&share);
                pool.start_next(&self.sender);
            }
            match outcome {
                Outcome::Done(done) => return done,
                Outcome::Waits(job, waiting) => {
                    let sender = self.sender.clone();
                    tokio::spawn(async move {
                        waiting.wait().await;
                        drop(sender.send(Message::Resume(job, waiting)));
                    });
                }
            }
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
    /// The next job. Jobs whose share is in use are skipped.
    fn next(&mut self) -> Option<(Share, Job)> {
        if self.running.len() >= self.max {
            return None;
        }
        let limit = self.max.div_ceil(SHARE_DIVISOR);
        let may = |share: Share| self.running.iter().filter(|running| **running == share).count() < limit;
        let turn = self.waiting.iter().position(|job| may(job.share()))?;
        self.waiting.remove(turn).map(|job| (job.share(), job))
    }

    fn finished(&mut self, share: &Share) {
        if let Some(at) = self.running.iter().position(|running| running == share) {
            self.running.swap_remove(at);
        }
    }

    fn start_next(&mut self, sender: &mpsc::UnboundedSender<Message>) {
        while let Some((share, job)) = self.next() {
            self.running.push(share.clone());
            let (kind, sender) = (self.kind, sender.clone());
            tokio::task::spawn_blocking(move || {
                drop(sender.send(Message::Finished(kind, share, job.run())));
            });
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
        let cgroup = CgroupRef { id: CgroupId(1), path: CgroupPath::parse(path).unwrap() };
        let cause = Cause::internal("a test");
        Job::Write(Write { cgroup, knob: Knob::High, expect: Vec::new(), value: 1, cause })
    }

    fn turns(pool: &mut Pool) -> Vec<Share> {
        let mut turns = Vec::new();
        while let Some((share, _)) = pool.next() {
            pool.running.push(share.clone());
            turns.push(share);
        }
        turns
    }

    #[test]
    fn jobs_of_one_user_unit_or_container_do_not_delay_others() {
        let mut pool = Pool { kind: JobKind::Kills, max: 8, running: Vec::new(), waiting: VecDeque::new() };
        let of = |uid: u32, n: usize| write(&format!("/user.slice/user-{uid}.slice/user@{uid}.service/{n}"));
        let container = |n: usize| write(&format!("/machine.slice/libpod-a.scope/container/{n}"));
        let unit = |name: &str| Share::Cgroup(CgroupPath::parse(name).unwrap());
        pool.waiting.extend((0..20).map(|n| of(1000, n)));
        pool.waiting.extend((0..20).map(container));
        pool.waiting.extend([of(1001, 0), write("/system.slice/a.service"), write("/a.slice")]);
        let (user, libpod) = (Share::User(1000), unit("/machine.slice/libpod-a.scope"));
        let mut first = vec![user.clone(), user.clone(), libpod.clone(), libpod.clone()];
        first.extend([Share::User(1001), unit("/system.slice/a.service"), unit("/a.slice")]);
        assert_eq!(turns(&mut pool), first);
        pool.finished(&user);
        assert_eq!(turns(&mut pool), [user]);
        pool.finished(&libpod);
        assert_eq!(turns(&mut pool), [libpod]);
        pool.waiting.extend((0..9).map(|n| write(&format!("/system.slice/{n}.service"))));
        assert_eq!(turns(&mut pool).len(), 1, "eight at once");
    }
}
