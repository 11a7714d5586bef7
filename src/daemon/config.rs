//! The configuration of the daemon: `memcg-bpf.conf` and its drop-ins, in the order that systemd uses for its own. An
//! invalid setting is reported and keeps its default.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;

use crate::files::read_text;
use crate::ledger::admission::Limits;
use crate::text::ini::{Item, items};
use crate::text::parse_bool;
use crate::text::printable::quote;

/// The directories of the configuration. For a file name, the first directory with such a file is used.
pub const CONFIG_DIRS: [&str; 4] =
    ["etc/memcg-bpf", "run/memcg-bpf", "usr/local/lib/memcg-bpf", "usr/lib/memcg-bpf"];
/// The name of the main file; with `.d` appended, of the directory of its drop-ins.
pub const CONFIG_FILE: &str = "memcg-bpf.conf";
/// Longest configuration file in bytes.
const FILE_MAX: usize = 1 << 18;
/// Characters of an invalid word that a warning quotes.
const WORD_MAX: usize = 64;
/// Characters of a file's path that a warning shows: the directories and the longest file name.
const PLACE_MAX: usize = 320;
/// Largest rate limit of actions.
const LIMIT_MAX: u32 = 1000;
/// Number of warnings logged for one file.
const WARNINGS_MAX: usize = 20;
/// Number of policies accepted in AllowPolicies=.
const NAMES_MAX: usize = 256;
/// Number of drop-ins read.
const DROP_INS_MAX: usize = 256;

/// The settings of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[Annotations] AllowPolicies=`: the policies that annotations and cgroup owners may request. `None` stands for
    /// every self-binding policy.
    pub allow_policies: Option<Vec<String>>,
    /// `[Log] Level=`: the maximum log level.
    pub log_level: LevelFilter,
    /// `[Actions] PerSecond=` and `KillsPerMinute=`: the rate limits of actions.
    pub limits: Limits,
    /// `[Policies] Preload=`: load policies that do not deny before they are requested.
    pub preload: bool,
    /// `[Policies] AnnotationsOverrideDropIns=`: annotations and cgroup owners may replace and discard the policies of
    /// drop-ins.
    pub override_drop_ins: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            allow_policies: None,
            log_level: LevelFilter::INFO,
            limits: Limits::default(),
            preload: true,
            override_drop_ins: false,
        }
    }
}

impl Config {
    /// Reads the configuration below `root` (`/` except in tests). Returns also one warning for each ignored setting.
    pub fn load(root: &Path) -> (Config, Vec<String>) {
        let mut config = Config::default();
        let mut warnings = Vec::new();
        for path in files(root) {
            let place = Path::new("/").join(path.strip_prefix(root).unwrap_or(&path));
            let place = quote(&place.display().to_string(), PLACE_MAX);
            match read_text(&path, FILE_MAX) {
                Ok(text) => {
                    let mut found = Vec::new();
                    config.apply(&place, &text, &mut found);
                    if found.len() > WARNINGS_MAX {
                        found.truncate(WARNINGS_MAX);
                        found.push(format!("{place}: further warnings are left out"));
                    }
                    warnings.append(&mut found);
                }
                // A link to /dev/null masks the files of the same name in directories of lower priority.
                Err(error) if error.is_absent_or_masked() => {}
                Err(error) => warnings.push(format!("reading {place}: {error}, ignoring")),
            }
        }
        (config, warnings)
    }

    fn apply(&mut self, file: &str, text: &str, warnings: &mut Vec<String>) {
        let mut section = String::new();
        for (number, item) in items(text) {
            let mut warn = |what: String| warnings.push(format!("{file}:{number}: {what}, ignoring"));
            let unknown = |header: &str| {
                format!(
                    "unknown section '{}'; valid are [Actions], [Annotations], [Log] and [Policies]",
                    quote(header, WORD_MAX)
                )
            };
            let (key, value) = match item {
                Item::Section(name) => {
                    if !["Actions", "Annotations", "Log", "Policies"].contains(&name.as_str())
                        && !name.starts_with("X-")
                    {
                        warn(unknown(&format!("[{name}]")));
                    }
                    section = name;
                    continue;
                }
                Item::OpenSection(line) => {
                    warn(unknown(&line));
                    section.clear();
                    continue;
                }
                Item::Assignment(key, value) => (key, value),
                Item::Other(line) => {
                    warn(format!("'{}' is not an assignment", quote(&line, WORD_MAX)));
                    continue;
                }
                // The limit of the file is below that of a line.
                Item::TooLong => break,
            };
            match (section.as_str(), key.as_str()) {
                ("Annotations", "AllowPolicies") => self.allow(&value, warn),
                ("Log", "Level") => self.level(&value, warn),
                ("Actions", "PerSecond") => {
                    limit(&value, &mut self.limits.per_second, Limits::default().per_second, warn)
                }
                ("Actions", "KillsPerMinute") => {
                    limit(&value, &mut self.limits.kills_per_minute, Limits::default().kills_per_minute, warn)
                }
                ("Policies", "Preload") => boolean(&value, &mut self.preload, true, warn),
                ("Policies", "AnnotationsOverrideDropIns") => {
                    boolean(&value, &mut self.override_drop_ins, false, warn)
                }
                ("Actions" | "Annotations" | "Log" | "Policies", key) => {
                    warn(format!("unknown key '{}' in section [{section}]", quote(key, WORD_MAX)))
                }
                ("", key) => warn(format!("key '{}' is not in a known section", quote(key, WORD_MAX))),
                // The unknown section was reported once.
                _ => {}
            }
        }
    }

    /// A list as in systemd: assignments are added, and an empty one resets the list to the default.
    fn allow(&mut self, value: &str, mut warn: impl FnMut(String)) {
        if value.is_empty() {
            self.allow_policies = None;
            return;
        }
        let listed = self.allow_policies.get_or_insert_default();
        for name in value.split_whitespace() {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            if name.len() > 64 || !name.chars().all(legal) {
                warn(format!("'{}' is not the name of a policy", quote(name, WORD_MAX)));
            } else if listed.iter().any(|known| known == name) {
                // Duplicates are ignored.
            } else if listed.len() >= NAMES_MAX {
                return warn(format!("more than {NAMES_MAX} policies in the list"));
            } else {
                listed.push(name.to_owned());
            }
        }
    }

    fn level(&mut self, value: &str, mut warn: impl FnMut(String)) {
        self.log_level = match value {
            "" | "info" => LevelFilter::INFO,
            "error" => LevelFilter::ERROR,
            "warning" => LevelFilter::WARN,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            other => {
                warn(format!(
                    "unknown level '{}'; valid are error, warning, info, debug, trace",
                    quote(other, WORD_MAX)
                ));
                return;
            }
        };
    }
}

/// An empty value resets the key to its default.
fn boolean(value: &str, place: &mut bool, default: bool, mut warn: impl FnMut(String)) {
    match parse_bool(value) {
        Ok(set) => *place = set,
        Err(_) if value.is_empty() => *place = default,
        Err(_) => warn(format!("'{}' is not a boolean", quote(value, WORD_MAX))),
    }
}

/// 0 allows no actions; an empty value resets the limit to the default.
fn limit(value: &str, place: &mut u32, default: u32, mut warn: impl FnMut(String)) {
    match value.parse() {
        Ok(number) if number <= LIMIT_MAX => *place = number,
        _ if value.is_empty() => *place = default,
        _ => warn(format!("'{}' is not an integer from 0 to {LIMIT_MAX}", quote(value, WORD_MAX))),
    }
}

/// The files that are used, in the order in which they are read: the main file of the first directory that has one,
/// then the drop-ins of all directories by file name.
fn files(root: &Path) -> Vec<PathBuf> {
    let main = CONFIG_DIRS.iter().map(|dir| root.join(dir).join(CONFIG_FILE)).find(|path| path.exists());
    let mut drop_ins = BTreeMap::new();
    // From the lowest priority to the highest, so that later entries replace earlier ones.
    for dir in CONFIG_DIRS.iter().rev() {
        let Ok(listing) = fs::read_dir(root.join(dir).join(format!("{CONFIG_FILE}.d"))) else { continue };
        for entry in listing.flatten().take(DROP_INS_MAX) {
            if entry.path().extension().is_some_and(|extension| extension == "conf") {
                drop_ins.insert(entry.file_name(), entry.path());
            }
        }
    }
    main.into_iter().chain(drop_ins.into_values()).collect()
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
