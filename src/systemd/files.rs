//! Reading unit files: only regular files, bounded, tolerant of files that vanish. Returns texts, judges nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::UnitInfo;

/// Longest unit file read, in bytes; systemd itself refuses longer lines than this.
pub const UNIT_FILE_MAX: u64 = 1 << 20;
/// Most files read for one unit: the fragment and its drop-ins.
pub const UNIT_FILES_MAX: usize = 256;
/// Links followed from one name to its file; the kernel's own limit is 40, unit files need two or three.
const LINKS_MAX: usize = 16;

/// Reads a unit's files in systemd's order, the fragment first. Returns (path, text) pairs, and one sentence for
/// each file that was left out. Files that vanished meanwhile are left out silently: systemd will tell.
pub fn read_unit_files(unit: &UnitInfo) -> (Vec<(String, String)>, Vec<String>) {
    let mut texts = Vec::new();
    let mut warnings = Vec::new();
    let paths = unit.fragment.iter().chain(&unit.drop_ins);
    if paths.clone().count() > UNIT_FILES_MAX {
        warnings.push(format!(
            "{} has more than {UNIT_FILES_MAX} files; the policy is read from the first {UNIT_FILES_MAX}",
            unit.name.as_str()
        ));
    }
    for path in paths.take(UNIT_FILES_MAX) {
        match read_regular(Path::new("/"), path, UNIT_FILE_MAX) {
            Ok(Some(Contents { bytes, cut })) => {
                if cut {
                    warnings.push(format!(
                        "{} is longer than 1 MiB; only its beginning is read for a memory policy",
                        path.display().to_string().escape_debug()
                    ));
                }
                texts.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
            Ok(None) => {}
            Err(error) => warnings
                .push(format!("reading unit file {}: {error}", path.display().to_string().escape_debug())),
        }
    }
    (texts, warnings)
}

/// The beginning of a file.
pub(super) struct Contents {
    /// At most as many bytes as asked for.
    pub(super) bytes: Vec<u8>,
    /// True when the file goes on.
    pub(super) cut: bool,
}

/// Reads at most `limit` bytes of the regular file at `path`, links followed below `root`. `None` when there is no
/// such file, or when it is something else: masks are links to a device.
pub(super) fn read_regular(root: &Path, path: &Path, limit: u64) -> io::Result<Option<Contents>> {
    let Some(path) = follow(root, path)? else { return Ok(None) };
    let file = match open_regular(&path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    let length = usize::try_from(limit).unwrap_or(usize::MAX);
    let cut = bytes.len() > length;
    bytes.truncate(length);
    Ok(Some(Contents { bytes, cut }))
}

fn open_regular(path: &Path) -> io::Result<Option<File>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(None);
    }
    // Not blocking, and looked at again: a FIFO put there in between must not stop the daemon.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Follows `path` while it is a symbolic link; absolute targets are taken below `root`. `None` when it leads
/// nowhere or in a circle.
fn follow(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {}
            Ok(_) => return Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let target = match fs::read_link(&path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        path = match target.strip_prefix("/") {
            Ok(below) => root.join(below),
            Err(_) => path.parent().unwrap_or(root).join(target),
        };
    }
    Ok(None)
}
