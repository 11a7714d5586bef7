//! Queries to PID 1 beside the daemon's loop. Replies arrive one by one; the last reply for a unit is always the
//! newest. Also reports changes of unit files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::query_queue::{Priority, QueryQueue};
use super::{PolicyUnits, SearchResult, SystemdClient, SystemdError, UnitInfo, discover, inotify};
use crate::names::UnitName;

/// The reply to a query.
#[derive(Debug)]
pub enum Reply {
    /// The unit search path was searched, because files changed or at the start of a full scan.
    FilesScanned(SearchResult),
    /// systemd's description of a unit.
    Unit(Box<UnitInfo>),
    /// The unit does not exist, or is masked.
    NoSuchUnit(UnitName),
    /// The query failed.
    Failed(SystemdError),
    /// The first full scan is complete. Not returned if another reply completed it.
    ScanComplete,
}

/// The result of a task.
#[allow(clippy::large_enum_variant, reason = "a few at a time, and none of them stays")]
enum TaskResult {
    UnitPath(Vec<PathBuf>),
    FilesScanned(SearchResult),
    Listed(Result<BTreeSet<UnitName>, SystemdError>),
    /// With the flag whether the query may load the unit.
    Unit(UnitName, bool, Result<Option<UnitInfo>, SystemdError>),
}

/// The purpose of a search. A full scan searches the files, then lists the loaded units, then queries each unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Files,
    Everything,
}

/// Queued queries and those in flight, which are cancelled on drop.
pub struct UnitQueries {
    systemd: SystemdClient,
    queue: QueryQueue,
    searching: Option<Search>,
    /// True while PID 1 lists its units.
    listing: bool,
    /// True after PID 1 has listed its units once, or failed to.
    listed: bool,
    /// A full scan is complete.
    scanned: bool,
    /// Searches to start next.
    full_scan_due: bool,
    files_due: bool,
    /// The unit search path, queried once, because PID 1 does not reply while it reloads.
    unit_path: Option<Vec<PathBuf>>,
    /// Receives a message when files in the unit path change.
    changes: Option<mpsc::Receiver<()>>,
    /// Units whose query timed out once. They are queried once more.
    timed_out: BTreeSet<UnitName>,
    tasks: JoinSet<TaskResult>,
}

impl UnitQueries {
    /// No queries yet.
    pub fn new(systemd: SystemdClient) -> Self {
        UnitQueries {
            systemd,
            queue: QueryQueue::default(),
            searching: None,
            listing: false,
            listed: false,
            scanned: false,
            full_scan_due: false,
            files_due: false,
            unit_path: None,
            changes: None,
            timed_out: BTreeSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// The client.
    pub fn systemd(&self) -> &SystemdClient {
        &self.systemd
    }

    /// Scans everything: returns [`Reply::FilesScanned`] first, then a reply for every unit that may have a policy.
    pub fn full_scan(&mut self) {
        self.full_scan_due = true;
        self.search_again();
    }

    fn files_changed(&mut self) {
        // Queries in flight return the previous files.
        self.queue.invalidate_in_flight();
        self.ask();
        self.files_due = true;
        self.search_again();
    }

    /// One search and one full scan run at a time. Files are searched while PID 1 lists its units: PID 1 may be
    /// reading those files, and then starts units before it replies.
    fn search_again(&mut self) {
        if self.searching.is_some() {
            return;
        }
        if self.full_scan_due && !self.listing {
            (self.full_scan_due, self.files_due) = (false, false);
            self.search(Search::Everything);
        } else if std::mem::take(&mut self.files_due) {
            self.search(Search::Files);
        }
    }

    fn search(&mut self, search: Search) {
        self.searching = Some(search);
        let Some(path) = self.unit_path.clone() else {
            let systemd = self.systemd.clone();
            self.tasks.spawn(async move { TaskResult::UnitPath(systemd.unit_path().await) });
            return;
        };
        self.tasks.spawn(async move {
            let search = tokio::task::spawn_blocking(move || discover(Path::new("/"), &path));
            TaskResult::FilesScanned(search.await.unwrap_or_else(|error| SearchResult {
                warnings: vec![format!("searching the unit path: {error}")],
                ..SearchResult::default()
            }))
        });
    }

    /// Continues a full scan after [`Reply::FilesScanned`]: queries the units found and those in `also`. After a
    /// change of files alone, does nothing, because systemd would report the files that it has read.
    pub fn query_all(&mut self, discovery: &PolicyUnits, also: BTreeSet<UnitName>) {
        if self.searching.take() != Some(Search::Everything) {
            self.search_again();
            return;
        }
        self.listing = true;
        let (systemd, discovery) = (self.systemd.clone(), discovery.clone());
        self.tasks.spawn(async move {
            let listed = systemd.candidates(&discovery).await;
            TaskResult::Listed(listed.map(|mut units| {
                units.extend(also);
                units
            }))
        });
    }

    /// Queries one unit, if it is loaded.
    pub fn query(&mut self, unit: &UnitName) {
        self.queue.add(unit.clone(), Priority::Change, false);
        self.ask();
    }

    /// True after the first full scan: all units that it found were queried, or their queries failed. Other queries
    /// may be in flight, for example if units are started and stopped all the time.
    pub fn first_scan_done(&self) -> bool {
        self.scanned
    }

    /// True if no query is queued or in flight.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.searching.is_none() && !self.listing && !self.full_scan_due && self.queue.is_empty()
    }

    fn ask(&mut self) {
        while let Some((unit, load)) = self.queue.next() {
            let systemd = self.systemd.clone();
            self.tasks.spawn(async move {
                let info = if load { systemd.load(&unit).await } else { systemd.unit(&unit).await };
                TaskResult::Unit(unit, load, info)
            });
        }
    }

    /// The next reply; waits forever if there are no queries and no file changes. Cancel safe.
    pub async fn next(&mut self) -> Reply {
        loop {
            tokio::select! {
                // A task panics only together with the daemon.
                Some(Ok(back)) = self.tasks.join_next() => {
                    let scanned = self.scanned;
                    let answer = self.take(back);
                    // The caller checks for the end of the scan after each reply, and there may be no further one.
                    let over = self.scanned && !scanned;
                    if let Some(answer) = answer.or(over.then_some(Reply::ScanComplete)) {
                        return answer;
                    }
                }
                () = changed(&mut self.changes) => self.files_changed(),
            }
        }
    }

    fn take(&mut self, back: TaskResult) -> Option<Reply> {
        match back {
            TaskResult::UnitPath(path) => {
                // Before the search, so that no change in between is missed.
                match inotify::watch(&path) {
                    Ok(changes) => self.changes = Some(changes),
                    Err(error) => {
                        tracing::warn!(
                            "changes of unit files apply only after daemon-reload: inotify: {error}"
                        );
                    }
                }
                self.unit_path = Some(path);
                self.search(Search::Everything);
                None
            }
            TaskResult::FilesScanned(found) => Some(Reply::FilesScanned(found)),
            TaskResult::Listed(listed) => {
                let failed = match listed {
                    Ok(units) => {
                        units.into_iter().for_each(|unit| self.queue.add(unit, Priority::FullScan, true));
                        self.ask();
                        None
                    }
                    Err(error) => Some(Reply::Failed(error)),
                };
                self.listing = false;
                self.listed = true;
                self.scanned |= self.queue.is_scan_complete();
                self.search_again();
                failed
            }
            TaskResult::Unit(unit, load, info) => {
                let counts = self.queue.answered(&unit);
                if !matches!(info, Err(SystemdError::Timeout { .. })) {
                    self.timed_out.remove(&unit);
                } else if self.timed_out.insert(unit.clone()) {
                    self.queue.add(unit.clone(), Priority::FullScan, true);
                }
                self.scanned |= self.listed && self.queue.is_scan_complete();
                self.ask();
                match info {
                    Err(error) => Some(Reply::Failed(error)),
                    Ok(_) if !counts => None,
                    Ok(Some(info)) => Some(Reply::Unit(Box::new(info))),
                    // A unit that is not loaded may exist nevertheless.
                    Ok(None) => load.then_some(Reply::NoSuchUnit(unit)),
                }
            }
        }
    }
}

async fn changed(changes: &mut Option<mpsc::Receiver<()>>) {
    match changes {
        // The thread ends only after an error, which it reports.
        Some(receiver) => match receiver.recv().await {
            Some(()) => {}
            None => {
                *changes = None;
                std::future::pending().await
            }
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "queries_tests.rs"]
mod tests;
