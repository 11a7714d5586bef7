//! The whole product in the test machine (`make check`): a real kernel, systemd, podman, crun and runc, the installed
//! package. Each test needs root there; elsewhere all are shown as ignored. One at a time: they share one daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod actions;
mod attach;
mod authorization;
mod bus_flood;
mod cli;
mod cli_watch;
mod container;
mod containerd;
mod daemon_killed;
mod denials;
mod docker;
mod documentation;
mod fault_injection;
mod first_instruction;
mod hooks;
mod invalid_input;
mod limits;
mod nesting;
mod never_denied;
mod noisy_neighbor;
mod observe;
mod oom;
mod oom_in_kernel;
mod package;
#[path = "../documentation/pages.rs"]
mod pages;
mod pods;
mod policy_author;
mod protect;
mod reclaim;
mod reload;
mod restart;
mod run;
mod soak;
mod support;
mod systemd_hangs;
mod throttle;
mod units;
mod unprivileged;
mod why;
mod youki;
