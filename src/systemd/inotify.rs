//! Watches unit files and drop-ins by inotify, on a separate thread. Reports only that a file changed; a search finds
//! the differences.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::sync::mpsc;

use super::search::has_unit_suffix;

/// Changes within this time are reported once, because an editor or a package makes several.
const MERGE_WINDOW: Duration = Duration::from_millis(10);
/// Minimum interval between two reports if files change all the time. The first few changes are reported without this
/// delay.
const THROTTLE_DELAY: Duration = Duration::from_millis(100);
/// Number of reports without the delay, until no file has changed for a second.
const BURST: u32 = 10;
/// Limit of the number of watches, which take kernel memory. A machine has some tens of directories.
const WATCHES_MAX: usize = 4096;
/// Directories that systemd itself writes, at each reload or start of a transient unit. Its signals announce these changes.
const MANAGED_BY_SYSTEMD: [&str; 5] =
    ["transient", "generator", "generator.early", "generator.late", "system.control"];

/// A directory that is watched.
#[derive(Debug, Default)]
struct Watched {
    path: PathBuf,
    /// The names that are relevant there; `None` for all.
    names: Option<BTreeSet<OsString>>,
}

struct Watcher {
    inotify: Inotify,
    unit_path: Vec<PathBuf>,
    watched: BTreeMap<i32, Watched>,
    warned: bool,
}

/// Watches the directories of systemd's unit path and the drop-in directories in them, including those created later.
/// The receiver gets one message for one or more changes.
pub(super) fn watch(unit_path: &[PathBuf]) -> Result<mpsc::Receiver<()>, Errno> {
    let own =
        |path: &Path| path.file_name().is_some_and(|name| MANAGED_BY_SYSTEMD.iter().any(|own| name == *own));
    let mut watcher = Watcher {
        inotify: Inotify::init(InitFlags::IN_CLOEXEC)?,
        unit_path: unit_path.iter().filter(|path| !own(path)).cloned().collect(),
        watched: BTreeMap::new(),
        warned: false,
    };
    watcher.rebuild_watches();
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("unit-files".to_owned())
        .spawn(move || watcher.run(&sender))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    Ok(receiver)
}

/// True for names of unit files and drop-ins, not for temporary files of editors.
fn is_about_units(directory: &Path, name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    if directory.extension().is_some_and(|extension| extension == "d") {
        name.ends_with(".conf")
    } else {
        has_unit_suffix(name.strip_suffix(".d").unwrap_or(name))
    }
}

impl Watcher {
    fn run(mut self, sender: &mpsc::Sender<()>) {
        let mut searches = 0_u32;
        loop {
            let quiet = Instant::now();
            let events = self.inotify.read_events();
            if quiet.elapsed() > Duration::from_secs(1) {
                searches = 0;
            }
            match events {
                Ok(events) if !events.iter().any(|event| self.is_relevant(event)) => continue,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::warn!("changes of unit files apply only after daemon-reload: inotify: {error}");
                    return;
                }
            }
            std::thread::sleep(MERGE_WINDOW);
            // Before the search: a file written into a new directory after this point is reported as another change.
            self.rebuild_watches();
            match sender.try_send(()) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
                Err(mpsc::error::TrySendError::Closed(())) => return,
            }
            searches = searches.saturating_add(1);
            if searches > BURST {
                std::thread::sleep(THROTTLE_DELAY);
            }
        }
    }

    fn is_relevant(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        // A removed directory is no longer watched after the watches are rebuilt.
        let Some(watched) = self.watched.get(&event.wd.as_raw()) else { return false };
        let Some(name) = &event.name else { return event.mask.contains(AddWatchFlags::IN_IGNORED) };
        match &watched.names {
            Some(names) => names.contains(name),
            None if !is_about_units(&watched.path, name) => false,
            // A file is relevant after it was written and closed; only links and directories are complete when
            // created.
            None if event.mask.contains(AddWatchFlags::IN_CREATE) => {
                event.mask.contains(AddWatchFlags::IN_ISDIR) || watched.path.join(name).is_symlink()
            }
            None => true,
        }
    }

    /// Adds watches for all directories that exist now.
    fn rebuild_watches(&mut self) {
        self.watched.clear();
        for directory in self.unit_path.clone() {
            if !self.add(&directory, None) {
                self.wait_for(&directory);
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let drop_ins = name.to_str().and_then(|name| name.strip_suffix(".d"));
                if drop_ins.is_some_and(has_unit_suffix) {
                    self.add(&entry.path(), None);
                }
            }
        }
    }

    /// Watches the nearest existing ancestor of a directory that does not exist.
    fn wait_for(&mut self, directory: &Path) {
        let mut missing = directory;
        while let (Some(above), Some(name)) = (missing.parent(), missing.file_name()) {
            if !self.add(above, Some(name.to_owned())) {
                missing = above;
            } else if missing.is_dir() && !self.add(directory, None) {
                // The directory was created in the meantime: start again.
                missing = directory;
            } else {
                return;
            }
        }
    }

    fn add(&mut self, path: &Path, name: Option<OsString>) -> bool {
        if self.watched.len() >= WATCHES_MAX {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(
                    "more than {WATCHES_MAX} directories with unit files; changes in the others apply only after daemon-reload"
                );
            }
            return true;
        }
        // One mask for all watches, because a second watch on a directory replaces the mask of the first one.
        let mask = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ONLYDIR;
        let Ok(descriptor) = self.inotify.add_watch(path, mask) else { return false };
        let watched = self.entry(descriptor, path);
        match name {
            None => watched.names = None,
            Some(name) => {
                if let Some(names) = &mut watched.names {
                    names.insert(name);
                }
            }
        }
        true
    }

    fn entry(&mut self, descriptor: WatchDescriptor, path: &Path) -> &mut Watched {
        self.watched
            .entry(descriptor.as_raw())
            .or_insert_with(|| Watched { path: path.to_path_buf(), names: Some(BTreeSet::new()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn noticed(changes: &mut mpsc::Receiver<()>) -> bool {
        matches!(tokio::time::timeout(Duration::from_secs(5), changes.recv()).await, Ok(Some(())))
    }

    /// Waits longer than a report would take, and expects none.
    async fn quiet(changes: &mut mpsc::Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_millis(500), changes.recv()).await.is_err()
    }

    #[tokio::test]
    async fn file_link_and_directory_changes_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let (etc, late) = (root.path().join("etc"), root.path().join("not/yet/there"));
        fs::create_dir(&etc).unwrap();
        let mut changes = watch(&[etc.clone(), late.clone(), root.path().join("run/transient")]).unwrap();
        assert!(quiet(&mut changes).await);
        let acts: [(&str, &dyn Fn()); 8] = [
            ("a unit file", &|| fs::write(etc.join("x.service"), "x").unwrap()),
            ("a drop-in directory", &|| fs::create_dir(etc.join("x.service.d")).unwrap()),
            ("a file in it", &|| fs::write(etc.join("x.service.d/a.conf"), "x").unwrap()),
            ("renamed", &|| {
                fs::rename(etc.join("x.service.d/a.conf"), etc.join("x.service.d/b.conf")).unwrap();
            }),
            ("a link", &|| {
                std::os::unix::fs::symlink("/dev/null", etc.join("x.service.d/c.conf")).unwrap();
            }),
            ("removed", &|| fs::remove_file(etc.join("x.service.d/b.conf")).unwrap()),
            ("a directory of the path", &|| fs::create_dir_all(&late).unwrap()),
            ("a file in that", &|| fs::write(late.join("y.service"), "x").unwrap()),
        ];
        for (what, act) in acts {
            act();
            assert!(noticed(&mut changes).await, "{what}");
            while !quiet(&mut changes).await {}
        }
        // Names that are not those of units.
        fs::write(etc.join(".x.service.swp"), "x").unwrap();
        fs::write(etc.join("x.service.d/a.conf~"), "x").unwrap();
        fs::write(root.path().join("elsewhere"), "x").unwrap();
        fs::create_dir_all(root.path().join("run/other")).unwrap();
        drop(fs::File::create(root.path().join("not/x")).unwrap());
        assert!(quiet(&mut changes).await);
    }

    #[tokio::test]
    async fn new_directory_with_files_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let mut changes = watch(std::slice::from_ref(&etc)).unwrap();
        for n in 0..20 {
            let directory = etc.join(format!("x{n}.service.d"));
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("a.conf"), "x").unwrap();
            assert!(noticed(&mut changes).await, "{n}");
        }
    }
}
