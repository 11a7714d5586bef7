//! The journal: its protocol, the subscriber of log events, and the entries of actions.

pub mod audit;
pub mod journal;
pub mod oom_kill;
pub mod subscriber;
