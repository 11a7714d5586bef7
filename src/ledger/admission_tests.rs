#![allow(clippy::arithmetic_side_effects)]

use super::*;
use crate::policy::action::VictimOrder;

const S: u64 = 1_000_000_000;
const O: Authority = Authority::Owner;

fn facts() -> Facts {
    Facts {
        contains_daemon: false,
        usage: 64 << 20,
        min: 0,
        effective_max: 1 << 30,
        page: 4096,
        authority: O,
    }
}

fn action(cgroup: u64, time: u64, kind: ActionKind) -> Action {
    let (policy, reason_template) = ("p".to_owned(), String::new());
    let (cgroup, numbers, dry_run, culprit) = (CgroupId(cgroup), [0; 4], false, None);
    Action { cgroup, time, kind, numbers, dry_run, policy, reason_template, culprit }
}

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text).unwrap()
}

const KILL: ActionKind =
    ActionKind::Kill { grace_ns: 0, scope: KillScope::Leaf, select: VictimOrder::Largest };

fn bounded(verb: ActionKind, facts: Facts) -> Result<ActionKind, String> {
    match Admission::new(Limits::default()).admit(0, &path("/a"), &action(1, 0, verb), &facts) {
        Decision::Allow(verb) => Ok(verb),
        Decision::Block(why) => Err(why),
    }
}

#[test]
fn values_stay_within_bounds() {
    let high = |value| ActionKind::SetKnob(Knob::High, Some(value));
    let low = |value| ActionKind::SetKnob(Knob::Low, Some(value));
    assert_eq!(bounded(high(1), facts()), Ok(high(4 << 20)), "what a program needs");
    assert_eq!(bounded(high(0), Facts { min: 8 << 20, ..facts() }), Ok(high(8 << 20)), "what is guaranteed");
    assert_eq!(bounded(high((64 << 20) + 5), facts()), Ok(high(64 << 20)), "whole pages");
    assert_eq!(bounded(high(MAX), facts()), Ok(ActionKind::SetKnob(Knob::High, None)));
    assert_eq!(bounded(low(MAX), facts()), Ok(low(1 << 30)), "no more than there can be");
    let kill =
        |grace_ns| ActionKind::Kill { grace_ns, scope: KillScope::Process, select: VictimOrder::Newest };
    assert_eq!(bounded(kill(MAX), facts()), Ok(kill(MAX_GRACE_NS)));
    let take = |bytes, swappiness| ActionKind::Reclaim { bytes, swappiness };
    assert_eq!(bounded(take(1 << 40, Some(201)), facts()), Ok(take(64 << 20, Some(200))));
    assert_eq!(bounded(take(0, None), facts()), Err("nothing to reclaim: memory in use is 64M".to_owned()));
    assert_eq!(
        bounded(ActionKind::SetKnob(Knob::Freeze, Some(0)), facts()),
        Ok(ActionKind::SetKnob(Knob::Freeze, None))
    );
    assert!(bounded(ActionKind::SetKnob(Knob::Freeze, Some(2)), facts()).is_err());
}

#[test]
fn daemon_cgroup_is_not_frozen_or_killed() {
    let ours = Facts { contains_daemon: true, ..facts() };
    assert!(bounded(ActionKind::SetKnob(Knob::Freeze, Some(1)), ours).is_err());
    assert!(
        bounded(
            ActionKind::Kill { grace_ns: 0, scope: KillScope::Group, select: VictimOrder::Largest },
            ours
        )
        .is_err()
    );
    assert!(bounded(KILL, ours).is_ok(), "what is chosen there is never ourselves");
    assert!(bounded(ActionKind::SetKnob(Knob::Freeze, None), ours).is_ok());
}

#[test]
fn rate_limit_does_not_apply_to_release() {
    let mut guards = Admission::new(Limits { per_second: 3, kills_per_minute: 1 });
    let mut judge = |now, cgroup, verb| guards.admit(now, &path("/a"), &action(cgroup, now, verb), &facts());
    let high = |value: u64| ActionKind::SetKnob(Knob::High, Some(value << 20));
    for n in 0..3 {
        assert!(matches!(judge(n, 1, high(10 + n)), Decision::Allow(_)));
    }
    assert_eq!(
        judge(4, 1, high(20)),
        Decision::Block("more than 3 actions in a second (PerSecond=3)".to_owned())
    );
    assert!(matches!(judge(4, 1, ActionKind::SetKnob(Knob::High, None)), Decision::Allow(_)));
    assert!(matches!(judge(4, 2, high(20)), Decision::Allow(_)), "others are not kept waiting");
    assert!(matches!(judge(S + 1, 1, high(20)), Decision::Allow(_)));
}

#[test]
fn second_kill_for_one_event_is_blocked() {
    let mut guards = Admission::new(Limits { per_second: 100, kills_per_minute: 3 });
    let kill = |guards: &mut Admission, now: u64, asked: u64, cgroup: u64, at: &str| {
        matches!(guards.admit(now, &path(at), &action(cgroup, asked, KILL), &facts()), Decision::Allow(_))
    };
    assert!(kill(&mut guards, 0, 0, 1, "/a/b"));
    assert!(!kill(&mut guards, S, S, 1, "/a/b"), "the first is not over");
    assert!(!kill(&mut guards, S, S, 3, "/a/b/c"), "seen from below");
    assert!(kill(&mut guards, S, S, 4, "/other"), "something else");
    guards.kill_finished(2 * S, CgroupId(1), false, O);
    assert!(!kill(&mut guards, 4 * S, 2 * S + S / 2, 1, "/a/b"), "asked while memory came back");
    assert!(kill(&mut guards, 4 * S, 3 * S, 1, "/a/b"), "another event");
    guards.kill_finished(4 * S, CgroupId(1), false, O);
    assert!(kill(&mut guards, 6 * S, 6 * S, 1, "/a/b"));
    guards.kill_finished(6 * S, CgroupId(1), false, O);
    assert!(!kill(&mut guards, 8 * S, 8 * S, 1, "/a/b"), "the fourth in a minute");
    assert!(kill(&mut guards, 61 * S, 61 * S, 1, "/a/b"));
    guards.kill_finished(61 * S, CgroupId(1), false, O);
    assert!(!kill(&mut guards, 66 * S, 61 * S, 3, "/a/b/c"), "seen from below");
    assert!(kill(&mut guards, 66 * S, 61 * S, 5, "/a/b"), "the path's next cgroup");
    guards.kill_finished(66 * S, CgroupId(5), false, O);
    assert!(kill(&mut guards, 67 * S, 67 * S, 6, "/a/b"));
    guards.kill_finished(67 * S, CgroupId(6), false, O);
    assert!(!kill(&mut guards, 68 * S, 68 * S, 7, "/a/b"), "which are not killed without end either");
}

#[test]
fn cancelled_kill_does_not_count() {
    let mut guards = Admission::new(Limits { per_second: 100, kills_per_minute: 1 });
    let kill = |guards: &mut Admission, now: u64, dry_run: bool| {
        let action = Action { dry_run, ..action(1, now, KILL) };
        matches!(guards.admit(now, &path("/a"), &action, &facts()), Decision::Allow(_))
    };
    for second in 0..3 {
        assert!(kill(&mut guards, second * S, false));
        guards.kill_cancelled(CgroupId(1), true, O);
        assert!(!kill(&mut guards, second * S, false), "the one that is not undone goes on");
        guards.kill_cancelled(CgroupId(1), false, O);
    }
    assert!(kill(&mut guards, 5 * S, false));
    guards.kill_finished(5 * S, CgroupId(1), false, O);
    guards.kill_cancelled(CgroupId(1), false, O);
    assert!(!kill(&mut guards, 9 * S, false), "what was done stays done");
}

#[test]
fn expired_action_is_blocked() {
    let mut guards = Admission::new(Limits::default());
    let late = guards.admit(10 * S, &path("/a"), &action(1, 4 * S, KILL), &facts());
    assert_eq!(late, Decision::Block(EXPIRED_MSG.to_owned()));
    let want = action(1, 4 * S, ActionKind::SetKnob(Knob::Low, Some(1 << 20)));
    assert!(matches!(guards.admit(10 * S, &path("/a"), &want, &facts()), Decision::Allow(_)));
}

#[test]
fn dry_run_kill_does_not_block_kill() {
    let mut guards = Admission::new(Limits::default());
    let dry = Action { dry_run: true, ..action(1, 0, KILL) };
    assert!(matches!(guards.admit(0, &path("/a"), &dry, &facts()), Decision::Allow(_)));
    assert!(matches!(guards.admit(0, &path("/a"), &action(1, 0, KILL), &facts()), Decision::Allow(_)));
}

#[test]
fn kill_of_lower_authority_or_inner_cgroup_delays_no_other() {
    let mut guards = Admission::new(Limits { per_second: 2, kills_per_minute: 2 });
    let mut kill = |now: u64, cgroup: u64, at: &str, authority| {
        let facts = Facts { authority, ..facts() };
        match guards.admit(now, &path(at), &action(cgroup, now, KILL), &facts) {
            Decision::Allow(_) => {
                // The outer cgroups' kills end at once; the inner ones have a grace that never ends.
                if at == "/a" || authority == Authority::Administrator {
                    guards.kill_finished(now, CgroupId(cgroup), false, authority);
                }
                true
            }
            Decision::Block(_) => false,
        }
    };
    assert!(kill(0, 2, "/a/b", Authority::Administrator), "an inner kill of the highest authority");
    assert!(kill(0, 1, "/a", O), "the outer one does not wait for it");
    assert!(kill(2 * S, 3, "/a/b/c", O), "a grace");
    assert!(!kill(3 * S, 3, "/a/b/c", O) && !kill(3 * S, 4, "/a/b/c/d", O), "which is not over");
    assert!(kill(4 * S, 3, "/a/b/c", Authority::Container), "a higher authority does not wait for it");
    assert!(!kill(5 * S, 4, "/a/b/c/d", Authority::Container), "an equal one inside does");
    assert!(kill(6 * S, 4, "/a/b/c/d", Authority::UnitFile));
    assert!(kill(7 * S, 1, "/a", O), "the rate of the outer cgroup is its own");
    assert!(!kill(9 * S, 1, "/a", O), "and has an end");
    assert!(kill(9 * S, 1, "/a", Authority::UnitFile), "but not for a higher authority");
}

#[test]
fn actions_of_lower_authority_use_up_no_higher_rate() {
    let mut guards = Admission::new(Limits { per_second: 2, kills_per_minute: 2 });
    let high = ActionKind::SetKnob(Knob::High, Some(64 << 20));
    let mut may = |authority| {
        let facts = Facts { authority, ..facts() };
        matches!(guards.admit(0, &path("/a"), &action(1, 0, high), &facts), Decision::Allow(_))
    };
    assert!(may(O) && may(O) && !may(O));
    assert!(may(Authority::UnitFile) && may(Authority::UnitFile) && !may(Authority::UnitFile));
    assert!(may(Authority::Administrator) && !may(Authority::Container));
}
