//! NRI, the Node Resource Interface, through which containerd and CRI-O let a plugin adjust containers: the protocol as
//! bytes and values. Receives bytes, returns bytes and what happened. No I/O, no clock.
//!
//! The plugin reads the annotations of a pod and adds the OCI hook to the containers for which a policy is requested. It
//! decides nothing else: the hook requests the policy when the container starts.
//!
//! By hand, because the crates for ttrpc bring a runtime and a code generator and do not know NRI's multiplexer, and the
//! plugin reads ten messages.

mod adjustment;
mod message;
mod mux;
mod protobuf;
mod session;
mod ttrpc;

use thiserror::Error;

pub use adjustment::HOOK;
pub use message::Configuration;
pub use session::{Event, LateContainer, Session};

/// Why the connection to a runtime cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// A frame of the multiplexer is too long.
    #[error("the runtime sent a frame of {0} bytes; the limit is {max}", max = ttrpc::MESSAGE_MAX)]
    FrameTooLong(usize),
    /// A message of ttrpc is too long.
    #[error("the runtime sent a message of {0} bytes; the limit is {max}", max = ttrpc::MESSAGE_MAX)]
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

#[cfg(test)]
mod tests;
