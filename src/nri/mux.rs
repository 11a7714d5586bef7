//! The multiplexer of an NRI connection, which carries two logical connections: calls of the runtime to the plugin, and
//! calls of the plugin to the runtime. A frame is the number of a connection and a length, 4 bytes each in network byte
//! order, and that many bytes.

use super::error::{MESSAGE_MAX, ProtocolError};

/// The connection on which the runtime calls the plugin.
pub const PLUGIN: u32 = 1;
/// The connection on which the plugin calls the runtime.
pub const RUNTIME: u32 = 2;

/// Longest payload of a frame: a whole message of ttrpc with its header.
const PAYLOAD_MAX: usize = MESSAGE_MAX.saturating_add(16);
const HEADER: usize = 8;

/// Takes the bytes of the socket apart into frames.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    pending: Vec<u8>,
}

impl Demultiplexer {
    /// Appends what the socket returned.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame: its connection and its payload.
    pub fn next_frame(&mut self) -> Result<Option<(u32, Vec<u8>)>, ProtocolError> {
        let Some((&connection, rest)) = self.pending.split_first_chunk::<4>() else { return Ok(None) };
        let Some((&length, payload)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > PAYLOAD_MAX {
            return Err(ProtocolError::FrameTooLong(length));
        }
        let Some(payload) = payload.get(..length) else { return Ok(None) };
        let frame = (u32::from_be_bytes(connection), payload.to_vec());
        self.pending.drain(..HEADER.saturating_add(length));
        Ok(Some(frame))
    }
}

/// Appends the frames of a message to what is sent.
pub fn write_frames(connection: u32, message: &[u8], out: &mut Vec<u8>) {
    for payload in message.chunks(MESSAGE_MAX) {
        out.extend(connection.to_be_bytes());
        out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = Vec::new();
        write_frames(PLUGIN, b"abc", &mut bytes);
        write_frames(RUNTIME, b"d", &mut bytes);
        assert_eq!(bytes, [0, 0, 0, 1, 0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 2, 0, 0, 0, 1, b'd']);
        let mut demultiplexer = Demultiplexer::default();
        let mut frames = Vec::new();
        for byte in bytes {
            demultiplexer.push(&[byte]);
            frames.extend(demultiplexer.next_frame().unwrap());
        }
        assert_eq!(frames, [(1, b"abc".to_vec()), (2, b"d".to_vec())]);
    }

    #[test]
    fn long_messages_become_several_frames() {
        let mut bytes = Vec::new();
        write_frames(PLUGIN, &vec![0; MESSAGE_MAX + 10], &mut bytes);
        let mut demultiplexer = Demultiplexer::default();
        demultiplexer.push(&bytes);
        let mut length = || demultiplexer.next_frame().unwrap().map(|(_, payload)| payload.len());
        assert_eq!((length(), length(), length()), (Some(MESSAGE_MAX), Some(10), None));
    }

    #[test]
    fn frame_that_is_too_long_is_an_error() {
        let mut demultiplexer = Demultiplexer::default();
        demultiplexer.push(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(demultiplexer.next_frame(), Err(ProtocolError::FrameTooLong(0xffff_ffff)));
    }
}
