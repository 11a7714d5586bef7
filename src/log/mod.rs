//! The journal: its protocol, the subscriber of log events, and the lines of actions. Reads nothing.

pub mod audit;
pub mod journal;
pub mod subscriber;
