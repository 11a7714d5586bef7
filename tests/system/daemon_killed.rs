//! Attached policies stay active, and registered ones become active, while the daemon is killed, restarted, or absent.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{
    PROGRAMS, TestEnv, active, assert_no_leftovers, ensure_daemon, journal_of, leftovers, main_pid, sh,
    start_alloc_loop, status, stop_alloc_loop, systemd, unit_in_state, wait_for, wait_for_daemon_restart,
};

const KILLS: usize = 3;
const RESTARTS: usize = 2;

/// One daemon's pins: its predecessor's are gone when it is ready.
fn pins() -> Vec<String> {
    sh("ls /sys/fs/bpf/memcg-bpf").lines().map(str::to_owned).collect()
}

fn killed() {
    systemd::reset_failed("memcg-bpfd");
    wait_for_daemon_restart(|| systemd::kill("memcg-bpfd", "all", Signal::SIGKILL));
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn no_gap_during_daemon_kill() {
    let mut env = TestEnv::new("gap");
    start_alloc_loop(&mut env, "mpgap.service");
    for _ in 0..KILLS {
        killed();
        assert_eq!(pins().len(), 1, "{:?}", pins());
    }
    for _ in 0..RESTARTS {
        systemd::reset_failed("memcg-bpfd");
        systemd::restart("memcg-bpfd");
        assert_eq!(pins().len(), 1, "{:?}", pins());
    }
    let report = active("/mpalone.slice/mpgap.service");
    let denied = report.counters["growth_denied"];
    let (refused, got) = stop_alloc_loop(&env, "mpgap.service");
    assert_eq!(got, 0, "refused {refused} times");
    assert!(denied > 0 && denied <= refused, "{denied} of {refused} failures were counted");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn unit_started_without_daemon_is_covered() {
    let mut env = TestEnv::new("dead");
    env.service("mpdead.service", &format!("{PROGRAMS}/alloc_at_exec"), "")
        .policy("mpdead.service", "deny limit=64M")
        .reload();
    unit_in_state("mpdead.service", "registered");
    sh("systemctl mask --runtime memcg-bpfd; systemctl kill -s KILL memcg-bpfd");
    env.at_end("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    wait_for("the daemon to be dead", || (systemd::active_state("memcg-bpfd") == "failed").then_some(()));
    systemd::start("mpdead.service");
    assert_eq!(fs::read_to_string(env.out("mpdead.service")).unwrap(), "denied\n");
    sh("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd");
    ensure_daemon();
    unit_in_state("mpdead.service", "registered");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn sigkill_during_stop_leaves_nothing() {
    let mut env = TestEnv::new("hung");
    start_alloc_loop(&mut env, "mphung.service");
    let freeze = "/sys/fs/cgroup/system.slice/memcg-bpfd.service/cgroup.freeze";
    env.at_end(format!("echo 0 > {freeze}; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd"));
    // A frozen daemon cannot handle SIGTERM, also after the SIGCONT that systemd sends. It is then killed, as by systemd
    // after the stop timeout.
    sh(&format!("echo 1 > {freeze}; systemctl stop --no-block memcg-bpfd"));
    wait_for("systemd to send it SIGTERM", || {
        (systemd::sub_state("memcg-bpfd") == "stop-sigterm").then_some(())
    });
    let pid = main_pid();
    sh(&format!("systemctl kill -s KILL --kill-whom=main memcg-bpfd; echo 0 > {freeze}"));
    wait_for("the end of its unit", || (systemd::active_state("memcg-bpfd") == "failed").then_some(()));
    assert!(!journal_of(&pid).contains("stopped; "), "it has answered");
    assert_no_leftovers();
    assert_eq!(leftovers(), "");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn cleanup_option_removes_leftovers() {
    let mut env = TestEnv::new("forget");
    start_alloc_loop(&mut env, "mpforget.service");
    sh("systemctl mask --runtime memcg-bpfd; systemctl kill -s KILL memcg-bpfd");
    env.at_end("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    wait_for("the daemon to be dead", || (systemd::active_state("memcg-bpfd") == "failed").then_some(()));
    assert!(leftovers().contains("growth__0"), "{}", leftovers());
    let output = sh("memcg-bpfd --cleanup");
    assert_eq!(output, "memcg-bpfd: 1 records removed, and the programs of a previous daemon");
    assert_no_leftovers();
    assert!(stop_alloc_loop(&env, "mpforget.service").1 > 0, "requests are no longer denied");
    sh("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd");
    ensure_daemon();
    assert!(status().iter().all(|r| r.state != "active"));
    env.end();
}
