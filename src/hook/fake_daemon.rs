//! A fake of the system bus and the daemon, so that tests make the real call without either.

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zbus::{DBusError, OwnedVariant};

/// The replies of the fake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Accepts,
    Rejects,
    Busy,
    /// To the first two calls.
    BusyAtFirst,
    Slow,
    NotInstalled,
    NotForThisUser,
    OfAnotherVersion,
    /// The bus accepts the connection and sends nothing.
    BusSilent,
}

#[derive(Debug, DBusError)]
#[zbus(prefix = "org")]
enum FakeError {
    #[zbus(error)]
    ZBus(zbus::Error),
    #[zbus(name = "memcg.Bpf1.Error.InvalidPolicy")]
    InvalidPolicy(String),
    #[zbus(name = "memcg.Bpf1.Error.Busy")]
    Busy(String),
    #[zbus(name = "freedesktop.DBus.Error.ServiceUnknown")]
    ServiceUnknown(String),
    #[zbus(name = "freedesktop.DBus.Error.AccessDenied")]
    AccessDenied(String),
    #[zbus(name = "freedesktop.DBus.Error.InvalidArgs")]
    InvalidArgs(String),
}

struct Bus;

#[zbus::interface(name = "org.freedesktop.DBus")]
impl Bus {
    fn hello(&self) -> String {
        ":1.1".to_owned()
    }
}

struct Manager {
    behaviour: Behaviour,
    calls: Arc<Mutex<Vec<String>>>,
}

#[zbus::interface(name = "org.memcg.Bpf1.Manager")]
impl Manager {
    async fn attach_container(
        &self,
        id: String,
        pid: u32,
        line: String,
        options: HashMap<String, OwnedVariant>,
    ) -> Result<String, FakeError> {
        let mut options: Vec<String> =
            options.iter().map(|(key, value)| format!("{key}={:?}", **value)).collect();
        options.sort();
        let nth = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(format!("attach {id} {pid} '{line}' {}", options.join(" ")));
            calls.len()
        };
        match self.behaviour {
            Behaviour::Rejects => Err(FakeError::InvalidPolicy(
                "annotation of container c1, column 0:\nunknown policy".to_owned(),
            )),
            Behaviour::BusyAtFirst if nth > 2 => Ok("{}".to_owned()),
            Behaviour::Busy | Behaviour::BusyAtFirst => {
                Err(FakeError::Busy("too many containers start at once".to_owned()))
            }
            Behaviour::NotInstalled => Err(FakeError::ServiceUnknown("x".to_owned())),
            Behaviour::NotForThisUser => Err(FakeError::AccessDenied("x".to_owned())),
            Behaviour::OfAnotherVersion => Err(FakeError::InvalidArgs("expected (su)".to_owned())),
            Behaviour::Slow => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(String::new())
            }
            Behaviour::Accepts | Behaviour::BusSilent => Ok("{}".to_owned()),
        }
    }

    fn detach_container(&self, id: String) {
        self.calls.lock().unwrap().push(format!("detach {id}"));
    }
}

/// A running fake: its address and the calls it received.
pub struct FakeDaemon {
    dir: tempfile::TempDir,
    calls: Arc<Mutex<Vec<String>>>,
}

impl FakeDaemon {
    /// Serves on its own thread until the test ends.
    pub fn start(behaviour: Behaviour) -> FakeDaemon {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("bus")).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if behaviour == Behaviour::BusSilent {
                    open.push(stream.unwrap());
                    continue;
                }
                let manager = Manager { behaviour, calls: Arc::clone(&seen) };
                runtime.block_on(async move {
                    let connection = zbus::connection::Builder::unix_stream(stream.unwrap())
                        .server(zbus::Guid::generate())
                        .p2p()
                        .serve_at("/org/freedesktop/DBus", Bus)
                        .serve_at("/org/memcg/Bpf1", manager)
                        .build()
                        .await;
                    if let Ok(connection) = connection {
                        connection.closed().await;
                    }
                });
            }
        });
        FakeDaemon { dir, calls }
    }

    /// The address of the fake bus.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("bus").display())
    }

    /// The calls received so far.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}
