//! Subcommands that change state.

pub(in crate::cli) mod attach;
pub(in crate::cli) mod detach;
pub(in crate::cli) mod pause;
pub(in crate::cli) mod reload;
