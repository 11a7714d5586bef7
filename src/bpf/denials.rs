//! Denied requests, in the layout of `struct memcg_bpf_denial`.

use super::actions::NAME_MAX;
use super::record::{long, text, word};
use super::ring::Ring;
use crate::names::CgroupId;
use crate::policy::denial::Denial;

/// Size of a record in bytes.
pub(super) const SIZE: usize = 104;
/// The size of the name of a process.
const COMM_SIZE: usize = 16;
/// The name of the map.
pub(super) const MAP: &str = "memcg_denials";

/// The ring buffer of denials.
pub type Denials = Ring<Denial>;

/// Decodes a record; `None` if it is unknown, for instance of another version.
pub(super) fn decode_denial(bytes: &[u8]) -> Option<Denial> {
    let bytes = bytes.get(..SIZE)?;
    Some(Denial {
        cgroup: CgroupId(long(bytes, 0)?),
        time: long(bytes, 8)?,
        requested: long(bytes, 16)?,
        usage: long(bytes, 24)?,
        limit: Some(long(bytes, 32)?).filter(|limit| *limit > 0),
        count: long(bytes, 40)?,
        pid: word(bytes, 48)?,
        dry_run: match word(bytes, 52)? {
            0 => false,
            1 => true,
            _ => return None,
        },
        policy: text(bytes, 56, NAME_MAX)?,
        process: text(bytes, 88, COMM_SIZE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(limit: u64, mode: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for long in [77, 5, 32 << 20, 60 << 20, limit, 3] {
            bytes.extend(u64::to_ne_bytes(long));
        }
        for word in [4711, mode] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(b"deny");
        bytes.resize(88, 0);
        bytes.extend(b"java");
        bytes.resize(SIZE, 0);
        bytes
    }

    #[test]
    fn a_denial_is_read_back() {
        let denial = Denial {
            cgroup: CgroupId(77),
            time: 5,
            requested: 32 << 20,
            usage: 60 << 20,
            limit: Some(64 << 20),
            count: 3,
            pid: 4711,
            dry_run: false,
            policy: "deny".to_owned(),
            process: "java".to_owned(),
        };
        assert_eq!(decode_denial(&record(64 << 20, 0)), Some(denial.clone()));
        assert_eq!(decode_denial(&record(0, 1)), Some(Denial { limit: None, dry_run: true, ..denial }));
    }

    #[test]
    fn short_and_unknown_denials_are_nothing() {
        assert_eq!(decode_denial(&record(1, 2)), None);
        assert_eq!(decode_denial(record(1, 0).get(..SIZE - 1).unwrap()), None);
    }
}
