//! daemon

pub mod config;
pub mod object;
