//! The names of the daemon on the system bus, and the meaning of errors of calls. Used by the daemon, the hook and
//! the commands. No I/O.

use std::io;

use zbus::fdo;

/// Address of the system bus. The OCI hook uses no other, because its environment is that of the container engine.
pub const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// The daemon's name on the bus.
pub const NAME: &str = "org.memcg.Bpf1";
/// The daemon's object.
pub const PATH: &str = "/org/memcg/Bpf1";
/// The interface of the object.
pub const INTERFACE: &str = "org.memcg.Bpf1.Manager";
/// Prefix of all error names of the daemon.
pub const ERROR_PREFIX: &str = "org.memcg.Bpf1.Error.";
/// The daemon's error for a caller without permission.
pub const ERROR_ACCESS_DENIED: &str = "AccessDenied";
/// The daemon's error for a call that can be repeated later.
pub const ERROR_BUSY: &str = "Busy";
/// The option of `AttachContainer` with the runtime's `linux.cgroupsPath`, a string.
pub const OPTION_CGROUPS_PATH: &str = "cgroups-path";
/// The option of `AttachContainer` with the names of the pod and of the container, a string.
pub const OPTION_POD: &str = "pod";
/// The option of `AttachContainer` with the id of the pod's sandbox, a string. The line is that of the pod's own cgroup.
pub const OPTION_SANDBOX: &str = "sandbox";
/// The option of `AttachContainer` that makes errors fatal for the container, a boolean.
pub const OPTION_REQUIRED: &str = "required";

/// Why a call to the daemon failed. Texts are unmodified and must be escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// The daemon replied with an error.
    Replied {
        /// The error name without [`ERROR_PREFIX`].
        error: String,
        /// The daemon's message.
        message: String,
    },
    /// systemd failed to start the daemon.
    NotStarted(String),
    /// The daemon is not running, and the bus cannot start it.
    NotRunning(String),
    /// The policy of the bus denies the call.
    Forbidden,
    /// The bus rejected the connection of this user.
    Rejected,
    /// The socket of the bus does not exist.
    NoBus(String),
    /// The connection to the bus failed.
    Disconnected(String),
    /// The reply timed out.
    Timeout,
    /// The daemon expects other arguments, because it is of another version.
    WrongArguments(String),
    /// The daemon has no such method, because it is older, or still starting.
    NoMethod(String),
    /// Another error of the bus.
    BusError(String),
    /// Another error of the connection.
    Other(String),
}

impl From<&zbus::Error> for CallFailure {
    fn from(error: &zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                let message =
                    message.as_deref().filter(|text| !text.is_empty()).unwrap_or(name.as_str()).to_owned();
                match name.strip_prefix(ERROR_PREFIX) {
                    Some(error) => CallFailure::Replied { error: error.to_owned(), message },
                    None => CallFailure::NotStarted(message),
                }
            }
            zbus::Error::FDO(error) => CallFailure::from_bus(error),
            zbus::Error::InputOutput(error) | zbus::Error::Connection(error, _) => {
                CallFailure::from_io(error)
            }
            zbus::Error::Handshake(text) if text.to_ascii_lowercase().contains("reject") => {
                CallFailure::Rejected
            }
            zbus::Error::Handshake(text) => CallFailure::Disconnected(text.clone()),
            other => CallFailure::Other(other.to_string()),
        }
    }
}

impl CallFailure {
    fn from_bus(error: &fdo::Error) -> Self {
        match error {
            fdo::Error::ServiceUnknown(text) | fdo::Error::NameHasNoOwner(text) => {
                CallFailure::NotRunning(text.clone())
            }
            fdo::Error::AccessDenied(_)
            | fdo::Error::AuthFailed(_)
            | fdo::Error::InteractiveAuthorizationRequired(_) => CallFailure::Forbidden,
            fdo::Error::NoReply(_) | fdo::Error::TimedOut(_) | fdo::Error::Timeout(_) => CallFailure::Timeout,
            fdo::Error::InvalidArgs(text) | fdo::Error::InvalidSignature(text) => {
                CallFailure::WrongArguments(text.clone())
            }
            fdo::Error::UnknownMethod(text)
            | fdo::Error::UnknownObject(text)
            | fdo::Error::UnknownInterface(text) => CallFailure::NoMethod(text.clone()),
            other => CallFailure::BusError(other.to_string()),
        }
    }

    fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => CallFailure::Timeout,
            io::ErrorKind::PermissionDenied => CallFailure::Rejected,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                CallFailure::NoBus(error.to_string())
            }
            _ => CallFailure::Disconnected(error.to_string()),
        }
    }

    /// True if the call can be repeated later.
    pub fn is_busy(&self) -> bool {
        matches!(self, CallFailure::Replied { error, .. } if error == ERROR_BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_one_meaning() {
        let of = |error: zbus::Error| CallFailure::from(&error);
        let bus = |error: fdo::Error| of(zbus::Error::FDO(Box::new(error)));
        let io = |kind: io::ErrorKind| of(io::Error::from(kind).into());
        let x = || "x".to_owned();
        assert_eq!(bus(fdo::Error::ServiceUnknown(x())), CallFailure::NotRunning(x()));
        assert_eq!(bus(fdo::Error::AccessDenied(x())), CallFailure::Forbidden);
        assert_eq!(bus(fdo::Error::NoReply(x())), CallFailure::Timeout);
        assert_eq!(bus(fdo::Error::InvalidSignature(x())), CallFailure::WrongArguments(x()));
        assert_eq!(bus(fdo::Error::UnknownObject(x())), CallFailure::NoMethod(x()));
        assert!(matches!(bus(fdo::Error::SpawnChildExited(x())), CallFailure::BusError(_)));
        assert_eq!(io(io::ErrorKind::TimedOut), CallFailure::Timeout);
        assert_eq!(io(io::ErrorKind::PermissionDenied), CallFailure::Rejected);
        assert!(matches!(io(io::ErrorKind::ConnectionRefused), CallFailure::NoBus(_)));
        assert!(matches!(io(io::ErrorKind::BrokenPipe), CallFailure::Disconnected(_)));
        assert_eq!(
            of(zbus::Error::Handshake("EXTERNAL rejected by the server.".into())),
            CallFailure::Rejected
        );
        assert!(matches!(of(zbus::Error::Handshake("Unexpected EOF".into())), CallFailure::Disconnected(_)));
        let busy = CallFailure::Replied { error: ERROR_BUSY.to_owned(), message: x() };
        assert!(busy.is_busy() && !CallFailure::Timeout.is_busy());
    }

    /// The polkit, bus and interface files contain the names literally.
    #[test]
    fn names_are_those_of_the_shipped_files() {
        let xml = include_str!("../systemd/org.memcg.Bpf1.xml");
        assert!(xml.contains(&format!("<interface name=\"{INTERFACE}\">")));
        assert!(include_str!("../systemd/org.memcg.Bpf1.conf").contains(&format!("\"{NAME}\"")));
        assert!(include_str!("../systemd/org.memcg.Bpf1.service").contains(&format!("Name={NAME}\n")));
        assert_eq!(PATH, format!("/{}", NAME.replace('.', "/")));
        assert_eq!(ERROR_PREFIX, format!("{NAME}.Error."));
    }
}
