//! Walks of the cgroup tree for what is recorded there: when they are due, and the walking itself, on a thread beside the
//! loop. Anybody on the bus can have one made, so they are far apart however often they are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::requests::BINDINGS_PER_USER;
use crate::cgroup::{delegation, tree, xattr};
use crate::names::CgroupPath;

/// A hook waits 2 s for us, then records its request on the cgroup: by this time it has.
const SOON: Duration = Duration::from_secs(5);
/// On a machine that is short of everything it takes longer: whoever asked so short before a walk gets the next one, too.
const WRITTEN: Duration = Duration::from_secs(10);
/// Between walks that were asked for: each reads two attributes of every cgroup, and asking costs nothing.
const APART: Duration = Duration::from_secs(30);
/// Cgroups that the thread is ahead of the loop: a walk fills no memory, however much there is to find.
const AHEAD: usize = 64;

/// A cgroup that something is noted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: CgroupPath,
    /// The user below whose manager it lies, if there is a wish on it.
    pub wish_of: Option<u32>,
}

/// When walks are due. Knows times only.
#[derive(Debug, Default)]
struct Plan {
    /// Since then a walk is wanted.
    wanted: Option<Instant>,
    /// When one was asked for last that no walk has answered.
    asked: Option<Instant>,
    /// When the last one began that was asked for.
    begun: Option<Instant>,
}

impl Plan {
    /// A daemon's start: hooks may have given up on us while we came. Nobody asked, so nobody waits for it later.
    fn at_start(now: Instant) -> Self {
        Plan { wanted: Some(now), ..Plan::default() }
    }

    fn ask(&mut self, now: Instant) {
        self.wanted.get_or_insert(now);
        self.asked = Some(now);
    }

    fn due(&self) -> Option<Instant> {
        let soon = self.wanted?.checked_add(SOON)?;
        let apart = self.begun.and_then(|begun| begun.checked_add(APART));
        Some(apart.map_or(soon, |apart| apart.max(soon)))
    }

    fn begin(&mut self, now: Instant) {
        if self.asked.is_some() {
            self.begun = Some(now);
        }
        self.asked = self.asked.filter(|asked| now.saturating_duration_since(*asked) < WRITTEN);
        self.wanted = self.asked;
    }
}

/// The walk under way, and those to come.
pub struct Walks {
    missed: Arc<Notify>,
    plan: Plan,
    look: fn(&mpsc::Sender<Found>),
    under_way: Option<mpsc::Receiver<Found>>,
}

impl Walks {
    /// Begins with a walk. `missed` says that a hook may leave a record.
    pub fn new(missed: Arc<Notify>) -> Self {
        Walks::with(missed, look)
    }

    fn with(missed: Arc<Notify>, look: fn(&mpsc::Sender<Found>)) -> Self {
        let mut walks = Walks { missed, plan: Plan::at_start(Instant::now()), look, under_way: None };
        walks.set_out();
        walks
    }

    /// What the walk under way still finds; `None` at its end.
    pub async fn rest(&mut self) -> Option<Found> {
        let found = self.under_way.as_mut()?.recv().await;
        if found.is_none() {
            self.under_way = None;
        }
        found
    }

    /// What is found next, by this walk or one to come. Cancel safe.
    pub async fn next(&mut self) -> Found {
        loop {
            let Walks { missed, plan, under_way, .. } = self;
            let due = plan.due().filter(|_| under_way.is_none());
            tokio::select! {
                () = missed.notified() => plan.ask(Instant::now()),
                found = next_of(under_way) => match found {
                    Some(found) => return found,
                    None => self.under_way = None,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    plan.begin(Instant::now());
                    self.set_out();
                }
            }
        }
    }

    fn set_out(&mut self) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        self.under_way = Some(receiver);
        let look = self.look;
        // Not waited for: it ends when nobody listens any more.
        drop(tokio::task::spawn_blocking(move || look(&sender)));
    }
}

async fn next_of(under_way: &mut Option<mpsc::Receiver<Found>>) -> Option<Found> {
    match under_way {
        Some(found) => found.recv().await,
        None => std::future::pending().await,
    }
}

/// Looks at every cgroup, and hands over those that something is noted on.
fn look(sender: &mpsc::Sender<Found>) {
    let mut wishes = Wishes::default();
    tree::walk(&CgroupPath::root(), |path| {
        let recorded = xattr::read_record(path).is_ok_and(|record| record.is_some());
        let wished = |uid: &u32| matches!(xattr::read_owner_policy(path), Ok(Some(_))) && wishes.follow(*uid);
        let wish_of = delegation::delegated_uid(path).filter(wished);
        let noted = recorded || wish_of.is_some();
        !noted || sender.blocking_send(Found { path: path.clone(), wish_of }).is_ok()
    });
}

/// Wishes found of each user: one can write more of them than may be followed.
#[derive(Default)]
struct Wishes(BTreeMap<u32, usize>);

impl Wishes {
    /// Is one more of this user's followed?
    fn follow(&mut self, uid: u32) -> bool {
        let found = self.0.entry(uid).or_default();
        if *found == BINDINGS_PER_USER {
            tracing::warn!(
                "uid {uid} has more than {BINDINGS_PER_USER} cgroups with wishes; the rest is not followed"
            );
        }
        *found = found.saturating_add(1);
        *found <= BINDINGS_PER_USER
    }
}

#[cfg(test)]
#[path = "walks_tests.rs"]
mod tests;
