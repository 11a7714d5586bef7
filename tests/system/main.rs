//! The whole product in the test machine (`make check`): a real kernel, systemd, podman, crun and runc, the installed
//! package. Each test needs root there; elsewhere all are shown as ignored. One at a time: they share one daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod acting;
mod attach;
mod attacks;
mod authority;
mod cli;
mod cli_watch;
mod container;
mod documentation;
mod exempt;
mod faults;
mod first;
mod full;
mod gap;
mod hooks;
mod neighbours;
mod nesting;
mod observe;
mod oom;
#[path = "../documentation/pages.rs"]
mod pages;
mod policy_author;
mod protect;
mod reclaim;
mod reload;
mod restart;
mod slow;
mod soak;
mod support;
mod throttle;
mod units;
mod wrong;
mod youki;
mod zz_package;
