//! Tests against a fake systemd at the other end of a socket. The system tests use the real one.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;

use tokio::sync::Notify;
use zbus::object_server::SignalEmitter;
use zbus::{DBusError, Guid, ObjectPath, connection, interface};

use super::super::{Event, subscribe};
use super::*;

const A: &str = "/org/freedesktop/systemd1/unit/a_2eservice";
const JOB: &str = "/org/freedesktop/systemd1/job/7";

#[derive(Debug, DBusError)]
#[zbus(prefix = "org.freedesktop")]
enum FakeError {
    #[zbus(name = "systemd1.NoSuchUnit")]
    NoSuchUnit(String),
    #[zbus(name = "systemd1.UnitMasked")]
    UnitMasked(String),
    #[zbus(name = "DBus.Error.InvalidArgs")]
    InvalidArgs(String),
}

#[derive(Default)]
struct FakeManager {
    loaded: Mutex<BTreeMap<String, &'static str>>,
    patience: Arc<Notify>,
}

type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl FakeManager {
    fn subscribe(&self) {}

    fn list_units(&self) -> Vec<Row> {
        let path = || OwnedObjectPath::try_from(A).unwrap();
        let row = |name: &str| {
            let text = String::new;
            (name.to_owned(), text(), text(), text(), text(), text(), path(), 0, text(), path())
        };
        ["a.service", "libpod-1.scope", "dev-sda.device", "b.service"].map(row).to_vec()
    }

    fn get_unit(&self, name: &str) -> Result<ObjectPath<'static>, FakeError> {
        match self.loaded.lock().unwrap().get(name) {
            Some(path) => Ok(ObjectPath::try_from(*path).unwrap()),
            None => Err(FakeError::NoSuchUnit(format!("Unit {name} not loaded."))),
        }
    }

    async fn ref_unit(&self, name: &str) -> Result<(), FakeError> {
        if name.starts_with("slow") {
            self.patience.notified().await;
        }
        if name.contains("@.") {
            return Err(FakeError::InvalidArgs(format!("Unit name {name} is missing the instance name.")));
        }
        if name.starts_with("masked") {
            return Err(FakeError::UnitMasked(format!("Unit {name} is masked.")));
        }
        self.loaded.lock().unwrap().insert(name.to_owned(), A);
        Ok(())
    }

    /// As for an idle unit: a unit without references is unloaded.
    fn unref_unit(&self, name: &str) {
        self.loaded.lock().unwrap().remove(name);
    }

    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> Result<ObjectPath<'static>, FakeError> {
        match pid {
            42 => Ok(ObjectPath::try_from(A).unwrap()),
            _ => Err(FakeError::NoSuchUnit("PID does not belong to any loaded unit.".to_owned())),
        }
    }

    #[zbus(signal)]
    async fn unit_new(emitter: &SignalEmitter<'_>, id: &str, unit: ObjectPath<'_>) -> zbus::Result<()>;
    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
    #[zbus(signal)]
    async fn reloading(emitter: &SignalEmitter<'_>, active: bool) -> zbus::Result<()>;
}

#[derive(Default)]
struct FakeUnit {
    masked: bool,
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl FakeUnit {
    #[zbus(property)]
    fn id(&self) -> &str {
        "a.service"
    }
    #[zbus(property)]
    fn load_state(&self) -> &str {
        if self.masked { "masked" } else { "loaded" }
    }
    #[zbus(property)]
    fn active_state(&self) -> &str {
        "inactive"
    }
    #[zbus(property)]
    fn fragment_path(&self) -> &str {
        "/etc/systemd/system/a.service"
    }
    #[zbus(property)]
    fn drop_in_paths(&self) -> Vec<&str> {
        vec!["/etc/systemd/system/service.d/10.conf", "/run/systemd/system/a.service.d/20.conf"]
    }
    #[zbus(property)]
    fn transient(&self) -> bool {
        false
    }
    #[zbus(property)]
    fn need_daemon_reload(&self) -> bool {
        true
    }
    #[zbus(property)]
    fn job(&self) -> (u32, ObjectPath<'_>) {
        (7, ObjectPath::try_from(JOB).unwrap())
    }
}

/// As shown by systemd before 253: without `ControlGroupId`.
struct FakeService;

#[interface(name = "org.freedesktop.systemd1.Service")]
impl FakeService {
    #[zbus(property)]
    fn slice(&self) -> &str {
        "system.slice"
    }
    #[zbus(property)]
    fn control_group(&self) -> &str {
        ""
    }
}

struct FakeJob;

#[interface(name = "org.freedesktop.systemd1.Job")]
impl FakeJob {
    #[zbus(property)]
    fn job_type(&self) -> &str {
        "restart"
    }
}

async fn pair(masked: bool) -> (Connection, SystemdClient) {
    pair_with(masked, Arc::default()).await
}

/// Queries about units whose name begins with "slow" are answered when `patience` is notified.
pub(in crate::systemd) async fn pair_with(
    masked: bool,
    patience: Arc<Notify>,
) -> (Connection, SystemdClient) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    there.set_nonblocking(true).unwrap();
    let server = connection::Builder::unix_stream(here)
        .server(Guid::generate())
        .p2p()
        .serve_at("/org/freedesktop/systemd1", FakeManager { patience, ..FakeManager::default() })
        .serve_at(A, FakeUnit { masked })
        .serve_at(A, FakeService)
        .serve_at(JOB, FakeJob)
        .build();
    let client = connection::Builder::unix_stream(there).p2p().build();
    let (server, client) = tokio::try_join!(server, client).unwrap();
    let systemd = SystemdClient::connect(&client).await.unwrap();
    (server, systemd)
}

pub(in crate::systemd) fn unit(name: &str) -> UnitName {
    UnitName::parse(name).unwrap()
}

#[tokio::test]
async fn unloaded_unit_is_described_and_unreferenced() {
    let (_server, systemd) = pair(false).await;
    let a = unit("a.service");
    assert_eq!(systemd.unit(&a).await.unwrap(), None);
    let info = systemd.load(&a).await.unwrap().unwrap();
    assert_eq!(systemd.unit(&a).await.unwrap(), None);
    assert_eq!(info.name, a);
    assert_eq!(info.fragment.as_deref(), Some(Path::new("/etc/systemd/system/a.service")));
    assert_eq!((info.drop_ins.len(), info.needs_daemon_reload), (2, true));
    assert_eq!(info.active, ActiveState::Inactive);
    assert_eq!((&info.control_group, info.control_group_id), (&None, None));
    assert_eq!(info.expected_cgroup().unwrap().as_str(), "/system.slice/a.service");
}

#[tokio::test]
async fn load_signals_of_queries_are_ignored_jobs_are_not() {
    let (server, systemd) = pair(false).await;
    let mut events = subscribe(&systemd).await.unwrap();
    let emitter = SignalEmitter::new(&server, "/org/freedesktop/systemd1").unwrap();
    systemd.load(&unit("a.service")).await.unwrap();
    let path = || ObjectPath::try_from(A).unwrap();
    FakeManager::unit_new(&emitter, "a.service", path()).await.unwrap();
    FakeManager::job_removed(&emitter, 7, path(), "b.service", "done").await.unwrap();
    assert_eq!(events.next().await, Some(Event::JobDone(unit("b.service"))));
}

#[tokio::test]
async fn an_alias_is_described_under_the_units_own_name() {
    let (_server, systemd) = pair(false).await;
    assert_eq!(systemd.load(&unit("alias.service")).await.unwrap().unwrap().name, unit("a.service"));
}

#[tokio::test]
async fn templates_and_masked_units_are_no_units() {
    let (_server, systemd) = pair(true).await;
    assert_eq!(systemd.load(&unit("x@.service")).await.unwrap(), None);
    assert_eq!(systemd.load(&unit("masked.service")).await.unwrap(), None);
    assert_eq!(systemd.load(&unit("a.service")).await.unwrap(), None);
}

#[tokio::test]
async fn candidates_are_found_units_and_loaded_matches() {
    use crate::systemd::Pattern;
    let (_server, systemd) = pair(false).await;
    let discovery = PolicyUnits {
        units: [unit("c.service")].into(),
        patterns: [Pattern::DropInDir("libpod-.scope.d".to_owned())].into(),
        ..PolicyUnits::default()
    };
    let candidates = systemd.candidates(&discovery).await.unwrap();
    assert_eq!(candidates, [unit("c.service"), unit("libpod-1.scope")].into());
}

#[tokio::test]
async fn own_job_type_distinguishes_restart_from_stop() {
    let (_server, systemd) = pair(false).await;
    assert_eq!(systemd.own_job_type(42).await.as_deref(), Some("restart"));
    assert_eq!(systemd.own_job_type(43).await, None);
}

#[tokio::test]
async fn signals_of_units_without_policy_are_ignored() {
    let (server, systemd) = pair(false).await;
    let mut events = subscribe(&systemd).await.unwrap();
    let emitter = SignalEmitter::new(&server, "/org/freedesktop/systemd1").unwrap();
    let path = || ObjectPath::try_from(A).unwrap();
    FakeManager::unit_new(&emitter, "dev-sda.device", path()).await.unwrap();
    FakeManager::unit_new(&emitter, "a.service", path()).await.unwrap();
    assert_eq!(events.next().await, Some(Event::UnitChanged(unit("a.service"))));
    FakeManager::job_removed(&emitter, 7, path(), "a.service", "done").await.unwrap();
    assert_eq!(events.next().await, Some(Event::JobDone(unit("a.service"))));
    FakeManager::reloading(&emitter, true).await.unwrap();
    FakeManager::unit_new(&emitter, "a.service", path()).await.unwrap();
    FakeManager::reloading(&emitter, false).await.unwrap();
    assert_eq!(events.next().await, Some(Event::RescanRequired));
    drop(emitter);
    server.close().await.unwrap();
    assert_eq!(events.next().await, Some(Event::ManagerLost));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn full_event_queue_becomes_rescan() {
    let (server, systemd) = pair(false).await;
    let mut events = subscribe(&systemd).await.unwrap();
    let emitter = SignalEmitter::new(&server, "/org/freedesktop/systemd1").unwrap();
    for n in 0..1000 {
        let path = ObjectPath::try_from(A).unwrap();
        FakeManager::job_removed(&emitter, 7, path, &format!("u{n}.service"), "done").await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut rescans = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(300), events.next()).await {
        rescans += usize::from(event == Event::RescanRequired);
    }
    assert_eq!((rescans, events.dropped() > 0), (1, true));
}
