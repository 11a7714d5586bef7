//! Links and maps pinned in bpffs, which keep programs attached while the daemon is restarted, replaced or killed.
//!
//! A new daemon does not reuse objects of an earlier one. The programs of the earlier daemon stay attached until the
//! new daemon has attached and pinned its own programs with its own maps, and removes the earlier pins. A restart, an
//! upgrade and a downgrade are therefore the same operation (docs/decisions/0008-pins.md).

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use libbpf_rs::MapHandle;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::time::{ClockId, clock_gettime};

/// The directory of the pins, with one subdirectory for each daemon.
pub const PIN_ROOT: &str = "/sys/fs/bpf/memcg-bpf";

/// The pins of one daemon.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// The directory of this daemon, once its programs are attached.
    dir: Option<PathBuf>,
}

impl Pins {
    /// No pins.
    pub fn new(root: &Path) -> Self {
        Pins { root: root.to_owned(), dir: None }
    }

    /// Creates the directory. From then on, links and maps can be pinned.
    pub fn create_dir(&mut self) -> io::Result<()> {
        if self.dir.is_some() {
            return Ok(());
        }
        let mount = self.root.parent().unwrap_or(&self.root);
        if statfs(mount)?.filesystem_type() != BPF_FS_MAGIC {
            return Err(io::Error::other(format!("{} is not a bpffs", mount.display())));
        }
        // The name is never reused, even if process ids are.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let name = format!("{}-{}-{}", std::process::id(), now.tv_sec(), now.tv_nsec());
        let own = self.root.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
        self.dir = Some(own);
        Ok(())
    }

    /// The path of a pin; `None` until the directory is created.
    pub(super) fn pin_path(&self, object: &str, name: &str) -> Option<PathBuf> {
        // bpffs does not allow dots in names.
        Some(self.dir.as_ref()?.join(format!("{object}-{name}").replace('.', "_")))
    }

    /// The directories of earlier daemons.
    pub fn previous(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(&self.root).into_iter().flatten().flatten().map(|e| e.path());
        all.filter(|path| Some(path) != self.dir.as_ref()).collect()
    }

    /// Detaches the programs of earlier daemons.
    pub fn remove_previous(&self) -> io::Result<()> {
        self.previous().iter().try_for_each(std::fs::remove_dir_all)
    }
}

/// Removes the pins of all daemons. Returns the number of their directories.
pub fn remove_all(root: &Path) -> io::Result<usize> {
    let earlier = Pins::new(root).previous();
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(earlier.len()),
    }
}

/// Pins a map that a later daemon reads, or whose timers are cancelled with its last reference.
pub fn pin_map(pins: &Pins, object: &str, name: &str, map: &mut MapHandle) -> libbpf_rs::Result<()> {
    match pins.pin_path(object, name) {
        Some(place) if !place.exists() => map.pin(place),
        _ => Ok(()),
    }
}

/// The maps of this name that earlier daemons pinned.
pub fn previous_maps(pins: &Pins, object: &str, name: &str) -> Vec<MapHandle> {
    let file = format!("{object}-{name}").replace('.', "_");
    let open = |dir: &PathBuf| MapHandle::from_pinned_path(dir.join(&file)).ok();
    pins.previous().iter().filter_map(open).collect()
}
