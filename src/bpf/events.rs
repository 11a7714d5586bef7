//! Events of core's programs: cgroups that were created or removed, in the layout of `struct memcg_bpf_event`.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use libbpf_rs::btf::types::Struct;
use libbpf_rs::{Btf, MapHandle, RingBuffer, RingBufferBuilder};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::abi::PATH_MAX;
use super::error::BpfError;
use crate::names::CgroupId;

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
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
        };
        let cgroup = CgroupId(u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?));
        let text = bytes.get(16..16usize.checked_add(PATH_MAX)?)?;
        let path = text.split(|b| *b == 0).next().unwrap_or_default();
        match word(0)? {
            1 => Some(Event::Created {
                cgroup,
                path: String::from_utf8_lossy(path).into_owned(),
                bound: word(4)? != 0,
            }),
            2 => Some(Event::Removed { cgroup }),
            _ => None,
        }
    }
}

/// The ring buffer's reading end.
pub struct Events {
    ring: RingBuffer<'static>,
    queue: Receiver<Event>,
}

impl Events {
    pub(super) fn open(map: &MapHandle) -> Result<Self, BpfError> {
        let fail = |why| BpfError::Map { map: "memcg_events", why };
        let (sender, queue) = channel();
        let mut builder = RingBufferBuilder::new();
        builder
            .add(map, move |bytes| {
                match Event::decode(bytes) {
                    // The receiver exists as long as the ring.
                    Some(event) => drop(sender.send(event)),
                    None => tracing::warn!(length = bytes.len(), "unknown record from the kernel, ignoring"),
                }
                0
            })
            .map_err(fail)?;
        Ok(Events { ring: builder.build().map_err(fail)?, queue })
    }

    /// A descriptor that is readable when events are queued. Must be called inside a tokio runtime.
    pub fn async_fd(&self) -> std::io::Result<AsyncFd<OwnedFd>> {
        async_fd(&self.ring)
    }

    /// Returns all queued events.
    pub fn drain(&self) -> Vec<Event> {
        if let Err(error) = self.ring.consume() {
            tracing::warn!(%error, "reading events from the kernel");
        }
        self.queue.try_iter().collect()
    }
}

/// The descriptor of a ring buffer, for polling.
pub(super) fn async_fd(ring: &RingBuffer<'_>) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: libbpf keeps this descriptor open as long as the ring lives, which is longer than this call.
    let own = unsafe { BorrowedFd::borrow_raw(ring.epoll_fd()) }.try_clone_to_owned()?;
    // SAFETY: an OwnedFd is open, always the same, and closed only when the AsyncFd drops it.
    unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }.map_err(Into::into)
}

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
