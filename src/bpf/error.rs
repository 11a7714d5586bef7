//! Errors of loading, attaching and using BPF objects, one sentence each.

use std::path::{Path, PathBuf};

use libbpf_rs::ErrorKind;
use thiserror::Error;

use crate::names::CgroupPath;
use crate::text::printable::{QUOTE_MESSAGE_MAX, quote};

/// An error of loading, attaching or using BPF objects.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum BpfError {
    /// The kernel has no BTF.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF=y ({0:#})"
    )]
    NoBtf(libbpf_rs::Error),
    /// An object file cannot be read as BPF.
    #[error("{path} is not a BPF object that can be used: {why}")]
    Open { path: PathBuf, why: String },
    /// The kernel rejected an object.
    #[error("the kernel rejected {path}: {why}")]
    Load { path: PathBuf, why: String, log: String },
    /// Loading failed for lack of memory or because of a signal; a later attempt may succeed.
    #[error("{what} cannot be loaded at the moment: {why}")]
    Transient { what: PathBuf, why: String },
    /// The object file was replaced after its schema was read.
    #[error("{path} has changed since memcg-bpfd read it: run 'systemctl reload memcg-bpfd'")]
    Changed { path: PathBuf },
    /// A program cannot be attached.
    #[error("program {program} cannot be attached: {why:#}")]
    Attach { program: String, why: libbpf_rs::Error },
    /// The object lacks a map or program.
    #[error("{object} lacks {what}: the installed files are of different versions; reinstall memcg-bpf")]
    Missing { object: String, what: String },
    /// The policy is not loaded.
    #[error("there is no policy object for '{0}'")]
    NoPolicy(String),
    /// bpffs cannot be used.
    #[error("failed to pin BPF objects, so policies are inactive while memcg-bpfd is not running: {0}")]
    NoBpffs(std::io::Error),
    /// A link or map cannot be pinned.
    #[error(
        "failed to pin a BPF object, so its policies are inactive while memcg-bpfd is not running: {0:#}"
    )]
    Pin(libbpf_rs::Error),
    /// A map operation failed.
    #[error("changing the map {map}: {why:#}")]
    Map { map: &'static str, why: libbpf_rs::Error },
    /// A program could not be run.
    #[error("running {program}: {why}")]
    Run { program: &'static str, why: std::io::Error },
    /// The map of registrations is full.
    #[error(
        "failed to register {0}: at most 4096 cgroups can be registered; its policy is attached after the cgroup is created"
    )]
    Registrations(CgroupPath),
    /// The path is too long for a registration.
    #[error(
        "failed to register '{0}': the path is longer than 254 bytes; its policy is attached after the cgroup is created"
    )]
    PathTooLong(CgroupPath),
    /// The `command` program returned an error.
    #[error("failed to {op} cgroup {id} (error {code}): at most 4096 cgroups can have policies at once")]
    CommandFailed { op: &'static str, id: u64, code: i32 },
}

impl BpfError {
    /// The kernel did not load an object. `hint` is added unless the error is transient.
    pub fn load(path: &Path, error: &libbpf_rs::Error, hint: &str, log: String) -> Self {
        let why = format!("{error:#}");
        BpfError::transient(path, error).unwrap_or_else(|| BpfError::Load {
            path: path.to_owned(),
            why: why + hint,
            log,
        })
    }

    /// The kernel's BTF could not be read.
    pub fn btf(error: libbpf_rs::Error) -> Self {
        let vmlinux = Path::new("/sys/kernel/btf/vmlinux");
        BpfError::transient(vmlinux, &error).unwrap_or(BpfError::NoBtf(error))
    }

    /// True for lack of memory and interrupted calls, which do not depend on the object.
    pub fn transient(what: &Path, error: &libbpf_rs::Error) -> Option<Self> {
        matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::WouldBlock | ErrorKind::Interrupted)
            .then(|| BpfError::Transient { what: what.to_owned(), why: format!("{error:#}") })
    }

    /// An object that cannot be used. `why` may quote libbpf and the object, and is escaped to one line.
    pub fn open(path: &Path, why: &str) -> Self {
        let lines: Vec<&str> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        BpfError::Open { path: path.to_owned(), why: quote(&lines.join("; "), QUOTE_MESSAGE_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_memory_is_transient() {
        let load = |errno| {
            let error = libbpf_rs::Error::from_raw_os_error(errno);
            BpfError::load(Path::new("/x"), &error, "; a hint", String::new())
        };
        for errno in [nix::libc::ENOMEM, nix::libc::EAGAIN, nix::libc::EINTR] {
            assert!(matches!(load(errno), BpfError::Transient { .. }), "{errno}");
        }
        for errno in [nix::libc::EACCES, nix::libc::EPERM, nix::libc::EINVAL, nix::libc::E2BIG] {
            assert!(load(errno).to_string().ends_with("; a hint"), "{errno}");
        }
    }

    #[test]
    fn text_of_object_is_escaped_to_one_line() {
        let error = BpfError::open(Path::new("/x.bpf.o"), "no such type\u{1b}[2J\n libbpf: a\n\nlibbpf: b\n");
        assert_eq!(
            error.to_string(),
            "/x.bpf.o is not a BPF object that can be used: no such type\\u{1b}[2J; libbpf: a; libbpf: b"
        );
        assert!(BpfError::open(Path::new("/x"), &"x".repeat(1 << 20)).to_string().len() < 2100);
    }
}
