//! Questions to PID 1 beside the daemon's loop: it answers in its own time, and nobody else waits for that. Answers
//! come back one by one; of one unit always the newest last.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::agenda::{Agenda, Urgency};
use super::{Discovery, Systemd, SystemdError, UnitInfo};
use crate::names::UnitName;

/// What has been found out.
#[derive(Debug)]
pub enum Answer {
    /// The unit search path was looked through; with one sentence for each thing that could not be read.
    Searched(Discovery, Vec<String>),
    /// What systemd says of a unit.
    Unit(Box<UnitInfo>),
    /// There is no such unit, or it is masked.
    NoSuchUnit(UnitName),
    /// Systemd did not say.
    Failed(SystemdError),
}

#[allow(clippy::large_enum_variant, reason = "some at a time, and none of them stays")]
enum Found {
    Searched(Discovery, Vec<String>),
    Listed(Result<BTreeSet<UnitName>, SystemdError>),
    /// With whether it was to be loaded for our question.
    Unit(UnitName, bool, Result<Option<UnitInfo>, SystemdError>),
}

/// How far a survey has come: the search path first, then the list of what is loaded, then unit by unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survey {
    No,
    Searching,
    Listing,
}

/// Questions on their way to PID 1, and those that wait for their turn. Ends them when dropped.
pub struct Inquiry {
    systemd: Systemd,
    agenda: Agenda,
    survey: Survey,
    /// Asked for during a survey: another one afterwards.
    again: bool,
    /// Units that systemd was too slow to answer about once. They are asked about once more.
    late: BTreeSet<UnitName>,
    on_the_way: JoinSet<Found>,
}

impl Inquiry {
    /// Nothing asked yet.
    pub fn new(systemd: Systemd) -> Self {
        Inquiry {
            systemd,
            agenda: Agenda::default(),
            survey: Survey::No,
            again: false,
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
        if self.survey != Survey::No {
            self.again = true;
            return;
        }
        self.survey = Survey::Searching;
        let systemd = self.systemd.clone();
        self.on_the_way.spawn(async move {
            let (discovery, warnings) = systemd.discover().await;
            Found::Searched(discovery, warnings)
        });
    }

    /// Goes on with a survey after [`Answer::Searched`]: `also` are units to be asked about besides those discovered.
    pub fn ask_for_all(&mut self, discovery: Discovery, also: BTreeSet<UnitName>) {
        self.survey = Survey::Listing;
        let systemd = self.systemd.clone();
        self.on_the_way.spawn(async move {
            let listed = systemd.candidates(&discovery).await;
            Found::Listed(listed.map(|mut units| {
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

    /// True when nothing is to be asked and no answer is outstanding.
    pub fn is_idle(&self) -> bool {
        self.survey == Survey::No && self.agenda.is_empty()
    }

    fn ask(&mut self) {
        while let Some((unit, load)) = self.agenda.next() {
            let systemd = self.systemd.clone();
            self.on_the_way.spawn(async move {
                let info = if load { systemd.load(&unit).await } else { systemd.unit(&unit).await };
                Found::Unit(unit, load, info)
            });
        }
    }

    /// The next answer; waits for ever while nothing is asked. Cancel safe.
    pub async fn next(&mut self) -> Answer {
        loop {
            match self.on_the_way.join_next().await {
                None => std::future::pending().await,
                // A task of ours panics only together with the whole daemon.
                Some(Err(_)) => {}
                Some(Ok(found)) => {
                    if let Some(answer) = self.take(found) {
                        return answer;
                    }
                }
            }
        }
    }

    fn take(&mut self, found: Found) -> Option<Answer> {
        match found {
            Found::Searched(discovery, warnings) => Some(Answer::Searched(discovery, warnings)),
            Found::Listed(listed) => {
                self.survey = Survey::No;
                let failed = match listed {
                    Ok(units) => {
                        units.into_iter().for_each(|unit| self.agenda.add(unit, Urgency::Survey, true));
                        self.ask();
                        None
                    }
                    Err(error) => Some(Answer::Failed(error)),
                };
                if std::mem::take(&mut self.again) {
                    self.survey();
                }
                failed
            }
            Found::Unit(unit, load, info) => {
                let counts = self.agenda.answered(&unit);
                if !matches!(info, Err(SystemdError::Timeout { .. })) {
                    self.late.remove(&unit);
                } else if self.late.insert(unit.clone()) {
                    self.agenda.add(unit.clone(), Urgency::Survey, true);
                }
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

#[cfg(test)]
#[path = "inquiry_tests.rs"]
mod tests;
