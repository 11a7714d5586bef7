//! Denied requests, in the layout of `struct memcg_bpf_denial`.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};

use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use tokio::io::unix::AsyncFd;

use super::actions::{NAME_MAX, long, text};
use super::error::BpfError;
use super::events::async_fd;
use crate::names::CgroupId;
use crate::policy::denial::Denial;

/// Size of a record in bytes.
pub(super) const SIZE: usize = 104;
/// The size of the name of a process.
const COMM_SIZE: usize = 16;
/// The name of the map.
pub(super) const MAP: &str = "memcg_denials";

/// The reading end of the ring buffer.
pub struct Denials {
    ring: RingBuffer<'static>,
    queue: Receiver<Denial>,
}

impl Denials {
    /// Decodes a record; `None` if it is unknown, for instance of another version.
    pub fn decode(bytes: &[u8]) -> Option<Denial> {
        let bytes = bytes.get(..SIZE)?;
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
        };
        Some(Denial {
            cgroup: CgroupId(long(bytes, 0)?),
            time: long(bytes, 8)?,
            requested: long(bytes, 16)?,
            usage: long(bytes, 24)?,
            limit: Some(long(bytes, 32)?).filter(|limit| *limit > 0),
            count: long(bytes, 40)?,
            pid: word(48)?,
            dry_run: match word(52)? {
                0 => false,
                1 => true,
                _ => return None,
            },
            policy: text(bytes, 56, NAME_MAX)?,
            process: text(bytes, 88, COMM_SIZE)?,
        })
    }

    pub(super) fn open(map: &MapHandle) -> Result<Self, BpfError> {
        let fail = |why| BpfError::Map { map: MAP, why };
        let (sender, queue) = channel();
        let mut builder = RingBufferBuilder::new();
        builder
            .add(map, move |bytes| {
                match Denials::decode(bytes) {
                    // The receiver exists as long as the ring.
                    Some(denial) => drop(sender.send(denial)),
                    None => tracing::warn!(length = bytes.len(), "ignoring unknown denial"),
                }
                0
            })
            .map_err(fail)?;
        Ok(Denials { ring: builder.build().map_err(fail)?, queue })
    }

    /// A descriptor that is readable when denials are queued. Must be called inside a tokio runtime.
    pub fn async_fd(&self) -> std::io::Result<AsyncFd<OwnedFd>> {
        async_fd(&self.ring)
    }

    /// Returns all queued denials.
    pub fn drain(&self) -> Vec<Denial> {
        if let Err(error) = self.ring.consume() {
            tracing::warn!(%error, "reading denials from the kernel");
        }
        self.queue.try_iter().collect()
    }
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
        assert_eq!(Denials::decode(&record(64 << 20, 0)), Some(denial.clone()));
        assert_eq!(Denials::decode(&record(0, 1)), Some(Denial { limit: None, dry_run: true, ..denial }));
    }

    #[test]
    fn short_and_unknown_denials_are_nothing() {
        assert_eq!(Denials::decode(&record(1, 2)), None);
        assert_eq!(Denials::decode(record(1, 0).get(..SIZE - 1).unwrap()), None);
    }
}
