//! What systemd is still to be asked about units: each is asked about at most once at a time, so the newest answer is
//! always the last; and never about many at once. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::UnitName;

/// Units asked about at once: enough to hide the way to PID 1 and back, without taking it from others.
const AT_ONCE: usize = 16;

/// How urgent a question is. The order is that of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// The unit is being started or stopped.
    News,
    /// Looking at everything again.
    Survey,
}

#[derive(Debug, Clone, Copy)]
struct Wish {
    urgency: Urgency,
    turn: u64,
    load: bool,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    load: bool,
    /// Its answer is not to count.
    outdated: bool,
}

/// Units to be asked about, and units asked about. Bounded by the number of units there are: a unit stands in it once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    wishes: BTreeMap<UnitName, Wish>,
    order: BTreeSet<(Urgency, u64, UnitName)>,
    asked: BTreeMap<UnitName, Asked>,
    /// What surveys still wait for.
    surveyed: BTreeSet<UnitName>,
    turns: u64,
}

impl Agenda {
    /// Puts a unit on the agenda. `load`: also if systemd has to load it for that.
    pub(super) fn add(&mut self, unit: UnitName, urgency: Urgency, load: bool) {
        self.turns = self.turns.saturating_add(1);
        if urgency == Urgency::Survey {
            self.surveyed.insert(unit.clone());
        }
        let mut wish = Wish { urgency, turn: self.turns, load };
        if let Some(known) = self.wishes.get(&unit) {
            self.order.remove(&(known.urgency, known.turn, unit.clone()));
            // It keeps its place, unless it is more urgent now.
            if known.urgency <= urgency {
                wish = Wish { load: load || known.load, ..*known };
            } else {
                wish.load |= known.load;
            }
        }
        self.order.insert((wish.urgency, wish.turn, unit.clone()));
        self.wishes.insert(unit, wish);
    }

    /// The next unit to ask about, and whether to load it; `None` while enough are asked about. What is asked about
    /// already waits for that answer: it may be from before whatever made us ask again.
    pub(super) fn next(&mut self) -> Option<(UnitName, bool)> {
        if self.asked.len() >= AT_ONCE {
            return None;
        }
        let place = self.order.iter().find(|(_, _, unit)| !self.asked.contains_key(unit))?.clone();
        self.order.remove(&place);
        let (_, _, unit) = place;
        let load = self.wishes.remove(&unit)?.load;
        self.asked.insert(unit.clone(), Asked { load, outdated: false });
        Some((unit, load))
    }

    /// An answer has come. False when it is out of date and must not count; the unit is on the agenda again then.
    pub(super) fn answered(&mut self, unit: &UnitName) -> bool {
        let counts = self.asked.remove(unit).is_none_or(|asked| !asked.outdated);
        if counts {
            self.surveyed.remove(unit);
        }
        counts
    }

    /// Something changed under the answers that are on their way: they are not to count.
    pub(super) fn outdate(&mut self) {
        let mut again = Vec::new();
        for (unit, asked) in &mut self.asked {
            asked.outdated = true;
            again.push((unit.clone(), asked.load));
        }
        again.into_iter().for_each(|(unit, load)| self.add(unit, Urgency::News, load));
    }

    /// Every unit that a survey put here has been told of since; others may have come in the meantime.
    pub(super) fn is_surveyed(&self) -> bool {
        self.surveyed.is_empty()
    }

    /// Nothing is to be asked and no answer is on its way.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.wishes.is_empty() && self.asked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> UnitName {
        UnitName::parse(&format!("{name}.service")).unwrap()
    }

    fn asked(agenda: &mut Agenda) -> Vec<String> {
        std::iter::from_fn(|| agenda.next()).map(|(unit, _)| unit.prefix().to_owned()).collect()
    }

    #[test]
    fn news_come_first_and_nobody_is_asked_about_twice_at_once() {
        let mut agenda = Agenda::default();
        for name in ["a", "b", "c"] {
            agenda.add(unit(name), Urgency::Survey, true);
        }
        agenda.add(unit("c"), Urgency::News, false);
        agenda.add(unit("b"), Urgency::Survey, false);
        assert_eq!(agenda.next(), Some((unit("c"), true)), "more urgent now, and still to be loaded");
        assert_eq!(asked(&mut agenda), ["a", "b"]);
        agenda.add(unit("a"), Urgency::News, false);
        assert_eq!(agenda.next(), None, "its answer is on the way");
        assert!(agenda.answered(&unit("a")));
        assert_eq!(agenda.next(), Some((unit("a"), false)));
        for name in ["a", "b", "c"] {
            assert!(agenda.answered(&unit(name)));
        }
        assert!(agenda.is_empty());
    }

    #[test]
    fn a_thousand_units_are_asked_about_a_few_at_a_time_and_each_once() {
        let mut agenda = Agenda::default();
        for round in 0..3 {
            (0..1000).for_each(|n| agenda.add(unit(&format!("u{n}")), Urgency::Survey, round == 0));
        }
        let mut total = 0;
        while !agenda.is_empty() {
            let some = asked(&mut agenda);
            assert!(some.len() <= AT_ONCE);
            total += some.len();
            some.iter().for_each(|name| assert!(agenda.answered(&unit(name))));
        }
        assert_eq!(total, 1000);
    }

    #[test]
    fn news_without_end_do_not_keep_a_survey_from_its_end() {
        let mut agenda = Agenda::default();
        for name in ["a", "b"] {
            agenda.add(unit(name), Urgency::Survey, true);
        }
        for _ in 0..3 {
            agenda.add(unit("busy"), Urgency::News, false);
            let some = asked(&mut agenda);
            agenda.outdate();
            assert!(some.iter().all(|name| !agenda.answered(&unit(name))));
        }
        assert!(!agenda.is_surveyed(), "no answer has counted");
        assert_eq!(asked(&mut agenda).len(), 3);
        agenda.add(unit("busy"), Urgency::News, false);
        for name in ["a", "b"] {
            assert!(agenda.answered(&unit(name)));
        }
        assert!(agenda.is_surveyed() && !agenda.is_empty());
    }

    #[test]
    fn answers_from_before_a_change_do_not_count_and_are_asked_for_again() {
        let mut agenda = Agenda::default();
        agenda.add(unit("a"), Urgency::Survey, false);
        agenda.next();
        agenda.outdate();
        assert!(!agenda.answered(&unit("a")));
        assert_eq!(agenda.next(), Some((unit("a"), false)));
        assert!(agenda.answered(&unit("a")));
        assert!(agenda.is_empty());
    }
}
