//! The opened directory of a cgroup. Its identity is checked once, when it is opened; its files are then those of this
//! cgroup, and not of another one that was created at the same path.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::mount::dir;
use crate::names::CgroupRef;
use crate::policy::action::MAX;

/// The access mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Both,
    /// Writing only: some files cannot be read.
    Write,
}

/// The opened directory of a cgroup.
#[derive(Debug)]
pub struct Directory(File);

/// Opens the directory of a cgroup. The error is NotFound if the cgroup was removed.
pub fn open(cgroup: &CgroupRef) -> io::Result<Directory> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(dir(&cgroup.path))?;
    if directory.metadata()?.ino() == cgroup.id.0 {
        Ok(Directory(directory))
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Directory {
    /// The number in a file; `max` is [`MAX`].
    pub fn number(&self, file: &str) -> io::Result<u64> {
        let mut text = String::new();
        self.file(file, Access::Read)?.read_to_string(&mut text)?;
        number(&text).ok_or_else(|| io::Error::other(format!("{file} contains '{}'", text.trim())))
    }

    /// Opens a file.
    pub(super) fn file(&self, name: &str, access: Access) -> io::Result<File> {
        let access = match access {
            Access::Read => OFlag::O_RDONLY,
            // With O_NONBLOCK, newer kernels leave the reclaim to the processes of the cgroup.
            Access::Both => OFlag::O_RDWR | OFlag::O_NONBLOCK,
            Access::Write => OFlag::O_WRONLY,
        };
        let flags = access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// The directory itself, for its attributes.
    pub(super) fn attributes(&self) -> &File {
        &self.0
    }
}

/// The number in the text of a file; `max` is [`MAX`].
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{CgroupId, CgroupPath};

    /// A directory opened without cgroupfs.
    fn directory(at: &std::path::Path) -> Directory {
        Directory(File::open(at).unwrap())
    }

    #[test]
    fn files_are_those_of_the_opened_directory() {
        let temporary = std::env::temp_dir().join(format!("memcg-bpf-directory-{}", std::process::id()));
        let (here, moved) = (temporary.join("here"), temporary.join("moved"));
        std::fs::create_dir_all(&here).unwrap();
        std::fs::write(here.join("memory.high"), "max\n").unwrap();
        let opened = directory(&here);
        std::fs::rename(&here, &moved).unwrap();
        std::fs::create_dir_all(&here).unwrap();
        std::fs::write(here.join("memory.high"), "1\n").unwrap();
        assert_eq!(opened.number("memory.high").unwrap(), MAX);
        std::fs::write(moved.join("memory.high"), "many\n").unwrap();
        assert_eq!(opened.number("memory.high").unwrap_err().to_string(), "memory.high contains 'many'");
        std::fs::remove_file(moved.join("memory.high")).unwrap();
        assert_eq!(opened.number("memory.high").unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&temporary).unwrap();
    }

    #[test]
    fn cgroup_with_another_id_is_not_opened() {
        let root = CgroupPath::root();
        let Ok(metadata) = std::fs::metadata(dir(&root)) else { return };
        let right = CgroupRef { id: CgroupId(metadata.ino()), path: root };
        assert!(open(&right).is_ok());
        let wrong = CgroupRef { id: CgroupId(right.id.0.wrapping_add(1)), path: right.path };
        assert_eq!(open(&wrong).unwrap_err().kind(), io::ErrorKind::NotFound);
        let path = CgroupPath::parse("/no-such-cgroup").unwrap();
        assert_eq!(open(&CgroupRef { path, ..wrong }).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
