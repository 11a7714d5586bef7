//! Names of cgroups, units and containers, and systemd's escapes.

use memcg_bpf::names::{CgroupPath, ContainerId, UnitName, unescape};
use memcg_bpf::text::printable::quote;

use super::sentence;

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let quoted = quote(&text, 80);
    assert!(quoted.chars().count() <= 80 * 10 + 1);
    if !text.is_empty() {
        sentence(&quoted, 80 * 10 + 3);
    }
    assert!(unescape(&text).len() <= text.len().max(1) * 3);
    match CgroupPath::parse(&text) {
        Ok(path) => path_is_sound(&text, &path),
        Err(error) => sentence(&error.to_string(), 1200),
    }
    match ContainerId::parse(&text) {
        Ok(id) => assert!(id.as_str() == text && text.starts_with(id.short())),
        Err(error) => sentence(&error.to_string(), 1200),
    }
    match UnitName::parse(&text) {
        Ok(unit) => unit_is_sound(&text, &unit),
        Err(error) => sentence(&error.to_string(), 1200),
    }
}

fn path_is_sound(text: &str, path: &CgroupPath) {
    assert_eq!(CgroupPath::parse(path.as_str()).as_ref(), Ok(path), "it prints as what it was read from");
    assert!(path.as_str().len() <= text.len());
    assert!(path.components().all(|name| !name.is_empty() && name != "." && name != ".."));
    sentence(&path.to_string(), 4096 * 10);
    let mut at = path.clone();
    for level in (0..path.level()).rev() {
        let above = at.parent().expect("there is one above every cgroup but the root");
        assert_eq!(above.level(), level);
        assert!(path.is_within(&above));
        assert_eq!(above.join(at.file_name()).as_ref(), Ok(&at));
        at = above;
    }
    assert!(at.is_root() && at.parent().is_none());
}

fn unit_is_sound(text: &str, unit: &UnitName) {
    assert_eq!(unit.as_str(), text);
    let dirs = unit.drop_in_dirs();
    assert!(dirs.first().is_some_and(|dir| *dir == format!("{text}.d")));
    // A path of directories for each '-' in the prefix, three for an instance.
    assert!(dirs.len() <= 3 * 256 && dirs.iter().all(|dir| !dir.contains('/')));
    if let Some(template) = unit.template() {
        assert!(UnitName::parse(&template).is_ok_and(|template| template.is_template()));
    }
    let within = unit.default_slice().unwrap_or_else(|| unit.clone());
    let path = unit.cgroup_path_in(&within);
    assert_eq!(CgroupPath::parse(path.as_str()).as_ref(), Ok(&path));
}
