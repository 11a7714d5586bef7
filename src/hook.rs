//! The OCI hook: called by a container runtime at `createRuntime` (or `prestart`) and `poststop` with the container's
//! state on standard input. It requests the container's policy from the daemon and returns when the policy is
//! attached, before the container's first instruction. Does not parse policy lines.
//!
//! A hook that fails stops the container, so it fails only if the annotation `memcg.bpf/required` is true.

pub mod call;
#[cfg(test)]
pub(crate) mod fake_daemon;
mod result;
mod start;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use crate::log::journal::{Entry, Journal, Priority, SOCKET};
use crate::source::oci_state::{ContainerRequest, ContainerState, STATE_MAX, Status};
use crate::text::printable::{QUOTE_MAX, quote};

use call::CallError;
use result::{Environment, HookResult, Records, prefix};

/// Time limit for reading the state, which runtimes write before or soon after they start the hook.
pub const STATE_DEADLINE: Duration = Duration::from_secs(2);

/// The error of a container whose policy cannot be distinguished from that of another container of the pod.
const UNKNOWN_CONTAINER_MSG: &str = "the engine does not say which container of a pod this is, so a policy.memcg.bpf/CONTAINER \
    may be meant for it (memcg.bpf/policy needs no name); it does not start, because memcg.bpf/required is true";

const HELP: &str = "\
memcg-bpf-hook: the OCI hook of memcg-bpf

A container runtime runs it with the container's state (JSON) on standard input:
    memcg-bpf-hook [prestart | createRuntime | poststop]
Without an argument the stage follows from the state. For podman and CRI-O install
90-memcg-bpf.json in /usr/share/containers/oci/hooks.d. It reads the annotations
    memcg.bpf/policy              the policy line, as in \"deny limit=64M\"
    policy.memcg.bpf/CONTAINER    the same for one container of a pod, also written
                                  memcg.bpf/policy.CONTAINER
    memcg.bpf/pod-policy          the policy line of the pod's own cgroup
    memcg.bpf/required            \"true\": the container does not start without it
By hand:
    echo '{\"ociVersion\":\"1.0\",\"id\":\"x\",\"pid\":1,\"status\":\"created\"}' | memcg-bpf-hook
Log: journalctl -t memcg-bpf-hook

Options:
    --help       this text
    --version    the version
";

/// The stage of the container at which the hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Stop,
}

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Invocation {
    Help,
    Version,
    Run { stage: Option<Stage>, unknown: Option<String> },
}

/// Runs the program: arguments, standard input, exit status.
pub fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (stage, unknown) = match invocation(&args) {
        Invocation::Help => return print(HELP),
        Invocation::Version => return print(concat!("memcg-bpf-hook ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::Run { stage, unknown } => (stage, unknown),
    };
    let environment = Environment {
        bus: crate::bus::SYSTEM_BUS.to_owned(),
        deadline: call::DEADLINE,
        proc: PathBuf::from("/proc"),
        records: Records::of_cgroups(),
    };
    let mut result = match read_state(io::stdin(), STATE_DEADLINE) {
        Ok(state) => run(&state, stage, &environment),
        Err(why) => no_state(&why),
    };
    if let Some(word) = unknown {
        result.notes.push(format!(
            "ignoring argument '{}'; the stages are prestart, createRuntime and poststop",
            quote(&word, QUOTE_MAX)
        ));
    }
    report(&result);
    if result.fail { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
            "poststop" => stage = Some(Stage::Stop),
            _ => unknown = Some(arg.clone()),
        }
    }
    Invocation::Run { stage, unknown }
}

/// Reads the state. A runtime that keeps the pipe open without writing must not block the container.
fn read_state(input: impl Read + Send + 'static, deadline: Duration) -> Result<Vec<u8>, String> {
    let (sender, receiver) = mpsc::channel();
    // The thread may still run after the timeout; the process exits soon after.
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

/// Without the state, the annotation `required` is unknown, so the container starts.
fn no_state(why: &str) -> HookResult {
    HookResult {
        notes: vec![format!("{why}; the container goes on without a policy")],
        ..HookResult::default()
    }
}

fn run(state: &[u8], stage: Option<Stage>, environment: &Environment) -> HookResult {
    let state = match ContainerState::parse(state) {
        Ok(state) => state,
        Err(error) => return no_state(&error.to_string()),
    };
    let request = state.policy_request();
    let stage = stage.unwrap_or(match request.status {
        Status::Creating | Status::Created | Status::Running => Stage::Start,
        Status::Stopped => Stage::Stop,
    });
    if request.line.is_none()
        && (request.pod_line.is_none() || request.required && request.container_name_unknown)
    {
        return no_policy(&request, stage);
    }
    let mut result = match stage {
        Stage::Start => start::start(&request, environment),
        Stage::Stop => poststop(&request, environment),
    };
    if stage == Stage::Start {
        result.notes.splice(0..0, request.warnings.iter().map(|what| prefix(&request, what)));
    }
    result.container = Some(request.id.as_str().to_owned());
    result
}

/// No policy is requested. Warnings are reported. If a required policy may be meant for this container, the container
/// does not start.
fn no_policy(request: &ContainerRequest, stage: Stage) -> HookResult {
    if stage != Stage::Start || request.warnings.is_empty() {
        return HookResult::default();
    }
    let warnings = request.warnings.iter().map(|what| prefix(request, what)).collect();
    let container = Some(request.id.as_str().to_owned());
    if request.required && request.container_name_unknown {
        // Runtimes display one line: the reason, not the other warnings.
        return HookResult {
            fail: true,
            notes: vec![prefix(request, UNKNOWN_CONTAINER_MSG)],
            debug: warnings,
            container,
        };
    }
    HookResult { notes: warnings, container, ..HookResult::default() }
}

/// The daemon detects the removal of the cgroup itself, so errors have no effect.
fn poststop(request: &ContainerRequest, environment: &Environment) -> HookResult {
    let mut result = HookResult::default();
    result.debug.push(match call::detach(&environment.bus, environment.deadline, request.id.as_str()) {
        Ok(()) => prefix(request, "detached"),
        Err(CallError::Rejected(why) | CallError::Denied(why) | CallError::Unreachable(why)) => {
            prefix(request, &format!("ended; nothing to detach: {why}"))
        }
    });
    result
}

/// Writes one line to standard error, because crun hides it and runc quotes it whole, and every sentence to the
/// journal.
fn report(result: &HookResult) {
    let priority = if result.fail { Priority::Error } else { Priority::Warning };
    let notes = result.notes.iter().map(|note| (priority, note));
    let debug = result.debug.iter().map(|note| (Priority::Debug, note));
    if let Ok(journal) = Journal::new(std::path::Path::new(SOCKET)) {
        for (priority, note) in notes.chain(debug) {
            let mut entry = Entry::new(priority, "memcg-bpf-hook");
            entry.field("MESSAGE", note);
            // The prefix that podman and docker use.
            result.container.iter().for_each(|id| entry.field("CONTAINER_ID_FULL", id));
            journal.try_send(&entry);
        }
    }
    if !result.notes.is_empty() {
        let _ = writeln!(io::stderr(), "memcg-bpf-hook: {}", result.notes.join("; "));
    }
}

#[cfg(test)]
mod tests;
