//! The OCI hook: called by a container runtime at `createRuntime` (or `prestart`) and `poststop` with the container's
//! state on standard input. It asks the daemon to put the container's policy into force and returns when it is, before
//! the container's first instruction. Knows no policy; loads nothing.
//!
//! A hook that fails stops the container, so it fails only where the annotation `memcg.bpf/required` says so.

pub mod call;
#[cfg(test)]
mod fake_daemon;
mod start;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use crate::log::journal::{Entry, Journal, Priority, SOCKET};
use crate::names::CgroupPath;
use crate::source::oci_state::{ContainerRequest, ContainerState, STATE_MAX, Status};
use crate::source::shown;

use call::CallError;

/// The most time for the runtime to write the state; it is in the pipe before the hook runs, or soon after.
pub const STATE_DEADLINE: Duration = Duration::from_secs(2);

/// Why a container does not start whose policy cannot be told from that of its neighbours.
const UNIDENTIFIED: &str = "the engine does not say which container of a pod this is, so a memcg.bpf/policy.CONTAINER \
    may be meant for it (memcg.bpf/policy needs no name); it does not start, because memcg.bpf/required is true";

const HELP: &str = "\
memcg-bpf-hook: the OCI hook of memcg-bpf

A container runtime runs it with the container's state (JSON) on standard input:
    memcg-bpf-hook [prestart | createRuntime | poststop]
Without an argument the stage follows from the state. For podman and CRI-O install
90-memcg-bpf.json in /usr/share/containers/oci/hooks.d. It looks at the annotations
    memcg.bpf/policy              the policy line, as in \"deny limit=64M\"
    memcg.bpf/policy.CONTAINER    the same for one container of a pod
    memcg.bpf/required            \"true\": the container does not start without it
By hand:
    echo '{\"ociVersion\":\"1.0\",\"id\":\"x\",\"pid\":1,\"status\":\"created\"}' | memcg-bpf-hook
What it did: journalctl -t memcg-bpf-hook

Options:
    --help       this text
    --version    the version
";

/// What a runtime wants of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    End,
}

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Invocation {
    Help,
    Version,
    Run { stage: Option<Stage>, unknown: Option<String> },
}

/// Records on cgroups, apart so that tests need no cgroups.
pub(crate) trait Records {
    fn read(&self, cgroup: &CgroupPath) -> io::Result<Option<Vec<u8>>>;
    fn write(&self, cgroup: &CgroupPath, record: &[u8]) -> io::Result<()>;
    /// What the owner of a cgroup may write there without being root.
    fn write_wish(&self, cgroup: &CgroupPath, line: &str) -> io::Result<()>;
}

/// What the hook finds around it.
pub(crate) struct Surroundings {
    /// The system bus.
    pub bus: String,
    /// How long a call may take.
    pub deadline: Duration,
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Records on cgroups.
    pub records: Box<dyn Records>,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// True when the container must not start.
    pub fail: bool,
    /// For standard error and the journal: sentences without line ends.
    pub notes: Vec<String>,
    /// For the journal alone.
    pub debug: Vec<String>,
    /// Whom it is about.
    pub container: Option<String>,
}

/// The whole program: arguments, standard input, exit code.
pub fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (stage, unknown) = match invocation(&args) {
        Invocation::Help => return print(HELP),
        Invocation::Version => return print(concat!("memcg-bpf-hook ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::Run { stage, unknown } => (stage, unknown),
    };
    let surroundings = Surroundings {
        bus: crate::bus::SYSTEM_BUS.to_owned(),
        deadline: call::DEADLINE,
        proc: PathBuf::from("/proc"),
        records: Box::new(start::CgroupRecords),
    };
    let mut outcome = match read_state(io::stdin(), STATE_DEADLINE) {
        Ok(state) => run(&state, stage, &surroundings),
        Err(why) => without_state(&why),
    };
    if let Some(word) = unknown {
        outcome.notes.push(format!(
            "ignoring argument '{}'; the stages are prestart, createRuntime and poststop",
            shown(&word)
        ));
    }
    tell(&outcome);
    if outcome.fail { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn invocation(args: &[String]) -> Invocation {
    let mut stage = None;
    let mut unknown = None;
    for arg in args {
        match arg.as_str() {
            "--help" | "-h" => return Invocation::Help,
            "--version" | "-V" => return Invocation::Version,
            "prestart" | "createRuntime" => stage = Some(Stage::Start),
            "poststop" => stage = Some(Stage::End),
            _ => unknown = Some(arg.clone()),
        }
    }
    Invocation::Run { stage, unknown }
}

/// Reads all of the state. A runtime that keeps the pipe open without writing must not hang the container for ever.
fn read_state(input: impl Read + Send + 'static, deadline: Duration) -> Result<Vec<u8>, String> {
    let (sender, receiver) = mpsc::channel();
    // The thread may outlive the wait; the process ends soon after.
    std::thread::spawn(move || {
        let mut state = Vec::new();
        let one_more = u64::try_from(STATE_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let _ = sender.send(input.take(one_more).read_to_end(&mut state).map(|_| state));
    });
    match receiver.recv_timeout(deadline) {
        Ok(Ok(state)) => Ok(state),
        Ok(Err(error)) => Err(format!("reading the container state: {error}")),
        Err(_) => Err(format!(
            "the runtime did not write the container state to standard input within {deadline:?}"
        )),
    }
}

/// Without the state there is no annotation that could forbid the start.
fn without_state(why: &str) -> Outcome {
    Outcome { notes: vec![format!("{why}; the container goes on without a policy")], ..Outcome::default() }
}

fn run(state: &[u8], stage: Option<Stage>, surroundings: &Surroundings) -> Outcome {
    let state = match ContainerState::parse(state) {
        Ok(state) => state,
        Err(error) => return without_state(&error.to_string()),
    };
    let request = state.policy_request();
    let stage = stage.unwrap_or(match request.status {
        Status::Creating | Status::Created | Status::Running => Stage::Start,
        Status::Stopped => Stage::End,
    });
    let Some(line) = request.line.as_deref() else { return without_line(&request, stage) };
    let mut outcome = match stage {
        Stage::Start => start::start(&request, line, surroundings),
        Stage::End => end(request.id.as_str(), surroundings),
    };
    if stage == Stage::Start {
        outcome.notes.splice(0..0, request.warnings.iter().map(|what| about(request.id.as_str(), what)));
    }
    outcome.container = Some(request.id.as_str().to_owned());
    outcome
}

/// No policy is asked for; but what is odd is told, and a policy that may be meant for this container and is required
/// keeps it from starting.
fn without_line(request: &ContainerRequest, stage: Stage) -> Outcome {
    if stage != Stage::Start || request.warnings.is_empty() {
        return Outcome::default();
    }
    let id = request.id.as_str();
    let odd = request.warnings.iter().map(|what| about(id, what)).collect();
    let container = Some(id.to_owned());
    if request.required && request.container_name_unknown {
        // Runtimes show one line: the reason, not what is odd besides.
        return Outcome { fail: true, notes: vec![about(id, UNIDENTIFIED)], debug: odd, container };
    }
    Outcome { notes: odd, container, ..Outcome::default() }
}

/// The daemon sees the cgroup go by itself, so nothing that goes wrong here matters.
fn end(id: &str, surroundings: &Surroundings) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.debug.push(match call::detach(&surroundings.bus, surroundings.deadline, id) {
        Ok(()) => about(id, "detached"),
        Err(CallError::Refused(why) | CallError::Denied(why) | CallError::Unreachable(why)) => {
            about(id, &format!("ended; nothing to detach: {why}"))
        }
    });
    outcome
}

/// A sentence about a container, whose id is shown as engines show it.
fn about(id: &str, what: &str) -> String {
    let hex = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let short = if hex { id.get(..12).unwrap_or(id) } else { id };
    format!("container {short}: {what}")
}

/// Standard error gets one line, since crun hides it and runc quotes it whole; the journal gets every sentence.
fn tell(outcome: &Outcome) {
    let priority = if outcome.fail { Priority::Error } else { Priority::Warning };
    let notes = outcome.notes.iter().map(|note| (priority, note));
    let debug = outcome.debug.iter().map(|note| (Priority::Debug, note));
    if let Ok(journal) = Journal::new(std::path::Path::new(SOCKET)) {
        for (priority, note) in notes.chain(debug) {
            let mut entry = Entry::new(priority, "memcg-bpf-hook");
            entry.field("MESSAGE", note);
            // As podman and docker call it themselves.
            outcome.container.iter().for_each(|id| entry.field("CONTAINER_ID_FULL", id));
            journal.try_send(&entry);
        }
    }
    if !outcome.notes.is_empty() {
        let _ = writeln!(io::stderr(), "memcg-bpf-hook: {}", outcome.notes.join("; "));
    }
}

#[cfg(test)]
mod tests;
