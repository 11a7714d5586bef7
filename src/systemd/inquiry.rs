//! Questions to PID 1 beside the daemon's loop: it answers in its own time, and nobody else waits for that. Answers
//! come back one by one; of one unit always the newest last. Also notices when unit files change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::agenda::{Agenda, Urgency};
use super::{Discovery, Found, Systemd, SystemdError, UnitInfo, changes, discover};
use crate::names::UnitName;

/// What has been found out.
#[derive(Debug)]
pub enum Answer {
    /// The unit search path was looked through: because its files changed, or first thing in a survey.
    Searched(Found),
    /// What systemd says of a unit.
    Unit(Box<UnitInfo>),
    /// There is no such unit, or it is masked.
    NoSuchUnit(UnitName),
    /// Systemd did not say.
    Failed(SystemdError),
    /// The first survey is over. Not said when another answer ended it.
    Surveyed,
}

/// What a task brought home.
#[allow(clippy::large_enum_variant, reason = "a few at a time, and none of them stays")]
enum Back {
    UnitPath(Vec<PathBuf>),
    Searched(Found),
    Listed(Result<BTreeSet<UnitName>, SystemdError>),
    /// With whether it was to be loaded for our question.
    Unit(UnitName, bool, Result<Option<UnitInfo>, SystemdError>),
}

/// What a search is for. A survey is the search path first, then the list of what is loaded, then unit by unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Files,
    Survey,
}

/// Questions on their way to PID 1, and those that wait for their turn. Ends them when dropped.
pub struct Inquiry {
    systemd: Systemd,
    agenda: Agenda,
    searching: Option<Search>,
    /// PID 1 was asked what is loaded.
    listing: bool,
    /// PID 1 has told at least once what is loaded, or failed to.
    listed: bool,
    /// Some survey has come to its end.
    surveyed: bool,
    /// To be done when that can be.
    survey_due: bool,
    files_due: bool,
    /// Asked for once: PID 1 does not answer while it reloads, which is when we want to know.
    unit_path: Option<Vec<PathBuf>>,
    /// Tells when files in the unit path change.
    changes: Option<mpsc::Receiver<()>>,
    /// Units that systemd was too slow to answer about once. They are asked about once more.
    late: BTreeSet<UnitName>,
    on_the_way: JoinSet<Back>,
}

impl Inquiry {
    /// Nothing asked yet.
    pub fn new(systemd: Systemd) -> Self {
        Inquiry {
            systemd,
            agenda: Agenda::default(),
            searching: None,
            listing: false,
            listed: false,
            surveyed: false,
            survey_due: false,
            files_due: false,
            unit_path: None,
            changes: None,
            late: BTreeSet::new(),
            on_the_way: JoinSet::new(),
        }
    }

    /// Whom we ask.
    pub fn systemd(&self) -> &Systemd {
        &self.systemd
    }

    /// Looks at everything: [`Answer::Searched`] first, then one for every unit that may carry a policy.
    pub fn survey(&mut self) {
        self.survey_due = true;
        self.search_again();
    }

    fn files_changed(&mut self) {
        // What is on its way tells of the files as they were.
        self.agenda.outdate();
        self.ask();
        self.files_due = true;
        self.search_again();
    }

    /// One search at a time, and one survey. Files are searched for while PID 1 is to list its units all the same: it
    /// may be reading those files, and will then start units before it lists any.
    fn search_again(&mut self) {
        if self.searching.is_some() {
            return;
        }
        if self.survey_due && !self.listing {
            (self.survey_due, self.files_due) = (false, false);
            self.search(Search::Survey);
        } else if std::mem::take(&mut self.files_due) {
            self.search(Search::Files);
        }
    }

    fn search(&mut self, search: Search) {
        self.searching = Some(search);
        let Some(path) = self.unit_path.clone() else {
            let systemd = self.systemd.clone();
            self.on_the_way.spawn(async move { Back::UnitPath(systemd.unit_path().await) });
            return;
        };
        self.on_the_way.spawn(async move {
            let search = tokio::task::spawn_blocking(move || discover(Path::new("/"), &path));
            Back::Searched(search.await.unwrap_or_else(|error| Found {
                warnings: vec![format!("searching the unit path: {error}")],
                ..Found::default()
            }))
        });
    }

    /// What follows [`Answer::Searched`] in a survey: `also` are units to be asked about besides those discovered. When
    /// only files have changed, nothing does: systemd would tell of the files that it has read.
    pub fn ask_for_all(&mut self, discovery: &Discovery, also: BTreeSet<UnitName>) {
        if self.searching.take() != Some(Search::Survey) {
            self.search_again();
            return;
        }
        self.listing = true;
        let (systemd, discovery) = (self.systemd.clone(), discovery.clone());
        self.on_the_way.spawn(async move {
            let listed = systemd.candidates(&discovery).await;
            Back::Listed(listed.map(|mut units| {
                units.extend(also);
                units
            }))
        });
    }

    /// Asks about one unit that is loaded.
    pub fn look_at(&mut self, unit: &UnitName) {
        self.agenda.add(unit.clone(), Urgency::News, false);
        self.ask();
    }

    /// True from the end of the first survey on: all that it found was asked about, and answered or given up. Other
    /// questions may be on their way: where units come and go without end, there is always one.
    pub fn has_surveyed(&self) -> bool {
        self.surveyed
    }

    /// True when nothing is to be asked and no answer is outstanding.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.searching.is_none() && !self.listing && !self.survey_due && self.agenda.is_empty()
    }

    fn ask(&mut self) {
        while let Some((unit, load)) = self.agenda.next() {
            let systemd = self.systemd.clone();
            self.on_the_way.spawn(async move {
                let info = if load { systemd.load(&unit).await } else { systemd.unit(&unit).await };
                Back::Unit(unit, load, info)
            });
        }
    }

    /// The next answer; waits for ever while nothing is asked and no file changes. Cancel safe.
    pub async fn next(&mut self) -> Answer {
        loop {
            tokio::select! {
                // A task of ours panics only together with the whole daemon.
                Some(Ok(back)) = self.on_the_way.join_next() => {
                    let surveyed = self.surveyed;
                    let answer = self.take(back);
                    // Whoever waits for it looks when there is an answer, and there may be none to come.
                    let over = self.surveyed && !surveyed;
                    if let Some(answer) = answer.or(over.then_some(Answer::Surveyed)) {
                        return answer;
                    }
                }
                () = changed(&mut self.changes) => self.files_changed(),
            }
        }
    }

    fn take(&mut self, back: Back) -> Option<Answer> {
        match back {
            Back::UnitPath(path) => {
                // Before the search, so that nothing falls in between.
                match changes::watch(&path) {
                    Ok(changes) => self.changes = Some(changes),
                    Err(error) => {
                        tracing::warn!(
                            "changes of unit files count from daemon-reload on only: inotify: {error}"
                        );
                    }
                }
                self.unit_path = Some(path);
                self.search(Search::Survey);
                None
            }
            Back::Searched(found) => Some(Answer::Searched(found)),
            Back::Listed(listed) => {
                let failed = match listed {
                    Ok(units) => {
                        units.into_iter().for_each(|unit| self.agenda.add(unit, Urgency::Survey, true));
                        self.ask();
                        None
                    }
                    Err(error) => Some(Answer::Failed(error)),
                };
                self.listing = false;
                self.listed = true;
                self.surveyed |= self.agenda.is_surveyed();
                self.search_again();
                failed
            }
            Back::Unit(unit, load, info) => {
                let counts = self.agenda.answered(&unit);
                if !matches!(info, Err(SystemdError::Timeout { .. })) {
                    self.late.remove(&unit);
                } else if self.late.insert(unit.clone()) {
                    self.agenda.add(unit.clone(), Urgency::Survey, true);
                }
                self.surveyed |= self.listed && self.agenda.is_surveyed();
                self.ask();
                match info {
                    Err(error) => Some(Answer::Failed(error)),
                    Ok(_) if !counts => None,
                    Ok(Some(info)) => Some(Answer::Unit(Box::new(info))),
                    // One that is not loaded may be there all the same.
                    Ok(None) => load.then_some(Answer::NoSuchUnit(unit)),
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
#[path = "inquiry_tests.rs"]
mod tests;
