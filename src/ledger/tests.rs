#![allow(clippy::arithmetic_side_effects)]

mod promises;

use proptest::prelude::*;

use super::*;
use crate::policy::action::MAX;
const S: u64 = 1_000_000_000;
const KNOBS: [Knob; 3] = [Knob::High, Knob::Low, Knob::Freeze];

/// The machine as far as the ledger knows it: files, records on cgroups, writes on their way.
#[derive(Default)]
struct Machine {
    ledger: Ledger,
    now: u64,
    files: BTreeMap<(CgroupId, Knob), u64>,
    /// What somebody else wrote last.
    theirs: BTreeMap<(CgroupId, Knob), u64>,
    records: BTreeMap<CgroupId, Vec<KnobRecord>>,
    bound: BTreeMap<CgroupId, BTreeSet<String>>,
    flying: Vec<Write>,
    causes: Vec<Cause>,
    paused: bool,
}

fn path(cgroup: CgroupId) -> CgroupPath {
    CgroupPath::parse(&format!("/c{cgroup}")).unwrap()
}

fn default(knob: Knob) -> u64 {
    if knob == Knob::High { MAX } else { 0 }
}

impl Machine {
    fn file(&self, cgroup: CgroupId, knob: Knob) -> u64 {
        self.files.get(&(cgroup, knob)).copied().unwrap_or(default(knob))
    }

    fn step(&mut self, input: Input) {
        for effect in self.ledger.step(self.now, input) {
            match effect {
                Effect::Record { cgroup, knobs, .. } if knobs.is_empty() => {
                    drop(self.records.remove(&cgroup))
                }
                Effect::Record { cgroup, knobs, .. } => drop(self.records.insert(cgroup, knobs)),
                Effect::Write(write) => {
                    let on_its_way = |w: &Write| (w.cgroup, w.knob) == (write.cgroup, write.knob);
                    assert!(!self.flying.iter().any(on_its_way), "one outstanding write per knob");
                    let recorded = self.records.get(&write.cgroup).into_iter().flatten();
                    let covered = |r: &KnobRecord| {
                        r.knob == write.knob
                            && (r.written.contains(&write.value) || r.original == write.value)
                    };
                    assert!(recorded.clone().any(covered), "recorded before it is written: {write:?}");
                    self.causes.push(write.cause.clone());
                    self.flying.push(write);
                }
            }
        }
    }

    /// The file's side of a write.
    fn put(&mut self, write: &Write) -> WriteOutcome {
        let current = self.file(write.cgroup, write.knob);
        if current != write.value && !write.expect.contains(&current) {
            return WriteOutcome::Conflict(current);
        }
        self.files.insert((write.cgroup, write.knob), write.value);
        WriteOutcome::Written
    }

    fn land(&mut self, fail: bool) {
        if self.flying.is_empty() {
            return;
        }
        let write = self.flying.remove(0);
        let outcome = if fail { WriteOutcome::Failed } else { self.put(&write) };
        self.step(Input::WriteDone { cgroup: write.cgroup, knob: write.knob, outcome });
    }

    fn land_all(&mut self) {
        while !self.flying.is_empty() {
            self.land(false);
        }
    }

    fn bind(&mut self, cgroup: CgroupId, policies: &[&str]) {
        let policies: BTreeSet<String> = policies.iter().map(|p| (*p).to_owned()).collect();
        self.bound.insert(cgroup, policies.clone());
        self.step(Input::PoliciesBound { cgroup, path: path(cgroup), policies });
    }

    fn want(&mut self, cgroup: CgroupId, policy: &str, knob: Knob, value: Option<u64>) {
        let (policy, current) = (policy.to_owned(), self.file(cgroup, knob));
        let cause = Cause { policy: policy.clone(), reason: "test".to_owned(), numbers: [1, 2, 3, 4] };
        self.step(Input::Constrain {
            cgroup,
            policy,
            knob,
            value,
            requested: value.unwrap_or(0),
            current,
            cause,
        });
    }

    fn foreign(&mut self, cgroup: CgroupId, knob: Knob, value: u64) {
        self.files.insert((cgroup, knob), value);
        self.theirs.insert((cgroup, knob), value);
    }

    /// Killed, and started again: writes on their way may or may not have arrived.
    fn crash(&mut self, arrived: usize) {
        for write in std::mem::take(&mut self.flying).into_iter().take(arrived) {
            self.put(&write);
        }
        self.ledger = Ledger::default();
        self.step(Input::Pause(self.paused));
        for (cgroup, policies) in self.bound.clone() {
            self.step(Input::PoliciesBound { cgroup, path: path(cgroup), policies });
        }
        for (cgroup, kept) in self.records.clone() {
            let kept = kept.into_iter().map(|r| (r.clone(), self.file(cgroup, r.knob))).collect();
            self.step(Input::Adopt { cgroup, path: path(cgroup), kept });
        }
    }

    fn stop(&mut self) {
        for write in std::mem::take(&mut self.flying) {
            self.put(&write);
        }
        for write in self.ledger.restore_writes() {
            self.put(&write);
        }
    }

    fn as_found(&self) {
        for ((cgroup, knob), value) in &self.files {
            let theirs = self.theirs.get(&(*cgroup, *knob)).copied().unwrap_or(default(*knob));
            assert_eq!(*value, theirs, "{knob} of {cgroup} is as somebody else left it");
        }
    }
}

const A: CgroupId = CgroupId(1);

fn machine() -> Machine {
    let mut machine = Machine { now: S, ..Machine::default() };
    machine.bind(A, &["p", "q"]);
    machine
}

#[derive(Debug, Clone)]
enum Happening {
    Want(u64, usize, usize, Option<u64>),
    Foreign(u64, usize, u64),
    Bind(u64, usize),
    Gone(u64),
    Land(bool),
    Later(u64),
    Pause(bool),
    Crash(usize),
}

const POLICIES: [&str; 3] = ["p", "q", "r"];

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        8 => (1..4u64, 0..3usize, 0..3usize, proptest::option::weighted(0.8, 1..50u64))
            .prop_map(|(c, p, k, v)| Want(c, p, k, v)),
        3 => (1..4u64, 0..3usize, 1..50u64).prop_map(|(c, k, v)| Foreign(c, k, v)),
        2 => (1..4u64, 0..8usize).prop_map(|(c, set)| Bind(c, set)),
        1 => (1..4u64).prop_map(Gone),
        8 => proptest::bool::weighted(0.2).prop_map(Land),
        3 => (1..40u64).prop_map(Later),
        1 => any::<bool>().prop_map(Pause),
        1 => (0..4usize).prop_map(Crash),
    ]
}

impl Machine {
    fn happens(&mut self, happening: Happening) {
        // Ours are even and theirs are odd: a value that both write cannot be told apart by anybody.
        let ours = |knob: usize, v: u64| if KNOBS[knob] == Knob::Freeze { 1 } else { v * 2 };
        match happening {
            Happening::Want(c, p, k, v) => {
                let policy = POLICIES[p].to_owned();
                self.want(CgroupId(c), &policy, KNOBS[k], v.map(|v| ours(k, v)));
            }
            // Where 0 and 1 are all there is, nobody else writes.
            Happening::Foreign(_, k, _) if KNOBS[k] == Knob::Freeze => {}
            Happening::Foreign(c, k, v) => self.foreign(CgroupId(c), KNOBS[k], v * 2 + 1),
            Happening::Bind(c, set) => {
                let chosen: Vec<&str> =
                    POLICIES.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, p)| *p).collect();
                self.bind(CgroupId(c), &chosen);
            }
            Happening::Gone(c) => {
                let cgroup = CgroupId(c);
                self.flying.retain(|w| w.cgroup != cgroup);
                self.files.retain(|(id, _), _| *id != cgroup);
                self.theirs.retain(|(id, _), _| *id != cgroup);
                self.records.remove(&cgroup);
                self.bound.remove(&cgroup);
                self.step(Input::CgroupRemoved(cgroup));
            }
            Happening::Land(fail) => self.land(fail),
            Happening::Later(s) => {
                self.now += s * S;
                self.step(Input::Tick);
            }
            Happening::Pause(paused) => {
                self.paused = paused;
                self.step(Input::Pause(paused));
            }
            Happening::Crash(arrived) => self.crash(arrived),
        }
    }

    /// What is in force is never looser than what somebody else wrote last, and while paused it is just that.
    fn holds_good(&self) {
        for ((cgroup, knob), value) in &self.files {
            let theirs = self.theirs.get(&(*cgroup, *knob)).copied().unwrap_or(default(*knob));
            assert_eq!(knob.strictest(*value, theirs), *value, "{knob} of {cgroup}");
            assert!(!self.paused || *value == theirs, "{knob} of {cgroup} is paused");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn any_history_ends_with_every_knob_as_found(
        history in proptest::collection::vec(happening(), 0..60),
        end in 0..4usize,
    ) {
        let mut m = Machine { now: S, ..Machine::default() };
        for c in 1..4 {
            m.bind(CgroupId(c), &POLICIES);
        }
        for one in history {
            m.happens(one);
        }
        match end {
            0 => m.stop(),
            // Every policy goes.
            1 => {
                for c in 1..4 {
                    m.bind(CgroupId(c), &[]);
                }
                m.land_all();
            }
            // Every policy goes quiet.
            2 => {
                m.now += 1000 * S;
                m.step(Input::Tick);
                m.land_all();
            }
            // Killed, and the next daemon is stopped.
            _ => {
                m.crash(1);
                m.stop();
            }
        }
        // What failed last is tried again.
        m.now += 1000 * S;
        if end == 1 || end == 2 {
            m.step(Input::Tick);
            m.land_all();
            prop_assert!(m.records.is_empty(), "{:?}", m.records);
        }
        m.as_found();
    }

    #[test]
    fn what_is_in_force_is_never_looser_than_what_was_found(
        history in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut m = Machine { now: S, ..Machine::default() };
        for c in 1..4 {
            m.bind(CgroupId(c), &POLICIES);
        }
        for one in history {
            m.happens(one);
            // Everybody looks, and everything lands.
            m.now += 70 * S;
            let known: Vec<(CgroupId, Knob)> = m.files.keys().copied().collect();
            for (cgroup, knob) in known {
                let current = m.file(cgroup, knob);
                m.step(Input::Renew { cgroup, policy: "p".to_owned(), knob, current });
            }
            m.land_all();
            m.holds_good();
        }
    }
}

#[test]
fn constraint_lifetime_is_that_of_the_bpf_header() {
    let header = include_str!("../../bpf/action.h");
    let line = header.lines().find_map(|line| line.strip_prefix("#define MEMCG_BPF_CONSTRAINT_TTL "));
    let seconds = format!("({} * MEMCG_BPF_SECOND)", CONSTRAINT_TTL_NS / S);
    assert_eq!(line.map(str::trim), Some(seconds.as_str()));
}
