//! Effects of actions: the cgroup files themselves, and what the daemon reports.

use std::fs;

use memcg_bpf::report::{ActionReport, MSGID_ACTION};

use super::journal::stored_journal;
use super::{active, find, journal_sync, sh, wait_for};

/// The content of a file of a cgroup.
pub fn knob(cgroup: &str, file: &str) -> String {
    let path = format!("/sys/fs/cgroup{cgroup}/{file}");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim_end().to_owned()
}

/// The number in a file of a cgroup; "max" is the largest number.
pub fn bytes(cgroup: &str, file: &str) -> u64 {
    let text = knob(cgroup, file);
    if text == "max" { u64::MAX } else { text.parse().unwrap() }
}

/// Waits until a file has this content.
pub fn knob_becomes(cgroup: &str, file: &str, value: &str) {
    wait_for(&format!("{file} of {cgroup} to be {value}"), || (knob(cgroup, file) == value).then_some(()));
}

/// Microseconds for which some task of a cgroup has waited for memory, by the kernel's own count.
pub fn waited(cgroup: &str) -> Option<u64> {
    knob(cgroup, "memory.pressure").lines().next()?.rsplit_once("total=")?.1.parse().ok()
}

/// How many actions ended so (`done`, `dry-run`, …), as the daemon counts them.
pub fn acted(cgroup: &str, outcome: &str) -> u64 {
    find(cgroup).and_then(|report| report.actions.get(outcome).copied()).unwrap_or_default()
}

/// Waits until the tasks have been stalled on memory for this long, from now on and summed over tasks.
pub fn wait_for_stall(cgroup: &str, seconds: u64) {
    let stalled = || active(cgroup).counters["stall_ns"];
    let before = stalled();
    wait_for("tasks to wait", || (stalled() - before > seconds * 1_000_000_000).then_some(()));
}

/// The last action on a cgroup, once there is one with this outcome.
pub fn last_action(cgroup: &str, outcome: &str) -> ActionReport {
    wait_for(&format!("an action on {cgroup} that is {outcome}"), || {
        find(cgroup)?.last_action.filter(|action| action.outcome == outcome)
    })
}

/// The journal's entries about actions on a cgroup, the oldest first, each with its fields.
pub fn journal_entries(cgroup: &str) -> Vec<serde_json::Value> {
    journal_sync();
    stored_journal_entries(cgroup)
}

/// The same without waiting for journald, for polling.
pub fn stored_journal_entries(cgroup: &str) -> Vec<serde_json::Value> {
    let of = format!("MEMCG_BPF_CGROUP={cgroup}");
    let json = stored_journal(&["-o", "json", &format!("MESSAGE_ID={MSGID_ACTION}"), &of]);
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often the kernel has skipped a relevant program, because the task in it was interrupted by another one on its
/// CPU (docs/policies/deny.md). A request may be allowed each time.
pub fn recursion_misses() -> usize {
    recursion_misses_of(&["growth__0", "cgroup_mkdir"])
}

/// The same for other programs.
pub fn recursion_misses_of(names: &[&str]) -> usize {
    let all: serde_json::Value = serde_json::from_str(&sh("bpftool -j prog show")).unwrap();
    let counts =
        all.as_array().unwrap().iter().filter(|program| names.iter().any(|name| program["name"] == **name));
    counts.filter_map(|program| program["recursion_misses"].as_u64()).sum::<u64>().try_into().unwrap()
}
