//! Reads regular files up to a limit. Used for all files whose content others decide: a FIFO or a device in place of
//! the file neither blocks nor is opened, and a longer file is an error or is truncated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use thiserror::Error;

/// Number of symbolic links followed from a name to its file. The kernel's limit is 40; unit files need two or three.
const LINKS_MAX: usize = 16;

/// Why a file was not read. The message does not name the file.
#[derive(Debug, Error)]
pub enum ReadError {
    /// An error of the kernel.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A directory, a FIFO, a device or a socket.
    #[error("not a regular file")]
    NotRegular,
    /// The file is longer than the limit, in bytes.
    #[error("longer than {0} bytes")]
    TooLong(usize),
}

impl ReadError {
    /// True if the file does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// True if there is nothing to read: no file, a loop of links, or a mask, which is a link to /dev/null.
    pub fn is_absent_or_masked(&self) -> bool {
        match self {
            ReadError::Io(error) => self.is_not_found() || error.raw_os_error() == Some(nix::libc::ELOOP),
            ReadError::NotRegular => true,
            ReadError::TooLong(_) => false,
        }
    }
}

/// The beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// The bytes, at most as many as the limit.
    pub bytes: Vec<u8>,
    /// True if the file is longer.
    pub cut: bool,
}

/// Reads the whole file. Errors: not a regular file, longer than `max` bytes, an error of the kernel.
pub fn read(path: &Path, max: usize) -> Result<Vec<u8>, ReadError> {
    let Beginning { bytes, cut } = read_beginning(path, max)?;
    if cut { Err(ReadError::TooLong(max)) } else { Ok(bytes) }
}

/// As [`read`], with U+FFFD in place of bytes that are not UTF-8.
pub fn read_text(path: &Path, max: usize) -> Result<String, ReadError> {
    read(path, max).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads the first `max` bytes of the file.
pub fn read_beginning(path: &Path, max: usize) -> Result<Beginning, ReadError> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    let one_more = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes)?;
    let cut = bytes.len() > max;
    bytes.truncate(max);
    Ok(Beginning { bytes, cut })
}

/// As [`read_text`], with absolute symbolic links taken below `root`.
pub fn read_text_below(root: &Path, path: &Path, max: usize) -> Result<String, ReadError> {
    read_text(&resolve(root, path)?, max)
}

/// As [`read_beginning`], with absolute symbolic links taken below `root`.
pub fn read_beginning_below(root: &Path, path: &Path, max: usize) -> Result<Beginning, ReadError> {
    read_beginning(&resolve(root, path)?, max)
}

fn open(path: &Path) -> Result<File, ReadError> {
    // Checked before it is opened, because opening a device can have an effect, as with a watchdog.
    if !fs::metadata(path)?.is_file() {
        return Err(ReadError::NotRegular);
    }
    // Checked again: opening a FIFO that has replaced the file would wait for a writer.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(ReadError::NotRegular) }
}

/// Follows `path` while it is a symbolic link. Absolute targets are taken below `root`.
fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        if !fs::symlink_metadata(&path)?.is_symlink() {
            return Ok(path);
        }
        let target = fs::read_link(&path)?;
        path = match target.strip_prefix("/") {
            Ok(below) => root.join(below),
            Err(_) => path.parent().unwrap_or(root).join(target),
        };
    }
    Err(io::Error::from_raw_os_error(nix::libc::ELOOP))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, b"ab\xff").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"ab\xff");
        assert_eq!(read_text(&path, 3).unwrap(), "ab\u{fffd}");
        assert_eq!(read(&path, 2).unwrap_err().to_string(), "longer than 2 bytes");
        assert_eq!(read_beginning(&path, 2).unwrap(), Beginning { bytes: b"ab".to_vec(), cut: true });
        assert!(!read_beginning(&path, 3).unwrap().cut);
        assert!(!read(Path::new("/proc/self/cgroup"), 1 << 16).unwrap().is_empty());
    }

    #[test]
    fn other_than_regular_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        symlink("/dev/null", dir.path().join("mask")).unwrap();
        for path in [&fifo, dir.path(), &dir.path().join("mask"), Path::new("/dev/zero")] {
            let error = read(path, 10).unwrap_err();
            assert!(matches!(error, ReadError::NotRegular), "{}: {error}", path.display());
            assert!(error.is_absent_or_masked());
        }
        let missing = read(&dir.path().join("missing"), 10).unwrap_err();
        assert!(missing.is_not_found() && missing.to_string().starts_with("No such file"), "{missing}");
    }

    #[test]
    fn links_are_taken_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/x"), "x").unwrap();
        let link = |target: &str, name: &str| {
            let path = root.path().join("etc").join(name);
            symlink(target, &path).unwrap();
            path
        };
        let read = |path: &Path| read_beginning_below(root.path(), path, 9).map(|found| found.bytes);
        assert_eq!(read(&link("/etc/x", "absolute")).unwrap(), b"x");
        assert_eq!(read(&link("x", "relative")).unwrap(), b"x");
        assert_eq!(read(&link("absolute", "twice")).unwrap(), b"x");
        assert!(read(&link("/nowhere", "broken")).unwrap_err().is_not_found());
        assert!(read(&link("circle", "circle")).unwrap_err().is_absent_or_masked());
    }
}
