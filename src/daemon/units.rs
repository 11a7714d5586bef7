//! systemd's side: which units carry a policy, by their files; looked at again whenever systemd says that something
//! may have changed. systemd's answer has the last word over what records say.

use std::path::Path;

use zbus::Connection;

use super::requests::{forbidden, uncontrolled};
use super::state::Daemon;
use crate::cgroup::mount;
use crate::engine::Input;
use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::source::specifier::Specifiers;
use crate::source::unit_policy::{unit_policy, unit_slice};
use crate::systemd::{
    Event, Events, Reply, SystemdClient, SystemdError, UnitFileIndex, UnitInfo, read_unit_files, subscribe,
};

/// What specifiers stand for on this machine.
pub fn specifiers() -> Specifiers {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default().trim().to_owned();
    Specifiers {
        hostname: read("/proc/sys/kernel/hostname"),
        machine_id: read("/etc/machine-id"),
        boot_id: read("/proc/sys/kernel/random/boot_id").replace('-', ""),
        kernel_release: read("/proc/sys/kernel/osrelease"),
    }
}

/// Finds systemd and subscribes to what it tells.
pub async fn meet(connection: Connection) -> Result<(SystemdClient, Events), SystemdError> {
    let systemd = SystemdClient::connect(&connection).await?;
    let events = subscribe(&systemd).await?;
    Ok((systemd, events))
}

impl Daemon {
    /// Looks at everything again: at start and after daemon-reload. The answers come one by one.
    pub async fn rescan(&mut self) {
        self.sweep().await;
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.full_scan();
        }
    }

    /// Something that systemd was asked for.
    pub async fn systemd_answer(&mut self, answer: Reply) {
        match answer {
            Reply::FilesScanned(found) => {
                found.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                // From here on new cgroups are told of: what comes into being while systemd lists is not missed.
                self.apply(Input::ReportAllCgroups(found.discovery.needs_all_cgroup_events())).await;
                self.discovery = found.discovery;
                let before = std::mem::replace(&mut self.unit_files, found.files);
                self.foresee(&before).await;
                // Units that had a policy and may have lost it.
                let known = self.world.units();
                if let Some(inquiry) = &mut self.inquiry {
                    inquiry.query_all(&self.discovery, known);
                }
            }
            Reply::Unit(info) => self.read(&info).await,
            Reply::NoSuchUnit(unit) if self.unread.contains(&unit) => {}
            Reply::NoSuchUnit(unit) => {
                tracing::debug!("{unit}: systemd knows of none");
                self.apply(Input::UnitUnloaded(unit)).await;
            }
            Reply::Failed(error) => tracing::warn!("{error}"),
            // The loop says READY.
            Reply::ScanComplete => {}
        }
    }

    /// Registers for the next start of units what their files say now: systemd may read them, and start a unit, in one
    /// breath. What runs is left alone until systemd has read them.
    async fn foresee(&mut self, before: &UnitFileIndex) {
        let units: Vec<UnitName> = self.discovery.units.union(&self.world.units()).cloned().collect();
        for unit in units {
            let forecast = self.unit_files.resolve(&unit);
            if !before.is_empty() && forecast != before.resolve(&unit) {
                self.unread.insert(unit.clone());
            }
            let Some(info) = forecast else { continue };
            // What is wrong in them is told when systemd has read them.
            let (files, _) = read_unit_files(&info);
            let (request, _) = unit_policy(&unit, &files, &self.specifiers);
            let path = match unit_slice(&unit, &files, &self.specifiers) {
                Some(slice) => Some(unit.cgroup_path_in(&slice)),
                None => self.world.registered(&unit).cloned().or_else(|| info.expected_cgroup()),
            };
            let Some(path) = path else { continue };
            let request = request.filter(|_| forbidden(&path).is_none());
            tracing::debug!("{unit} by its files as they are now: a policy: {}", request.is_some());
            self.apply(Input::Unit { unit, path, cgroup: None, request }).await;
        }
    }

    /// One of systemd's events.
    pub async fn systemd_event(&mut self, event: Event) {
        tracing::debug!("systemd: {event:?}");
        self.sweep().await;
        match event {
            Event::UnitChanged(unit) | Event::JobDone(unit) => {
                // A busy machine starts units all the time, and each look is a dozen questions to PID 1.
                if self.discovery.may_have_policy(&unit) || self.world.units().contains(&unit) {
                    self.look_at(&unit);
                }
            }
            // Not "stopped": the cgroup's own end tells that. Files on disk may still name the unit.
            Event::UnitRemoved(unit) => {
                self.seen_running.remove(&unit);
                // Instances and transient units are found again when they come again.
                if !self.discovery.units.contains(&unit) && !self.runs(&unit) {
                    self.apply(Input::UnitUnloaded(unit)).await;
                }
            }
            Event::RescanRequired => {
                self.seen_running.clear();
                self.unread.clear();
                self.rescan().await;
            }
            Event::ManagerLost => tracing::warn!("systemd left the bus; waiting for it to return"),
        }
    }

    /// A cgroup appeared that no registration named: does one of the patterns match its unit?
    pub async fn cgroup_appeared(&mut self, path: &CgroupPath) {
        // System units live below slices only; anybody may make a cgroup called like a unit elsewhere.
        let below_slices = path.parent().is_some_and(|p| p.components().all(|c| c.ends_with(".slice")));
        if !below_slices {
            return;
        }
        // systemd puts a '_' before names that would clash with a cgroup's files.
        let name = path.file_name();
        if let Ok(unit) = UnitName::parse(name.strip_prefix('_').unwrap_or(name))
            && self.discovery.may_have_policy(&unit)
        {
            self.look_at(&unit);
        }
    }

    /// Looks at a unit again, if systemd has it loaded. What was registered for one that is not stands.
    fn look_at(&mut self, unit: &UnitName) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.query(unit);
        }
    }

    /// Reads the unit's files in systemd's order and tells the engine. Files that systemd has not read yet count for the
    /// unit's next start.
    async fn read(&mut self, info: &UnitInfo) {
        let Some(path) = info.expected_cgroup() else { return };
        // It says so of files that it knows; a drop-in directory that is new it may not have noticed.
        let stale = info.needs_daemon_reload || self.unread.contains(&info.name);
        let forecast = if stale { self.unit_files.resolve(&info.name) } else { None };
        let (files, mut warnings) = read_unit_files(forecast.as_ref().unwrap_or(info));
        let (request, said) = unit_policy(&info.name, &files, &self.specifiers);
        warnings.extend(said);
        for warning in warnings {
            tracing::warn!(OBJECT_SYSTEMD_UNIT = info.name.as_str(), "{warning}");
        }
        let cgroup = info
            .control_group_id
            .filter(|id| *id != 0)
            .map(CgroupId)
            .or_else(|| mount::cgroup_id(&path).ok());
        // systemd may answer with a cgroup that is gone by now.
        let cgroup = cgroup.filter(|id| mount::cgroup_id(&path).ok() == Some(*id));
        tracing::debug!(
            "{} by systemd: {:?}, cgroup {cgroup:?}, a policy: {}, files not read yet: {stale}",
            info.name,
            info.active,
            request.is_some()
        );
        let request = request.filter(|_| {
            let why = forbidden(&path).or_else(|| cgroup.and_then(|_| uncontrolled(&path)));
            if let Some(sentence) = &why {
                tracing::warn!(OBJECT_SYSTEMD_UNIT = info.name.as_str(), "{sentence}");
            }
            why.is_none()
        });
        let before = match cgroup {
            Some(id) => self.seen_running.insert(info.name.clone(), id),
            None => self.seen_running.remove(&info.name),
        };
        let cgroup = cgroup.filter(|id| !stale || before != Some(*id));
        if info.transient && request.is_some() {
            self.transient.insert(path.clone());
        }
        let ahead = !info.transient && request.is_some();
        let late = cgroup.filter(|id| ahead && !self.hands.governs(*id));
        self.apply(Input::Unit { unit: info.name.clone(), path, cgroup, request }).await;
        if late.is_some_and(|id| self.hands.governs(id)) {
            tracing::info!(
                OBJECT_SYSTEMD_UNIT = info.name.as_str(),
                "{} was running already when its policy came into force",
                info.name
            );
        }
    }

    fn runs(&self, unit: &UnitName) -> bool {
        self.world.report_all().iter().any(|r| r.cgroup_id != 0 && r.unit.as_deref() == Some(unit.as_str()))
    }

    /// A governed cgroup is gone. A transient unit ends with it, and so does its registration.
    pub async fn cgroup_gone(&mut self, cgroup: CgroupId) {
        let path = self.world.path_of(cgroup);
        self.apply(Input::CgroupRemoved(cgroup)).await;
        if let Some(path) = path
            && self.transient.remove(&path)
            && let Some(unit) = self.world.unit_at(&path)
        {
            self.apply(Input::UnitUnloaded(unit)).await;
        }
    }
}
