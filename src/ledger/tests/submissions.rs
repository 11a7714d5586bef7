//! Tests of the actions that policies request.

use super::*;
use crate::policy::action::{KillScope, VictimOrder};

fn action(kind: ActionKind, dry_run: bool) -> Action {
    let (policy, reason_template) = ("p".to_owned(), String::new());
    Action { cgroup: A, time: S, kind, numbers: [0; 4], dry_run, policy, reason_template, culprit: None }
}

fn set_high(value: Option<u64>) -> Action {
    action(ActionKind::SetKnob(Knob::High, value), false)
}

/// Submits an action for a cgroup that uses 1 GiB, with this value in memory.high.
fn submit(ledger: &mut Ledger, now: u64, action: &Action, high: u64) -> (Submitted, Vec<Effect>) {
    let facts = Facts { usage: 1 << 30, effective_max: 2 << 30, page: 4096, ..Facts::default() };
    ledger.submit(now, action, |_, knob| Some((facts, knob.map(|_| high))))
}

fn written(effects: &[Effect]) -> Vec<u64> {
    let value = |effect: &Effect| match effect {
        Effect::Write(write) => Some(write.value),
        Effect::Record { .. } => None,
    };
    effects.iter().filter_map(value).collect()
}

#[test]
fn action_of_detached_policy_or_removed_cgroup_is_stale() {
    let mut ledger = files().ledger;
    let other = Action { policy: "r".to_owned(), ..set_high(Some(64 << 20)) };
    let unread = |_: &CgroupRef, _: Option<Knob>| panic!("the cgroup is not read");
    assert_eq!(ledger.submit(S, &other, unread), (Submitted::Stale, vec![]));
    let removed = |_: &CgroupRef, _: Option<Knob>| None;
    assert_eq!(ledger.submit(S, &set_high(Some(64 << 20)), removed), (Submitted::Stale, vec![]));
}

#[test]
fn admitted_value_is_recorded_and_written() {
    let mut ledger = files().ledger;
    let (submitted, effects) = submit(&mut ledger, S, &set_high(Some(1)), MAX);
    let floor = admission::MIN_MEMORY_HIGH;
    let (path, knob, value) = (path(A), Knob::High, Some(floor));
    assert_eq!(submitted, Submitted::Constrained { path, knob, value, current: MAX });
    assert_eq!(written(&effects), [floor]);
    assert!(matches!(&effects[0], Effect::Record { cgroup, .. } if cgroup.id == A), "{effects:?}");
}

#[test]
fn repeated_request_renews_without_counting_as_action() {
    let mut ledger = files().ledger;
    submit(&mut ledger, S, &set_high(Some(64 << 20)), MAX);
    ledger.step(S, Input::WriteDone { cgroup: A, knob: Knob::High, outcome: WriteOutcome::Written });
    for round in 0..100 {
        let (submitted, effects) = submit(&mut ledger, S + round, &set_high(Some(64 << 20)), 64 << 20);
        assert_eq!((submitted, effects), (Submitted::Unchanged, vec![]), "round {round}");
    }
    // Renewed: it has not expired after the time for the first request.
    assert_eq!(written(&ledger.step(S + CONSTRAINT_TTL_NS, Input::Tick)), [0; 0]);
    assert_eq!(written(&ledger.step(S + CONSTRAINT_TTL_NS + 100, Input::Tick)), [MAX]);
}

#[test]
fn release_without_constraint_does_nothing() {
    let mut ledger = files().ledger;
    assert_eq!(submit(&mut ledger, S, &set_high(None), MAX), (Submitted::Unchanged, vec![]));
    submit(&mut ledger, S, &set_high(Some(64 << 20)), MAX);
    ledger.step(S, Input::WriteDone { cgroup: A, knob: Knob::High, outcome: WriteOutcome::Written });
    let (submitted, effects) = submit(&mut ledger, S, &set_high(None), 64 << 20);
    assert!(matches!(submitted, Submitted::Constrained { value: None, .. }), "{submitted:?}");
    assert_eq!(written(&effects), [MAX]);
}

#[test]
fn dry_run_releases_an_earlier_constraint() {
    let mut ledger = files().ledger;
    submit(&mut ledger, S, &set_high(Some(64 << 20)), MAX);
    ledger.step(S, Input::WriteDone { cgroup: A, knob: Knob::High, outcome: WriteOutcome::Written });
    let dry_run = Action { dry_run: true, ..set_high(Some(32 << 20)) };
    let (submitted, effects) = submit(&mut ledger, S, &dry_run, 64 << 20);
    let (path, knob, value) = (path(A), Knob::High, Some(32 << 20));
    assert_eq!(submitted, Submitted::Constrained { path, knob, value, current: 64 << 20 });
    assert_eq!(written(&effects), [MAX]);
}

#[test]
fn blocked_and_allowed_actions_are_returned() {
    let mut ledger = files().ledger;
    ledger.admission.set_limits(admission::Limits { per_second: 1, ..admission::Limits::default() });
    let kill = ActionKind::Kill { grace_ns: 0, scope: KillScope::Process, select: VictimOrder::Largest };
    let (submitted, effects) = submit(&mut ledger, S, &action(kill, false), MAX);
    assert!(
        matches!(&submitted, Submitted::Allowed(_, ActionKind::Kill { .. }, facts) if facts.usage == 1 << 30)
    );
    assert_eq!(effects, []);
    let (submitted, effects) = submit(&mut ledger, S, &set_high(Some(64 << 20)), MAX);
    assert!(matches!(&submitted, Submitted::Blocked(_, why) if why.contains("PerSecond=1")), "{submitted:?}");
    assert_eq!(effects, []);
}
