//! Events of core's programs: cgroups that were created or removed, in the layout of `struct memcg_bpf_event`.

use std::path::Path;

use libbpf_rs::Btf;
use libbpf_rs::btf::types::Struct;

use super::abi::PATH_MAX;
use super::error::BpfError;
use super::record::{long, text, word};
use super::ring::Ring;
use crate::names::CgroupId;

/// The name of the map.
pub(super) const MAP: &str = "memcg_events";

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A cgroup was created.
    Created {
        /// Its id.
        cgroup: CgroupId,
        /// Its path, truncated to 255 bytes.
        path: String,
        /// True if a registered binding is attached already.
        bound: bool,
    },
    /// A cgroup with a policy was removed.
    Removed {
        /// Its id.
        cgroup: CgroupId,
    },
}

impl Event {
    /// Decodes a record; `None` if it is unknown, for instance of another version.
    pub fn decode(bytes: &[u8]) -> Option<Event> {
        let cgroup = CgroupId(long(bytes, 8)?);
        let path = text(bytes, 16, PATH_MAX)?;
        match word(bytes, 0)? {
            1 => Some(Event::Created { cgroup, path, bound: word(bytes, 4)? != 0 }),
            2 => Some(Event::Removed { cgroup }),
            _ => None,
        }
    }
}

/// The ring buffer of events.
pub type Events = Ring<Event>;

/// The members of `struct memcg_bpf_counters`, in order: all are 64-bit numbers.
pub(super) fn counter_names(core: &Path) -> Result<Vec<String>, BpfError> {
    let missing =
        || BpfError::Missing { object: "core.bpf.o".into(), what: "struct memcg_bpf_counters".into() };
    let btf = Btf::from_path(core).map_err(|_| missing())?;
    let counters = btf.type_by_name::<Struct<'_>>("memcg_bpf_counters").ok_or_else(missing)?;
    Ok(counters
        .iter()
        .map(|m| m.name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, bound: u32, cgroup: u64, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(bound.to_ne_bytes());
        bytes.extend(cgroup.to_ne_bytes());
        bytes.extend(path.as_bytes());
        bytes.resize(16 + PATH_MAX, 0);
        bytes
    }

    #[test]
    fn a_created_record_is_read_back() {
        let event = Event::decode(&record(1, 1, 77, "/system.slice/x.service"));
        let path = "/system.slice/x.service".to_owned();
        assert_eq!(event, Some(Event::Created { cgroup: CgroupId(77), path, bound: true }));
    }

    #[test]
    fn short_and_unknown_records_are_nothing() {
        assert_eq!(Event::decode(&record(9, 0, 1, "/x")), None);
        assert_eq!(Event::decode(&record(1, 0, 1, "/x")[..100]), None);
        assert_eq!(Event::decode(&[]), None);
    }
}
