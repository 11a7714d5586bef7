//! Timeouts and errors of calls to PID 1.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use zbus::DBusError;

/// Timeout of a call to PID 1, which does not reply for seconds during daemon-reload.
const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
/// The error for a unit that is not loaded.
pub(super) const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// The error of `UnrefUnit` if a reload has dropped the reference.
pub(super) const NOT_REFERENCED: [&str; 2] = ["org.freedesktop.systemd1.NotReferenced", NO_SUCH_UNIT];
/// How `RefUnit` says that a name cannot be loaded: masked units, templates, and names systemd finds bad.
pub(super) const NOT_LOADABLE: [&str; 4] = [
    NO_SUCH_UNIT,
    "org.freedesktop.systemd1.UnitMasked",
    "org.freedesktop.systemd1.LoadFailed",
    "org.freedesktop.DBus.Error.InvalidArgs",
];

/// Why a call to systemd failed.
#[derive(Debug, Error)]
pub enum SystemdError {
    /// systemd's name has no owner on this bus.
    #[error("systemd is not on the system bus; unit files and drop-ins are not read (is PID 1 systemd?)")]
    Absent,
    /// A call failed.
    #[error("failed to query systemd for {what}: {source}")]
    Call {
        /// The subject of the query.
        what: String,
        /// Why it failed.
        source: zbus::Error,
    },
    /// A call took too long.
    #[error("failed to query systemd for {what}: no reply within 25 s")]
    Timeout {
        /// The subject of the query.
        what: String,
    },
}

impl SystemdError {
    /// True if systemd replied with one of these D-Bus errors.
    pub(super) fn is_named(&self, names: &[&str]) -> bool {
        match self {
            Self::Call { source: zbus::Error::MethodError(name, _, _), .. } => names.contains(&name.as_str()),
            // Standard errors of the bus have their own type.
            Self::Call { source: zbus::Error::FDO(error), .. } => names.contains(&error.name().as_str()),
            _ => false,
        }
    }
}

/// Waits for a reply about `what`, until the timeout.
pub(super) async fn with_timeout<T>(
    what: &str,
    answer: impl Future<Output = zbus::Result<T>>,
) -> Result<T, SystemdError> {
    match tokio::time::timeout(REPLY_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(SystemdError::Call { what: what.to_owned(), source }),
        Err(_) => Err(SystemdError::Timeout { what: what.to_owned() }),
    }
}
