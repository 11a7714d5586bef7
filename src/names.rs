//! Names of cgroups, systemd units and containers: their syntax, not whether they exist.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::printable::{QUOTE_MAX, escape_line, quote};

mod container;
mod pod;
mod unit;

pub use container::{CONTAINER_ID_MAX, ContainerId};
pub use pod::PodName;
pub use unit::{ROOT_SLICE, UNIT_NAME_MAX, UnitName, unescape};

/// The 64-bit id of a cgroup (inode number with generation), which identifies it. The path may be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cgroup: its id, and the path at which it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupRef {
    /// Identifies the cgroup.
    pub id: CgroupId,
    /// May belong to another cgroup by now.
    pub path: CgroupPath,
}

impl fmt::Display for CgroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// The path of a cgroup below the cgroup2 mount: absolute, without empty, `.` or `..` components. `/` is the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Invalid cgroup path: the path, and the reason.
    #[error("'{0}' is not a cgroup path: {1}")]
    CgroupPath(String, &'static str),
    /// Invalid systemd unit name: the name, and the reason.
    #[error("'{0}' is not a systemd unit name: {1}")]
    UnitName(String, &'static str),
    /// Invalid container id: the id, and the reason.
    #[error("'{0}' is not a container id: {1}")]
    ContainerId(String, &'static str),
    /// Invalid name of a pod or of a container of a pod.
    #[error("'{0}' is not the name of a pod: NAMESPACE/POD or NAMESPACE/POD CONTAINER")]
    PodName(String),
}

/// Longest accepted cgroup path in bytes: PATH_MAX without the terminating zero.
pub const CGROUP_PATH_MAX: usize = 4095;

impl CgroupPath {
    /// The root cgroup, `/`.
    pub fn root() -> Self {
        CgroupPath("/".to_owned())
    }

    /// Parses `/a/b`; a trailing slash is dropped. Errors: a relative path, an empty, `.` or `..` component, a zero
    /// byte, a line feed (which the kernel rejects too), more than [`CGROUP_PATH_MAX`] bytes. Other control
    /// characters are allowed; [`fmt::Display`] escapes them.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fail = |why| Err(NameError::CgroupPath(quote(text, QUOTE_MAX), why));
        if text.len() > CGROUP_PATH_MAX {
            return fail("longer than 4095 bytes");
        }
        let Some(rest) = text.strip_prefix('/') else {
            return fail("it does not start with '/'");
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Ok(Self::root());
        }
        for component in rest.split('/') {
            if component.is_empty() || component == "." || component == ".." {
                return fail("it has an empty, '.' or '..' component");
            }
        }
        if rest.contains(['\0', '\n']) {
            return fail("it contains a zero byte or a line feed");
        }
        Ok(CgroupPath(format!("/{rest}")))
    }

    /// The path as text, always starting with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the root, `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// Distance from the root: 0 for `/`, 2 for `/a/b`.
    pub fn level(&self) -> usize {
        self.components().count()
    }

    /// The components, from the root down; none for `/`.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|c| !c.is_empty())
    }

    /// The last component; empty for `/`.
    pub fn file_name(&self) -> &str {
        self.components().next_back().unwrap_or("")
    }

    /// The parent cgroup; `None` for `/`.
    pub fn parent(&self) -> Option<Self> {
        let (head, tail) = self.0.rsplit_once('/')?;
        match (head, tail) {
            (_, "") => None,
            ("", _) => Some(Self::root()),
            _ => Some(CgroupPath(head.to_owned())),
        }
    }

    /// The child called `name`. Errors: `name` is not one component, or the path would be too long.
    pub fn join(&self, name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.contains('/') {
            return Err(NameError::CgroupPath(
                quote(name, QUOTE_MAX),
                "a child's name must be one component",
            ));
        }
        if self.is_root() {
            Self::parse(&format!("/{name}"))
        } else {
            Self::parse(&format!("{}/{name}", self.0))
        }
    }

    /// True if `self` is `top` or a descendant of it.
    pub fn is_within(&self, top: &CgroupPath) -> bool {
        top.is_root()
            || self
                .0
                .strip_prefix(top.0.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Users of containers choose names below their cgroup, which may contain control characters.
        f.write_str(&escape_line(&self.0))
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> String {
        path.0
    }
}

/// The kinds of systemd units that can have a memory policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKind {
    /// `.service`
    Service,
    /// `.slice`
    Slice,
    /// `.scope`
    Scope,
}

impl UnitKind {
    /// The suffix without the dot, which is also the name of the drop-in directory of the type (`service.d`).
    pub fn suffix(self) -> &'static str {
        match self {
            UnitKind::Service => "service",
            UnitKind::Slice => "slice",
            UnitKind::Scope => "scope",
        }
    }

    /// The section of `MemoryBPFPolicy=` in unit files of this kind.
    pub fn section(self) -> &'static str {
        match self {
            UnitKind::Service => "Service",
            UnitKind::Slice => "Slice",
            UnitKind::Scope => "Scope",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_are_escaped() {
        let none: Vec<String> = Vec::new();
        assert_eq!(crate::text::printable::passed(|text| quote(text, 80)), none);
        let path = |text: &str| CgroupPath(format!("/{text}")).to_string();
        assert_eq!(crate::text::printable::passed(path), none);
    }

    #[test]
    fn a_cgroup_path_has_no_way_up() {
        for (text, sentence) in [
            ("", "'' is not a cgroup path: it does not start with '/'"),
            ("a/b", "'a/b' is not a cgroup path: it does not start with '/'"),
            ("/a/../b", "'/a/../b' is not a cgroup path: it has an empty, '.' or '..' component"),
            ("/a//b", "'/a//b' is not a cgroup path: it has an empty, '.' or '..' component"),
            ("///", "'///' is not a cgroup path: it has an empty, '.' or '..' component"),
            ("/a\nb", "'/a\\nb' is not a cgroup path: it contains a zero byte or a line feed"),
        ] {
            assert_eq!(CgroupPath::parse(text).unwrap_err().to_string(), sentence);
        }
        let path = CgroupPath::parse("/a/b/").unwrap();
        assert_eq!((path.as_str(), path.level(), path.file_name()), ("/a/b", 2, "b"));
        for no_component in ["..", ".", "", "a/b", "/"] {
            assert!(path.join(no_component).is_err(), "{no_component}");
        }
        assert!(path.is_within(&CgroupPath::parse("/a").unwrap()));
        assert!(!CgroupPath::parse("/ab").unwrap().is_within(&CgroupPath::parse("/a").unwrap()));
        assert_eq!(
            CgroupPath::parse("/\u{1b}[31m\u{202e}a\\x2db").unwrap().to_string(),
            "/\\u{1b}[31m\\u{202e}a\\x2db"
        );
    }
}
