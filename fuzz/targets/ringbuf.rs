//! Records from the kernel's ring buffers. Those about actions are filled in by policies, which anybody with root may have
//! written.

use memcg_bpf::bpf::{Event, PATH_MAX, decode_action, decode_killed};
use memcg_bpf::ledger::admission::{Admission, Decision, Facts, Limits, MAX_GRACE_NS, MIN_MEMORY_HIGH};
use memcg_bpf::names::CgroupPath;
use memcg_bpf::policy::action::{ActionKind, Knob, MAX};

use super::sentence;

/// A replacement character has three bytes where one was no UTF-8.
const WIDEST: usize = 3;

pub fn run(bytes: &[u8]) {
    let event = Event::decode(bytes);
    assert_eq!(event, Event::decode(bytes));
    if let Some(Event::Created { path, .. }) = event {
        assert!(path.len() <= PATH_MAX * WIDEST && !path.contains('\0'));
        if let Ok(path) = CgroupPath::parse(&path) {
            sentence(&path.to_string(), PATH_MAX * 16);
        }
    }
    if let Some(kill) = decode_killed(bytes)
        && let Some((_, killed)) = kill.performed()
    {
        assert!(
            killed.name.len() <= 16 * WIDEST && killed.unit.len().max(killed.inner.len()) <= 128 * WIDEST
        );
    }
    let Some(action) = decode_action(bytes) else { return };
    assert!(action.policy.len() <= 32 * WIDEST && action.reason_template.len() <= 128 * WIDEST);
    // At most four numbers of some twenty characters take the places of theirs.
    let reason = action.reason();
    assert!(reason.len() <= action.reason_template.len() + 4 * 64, "{reason:?}");
    let path = CgroupPath::parse("/a.slice/b.service").unwrap();
    let facts = Facts { usage: 1 << 30, min: 0, effective_max: 2 << 30, page: 4096, ..Facts::default() };
    let mut guards = Admission::new(Limits::default());
    match guards.admit(action.time, &path, &action, &facts) {
        Decision::Block(why) => sentence(&why, 1024),
        Decision::Allow(ActionKind::SetKnob(Knob::High, Some(value))) => {
            assert!(value == MAX || value >= MIN_MEMORY_HIGH)
        }
        Decision::Allow(ActionKind::SetKnob(Knob::Freeze, Some(value))) => assert!(value <= 1),
        Decision::Allow(ActionKind::Reclaim { bytes, swappiness }) => {
            assert!(bytes <= facts.usage && swappiness.is_none_or(|most| most <= 200));
        }
        Decision::Allow(ActionKind::Kill { grace_ns, .. }) => assert!(grace_ns <= MAX_GRACE_NS),
        Decision::Allow(ActionKind::SetKnob(..)) => {}
    }
}
