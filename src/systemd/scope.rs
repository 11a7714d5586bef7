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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex};

    use zbus::{Guid, OwnedObjectPath, OwnedVariant, connection, interface};

    use super::*;

    type Properties = Vec<(String, OwnedVariant)>;

    #[derive(Default)]
    struct FakeManager(Arc<Mutex<Vec<(String, String, Properties)>>>);

    #[interface(name = "org.freedesktop.systemd1.Manager")]
    impl FakeManager {
        fn start_transient_unit(
            &self,
            name: String,
            mode: String,
            properties: Properties,
            auxiliary: Vec<(String, Properties)>,
        ) -> OwnedObjectPath {
            assert!(auxiliary.is_empty());
            self.0.lock().unwrap().push((name, mode, properties));
            OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap()
        }
    }

    #[tokio::test]
    async fn scope_has_the_process_and_the_slice() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let calls = Arc::default();
        let server = connection::Builder::unix_stream(theirs)
            .server(Guid::generate())
            .p2p()
            .serve_at("/org/freedesktop/systemd1", FakeManager(Arc::clone(&calls)));
        let client = connection::Builder::unix_stream(ours).p2p();
        let (_server, client) = tokio::try_join!(server.build(), client.build()).unwrap();
        let (name, slice) = (UnitName::parse("x.scope").unwrap(), UnitName::parse("a.slice").unwrap());
        let scope = Scope { name: &name, slice: Some(&slice), description: "sleep 1", pid: 7 };
        scope.start(&client).await.unwrap();
        let calls = calls.lock().unwrap();
        let (name, mode, properties) = &calls[0];
        assert_eq!((name.as_str(), mode.as_str()), ("x.scope", "fail"));
        let signatures: BTreeMap<&str, String> = properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.value_signature().to_string()))
            .collect();
        let expected = [
            ("CollectMode", "s"),
            ("Description", "s"),
            ("MemoryAccounting", "b"),
            ("PIDs", "au"),
            ("Slice", "s"),
        ];
        assert_eq!(signatures, expected.map(|(name, kind)| (name, kind.to_owned())).into());
    }
}
