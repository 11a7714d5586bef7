//! One journal entry, written as a datagram in the journal's native protocol. A hook must neither wait for the journal
//! nor fail without it, so this does neither.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// How much an entry matters, as syslog counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The container does not start.
    Error = 3,
    /// The container starts without what was asked for.
    Warning = 4,
    /// All went well.
    Debug = 7,
}

/// Sends `message` about a container (if known) to the journal. What cannot be sent at once is lost.
pub fn send(socket: &Path, priority: Priority, message: &str, container: Option<&str>) {
    let Ok(sender) = UnixDatagram::unbound() else { return };
    if sender.set_nonblocking(true).is_err() {
        return;
    }
    let _ = sender.send_to(&datagram(priority, message, container), socket);
}

/// The entry's fields, one `NAME=value` per line. CONTAINER_ID_FULL is what podman and docker use themselves.
fn datagram(priority: Priority, message: &str, container: Option<&str>) -> Vec<u8> {
    let level = (priority as u8).to_string();
    let mut out = Vec::new();
    for (name, value) in [
        ("MESSAGE", Some(message)),
        ("PRIORITY", Some(level.as_str())),
        ("SYSLOG_IDENTIFIER", Some("memcg-bpf-hook")),
        ("CONTAINER_ID_FULL", container),
    ] {
        let Some(value) = value else { continue };
        out.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // A line end in a plain value would begin another field.
            out.push(b'\n');
            out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
        } else {
            out.push(b'=');
        }
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_journal_is_no_failure() {
        send(Path::new("/nonexistent/socket"), Priority::Error, "x", None);
    }

    #[test]
    fn a_message_with_line_ends_cannot_add_fields() {
        let bytes = datagram(Priority::Warning, "a\nPRIORITY=0", Some("c1"));
        assert!(bytes.starts_with(b"MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nPRIORITY=4\n"));
        assert!(bytes.ends_with(b"CONTAINER_ID_FULL=c1\n"));
    }

    #[test]
    fn an_entry_arrives_at_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        send(&path, Priority::Debug, "hello", None);
        let mut buffer = [0u8; 256];
        let size = journal.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], b"MESSAGE=hello\nPRIORITY=7\nSYSLOG_IDENTIFIER=memcg-bpf-hook\n");
    }
}
