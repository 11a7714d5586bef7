//! Ways to get memory that cannot say ENOMEM must work under any limit; all others must be told.

use crate::support::{PROGRAMS, Scene, sh, unit_in_state};

/// Runs `edge` in a service under a policy line; what it prints.
fn edges(scene: &mut Scene, unit: &str, line: &str, what: &str) -> String {
    scene.service(unit, &format!("{PROGRAMS}/edge {what}"), "TasksMax=infinity\nLimitNPROC=infinity");
    scene.policy(unit, line).reload();
    unit_in_state(unit, "registered");
    sh(&format!("systemctl start {unit}"));
    std::fs::read_to_string(scene.out(unit)).unwrap()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn under_a_tight_deny_nothing_breaks_that_cannot_be_refused() {
    let mut scene = Scene::new("exempt");
    let said = edges(&mut scene, "mpexempt.service", "deny limit=16M", "recursion fork tmpfs noreserve");
    assert_eq!(said, "recursion: ok\nfork: ok\ntmpfs: ok\nnoreserve: ok\n");
    // A thread's stack is asked for by mmap; 1,000 of them fit, although their address space would not.
    let said = edges(&mut scene, "mpthreads.service", "deny limit=64M", "threads");
    assert_eq!(said, "threads: ok\n");
    // Small requests go through a full cgroup, where the policy says so.
    let said = edges(&mut scene, "mpsmall.service", "deny limit=16M min=1M", "small-threads");
    assert_eq!(said, "small-threads: ok\n");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn under_a_tight_deny_every_call_that_can_say_so_is_refused() {
    let mut scene = Scene::new("refused");
    let what = "private mprotect mremap brk shared shm";
    let refused: String = what.split(' ').map(|w| format!("{w}: refused (ENOMEM)\n")).collect();
    let granted: String = what.split(' ').map(|w| format!("{w}: ok\n")).collect();
    assert_eq!(edges(&mut scene, "mprefused.service", "deny limit=16M", what), refused);
    assert_eq!(edges(&mut scene, "mpdry.service", "deny limit=16M mode=dry-run", what), granted);
    assert_eq!(edges(&mut scene, "mpmin.service", "deny limit=16M min=256M", what), granted);
    // A percentage is one of the effective maximum.
    scene.file("/etc/systemd/system/mppercent.service.d/max.conf", "[Service]\nMemoryMax=32M\n");
    assert_eq!(edges(&mut scene, "mppercent.service", "deny limit=50%", what), refused);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn swap_can_be_switched_off_from_a_governed_unit_with_swap_in_use() {
    let mut scene = Scene::new("swapoff");
    sh("vm-swap-on 256M");
    scene.at_end("swapoff -a; rm -f /swapfile".to_owned());
    scene.unit(
        "mpswap.service",
        &format!(
            "[Service]\nType=exec\nExecStart={PROGRAMS}/eat 48 hold\nStandardOutput=file:{}\n",
            scene.out("swap").display()
        ),
    );
    scene.policy("mpswap.service", "deny limit=64M");
    scene
        .service("mpswapoff.service", "/usr/sbin/swapoff /swapfile", "")
        .policy("mpswapoff.service", "deny limit=16M");
    scene.reload();
    unit_in_state("mpswapoff.service", "registered");
    sh("systemctl start mpswap.service");
    assert_eq!(crate::support::first_line(&scene.out("swap")), "reached 48 MiB");
    let cgroup = "/sys/fs/cgroup/system.slice/mpswap.service";
    // It answers EAGAIN when it could not get all of it.
    sh(&format!("echo 32M > {cgroup}/memory.reclaim || true"));
    let swapped = || -> u64 { sh(&format!("cat {cgroup}/memory.swap.current")).parse().unwrap() };
    assert!(swapped() > 0, "nothing was swapped out");
    sh("systemctl start mpswapoff.service");
    assert_eq!(sh("swapon --show --noheadings"), "");
    assert_eq!(swapped(), 0);
    scene.end();
}
