//! What keeps verdicts going when the daemon is killed, restarted or replaced: links and maps pinned in bpffs.
//!
//! Nothing of an earlier daemon is taken over. Its programs stay attached until the new daemon has attached
//! programs with maps of its own, pins those, and removes the earlier ones: a restart, an
//! upgrade to other maps and a downgrade are the same thing (docs/decisions/0008-pins.md).

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use libbpf_rs::MapHandle;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::time::{ClockId, clock_gettime};

/// Where our pins are: one directory for each daemon that left some.
pub const PIN_ROOT: &str = "/sys/fs/bpf/memcg-bpf";

/// The pins of one daemon.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// Ours, once there is something to take over from us.
    dir: Option<PathBuf>,
}

impl Pins {
    /// Pins nothing yet.
    pub fn new(root: &Path) -> Self {
        Pins { root: root.to_owned(), dir: None }
    }

    /// From here on everything is pinned.
    pub fn create_dir(&mut self) -> io::Result<()> {
        if self.dir.is_some() {
            return Ok(());
        }
        let mount = self.root.parent().unwrap_or(&self.root);
        if statfs(mount)?.filesystem_type() != BPF_FS_MAGIC {
            return Err(io::Error::other(format!("{} is not a bpffs", mount.display())));
        }
        // Never used twice, not even when process ids begin anew.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let name = format!("{}-{}-{}", std::process::id(), now.tv_sec(), now.tv_nsec());
        let own = self.root.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
        self.dir = Some(own);
        Ok(())
    }

    /// The file for a thing's pin; `None` as long as nothing is pinned.
    pub(super) fn pin_path(&self, object: &str, name: &str) -> Option<PathBuf> {
        // bpffs has no dots in names.
        Some(self.dir.as_ref()?.join(format!("{object}-{name}").replace('.', "_")))
    }

    /// Directories that other daemons left.
    pub fn previous(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(&self.root).into_iter().flatten().flatten().map(|e| e.path());
        all.filter(|path| Some(path) != self.dir.as_ref()).collect()
    }

    /// Ends what other daemons left attached.
    pub fn remove_previous(&self) -> io::Result<()> {
        self.previous().iter().try_for_each(std::fs::remove_dir_all)
    }
}

/// Removes every pin, whoever left it. Says how many daemons had left some.
pub fn remove_all(root: &Path) -> io::Result<usize> {
    let earlier = Pins::new(root).previous();
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(earlier.len()),
    }
}

/// Pins a map that a later daemon reads, or whose timers end with its last pin.
pub fn pin_map(pins: &Pins, object: &str, name: &str, map: &mut MapHandle) -> libbpf_rs::Result<()> {
    match pins.pin_path(object, name) {
        Some(place) if !place.exists() => map.pin(place),
        _ => Ok(()),
    }
}

/// Maps of this name that earlier daemons pinned.
pub fn previous_maps(pins: &Pins, object: &str, name: &str) -> Vec<MapHandle> {
    let file = format!("{object}-{name}").replace('.', "_");
    let open = |dir: &PathBuf| MapHandle::from_pinned_path(dir.join(&file)).ok();
    pins.previous().iter().filter_map(open).collect()
}
