//! Actions that policies submit are executed by the real daemon on real cgroups, and undone. The policy is scripted
//! (`tests/policies`): a program in the cgroup triggers it by mapping address space of a certain size.

mod knobs;
mod reclaim_kill;

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{
    PROGRAMS, TestEnv, acted as count, assert_no_leftovers, attach, ensure_daemon, find, journal,
    journal_entries, knob, knob_becomes, last_action as last, recorded_cgroups, sh, stored_journal_entries,
    systemd, try_sh, wait_for, wait_for_daemon_restart,
};

const MIB: u64 = 1 << 20;

/// A request of this size makes the scripted policy release its constraint.
const OFF: &str = "1024";

/// Where a machine's own policies are.
const OWN: &str = "/etc/memcg-bpf/policies";

/// A env with the scripted policys installed. They stay for the next test: a start of the daemon takes its time here.
fn env_with_scripted_policy(name: &str) -> TestEnv {
    let mut env = TestEnv::new(name);
    if !fs::exists(format!("{OWN}/scripted.bpf.o")).unwrap() {
        sh(&format!(
            "mkdir -p {OWN}; cp /data/policies/{{scripted,scripted2}}.bpf.o {OWN}/; memcg-bpf reload"
        ));
    }
    env.at_end("memcg-bpf resume".to_owned());
    env
}

/// Its name sorts after those of the submodules, so that it runs last.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn scripted_policies_removed_by_reload() {
    sh(&format!("rm -f {OWN}/scripted.bpf.o {OWN}/scripted2.bpf.o; rmdir {OWN}; memcg-bpf reload"));
    assert!(!sh("memcg-bpf policies").contains("scripted"));
}

/// A cgroup of our own, which systemd does not know.
fn cgroup(env: &mut TestEnv, name: &str) -> String {
    cgroup_at(env, format!("/mpact-{name}"))
}

fn cgroup_at(env: &mut TestEnv, path: String) -> String {
    let dir = format!("/sys/fs/cgroup{path}");
    sh(&format!("mkdir {dir}"));
    env.at_end(format!(
        "echo 1 > {dir}/cgroup.kill; until rmdir {dir}; do sleep 0.1; [ -d {dir} ] || break; done"
    ));
    path
}

/// Requests of so many MiB, one after the other, from within the cgroup; 'x' waits.
fn ask(cgroup: &str, sizes: &str) {
    sh(&format!("{PROGRAMS}/alloc_in_cgroup {cgroup} {sizes}"));
}

fn write(cgroup: &str, file: &str, value: &str) {
    fs::write(format!("/sys/fs/cgroup{cgroup}/{file}"), value).unwrap();
}

#[track_caller]
fn becomes(cgroup: &str, file: &str, value: u64) {
    let value = if value == u64::MAX { "max".to_owned() } else { value.to_string() };
    knob_becomes(cgroup, file, &value);
}
