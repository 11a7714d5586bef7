//! Actions requested by policies, in the layout of `struct memcg_bpf_action`.

use super::record::{long, text, word};
use super::ring::Ring;
use crate::names::CgroupId;
use crate::policy::action::{Action, ActionKind, Culprit, KillScope, Killed, Knob, VictimOrder};

/// Size of a record in bytes.
pub(super) const SIZE: usize = 208;
/// Size of the record of a performed kill in bytes: `struct memcg_bpf_killed`.
pub(super) const KILLED_SIZE: usize = 488;
/// `MEMCG_BPF_NAME_MAX`.
pub(super) const NAME_MAX: usize = 32;
/// `MEMCG_BPF_REASON_MAX`.
const REASON_MAX: usize = 96;
/// `MEMCG_BPF_UNIT_MAX`.
const UNIT_MAX: usize = 128;
/// `MEMCG_BPF_RELEASE`.
const RELEASE: u64 = u64::MAX;
/// The name of the map of requested actions.
pub(super) const MAP: &str = "memcg_actions";
/// The name of the map of kills that the kernel performed.
pub(super) const KILLS: &str = "memcg_kills";

/// The ring buffers of actions.
pub type Actions = Ring<Action>;

/// Decodes a record; `None` if it is unknown, for instance of another version.
pub fn decode_action(bytes: &[u8]) -> Option<Action> {
    let bytes = bytes.get(..SIZE)?;
    let long = |at: usize| long(bytes, at);
    let word = |at: usize| word(bytes, at);
    let (value, detail) = (long(16)?, word(60)?);
    let want = |knob| ActionKind::SetKnob(knob, (value != RELEASE).then_some(value));
    let kind = match word(56)? {
        1 => want(Knob::High),
        2 => want(Knob::Low),
        3 => ActionKind::Reclaim { bytes: value, swappiness: u8::try_from(detail).ok() },
        4 => ActionKind::Kill {
            grace_ns: value,
            scope: match detail & 0xff {
                0 => KillScope::Process,
                1 => KillScope::Leaf,
                2 => KillScope::Group,
                _ => return None,
            },
            select: match detail >> 8 {
                0 => VictimOrder::Largest,
                1 => VictimOrder::Newest,
                2 => VictimOrder::Pressure,
                3 => VictimOrder::Culprit,
                _ => return None,
            },
        },
        5 => want(Knob::Freeze),
        _ => return None,
    };
    Some(Action {
        cgroup: CgroupId(long(0)?),
        time: long(8)?,
        kind,
        numbers: [long(24)?, long(32)?, long(40)?, long(48)?],
        dry_run: word(64)? != 0,
        policy: text(bytes, 80, NAME_MAX)?,
        reason_template: text(bytes, 112, REASON_MAX)?,
        culprit: match word(68)? {
            0 => None,
            pid => Some(Culprit { pid, started: long(72)?, killed: None }),
        },
    })
}

/// Decodes the record of a kill that the kernel performed; `None` if it is unknown.
pub fn decode_killed(bytes: &[u8]) -> Option<Action> {
    let bytes = bytes.get(..KILLED_SIZE)?;
    let mut action = decode_action(bytes)?;
    action.culprit.as_mut()?.killed = Some(Killed {
        usage: long(bytes, 208)?,
        name: text(bytes, 216, 16)?,
        unit: text(bytes, 232, UNIT_MAX)?,
        inner: text(bytes, 360, UNIT_MAX)?,
    });
    Some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(verb: u32, value: u64, detail: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for long in [77, 5, value, 1, 2, 3, 4] {
            bytes.extend(u64::to_ne_bytes(long));
        }
        for word in [verb, detail, 1, 4711] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(u64::to_ne_bytes(8));
        bytes.extend(b"oom");
        bytes.resize(112, 0);
        bytes.extend(b"stalled {ns}");
        bytes.resize(SIZE, 0);
        bytes
    }

    #[test]
    fn a_record_is_read_back() {
        let kill = ActionKind::Kill { grace_ns: 9, scope: KillScope::Leaf, select: VictimOrder::Pressure };
        assert_eq!(
            decode_action(&record(4, 9, 1 | 2 << 8)),
            Some(Action {
                cgroup: CgroupId(77),
                time: 5,
                kind: kill,
                numbers: [1, 2, 3, 4],
                dry_run: true,
                policy: "oom".to_owned(),
                reason_template: "stalled {ns}".to_owned(),
                culprit: Some(Culprit { pid: 4711, started: 8, killed: None }),
            })
        );
        let verb = |bytes: &[u8]| decode_action(bytes).map(|action| action.kind);
        assert_eq!(verb(&record(1, 4096, 0)), Some(ActionKind::SetKnob(Knob::High, Some(4096))));
        assert_eq!(verb(&record(2, RELEASE, 0)), Some(ActionKind::SetKnob(Knob::Low, None)));
        assert_eq!(verb(&record(5, 1, 0)), Some(ActionKind::SetKnob(Knob::Freeze, Some(1))));
        let reclaim = |swappiness| Some(ActionKind::Reclaim { bytes: 1, swappiness });
        assert_eq!(verb(&record(3, 1, u32::MAX)), reclaim(None));
        assert_eq!(verb(&record(3, 1, 60)), reclaim(Some(60)));
    }

    #[test]
    fn performed_kill_is_read_back() {
        let mut bytes = record(4, 0, 3 << 8);
        bytes.extend(u64::to_ne_bytes(64 << 20));
        for (name, end) in [("eat", 232), ("web.service", 360), ("worker", KILLED_SIZE)] {
            bytes.extend(name.as_bytes());
            bytes.resize(end, 0);
        }
        let action = decode_killed(&bytes).unwrap();
        let owned = str::to_owned;
        let killed = Killed {
            usage: 64 << 20,
            name: owned("eat"),
            unit: owned("web.service"),
            inner: owned("worker"),
        };
        assert_eq!(action.culprit, Some(Culprit { pid: 4711, started: 8, killed: Some(killed) }));
        assert_eq!(decode_killed(&record(4, 0, 3 << 8)), None);
    }

    #[test]
    fn short_and_unknown_records_are_nothing() {
        assert_eq!(decode_action(&record(9, 0, 0)), None);
        assert_eq!(decode_action(&record(4, 0, 3)), None);
        assert_eq!(decode_action(&record(4, 0, 4 << 8)), None);
        assert_eq!(decode_action(record(1, 0, 0).get(..200).unwrap()), None);
        assert_eq!(decode_action(&[]), None);
    }
}
