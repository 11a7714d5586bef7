//! The only room that touches libbpf: policy objects and their schemas (and, beside them, profiles), maps, links,
//! events, and what this kernel offers. Knows nothing of cgroup files, systemd or why something is to be bound.

mod actions;
mod ahead;
mod attach;
pub mod catalog;
mod core;
mod error;
mod events;
mod force;
mod growth;
pub mod kernel;
mod links;
mod log;
pub mod pins;
mod policy;
pub mod profiles;
mod schema;
mod shared;
#[cfg(test)]
mod tests;
mod visit;

pub use actions::Actions;
pub use ahead::{Loaded, Loader, Loading};
pub use core::Kernel;
pub use error::BpfError;
pub use events::Event;
pub use shared::{MAX_LEVEL, PATH_MAX};
