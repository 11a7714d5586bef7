//! Reads profile files, for the daemon and for `memcg-bpf check`. The module `policy` parses them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::files::read_beginning;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::profile::{self, PROFILE_BYTES_MAX, PROFILE_DIRS, PROFILE_SUFFIX, Profile, ProfileFile};

/// All profiles below `root` (`/` except in tests), and the errors of others.
pub fn load(root: &Path) -> (BTreeMap<String, Profile>, Vec<Diagnostic>) {
    let mut files = Vec::new();
    for dir in PROFILE_DIRS {
        let Ok(entries) = std::fs::read_dir(root.join(dir.trim_start_matches('/'))) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(file_name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            if file_name.ends_with(PROFILE_SUFFIX) {
                files.push(ProfileFile {
                    dir: dir.to_owned(),
                    file_name: file_name.to_owned(),
                    text: text(&path),
                });
            }
        }
    }
    profile::load(&files)
}

/// The text of the file; `None` if it masks a profile (a link to /dev/null, or an empty file).
fn text(path: &Path) -> Option<String> {
    // Longer files are read beyond the limit, so that the module `policy` reports the error.
    let file = read_beginning(path, PROFILE_BYTES_MAX.saturating_add(1)).ok()?;
    (!file.bytes.is_empty()).then(|| String::from_utf8_lossy(&file.bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifo_is_no_profile_and_does_not_block() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etc/memcg-bpf/profiles.d");
        std::fs::create_dir_all(&dir).unwrap();
        nix::unistd::mkfifo(&dir.join("pipe.profile"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(load(root.path()).0.len()));
        assert_eq!(receiver.recv_timeout(std::time::Duration::from_secs(20)), Ok(0));
    }

    #[test]
    fn a_masked_profile_is_no_profile() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etc/memcg-bpf/profiles.d");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("gold.profile"), "[Profile]\nPolicy=observe\n").unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.join("tin.profile")).unwrap();
        std::fs::write(dir.join("zinc.profile"), "").unwrap();
        let (profiles, errors) = load(root.path());
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["gold"]);
        assert!(errors.is_empty(), "{errors:?}");
    }
}
