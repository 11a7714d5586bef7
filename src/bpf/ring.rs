//! The reading end of ring buffers that BPF programs write.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};

use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::BpfError;

/// Decodes a record; `None` if it is unknown, for instance of another version.
pub(super) type Decoder<T> = fn(&[u8]) -> Option<T>;

/// One or several ring buffers with records of one type.
pub struct Ring<T> {
    name: &'static str,
    ring: RingBuffer<'static>,
    queue: Receiver<T>,
}

impl<T: 'static> Ring<T> {
    /// Opens the ring buffers in these maps. `name` is that of the first map, for messages.
    pub(super) fn open(name: &'static str, maps: &[(&MapHandle, Decoder<T>)]) -> Result<Self, BpfError> {
        let fail = |why| BpfError::Map { map: name, why };
        let (sender, queue) = channel();
        let mut builder = RingBufferBuilder::new();
        for (map, decode) in maps {
            let (sender, decode) = (sender.clone(), *decode);
            builder
                .add(*map, move |bytes| {
                    match decode(bytes) {
                        // The receiver exists as long as the ring.
                        Some(record) => drop(sender.send(record)),
                        None => tracing::warn!(length = bytes.len(), "ignoring an unknown record in {name}"),
                    }
                    0
                })
                .map_err(fail)?;
        }
        Ok(Ring { name, ring: builder.build().map_err(fail)?, queue })
    }

    /// The records in the ring buffer of an earlier daemon that nobody has read.
    pub(super) fn read_previous(name: &'static str, map: &MapHandle, decode: Decoder<T>) -> Vec<T> {
        match Self::open(name, &[(map, decode)]) {
            Ok(ring) => ring.drain(),
            Err(error) => {
                tracing::warn!(%error, "reading what an earlier daemon has not read");
                Vec::new()
            }
        }
    }

    /// A descriptor that is readable when records are queued. Must be called inside a tokio runtime.
    pub fn async_fd(&self) -> std::io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: libbpf keeps this descriptor open as long as the ring lives, which is longer than this call.
        let own = unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }.try_clone_to_owned()?;
        // SAFETY: an OwnedFd is open, always the same, and closed only when the AsyncFd drops it.
        unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }.map_err(Into::into)
    }

    /// Returns all queued records.
    pub fn drain(&self) -> Vec<T> {
        if let Err(error) = self.ring.consume() {
            tracing::warn!(%error, "reading {} from the kernel", self.name);
        }
        self.queue.try_iter().collect()
    }
}
