//! Scans the cgroup tree for records, on a thread beside the loop. Every caller on the bus can request a scan, so
//! there is a minimum interval between scans.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::eligibility::BINDINGS_PER_USER;
use crate::cgroup::{delegation, tree, xattr};
use crate::names::CgroupPath;

/// Delay of a requested scan: a hook waits 2 s for the daemon before it writes the record.
const SCAN_DELAY: Duration = Duration::from_secs(5);
/// If the machine is slow, a hook may take longer: a request within this time before a scan causes another one.
const RESCAN_WINDOW: Duration = Duration::from_secs(10);
/// Minimum interval between requested scans, because each reads two attributes of every cgroup.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// Number of records that are queued for the loop. Limits the memory that a scan takes.
const CHANNEL_SIZE: usize = 64;

/// A cgroup with a record or an owner's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFound {
    pub path: CgroupPath,
    /// The owner of the delegated cgroup, if the owner requests a policy for it.
    pub owner: Option<u32>,
}

/// The times of scans.
#[derive(Debug, Default)]
struct Schedule {
    /// The time of the first request that is not handled.
    wanted: Option<Instant>,
    /// The time of the last request that may need another scan.
    requested: Option<Instant>,
    /// The start of the last requested scan.
    begun: Option<Instant>,
}

impl Schedule {
    /// Hooks may have written records while the daemon was starting. No caller waits for this scan.
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

/// The running scan, and requested ones.
pub struct RecordScanner {
    rescan_requested: Arc<Notify>,
    schedule: Schedule,
    scan: fn(&mpsc::Sender<RecordFound>),
    running: Option<mpsc::Receiver<RecordFound>>,
}

impl RecordScanner {
    /// Starts a scan. `missed` is notified when a hook may leave a record.
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

    /// The next result of the running scan; `None` at its end.
    pub async fn drain(&mut self) -> Option<RecordFound> {
        let found = self.running.as_mut()?.recv().await;
        if found.is_none() {
            self.running = None;
        }
        found
    }

    /// The next result of the running scan or a later one. Cancel safe.
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
        // Not awaited: the task ends when the receiver is dropped.
        drop(tokio::task::spawn_blocking(move || scan(&sender)));
    }
}

async fn next_of(running: &mut Option<mpsc::Receiver<RecordFound>>) -> Option<RecordFound> {
    match running {
        Some(found) => found.recv().await,
        None => std::future::pending().await,
    }
}

/// Visits every cgroup, and sends those with a record.
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

/// The number of requests found of each user, because users can write more than are allowed.
#[derive(Default)]
struct OwnerQuota(BTreeMap<u32, usize>);

impl OwnerQuota {
    /// True if one more request of this user is allowed.
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
