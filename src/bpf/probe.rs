//! The hooks of the running kernel, read from its BTF. Needs no privileges except to read it.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::Path;

use libbpf_rs::Btf;

use super::error::BpfError;
use super::libbpf_log;
use super::objects::PolicyObjects;
use crate::report::KernelReport;

/// struct_ops of the kernel series that bring native memcg hooks; a registered one has a wrapper type.
const NATIVE: [&str; 4] = ["memcg_bpf_ops", "memcg_ops", "bpf_memcg_ops", "bpf_oom_ops"];

/// The kernel's own BTF.
pub fn btf() -> Result<Btf<'static>, BpfError> {
    libbpf_log::capture(Btf::from_vmlinux).0.map_err(BpfError::btf)
}

/// For each hook of these objects and each group of core's counters, the function that this kernel has for it; and
/// the native hooks.
pub fn probe_hooks(objects: &PolicyObjects) -> Result<KernelReport, BpfError> {
    let btf = btf()?;
    let mut hooks: BTreeMap<String, Option<String>> = BTreeMap::new();
    let chosen =
        |list: &[String]| list.iter().find(|section| super::hooks::kernel_has(&btf, section)).cloned();
    for (hook, list) in objects.hooks.values().flatten() {
        // A candidate of another policy does not remove the hook.
        let known = hooks.entry(hook.clone()).or_default();
        *known = known.take().or_else(|| chosen(list));
    }
    // A group of counters needs all of its programs.
    for (program, list) in &objects.core_hooks {
        let entry = hooks.entry(super::hooks::counters_name(program)).or_insert_with(|| Some(String::new()));
        *entry = match (entry.take(), chosen(list)) {
            (Some(known), Some(section)) if known.is_empty() => Some(section),
            (Some(known), Some(section)) if known.split(", ").any(|one| one == section) => Some(known),
            (Some(known), Some(section)) => Some(format!("{known}, {section}")),
            _ => None,
        };
    }
    let native = NATIVE
        .iter()
        .filter(|name| {
            btf.type_by_name::<libbpf_rs::btf::types::Struct<'_>>(&format!("bpf_struct_ops_{name}")).is_some()
        })
        .map(|name| (*name).to_owned())
        .collect();
    let release = std::fs::read_to_string(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    Ok(KernelReport { release: release.trim().to_owned(), hooks, native })
}
/// Number of the NUMA nodes that the kernel can have, at least 1.
pub(super) fn numa_nodes() -> u32 {
    highest_node(&read_to_string("/sys/devices/system/node/possible").unwrap_or_default()).saturating_add(1)
}

/// The highest number in a list such as `0-3,8`.
fn highest_node(list: &str) -> u32 {
    list.trim().split([',', '-']).filter_map(|number| number.parse().ok()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highest_node_of_a_list() {
        let highest = ["0\n", "0-3\n", "0-1,8", "", "?"].map(highest_node);
        assert_eq!(highest, [0, 3, 8, 0, 0]);
    }
}
