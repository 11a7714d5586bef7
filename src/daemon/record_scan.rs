//! Walks of the cgroup tree for what is recorded there: when they are due, and the walking itself, on a thread beside the
//! loop. Every caller on the bus can request one, so they are far apart however often they are requested.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::eligibility::BINDINGS_PER_USER;
use crate::cgroup::{delegation, tree, xattr};
use crate::names::CgroupPath;

/// A hook waits 2 s for us, then records its request on the cgroup: by this time it has.
const SCAN_DELAY: Duration = Duration::from_secs(5);
/// On a machine that is short of everything it takes longer: whoever asked so short before a walk gets the next one, too.
const RESCAN_WINDOW: Duration = Duration::from_secs(10);
/// Between requested scans: each reads two attributes of every cgroup, and a request costs nothing.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// Cgroups that the thread is ahead of the loop: a walk fills no memory, however much there is to find.
const CHANNEL_SIZE: usize = 64;

/// A cgroup that something is noted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFound {
    pub path: CgroupPath,
    /// The owner of the delegated cgroup, if the owner requests a policy on it.
    pub owner: Option<u32>,
}

/// When walks are due. Knows times only.
#[derive(Debug, Default)]
struct Schedule {
    /// Since then a walk is wanted.
    wanted: Option<Instant>,
    /// When the last request was made that no scan has answered.
    requested: Option<Instant>,
    /// When the last one began that was asked for.
    begun: Option<Instant>,
}

impl Schedule {
    /// A daemon's start: hooks may have given up on us while we came. Nobody asked, so nobody waits for it later.
    fn at_start(now: Instant) -> Self {
        Schedule { wanted: Some(now), ..Schedule::default() }
    }

    fn request(&mut self, now: Instant) {
        self.wanted.get_or_insert(now);
        self.requested = Some(now);
    }

    fn due(&self) -> Option<Instant> {
        let soon = self.wanted?.checked_add(SCAN_DELAY)?;
        let apart = self.begun.and_then(|begun| begun.checked_add(MIN_INTERVAL));
        Some(apart.map_or(soon, |apart| apart.max(soon)))
    }

    fn begin(&mut self, now: Instant) {
        if self.requested.is_some() {
            self.begun = Some(now);
        }
        self.requested =
            self.requested.filter(|requested| now.saturating_duration_since(*requested) < RESCAN_WINDOW);
        self.wanted = self.requested;
    }
}

/// The walk under way, and those to come.
pub struct RecordScanner {
    rescan_requested: Arc<Notify>,
    schedule: Schedule,
    scan: fn(&mpsc::Sender<RecordFound>),
    running: Option<mpsc::Receiver<RecordFound>>,
}

impl RecordScanner {
    /// Begins with a walk. `missed` says that a hook may leave a record.
    pub fn new(rescan_requested: Arc<Notify>) -> Self {
        RecordScanner::with(rescan_requested, scan)
    }

    fn with(rescan_requested: Arc<Notify>, scan: fn(&mpsc::Sender<RecordFound>)) -> Self {
        let mut scanner = RecordScanner {
            rescan_requested,
            schedule: Schedule::at_start(Instant::now()),
            scan,
            running: None,
        };
        scanner.start();
        scanner
    }

    /// What the walk under way still finds; `None` at its end.
    pub async fn drain(&mut self) -> Option<RecordFound> {
        let found = self.running.as_mut()?.recv().await;
        if found.is_none() {
            self.running = None;
        }
        found
    }

    /// What is found next, by this walk or one to come. Cancel safe.
    pub async fn next(&mut self) -> RecordFound {
        loop {
            let RecordScanner { rescan_requested, schedule, running, .. } = self;
            let due = schedule.due().filter(|_| running.is_none());
            tokio::select! {
                () = rescan_requested.notified() => schedule.request(Instant::now()),
                found = next_of(running) => match found {
                    Some(found) => return found,
                    None => self.running = None,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    schedule.begin(Instant::now());
                    self.start();
                }
            }
        }
    }

    fn start(&mut self) {
        let (sender, receiver) = mpsc::channel(CHANNEL_SIZE);
        self.running = Some(receiver);
        let scan = self.scan;
        // Not waited for: it ends when nobody listens any more.
        drop(tokio::task::spawn_blocking(move || scan(&sender)));
    }
}

async fn next_of(running: &mut Option<mpsc::Receiver<RecordFound>>) -> Option<RecordFound> {
    match running {
        Some(found) => found.recv().await,
        None => std::future::pending().await,
    }
}

/// Looks at every cgroup, and hands over those that something is noted on.
fn scan(sender: &mpsc::Sender<RecordFound>) {
    let mut quota = OwnerQuota::default();
    tree::walk(&CgroupPath::root(), |path| {
        let recorded = xattr::read_record(path).is_ok_and(|record| record.is_some());
        let admitted = |uid: &u32| matches!(xattr::read_owner_policy(path), Ok(Some(_))) && quota.admit(*uid);
        let owner = delegation::delegated_uid(path).filter(admitted);
        let noted = recorded || owner.is_some();
        !noted || sender.blocking_send(RecordFound { path: path.clone(), owner }).is_ok()
    });
}

/// Requests found of each user, who can write more of them than are allowed.
#[derive(Default)]
struct OwnerQuota(BTreeMap<u32, usize>);

impl OwnerQuota {
    /// Is one more request of this user allowed?
    fn admit(&mut self, uid: u32) -> bool {
        let found = self.0.entry(uid).or_default();
        if *found == BINDINGS_PER_USER {
            tracing::warn!(
                "uid {uid} has more than {BINDINGS_PER_USER} cgroups with requests; ignoring the others"
            );
        }
        *found = found.saturating_add(1);
        *found <= BINDINGS_PER_USER
    }
}

#[cfg(test)]
#[path = "record_scan_tests.rs"]
mod tests;
