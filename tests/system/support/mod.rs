//! Helpers of the tests: processes, waiting, the state of the daemon and of systemd, and leftovers.

mod actions;
mod alloc_loop;
pub mod bus;
mod containers;
pub mod cri;
pub mod docker;
mod env;
mod faults;
mod journal;
mod leftovers;
pub mod systemd;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use memcg_bpf::report::BindingReport;

pub use actions::{
    acted, bytes, journal_entries, knob, knob_becomes, last_action, recursion_misses, recursion_misses_of,
    stored_journal_entries, wait_for_stall, waited,
};
pub use alloc_loop::{pin_to_cpu, start_alloc_loop, stop_alloc_loop};
pub use bus::{action_stats, attach, status};
pub use containers::{HOOK, PROGRAMS, cgroup_of, retry_on_hook_timeout};
pub use env::TestEnv;
pub use faults::{
    action_counts, alloc_in_cgroup, daemon_resources, install_abi_variant, install_scripted_policy, main_pid,
    new_actions, with_daemon_stopped,
};
pub use journal::{
    hook_messages, hook_timeouts, hook_timeouts_since, journal, journal_of, journal_sync, since_now,
};
pub use leftovers::{assert_no_leftovers, leftovers, recorded_cgroups};

/// The first and the longest interval of polling.
const POLL_MIN: Duration = Duration::from_millis(10);
const POLL_MAX: Duration = Duration::from_millis(100);

/// Timeout of all waits. The machine is emulated, and its host is shared; a long run keeps it busy besides.
pub fn timeout() -> Duration {
    Duration::from_secs(if soak() > 0 { 300 } else { 60 })
}

/// Length of the long runs in percent; 0 outside of them.
pub fn soak() -> usize {
    std::env::var("MEMCG_BPF_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The result of a command.
#[derive(Debug, Clone)]
pub struct CmdOutput {
    /// Exit status; -1 if a signal ended the command.
    pub status: i32,
    /// Standard output without the last line feed.
    pub out: String,
    /// Standard error without the last line feed.
    pub err: String,
}

/// Runs a bash script.
pub fn try_sh(script: &str) -> CmdOutput {
    let output = Command::new("bash").args(["-c", script]).output().expect("bash");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    CmdOutput {
        status: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Runs a bash script that must succeed. Returns its standard output.
pub fn sh(script: &str) -> String {
    let output = try_sh(script);
    assert_eq!(output.status, 0, "{script}\n{}\n{}", output.out, output.err);
    output.out
}

/// Polls until `look` returns a value.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    let mut pause = POLL_MIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < timeout(),
            "waited {:?} for {what}; the daemon says:\n{}\n{}",
            timeout(),
            sh("journalctl -q --no-pager -n 20 -u memcg-bpfd -o cat || true"),
            try_sh("memcg-bpf status").out,
        );
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(POLL_MAX);
    }
}

/// The first line that a program writes to `file`.
pub fn first_line(file: &Path) -> String {
    wait_for(&format!("a line in {}", file.display()), || {
        let text = std::fs::read_to_string(file).ok()?;
        Some(text.split_once('\n')?.0.to_owned())
    })
}

/// The report for a cgroup, if there is one.
pub fn find(cgroup: &str) -> Option<BindingReport> {
    status().into_iter().find(|report| report.cgroup == cgroup)
}

/// Waits until a cgroup has an active policy.
pub fn active(cgroup: &str) -> BindingReport {
    wait_for(&format!("an active policy on {cgroup}"), || find(cgroup).filter(|r| r.state == "active"))
}

/// The report for a unit, once there is one in that state.
pub fn unit_in_state(unit: &str, state: &str) -> BindingReport {
    wait_for(&format!("{unit} to be {state}"), || {
        status().into_iter().find(|r| r.unit.as_deref() == Some(unit) && r.state == state)
    })
}

/// One parameter of one policy, as reported.
pub fn setting<'a>(report: &'a BindingReport, policy: &str, key: &str) -> Option<&'a str> {
    let policy = report.policies.iter().find(|p| p.name == policy)?;
    policy.parameters.get(key).map(String::as_str)
}

/// Starts the daemon if it does not run, and waits for its reply.
pub fn ensure_daemon() {
    systemd::reset_failed("memcg-bpfd");
    systemd::start("memcg-bpfd");
    status();
}

/// Ends the daemon by `end`, and waits until systemd has restarted it.
pub fn wait_for_daemon_restart(end: impl FnOnce()) {
    let pid = systemd::daemon_pid().unwrap();
    end();
    wait_for("systemd to start the daemon again", || {
        let next = systemd::daemon_pid()?;
        (next != pid && next != 0 && systemd::active_state("memcg-bpfd") == "active").then_some(())
    });
}

/// Asserts that `alloc` was denied at `limit` MiB: with at most 8 MiB less. Its other memory (page tables, stacks, the
/// shell that started it) is the rest.
#[track_caller]
pub fn assert_denied_at(line: &str, limit: u64) {
    let had = line
        .strip_prefix("malloc returned NULL after ")
        .and_then(|rest| rest.strip_suffix(" MiB: Cannot allocate memory"))
        .unwrap_or_else(|| panic!("'{line}' is no refusal (the limit is {limit} MiB)"));
    let had: u64 = had.parse().unwrap();
    // One request can pass: the kernel runs no program within itself (docs/policies/deny.md).
    assert!((limit - 8..=limit + 1).contains(&had), "{line}, but the limit is {limit} MiB");
}

/// `memory.events` of a cgroup, read from the kernel.
pub fn events(cgroup: &str) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/memory.events")).unwrap();
    text.lines().filter_map(|l| l.split_once(' ')).map(|(k, v)| (k.to_owned(), v.parse().unwrap())).collect()
}

/// Asserts that nothing below a cgroup ran out of memory.
#[track_caller]
pub fn assert_no_oom(cgroup: &str) {
    let events = events(cgroup);
    assert_eq!((events["oom"], events["oom_kill"]), (0, 0), "{cgroup}: {events:?}");
}
