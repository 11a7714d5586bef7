//! Arguments of calls over D-Bus, as the bus hands them over.

use std::collections::BTreeMap;

use memcg_bpf::policy::line::LINE_BYTES_MAX;
use memcg_bpf::service::args::{Options, cgroup_path, container_id, non_root_cgroup, pid, policy_line};
use zbus::{OwnedVariant, Variant};

use super::{part, parts, sentence};

pub fn run(bytes: &[u8]) {
    let parts = parts(bytes);
    let text = part(&parts, 0);
    match cgroup_path(text) {
        Ok(path) => {
            assert!(path.as_str().starts_with('/') && non_root_cgroup(text).is_ok() != path.is_root())
        }
        Err(error) => sentence(&error.to_string(), 1200),
    }
    match container_id(text) {
        Ok(id) => assert_eq!(id.as_str(), text),
        Err(error) => sentence(&error.to_string(), 1200),
    }
    match policy_line(text) {
        Ok(line) => assert!(line == text && line.len() <= LINE_BYTES_MAX),
        Err(error) => sentence(&error.to_string(), 1200),
    }
    let number = bytes.iter().take(4).fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
    match pid(number) {
        Ok(pid) => assert!(i32::try_from(pid).is_ok_and(|pid| pid > 0)),
        Err(error) => sentence(&error.to_string(), 1200),
    }
    // Each option is a letter for its type, its name, '=' and its value.
    let given: BTreeMap<String, OwnedVariant> =
        parts.iter().skip(1).filter_map(|text| option(text)).collect();
    let count = given.len();
    match Options::parse(&given.into()) {
        Ok(_) => assert!(count <= 2, "no option is passed over"),
        Err(error) => sentence(&error.to_string(), 1200),
    }
}

fn option(text: &str) -> Option<(String, OwnedVariant)> {
    let (key, value) = text.split_once('=')?;
    let kind = key.chars().next()?;
    let value = match kind {
        'b' => Variant::from(value == "true"),
        'u' => Variant::from(u32::try_from(value.len()).ok()?),
        'a' => Variant::from(vec![value.to_owned()]),
        'v' => Variant::Variant(Box::new(Variant::from(value.to_owned()))),
        _ => Variant::from(value.to_owned()),
    };
    Some((key.get(kind.len_utf8()..)?.to_owned(), value.try_into().ok()?))
}
