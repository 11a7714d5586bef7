//! What tests of faults share: a puppet, sources laid out anew, and what the daemon says of itself.

use memcg_bpf::report::ActionStats;

use super::{PROGRAMS, Scene, sh, try_sh};

/// Installs the puppet of tests/policies in a daemon that begins to count anew, until the scene ends.
pub fn puppet_enters(scene: &mut Scene) {
    let own = "/etc/memcg-bpf/policies";
    let anew = "systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd";
    scene.at_end(format!("rm {own}/puppet.bpf.o; rmdir {own}; {anew}"));
    sh(&format!("mkdir -p {own}; cp /data/policies/puppet.bpf.o {own}/; {anew}"));
}

/// Restarts the daemon with objects as another version might have them (tests/policies/relaid.sed), until the scene ends.
pub fn relaid(scene: &mut Scene) {
    let (installed, relaid) = ("/usr/lib/memcg-bpf", "/data/policies/relaid");
    let anew = "systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd";
    scene.at_end(format!("umount -l {installed}/policies {installed}/core.bpf.o; {anew}"));
    let bind = |what: &str| format!("mount --bind {relaid}/{what} {installed}/{what}");
    sh(&format!("{}; {}; {anew}", bind("policies"), bind("core.bpf.o")));
}

/// Acting as a whole, as the daemon counts it.
pub fn actions() -> ActionStats {
    let all: serde_json::Value = serde_json::from_str(&sh("memcg-bpf metrics --json")).unwrap();
    serde_json::from_value(all["actions"].clone()).unwrap()
}

/// The daemon's process.
pub fn main_pid() -> String {
    sh("systemctl show -P MainPID memcg-bpfd")
}

/// Stops the daemon, as a debugger does, while `act` runs.
pub fn while_it_stands_still<T>(scene: &mut Scene, act: impl FnOnce(&mut Scene) -> T) -> T {
    let signal = |name: &str| format!("systemctl kill -s {name} --kill-whom=main memcg-bpfd");
    scene.at_end(signal("CONT"));
    sh(&signal("STOP"));
    let came = act(scene);
    sh(&signal("CONT"));
    came
}

/// What the daemon holds on to: file descriptors, and memory that nobody shares, in KiB.
pub fn held() -> (usize, usize) {
    let pid = main_pid();
    let number = |script: &str| sh(script).trim().parse::<usize>().unwrap();
    (
        number(&format!("ls /proc/{pid}/fd | wc -l")),
        number(&format!("awk '$1 == \"Private_Dirty:\" {{ print $2 }}' /proc/{pid}/smaps_rollup")),
    )
}

/// What a daemon has said.
pub fn journal_of(pid: &str) -> String {
    sh(&format!("journalctl --sync; journalctl -q -o cat --no-pager _COMM=memcg-bpfd _PID={pid}"))
}

/// Requests of so many MiB from within a cgroup, one after the other: did it get them all?
pub fn asked_in(cgroup: &str, sizes: &str) -> bool {
    let said = try_sh(&format!("{PROGRAMS}/ask {cgroup} {sizes}"));
    assert!(said.status == 0 || said.err.starts_with("mmap: "), "{said:?}");
    said.status == 0
}
