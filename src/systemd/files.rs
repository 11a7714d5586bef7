//! Reads unit files: only regular files, of bounded size. Removed files are ignored. Does not parse the files.

use super::UnitInfo;
use crate::files::{Beginning, read_beginning};
use crate::text::printable::{QUOTE_PATH_MAX, quote};

/// Longest unit file read, in bytes.
pub const UNIT_FILE_MAX: usize = 1 << 20;
/// Number of files read for one unit: the fragment and its drop-ins.
pub const UNIT_FILES_MAX: usize = 256;

/// Reads a unit's files in systemd's order, the fragment first. Returns pairs of path and text, and one warning for
/// each file that is omitted. Files that were removed in the meantime are omitted without a warning, because systemd
/// announces the change.
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
        let name = path.display().to_string();
        match read_beginning(path, UNIT_FILE_MAX) {
            Ok(Beginning { bytes, cut }) => {
                if cut {
                    warnings.push(format!(
                        "{} is longer than 1 MiB; only its beginning is read for a memory policy",
                        quote(&name, QUOTE_PATH_MAX)
                    ));
                }
                texts.push((name, String::from_utf8_lossy(&bytes).into_owned()));
            }
            // A mask is a link to a device.
            Err(error) if error.is_absent_or_masked() => {}
            Err(error) => {
                warnings.push(format!("reading unit file {}: {error}", quote(&name, QUOTE_PATH_MAX)))
            }
        }
    }
    (texts, warnings)
}
