//! Allocations that cannot return ENOMEM succeed under any limit; all others fail with it.

use crate::support::{PROGRAMS, TestEnv, sh, systemd, unit_in_state};

/// Runs `alloc_paths` in a service with a policy line, and returns its output.
fn edges(env: &mut TestEnv, unit: &str, line: &str, what: &str) -> String {
    env.service(unit, &format!("{PROGRAMS}/alloc_paths {what}"), "TasksMax=infinity\nLimitNPROC=infinity");
    env.policy(unit, line).reload();
    unit_in_state(unit, "registered");
    systemd::start(unit);
    std::fs::read_to_string(env.out(unit)).unwrap()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn deny_exempts_stack_fork_exec() {
    let mut env = TestEnv::new("exempt");
    let output =
        edges(&mut env, "mpexempt.service", "deny limit=16M", "recursion fork tmpfs noreserve access");
    assert_eq!(output, "recursion: ok\nfork: ok\ntmpfs: ok\nnoreserve: ok\naccess: ok\n");
    // A thread's stack is mapped by mmap; 1,000 of them fit, although their address space would not.
    let output = edges(&mut env, "mpthreads.service", "deny limit=64M", "threads");
    assert_eq!(output, "threads: ok\n");
    // Small requests pass in a full cgroup if the policy exempts them.
    let output = edges(&mut env, "mpsmall.service", "deny limit=16M min=1M", "small-threads");
    assert_eq!(output, "small-threads: ok\n");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn deny_covers_every_fallible_call() {
    let mut env = TestEnv::new("denied");
    let what = "private mprotect mremap brk shared shm commit arena pieces";
    let refused: String = what.split(' ').map(|w| format!("{w}: denied (ENOMEM)\n")).collect();
    let granted: String = what.split(' ').map(|w| format!("{w}: ok\n")).collect();
    assert_eq!(edges(&mut env, "mprefused.service", "deny limit=16M", what), refused);
    assert_eq!(edges(&mut env, "mpdry.service", "deny limit=16M mode=dry-run", what), granted);
    assert_eq!(edges(&mut env, "mpmin.service", "deny limit=16M min=256M", what), granted);
    // A percentage is one of the effective maximum.
    env.file("/etc/systemd/system/mppercent.service.d/max.conf", "[Service]\nMemoryMax=32M\n");
    assert_eq!(edges(&mut env, "mppercent.service", "deny limit=50%", what), refused);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn swapoff_works_under_deny() {
    let mut env = TestEnv::new("swapoff");
    sh("vm-swap-on 256M");
    env.at_end("swapoff -a; rm -f /swapfile".to_owned());
    env.unit(
        "mpswap.service",
        &format!(
            "[Service]\nType=exec\nExecStart={PROGRAMS}/alloc 48 hold\nStandardOutput=file:{}\n",
            env.out("swap").display()
        ),
    );
    env.policy("mpswap.service", "deny limit=64M");
    env.service("mpswapoff.service", "/usr/sbin/swapoff /swapfile", "")
        .policy("mpswapoff.service", "deny limit=16M");
    env.reload();
    unit_in_state("mpswapoff.service", "registered");
    systemd::start("mpswap.service");
    assert_eq!(crate::support::first_line(&env.out("swap")), "reached 48 MiB");
    let cgroup = "/sys/fs/cgroup/system.slice/mpswap.service";
    // It answers EAGAIN when it could not get all of it.
    sh(&format!("echo 32M > {cgroup}/memory.reclaim || true"));
    let swapped = || -> u64 { sh(&format!("cat {cgroup}/memory.swap.current")).parse().unwrap() };
    assert!(swapped() > 0, "nothing was swapped out");
    systemd::start("mpswapoff.service");
    assert_eq!(sh("swapon --show --noheadings"), "");
    assert_eq!(swapped(), 0);
    env.end();
}
