//! What policies that act have done: the knobs themselves, and what the daemon says of it.

use std::fs;

use memcg_bpf::report::ActionReport;

use super::{active, find, sh, wait_for};

/// What stands in a file of a cgroup.
pub fn knob(cgroup: &str, file: &str) -> String {
    let path = format!("/sys/fs/cgroup{cgroup}/{file}");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim_end().to_owned()
}

/// A file of a cgroup that holds bytes; "max" is the largest number.
pub fn bytes(cgroup: &str, file: &str) -> u64 {
    let text = knob(cgroup, file);
    if text == "max" { u64::MAX } else { text.parse().unwrap() }
}

/// Waits until a file holds this.
pub fn knob_becomes(cgroup: &str, file: &str, value: &str) {
    wait_for(&format!("{file} of {cgroup} to be {value}"), || (knob(cgroup, file) == value).then_some(()));
}

/// How many actions ended so (`done`, `dry-run`, …), as the daemon counts them.
pub fn acted(cgroup: &str, outcome: &str) -> u64 {
    find(cgroup).and_then(|report| report.actions.get(outcome).copied()).unwrap_or_default()
}

/// Until its tasks have waited for memory for so long, counted from now and summed over them.
pub fn has_waited(cgroup: &str, seconds: u64) {
    let stalled = || active(cgroup).counters["stall_ns"];
    let before = stalled();
    wait_for("tasks to wait", || (stalled() - before > seconds * 1_000_000_000).then_some(()));
}

/// The last action on a cgroup, once there is one that ended so.
pub fn last_action(cgroup: &str, outcome: &str) -> ActionReport {
    wait_for(&format!("an action on {cgroup} that is {outcome}"), || {
        find(cgroup)?.last_action.filter(|action| action.outcome == outcome)
    })
}

/// What the journal says of the actions on a cgroup, the oldest first: each line with its fields.
pub fn told(cgroup: &str) -> Vec<serde_json::Value> {
    let json = sh(&format!(
        "journalctl --sync; journalctl -q -o json MESSAGE_ID=5d1f0c5fa8a34b0f9c6e4c7b1f3a2d60 MEMCG_BPF_CGROUP={cgroup}"
    ));
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often the kernel has passed over a program that matters here, because the task in it was interrupted by another
/// on its CPU (docs/policies/deny.md): each time one request may have been let through.
pub fn passed_over() -> usize {
    passed_over_of(&["growth__0", "cgroup_mkdir"])
}

/// The same of other programs.
pub fn passed_over_of(names: &[&str]) -> usize {
    let all: serde_json::Value = serde_json::from_str(&sh("bpftool -j prog show")).unwrap();
    let counts =
        all.as_array().unwrap().iter().filter(|program| names.iter().any(|name| program["name"] == **name));
    counts.filter_map(|program| program["recursion_misses"].as_u64()).sum::<u64>().try_into().unwrap()
}
