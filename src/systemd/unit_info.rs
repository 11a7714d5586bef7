//! One unit as systemd knows it, reduced to what decides about its cgroup and its policy. No I/O.

use std::path::PathBuf;

use crate::names::{CgroupPath, UnitKind, UnitName};

/// systemd's `ActiveState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    /// Running, or done with `RemainAfterExit=`.
    Active,
    /// Re-reading its configuration, still running.
    Reloading,
    /// Mounting or refreshing something while it runs (newer systemd).
    Refreshing,
    /// Being started: its cgroup may exist already.
    Activating,
    /// Being stopped: its cgroup may still exist.
    Deactivating,
    /// Not running.
    Inactive,
    /// Not running, and it ended badly.
    Failed,
    /// A state this version does not know.
    Other,
}

impl ActiveState {
    /// Reads systemd's word.
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

    /// True when processes of the unit may exist. Unknown states count: looking once too often does no harm.
    pub fn may_run(self) -> bool {
        !matches!(self, Self::Inactive | Self::Failed)
    }
}

/// One unit: its files, and the cgroup it has or will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitInfo {
    /// The unit's own name (`Id`), also where it was asked for under an alias.
    pub name: UnitName,
    /// Running or not.
    pub active: ActiveState,
    /// The unit file; `None` for units without one (implicit slices).
    pub fragment: Option<PathBuf>,
    /// Drop-ins in the order systemd applies them, masked ones already gone.
    pub drop_ins: Vec<PathBuf>,
    /// The slice it is or will be in; `None` for `-.slice`.
    pub slice: Option<UnitName>,
    /// The cgroup it has now; `None` until systemd realised it.
    pub control_group: Option<CgroupPath>,
    /// The cgroup's id; `None` without a cgroup, and on systemd before 253.
    pub control_group_id: Option<u64>,
    /// Made at run time (`systemd-run`, scopes), without a file of its own in the search path.
    pub transient: bool,
    /// Its files have changed since systemd read them: systemd goes by the old ones until daemon-reload.
    pub needs_daemon_reload: bool,
}

impl UnitInfo {
    /// True when processes of the unit may exist.
    pub fn may_run(&self) -> bool {
        self.active.may_run()
    }

    /// The cgroup the unit has or will have: what systemd says, else slice path and escaped unit name. `None` for
    /// the root slice, and when the slice is not known.
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
