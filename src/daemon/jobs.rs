//! What takes its time, done beside the daemon's loop: a write to memory.high may block for seconds, reclaim and kills
//! with grace for longer. Each kind has its own few threads, so that none keeps another from its turn; and what is done for
//! the cgroups of one user's never takes all of them.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::killing::{self, Killing};
use crate::cgroup::delegation;
use crate::cgroup::knob::{self, WriteResult};
use crate::cgroup::reclaim::{self, Reclaimed};
use crate::ledger::{Write, admission};
use crate::names::CgroupPath;
use crate::policy::action::Action;

/// Threads that write knobs. Each write is short, save on a kernel that frees memory within it.
const WRITES: usize = 4;
/// Threads that take memory: each keeps a processor busy.
const RECLAIMS: usize = 2;
/// Kills on their way at once; most only wait for a grace to pass.
const KILLS: usize = 16;

/// One user's cgroups get a share of the threads, and wait for one another beyond that.
const USERS_SHARE: usize = 4;

/// Something to do.
#[derive(Debug)]
pub enum Job {
    /// Write a knob.
    Write(Write),
    /// Take memory.
    Reclaim {
        /// Who asked, and why.
        action: Action,
        /// The cgroup's path.
        path: CgroupPath,
        /// How much.
        bytes: u64,
        /// 0 to 200; `None`: the kernel's own.
        swappiness: Option<u8>,
    },
    /// End something.
    Kill(Killing),
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// Of a write.
    Wrote(Write, WriteResult),
    /// Of taking memory.
    Reclaimed(Action, CgroupPath, io::Result<Reclaimed>),
    /// Of a kill: the story, `None` when the cgroup was gone, or why it failed.
    Killed(Killing, Result<Option<killing::Story>, String>),
}

impl Job {
    fn class(&self) -> Class {
        match self {
            Job::Write(_) => Class::Writes,
            Job::Reclaim { .. } => Class::Reclaims,
            Job::Kill(_) => Class::Kills,
        }
    }

    /// Below whose service manager it is.
    fn user(&self) -> Option<u32> {
        delegation::delegated_uid(match self {
            Job::Write(write) => &write.path,
            Job::Reclaim { path, .. } => path,
            Job::Kill(killing) => &killing.path,
        })
    }

    fn run(self) -> Done {
        match self {
            Job::Write(write) => {
                let wrote = knob::write(&write.path, write.cgroup, write.knob, &write.expect, write.value);
                Done::Wrote(write, wrote)
            }
            Job::Reclaim { action, path, bytes, swappiness } => {
                let came = if admission::is_expired(super::acting::now(), action.time) {
                    Err(io::Error::other(admission::EXPIRED_MSG))
                } else {
                    reclaim::reclaim(&path, action.cgroup, bytes, swappiness)
                };
                Done::Reclaimed(action, path, came)
            }
            Job::Kill(killing) => {
                let story = killing.carry_out();
                Done::Killed(killing, story)
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Writes,
    Reclaims,
    Kills,
}

/// Jobs of one kind.
#[derive(Debug)]
struct Line {
    class: Class,
    most: usize,
    /// For whom each of those that are under way is done.
    running: Vec<Option<u32>>,
    waiting: VecDeque<Job>,
}

/// Of which kind it was, for whom, and what came of it.
type Over = (Class, Option<u32>, Done);

/// All jobs. How many can wait is bounded by whoever starts them: one write a knob, one reclaim and one kill a cgroup.
pub struct Jobs {
    lines: Vec<Line>,
    sender: mpsc::UnboundedSender<Over>,
    receiver: mpsc::UnboundedReceiver<Over>,
}

impl Default for Jobs {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let line = |class, most| Line { class, most, running: Vec::new(), waiting: VecDeque::new() };
        let lines =
            vec![line(Class::Writes, WRITES), line(Class::Reclaims, RECLAIMS), line(Class::Kills, KILLS)];
        Jobs { lines, sender, receiver }
    }
}

impl Jobs {
    /// Starts a job, or lets it wait for its turn.
    pub fn start(&mut self, job: Job) {
        let class = job.class();
        if let Some(line) = self.lines.iter_mut().find(|line| line.class == class) {
            line.waiting.push_back(job);
            line.go(&self.sender);
        }
    }

    /// The next job that is done.
    pub async fn next(&mut self) -> Done {
        match self.receiver.recv().await {
            Some((class, user, done)) => {
                if let Some(line) = self.lines.iter_mut().find(|line| line.class == class) {
                    line.over(user);
                    line.go(&self.sender);
                }
                done
            }
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Nothing more is begun, and writes on their way are waited for, but not for ever: one that blocks has set its
    /// value before.
    pub async fn stop(&mut self, patience: Duration) {
        self.lines.iter_mut().for_each(|line| line.waiting.clear());
        let over = |lines: &[Line]| lines.iter().all(|l| l.class != Class::Writes || l.running.is_empty());
        let waited = tokio::time::timeout(patience, async {
            while !over(&self.lines) {
                self.next().await;
            }
        });
        if waited.await.is_err() {
            tracing::warn!("writing a knob takes longer than {patience:?}; not waiting for its end");
        }
    }
}

impl Line {
    /// The first whose turn it is: who has a share of the threads already is passed over.
    fn next(&mut self) -> Option<(Option<u32>, Job)> {
        if self.running.len() >= self.most {
            return None;
        }
        let share = self.most.div_ceil(USERS_SHARE);
        let may =
            |user: Option<u32>| user.is_none() || self.running.iter().filter(|u| **u == user).count() < share;
        let turn = self.waiting.iter().position(|job| may(job.user()))?;
        self.waiting.remove(turn).map(|job| (job.user(), job))
    }

    fn over(&mut self, user: Option<u32>) {
        if let Some(at) = self.running.iter().position(|running| *running == user) {
            self.running.swap_remove(at);
        }
    }

    fn go(&mut self, sender: &mpsc::UnboundedSender<Over>) {
        while let Some((user, job)) = self.next() {
            self.running.push(user);
            let (class, sender) = (self.class, sender.clone());
            tokio::task::spawn_blocking(move || drop(sender.send((class, user, job.run()))));
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

    fn turns(line: &mut Line) -> Vec<Option<u32>> {
        let mut turns = Vec::new();
        while let Some((user, _)) = line.next() {
            line.running.push(user);
            turns.push(user);
        }
        turns
    }

    #[test]
    fn one_users_jobs_wait_for_one_another_and_keep_nobody_elses_waiting() {
        let mut line = Line { class: Class::Kills, most: 8, running: Vec::new(), waiting: VecDeque::new() };
        let of = |uid: u32, n: usize| write(&format!("/user.slice/user-{uid}.slice/user@{uid}.service/{n}"));
        line.waiting.extend((0..20).map(|n| of(1000, n)));
        line.waiting.extend([of(1001, 0), write("/system.slice/a.service")]);
        assert_eq!(turns(&mut line), [Some(1000), Some(1000), Some(1001), None]);
        line.over(Some(1000));
        assert_eq!(turns(&mut line), [Some(1000)]);
        line.waiting.extend((0..9).map(|_| write("/system.slice/a.service")));
        assert_eq!(turns(&mut line).len(), 4, "eight at once");
    }
}
