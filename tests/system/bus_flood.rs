//! Floods of the bus by an unprivileged user: root's calls and container starts are served, and the memory of the daemon
//! stays bounded.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::support::bus::{call, on_bus};
use crate::support::{TestEnv, main_pid, sh, systemd};

const BUS: &str = "busctl call --system org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager";

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

/// Calls by one connection of this user: how many were rejected as too many, and how many reached the daemon.
fn calls(uid: u32, number: usize) -> (usize, usize) {
    let thread = std::thread::spawn(move || {
        // The bus knows the user from the socket. The system calls change this thread only.
        // SAFETY: they have no pointers.
        let changed = unsafe {
            nix::libc::syscall(nix::libc::SYS_setresgid, uid, uid, uid) == 0
                && nix::libc::syscall(nix::libc::SYS_setresuid, uid, uid, uid) == 0
        };
        assert!(changed);
        let errors = on_bus(Duration::from_secs(120), async |connection| {
            let method = ("org.memcg.Bpf1.Manager", "Detach");
            let calls =
                (0..number).map(|_| call(&connection, "org.memcg.Bpf1", "/org/memcg/Bpf1", method, &"a"));
            Ok(join_all(calls).await)
        });
        errors.unwrap().into_iter().map(|result| result.unwrap_err().to_string()).collect::<Vec<_>>()
    });
    let errors = thread.join().unwrap();
    let count = |text: &str| errors.iter().filter(|error| error.contains(text)).count();
    (count("calls too often"), count("does not start with"))
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn user_beyond_call_rate_is_busy_and_root_is_not() {
    let env = TestEnv::new("rate");
    let (busy, served) = calls(65534, 400);
    assert!(busy > 0 && served > 0, "{busy} busy, {served} served");
    let root = (0..50).map(|_| calls(0, 1));
    assert!(root.into_iter().all(|outcome| outcome == (0, 1)));
    env.end();
}
