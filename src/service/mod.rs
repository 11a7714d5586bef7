//! The D-Bus service `org.memcg.Bpf1`: checks arguments and authorization, and turns each method call into a
//! [`call::Command`]. Performs no command.

pub mod api;
pub mod args;
pub mod authorize;
pub mod call;
pub mod error;
