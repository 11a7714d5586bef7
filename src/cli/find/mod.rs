//! Finds cgroups, containers, installed policies, and the reasons why a policy is not attached.

pub(in crate::cli) mod candidates;
pub(in crate::cli) mod container;
pub(in crate::cli) mod diagnose;
pub(in crate::cli) mod installed;
mod line_words;
pub(in crate::cli) mod protection;
pub(in crate::cli) mod target;
