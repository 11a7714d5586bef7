//! Queries of PID 1 beside the daemon's loop, which does not wait for them. Replies come back one by one; of one unit always
//! the newest last. Also notices when unit files change.

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
    /// The unit search path was looked through: because its files changed, or at the start of a full scan.
    FilesScanned(SearchResult),
    /// What systemd says of a unit.
    Unit(Box<UnitInfo>),
    /// There is no such unit, or it is masked.
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
    /// With whether it was to be loaded for the query.
    Unit(UnitName, bool, Result<Option<UnitInfo>, SystemdError>),
}

/// What a search is for. A full scan is the search path first, then the list of what is loaded, then unit by unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Files,
    Everything,
}

/// Queries in flight, and queued ones. Ends them when dropped.
pub struct UnitQueries {
    systemd: SystemdClient,
    queue: QueryQueue,
    searching: Option<Search>,
    /// PID 1 was asked what is loaded.
    listing: bool,
    /// PID 1 has listed its units at least once, or failed to.
    listed: bool,
    /// A full scan is complete.
    scanned: bool,
    /// To be started when possible.
    full_scan_due: bool,
    files_due: bool,
    /// Queried once, because PID 1 does not reply while it reloads.
    unit_path: Option<Vec<PathBuf>>,
    /// Receives a message when files in the unit path change.
    changes: Option<mpsc::Receiver<()>>,
    /// Units that systemd was too slow to answer about once. They are asked about once more.
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

    /// Scans everything: [`Reply::FilesScanned`] first, then one for every unit that may carry a policy.
    pub fn full_scan(&mut self) {
        self.full_scan_due = true;
        self.search_again();
    }

    fn files_changed(&mut self) {
        // Queries in flight return the files as they were.
        self.queue.invalidate_in_flight();
        self.ask();
        self.files_due = true;
        self.search_again();
    }

    /// One search at a time, and one full scan. Files are searched for while PID 1 is to list its units all the same: it
    /// may be reading those files, and will then start units before it lists any.
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

    /// What follows [`Reply::FilesScanned`] in a full scan: `also` are units to query besides those found. When
    /// only files have changed, nothing does: systemd would report the files that it has read.
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

    /// Queries one unit that is loaded.
    pub fn query(&mut self, unit: &UnitName) {
        self.queue.add(unit.clone(), Priority::Change, false);
        self.ask();
    }

    /// True from the end of the first full scan on: all that it found was asked about, and answered or given up. Other
    /// questions may be on their way: where units come and go without end, there is always one.
    pub fn first_scan_done(&self) -> bool {
        self.scanned
    }

    /// True when nothing is to be asked and no answer is outstanding.
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

    /// The next answer; waits for ever while nothing is asked and no file changes. Cancel safe.
    pub async fn next(&mut self) -> Reply {
        loop {
            tokio::select! {
                // A task of ours panics only together with the whole daemon.
                Some(Ok(back)) = self.tasks.join_next() => {
                    let scanned = self.scanned;
                    let answer = self.take(back);
                    // The caller checks it after each reply, and there may be no further one.
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
                // Before the search, so that nothing falls in between.
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
                    // One that is not loaded may be there all the same.
                    Ok(None) => load.then_some(Reply::NoSuchUnit(unit)),
                }
            }
        }
    }
}

async fn changed(changes: &mut Option<mpsc::Receiver<()>>) {
    match changes {
        // The watching thread ends only when it cannot go on, and says so.
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
