//! Errors of the D-Bus methods.

use zbus::DBusError;

/// Why a call failed: the D-Bus error and one sentence for the caller.
#[derive(Debug, Clone, PartialEq, Eq, DBusError)]
#[zbus(prefix = "org.memcg.Bpf1.Error", impl_display = false)]
pub enum Error {
    /// An argument is invalid.
    InvalidArgument(String),
    /// The policy line is invalid. The message lists all errors.
    InvalidPolicy(String),
    /// The caller is not authorized.
    AccessDenied(String),
    /// The cgroup does not exist.
    NoSuchCgroup(String),
    /// The container does not exist, or its cgroup cannot be found.
    NoSuchContainer(String),
    /// The cgroup has no policy.
    NoPolicy(String),
    /// The kernel or the configuration does not support the request.
    NotSupported(String),
    /// The daemon is busy; the call can be repeated.
    Busy(String),
    /// Another error.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.description().unwrap_or("failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{ERROR_ACCESS_DENIED, ERROR_BUSY, ERROR_PREFIX};

    /// Attributes of macros do not accept constants.
    #[test]
    fn error_names_are_those_of_the_bus_room() {
        for (error, name) in [
            (Error::Busy(String::new()), ERROR_BUSY),
            (Error::AccessDenied(String::new()), ERROR_ACCESS_DENIED),
        ] {
            assert_eq!(error.name().as_str(), format!("{ERROR_PREFIX}{name}"));
        }
    }
}
