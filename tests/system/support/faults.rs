//! Fault injection: the scripted policy, objects with another layout, a stopped daemon, and the daemon's counters.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{PROGRAMS, TestEnv, action_stats, sh, systemd, try_sh};

/// Installs the scripted policy of tests/policies until the environment ends.
pub fn install_scripted_policy(env: &mut TestEnv) {
    let own = "/etc/memcg-bpf/policies";
    env.at_end(format!("rm {own}/scripted.bpf.o; rmdir {own}; memcg-bpf reload"));
    sh(&format!("mkdir -p {own} && cp /data/policies/scripted.bpf.o {own}/ && memcg-bpf reload"));
}

/// Restarts the daemon with objects of a fictitious other version (tests/policies/abi_variant.sed), until the
/// environment ends.
pub fn install_abi_variant(env: &mut TestEnv) {
    let (installed, variant) = ("/usr/lib/memcg-bpf", "/data/policies/abi_variant");
    let anew = "systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd";
    // A test may have unmounted them and restarted the daemon.
    env.at_end(format!("if umount -l {installed}/policies {installed}/core.bpf.o; then {anew}; fi"));
    let bind = |what: &str| format!("mount --bind {variant}/{what} {installed}/{what}");
    sh(&format!("{}; {}; {anew}", bind("policies"), bind("core.bpf.o")));
}

/// The number of actions of all cgroups by outcome, since the daemon started.
pub fn action_counts() -> BTreeMap<String, u64> {
    action_stats().counts
}

/// The same since `before`.
pub fn new_actions(before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut counts = action_counts();
    for (outcome, count) in before {
        *counts.get_mut(outcome).expect("an outcome once counted stays") -= count;
    }
    counts.retain(|_, count| *count > 0);
    counts
}

/// The daemon's process.
pub fn main_pid() -> String {
    systemd::daemon_pid().expect("systemd's answer").to_string()
}

/// Stops the daemon with SIGSTOP while `act` runs.
pub fn with_daemon_stopped<T>(env: &mut TestEnv, act: impl FnOnce(&mut TestEnv) -> T) -> T {
    env.at_end("systemctl kill -s CONT --kill-whom=main memcg-bpfd".to_owned());
    systemd::kill("memcg-bpfd", "main", Signal::SIGSTOP);
    let result = act(env);
    systemd::kill("memcg-bpfd", "main", Signal::SIGCONT);
    result
}

/// The daemon's file descriptors, and its private memory in KiB.
pub fn daemon_resources() -> (usize, usize) {
    let proc = PathBuf::from("/proc").join(main_pid());
    let smaps = fs::read_to_string(proc.join("smaps_rollup")).unwrap();
    let dirty =
        smaps.lines().find_map(|line| line.strip_prefix("Private_Dirty:")?.trim().strip_suffix(" kB"));
    (fs::read_dir(proc.join("fd")).unwrap().count(), dirty.unwrap().trim().parse().unwrap())
}

/// Maps this many MiB several times in a cgroup; true if all succeeded.
pub fn alloc_in_cgroup(cgroup: &str, sizes: &str) -> bool {
    let output = try_sh(&format!("{PROGRAMS}/alloc_in_cgroup {cgroup} {sizes}"));
    assert!(output.status == 0 || output.err.starts_with("mmap: "), "{output:?}");
    output.status == 0
}
