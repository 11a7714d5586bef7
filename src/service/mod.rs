//! The D-Bus service `org.memcg.Bpf1`: checks arguments and authorization, and turns each method call into a
//! [`call::Command`]. Performs no command.

mod admission;
pub mod api;
pub mod args;
pub mod authorize;
pub mod call;
mod callers;
pub mod error;
mod frame;
mod quota;
pub mod server;
mod socket;
