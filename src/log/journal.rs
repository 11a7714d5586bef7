//! Sends entries to systemd's journal, as datagrams of its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//! Neither blocks nor fails if the journal does not run: a journal that hangs must not delay containers or writes.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// The socket of journald.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Longest value in bytes. Two of them fit into a datagram (net.core.wmem_default is 208 KiB).
const VALUE_MAX: usize = 64 << 10;

/// The priority of an entry, numbered as in syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// An operation failed.
    Error = 3,
    /// A request was not fulfilled as specified.
    Warning = 4,
    /// Normal information.
    Notice = 5,
    /// More detailed information.
    Info = 6,
    /// Information for debugging.
    Debug = 7,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// An entry of the program with this identifier.
    pub fn new(priority: Priority, identifier: &str) -> Self {
        let mut entry = Entry(Vec::new());
        entry.field("PRIORITY", &(priority as u8).to_string());
        entry.field("SYSLOG_IDENTIFIER", identifier);
        entry
    }

    /// Adds a field, whose name consists of capital letters, digits and underscores. A long value is truncated.
    pub fn field(&mut self, name: &str, value: &str) {
        let cut = (0..=value.len().min(VALUE_MAX)).rev().find(|at| value.is_char_boundary(*at));
        let value = value.get(..cut.unwrap_or_default()).unwrap_or_default();
        let out = &mut self.0;
        out.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // A line feed in a value without a length would begin another field.
            out.push(b'\n');
            out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
        } else {
            out.push(b'=');
        }
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
}

/// A socket for the journal.
#[derive(Debug)]
pub struct Journal {
    sender: UnixDatagram,
    socket: PathBuf,
}

impl Journal {
    /// Sends to this socket, which may be created later.
    pub fn new(socket: &Path) -> io::Result<Self> {
        let sender = UnixDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        Ok(Journal { sender, socket: socket.to_owned() })
    }

    /// Sends an entry without blocking. Returns false if the entry was lost.
    pub fn try_send(&self, entry: &Entry) -> bool {
        self.sender.send_to(&entry.0, &self.socket).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_journal_is_no_failure() {
        let journal = Journal::new(Path::new("/nonexistent/socket")).unwrap();
        assert!(!journal.try_send(&Entry::new(Priority::Error, "x")));
    }

    #[test]
    fn a_message_with_line_ends_cannot_add_fields() {
        let mut entry = Entry::new(Priority::Warning, "x");
        entry.field("MESSAGE", "a\nPRIORITY=0");
        entry.field("CONTAINER_ID_FULL", "c1");
        assert_eq!(
            entry.0,
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=x\nMESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nCONTAINER_ID_FULL=c1\n"
        );
    }

    #[test]
    fn entry_is_sent_or_lost_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let reader = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::new(&path).unwrap();
        let mut entry = Entry::new(Priority::Debug, "x");
        entry.field("MESSAGE", &"ä".repeat(VALUE_MAX));
        assert!(journal.try_send(&entry));
        let mut buffer = vec![0u8; 2 * VALUE_MAX];
        let size = reader.recv(&mut buffer).unwrap();
        assert!(buffer[..size].starts_with(b"PRIORITY=7\nSYSLOG_IDENTIFIER=x\nMESSAGE=\xc3\xa4"));
        assert!((VALUE_MAX..VALUE_MAX + 100).contains(&size), "{size}");
        let sent = (0..100_000).take_while(|_| journal.try_send(&entry)).count();
        assert!(sent < 100_000, "it would have waited");
    }
}
