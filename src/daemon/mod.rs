//! daemon

pub mod arguments;
pub mod config;
pub mod object;
