//! Waiting for PID 1's answers, and what it means when it gives none or an error.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use zbus::DBusError;

/// How long one question to PID 1 may take; during daemon-reload it answers nobody for seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
/// How systemd says that a unit is not loaded.
pub(super) const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// How `UnrefUnit` says that a reload has dropped the reference.
pub(super) const NOT_REFERENCED: [&str; 2] = ["org.freedesktop.systemd1.NotReferenced", NO_SUCH_UNIT];
/// How `RefUnit` says that a name cannot be loaded: templates, and names systemd finds bad.
pub(super) const NOT_LOADABLE: [&str; 3] =
    [NO_SUCH_UNIT, "org.freedesktop.systemd1.LoadFailed", "org.freedesktop.DBus.Error.InvalidArgs"];

/// Why systemd did not answer.
#[derive(Debug, Error)]
pub enum SystemdError {
    /// Nobody owns systemd's name on this bus.
    #[error("systemd is not on the system bus; unit files and drop-ins are not read (is PID 1 systemd?)")]
    Absent,
    /// A call failed.
    #[error("failed to query systemd for {what}: {source}")]
    Call {
        /// What was asked for.
        what: String,
        /// Why it failed.
        source: zbus::Error,
    },
    /// A call took too long.
    #[error("failed to query systemd for {what}: no reply within 25 s")]
    Timeout {
        /// What was asked for.
        what: String,
    },
}

impl SystemdError {
    /// True when systemd answered with one of these D-Bus errors.
    pub(super) fn is_named(&self, names: &[&str]) -> bool {
        match self {
            Self::Call { source: zbus::Error::MethodError(name, _, _), .. } => names.contains(&name.as_str()),
            // The bus's standard errors arrive under a type of their own.
            Self::Call { source: zbus::Error::FDO(error), .. } => names.contains(&error.name().as_str()),
            _ => false,
        }
    }
}

/// Waits for an answer about `what`, but not for ever.
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
