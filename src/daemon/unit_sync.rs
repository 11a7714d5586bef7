//! systemd's side: which units carry a policy, by their files; looked at again whenever systemd says that something
//! may have changed. systemd's answer has the last word over what records say.

use zbus::Connection;

use super::eligibility::{no_memory_controller, not_allowed};
use super::state::Daemon;
use crate::cgroup::mount;
use crate::engine::Input;
use crate::names::{CgroupId, CgroupPath, UnitName};
use crate::source::unit_policy::{unit_policy, unit_slice};
use crate::systemd::{Answer, Event, Events, Systemd, SystemdError, UnitFiles, UnitInfo, read_unit_files};

/// Finds systemd and subscribes to what it tells.
pub async fn connect(connection: Connection) -> Result<(Systemd, Events), SystemdError> {
    let systemd = Systemd::connect(&connection).await?;
    let events = systemd.events().await?;
    Ok((systemd, events))
}

impl Daemon {
    /// Looks at everything again: at start and after daemon-reload. The answers come one by one.
    pub async fn rescan(&mut self) {
        self.drop_removed().await;
        if let Some(queries) = &mut self.queries {
            queries.survey();
        }
    }

    /// Something that systemd was asked for.
    pub async fn systemd_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Searched(found) => {
                found.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                // From here on new cgroups are told of: what comes into being while systemd lists is not missed.
                self.apply(Input::ReportAllCgroups(found.discovery.wants_announcements())).await;
                self.policy_units = found.discovery;
                let before = std::mem::replace(&mut self.unit_index, found.files);
                self.register_from_files(&before).await;
                // Units that had a policy and may have lost it.
                let known = self.engine.units();
                if let Some(queries) = &mut self.queries {
                    queries.ask_for_all(&self.policy_units, known);
                }
            }
            Answer::Unit(info) => self.handle_unit_info(&info).await,
            Answer::NoSuchUnit(unit) if self.changed_since_reload.contains(&unit) => {}
            Answer::NoSuchUnit(unit) => {
                tracing::debug!("{unit}: systemd knows of none");
                self.apply(Input::UnitUnloaded(unit)).await;
            }
            Answer::Failed(error) => tracing::warn!("{error}"),
            // The loop says READY.
            Answer::Surveyed => {}
        }
    }

    /// Registers for the next start of units what their files say now: systemd may read them, and start a unit, in one
    /// breath. What runs is left alone until systemd has read them.
    async fn register_from_files(&mut self, before: &UnitFiles) {
        let units: Vec<UnitName> = self.policy_units.units.union(&self.engine.units()).cloned().collect();
        for unit in units {
            let forecast = self.unit_index.forecast(&unit);
            if !before.is_empty() && forecast != before.forecast(&unit) {
                self.changed_since_reload.insert(unit.clone());
            }
            let Some(info) = forecast else { continue };
            // What is wrong in them is told when systemd has read them.
            let (files, _) = read_unit_files(&info);
            let (request, _) = unit_policy(&unit, &files, &self.specifiers);
            let path = match unit_slice(&unit, &files, &self.specifiers) {
                Some(slice) => Some(unit.cgroup_path_in(&slice)),
                None => self.engine.registered(&unit).cloned().or_else(|| info.expected_cgroup()),
            };
            let Some(path) = path else { continue };
            let request = request.filter(|_| not_allowed(&path).is_none());
            tracing::debug!("{unit} by its files as they are now: a policy: {}", request.is_some());
            self.apply(Input::Unit { unit, path, cgroup: None, request }).await;
        }
    }

    /// One of systemd's events.
    pub async fn systemd_event(&mut self, event: Event) {
        tracing::debug!("systemd: {event:?}");
        self.drop_removed().await;
        match event {
            Event::UnitChanged(unit) | Event::JobDone(unit) => {
                // A busy machine starts units all the time, and each look is a dozen questions to PID 1.
                if self.policy_units.concerns(&unit) || self.engine.units().contains(&unit) {
                    self.query(&unit);
                }
            }
            // Not "stopped": the cgroup's own end tells that. Files on disk may still name the unit.
            Event::UnitGone(unit) => {
                self.running_at_reload.remove(&unit);
                // Instances and transient units are found again when they come again.
                if !self.policy_units.units.contains(&unit) && !self.is_running(&unit) {
                    self.apply(Input::UnitUnloaded(unit)).await;
                }
            }
            Event::Reloaded => {
                self.running_at_reload.clear();
                self.changed_since_reload.clear();
                self.rescan().await;
            }
            Event::ManagerLost => tracing::warn!("systemd left the bus; waiting for it to return"),
        }
    }

    /// A cgroup appeared that no registration named: does one of the patterns match its unit?
    pub async fn cgroup_created(&mut self, path: &CgroupPath) {
        // System units live below slices only; anybody may make a cgroup called like a unit elsewhere.
        let below_slices = path.parent().is_some_and(|p| p.components().all(|c| c.ends_with(".slice")));
        if !below_slices {
            return;
        }
        // systemd puts a '_' before names that would clash with a cgroup's files.
        let name = path.file_name();
        if let Ok(unit) = UnitName::parse(name.strip_prefix('_').unwrap_or(name))
            && self.policy_units.concerns(&unit)
        {
            self.query(&unit);
        }
    }

    /// Looks at a unit again, if systemd has it loaded. What was registered for one that is not stands.
    fn query(&mut self, unit: &UnitName) {
        if let Some(queries) = &mut self.queries {
            queries.look_at(unit);
        }
    }

    /// Reads the unit's files in systemd's order and tells the engine. Files that systemd has not read yet count for the
    /// unit's next start.
    async fn handle_unit_info(&mut self, info: &UnitInfo) {
        let Some(path) = info.expected_cgroup() else { return };
        // It says so of files that it knows; a drop-in directory that is new it may not have noticed.
        let stale = info.stale || self.changed_since_reload.contains(&info.name);
        let forecast = if stale { self.unit_index.forecast(&info.name) } else { None };
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
        let late = cgroup.filter(|id| ahead && !self.applier.has_binding(*id));
        self.apply(Input::Unit { unit: info.name.clone(), path, cgroup, request }).await;
        if late.is_some_and(|id| self.applier.has_binding(id)) {
            tracing::info!(
                OBJECT_SYSTEMD_UNIT = info.name.as_str(),
                "{} was running already when its policy came into force",
                info.name
            );
        }
    }

    fn is_running(&self, unit: &UnitName) -> bool {
        self.engine.report_all().iter().any(|r| r.cgroup_id != 0 && r.unit.as_deref() == Some(unit.as_str()))
    }

    /// A governed cgroup is gone. A transient unit ends with it, and so does its registration.
    pub async fn cgroup_removed(&mut self, cgroup: CgroupId) {
        let path = self.engine.path_of(cgroup);
        self.apply(Input::CgroupRemoved(cgroup)).await;
        if let Some(path) = path
            && self.transient.remove(&path)
            && let Some(unit) = self.engine.unit_at(&path)
        {
            self.apply(Input::UnitUnloaded(unit)).await;
        }
    }
}
