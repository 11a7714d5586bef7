//! Floods of the bus by an unprivileged user: root's calls and container starts are served, and the memory of the daemon
//! stays bounded.

use std::time::{Duration, Instant};

use crate::support::{TestEnv, main_pid, sh, systemd, try_sh};

const BUS: &str = "busctl call --system org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager";
const NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

#[test]
#[ignore = "needs root in the test machine: make check"]
fn flood_of_big_calls_delays_no_call_of_root() {
    let mut env = TestEnv::new("flood");
    let pid = main_pid();
    // 100,000 bytes are the most that one argument of a program can have.
    env.file("/run/mpflood", &"x".repeat(100_000));
    env.at_end("systemctl stop mpflood.service".to_owned());
    let flood = format!("while :; do {BUS} Attach ss /a.slice \"$(cat /run/mpflood)\"; done");
    sh(&format!(
        "systemd-run --quiet --unit=mpflood.service --uid=65534 bash -c 'for i in 1 2 3 4; do ({flood}) >/dev/null 2>&1 & done; wait'"
    ));
    std::thread::sleep(Duration::from_secs(3));
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        sh(&format!("{BUS} Stats"));
        slowest = slowest.max(began.elapsed());
    }
    // The hook waits at most two seconds, and busctl itself takes some hundred milliseconds here.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    systemd::stop("mpflood.service");
    let high: u64 = sh("systemctl show -P MemoryHigh memcg-bpfd").parse().unwrap();
    let used: u64 = sh("cat /sys/fs/cgroup/system.slice/memcg-bpfd.service/memory.peak 2>/dev/null || \
                        cat /sys/fs/cgroup/system.slice/memcg-bpfd.service/memory.current")
    .parse()
    .unwrap();
    assert!(used < high, "{used} of {high}");
    assert_eq!(main_pid(), pid, "the daemon was not restarted");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn user_beyond_call_rate_is_busy_and_root_is_not() {
    let env = TestEnv::new("rate");
    let calls = |prefix: &str| {
        let script = format!("for i in $(seq 60); do {BUS} Detach s a & done 2>&1; wait");
        let output = try_sh(&format!("{prefix} bash -c '{script}' 2>&1"));
        (output.out.matches("calls too often").count(), output.out.matches("does not start with").count())
    };
    let (busy, served) = calls(NOBODY);
    assert!(busy > 0 && served >= 32, "{busy} busy, {served} served");
    assert_eq!(calls("").0, 0);
    env.end();
}
