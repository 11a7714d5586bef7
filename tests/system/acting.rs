//! What policies ask for is done by the real daemon on real cgroups, and undone. The policy is a puppet
//! (`tests/policies`): a program in the cgroup pulls the string by asking for address space.

mod knobs;
mod once;

use std::fs;

use crate::support::{
    PROGRAMS, Scene, acted as count, another_daemon_after, daemon_runs, find, governed_records, knob,
    knob_becomes, last_action as last, nothing_is_left, sh, told, try_sh, wait_for,
};

const MIB: u64 = 1 << 20;

/// A request of this size makes the puppet let go.
const OFF: &str = "1024";

/// Where a machine's own policies are.
const OWN: &str = "/etc/memcg-bpf/policies";

/// A scene with the puppets installed. They stay for the next test: a start of the daemon takes its time here.
fn stage(name: &str) -> Scene {
    let mut scene = Scene::new(name);
    if !fs::exists(format!("{OWN}/puppet.bpf.o")).unwrap() {
        sh(&format!(
            "mkdir -p {OWN}; cp /data/policies/{{puppet,marionette}}.bpf.o {OWN}/; systemctl restart memcg-bpfd"
        ));
    }
    scene.at_end("memcg-bpf resume".to_owned());
    scene
}

/// The name makes it the last.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn zz_the_puppets_leave() {
    sh(&format!(
        "rm -f {OWN}/puppet.bpf.o {OWN}/marionette.bpf.o; rmdir {OWN}; systemctl restart memcg-bpfd"
    ));
    assert!(!sh("memcg-bpf policies").contains("puppet"));
}

/// A cgroup of our own, which systemd does not know.
fn cgroup(scene: &mut Scene, name: &str) -> String {
    cgroup_at(scene, format!("/mpact-{name}"))
}

fn cgroup_at(scene: &mut Scene, path: String) -> String {
    let dir = format!("/sys/fs/cgroup{path}");
    sh(&format!("mkdir {dir}"));
    scene.at_end(format!(
        "echo 1 > {dir}/cgroup.kill; until rmdir {dir}; do sleep 0.1; [ -d {dir} ] || break; done"
    ));
    path
}

fn attach(cgroup: &str, line: &str) {
    sh(&format!("memcg-bpf attach {cgroup} '{line}'"));
}

/// Requests of so many MiB, one after the other, from within the cgroup; 'x' waits.
fn ask(cgroup: &str, sizes: &str) {
    sh(&format!("{PROGRAMS}/ask {cgroup} {sizes}"));
}

fn write(cgroup: &str, file: &str, value: &str) {
    fs::write(format!("/sys/fs/cgroup{cgroup}/{file}"), value).unwrap();
}

#[track_caller]
fn becomes(cgroup: &str, file: &str, value: u64) {
    let value = if value == u64::MAX { "max".to_owned() } else { value.to_string() };
    knob_becomes(cgroup, file, &value);
}
