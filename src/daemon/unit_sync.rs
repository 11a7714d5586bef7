//! Synchronizes the engine with systemd: units with a policy are queried again when their files or their state may
//! have changed. The reply of systemd has precedence over records.

use std::collections::{BTreeMap, BTreeSet};

use zbus::Connection;

use super::eligibility::{no_memory_controller, not_allowed};
use super::state::Daemon;
use crate::bpf::Event as KernelEvent;
use crate::cgroup::mount;
use crate::engine::Input;
use crate::names::{CgroupId, CgroupPath, CgroupRef, UnitName};
use crate::source::specifier::Specifiers;
use crate::source::unit_policy::read_unit;
use crate::systemd::{
    Event, Events, PolicyUnits, Reply, SystemdClient, SystemdError, UnitFileIndex, UnitInfo, UnitQueries,
    read_unit_files, subscribe,
};

/// Connects to systemd and subscribes to its signals.
pub async fn connect(connection: Connection) -> Result<(SystemdClient, Events), SystemdError> {
    let systemd = SystemdClient::connect(&connection).await?;
    let events = subscribe(&systemd).await?;
    Ok((systemd, events))
}

/// The units that have a policy, by their files and by systemd's replies.
pub struct UnitSync {
    /// Queries to systemd, once it is connected.
    pub queries: Option<UnitQueries>,
    policy_units: PolicyUnits,
    /// Unit files as of the last search. systemd may not have read them yet.
    unit_index: UnitFileIndex,
    /// Units whose files have changed since the last daemon-reload: the file list of systemd may be outdated.
    changed_since_reload: BTreeSet<UnitName>,
    /// Units that ran when systemd last reported them, since the last daemon-reload.
    running_at_reload: BTreeMap<UnitName, CgroupId>,
    specifiers: Specifiers,
    /// Paths of transient units with a policy.
    transient: BTreeSet<CgroupPath>,
}

impl UnitSync {
    /// No units yet.
    pub fn new(specifiers: Specifiers) -> Self {
        UnitSync {
            queries: None,
            policy_units: PolicyUnits::default(),
            unit_index: UnitFileIndex::default(),
            changed_since_reload: BTreeSet::new(),
            running_at_reload: BTreeMap::new(),
            specifiers,
            transient: BTreeSet::new(),
        }
    }

    /// systemd is connected: queries all units.
    pub async fn connected(&mut self, daemon: &mut Daemon, systemd: SystemdClient) {
        self.queries = Some(UnitQueries::new(systemd));
        self.rescan(daemon).await;
    }

    /// True if every unit that was found at the start is handled.
    pub fn first_scan_done(&self) -> bool {
        self.queries.as_ref().is_none_or(UnitQueries::first_scan_done)
    }

    /// Scans all units: at the start and after daemon-reload. The replies arrive one by one.
    pub async fn rescan(&mut self, daemon: &mut Daemon) {
        daemon.drop_removed().await;
        if let Some(queries) = &mut self.queries {
            queries.full_scan();
        }
    }

    /// Handles a reply to a query.
    pub async fn systemd_answer(&mut self, daemon: &mut Daemon, answer: Reply) {
        match answer {
            Reply::FilesScanned(found) => {
                found.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                // From here on, all new cgroups are reported, so that those created during the listing of units are
                // not missed.
                daemon.apply(Input::ReportAllCgroups(found.discovery.needs_all_cgroup_events())).await;
                self.policy_units = found.discovery;
                let before = std::mem::replace(&mut self.unit_index, found.files);
                self.register_from_files(daemon, &before).await;
                // Units that had a policy before are queried too.
                let known = daemon.engine.units();
                if let Some(queries) = &mut self.queries {
                    queries.query_all(&self.policy_units, known);
                }
            }
            Reply::Unit(info) => self.handle_unit_info(daemon, &info).await,
            Reply::NoSuchUnit(unit) if self.changed_since_reload.contains(&unit) => {}
            Reply::NoSuchUnit(unit) => {
                tracing::debug!("{unit}: not loaded by systemd");
                daemon.apply(Input::UnitUnloaded(unit)).await;
            }
            Reply::Failed(error) => tracing::warn!("{error}"),
            // The loop notifies systemd.
            Reply::ScanComplete => {}
        }
    }

    /// Registers units by their files on disk, for their next start, because systemd may read the files and start the
    /// unit in one operation. Running units are handled after systemd has read the files.
    async fn register_from_files(&mut self, daemon: &mut Daemon, before: &UnitFileIndex) {
        let units: Vec<UnitName> = self.policy_units.units.union(&daemon.engine.units()).cloned().collect();
        for unit in units {
            let forecast = self.unit_index.resolve(&unit);
            if !before.is_empty() && forecast != before.resolve(&unit) {
                self.changed_since_reload.insert(unit.clone());
            }
            let Some(info) = forecast else { continue };
            // Errors in the files are logged after systemd has read them.
            let (files, _) = read_unit_files(&info);
            let reading = read_unit(&unit, &files, &self.specifiers);
            let path = match &reading.slice {
                Some(slice) => Some(unit.cgroup_path_in(slice)),
                None => daemon.engine.registered(&unit).cloned().or_else(|| info.expected_cgroup()),
            };
            let Some(path) = path else { continue };
            let request = reading.request.filter(|_| not_allowed(&path).is_none());
            tracing::debug!("{unit}: read from its files; policy: {}", request.is_some());
            daemon.apply(Input::Unit { unit, path, cgroup: None, request }).await;
        }
    }

    /// Handles an event of systemd.
    pub async fn systemd_event(&mut self, daemon: &mut Daemon, event: Event) {
        tracing::debug!("systemd: {event:?}");
        daemon.drop_removed().await;
        match event {
            Event::UnitChanged(unit) | Event::JobDone(unit) => {
                // Other units are ignored: units start all the time, and each query takes a dozen calls to PID 1.
                if self.policy_units.may_have_policy(&unit) || daemon.engine.units().contains(&unit) {
                    self.query(&unit);
                }
            }
            // The unit was unloaded; the removal of its cgroup is reported separately. Files on disk may still name
            // the unit.
            Event::UnitRemoved(unit) => {
                self.running_at_reload.remove(&unit);
                // Instances and transient units are found again at their next start.
                if !self.policy_units.units.contains(&unit) && !is_running(daemon, &unit) {
                    daemon.apply(Input::UnitUnloaded(unit)).await;
                }
            }
            Event::RescanRequired => {
                self.running_at_reload.clear();
                self.changed_since_reload.clear();
                self.rescan(daemon).await;
            }
            Event::ManagerLost => tracing::warn!("systemd is not on the system bus; waiting for its return"),
        }
    }

    /// Queries the unit of a new, unregistered cgroup, if it may have a policy.
    pub fn cgroup_created(&mut self, path: &CgroupPath) {
        // Cgroups of system units are below slices only. Elsewhere, other programs choose the names.
        let below_slices = path.parent().is_some_and(|p| p.components().all(|c| c.ends_with(".slice")));
        if !below_slices {
            return;
        }
        // systemd prefixes '_' to names that would conflict with cgroup files.
        let name = path.file_name();
        if let Ok(unit) = UnitName::parse(name.strip_prefix('_').unwrap_or(name))
            && self.policy_units.may_have_policy(&unit)
        {
            self.query(&unit);
        }
    }

    /// Queries a unit, if systemd has loaded it. The registration of a unit that is not loaded is kept.
    fn query(&mut self, unit: &UnitName) {
        if let Some(queries) = &mut self.queries {
            queries.query(unit);
        }
    }

    /// Reads the unit's files in systemd's order and passes the request to the engine. Files that systemd has not
    /// read yet apply to the next start of the unit.
    async fn handle_unit_info(&mut self, daemon: &mut Daemon, info: &UnitInfo) {
        let Some(path) = info.expected_cgroup() else {
            if info.name.is_root_slice() {
                self.warn_of_root_slice(info);
            }
            return;
        };
        // It says so of files that it knows; a drop-in directory that is new it may not have noticed.
        let stale = info.needs_daemon_reload || self.changed_since_reload.contains(&info.name);
        let forecast = if stale { self.unit_index.resolve(&info.name) } else { None };
        let (files, mut warnings) = read_unit_files(forecast.as_ref().unwrap_or(info));
        let reading = read_unit(&info.name, &files, &self.specifiers);
        warnings.extend(reading.warnings);
        for warning in warnings {
            tracing::warn!(OBJECT_SYSTEMD_UNIT = info.name.as_str(), "{warning}");
        }
        let cgroup = info
            .control_group_id
            .filter(|id| *id != 0)
            .map(CgroupId)
            .or_else(|| mount::cgroup_id(&path).ok());
        // The cgroup in systemd's reply may have been removed.
        let cgroup = cgroup.filter(|id| mount::cgroup_id(&path).ok() == Some(*id));
        tracing::debug!(
            "{}: reported by systemd: {:?}, cgroup {cgroup:?}, policy: {}, needs daemon-reload: {stale}",
            info.name,
            info.active,
            reading.request.is_some()
        );
        let request = reading.request.filter(|_| {
            let why = not_allowed(&path).or_else(|| cgroup.and_then(|_| no_memory_controller(&path)));
            if let Some(sentence) = &why {
                tracing::warn!(OBJECT_SYSTEMD_UNIT = info.name.as_str(), "{sentence}");
            }
            why.is_none()
        });
        let before = match cgroup {
            Some(id) => self.running_at_reload.insert(info.name.clone(), id),
            None => self.running_at_reload.remove(&info.name),
        };
        let cgroup = cgroup.filter(|id| !stale || before != Some(*id));
        if info.transient && request.is_some() {
            self.transient.insert(path.clone());
        }
        let ahead = !info.transient && request.is_some();
        let late = cgroup.filter(|id| ahead && !daemon.applier.has_binding(*id));
        daemon.apply(Input::Unit { unit: info.name.clone(), path, cgroup, request }).await;
        if late.is_some_and(|id| daemon.applier.has_binding(id)) {
            tracing::info!(
                OBJECT_SYSTEMD_UNIT = info.name.as_str(),
                "{} was already running when its policy was attached",
                info.name
            );
        }
    }

    /// The root cgroup has no policy, whatever its files say. Drop-ins for all slices do not mean it.
    fn warn_of_root_slice(&self, info: &UnitInfo) {
        let (mut files, _) = read_unit_files(info);
        files.retain(|(path, _)| path.contains("/-.slice"));
        let reading = read_unit(&info.name, &files, &self.specifiers);
        if let Some(request) = reading.request.filter(|request| request.line != "none") {
            tracing::warn!(
                OBJECT_SYSTEMD_UNIT = info.name.as_str(),
                "{}: ignoring '{}': the root cgroup cannot have a policy",
                request.location,
                request.line
            );
        }
    }

    /// A cgroup with a policy is removed. A transient unit ends with it, and so does its registration.
    pub async fn cgroup_removed(&mut self, daemon: &mut Daemon, cgroup: CgroupId) {
        let path = daemon.engine.path_of(cgroup);
        daemon.apply(Input::CgroupRemoved(cgroup)).await;
        if let Some(path) = path
            && self.transient.remove(&path)
            && let Some(unit) = daemon.engine.unit_at(&path)
        {
            daemon.apply(Input::UnitUnloaded(unit)).await;
        }
    }

    /// Handles the events of the kernel.
    pub async fn kernel_events(&mut self, daemon: &mut Daemon, events: Vec<KernelEvent>) {
        for event in events {
            match event {
                KernelEvent::Removed { cgroup } => self.cgroup_removed(daemon, cgroup).await,
                KernelEvent::Created { cgroup: id, path, bound } => {
                    let Ok(path) = CgroupPath::parse(&path) else { continue };
                    let cgroup = CgroupRef { id, path: path.clone() };
                    daemon.apply(Input::CgroupCreated { cgroup, bound }).await;
                    if !bound {
                        self.cgroup_created(&path);
                    }
                }
            }
        }
    }

    /// If the ring buffer was full, scans for the lost events.
    pub async fn events_lost(&mut self, daemon: &mut Daemon) {
        let lost = daemon.overflow.events(daemon.applier.events_dropped());
        if lost == 0 {
            return;
        }
        tracing::warn!(
            "{lost} events from the kernel were lost because a ring buffer was full; scanning all cgroups"
        );
        let all: Vec<CgroupRef> = daemon.engine.cgroups().collect();
        for CgroupRef { id, path } in all {
            if mount::cgroup_id(&path).ok() != Some(id) {
                self.cgroup_removed(daemon, id).await;
            }
        }
        self.rescan(daemon).await;
    }
}

fn is_running(daemon: &Daemon, unit: &UnitName) -> bool {
    daemon.engine.report_all().iter().any(|r| r.cgroup_id != 0 && r.unit.as_deref() == Some(unit.as_str()))
}
