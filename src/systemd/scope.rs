//! Transient scopes: places a process into a new scope of the system manager.

use std::time::Duration;

use zbus::{Connection, Variant};

use super::proxy::ManagerProxy;
use crate::names::UnitName;

/// Longest time that a scope takes to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A scope that is to be started.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The unit's name.
    pub name: &'a UnitName,
    /// The slice of the scope; `None` for the manager's default.
    pub slice: Option<&'a UnitName>,
    /// `Description=`.
    pub description: &'a str,
    /// The process that is moved into the scope.
    pub pid: u32,
}

impl Scope<'_> {
    /// Queues the start of the scope. The process is moved into it a moment later.
    pub async fn start(self, connection: &Connection) -> zbus::Result<()> {
        let manager = ManagerProxy::new(connection).await?;
        let mut properties = vec![
            ("Description", Variant::from(self.description)),
            ("PIDs", Variant::from(vec![self.pid])),
            ("MemoryAccounting", Variant::from(true)),
            // Removed when its last process has exited, even after a failure.
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        if let Some(slice) = self.slice {
            properties.push(("Slice", Variant::from(slice.as_str())));
        }
        let start = manager.start_transient_unit(self.name.as_str(), "fail", &properties, &[]);
        match tokio::time::timeout(START_TIMEOUT, start).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(zbus::Error::Failure("systemd did not reply in time".to_owned())),
        }
    }
}
