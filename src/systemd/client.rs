//! The connection to PID 1: queries about units.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zbus::names::{BusName, InterfaceName, OwnedUniqueName};
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, fdo};

use super::error::{NO_SUCH_UNIT, NOT_LOADABLE, NOT_REFERENCED, SystemdError, with_timeout};
use super::proxy::{CgroupPropertiesProxy, JobProxy, ManagerProxy, SYSTEMD, UnitProxy};
use super::search::{PolicyUnits, UNIT_PATH};
use super::{ActiveState, UnitInfo};
use crate::names::{CgroupPath, UnitKind, UnitName};

/// Time in which systemd announces the loading and unloading of units that a query loaded.
const LOAD_SIGNAL_WINDOW: Duration = Duration::from_secs(1);

/// A connection to PID 1 for queries.
#[derive(Debug, Clone)]
pub struct SystemdClient {
    connection: Connection,
    manager: ManagerProxy<'static>,
    ignore_load_signals_until: Arc<Mutex<Option<Instant>>>,
}

impl SystemdClient {
    /// Finds systemd on the bus of `connection`. Fails if it is not there.
    pub async fn connect(connection: &Connection) -> Result<Self, SystemdError> {
        let what = "its manager";
        let manager = ManagerProxy::builder(connection).cache_properties(CacheProperties::No).build();
        let manager = with_timeout(what, manager).await?;
        let systemd = SystemdClient {
            connection: connection.clone(),
            manager,
            ignore_load_signals_until: Arc::default(),
        };
        if connection.is_bus() && systemd.owner().await?.is_none() {
            return Err(SystemdError::Absent);
        }
        Ok(systemd)
    }

    /// Describes a loaded unit; `None` if it is not loaded, masked, or has no files.
    pub async fn unit(&self, name: &UnitName) -> Result<Option<UnitInfo>, SystemdError> {
        match with_timeout(name.as_str(), self.manager.get_unit(name.as_str())).await {
            Ok(_) => self.describe_with_ref(name).await,
            Err(error) if error.is_named(&[NO_SUCH_UNIT]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`SystemdClient::unit`], but loads the unit if necessary: for units that have not been started.
    pub async fn load(&self, name: &UnitName) -> Result<Option<UnitInfo>, SystemdError> {
        self.ignore_load_signals();
        let info = self.describe_with_ref(name).await;
        self.ignore_load_signals();
        info
    }

    /// The directories of unit files, in the order of systemd's search path.
    pub async fn unit_path(&self) -> Vec<PathBuf> {
        match with_timeout("its unit path", self.manager.unit_path()).await {
            Ok(path) if !path.is_empty() => path.into_iter().map(PathBuf::from).collect(),
            _ => UNIT_PATH.map(PathBuf::from).to_vec(),
        }
    }

    /// The units to query: those found in files, and loaded ones that match one of the patterns.
    pub async fn candidates(&self, discovery: &PolicyUnits) -> Result<BTreeSet<UnitName>, SystemdError> {
        let loaded = with_timeout("the list of units", self.manager.list_units()).await?;
        let mut units = discovery.units.clone();
        for row in loaded {
            if let Ok(unit) = UnitName::parse(&row.0)
                && discovery.may_have_policy(&unit)
            {
                units.insert(unit);
            }
        }
        Ok(units)
    }

    /// The type of the job queued for the unit that process `pid` belongs to: `restart` or `start` while the unit is
    /// being restarted, `stop` while it is being stopped, `None` without a job.
    pub async fn own_job_type(&self, pid: u32) -> Option<String> {
        let what = "our own job";
        let path = with_timeout(what, self.manager.get_unit_by_pid(pid)).await.ok()?;
        let unit = with_timeout(what, self.unit_at(&path)).await.ok()?;
        let (id, job) = with_timeout(what, unit.job()).await.ok()?;
        if id == 0 {
            return None;
        }
        let job = JobProxy::builder(&self.connection).path(job).cache_properties(CacheProperties::No).build();
        let job = with_timeout(what, job).await.ok()?;
        with_timeout(what, job.job_type()).await.ok()
    }

    /// The owner of systemd's bus name; `None` if systemd is not on the bus.
    pub(super) async fn owner(&self) -> Result<Option<OwnedUniqueName>, SystemdError> {
        if !self.connection.is_bus() {
            return Ok(None);
        }
        let owner = with_timeout("its bus name", async {
            let bus = fdo::DBusProxy::new(&self.connection).await?;
            match bus.get_name_owner(BusName::try_from(SYSTEMD)?).await {
                Ok(owner) => Ok(Some(owner)),
                Err(fdo::Error::NameHasNoOwner(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        owner.await
    }

    /// True while signals about loading and unloading may be caused by queries. Starts and stops are also signalled
    /// as jobs.
    pub(super) fn is_ignoring_load_signals(&self, now: Instant) -> bool {
        self.ignore_load_signals_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|until| now < until)
    }

    fn ignore_load_signals(&self) {
        *self.ignore_load_signals_until.lock().unwrap_or_else(PoisonError::into_inner) =
            Instant::now().checked_add(LOAD_SIGNAL_WINDOW);
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) async fn subscribe(&self) -> Result<(), SystemdError> {
        match with_timeout("its signals", self.manager.subscribe()).await {
            // The connection may have been subscribed before PID 1 re-executed itself.
            Err(error) if error.is_named(&["org.freedesktop.systemd1.AlreadySubscribed"]) => Ok(()),
            other => other,
        }
    }

    async fn unit_at(&self, path: &OwnedObjectPath) -> zbus::Result<UnitProxy<'static>> {
        UnitProxy::builder(&self.connection)
            .path(path.clone())
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }

    /// Describes a unit while holding a reference. Without one, systemd unloads an idle unit at once, and loads it
    /// again for each query.
    async fn describe_with_ref(&self, name: &UnitName) -> Result<Option<UnitInfo>, SystemdError> {
        let what = name.as_str();
        match with_timeout(what, self.manager.ref_unit(name.as_str())).await {
            Ok(()) => {}
            Err(error) if error.is_named(&NOT_LOADABLE) => return Ok(None),
            Err(error) => return Err(error),
        }
        let info = match with_timeout(what, self.manager.get_unit(name.as_str())).await {
            Ok(path) => self.describe(name, &path).await,
            Err(error) => Err(error),
        };
        match with_timeout(what, self.manager.unref_unit(name.as_str())).await {
            Ok(()) => info,
            // References are dropped by a daemon-reload.
            Err(error) if error.is_named(&NOT_REFERENCED) => info,
            Err(error) => Err(error),
        }
    }

    /// Reads the properties of one unit, with all calls in parallel.
    async fn describe(
        &self,
        asked: &UnitName,
        path: &OwnedObjectPath,
    ) -> Result<Option<UnitInfo>, SystemdError> {
        let what = asked.as_str();
        let interface = interface_of(asked.kind());
        let properties = with_timeout(what, async {
            CgroupPropertiesProxy::builder(&self.connection)
                .path(path.clone())
                .interface(InterfaceName::try_from(interface)?)
                .cache_properties(CacheProperties::No)
                .build()
                .await
        })
        .await?;
        let unit = with_timeout(what, self.unit_at(path)).await?;
        let (id, load_state, active, fragment, drop_ins, transient, needs_daemon_reload) =
            with_timeout(what, async {
                tokio::try_join!(
                    unit.id(),
                    unit.load_state(),
                    unit.active_state(),
                    unit.fragment_path(),
                    unit.drop_in_paths(),
                    unit.transient(),
                    unit.need_daemon_reload(),
                )
            })
            .await?;
        let (slice, control_group, control_group_id) = with_timeout(what, async {
            // The property does not exist before systemd 253. Other errors are ignored, so that the unit is still
            // described.
            let id = async { Ok::<_, zbus::Error>(properties.control_group_id().await.unwrap_or(0)) };
            tokio::try_join!(properties.slice(), properties.control_group(), id)
        })
        .await?;
        let active = ActiveState::parse(&active);
        let fileless = fragment.is_empty() && drop_ins.is_empty();
        if load_state == "masked" || (load_state == "not-found" && fileless && !active.may_run()) {
            return Ok(None);
        }
        Ok(Some(UnitInfo {
            name: UnitName::parse(&id).unwrap_or_else(|_| asked.clone()),
            active,
            fragment: (!fragment.is_empty()).then(|| PathBuf::from(fragment)),
            drop_ins: drop_ins.into_iter().map(PathBuf::from).collect(),
            slice: UnitName::parse(&slice).ok(),
            control_group: CgroupPath::parse(&control_group).ok(),
            control_group_id: (control_group_id != 0).then_some(control_group_id),
            transient,
            needs_daemon_reload,
        }))
    }
}

fn interface_of(kind: UnitKind) -> &'static str {
    match kind {
        UnitKind::Service => "org.freedesktop.systemd1.Service",
        UnitKind::Slice => "org.freedesktop.systemd1.Slice",
        UnitKind::Scope => "org.freedesktop.systemd1.Scope",
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
pub(super) mod tests;
