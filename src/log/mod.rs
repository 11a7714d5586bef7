//! The journal: its protocol, the subscriber of log events, and the entries of actions.

pub mod audit;
pub mod denials;
pub mod journal;
pub mod line_limit;
pub mod oom_kill;
pub mod subscriber;
