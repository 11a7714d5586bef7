//! A request: one policy line from one origin for one cgroup.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::PodName;

/// The origin of a request. The order is the precedence: for the same policy, the greatest origin wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A unit file or a drop-in.
    DropIn,
    /// An extended attribute on the cgroup.
    Xattr,
    /// A container annotation.
    Annotation,
    /// A user or program with administrator rights, over D-Bus.
    Operator,
}

/// The authority behind a request. It differs from the precedence: an annotation is more specific than a drop-in, but its
/// author has less authority. Actions of a lower authority never delay those of a higher one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// The owner of the cgroup, without privileges.
    #[default]
    Owner,
    /// The author of a container's annotations.
    Container,
    /// The author of unit files.
    UnitFile,
    /// An administrator.
    Administrator,
}

impl Origin {
    /// The authority behind requests of this origin.
    pub fn authority(self) -> Authority {
        match self {
            Origin::Xattr => Authority::Owner,
            Origin::Annotation => Authority::Container,
            Origin::DropIn => Authority::UnitFile,
            Origin::Operator => Authority::Administrator,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::DropIn => "drop-in",
            Origin::Xattr => "xattr",
            Origin::Annotation => "annotation",
            Origin::Operator => "operator",
        })
    }
}

/// A policy line from one origin for one cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The origin.
    pub origin: Origin,
    /// The location: `/etc/systemd/system/x.service.d/50-mem.conf:3`, `container 1f2e…`, `uid 0`.
    pub location: String,
    /// The policy line as written, with specifiers expanded.
    pub line: String,
    /// The container's id, for annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The names of the pod and of its container, for display only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// The unit's name, for drop-ins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}
