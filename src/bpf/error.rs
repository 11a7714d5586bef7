//! What can go wrong between us and the kernel's BPF, one sentence each.

use std::path::PathBuf;

use thiserror::Error;

use crate::names::CgroupPath;

/// What can go wrong between us and the kernel's BPF.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum BpfError {
    /// The kernel has no BTF.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF=y ({0})"
    )]
    NoBtf(libbpf_rs::Error),
    /// An object file cannot be read as BPF.
    #[error("{path} is not a BPF object that can be used: {why}")]
    Open { path: PathBuf, why: String },
    /// The kernel refused to load it.
    #[error("the kernel refused {path}: {why}")]
    Load { path: PathBuf, why: String, log: String },
    /// The kernel refused to attach a program.
    #[error("program {program} cannot be attached: {why}")]
    Attach { program: String, why: libbpf_rs::Error },
    /// A map or program that must be in the object is not.
    #[error("{object} lacks {what}: the installed files are of different versions; reinstall memcg-bpf")]
    Missing { object: String, what: String },
    /// A policy that is not loaded.
    #[error("there is no policy object for '{0}'")]
    NoPolicy(String),
    /// bpffs cannot be used.
    #[error("verdicts will pause while memcg-bpfd is down, because nothing can be pinned: {0}")]
    Bpffs(std::io::Error),
    /// A link or map cannot be pinned.
    #[error("verdicts will pause while memcg-bpfd is down, because something cannot be pinned: {0}")]
    Pin(libbpf_rs::Error),
    /// A map operation failed.
    #[error("changing the map {map}: {why}")]
    Map { map: &'static str, why: libbpf_rs::Error },
    /// A program could not be started, or run.
    #[error("running {program}: {why}")]
    Run { program: &'static str, why: std::io::Error },
    /// The path does not fit a registration.
    #[error("'{0}' is longer than 254 bytes, so it cannot be registered ahead; it is bound when it appears")]
    PathTooLong(CgroupPath),
    /// The `command` program refused.
    #[error(
        "the kernel refused to {op} cgroup {id} (error {code}): at most 4096 cgroups can be governed at once"
    )]
    Refused { op: &'static str, id: u64, code: i32 },
}
