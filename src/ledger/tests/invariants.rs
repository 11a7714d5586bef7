//! One invariant each.

use super::*;

#[test]
fn strictest_constraint_wins_and_original_value_is_restored() {
    let mut m = files();
    m.foreign(A, Knob::High, 900);
    m.constrain(A, "p", Knob::High, Some(500));
    m.complete_writes();
    m.constrain(A, "q", Knob::High, Some(300));
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), 300);
    m.constrain(A, "q", Knob::High, None);
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), 500);
    m.constrain(A, "p", Knob::High, None);
    m.complete_writes();
    assert_eq!((m.file(A, Knob::High), m.records.len()), (900, 0));
    assert_eq!(m.causes.iter().map(|c| c.policy.as_str()).collect::<Vec<_>>(), ["p", "q", "q", "p"]);
}

#[test]
fn stricter_foreign_value_is_never_loosened() {
    let mut m = files();
    m.foreign(A, Knob::High, 100);
    m.foreign(A, Knob::Low, 700);
    m.constrain(A, "p", Knob::High, Some(500));
    m.constrain(A, "p", Knob::Low, Some(200));
    assert!(m.in_flight.is_empty() && m.records.is_empty());
    // Nor is one written later.
    m.foreign(A, Knob::High, MAX);
    m.constrain(A, "p", Knob::High, Some(500));
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), 500);
    m.foreign(A, Knob::High, 100);
    m.step(Input::Renew { cgroup: A, policy: "p".to_owned(), knob: Knob::High, current: 100 });
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), 100);
    assert_eq!(m.records.len(), 0, "the file holds no value of the daemon");
    m.constrain(A, "p", Knob::High, None);
    assert_eq!(m.file(A, Knob::High), 100);
}

#[test]
fn foreign_write_between_read_and_write_is_kept() {
    let mut m = files();
    m.constrain(A, "p", Knob::High, Some(500));
    m.foreign(A, Knob::High, 800);
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), 500, "the constraint is stricter than the foreign value");
    m.foreign(A, Knob::High, 600);
    m.constrain(A, "p", Knob::High, None);
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), 600);
}

#[test]
fn constraint_that_is_not_renewed_expires() {
    let mut m = files();
    m.constrain(A, "p", Knob::Freeze, Some(1));
    m.complete_writes();
    m.now += 20 * S;
    m.step(Input::Renew { cgroup: A, policy: "p".to_owned(), knob: Knob::Freeze, current: 1 });
    assert_eq!(m.ledger.due(), Some(m.now + CONSTRAINT_TTL_NS));
    m.now += 29 * S;
    m.step(Input::Tick);
    assert!(m.in_flight.is_empty());
    m.now += S;
    m.step(Input::Tick);
    m.complete_writes();
    assert_eq!((m.file(A, Knob::Freeze), m.ledger.due()), (0, None));
}

#[test]
fn constraint_of_unattached_policy_is_ignored() {
    let mut m = files();
    m.constrain(A, "stranger", Knob::High, Some(500));
    m.constrain(CgroupId(2), "p", Knob::High, Some(500));
    assert!(m.in_flight.is_empty());
    m.constrain(A, "p", Knob::High, Some(500));
    m.complete_writes();
    m.bind(A, &["q"]);
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), MAX);
    assert_eq!(m.causes.last().unwrap().reason, "the policy is detached");
}

#[test]
fn pause_restores_and_resume_applies_again() {
    let mut m = files();
    m.constrain(A, "p", Knob::High, Some(500));
    m.step(Input::Pause(true));
    m.complete_writes();
    assert_eq!((m.file(A, Knob::High), m.records.len()), (MAX, 0));
    m.constrain(A, "p", Knob::High, Some(400));
    assert!(m.in_flight.is_empty());
    m.step(Input::Pause(false));
    m.complete_writes();
    assert_eq!(m.file(A, Knob::High), 400);
}

#[test]
fn failed_write_is_repeated_with_backoff() {
    let mut m = files();
    m.constrain(A, "p", Knob::High, Some(500));
    let mut tries = 0;
    for _ in 0..600 {
        if !m.in_flight.is_empty() {
            tries += 1;
            m.complete_write(true);
        }
        m.now += S;
        m.step(Input::Renew { cgroup: A, policy: "p".to_owned(), knob: Knob::High, current: MAX });
    }
    assert!((10..20).contains(&tries), "{tries} tries in ten minutes");
    m.constrain(A, "p", Knob::High, None);
    m.complete_writes();
    assert_eq!((m.ledger.due(), m.records.len()), (None, 0));
}

#[test]
fn next_daemon_keeps_renewed_constraints_and_restores_others() {
    let mut m = files();
    m.foreign(A, Knob::Low, 64);
    m.constrain(A, "p", Knob::Low, Some(512));
    m.constrain(A, "q", Knob::High, Some(700));
    m.complete_writes();
    m.crash(0);
    assert!(m.in_flight.is_empty(), "nothing changes by a restart");
    m.constrain(A, "p", Knob::Low, Some(512));
    m.now += CONSTRAINT_TTL_NS;
    m.constrain(A, "p", Knob::Low, Some(512));
    m.step(Input::Tick);
    m.complete_writes();
    assert_eq!((m.file(A, Knob::Low), m.file(A, Knob::High)), (512, MAX));
    m.crash(0);
    m.bind(A, &[]);
    m.complete_writes();
    m.assert_original();
}
