//! Names of systemd units: their parts, their drop-in directories, and the cgroup of a unit.

use std::collections::BTreeSet;
use std::fmt;

use super::{CgroupPath, NameError, UnitKind};
use crate::text::printable::{QUOTE_MAX, quote};

/// Longest unit name in bytes (systemd's UNIT_NAME_MAX without the terminating zero).
pub const UNIT_NAME_MAX: usize = 255;

/// The slice of the root cgroup.
pub const ROOT_SLICE: &str = "-.slice";

/// cgroup files start with one of these and a dot; systemd escapes unit names that would clash with them.
const CONTROLLERS: [&str; 14] = [
    "cgroup",
    "cpu",
    "cpuacct",
    "cpuset",
    "io",
    "blkio",
    "memory",
    "devices",
    "pids",
    "bpf-firewall",
    "bpf-devices",
    "bpf-foreign",
    "bpf-socket-bind",
    "bpf-restrict-network-interfaces",
];

/// The name of a service, slice or scope: `x.service`, `x@instance.service`, the template `x@.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName {
    text: String,
    kind: UnitKind,
    prefix: String,
    /// The part after the `@`; `Some("")` for a template.
    instance: Option<String>,
}

impl UnitName {
    /// Parses the name of a service, slice or scope as systemd does. Errors: another type, an invalid character, an
    /// empty prefix, more than [`UNIT_NAME_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fail = |why| Err(NameError::UnitName(quote(text, QUOTE_MAX), why));
        if text.len() > UNIT_NAME_MAX {
            return fail("it is longer than 255 bytes");
        }
        let Some((stem, suffix)) = text.rsplit_once('.') else {
            return fail("it does not end in .service, .slice or .scope");
        };
        let Some(kind) = [UnitKind::Service, UnitKind::Slice, UnitKind::Scope]
            .into_iter()
            .find(|kind| kind.suffix() == suffix)
        else {
            return fail("it does not end in .service, .slice or .scope");
        };
        if !stem.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b)) {
            return fail("only letters, digits and :-_.\\@ may stand in it");
        }
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (stem, None),
        };
        if prefix.is_empty() {
            return fail("the part before the '@' or the dot is empty");
        }
        Ok(UnitName {
            text: text.to_owned(),
            kind,
            prefix: prefix.to_owned(),
            instance: instance.map(str::to_owned),
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The type of the unit.
    pub fn kind(&self) -> UnitKind {
        self.kind
    }

    /// The part before the `@`, or before the suffix, escaped (`%p`).
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The part between `@` and the suffix, escaped (`%i`); `None` for units that are not instances.
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref().filter(|i| !i.is_empty())
    }

    /// `x@.service` for the instance `x@1.service`; `None` for other units.
    pub fn template(&self) -> Option<String> {
        self.instance().map(|_| format!("{}@.{}", self.prefix, self.kind.suffix()))
    }

    /// True for a template such as `x@.service`, which cannot be started itself.
    pub fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// Names of the drop-in directories of this unit, the most specific one first. Each may exist below every
    /// directory of systemd's search path. For one file name, systemd uses the order of the search path before this
    /// order. As in systemd, an instance also reads `foo-@x.service.d`.
    pub fn drop_in_dirs(&self) -> Vec<String> {
        let mut dirs = Vec::new();
        let suffix = self.kind.suffix();
        let mut prefix = Some(self.prefix.clone());
        while let Some(p) = prefix {
            if let Some(instance) = self.instance() {
                dirs.push(format!("{p}@{instance}.{suffix}.d"));
                dirs.push(format!("{p}@.{suffix}.d"));
                // systemd uses the prefixes of the template before those of the instance.
                dirs.extend(shorter_prefixes(&p).into_iter().map(|s| format!("{s}.{suffix}.d")));
            } else if self.is_template() && p == self.prefix {
                dirs.push(format!("{p}@.{suffix}.d"));
            } else {
                dirs.push(format!("{p}.{suffix}.d"));
            }
            prefix = shorter_prefix(&p);
        }
        dirs.push(format!("{suffix}.d"));
        let mut seen = BTreeSet::new();
        dirs.retain(|dir| seen.insert(dir.clone()));
        dirs
    }

    /// The cgroup of a slice: `a-b.slice` → `/a.slice/a-b.slice`, `-.slice` → `/`. `None` for other types and for
    /// names that systemd rejects as slices (`a--b.slice`, `a-.slice`, `a@b.slice`).
    pub fn slice_cgroup_path(&self) -> Option<CgroupPath> {
        if self.kind != UnitKind::Slice || self.instance.is_some() {
            return None;
        }
        if self.prefix == "-" {
            return Some(CgroupPath::root());
        }
        let mut path = CgroupPath::root();
        let mut upto = String::new();
        for part in self.prefix.split('-') {
            if part.is_empty() {
                return None;
            }
            if !upto.is_empty() {
                upto.push('-');
            }
            upto.push_str(part);
            path = path.join(&cgroup_name(&format!("{upto}.slice"))).ok()?;
        }
        Some(path)
    }

    /// The default slice of a service or scope: `system.slice`, and one for all instances of a template.
    pub fn default_slice(&self) -> Option<UnitName> {
        match (self.kind, self.instance()) {
            (UnitKind::Slice, _) => None,
            (_, None) => UnitName::parse("system.slice").ok(),
            // A '-' or an escape in the template's name must not create nested slices.
            (_, Some(_)) => UnitName::parse(&format!("system-{}.slice", escape(&self.prefix))).ok(),
        }
    }

    /// True for the slice of the root cgroup, which can have no policy.
    pub fn is_root_slice(&self) -> bool {
        self.text == ROOT_SLICE
    }

    /// The cgroup this unit has while it is in `slice`. A slice's own place follows from its name alone; a `slice`
    /// that is none counts as the root slice, as a unit without `Slice=` has it.
    pub fn cgroup_path_in(&self, slice: &UnitName) -> CgroupPath {
        if let Some(path) = self.slice_cgroup_path() {
            return path;
        }
        let above = slice.slice_cgroup_path().unwrap_or_else(CgroupPath::root);
        // The syntax of unit names excludes '/', zero bytes and '..', so only the length can be invalid.
        above.join(&cgroup_name(&self.text)).unwrap_or(above)
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of the unit's cgroup directory: with a leading `_` if the name would conflict with a cgroup file.
fn cgroup_name(unit: &str) -> String {
    let clashes = unit.starts_with(['_', '.'])
        || CONTROLLERS.iter().any(|c| unit.strip_prefix(c).is_some_and(|rest| rest.starts_with('.')));
    if clashes { format!("_{unit}") } else { unit.to_owned() }
}

/// The next shorter prefix with drop-ins: `foo-bar` → `foo-`; none for `foo-`.
fn shorter_prefix(prefix: &str) -> Option<String> {
    // A trailing dash belongs to the prefix.
    let body = prefix.strip_suffix('-').unwrap_or(prefix);
    let (head, _) = body.rsplit_once('-')?;
    if head.is_empty() { None } else { Some(format!("{head}-")) }
}

fn shorter_prefixes(prefix: &str) -> Vec<String> {
    std::iter::successors(shorter_prefix(prefix), |p| shorter_prefix(p)).collect()
}

/// Escapes a text for use in a unit name, as systemd does.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c.is_ascii_alphanumeric() || c == ':' || c == '_' || (c == '.' && at > 0) {
            out.push(c);
        } else {
            out.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }
    out
}

/// Unescapes a path in a unit name, as systemd does: `-` is `/`, `\x2d` is the byte. A text with an invalid escape is
/// returned unchanged; bytes that are not UTF-8 become replacement characters.
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'-' => bytes.push(b'/'),
            b'\\' => {
                let byte = tail
                    .split_at_checked(3)
                    .and_then(|(escape, after)| Some((escape.strip_prefix(b"x")?, after)))
                    .filter(|(digits, _)| digits.iter().all(u8::is_ascii_hexdigit))
                    .and_then(|(digits, after)| Some((std::str::from_utf8(digits).ok()?, after)))
                    .and_then(|(digits, after)| Some((u8::from_str_radix(digits, 16).ok()?, after)));
                match byte {
                    Some((byte, after)) if byte != 0 => {
                        bytes.push(byte);
                        rest = after;
                    }
                    _ => return text.to_owned(),
                }
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
