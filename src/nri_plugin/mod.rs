//! The NRI plugin: connects to the socket of containerd or CRI-O and serves its calls. Adds the OCI hook to containers for
//! which a policy is requested, and never waits for the daemon while the runtime waits for the plugin: a runtime disconnects
//! a plugin that takes longer than two seconds, and starts containers without it.
//!
//! A second thread requests the policies of containers that were created without the plugin.

mod late;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::log::subscriber;
use crate::nri::{Event, HOOK, Session};
use crate::text::printable::{QUOTE_MAX, quote};
use late::Queue;

/// The socket of the runtime.
const SOCKET: &str = "/run/nri/nri.sock";

/// The delay before a connection is tried again; doubles with each failure.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest delay. The runtime creates its socket within seconds of a start.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A connection that lasted this long was a good one: the delay begins anew.
const STABLE: Duration = Duration::from_secs(30);
/// The longest time that the runtime may take to accept a reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

const HELP: &str = "\
memcg-bpf-nri: the NRI plugin of memcg-bpf; started by systemd (memcg-bpf-nri.service)

Adds the OCI hook memcg-bpf-hook to the containers of containerd and CRI-O whose pod has one of the annotations
    memcg.bpf/policy              the policy line of every container, as in \"deny limit=90%\"
    policy.memcg.bpf/CONTAINER    the same for one container
    memcg.bpf/pod-policy          the policy line of the pod's own cgroup
and requests the policies of containers that were created while the plugin was not connected.

Options:
    --socket PATH    the NRI socket (/run/nri/nri.sock)
    --hook PATH      the hook (/usr/libexec/oci/hooks.d/memcg-bpf-hook)
    --help           this text
    --version        the version
Log level: MEMCG_BPF_LOG=debug
";

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
enum Invocation {
    Help,
    Version,
    Run { socket: PathBuf, hook: String },
    Invalid(String),
}

/// Runs the program: arguments, exit status.
pub fn main() -> ExitCode {
    let (socket, hook) = match invocation(std::env::args().skip(1)) {
        Invocation::Help => return print(HELP),
        Invocation::Version => return print(concat!("memcg-bpf-nri ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::Run { socket, hook } => (socket, hook),
        Invocation::Invalid(message) => {
            let _ = writeln!(io::stderr(), "memcg-bpf-nri: {message}; see memcg-bpf-nri --help");
            return ExitCode::from(2);
        }
    };
    subscriber::start("memcg-bpf-nri");
    let queue = match late::start(crate::bus::SYSTEM_BUS) {
        Ok(queue) => queue,
        Err(error) => {
            tracing::error!("Failed to start a thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Connecting is no condition: the runtime may be started later.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("Failed to notify systemd: {error}");
    }
    serve(&socket, &hook, &queue, &|status| {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(status)]);
    })
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn invocation(args: impl Iterator<Item = String>) -> Invocation {
    let (mut socket, mut hook) = (SOCKET.to_owned(), HOOK.to_owned());
    let mut args = args;
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let option = match name {
            "--help" | "-h" => return Invocation::Help,
            "--version" | "-V" => return Invocation::Version,
            "--socket" => &mut socket,
            "--hook" => &mut hook,
            _ => return Invocation::Invalid(format!("unknown option '{}'", quote(&arg, QUOTE_MAX))),
        };
        match value.or_else(|| args.next()) {
            Some(path) if path.starts_with('/') => *option = path,
            _ => return Invocation::Invalid(format!("missing absolute path after {name}")),
        }
    }
    Invocation::Run { socket: PathBuf::from(socket), hook }
}

/// Connects again whenever a connection ends. SIGTERM ends the process: nothing is kept that would have to be restored.
fn serve(socket: &Path, hook: &str, queue: &Queue, status: &dyn Fn(&str)) -> ! {
    let mut delay = RETRY_MIN;
    let mut reported = None;
    loop {
        let began = Instant::now();
        let error = match connection(socket, hook, queue, status) {
            Ok(()) => "the runtime closed the connection".to_owned(),
            Err(error) => error,
        };
        if began.elapsed() >= STABLE {
            (delay, reported) = (RETRY_MIN, None);
        }
        // The status may be that of the connection that has just ended.
        status(&format!("Not connected: {error}"));
        // While the runtime is stopped, the same error repeats.
        if reported.as_ref() != Some(&error) {
            tracing::warn!("Not connected to {}: {error}; trying again", socket.display());
            reported = Some(error);
        }
        std::thread::sleep(delay);
        delay = delay.saturating_mul(2).min(RETRY_MAX);
    }
}

/// One connection, until it ends.
fn connection(socket: &Path, hook: &str, queue: &Queue, status: &dyn Fn(&str)) -> Result<(), String> {
    let mut stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(|error| error.to_string())?;
    let (mut session, hello) = Session::start(hook);
    stream.write_all(&hello).map_err(|error| error.to_string())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.to_string()),
        };
        let (mut out, mut events) = (Vec::new(), Vec::new());
        let received = session.receive(buffer.get(..count).unwrap_or_default(), &mut out, &mut events);
        // The runtime waits for the reply; what happened is handled after it.
        stream.write_all(&out).map_err(|error| error.to_string())?;
        for event in events {
            handle(event, queue, status)?;
        }
        received.map_err(|error| error.to_string())?;
    }
}

/// Logs what happened, and queues containers. An error ends the connection.
fn handle(event: Event, queue: &Queue, status: &dyn Fn(&str)) -> Result<(), String> {
    match event {
        Event::Registered => tracing::debug!("registered"),
        Event::NotRegistered(error) => return Err(format!("the runtime rejected the registration: {error}")),
        Event::Configured(configuration) => {
            let runtime = format!("{} {}", configuration.runtime, configuration.version);
            tracing::info!("Connected to {runtime}");
            status(&format!("Connected to {runtime}"));
        }
        Event::Synchronized { containers, dropped } => {
            tracing::debug!("{} running containers request a policy", containers.len());
            if dropped > 0 {
                tracing::warn!("Ignoring {dropped} pods and containers: there are too many");
            }
            queue.push(containers);
        }
        Event::Adjusted(name) => tracing::debug!("added the hook to container {name}"),
        Event::Warned(container) => {
            for warning in &container.warnings {
                tracing::warn!(
                    CONTAINER_ID_FULL = container.id,
                    "container {} ({}): {warning}",
                    short(&container.id),
                    container.name
                );
            }
        }
        Event::Started(container) => queue.push(vec![container]),
        Event::PodStopped(sandbox) => queue.detach(sandbox),
        Event::Shutdown => return Err("the runtime shut down the plugin".to_owned()),
    }
    Ok(())
}

/// The first 12 characters of an id, as engines display it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
