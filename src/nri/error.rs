//! Errors of the protocol.

use thiserror::Error;

/// Longest message of ttrpc in bytes, as in containerd.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// Why the connection to a runtime cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// A frame of the multiplexer is too long.
    #[error("the runtime sent a frame of {0} bytes; the limit is {max}", max = MESSAGE_MAX)]
    FrameTooLong(usize),
    /// A message of ttrpc is too long.
    #[error("the runtime sent a message of {0} bytes; the limit is {max}", max = MESSAGE_MAX)]
    MessageTooLong(usize),
    /// A message ends within a field.
    #[error("the runtime sent an incomplete message")]
    Truncated,
    /// A number has more than 64 bits.
    #[error("the runtime sent a message with an invalid number")]
    Varint,
    /// A field has a type that protocol buffers do not have, or no longer.
    #[error("the runtime sent a message with a field of the unknown wire type {0}")]
    WireType(u64),
    /// A string is not UTF-8.
    #[error("the runtime sent a message with text that is not UTF-8")]
    Text,
}
