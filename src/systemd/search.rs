//! Searches systemd's unit path for units that may have a policy, loaded or not: for files that contain `MemoryBPF`.
//! The result may contain units without a policy; their files are read in systemd's order later.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::UNIT_FILE_MAX;
use super::unit_index::UnitFileIndex;
use crate::files::read_beginning_below;
use crate::names::{UnitKind, UnitName};
use crate::text::printable::{QUOTE_PATH_MAX, quote};

/// systemd's built-in search path, in its order. Used if systemd does not report another one.
pub const UNIT_PATH: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
    "/lib/systemd/system",
];

/// The common part of all spellings: `MemoryBPFPolicy=`, `X-MemoryBPFPolicy=`, `[X-MemoryBPF]`.
const NEEDLE: &[u8] = b"MemoryBPF";
/// Limit of the directory entries in one search; a machine has some thousands.
const ENTRIES_MAX: usize = 100_000;

/// Files that apply to units whose names are not known in advance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// A drop-in directory for many units: `libpod-.scope.d` (prefix), `x@.service.d` (template), `service.d` (type).
    DropInDir(String),
    /// A template's own file: `x@.service`.
    Template(String),
}

impl Pattern {
    /// True if files of this pattern apply to `unit`.
    pub fn matches(&self, unit: &UnitName) -> bool {
        match self {
            Pattern::DropInDir(directory) => unit.drop_in_dirs().iter().any(|d| d == directory),
            Pattern::Template(name) => unit.template().as_deref() == Some(name),
        }
    }
}

/// The result of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyUnits {
    /// Units named by a file with a policy, or by a unit file or an enablement link that matches a pattern.
    /// Aliases count under each of their names.
    pub units: BTreeSet<UnitName>,
    /// Patterns of units whose names are not known.
    pub patterns: BTreeSet<Pattern>,
    /// Those of `units` with drop-ins and without a unit file: systemd cannot load them before they are created
    /// (`systemd-run --unit=`), so their cgroups cannot be registered. Never slices, which need no file.
    pub without_file: BTreeSet<UnitName>,
}

impl PolicyUnits {
    /// True if `unit` may have a policy, so that its files must be read.
    pub fn may_have_policy(&self, unit: &UnitName) -> bool {
        self.units.contains(unit) || self.patterns.iter().any(|pattern| pattern.matches(unit))
    }

    /// True if there may be units whose cgroups could not be registered, so that every new cgroup must be reported.
    pub fn needs_all_cgroup_events(&self) -> bool {
        !self.patterns.is_empty() || !self.without_file.is_empty()
    }
}

/// The result of a search of the unit path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// The units that may have a policy.
    pub discovery: PolicyUnits,
    /// The files of all units.
    pub files: UnitFileIndex,
    /// One warning for each entry that could not be read; missing directories are ignored.
    pub warnings: Vec<String>,
}

/// Searches the directories of systemd's unit path below `root`.
pub fn discover<P: AsRef<Path>>(root: &Path, unit_path: &[P]) -> SearchResult {
    let mut search = Search::new(root, unit_path, true);
    search.all();
    if search.left == 0 {
        search.warnings.push(format!(
            "the unit search path has more than {ENTRIES_MAX} entries; other units are found when they start"
        ));
    }
    let Search { found: mut discovery, files, named, templates, warnings, .. } = search;
    let has_file =
        |unit: &UnitName| named.contains(unit) || unit.template().is_some_and(|t| templates.contains(&t));
    let without_file = |unit: &&UnitName| unit.kind() != UnitKind::Slice && !has_file(unit);
    discovery.without_file = discovery.units.iter().filter(without_file).cloned().collect();
    for unit in named {
        if discovery.patterns.iter().any(|pattern| pattern.matches(&unit)) {
            discovery.units.insert(unit);
        }
    }
    SearchResult { discovery, files, warnings }
}

/// The names of all unit files and drop-ins in the directories of systemd's unit path below `root`. Reads no file.
pub fn index<P: AsRef<Path>>(root: &Path, unit_path: &[P]) -> UnitFileIndex {
    let mut search = Search::new(root, unit_path, false);
    search.all();
    search.files
}

struct Search<'a> {
    root: &'a Path,
    /// systemd's unit path below the root.
    directories: Vec<PathBuf>,
    /// Are files read for a mention of a policy?
    reads: bool,
    found: PolicyUnits,
    files: UnitFileIndex,
    /// All units that a file or an enablement link names.
    named: BTreeSet<UnitName>,
    templates: BTreeSet<String>,
    warnings: Vec<String>,
    left: usize,
}

impl<'a> Search<'a> {
    fn new<P: AsRef<Path>>(root: &'a Path, unit_path: &[P], reads: bool) -> Self {
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let directories: Vec<PathBuf> = unit_path.iter().map(|path| below(path.as_ref())).collect();
        Search {
            root,
            reads,
            files: UnitFileIndex::of(root, &directories),
            directories,
            found: PolicyUnits::default(),
            named: BTreeSet::new(),
            templates: BTreeSet::new(),
            warnings: Vec::new(),
            left: ENTRIES_MAX,
        }
    }

    fn all(&mut self) {
        for directory in self.directories.clone() {
            self.directory(&directory);
            self.files.next_directory();
        }
    }

    fn directory(&mut self, directory: &Path) {
        for (name, path) in self.entries(directory) {
            if let Some(of) = name.strip_suffix(".d") {
                if has_unit_suffix(of) {
                    self.drop_ins(of, &path);
                }
            } else if [".wants", ".requires", ".upholds"].iter().any(|end| name.ends_with(end)) {
                let wanted = self.entries(&path);
                self.named.extend(wanted.iter().filter_map(|(name, _)| unit(name)));
            } else if has_unit_suffix(&name) {
                self.unit_file(&name, &path);
            }
        }
    }

    fn unit_file(&mut self, name: &str, path: &Path) {
        let Ok(parsed) = UnitName::parse(name) else { return };
        self.files.add_fragment(&parsed, path);
        if parsed.is_template() {
            self.templates.insert(name.to_owned());
        } else {
            self.named.insert(parsed.clone());
        }
        if !self.mentions_policy(path) {
            return;
        }
        if parsed.is_template() {
            self.found.patterns.insert(Pattern::Template(name.to_owned()));
        } else {
            self.found.units.insert(parsed);
        }
    }

    fn drop_ins(&mut self, of: &str, directory: &Path) {
        let files = self.entries(directory);
        self.files.add_drop_ins(format!("{of}.d"), &files);
        if !files.iter().any(|(name, path)| name.ends_with(".conf") && self.mentions_policy(path)) {
            return;
        }
        match unit(of) {
            // `foo-.service` is a valid unit name too, but is not used as one.
            Some(unit) if !stem(of).ends_with('-') => {
                self.found.units.insert(unit);
            }
            _ => {
                self.found.patterns.insert(Pattern::DropInDir(format!("{of}.d")));
            }
        }
    }

    /// True if the file mentions a policy. Errors are reported, and return false.
    fn mentions_policy(&mut self, path: &Path) -> bool {
        if !self.reads {
            return false;
        }
        match read_beginning_below(self.root, path, UNIT_FILE_MAX) {
            Ok(file) => file.bytes.windows(NEEDLE.len()).any(|window| window == NEEDLE),
            Err(error) if error.is_absent_or_masked() => false,
            Err(error) => {
                self.warnings.push(format!(
                    "reading unit file {}: {error}",
                    quote(&path.display().to_string(), QUOTE_PATH_MAX)
                ));
                false
            }
        }
    }

    /// The entries of a directory by name. Names that are not UTF-8 are omitted.
    fn entries(&mut self, directory: &Path) -> Vec<(String, PathBuf)> {
        let Ok(listing) = fs::read_dir(directory) else { return Vec::new() };
        let mut entries = Vec::new();
        for entry in listing.flatten() {
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push((name, entry.path()));
            }
        }
        entries.sort();
        entries
    }
}

/// The unit called `name`, unless it is a template or of another type.
fn unit(name: &str) -> Option<UnitName> {
    UnitName::parse(name).ok().filter(|unit| !unit.is_template())
}

/// `x.service`, and also `service` itself: the directory for the whole type.
pub(super) fn has_unit_suffix(name: &str) -> bool {
    let suffix = name.rsplit_once('.').map_or(name, |(_, suffix)| suffix);
    [UnitKind::Service, UnitKind::Slice, UnitKind::Scope].iter().any(|kind| kind.suffix() == suffix)
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
#[path = "search_tests.rs"]
pub(super) mod tests;
