//! Without the daemon: what is in force stays in force, and what is registered comes into force, while it is killed,
//! restarted, or gone.

use std::fs;

use crate::support::{
    PROGRAMS, Scene, active, daemon_runs, nothing_is_left, residue, sh, status, try_sh, unit_in_state,
    wait_for,
};

const KILLS: usize = 3;
const RESTARTS: usize = 2;

/// A service that asks for 128 MiB again and again, and may not have it. Alone on a processor: the kernel skips a tracing
/// program on a processor on which another task was interrupted within it (docs/policies/deny.md), and what is tested
/// here are our gaps, not that one.
fn greedy(scene: &mut Scene, name: &str) {
    let out = scene.out(name);
    let text = format!(
        "[Service]\nSlice=mpalone.slice\nExecStart={PROGRAMS}/greedy\nStandardOutput=append:{}\n",
        out.display()
    );
    scene.unit(name, &text).policy(name, "deny limit=64M").reload();
    unit_in_state(name, "registered");
    for (unit, processors) in [("init.scope", "0"), ("system.slice", "0"), ("mpalone.slice", "1")] {
        sh(&format!(
            "systemctl start {unit}; systemctl set-property --runtime {unit} AllowedCPUs={processors}"
        ));
        scene.at_end(format!("systemctl set-property --runtime {unit} AllowedCPUs="));
    }
    scene.stops("mpalone.slice");
    sh(&format!("systemctl start {name}"));
    active(&format!("/mpalone.slice/{name}"));
}

/// How often it was refused, and how often not.
fn asked(scene: &Scene, name: &str) -> (u64, u64) {
    sh(&format!("systemctl stop {name}"));
    let out = fs::read_to_string(scene.out(name)).unwrap();
    let words: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
    let ["refused", refused, "got", got] = words[..] else { panic!("{out}") };
    (refused.parse().unwrap(), got.parse().unwrap())
}

/// One daemon's pins: its predecessor's are gone when it is ready.
fn pins() -> Vec<String> {
    sh("ls /sys/fs/bpf/memcg-bpf").lines().map(str::to_owned).collect()
}

fn killed() {
    let pid = sh("systemctl reset-failed memcg-bpfd; systemctl show -P MainPID memcg-bpfd");
    sh("systemctl kill -s KILL memcg-bpfd");
    wait_for("systemd to start the daemon again", || {
        let state = try_sh("systemctl show -P MainPID memcg-bpfd; systemctl is-active memcg-bpfd").out;
        (state.ends_with("\nactive") && !state.starts_with(&format!("{pid}\n"))).then_some(())
    });
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_program_never_gets_what_is_denied_while_the_daemon_is_killed_and_restarted() {
    let mut scene = Scene::new("gap");
    greedy(&mut scene, "mpgap.service");
    for _ in 0..KILLS {
        killed();
        assert_eq!(pins().len(), 1, "{:?}", pins());
    }
    for _ in 0..RESTARTS {
        sh("systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd");
        assert_eq!(pins().len(), 1, "{:?}", pins());
    }
    let report = active("/mpalone.slice/mpgap.service");
    let denied = report.counters["growth_denied"];
    let (refused, got) = asked(&scene, "mpgap.service");
    assert_eq!(got, 0, "refused {refused} times");
    assert!(denied > 0 && denied <= refused, "{denied} of {refused} refusals were counted");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_unit_that_starts_while_the_daemon_is_dead_is_governed_from_its_first_instruction() {
    let mut scene = Scene::new("dead");
    scene
        .service("mpdead.service", &format!("{PROGRAMS}/first"), "")
        .policy("mpdead.service", "deny limit=64M")
        .reload();
    unit_in_state("mpdead.service", "registered");
    sh("systemctl mask --runtime memcg-bpfd; systemctl kill -s KILL memcg-bpfd");
    scene.at_end("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    wait_for("the daemon to be dead", || {
        (try_sh("systemctl is-active memcg-bpfd").out == "failed").then_some(())
    });
    sh("systemctl start mpdead.service");
    assert_eq!(fs::read_to_string(scene.out("mpdead.service")).unwrap(), "refused\n");
    sh("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd");
    daemon_runs();
    unit_in_state("mpdead.service", "registered");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_daemon_that_is_killed_while_it_stops_leaves_nothing_either() {
    let mut scene = Scene::new("hung");
    greedy(&mut scene, "mphung.service");
    // It cannot answer SIGTERM; after this time systemd kills it.
    sh("mkdir -p /run/systemd/system/memcg-bpfd.service.d; printf '[Service]\\nTimeoutStopSec=2s\\n' \
        > /run/systemd/system/memcg-bpfd.service.d/50-hung.conf; systemctl daemon-reload");
    scene.at_end("rm -r /run/systemd/system/memcg-bpfd.service.d; systemctl daemon-reload; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    sh("systemctl kill -s STOP --kill-whom=main memcg-bpfd; systemctl stop memcg-bpfd");
    nothing_is_left();
    assert_eq!(residue(), "");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_a_dead_daemon_left_in_force_is_ended_by_hand() {
    let mut scene = Scene::new("forget");
    greedy(&mut scene, "mpforget.service");
    sh("systemctl mask --runtime memcg-bpfd; systemctl kill -s KILL memcg-bpfd");
    scene.at_end("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    wait_for("the daemon to be dead", || {
        (try_sh("systemctl is-active memcg-bpfd").out == "failed").then_some(())
    });
    assert!(residue().contains("growth__0"), "{}", residue());
    let said = sh("memcg-bpfd --forget");
    assert_eq!(said, "memcg-bpfd: 1 records removed, and the programs of a daemon that is gone");
    nothing_is_left();
    assert!(asked(&scene, "mpforget.service").1 > 0, "nobody refuses any more");
    sh("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd");
    daemon_runs();
    assert!(status().iter().all(|r| r.state != "active"));
    scene.end();
}
