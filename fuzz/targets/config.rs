//! The daemon's configuration: the main file and a drop-in.

use memcg_bpf::daemon::config::{CONFIG_DIRS, CONFIG_FILE, Config};

use super::{part, parts, place, sentence};

/// Warnings of one file: enough to find each mistake, too few to flood the journal.
const WARNINGS_MAX: usize = 21;

pub fn run(bytes: &[u8]) {
    let root = place();
    let parts = parts(bytes);
    for (file, text) in [
        (root.join(CONFIG_DIRS[0]).join(CONFIG_FILE), part(&parts, 0)),
        (root.join(CONFIG_DIRS[3]).join(format!("{CONFIG_FILE}.d/50-x.conf")), part(&parts, 1)),
    ] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let (config, warnings) = Config::load(&root);
    assert_eq!((config.clone(), warnings.clone()), Config::load(&root), "the same files twice");
    assert!(warnings.len() <= 2 * WARNINGS_MAX, "{} warnings", warnings.len());
    warnings.iter().for_each(|warning| sentence(warning, 4096));
    assert!(config.limits.per_second <= 1000 && config.limits.kills_per_minute <= 1000);
    for name in config.allow_policies.iter().flatten() {
        sentence(name, 64);
    }
}
