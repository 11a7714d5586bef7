//! What the tests share: running things, waiting for things, asking the daemon, and leaving nothing behind.

mod acts;
mod containers;
mod faults;
mod greedy;
mod residue;
mod scene;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use memcg_bpf::report::BindingReport;

pub use acts::{
    acted, bytes, has_waited, knob, knob_becomes, last_action, passed_over, passed_over_of, told,
};
pub use containers::{HOOK, PROGRAMS, cgroup_of, in_time};
pub use faults::{
    actions, asked_in, held, journal_of, main_pid, puppet_enters, relaid, while_it_stands_still,
};
pub use greedy::{alone, greedy_asked, greedy_starts};
pub use residue::{governed_records, nothing_is_left, residue};
pub use scene::Scene;

/// How long anything may take before a test gives up. The machine is emulated, and its host is shared; a long run keeps
/// it busy besides.
pub fn patience() -> Duration {
    Duration::from_secs(if soak() > 0 { 300 } else { 60 })
}

/// How long the long runs are, in percent of their whole length; 0 where others run.
pub fn soak() -> usize {
    std::env::var("MEMCG_BPF_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit status; -1 when a signal ended it.
    pub status: i32,
    /// Standard output without the last line feed.
    pub out: String,
    /// Standard error likewise.
    pub err: String,
}

/// Runs a bash script.
pub fn try_sh(script: &str) -> Said {
    let output = Command::new("bash").args(["-c", script]).output().expect("bash");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Said { status: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs a bash script that must succeed; its standard output.
pub fn sh(script: &str) -> String {
    let said = try_sh(script);
    assert_eq!(said.status, 0, "{script}\n{}\n{}", said.out, said.err);
    said.out
}

/// For journalctl: what is said from now on.
pub fn since_now() -> String {
    sh("date +--since=@%s.%N")
}

/// What hooks have said; `which`: conditions for journalctl.
pub fn hooks_said(which: &str) -> String {
    sh(&format!("journalctl --sync; journalctl -q -o cat --no-pager -t memcg-bpf-hook {which} || true"))
}

/// How often it is said in `text` that a hook gave up on a daemon, or an engine, that had no time for it (src/hook).
pub fn too_late(text: &str) -> usize {
    text.matches(" within 2s").count()
}

/// How many hooks gave up since then.
pub fn hooks_too_late(since: &str) -> usize {
    too_late(&hooks_said(since))
}

/// Polls until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < patience(),
            "waited {:?} for {what}; the daemon says:\n{}\n{}",
            patience(),
            sh("journalctl -q --no-pager -n 20 -u memcg-bpfd -o cat || true"),
            try_sh("memcg-bpf status").out,
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The first line that a program writes to `file`.
pub fn first_line(file: &Path) -> String {
    wait_for(&format!("a line in {}", file.display()), || {
        let text = std::fs::read_to_string(file).ok()?;
        Some(text.split_once('\n')?.0.to_owned())
    })
}

/// What the daemon says is governed or registered.
pub fn status() -> Vec<BindingReport> {
    let said = try_sh("memcg-bpf status --json");
    assert_eq!(said.status, 0, "{}", said.err);
    serde_json::from_str(&said.out).expect("what status --json prints")
}

/// The report for a cgroup, if there is one.
pub fn find(cgroup: &str) -> Option<BindingReport> {
    status().into_iter().find(|report| report.cgroup == cgroup)
}

/// Waits until a cgroup has a policy in force.
pub fn active(cgroup: &str) -> BindingReport {
    wait_for(&format!("a policy in force on {cgroup}"), || find(cgroup).filter(|r| r.state == "active"))
}

/// The report for a unit, once there is one in that state.
pub fn unit_in_state(unit: &str, state: &str) -> BindingReport {
    wait_for(&format!("{unit} to be {state}"), || {
        status().into_iter().find(|r| r.unit.as_deref() == Some(unit) && r.state == state)
    })
}

/// One setting of one policy, as reported.
pub fn setting<'a>(report: &'a BindingReport, policy: &str, key: &str) -> Option<&'a str> {
    let policy = report.policies.iter().find(|p| p.name == policy)?;
    policy.parameters.get(key).map(String::as_str)
}

/// The daemon runs, and has answered.
pub fn daemon_runs() {
    sh("systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd");
    status();
}

/// Does something that ends the daemon, and waits until systemd has started another.
pub fn another_daemon_after(end: impl FnOnce()) {
    let pid = main_pid();
    end();
    wait_for("systemd to start the daemon again", || {
        let state = try_sh("systemctl show -P MainPID memcg-bpfd; systemctl is-active memcg-bpfd").out;
        (state.ends_with("\nactive") && !state.starts_with(&format!("{pid}\n"))).then_some(())
    });
}

/// Asserts that `eat` was told no at `limit` MiB: with what it had within 8 MiB below. Its other memory (page tables,
/// stacks, the shell that started it) is the rest.
#[track_caller]
pub fn refused_at(line: &str, limit: u64) {
    let had = line
        .strip_prefix("malloc returned NULL after ")
        .and_then(|rest| rest.strip_suffix(" MiB: Cannot allocate memory"))
        .unwrap_or_else(|| panic!("'{line}' is no refusal (the limit is {limit} MiB)"));
    let had: u64 = had.parse().unwrap();
    assert!((limit - 8..=limit).contains(&had), "{line}, but the limit is {limit} MiB");
}

/// `memory.events` of a cgroup, read by us.
pub fn events(cgroup: &str) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/memory.events")).unwrap();
    text.lines().filter_map(|l| l.split_once(' ')).map(|(k, v)| (k.to_owned(), v.parse().unwrap())).collect()
}

/// Asserts that nothing below a cgroup ran out of memory.
#[track_caller]
pub fn no_oom(cgroup: &str) {
    let events = events(cgroup);
    assert_eq!((events["oom"], events["oom_kill"]), (0, 0), "{cgroup}: {events:?}");
}
