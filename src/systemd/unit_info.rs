//! The properties of a unit that determine its cgroup and its policy. No I/O.

use std::path::PathBuf;

use crate::names::{CgroupPath, UnitKind, UnitName};

/// systemd's `ActiveState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    /// Running, or exited with `RemainAfterExit=`.
    Active,
    /// Reloading its configuration, still running.
    Reloading,
    /// Mounting or refreshing while it runs (newer systemd).
    Refreshing,
    /// Being started: its cgroup may exist already.
    Activating,
    /// Being stopped: its cgroup may still exist.
    Deactivating,
    /// Not running.
    Inactive,
    /// Not running, after a failure.
    Failed,
    /// An unknown state.
    Other,
}

impl ActiveState {
    /// Parses systemd's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "reloading" => Self::Reloading,
            "refreshing" => Self::Refreshing,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "inactive" => Self::Inactive,
            "failed" => Self::Failed,
            _ => Self::Other,
        }
    }

    /// True if processes of the unit may exist. Also true for unknown states, because a needless query does no harm.
    pub fn may_run(self) -> bool {
        !matches!(self, Self::Inactive | Self::Failed)
    }
}

/// One unit: its files, and its current or future cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitInfo {
    /// The unit's name (`Id`), also if it was queried by an alias.
    pub name: UnitName,
    /// The state.
    pub active: ActiveState,
    /// The unit file; `None` for units without one (implicit slices).
    pub fragment: Option<PathBuf>,
    /// Drop-ins in the order in which systemd applies them, without masked ones.
    pub drop_ins: Vec<PathBuf>,
    /// The current or future slice; `None` for `-.slice`.
    pub slice: Option<UnitName>,
    /// The current cgroup; `None` until systemd creates it.
    pub control_group: Option<CgroupPath>,
    /// The cgroup's id; `None` without a cgroup, and on systemd before 253.
    pub control_group_id: Option<u64>,
    /// True for a transient unit (`systemd-run`, scopes), which has no file in the search path.
    pub transient: bool,
    /// True if the files have changed since systemd read them; systemd uses the old ones until daemon-reload.
    pub needs_daemon_reload: bool,
}

impl UnitInfo {
    /// True if processes of the unit may exist.
    pub fn may_run(&self) -> bool {
        self.active.may_run()
    }

    /// The current or future cgroup of the unit: the one reported by systemd, else the path of the slice and the
    /// escaped unit name. `None` for the root slice, and if the slice is unknown.
    pub fn expected_cgroup(&self) -> Option<CgroupPath> {
        if let Some(path) = &self.control_group {
            return (!path.is_root()).then(|| path.clone());
        }
        let path = match self.name.kind() {
            UnitKind::Slice => self.name.slice_cgroup_path()?,
            UnitKind::Service | UnitKind::Scope => self.name.cgroup_path_in(self.slice.as_ref()?),
        };
        (!path.is_root()).then_some(path)
    }
}
