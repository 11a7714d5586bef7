//! Programmable memory policy for every container and every systemd unit.
//!
//! The modules by floor, from the lowest up. A file imports only lower floors (`tests/floors/` fails otherwise).
//!
//! | floor | room | knows |
//! |---|---|---|
//! | 0 | [`text`] [`names`] | sizes, percentages, durations; cgroup paths, unit names, container ids. No I/O |
//! | 0 | [`files`] | regular files, read up to a limit |
//! | 1 | [`policy`] | the policy line, the schema, parameters to bytes and back, profiles, layering. No I/O |
//! | 2 | [`source`] | OCI state and annotations, unit files, records on cgroups → requests with origins. Text in, values out |
//! | 3 | [`nri`] | the protocol of containerd's and CRI-O's plugins: bytes in, bytes and events out. No I/O |
//! | 3 | [`bus`] | the daemon's names on D-Bus, and what an error of a call means. No I/O |
//! | 3 | [`engine`] [`ledger`] [`report`] | bindings as `step(input) → effects`; changed knobs and how they are restored; what is reported. No I/O, no clock |
//! | 4 | [`cgroup`] [`bpf`] [`systemd`] [`log`] | the only rooms that touch cgroupfs, libbpf, systemd's D-Bus and its journal |
//! | 5 | [`actuator`] [`service`] | requested actions → admission → writes; the D-Bus service: arguments, authorization, calls |
//! | 6 | [`daemon`] [`hook`] [`cli`] [`nri_plugin`] [`oci_runtime`] | loops and commands |
//! | 7 | `bin/` | the five binaries |

pub mod actuator;
pub mod bpf;
pub mod bus;
pub mod cgroup;
pub mod cli;
pub mod daemon;
pub mod engine;
pub mod files;
pub mod hook;
pub mod ledger;
pub mod log;
pub mod names;
pub mod nri;
pub mod nri_plugin;
pub mod oci_runtime;
pub mod policy;
pub mod report;
pub mod service;
pub mod source;
pub mod systemd;
pub mod text;
