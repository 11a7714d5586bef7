//! The command line: the options of this program, which come first, and the command line of the runtime.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::source::oci_config::HOOK;

/// Prefix of the options of this program. All other arguments belong to the runtime.
const OWN: &str = "--memcg-bpf-";

/// Options of runc, crun and youki that take the next argument as their value, without hyphens.
const WITH_VALUE: [&str; 18] = [
    "root",
    "r",
    "log",
    "l",
    "log-format",
    "log-level",
    "criu",
    "rootless",
    "cgroup-manager",
    "bundle",
    "b",
    "config",
    "f",
    "console-socket",
    "pidfd-socket",
    "pid-file",
    "p",
    "preserve-fds",
];

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Invocation {
    Help,
    Run(CommandLine),
    Invalid(String),
}

/// The options of this program, and the arguments of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// The runtime; `None` to search for it.
    pub runtime: Option<PathBuf>,
    /// The hook.
    pub hook: PathBuf,
    /// Passed to the runtime unchanged.
    pub passed: Vec<OsString>,
}

/// The creation of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Creation {
    /// The bundle's configuration.
    pub config: PathBuf,
    /// The container's id, unchecked.
    pub id: String,
    /// The runtime's log, from which containerd reads the error to display.
    pub log: Option<Log>,
}

/// The runtime's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    pub path: PathBuf,
    /// Whether it consists of JSON objects.
    pub json: bool,
}

/// Parses the arguments after the program's name.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Invocation {
    let mut line = CommandLine { runtime: None, hook: PathBuf::from(HOOK), passed: Vec::new() };
    for arg in args {
        let own = arg.to_str().filter(|_| line.passed.is_empty()).and_then(|arg| arg.strip_prefix(OWN));
        match own.map(|own| own.split_once('=').unwrap_or((own, ""))) {
            None => line.passed.push(arg),
            Some(("help", _)) => return Invocation::Help,
            Some((name @ ("runtime" | "hook"), value)) if !value.starts_with('/') => {
                return Invocation::Invalid(format!("{OWN}{name} takes an absolute path: {OWN}{name}=PATH"));
            }
            Some(("runtime", value)) => line.runtime = Some(PathBuf::from(value)),
            Some(("hook", value)) => line.hook = PathBuf::from(value),
            Some(_) => return Invocation::Invalid(format!("unknown option '{}'", arg.to_string_lossy())),
        }
    }
    Invocation::Run(line)
}

impl CommandLine {
    /// The container that the runtime is to create; `None` for all other commands.
    pub fn creation(&self) -> Option<Creation> {
        let (mut bundle, mut config) = (PathBuf::from("."), PathBuf::from("config.json"));
        let (mut log, mut json) = (None, false);
        let (mut command, mut id) = (None, None);
        let mut args = self.passed.iter();
        while let Some(arg) = args.next() {
            let Some((name, value)) = option(arg) else {
                match command {
                    None => command = Some(arg.as_os_str()),
                    Some(_) => id = Some(arg.to_string_lossy().into_owned()),
                }
                continue;
            };
            let value = match value {
                None if WITH_VALUE.iter().any(|known| OsStr::new(known) == name) => {
                    args.next().map(OsString::as_os_str)
                }
                value => value,
            };
            let path = value.map(PathBuf::from);
            match (name.to_str(), command.is_some()) {
                (Some("log" | "l"), false) => log = path,
                (Some("log-format"), false) => json = value == Some(OsStr::new("json")),
                (Some("bundle" | "b"), true) => bundle = path.unwrap_or(bundle),
                (Some("config" | "f"), true) => config = path.unwrap_or(config),
                _ => {}
            }
        }
        let command = command.and_then(OsStr::to_str);
        command.filter(|command| ["create", "run"].contains(command)).map(|_| Creation {
            config: bundle.join(config),
            id: id.unwrap_or_default(),
            log: log.map(|path| Log { path, json }),
        })
    }
}

/// The name of an option, without one or two hyphens, and its value after `=`. `None` for other arguments.
fn option(arg: &OsStr) -> Option<(&OsStr, Option<&OsStr>)> {
    let bytes = arg.as_bytes().strip_prefix(b"-").filter(|rest| !rest.is_empty())?;
    let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let mut parts = bytes.splitn(2, |byte| *byte == b'=').map(OsStr::from_bytes);
    Some((parts.next()?, parts.next()))
}
