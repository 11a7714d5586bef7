#![allow(clippy::arithmetic_side_effects)]

mod invariants;
mod submissions;

use proptest::prelude::*;

use super::*;
use crate::policy::action::MAX;
const S: u64 = 1_000_000_000;
const KNOBS: [Knob; 3] = [Knob::High, Knob::Low, Knob::Freeze];

/// The files, records and writes in flight, as the ledger expects them.
#[derive(Default)]
struct FakeFiles {
    ledger: Ledger,
    now: u64,
    files: BTreeMap<(CgroupId, Knob), u64>,
    /// The value that another program wrote last.
    original: BTreeMap<(CgroupId, Knob), u64>,
    records: BTreeMap<CgroupId, Vec<KnobRecord>>,
    bound: BTreeMap<CgroupId, BTreeSet<String>>,
    in_flight: Vec<Write>,
    causes: Vec<Cause>,
    paused: bool,
}

fn path(cgroup: CgroupId) -> CgroupPath {
    CgroupPath::parse(&format!("/c{cgroup}")).unwrap()
}

fn default(knob: Knob) -> u64 {
    if knob == Knob::High { MAX } else { 0 }
}

impl FakeFiles {
    fn file(&self, cgroup: CgroupId, knob: Knob) -> u64 {
        self.files.get(&(cgroup, knob)).copied().unwrap_or(default(knob))
    }

    fn step(&mut self, input: Input) {
        for effect in self.ledger.step(self.now, input) {
            match effect {
                Effect::Record { cgroup, knobs, .. } if knobs.is_empty() => {
                    drop(self.records.remove(&cgroup.id))
                }
                Effect::Record { cgroup, knobs, .. } => drop(self.records.insert(cgroup.id, knobs)),
                Effect::Write(write) => {
                    let same_knob = |w: &Write| (w.cgroup.id, w.knob) == (write.cgroup.id, write.knob);
                    assert!(!self.in_flight.iter().any(same_knob), "one outstanding write per knob");
                    let recorded = self.records.get(&write.cgroup.id).into_iter().flatten();
                    let covered = |r: &KnobRecord| {
                        r.knob == write.knob
                            && (r.written.contains(&write.value) || r.original == write.value)
                    };
                    assert!(recorded.clone().any(covered), "recorded before it is written: {write:?}");
                    self.causes.push(write.cause.clone());
                    self.in_flight.push(write);
                }
            }
        }
    }

    /// Performs a write.
    fn put(&mut self, write: &Write) -> WriteOutcome {
        let current = self.file(write.cgroup.id, write.knob);
        if current != write.value && !write.expect.contains(&current) {
            return WriteOutcome::Conflict(current);
        }
        self.files.insert((write.cgroup.id, write.knob), write.value);
        WriteOutcome::Written
    }

    fn complete_write(&mut self, fail: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let write = self.in_flight.remove(0);
        let outcome = if fail { WriteOutcome::Failed } else { self.put(&write) };
        self.step(Input::WriteDone { cgroup: write.cgroup.id, knob: write.knob, outcome });
    }

    fn complete_writes(&mut self) {
        while !self.in_flight.is_empty() {
            self.complete_write(false);
        }
    }

    fn bind(&mut self, cgroup: CgroupId, policies: &[&str]) {
        let policies: BTreeSet<String> = policies.iter().map(|p| (*p).to_owned()).collect();
        self.bound.insert(cgroup, policies.clone());
        self.step(Input::PoliciesBound { cgroup: CgroupRef { id: cgroup, path: path(cgroup) }, policies });
    }

    fn constrain(&mut self, cgroup: CgroupId, policy: &str, knob: Knob, value: Option<u64>) {
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
        self.original.insert((cgroup, knob), value);
    }

    /// The daemon is killed and started again: writes in flight may or may not have reached the file.
    fn crash(&mut self, arrived: usize) {
        for write in std::mem::take(&mut self.in_flight).into_iter().take(arrived) {
            self.put(&write);
        }
        self.ledger = Ledger::default();
        self.step(Input::Pause(self.paused));
        for (cgroup, policies) in self.bound.clone() {
            self.step(Input::PoliciesBound {
                cgroup: CgroupRef { id: cgroup, path: path(cgroup) },
                policies,
            });
        }
        for (cgroup, kept) in self.records.clone() {
            let kept = kept.into_iter().map(|r| (r.clone(), self.file(cgroup, r.knob))).collect();
            self.step(Input::Adopt { cgroup: CgroupRef { id: cgroup, path: path(cgroup) }, kept });
        }
    }

    fn stop(&mut self) {
        for write in std::mem::take(&mut self.in_flight) {
            self.put(&write);
        }
        for write in self.ledger.restore_writes() {
            self.put(&write);
        }
    }

    fn assert_original(&self) {
        for ((cgroup, knob), value) in &self.files {
            let original = self.original.get(&(*cgroup, *knob)).copied().unwrap_or(default(*knob));
            assert_eq!(*value, original, "{knob} of {cgroup} has its original value");
        }
    }
}

const A: CgroupId = CgroupId(1);

fn files() -> FakeFiles {
    let mut files = FakeFiles { now: S, ..FakeFiles::default() };
    files.bind(A, &["p", "q"]);
    files
}

#[derive(Debug, Clone)]
enum Step {
    Constrain(u64, usize, usize, Option<u64>),
    Foreign(u64, usize, u64),
    Bind(u64, usize),
    Remove(u64),
    Complete(bool),
    Wait(u64),
    Pause(bool),
    Crash(usize),
}

const POLICIES: [&str; 3] = ["p", "q", "r"];

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        8 => (1..4u64, 0..3usize, 0..3usize, proptest::option::weighted(0.8, 1..50u64))
            .prop_map(|(c, p, k, v)| Constrain(c, p, k, v)),
        3 => (1..4u64, 0..3usize, 1..50u64).prop_map(|(c, k, v)| Foreign(c, k, v)),
        2 => (1..4u64, 0..8usize).prop_map(|(c, set)| Bind(c, set)),
        1 => (1..4u64).prop_map(Remove),
        8 => proptest::bool::weighted(0.2).prop_map(Complete),
        3 => (1..40u64).prop_map(Wait),
        1 => any::<bool>().prop_map(Pause),
        1 => (0..4usize).prop_map(Crash),
    ]
}

impl FakeFiles {
    fn apply(&mut self, step: Step) {
        // The values of the daemon are even and the others odd, because a value that both write is ambiguous.
        let written = |knob: usize, v: u64| if KNOBS[knob] == Knob::Freeze { 1 } else { v * 2 };
        match step {
            Step::Constrain(c, p, k, v) => {
                let policy = POLICIES[p].to_owned();
                self.constrain(CgroupId(c), &policy, KNOBS[k], v.map(|v| written(k, v)));
            }
            // With 0 and 1 as the only values, no other program writes.
            Step::Foreign(_, k, _) if KNOBS[k] == Knob::Freeze => {}
            Step::Foreign(c, k, v) => self.foreign(CgroupId(c), KNOBS[k], v * 2 + 1),
            Step::Bind(c, set) => {
                let chosen: Vec<&str> =
                    POLICIES.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, p)| *p).collect();
                self.bind(CgroupId(c), &chosen);
            }
            Step::Remove(c) => {
                let cgroup = CgroupId(c);
                self.in_flight.retain(|w| w.cgroup.id != cgroup);
                self.files.retain(|(id, _), _| *id != cgroup);
                self.original.retain(|(id, _), _| *id != cgroup);
                self.records.remove(&cgroup);
                self.bound.remove(&cgroup);
                self.step(Input::CgroupRemoved(cgroup));
            }
            Step::Complete(fail) => self.complete_write(fail),
            Step::Wait(s) => {
                self.now += s * S;
                self.step(Input::Tick);
            }
            Step::Pause(paused) => {
                self.paused = paused;
                self.step(Input::Pause(paused));
            }
            Step::Crash(arrived) => self.crash(arrived),
        }
    }

    /// A value is never looser than the original one, and equal to it while paused.
    fn assert_invariants(&self) {
        for ((cgroup, knob), value) in &self.files {
            let original = self.original.get(&(*cgroup, *knob)).copied().unwrap_or(default(*knob));
            assert_eq!(knob.strictest(*value, original), *value, "{knob} of {cgroup}");
            assert!(!self.paused || *value == original, "{knob} of {cgroup} is paused");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn any_history_ends_with_all_knobs_restored(
        history in proptest::collection::vec(step(), 0..60),
        end in 0..4usize,
    ) {
        let mut m = FakeFiles { now: S, ..FakeFiles::default() };
        for c in 1..4 {
            m.bind(CgroupId(c), &POLICIES);
        }
        for one in history {
            m.apply(one);
        }
        match end {
            0 => m.stop(),
            // All policies are detached.
            1 => {
                for c in 1..4 {
                    m.bind(CgroupId(c), &[]);
                }
                m.complete_writes();
            }
            // No policy renews its constraints.
            2 => {
                m.now += 1000 * S;
                m.step(Input::Tick);
                m.complete_writes();
            }
            // Killed, and the next daemon is stopped.
            _ => {
                m.crash(1);
                m.stop();
            }
        }
        // A failed write is repeated.
        m.now += 1000 * S;
        if end == 1 || end == 2 {
            m.step(Input::Tick);
            m.complete_writes();
            prop_assert!(m.records.is_empty(), "{:?}", m.records);
        }
        m.assert_original();
    }

    #[test]
    fn value_is_never_looser_than_the_original(
        history in proptest::collection::vec(step(), 0..40),
    ) {
        let mut m = FakeFiles { now: S, ..FakeFiles::default() };
        for c in 1..4 {
            m.bind(CgroupId(c), &POLICIES);
        }
        for one in history {
            m.apply(one);
            // All values are observed, and all writes complete.
            m.now += 70 * S;
            let known: Vec<(CgroupId, Knob)> = m.files.keys().copied().collect();
            for (cgroup, knob) in known {
                let current = m.file(cgroup, knob);
                m.step(Input::Renew { cgroup, policy: "p".to_owned(), knob, current });
            }
            m.complete_writes();
            m.assert_invariants();
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
