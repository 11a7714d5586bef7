//! Subcommands that monitor cgroups over time.

pub(in crate::cli) mod events;
pub(in crate::cli) mod history;
pub(in crate::cli) mod metrics;
pub(in crate::cli) mod record;
pub(in crate::cli) mod report;
pub(in crate::cli) mod top;
