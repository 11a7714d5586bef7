//! One promise each.

use super::*;

#[test]
fn the_stricter_want_is_in_force_and_the_found_value_comes_back() {
    let mut m = machine();
    m.foreign(A, Knob::High, 900);
    m.want(A, "p", Knob::High, Some(500));
    m.land_all();
    m.want(A, "q", Knob::High, Some(300));
    m.land_all();
    assert_eq!(m.file(A, Knob::High), 300);
    m.want(A, "q", Knob::High, None);
    m.land_all();
    assert_eq!(m.file(A, Knob::High), 500);
    m.want(A, "p", Knob::High, None);
    m.land_all();
    assert_eq!((m.file(A, Knob::High), m.records.len()), (900, 0));
    assert_eq!(m.causes.iter().map(|c| c.policy.as_str()).collect::<Vec<_>>(), ["p", "q", "q", "p"]);
}

#[test]
fn an_administrators_stricter_value_is_never_loosened() {
    let mut m = machine();
    m.foreign(A, Knob::High, 100);
    m.foreign(A, Knob::Low, 700);
    m.want(A, "p", Knob::High, Some(500));
    m.want(A, "p", Knob::Low, Some(200));
    assert!(m.flying.is_empty() && m.records.is_empty());
    // Nor is one written later.
    m.foreign(A, Knob::High, MAX);
    m.want(A, "p", Knob::High, Some(500));
    m.land_all();
    assert_eq!(m.file(A, Knob::High), 500);
    m.foreign(A, Knob::High, 100);
    m.step(Input::Renew { cgroup: A, policy: "p".to_owned(), knob: Knob::High, current: 100 });
    m.land_all();
    assert_eq!(m.file(A, Knob::High), 100);
    assert_eq!(m.records.len(), 0, "there is nothing of ours in the file");
    m.want(A, "p", Knob::High, None);
    assert_eq!(m.file(A, Knob::High), 100);
}

#[test]
fn a_foreign_write_between_look_and_write_is_not_lost() {
    let mut m = machine();
    m.want(A, "p", Knob::High, Some(500));
    m.foreign(A, Knob::High, 800);
    m.land_all();
    assert_eq!(m.file(A, Knob::High), 500, "the want is stricter than what they wrote");
    m.foreign(A, Knob::High, 600);
    m.want(A, "p", Knob::High, None);
    m.land_all();
    assert_eq!(m.file(A, Knob::High), 600);
}

#[test]
fn a_want_that_is_not_renewed_lapses() {
    let mut m = machine();
    m.want(A, "p", Knob::Freeze, Some(1));
    m.land_all();
    m.now += 20 * S;
    m.step(Input::Renew { cgroup: A, policy: "p".to_owned(), knob: Knob::Freeze, current: 1 });
    assert_eq!(m.ledger.due(), Some(m.now + CONSTRAINT_TTL_NS));
    m.now += 29 * S;
    m.step(Input::Tick);
    assert!(m.flying.is_empty());
    m.now += S;
    m.step(Input::Tick);
    m.land_all();
    assert_eq!((m.file(A, Knob::Freeze), m.ledger.due()), (0, None));
}

#[test]
fn only_policies_in_force_are_heard() {
    let mut m = machine();
    m.want(A, "stranger", Knob::High, Some(500));
    m.want(CgroupId(2), "p", Knob::High, Some(500));
    assert!(m.flying.is_empty());
    m.want(A, "p", Knob::High, Some(500));
    m.land_all();
    m.bind(A, &["q"]);
    m.land_all();
    assert_eq!(m.file(A, Knob::High), MAX);
    assert_eq!(m.causes.last().unwrap().reason, "the policy is not in force any more");
}

#[test]
fn a_pause_puts_everything_back_and_its_end_brings_it_in_force_again() {
    let mut m = machine();
    m.want(A, "p", Knob::High, Some(500));
    m.step(Input::Pause(true));
    m.land_all();
    assert_eq!((m.file(A, Knob::High), m.records.len()), (MAX, 0));
    m.want(A, "p", Knob::High, Some(400));
    assert!(m.flying.is_empty());
    m.step(Input::Pause(false));
    m.land_all();
    assert_eq!(m.file(A, Knob::High), 400);
}

#[test]
fn what_fails_is_tried_again_ever_less_often() {
    let mut m = machine();
    m.want(A, "p", Knob::High, Some(500));
    let mut tries = 0;
    for _ in 0..600 {
        if !m.flying.is_empty() {
            tries += 1;
            m.land(true);
        }
        m.now += S;
        m.step(Input::Renew { cgroup: A, policy: "p".to_owned(), knob: Knob::High, current: MAX });
    }
    assert!((10..20).contains(&tries), "{tries} tries in ten minutes");
    m.want(A, "p", Knob::High, None);
    m.land_all();
    assert_eq!((m.ledger.due(), m.records.len()), (None, 0));
}

#[test]
fn a_successor_keeps_what_is_in_force_and_puts_back_what_nobody_asks_for_again() {
    let mut m = machine();
    m.foreign(A, Knob::Low, 64);
    m.want(A, "p", Knob::Low, Some(512));
    m.want(A, "q", Knob::High, Some(700));
    m.land_all();
    m.crash(0);
    assert!(m.flying.is_empty(), "nothing changes by a restart");
    m.want(A, "p", Knob::Low, Some(512));
    m.now += CONSTRAINT_TTL_NS;
    m.want(A, "p", Knob::Low, Some(512));
    m.step(Input::Tick);
    m.land_all();
    assert_eq!((m.file(A, Knob::Low), m.file(A, Knob::High)), (512, MAX));
    m.crash(0);
    m.bind(A, &[]);
    m.land_all();
    m.as_found();
}
