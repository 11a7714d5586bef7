//! The identities of callers: their uids as reported by the bus, and the shares that their calls take.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, UniqueName};

use super::error::Error;
use super::quota::Share;
use crate::cgroup::process;

/// Limit of the number of remembered connections. Beyond it all are removed, and looked up again.
const REMEMBERED_MAX: usize = 1024;

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The uid.
    pub uid: u32,
    /// Whose share of the service its calls take.
    pub share: Share,
}

impl Identity {
    /// True for root and the daemon's own user, which have no limits.
    pub fn is_privileged(&self) -> bool {
        self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw()
    }
}

/// Looks up callers by the unique names of their connections. The bus never uses a unique name twice, so an identity is
/// looked up once.
#[derive(Debug, Default)]
pub struct Callers {
    /// A connection that receives no calls, so that no caller delays a lookup.
    lookup: Option<Connection>,
    known: Mutex<HashMap<String, Identity>>,
}

impl Callers {
    /// Looks callers up through this connection.
    pub fn new(lookup: Connection) -> Self {
        Callers { lookup: Some(lookup), known: Mutex::default() }
    }

    /// The connection for queries to other services.
    pub fn lookup(&self) -> Option<&Connection> {
        self.lookup.as_ref()
    }

    /// The identity of the connection with this unique name.
    pub async fn identify(&self, sender: &str) -> Result<Identity, Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(sender).cloned();
        if let Some(identity) = known {
            return Ok(identity);
        }
        let identity = self.ask_bus(sender).await.ok_or_else(unknown_caller)?;
        self.remember(sender, identity.clone());
        Ok(identity)
    }

    async fn ask_bus(&self, sender: &str) -> Option<Identity> {
        let bus = DBusProxy::builder(self.lookup.as_ref()?)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .ok()?;
        let name = BusName::from(UniqueName::try_from(sender).ok()?);
        let credentials = bus.get_connection_credentials(name).await.ok()?;
        let uid = credentials.unix_user_id()?;
        let text = credentials.process_id().and_then(|pid| process::cgroup_text_of_user(pid, uid).ok());
        Some(Identity { uid, share: Share::of(text.as_deref()) })
    }

    /// Stores the identity of a connection.
    pub fn remember(&self, sender: &str, identity: Identity) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(sender.to_owned(), identity);
    }
}

/// The error for a caller that has left the bus, or is unknown to it.
pub fn unknown_caller() -> Error {
    Error::Failed("the bus does not say who is calling; nothing was changed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_are_looked_up_once_and_bounded() {
        let callers = Callers::default();
        assert_eq!(callers.identify(":1.1").await.unwrap_err(), unknown_caller(), "there is no bus");
        for connection in 0..3000u32 {
            let identity = Identity { uid: connection, share: Share::Uid(connection) };
            let name = format!(":1.{connection}");
            callers.remember(&name, identity.clone());
            assert_eq!(callers.identify(&name).await.unwrap(), identity);
            assert!(callers.known.lock().unwrap().len() <= REMEMBERED_MAX);
        }
    }
}
