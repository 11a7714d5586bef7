//! Without the daemon: what is in force stays in force, and what is registered comes into force, while it is killed,
//! restarted, or gone.

use std::fs;

use crate::support::{
    PROGRAMS, Scene, active, another_daemon_after, daemon_runs, greedy_asked, greedy_starts, journal_of,
    main_pid, nothing_is_left, residue, sh, status, try_sh, unit_in_state, wait_for,
};

const KILLS: usize = 3;
const RESTARTS: usize = 2;

/// One daemon's pins: its predecessor's are gone when it is ready.
fn pins() -> Vec<String> {
    sh("ls /sys/fs/bpf/memcg-bpf").lines().map(str::to_owned).collect()
}

fn killed() {
    sh("systemctl reset-failed memcg-bpfd");
    another_daemon_after(|| drop(sh("systemctl kill -s KILL memcg-bpfd")));
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_program_never_gets_what_is_denied_while_the_daemon_is_killed_and_restarted() {
    let mut scene = Scene::new("gap");
    greedy_starts(&mut scene, "mpgap.service");
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
    let (refused, got) = greedy_asked(&scene, "mpgap.service");
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
    greedy_starts(&mut scene, "mphung.service");
    let freeze = "/sys/fs/cgroup/system.slice/memcg-bpfd.service/cgroup.freeze";
    scene.at_end(format!("echo 0 > {freeze}; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd"));
    // It cannot answer SIGTERM, after which systemd has who was stopped go on; and is killed, as systemd would when its
    // time to stop is over.
    sh(&format!("echo 1 > {freeze}; systemctl stop --no-block memcg-bpfd"));
    wait_for("it to be told to stop", || {
        (try_sh("systemctl show -P SubState memcg-bpfd").out == "stop-sigterm").then_some(())
    });
    let pid = main_pid();
    sh(&format!("systemctl kill -s KILL --kill-whom=main memcg-bpfd; echo 0 > {freeze}"));
    wait_for("the end of its unit", || {
        (try_sh("systemctl is-active memcg-bpfd").out == "failed").then_some(())
    });
    assert!(!journal_of(&pid).contains("stopped; "), "it has answered");
    nothing_is_left();
    assert_eq!(residue(), "");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_a_dead_daemon_left_in_force_is_ended_by_hand() {
    let mut scene = Scene::new("forget");
    greedy_starts(&mut scene, "mpforget.service");
    sh("systemctl mask --runtime memcg-bpfd; systemctl kill -s KILL memcg-bpfd");
    scene.at_end("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    wait_for("the daemon to be dead", || {
        (try_sh("systemctl is-active memcg-bpfd").out == "failed").then_some(())
    });
    assert!(residue().contains("growth__0"), "{}", residue());
    let said = sh("memcg-bpfd --cleanup");
    assert_eq!(said, "memcg-bpfd: 1 records removed, and the programs of a daemon that is gone");
    nothing_is_left();
    assert!(greedy_asked(&scene, "mpforget.service").1 > 0, "nobody refuses any more");
    sh("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd");
    daemon_runs();
    assert!(status().iter().all(|r| r.state != "active"));
    scene.end();
}
