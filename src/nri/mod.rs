//! NRI, the Node Resource Interface, through which containerd and CRI-O let a plugin adjust containers: the protocol as
//! bytes and values. Receives bytes, returns bytes and what happened. No I/O, no clock.
//!
//! The plugin reads the annotations of a pod and adds the OCI hook to the containers for which a policy is requested. It
//! decides nothing else: the hook requests the policy when the container starts.
//!
//! By hand, because the crates for ttrpc bring a runtime and a code generator and do not know NRI's multiplexer, and the
//! plugin reads ten messages.

mod adjustment;
mod error;
mod message;
mod mux;
mod protobuf;
mod session;
mod ttrpc;

pub use crate::source::oci_config::HOOK;
pub use error::ProtocolError;
pub use message::Configuration;
pub use session::{ContainerWarnings, Event, LateContainer, Session};

#[cfg(test)]
pub(crate) mod tests;
