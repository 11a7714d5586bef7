//! CgroupArg cgroup a person means: by path, unit, container or process. Believes the cgroup tree, never a name that a
//! container could have chosen for a cgroup inside of its own.

use std::path::Path;

use thiserror::Error;

use crate::cgroup::mount::CGROUP_ROOT;
use crate::cgroup::{process, tree};
use crate::cli::find::container;
use crate::cli::term::escape_line;
use crate::names::{CgroupPath, NameError, UnitKind, UnitName};
use crate::policy::diagnostic::closest_match;
use crate::report::BindingReport;
use crate::source::container_cgroup::{CgroupError, process_cgroup};
use crate::systemd::{UNIT_PATH, UnitFileIndex, UnitLookup, index};

/// Shorter beginnings of a container's id are too likely to be something else.
const ID_PREFIX_MIN: usize = 4;
/// Digits of the largest pid (4194304); more digits are the beginning of a container's id.
const PID_DIGITS_MAX: usize = 7;
/// Most candidates that a sentence lists.
const LISTED_MAX: usize = 5;

/// What a text says, before anything is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Path(CgroupPath),
    Unit(UnitName),
    Pid(u32),
    Container(String),
}

/// Why no cgroup was found.
#[derive(Debug, Error)]
pub(in crate::cli) enum TargetError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(
        "'{0}' is relative to the current directory, which is not below {CGROUP_ROOT}; give an absolute path"
    )]
    NotInCgroupfs(String),
    #[error(
        "unit '{0}' has no cgroup: it is not running, or it is a user unit. Start the unit, or give the path of a user \
         unit. To attach a policy at its next start, add X-MemoryBPFPolicy= to a drop-in: systemctl edit {0}"
    )]
    NoUnit(String),
    #[error(
        "unit '{0}' does not exist{did_you_mean}; see: systemctl list-units --all. A user unit is named by the path of its cgroup",
        did_you_mean = did_you_mean(.1)
    )]
    NoSuchUnit(String, Option<String>),
    #[error("unit '{0}' is masked, so systemd does not start it; to unmask it, run: systemctl unmask {0}")]
    Masked(String),
    #[error("'{0}' is a template; give the name of an instance")]
    Template(String),
    #[error(
        "unknown cgroup '{0}': no container has this name or ID, and no unit or path matches{did_you_mean}; see: podman ps, \
         systemctl status",
        did_you_mean = did_you_mean(.1)
    )]
    NoContainer(String, Option<String>),
    #[error("ambiguous cgroup '{0}': {1}; give more characters, or the path")]
    Ambiguous(String, String),
    #[error("no process {0}: {1}")]
    NoProcess(u32, std::io::Error),
    #[error("the cgroup of process {0}: {1}")]
    Process(u32, CgroupError),
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or(String::new(), |name| format!("; did you mean '{}'?", escape_line(name)))
}

/// Finds the cgroup that `text` names, among those with policies first, then in the tree.
pub(in crate::cli) fn find(text: &str, reports: &[BindingReport]) -> Result<CgroupPath, TargetError> {
    let cwd = std::env::current_dir().unwrap_or_default();
    let target = parse(text, &cwd)?;
    let mut all = None;
    let tree = || all.get_or_insert_with(|| tree::descendants(&CgroupPath::root())).clone();
    let files = || index(Path::new("/"), &UNIT_PATH);
    match target {
        Target::Path(path) => Ok(path),
        Target::Pid(pid) => {
            let text = process::cgroup_text(pid).map_err(|e| TargetError::NoProcess(pid, e))?;
            let path = process_cgroup(&text).map_err(|e| TargetError::Process(pid, e))?;
            Ok(nearest_bound(&path, reports))
        }
        Target::Container(text) => {
            by_word(&text, reports, tree, files, |path, id| container::lookup(path, id).name)
        }
        Target::Unit(unit) => by_unit(&unit, reports, tree, files),
    }
}

/// A unit by its name or an alias.
fn by_unit(
    unit: &UnitName,
    reports: &[BindingReport],
    mut tree: impl FnMut() -> Vec<CgroupPath>,
    files: impl FnOnce() -> UnitFileIndex,
) -> Result<CgroupPath, TargetError> {
    match search(&Target::Unit(unit.clone()), reports, &mut tree) {
        Err(TargetError::NoUnit(_)) => {}
        found => return found,
    }
    let files = files();
    match files.lookup(unit) {
        UnitLookup::Found(real) => search(&Target::Unit(real), reports, tree),
        UnitLookup::Masked(real) => Err(TargetError::Masked(escape_line(real.as_str()))),
        UnitLookup::Absent => {
            let suggestion = closest_unit(unit, &files, &unit_names(&tree()));
            Err(TargetError::NoSuchUnit(escape_line(unit.as_str()), suggestion))
        }
    }
}

/// A container, or a service without its suffix. A container of the service itself is preferred to the service.
fn by_word(
    text: &str,
    reports: &[BindingReport],
    mut tree: impl FnMut() -> Vec<CgroupPath>,
    files: impl FnOnce() -> UnitFileIndex,
    name: impl Fn(&CgroupPath, &str) -> Option<String>,
) -> Result<CgroupPath, TargetError> {
    let container = match by_id_or_name(text, reports, &mut tree, name) {
        Ok(path) => Some(path),
        Err(TargetError::NoContainer(..)) => None,
        Err(other) => return Err(other),
    };
    let unit = UnitName::parse(&format!("{text}.service")).ok().filter(|unit| !unit.is_template());
    let running = unit.clone().and_then(|unit| search(&Target::Unit(unit), reports, &mut tree).ok());
    match (container, running) {
        (Some(container), Some(unit)) if !container.is_within(&unit) => only(text, vec![container, unit]),
        (Some(container), _) => Ok(container),
        (None, Some(unit)) => Ok(unit),
        (None, None) => {
            let files = files();
            let known = unit.filter(|unit| files.lookup(unit) != UnitLookup::Absent);
            if let Some(unit) = known {
                return by_unit(&unit, reports, tree, || files);
            }
            let names = words(&files, reports, &tree());
            let suggestion = closest_match(text, names.iter().map(String::as_str));
            Err(TargetError::NoContainer(escape_line(text), suggestion))
        }
    }
}

/// The unit of the same type with the most similar name. The suffix that all have does not make names similar.
pub(in crate::cli) fn closest_unit(
    unit: &UnitName,
    files: &UnitFileIndex,
    running: &[String],
) -> Option<String> {
    let suffix = format!(".{}", unit.kind().suffix());
    let stem = unit.as_str().strip_suffix(&suffix)?;
    let names = files.names().chain(running.iter().map(String::as_str));
    let closest = closest_match(stem, names.filter_map(|name| name.strip_suffix(&suffix)))?;
    Some(format!("{closest}{suffix}"))
}

/// The names of the units in the tree.
fn unit_names(tree: &[CgroupPath]) -> Vec<String> {
    let name = |path: &CgroupPath| {
        let unit = UnitName::parse(path.file_name().trim_start_matches('_')).ok()?;
        is_unit(path, &unit).then(|| unit.as_str().to_owned())
    };
    tree.iter().filter_map(name).collect()
}

/// What a word without a suffix can mean: services, and containers with a policy.
fn words(files: &UnitFileIndex, reports: &[BindingReport], tree: &[CgroupPath]) -> Vec<String> {
    let running = unit_names(tree);
    let units = files.names().chain(running.iter().map(String::as_str));
    let services = units.filter_map(|unit| unit.strip_suffix(".service")).map(str::to_owned);
    services.chain(reports.iter().filter_map(|report| report.container_name.clone())).collect()
}

fn parse(text: &str, cwd: &Path) -> Result<Target, TargetError> {
    if let Some(rest) = text.strip_prefix(CGROUP_ROOT)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return Ok(Target::Path(CgroupPath::parse(if rest.is_empty() { "/" } else { rest })?));
    }
    if text == "." || text.starts_with("./") {
        let below =
            cwd.strip_prefix(CGROUP_ROOT).map_err(|_| TargetError::NotInCgroupfs(escape_line(text)))?;
        let rest = text.trim_start_matches('.').trim_matches('/');
        let base = below.to_string_lossy();
        let joined =
            [base.as_ref(), rest].iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join("/");
        return Ok(Target::Path(CgroupPath::parse(&format!("/{joined}"))?));
    }
    if text.starts_with('/') {
        return Ok(Target::Path(CgroupPath::parse(text)?));
    }
    if text.contains('/') {
        return Ok(Target::Path(CgroupPath::parse(&format!("/{text}"))?));
    }
    if text.len() <= PID_DIGITS_MAX
        && let Ok(pid) = text.parse()
    {
        return Ok(Target::Pid(pid));
    }
    let endings = [UnitKind::Service, UnitKind::Slice, UnitKind::Scope];
    if endings.iter().any(|kind| text.strip_suffix(kind.suffix()).is_some_and(|rest| rest.ends_with('.'))) {
        let unit = UnitName::parse(text)?;
        return if unit.is_template() {
            Err(TargetError::Template(escape_line(text)))
        } else {
            Ok(Target::Unit(unit))
        };
    }
    Ok(Target::Container(text.to_owned()))
}

fn search(
    target: &Target,
    reports: &[BindingReport],
    tree: impl FnOnce() -> Vec<CgroupPath>,
) -> Result<CgroupPath, TargetError> {
    match target {
        Target::Unit(unit) => reports
            .iter()
            .filter(|report| report.unit.as_deref() == Some(unit.as_str()))
            .filter_map(|report| CgroupPath::parse(&report.cgroup).ok())
            .find(|path| is_unit(path, unit))
            .or_else(|| tree().into_iter().find(|path| is_unit(path, unit)))
            .ok_or_else(|| TargetError::NoUnit(escape_line(unit.as_str()))),
        Target::Container(id) => {
            let bound: Vec<CgroupPath> = reports
                .iter()
                .filter(|report| report.container.as_deref().is_some_and(|full| begins(full, id)))
                .filter_map(|report| CgroupPath::parse(&report.cgroup).ok())
                .collect();
            if !bound.is_empty() {
                return only(id, bound);
            }
            only(id, outermost(tree().into_iter().filter(|path| is_container(path, id)).collect()))
        }
        Target::Path(path) => Ok(path.clone()),
        Target::Pid(pid) => Err(TargetError::NoContainer(pid.to_string(), None)),
    }
}

/// A container by the beginning of its id; where nothing begins so, by its name.
fn by_id_or_name(
    text: &str,
    reports: &[BindingReport],
    mut tree: impl FnMut() -> Vec<CgroupPath>,
    name: impl Fn(&CgroupPath, &str) -> Option<String>,
) -> Result<CgroupPath, TargetError> {
    match search(&Target::Container(text.to_owned()), reports, &mut tree) {
        Err(TargetError::NoContainer(..)) => {}
        found => return found,
    }
    let called_so = |path: &CgroupPath| {
        container::id_in(path).and_then(|id| name(path, id)).is_some_and(|name| name == text)
    };
    only(text, outermost(tree().into_iter().filter(called_so).collect()))
}

/// A unit of the system manager lies below slices only. What else has its name is some container's or user's cgroup.
fn is_unit(path: &CgroupPath, unit: &UnitName) -> bool {
    if let Some(own) = unit.slice_cgroup_path() {
        return *path == own;
    }
    let name = path.file_name();
    let called_so = name == unit.as_str() || name.strip_prefix('_') == Some(unit.as_str());
    called_so && path.components().rev().skip(1).all(|above| above.ends_with(".slice"))
}

fn begins(full: &str, id: &str) -> bool {
    full == id || (id.len() >= ID_PREFIX_MIN && full.starts_with(id))
}

/// `libpod-ID.scope`, `crio-ID.scope`, `libpod-ID`, or a bare id of 64 hexadecimal digits as under kubepods.
fn is_container(path: &CgroupPath, id: &str) -> bool {
    let name = path.file_name();
    let (stem, scope) = name.strip_suffix(".scope").map_or((name, false), |stem| (stem, true));
    let (prefix, full) = stem.rsplit_once('-').unwrap_or(("", stem));
    let is_id = full.len() == 64 && full.bytes().all(|b| b.is_ascii_hexdigit());
    // libpod-conmon-ID.scope holds podman's monitor of the container, not the container.
    if prefix.ends_with("conmon") {
        return false;
    }
    // Runtimes called by hand take any name as id: runc-web.scope.
    (is_id && begins(full, id)) || (scope && stem.split_once('-').is_some_and(|(_, whole)| whole == id))
}

/// Leaves out what lies within another: a container may name cgroups of its own as it likes.
fn outermost(paths: Vec<CgroupPath>) -> Vec<CgroupPath> {
    paths
        .iter()
        .filter(|path| !paths.iter().any(|other| other != *path && path.is_within(other)))
        .cloned()
        .collect()
}

fn only(text: &str, mut found: Vec<CgroupPath>) -> Result<CgroupPath, TargetError> {
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(TargetError::NoContainer(escape_line(text), None)),
        (Some(path), true) => Ok(path),
        (Some(path), false) => {
            found.push(path);
            found.sort();
            let more = found.len().saturating_sub(LISTED_MAX);
            let mut list: Vec<String> = found.iter().take(LISTED_MAX).map(CgroupPath::to_string).collect();
            if more > 0 {
                list.push(format!("{more} more"));
            }
            Err(TargetError::Ambiguous(escape_line(text), list.join(", ")))
        }
    }
}

/// For a process: its closest cgroup with a policy, else its unit, else its cgroup.
fn nearest_bound(path: &CgroupPath, reports: &[BindingReport]) -> CgroupPath {
    let up = || std::iter::successors(Some(path.clone()), CgroupPath::parent);
    let bound = up().find(|at| reports.iter().any(|report| report.cgroup == at.as_str()));
    let is_unit =
        |at: &CgroupPath| at.file_name().ends_with(".scope") || at.file_name().ends_with(".service");
    bound.or_else(|| up().find(is_unit)).unwrap_or_else(|| path.clone())
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
