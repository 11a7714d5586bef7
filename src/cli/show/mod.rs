//! Subcommands that display state.

pub(in crate::cli) mod explain;
mod kills;
pub(in crate::cli) mod policies;
pub(in crate::cli) mod profiles;
pub(in crate::cli) mod status;
pub(in crate::cli) mod why;
pub(in crate::cli) mod without_policy;
