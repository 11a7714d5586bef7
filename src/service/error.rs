//! Errors of the D-Bus methods.

use zbus::DBusError;

/// Why a call failed: the D-Bus error and one sentence for the caller.
#[derive(Debug, Clone, PartialEq, Eq, DBusError)]
#[zbus(prefix = "org.memcg.Bpf1.Error", impl_display = false)]
pub enum Error {
    /// An argument is not what it should be.
    InvalidArgument(String),
    /// The policy line is invalid; the sentence lists all errors.
    InvalidPolicy(String),
    /// The caller may not ask for this.
    AccessDenied(String),
    /// The cgroup does not exist.
    NoSuchCgroup(String),
    /// The container does not exist, or its cgroup cannot be found.
    NoSuchContainer(String),
    /// The cgroup has no policy.
    NoPolicy(String),
    /// This kernel or set-up cannot do it.
    NotSupported(String),
    /// Too much to do; ask again.
    Busy(String),
    /// Anything else.
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

    /// Macros take no constants.
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
