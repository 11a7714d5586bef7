//! The files that a unit will have when systemd loads it next, found as systemd finds them. Used between a change of
//! files and daemon-reload; a later reply of systemd has precedence.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{ActiveState, UnitInfo};
use crate::names::{UnitKind, UnitName};

/// The directories of transient units, whose files are removed with the unit and never loaded again.
const TRANSIENT: &str = "run/systemd/transient";

/// The meaning of a unit file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fragment {
    /// The unit's file.
    File(PathBuf),
    /// A second name for another unit.
    Alias(UnitName),
    /// A link to /dev/null, or an empty file.
    Masked,
    /// A file that systemd does not load again: that of a transient unit, or a link that systemd ignores.
    None,
}

/// The meaning of a unit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitLookup {
    /// A unit. For an alias, the name of the unit itself.
    Found(UnitName),
    /// A unit that systemd refuses to load.
    Masked(UnitName),
    /// No file, drop-in directory or alias has this name.
    Absent,
}

/// Limit of the number of aliases of aliases that are followed.
const ALIASES_MAX: usize = 8;

/// The unit files and drop-ins in the search path, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFileIndex {
    root: PathBuf,
    transient: PathBuf,
    /// The directories to which an alias links. A link to elsewhere is a unit file of its own.
    search_path: Vec<PathBuf>,
    /// Number of searched directories of the search path.
    directories: usize,
    /// Unit file name → its meaning. The first directory has precedence.
    fragments: BTreeMap<String, Fragment>,
    /// Unit file name → its paths in the order of the search path. The first hides the others.
    paths: BTreeMap<String, Vec<PathBuf>>,
    /// Unit → its other names.
    aliases: BTreeMap<String, Vec<UnitName>>,
    /// Position in the search path and directory name (`x.service.d`) → file name → path.
    drop_ins: BTreeMap<(usize, String), BTreeMap<String, PathBuf>>,
}

impl UnitFileIndex {
    /// An empty index for these directories.
    pub(super) fn of(root: &Path, directories: &[PathBuf]) -> Self {
        let real = directories.iter().filter_map(|directory| fs::canonicalize(directory).ok());
        UnitFileIndex {
            root: root.to_path_buf(),
            transient: root.join(TRANSIENT),
            search_path: directories.iter().cloned().chain(real).collect(),
            ..UnitFileIndex::default()
        }
    }

    /// True before the first search.
    pub fn is_empty(&self) -> bool {
        self.directories == 0
    }

    /// Begins the next directory of the search path.
    pub(super) fn next_directory(&mut self) {
        self.directories = self.directories.saturating_add(1);
    }

    pub(super) fn add_fragment(&mut self, name: &UnitName, path: &Path) {
        self.paths.entry(name.as_str().to_owned()).or_default().push(path.to_path_buf());
        if self.fragments.contains_key(name.as_str()) {
            return;
        }
        let fragment = self.fragment(name, path);
        if let Fragment::Alias(other) = &fragment {
            self.aliases.entry(other.as_str().to_owned()).or_default().push(name.clone());
        }
        self.fragments.insert(name.as_str().to_owned(), fragment);
    }

    fn fragment(&self, name: &UnitName, path: &Path) -> Fragment {
        if path.starts_with(&self.transient) {
            return Fragment::None;
        }
        let Ok(target) = fs::read_link(path) else {
            // An empty file masks a unit, like a link to /dev/null.
            let has_text = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > 0);
            return if has_text { Fragment::File(path.to_path_buf()) } else { Fragment::Masked };
        };
        let below_root = |target: &Path| self.root.join(target.strip_prefix("/").unwrap_or(target));
        let full = match target.is_absolute() {
            true => below_root(&target),
            false => path.parent().unwrap_or(&self.root).join(&target),
        };
        if target == Path::new("/dev/null") || fs::metadata(&full).is_ok_and(|m| m.len() == 0 || !m.is_file())
        {
            return Fragment::Masked;
        }
        if !self.is_in_search_path(&full) {
            return Fragment::File(path.to_path_buf());
        }
        let target = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match UnitName::parse(target) {
            Ok(other) if other == *name || name.template().as_deref() == Some(target) => {
                Fragment::File(path.to_path_buf())
            }
            Ok(other) => Fragment::Alias(other),
            Err(_) => Fragment::None,
        }
    }

    fn is_in_search_path(&self, file: &Path) -> bool {
        let Some(directory) = file.parent().map(without_dots) else { return false };
        let real = fs::canonicalize(&directory);
        let is_below = |at: &Path| self.search_path.iter().any(|directory| at.starts_with(directory));
        is_below(&directory) || real.is_ok_and(|real| is_below(&real))
    }

    /// The unit to which systemd resolves this name.
    pub fn lookup(&self, name: &UnitName) -> UnitLookup {
        let mut name = name.clone();
        for _ in 0..ALIASES_MAX {
            let own = self.fragments.get(name.as_str());
            match own.or_else(|| self.fragments.get(&name.template()?)) {
                Some(Fragment::File(_) | Fragment::None) => return UnitLookup::Found(name),
                Some(Fragment::Masked) => return UnitLookup::Masked(name),
                Some(Fragment::Alias(other)) => name = instance_of(other, &name),
                None if name.kind() == UnitKind::Slice || self.has_drop_ins(&name) => {
                    return UnitLookup::Found(name);
                }
                None => return UnitLookup::Absent,
            }
        }
        UnitLookup::Absent
    }

    /// The names of all units with a file, templates and aliases included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fragments.keys().map(String::as_str)
    }

    /// True if there is a drop-in directory for exactly this unit.
    fn has_drop_ins(&self, name: &UnitName) -> bool {
        let directory = format!("{}.d", name.as_str());
        self.drop_ins.keys().any(|(_, of)| *of == directory)
    }

    pub(super) fn add_drop_ins(&mut self, directory: String, files: &[(String, PathBuf)]) {
        let files = files.iter().filter(|(name, _)| name.ends_with(".conf")).cloned().collect();
        self.drop_ins.insert((self.directories, directory), files);
    }

    /// The unit as systemd would load it, in its default slice, which `Slice=` in its files overrides. `None`
    /// for units without a file of their own that are not slices, for transient and masked ones, and for aliases.
    pub fn resolve(&self, name: &UnitName) -> Option<UnitInfo> {
        if name.is_template() {
            return None;
        }
        let of_template = || self.fragments.get(&name.template()?);
        let fragment = match self.fragments.get(name.as_str()).or_else(of_template) {
            Some(Fragment::File(path)) => Some(path.clone()),
            None if name.kind() == UnitKind::Slice => None,
            _ => return None,
        };
        Some(UnitInfo {
            name: name.clone(),
            active: ActiveState::Inactive,
            fragment,
            drop_ins: self.drop_ins_of(name),
            slice: name.default_slice(),
            control_group: None,
            control_group_id: None,
            transient: false,
            needs_daemon_reload: false,
        })
    }

    /// The effective drop-ins, by file name.
    fn drop_ins_of(&self, name: &UnitName) -> Vec<PathBuf> {
        // Masked drop-ins are empty files or devices, which contain no assignments.
        self.drop_ins_by_name(name).into_values().filter_map(|paths| paths.into_iter().next()).collect()
    }

    /// File name → all drop-ins with that name, of which the first is effective. The first directory of the search path
    /// has precedence, but a directory for all units of a type comes after all others.
    fn drop_ins_by_name(&self, name: &UnitName) -> BTreeMap<String, Vec<PathBuf>> {
        let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let mut add = |at: usize, directory: &String| {
            for (file, path) in self.drop_ins.get(&(at, directory.clone())).into_iter().flatten() {
                let paths = files.entry(file.clone()).or_default();
                if !paths.contains(path) {
                    paths.push(path.clone());
                }
            }
        };
        let mut for_type = None;
        for name in std::iter::once(name).chain(self.aliases.get(name.as_str()).into_iter().flatten()) {
            let mut directories = name.drop_in_dirs();
            for_type = directories.pop();
            (0..self.directories).for_each(|at| directories.iter().for_each(|d| add(at, d)));
        }
        if let Some(directory) = &for_type {
            (0..self.directories).for_each(|at| add(at, directory));
        }
        files
    }

    /// All files with the name of the unit or in one of its drop-in directories, in the order of their effect, each with
    /// the file that hides it, if there is one.
    pub fn files_of(&self, name: &UnitName) -> Vec<(PathBuf, Option<PathBuf>)> {
        let names = std::iter::once(name.as_str().to_owned()).chain(name.template());
        let fragments = names.filter_map(|name| self.paths.get(&name)).flatten().cloned().collect();
        std::iter::once(fragments)
            .chain(self.drop_ins_by_name(name).into_values())
            .flat_map(|paths: Vec<PathBuf>| {
                let first = paths.first().cloned();
                paths.into_iter().enumerate().map(move |(i, path)| (path, first.clone().filter(|_| i > 0)))
            })
            .collect()
    }
}

/// The path without `.` and `..`. Links are not resolved.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The unit of an alias. For an alias of a template, the instance with the same instance name.
fn instance_of(target: &UnitName, alias: &UnitName) -> UnitName {
    let instance = alias.instance().filter(|_| target.is_template()).and_then(|instance| {
        UnitName::parse(&format!("{}@{instance}.{}", target.prefix(), target.kind().suffix())).ok()
    });
    instance.unwrap_or_else(|| target.clone())
}

#[cfg(test)]
#[path = "unit_index_tests.rs"]
mod tests;
