//! D-Bus client of the daemon.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;
use zbus::proxy;

use super::term::escape_line;
use crate::bus::{CallFailure, ERROR_ACCESS_DENIED, SYSTEM_BUS};

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
    fn list(&self) -> zbus::Result<String>;
    #[zbus(name = "List")]
    fn list_unasked(&self) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn explain(&self, cgroup: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn pause(&self, nanoseconds: u64) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn resume(&self) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn reload(&self) -> zbus::Result<String>;
    fn stats(&self) -> zbus::Result<String>;
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
}

impl Client {
    /// Connects to the system bus; the bus starts the daemon at the first call if need be.
    pub fn connect() -> Result<Self, ClientError> {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| SYSTEM_BUS.to_owned());
        Self::connect_to(&address)
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
            Ok(proxy) => Ok(Client { runtime, proxy, show_progress: true }),
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
        parse(self.wait(self.proxy.list()))
    }

    /// List without a password prompt, for looking up names. `None` if the user is not allowed to list.
    pub fn list_if_allowed<T: DeserializeOwned>(&self) -> Result<Option<T>, ClientError> {
        match parse(self.wait(self.proxy.list_unasked())) {
            Ok(list) => Ok(Some(list)),
            Err(ClientError::NotAllowed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Explain: one binding with explanations.
    pub fn explain<T: DeserializeOwned>(&self, cgroup: &str) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.explain(cgroup)))
    }

    /// Pause: action statistics. If 0, the pause has no end.
    pub fn pause<T: DeserializeOwned>(&self, nanoseconds: u64) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.pause(nanoseconds)))
    }

    /// Resume: action statistics.
    pub fn resume<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.resume()))
    }

    /// Reload: the changes.
    pub fn reload<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse(run_with_timeout(&self.runtime, self.show_progress, RELOAD_TIMEOUT, self.proxy.reload()))
    }

    /// Stats: action statistics.
    pub fn stats<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse(self.wait(self.proxy.stats()))
    }

    /// The daemon's version.
    pub fn version(&self) -> Result<String, ClientError> {
        self.wait(self.proxy.version())
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

/// The daemon's message, truncated. It may contain several errors on separate lines.
fn reason(text: &str) -> String {
    let lines: Vec<String> =
        text.lines().map(|line| escape_line(line.trim())).filter(|line| !line.is_empty()).collect();
    lines.join("\n  ").chars().take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fdo(error: zbus::fdo::Error) -> zbus::Error {
        zbus::Error::FDO(Box::new(error))
    }

    #[test]
    fn every_failure_is_one_sentence_with_the_way_out() {
        let root = tempfile::tempdir().unwrap();
        let say = |error: zbus::Error| client_error(&error, root.path()).to_string();
        use zbus::fdo::Error as Bus;
        assert_eq!(
            say(fdo(Bus::ServiceUnknown("x".into()))),
            "memcg-bpfd is not installed: /usr/share/dbus-1/system-services/org.memcg.Bpf1.service is missing; \
             install the package memcg-bpf, then: systemctl start memcg-bpfd"
        );
        assert_eq!(say(fdo(Bus::AccessDenied("x".into()))), "permission denied: use sudo");
        assert_eq!(
            say(fdo(Bus::NoReply("x".into()))),
            "memcg-bpfd did not reply within 25 seconds; see: journalctl -u memcg-bpfd"
        );
        std::fs::create_dir_all(root.path().join("usr/share/dbus-1/system-services")).unwrap();
        std::fs::write(root.path().join(ACTIVATION), "").unwrap();
        assert_eq!(
            say(fdo(Bus::ServiceUnknown("no such\u{1b}[2J".into()))),
            "memcg-bpfd is not running (no such\\u{1b}[2J); start it with: systemctl start memcg-bpfd"
        );
    }

    #[test]
    fn bus_errors_mean_the_same_to_command_and_hook() {
        use zbus::fdo::Error as Bus;
        let of = |error: zbus::Error| client_error(&error, Path::new("/nonexistent"));
        assert_eq!(
            of(zbus::Error::Handshake("EXTERNAL rejected by the server.".into())),
            ClientError::Denied
        );
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(of(denied.into()), ClientError::Denied);
        for error in [Bus::InvalidSignature("x".into()), Bus::UnknownObject("x".into())] {
            assert!(matches!(of(fdo(error)), ClientError::ProtocolMismatch(_)));
        }
    }

    /// Macros take no constants.
    #[test]
    fn proxy_uses_the_names_of_the_bus_room() {
        use zbus::proxy::Defaults;
        assert_eq!(DaemonProxy::INTERFACE.as_ref().unwrap().as_str(), crate::bus::INTERFACE);
        assert_eq!(DaemonProxy::DESTINATION.as_ref().unwrap().as_str(), crate::bus::NAME);
        assert_eq!(DaemonProxy::PATH.as_ref().unwrap().as_str(), crate::bus::PATH);
    }

    #[test]
    fn a_missing_bus_is_said_to_be_missing() {
        let error = Client::connect_to("unix:path=/nonexistent/bus").err().unwrap();
        assert!(matches!(error, ClientError::NoBus(_)), "{error}");
        assert!(error.to_string().ends_with("start it with: systemctl start dbus.socket"), "{error}");
    }

    #[test]
    fn an_answer_that_is_no_json_is_not_believed() {
        assert!(matches!(parse::<Vec<String>>(Ok("[".to_owned())), Err(ClientError::ProtocolMismatch(_))));
    }
}
