//! What takes its time, done beside the daemon's loop: a write to memory.high may block for seconds, reclaim and kills
//! with grace for longer. Each kind has its own few threads, so that none keeps another from its turn.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::killing::{self, Killing};
use crate::cgroup::knob::{self, Wrote};
use crate::cgroup::reclaim::{self, Reclaimed};
use crate::ledger::Write;
use crate::names::CgroupPath;
use crate::policy::action::Action;

/// Threads that write knobs. Each write is short, save on a kernel that frees memory within it.
const WRITES: usize = 4;
/// Threads that take memory: each keeps a processor busy.
const RECLAIMS: usize = 2;
/// Kills on their way at once; most only wait for a grace to pass.
const KILLS: usize = 16;

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
    Wrote(Write, Wrote),
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

    fn run(self) -> Done {
        match self {
            Job::Write(write) => {
                let wrote = knob::write(&write.path, write.cgroup, write.knob, &write.expect, write.value);
                Done::Wrote(write, wrote)
            }
            Job::Reclaim { action, path, bytes, swappiness } => {
                let came = reclaim::reclaim(&path, action.cgroup, bytes, swappiness);
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
    running: usize,
    waiting: VecDeque<Job>,
}

/// All jobs. How many can wait is bounded by whoever starts them: one write a knob, one reclaim and one kill a cgroup.
pub struct Jobs {
    lines: Vec<Line>,
    sender: mpsc::UnboundedSender<(Class, Done)>,
    receiver: mpsc::UnboundedReceiver<(Class, Done)>,
}

impl Default for Jobs {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let line = |class, most| Line { class, most, running: 0, waiting: VecDeque::new() };
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
            Some((class, done)) => {
                if let Some(line) = self.lines.iter_mut().find(|line| line.class == class) {
                    line.running = line.running.saturating_sub(1);
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
        let over = |lines: &[Line]| lines.iter().all(|l| l.class != Class::Writes || l.running == 0);
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
    fn go(&mut self, sender: &mpsc::UnboundedSender<(Class, Done)>) {
        while self.running < self.most
            && let Some(job) = self.waiting.pop_front()
        {
            self.running = self.running.saturating_add(1);
            let (class, sender) = (self.class, sender.clone());
            tokio::task::spawn_blocking(move || drop(sender.send((class, job.run()))));
        }
    }
}
