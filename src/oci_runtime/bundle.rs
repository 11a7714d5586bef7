//! Adds the hook to the configuration of a bundle.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use crate::files;
use crate::source::oci_config::BundleConfig;
use crate::source::oci_state::CONFIG_MAX;

/// Why the hook was not added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotAdded {
    pub message: String,
    /// True if the container must not start without its policy.
    pub required: bool,
}

/// Adds the hook to the bundle's configuration if an annotation of memcg-bpf is set and the hook is missing.
pub(super) fn add_hook(config: &Path, hook: &Path) -> Result<(), NotAdded> {
    let not_read = |why: String| NotAdded {
        message: format!("Failed to read {}: {why}", config.display()),
        // The annotation is unknown.
        required: false,
    };
    let bytes = files::read(config, CONFIG_MAX).map_err(|error| not_read(error.to_string()))?;
    let parsed = BundleConfig::parse(&bytes).map_err(|error| not_read(error.to_string()))?;
    if !parsed.is_annotated() {
        return Ok(());
    }
    let required = parsed.is_required();
    let not_added = |message| NotAdded { message, required };
    // A hook that does not exist would keep the container from starting.
    if !is_executable(hook) {
        return Err(not_added(format!("Failed to add the OCI hook: there is no program {}", hook.display())));
    }
    let path =
        hook.to_str().ok_or_else(|| not_added("Failed to add the OCI hook: its path is not UTF-8".into()))?;
    let changed = parsed
        .with_hook(path)
        .map_err(|error| not_added(format!("Failed to add the OCI hook to {}: {error}", config.display())))?;
    match changed {
        None => Ok(()),
        Some(text) => replace(config, &text)
            .map_err(|error| not_added(format!("Failed to write {}: {error}", config.display()))),
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Replaces the file at once, with its owner and its mode. A symbolic link is replaced, and its target stays.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let old = fs::metadata(path)?;
    let new = path.with_file_name(format!(".config.json.memcg-bpf-{}", std::process::id()));
    let write = || -> io::Result<()> {
        // Fails if the name exists, whatever it is, so a link that somebody placed there is not followed.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let result = file.write_all(text).and_then(|()| {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
            fs::rename(&new, path)
        });
        result.inspect_err(|_| drop(fs::remove_file(&new)))
    };
    write()
}
