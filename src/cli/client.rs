//! D-Bus client of the daemon.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zbus::proxy::MethodFlags;
use zbus::{DynamicType, proxy};

use super::term::escape_line;
use crate::bpf::pins::PIN_ROOT;
use crate::bus::{CallFailure, ERROR_ACCESS_DENIED, SYSTEM_BUS};
use crate::report::oom_kill::OomKill;
use crate::systemd::Scope;

/// The default timeout of D-Bus.
const DEADLINE: Duration = Duration::from_secs(25);
/// The timeout if polkit may prompt for a password.
const DEADLINE_WITH_PASSWORD: Duration = Duration::from_secs(120);
/// The timeout of a reload, as that of systemd for units.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);
/// Delay after which a note is displayed during a slow call.
const PATIENCE: Duration = Duration::from_secs(2);
/// The D-Bus activation file. Without it, the package is not installed.
const ACTIVATION: &str = "usr/share/dbus-1/system-services/org.memcg.Bpf1.service";
/// Longest error message that is shown, in characters.
const REASON_MAX: usize = 20_000;

#[proxy(
    interface = "org.memcg.Bpf1.Manager",
    default_service = "org.memcg.Bpf1",
    default_path = "/org/memcg/Bpf1"
)]
trait Daemon {
    #[zbus(allow_interactive_auth)]
    fn attach(&self, cgroup: &str, line: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn detach(&self, cgroup: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn pause(&self, nanoseconds: u64) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn resume(&self) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn reload(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn version(&self) -> zbus::Result<String>;
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::cli) enum ClientError {
    #[error("cannot connect to the system bus ({0}); start it with: systemctl start dbus.socket")]
    NoBus(String),
    #[error("memcg-bpfd is not running ({0}); start it with: systemctl start memcg-bpfd")]
    NotRunning(String),
    #[error("memcg-bpfd is stopped: no policy is active; to start it, run: systemctl start memcg-bpfd")]
    Stopped,
    #[error(
        "memcg-bpfd is not running, but its policies are active until it is started or stopped again; see: systemctl status \
         memcg-bpfd"
    )]
    NotRunningWithPolicies,
    #[error(
        "memcg-bpfd is not installed: /{ACTIVATION} is missing; install the package memcg-bpf, then: systemctl start memcg-bpfd"
    )]
    NotInstalled,
    #[error("permission denied: use sudo")]
    Denied,
    #[error("memcg-bpfd did not reply within {} seconds; see: journalctl -u memcg-bpfd", .0.as_secs())]
    Timeout(Duration),
    #[error("{0}")]
    NotAllowed(String),
    #[error("{0}")]
    Rejected(String),
    #[error(
        "memcg-bpfd sent an invalid reply ({0}); its version may differ, restart it: systemctl restart memcg-bpfd"
    )]
    ProtocolMismatch(String),
}

/// A connection to the daemon.
pub(in crate::cli) struct Client {
    runtime: tokio::runtime::Runtime,
    proxy: DaemonProxy<'static>,
    /// True if a note may be displayed during a slow call.
    show_progress: bool,
    /// May a call start the daemon?
    may_start: bool,
}

impl Client {
    /// Connects to the system bus, to change something: the bus starts the daemon at the first call if need be.
    pub fn connect() -> Result<Self, ClientError> {
        Self::connect_to(&bus_address())
    }

    /// Connects to the system bus, to look: a stopped daemon stays stopped.
    pub fn connect_to_look() -> Result<Self, ClientError> {
        Self::connect().map(|client| Client { may_start: false, ..client })
    }

    fn connect_to(address: &str) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| ClientError::NoBus(e.to_string()))?;
        let proxy = run_with_timeout(&runtime, true, deadline(), async {
            let connection = zbus::connection::Builder::address(address).build().await?;
            DaemonProxy::builder(&connection).cache_properties(zbus::proxy::CacheProperties::No).build().await
        });
        match proxy {
            Ok(proxy) => Ok(Client { runtime, proxy, show_progress: true, may_start: true }),
            Err(ClientError::ProtocolMismatch(why) | ClientError::NotRunning(why)) => {
                Err(ClientError::NoBus(why))
            }
            Err(other) => Err(other),
        }
    }

    /// Never writes to the terminal.
    pub fn silent(self) -> Self {
        Client { show_progress: false, ..self }
    }

    fn wait<T>(&self, call: impl Future<Output = zbus::Result<T>>) -> Result<T, ClientError> {
        run_with_timeout(&self.runtime, self.show_progress, deadline(), call)
    }

    /// A method that changes nothing.
    fn query(
        &self,
        method: &'static str,
        flags: MethodFlags,
        args: &(impl Serialize + DynamicType),
    ) -> Result<String, ClientError> {
        let flags = if self.may_start { flags } else { flags | MethodFlags::NO_AUTO_START };
        let reply = self.wait(async {
            let reply = self.proxy.inner().call_with_flags(method, flags, args).await?;
            reply.ok_or_else(|| zbus::Error::Failure("no reply".to_owned()))
        });
        match reply {
            Err(ClientError::NotRunning(_)) if !self.may_start => Err(not_running(Path::new(PIN_ROOT))),
            reply => reply,
        }
    }

    /// Attach: the binding.
    pub fn attach<T: DeserializeOwned>(&self, cgroup: &str, line: &str) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.attach(cgroup, line)))
    }

    /// Detach: the remaining policies.
    pub fn detach<T: DeserializeOwned>(&self, cgroup: &str) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.detach(cgroup)))
    }

    /// List: all bindings.
    pub fn list<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse(self.query("List", MethodFlags::ALLOW_INTERACTIVE_AUTH, &()))
    }

    /// List without a password prompt, for looking up names. `None` if the user is not allowed to list.
    pub fn list_if_allowed<T: DeserializeOwned>(&self) -> Result<Option<T>, ClientError> {
        match parse(self.query("List", MethodFlags::empty(), &())) {
            Ok(list) => Ok(Some(list)),
            Err(ClientError::NotAllowed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Explain without a password prompt, for a look before another call. `None` if the user may not see the cgroup.
    pub fn explain_if_allowed<T: DeserializeOwned>(&self, cgroup: &str) -> Result<Option<T>, ClientError> {
        match parse(self.query("Explain", MethodFlags::empty(), &(cgroup,))) {
            Ok(report) => Ok(Some(report)),
            Err(ClientError::NotAllowed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Explain: one binding with explanations.
    pub fn explain<T: DeserializeOwned>(&self, cgroup: &str) -> Result<T, ClientError> {
        parse(self.query("Explain", MethodFlags::ALLOW_INTERACTIVE_AUTH, &(cgroup,)))
    }

    /// Kills: the last kills by the kernel's OOM killer that concern a cgroup, without a password prompt. None if the
    /// user may not see them.
    pub fn kills_if_allowed(&self, cgroup: &str) -> Result<Vec<OomKill>, ClientError> {
        match parse(self.query("Kills", MethodFlags::empty(), &(cgroup,))) {
            Err(ClientError::NotAllowed(_)) => Ok(Vec::new()),
            kills => kills,
        }
    }

    /// Pause: action statistics. If 0, the pause has no end.
    pub fn pause<T: DeserializeOwned>(&self, nanoseconds: u64) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.pause(nanoseconds)))
    }

    /// Resume: action statistics.
    pub fn resume<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.resume()))
    }

    /// Starts a transient scope of systemd, over the same connection.
    pub fn start_scope(&self, scope: Scope<'_>) -> Result<(), ClientError> {
        let started = self.wait(async { Ok(scope.start(self.proxy.inner().connection()).await) })?;
        started.map_err(|error| systemd_error(&error))
    }

    /// Reload: the changes.
    pub fn reload<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse(run_with_timeout(&self.runtime, self.show_progress, RELOAD_TIMEOUT, self.proxy.reload()))
    }

    /// Stats: action statistics.
    pub fn stats<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse(self.query("Stats", MethodFlags::empty(), &()))
    }

    /// The daemon's version.
    pub fn version(&self) -> Result<String, ClientError> {
        if !self.may_start {
            // Reading a property would start the daemon.
            self.query("Stats", MethodFlags::empty(), &())?;
        }
        self.wait(self.proxy.version())
    }
}

fn bus_address() -> String {
    std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| SYSTEM_BUS.to_owned())
}

/// The daemon is not running. Policies of one that was killed stay in the kernel, which only root can see.
fn not_running(pins: &Path) -> ClientError {
    match std::fs::read_dir(pins).ok().and_then(|mut entries| entries.next()) {
        Some(_) => ClientError::NotRunningWithPolicies,
        None => ClientError::Stopped,
    }
}

fn parse<T: DeserializeOwned>(answer: Result<String, ClientError>) -> Result<T, ClientError> {
    serde_json::from_str(&answer?).map_err(|e| ClientError::ProtocolMismatch(e.to_string()))
}

fn deadline() -> Duration {
    if nix::unistd::geteuid().is_root() { DEADLINE } else { DEADLINE_WITH_PASSWORD }
}

/// Runs one call until it ends or times out. Displays a note if it takes long.
fn run_with_timeout<T>(
    runtime: &tokio::runtime::Runtime,
    show_progress: bool,
    deadline: Duration,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<T, ClientError> {
    runtime.block_on(async {
        tokio::pin!(call);
        if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut call).await {
            return answer.map_err(|e| client_error(&e, Path::new("/")));
        }
        let terminal = show_progress && std::io::stderr().is_terminal();
        if terminal {
            let _ = write!(std::io::stderr(), "waiting for memcg-bpfd…");
        }
        let answer = tokio::time::timeout(deadline.saturating_sub(PATIENCE), &mut call).await;
        if terminal {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
        answer.map_or(Err(ClientError::Timeout(deadline)), |answer| {
            answer.map_err(|e| client_error(&e, Path::new("/")))
        })
    })
}

fn client_error(error: &zbus::Error, root: &Path) -> ClientError {
    match CallFailure::from(error) {
        CallFailure::Replied { error, message } if error == ERROR_ACCESS_DENIED => {
            ClientError::NotAllowed(reason(&message))
        }
        CallFailure::Replied { message, .. } => ClientError::Rejected(reason(&message)),
        CallFailure::NotRunning(_) if !root.join(ACTIVATION).exists() => ClientError::NotInstalled,
        CallFailure::NotStarted(text) | CallFailure::NotRunning(text) | CallFailure::BusError(text) => {
            ClientError::NotRunning(reason(&text))
        }
        CallFailure::Forbidden | CallFailure::Rejected => ClientError::Denied,
        CallFailure::NoBus(text) | CallFailure::Disconnected(text) => ClientError::NoBus(escape_line(&text)),
        CallFailure::Timeout => ClientError::Timeout(deadline()),
        CallFailure::WrongArguments(text) | CallFailure::NoMethod(text) | CallFailure::Other(text) => {
            ClientError::ProtocolMismatch(reason(&text))
        }
    }
}

/// An error of systemd, not of the daemon.
fn systemd_error(error: &zbus::Error) -> ClientError {
    match error {
        zbus::Error::MethodError(name, ..)
            if ["AccessDenied", "InteractiveAuthorizationRequired"].iter().any(|end| name.ends_with(end)) =>
        {
            ClientError::Denied
        }
        zbus::Error::MethodError(_, Some(text), _) => ClientError::Rejected(reason(text)),
        other => ClientError::Rejected(reason(&other.to_string())),
    }
}

/// The daemon's message, truncated. It may contain several errors on separate lines.
fn reason(text: &str) -> String {
    let lines: Vec<String> =
        text.lines().map(|line| escape_line(line.trim())).filter(|line| !line.is_empty()).collect();
    lines.join("\n  ").chars().take(REASON_MAX).collect()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
