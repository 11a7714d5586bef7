//! Subcommands that change state.

pub(in crate::cli) mod attach;
pub(in crate::cli) mod detach;
pub(in crate::cli) mod dry_run;
pub(in crate::cli) mod pause;
mod preview;
pub(in crate::cli) mod reload;
pub(in crate::cli) mod run;
