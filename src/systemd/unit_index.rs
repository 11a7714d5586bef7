//! The files a unit will have when systemd loads it next, found as systemd finds them: for the moment between a change
//! of files and daemon-reload. systemd's own answer, once it is there, has the last word.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{ActiveState, UnitInfo};
use crate::names::{UnitKind, UnitName};

/// Where the files of units made at run time are: those are gone with their unit, and never loaded again.
const TRANSIENT: &str = "run/systemd/transient";

/// What stands under a unit file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fragment {
    /// The unit's file.
    File(PathBuf),
    /// A second name for another unit.
    Alias,
    /// Nothing that systemd would load again: masked, or made at run time.
    None,
}

/// Unit files and drop-ins by name, as the search path has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFileIndex {
    transient: PathBuf,
    /// The directories of the search path looked through.
    directories: usize,
    /// Unit file name → what it is. Of several directories the first counts.
    fragments: BTreeMap<String, Fragment>,
    /// Unit file name → its paths in the order of the search path. The first hides the others.
    paths: BTreeMap<String, Vec<PathBuf>>,
    /// Unit → its other names.
    aliases: BTreeMap<String, Vec<UnitName>>,
    /// Place in the search path and directory name (`x.service.d`) → file name → path.
    drop_ins: BTreeMap<(usize, String), BTreeMap<String, PathBuf>>,
}

impl UnitFileIndex {
    /// Nothing yet.
    pub(super) fn below(root: &Path) -> Self {
        UnitFileIndex { transient: root.join(TRANSIENT), ..UnitFileIndex::default() }
    }

    /// True before the first search.
    pub fn is_empty(&self) -> bool {
        self.directories == 0
    }

    /// From here on what is added is in the next directory of the search path.
    pub(super) fn next_directory(&mut self) {
        self.directories = self.directories.saturating_add(1);
    }

    pub(super) fn add_fragment(&mut self, name: &UnitName, path: &Path) {
        self.paths.entry(name.as_str().to_owned()).or_default().push(path.to_path_buf());
        if self.fragments.contains_key(name.as_str()) {
            return;
        }
        let fragment = match fs::read_link(path) {
            _ if path.starts_with(&self.transient) => Fragment::None,
            Ok(target) => {
                let target = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                match UnitName::parse(target) {
                    Ok(other) if other == *name || name.template().as_deref() == Some(target) => {
                        Fragment::File(path.to_path_buf())
                    }
                    Ok(other) => {
                        self.aliases.entry(other.as_str().to_owned()).or_default().push(name.clone());
                        Fragment::Alias
                    }
                    Err(_) => Fragment::None,
                }
            }
            // An empty file masks a unit as well as a link to /dev/null does.
            Err(_) if fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > 0) => {
                Fragment::File(path.to_path_buf())
            }
            Err(_) => Fragment::None,
        };
        self.fragments.insert(name.as_str().to_owned(), fragment);
    }

    pub(super) fn add_drop_ins(&mut self, directory: String, files: &[(String, PathBuf)]) {
        let files = files.iter().filter(|(name, _)| name.ends_with(".conf")).cloned().collect();
        self.drop_ins.insert((self.directories, directory), files);
    }

    /// The unit as systemd would load it, in the slice it has by default: `Slice=` in its files says otherwise. `None`
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

    /// The drop-ins that count, by file name.
    fn drop_ins_of(&self, name: &UnitName) -> Vec<PathBuf> {
        // Masked ones are empty or no files: reading them gives nothing.
        self.drop_ins_by_name(name).into_values().filter_map(|paths| paths.into_iter().next()).collect()
    }

    /// File name → all drop-ins with that name, of which the first counts: that of the first directory of the search
    /// path, but one in a directory for all units of a type comes after all others.
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

    /// All files with the unit's name or one of its drop-in directories' in the order in which they count, each with the
    /// file that hides it, if one does.
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

#[cfg(test)]
#[path = "unit_index_tests.rs"]
mod tests;
