//! The OCI runtime for docker, which reads no hook directory: adds the OCI hook to the bundle of a container with
//! annotations of memcg-bpf, and executes runc with the same arguments. Executes runc for all other commands, too.
//!
//! An error keeps a container from starting only if the annotation `memcg.bpf/required` is true.

mod args;
mod bundle;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::fcntl::OFlag;
use serde_json::json;

use crate::log::journal::{Entry, Journal, Priority, SOCKET};
use crate::names::ContainerId;
use crate::text::printable::{QUOTE_MAX, QUOTE_MESSAGE_MAX, quote};
use args::{CommandLine, Creation, Invocation};

/// The runtimes, and the directories in which they are searched.
const RUNTIMES: [&str; 2] = ["runc", "crun"];
const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

const HELP: &str = "\
memcg-bpf-runc: the OCI runtime of memcg-bpf for docker

Adds the OCI hook memcg-bpf-hook to containers with the annotation memcg.bpf/policy and executes runc. In
/etc/docker/daemon.json:
    {\"runtimes\": {\"memcg-bpf\": {\"path\": \"/usr/bin/memcg-bpf-runc\"}}}
Then:
    docker run --runtime memcg-bpf --annotation memcg.bpf/policy=\"deny limit=64M\" …

Options, before all others, as \"runtimeArgs\" in daemon.json. All other arguments are those of runc:
    --memcg-bpf-runtime=PATH    the runtime to execute (runc or crun, searched in /usr/local and /usr)
    --memcg-bpf-hook=PATH       the hook (/usr/libexec/oci/hooks.d/memcg-bpf-hook)
    --memcg-bpf-help            this text
Log: journalctl -t memcg-bpf-runc
";

/// What to do with a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Execute this runtime.
    Execute(PathBuf),
    /// End with an error.
    Fail(String),
}

/// Runs the program: arguments, exit status. Does not return if the runtime is executed.
pub fn main() -> ExitCode {
    let line = match args::parse(std::env::args_os().skip(1)) {
        Invocation::Help => return print(HELP),
        Invocation::Invalid(message) => {
            let _ = writeln!(io::stderr(), "memcg-bpf-runc: {message}; see memcg-bpf-runc --memcg-bpf-help");
            return ExitCode::from(2);
        }
        Invocation::Run(line) => line,
    };
    let creation = line.creation();
    let directories: Vec<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
    let (step, warning) = prepare(&line, creation.as_ref(), &directories);
    if let Some(warning) = warning {
        report(Priority::Warning, &warning, creation.as_ref());
    }
    let message = match step {
        Step::Execute(runtime) => {
            let error = Command::new(&runtime).args(&line.passed).exec();
            format!("Failed to execute {}: {error}", runtime.display())
        }
        Step::Fail(message) => message,
    };
    report(Priority::Error, &message, creation.as_ref());
    ExitCode::FAILURE
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Adds the hook if a container is created. Returns the step, and a warning.
fn prepare(
    line: &CommandLine,
    creation: Option<&Creation>,
    directories: &[PathBuf],
) -> (Step, Option<String>) {
    let runtime = match find_runtime(line.runtime.as_deref(), directories) {
        Ok(runtime) => runtime,
        Err(message) => return (Step::Fail(message), None),
    };
    let Some(creation) = creation else { return (Step::Execute(runtime), None) };
    match bundle::add_hook(&creation.config, &line.hook) {
        Ok(()) => (Step::Execute(runtime), None),
        Err(error) if error.required => {
            let why = format!("{}; it does not start, because memcg.bpf/required is true", error.message);
            (Step::Fail(about(creation, &why)), None)
        }
        Err(error) => {
            let why = format!("{}; it is created without a policy", error.message);
            (Step::Execute(runtime), Some(about(creation, &why)))
        }
    }
}

/// The configured runtime, or the first that is found. This program is never its own runtime.
fn find_runtime(configured: Option<&Path>, directories: &[PathBuf]) -> Result<PathBuf, String> {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
    let is_own = |path: &Path| path.canonicalize().ok() == own;
    if let Some(path) = configured {
        return if is_own(path) {
            Err(format!("invalid runtime '{}': this is memcg-bpf-runc itself", path.display()))
        } else {
            Ok(path.to_owned())
        };
    }
    RUNTIMES
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
        .find(|path| path.is_file() && !is_own(path))
        .ok_or_else(|| {
            "there is neither runc nor crun; install one, or set --memcg-bpf-runtime=PATH".to_owned()
        })
}

/// Prefixes a sentence with the container's id, shortened as engines shorten it.
fn about(creation: &Creation, sentence: &str) -> String {
    match ContainerId::parse(&creation.id) {
        Ok(id) => format!("container {}: {sentence}", id.short()),
        Err(_) => format!("container '{}': {sentence}", quote(&creation.id, QUOTE_MAX)),
    }
}

/// Writes a message to standard error and the journal. An error is also written to the runtime's log, from which
/// containerd reads the error that docker displays.
fn report(priority: Priority, message: &str, creation: Option<&Creation>) {
    let message = quote(message, QUOTE_MESSAGE_MAX);
    if let Ok(journal) = Journal::new(Path::new(SOCKET)) {
        let mut entry = Entry::new(priority, "memcg-bpf-runc");
        entry.field("MESSAGE", &message);
        if let Some(id) = creation.and_then(|creation| ContainerId::parse(&creation.id).ok()) {
            entry.field("CONTAINER_ID_FULL", id.as_str());
        }
        journal.try_send(&entry);
    }
    let message = format!("memcg-bpf-runc: {message}");
    let _ = writeln!(io::stderr(), "{message}");
    if let (Priority::Error, Some(log)) = (priority, creation.and_then(|creation| creation.log.as_ref())) {
        let _ = append_error(&log.path, log.json, &message);
    }
}

/// Appends an error to a log in the form of runc.
fn append_error(path: &Path, json: bool, message: &str) -> io::Result<()> {
    // A FIFO without a reader is an error instead of blocking the container.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut log = OpenOptions::new().append(true).create(true).custom_flags(flags.bits()).open(path)?;
    let line = if json {
        let time = jiff::Timestamp::now().to_string();
        json!({"level": "error", "msg": message, "time": time}).to_string()
    } else {
        message.to_owned()
    };
    log.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests;
