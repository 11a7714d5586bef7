//! Fault injection: cgroups, the bus, bpffs, systemd itself, and the daemon's objects change under the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use memcg_bpf::report::BindingReport;

use nix::sys::signal::Signal;

use crate::support::{
    PROGRAMS, TestEnv, action_counts, active, alloc_in_cgroup, find, install_abi_variant,
    install_scripted_policy, journal_entries, journal_of, knob_becomes, main_pid, new_actions,
    recursion_misses, setting, sh, start_alloc_loop, status, stop_alloc_loop, systemd, try_sh, unit_in_state,
    wait_for, wait_for_daemon_restart, with_daemon_stopped,
};

/// What must be the same afterwards.
fn bindings() -> Vec<(String, u64, String, String)> {
    let one = |r: BindingReport| (r.cgroup, r.cgroup_id, r.state, format!("{:?}", r.policies));
    status().into_iter().map(one).collect()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn actions_on_removed_cgroups_counted() {
    const ROUNDS: u64 = 24;
    let mut env = TestEnv::new("remove");
    install_scripted_policy(&mut env);
    env.at_end("systemctl kill -s CONT --kill-whom=main memcg-bpfd".to_owned());
    env.at_end("rmdir /sys/fs/cgroup/mpremove /sys/fs/cgroup/mpremove-not".to_owned());
    let (pid, missed, before) = (main_pid(), recursion_misses(), action_counts());
    for round in 0..ROUNDS {
        let verb =
            ["high", "reclaim value=1048576", "kill detail=2 value=1"][usize::try_from(round % 3).unwrap()];
        sh(&format!("mkdir /sys/fs/cgroup/mpremove; memcg-bpf attach /mpremove 'scripted verb={verb}'"));
        // In every other round it cannot even look before the cgroup is gone.
        let signal = |name: &str| match round / 3 % 2 {
            0 => format!("kill -{name} {pid};"),
            _ => String::new(),
        };
        let (stop, go_on) = (signal("STOP"), signal("CONT"));
        try_sh(&format!(
            "{stop} {PROGRAMS}/alloc_in_cgroup /mpremove 64; until rmdir /sys/fs/cgroup/mpremove; do sleep 0.01; done; {go_on}"
        ));
    }
    let counts = wait_for("every action to be counted", || {
        let missed = u64::try_from(recursion_misses() - missed).unwrap();
        let counts = new_actions(&before);
        (counts.values().sum::<u64>() + missed >= ROUNDS).then_some(counts)
    });
    assert!(counts.values().sum::<u64>() <= ROUNDS, "{counts:?}");
    let hook_timeouts: u64 = ["stale", "removed"].iter().filter_map(|word| counts.get(*word)).sum();
    let missed = u64::try_from(recursion_misses() - missed).unwrap();
    assert!(hook_timeouts + missed >= ROUNDS / 2, "{counts:?}");
    // Each action that was begun is logged with its reason.
    let removed = journal_of(&pid)
        .lines()
        .filter(|line| line.starts_with("/mpremove: ") && line.contains("the cgroup was removed before"))
        .count();
    assert_eq!(removed, usize::try_from(counts.get("removed").copied().unwrap_or(0)).unwrap(), "{counts:?}");

    sh("mkdir /sys/fs/cgroup/mpremove-not; memcg-bpf attach /mpremove-not 'scripted verb=high'");
    sh(&format!("{PROGRAMS}/alloc_in_cgroup /mpremove-not 64"));
    knob_becomes("/mpremove-not", "memory.high", &(64 << 20).to_string());
    assert_eq!(main_pid(), pid);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn graces_delay_no_other_kill() {
    /// As many as there are threads for kills (src/actuator/workers.rs).
    const GRACES: usize = 16;
    let mut env = TestEnv::new("turn");
    install_scripted_policy(&mut env);
    let (all, before) = (GRACES + 1, action_counts());
    env.at_end(
        "cd /sys/fs/cgroup; for d in mpturn-*; do echo 1 > $d/cgroup.kill; until rmdir $d; do sleep 0.1; done; done".to_owned(),
    );
    sh(&format!(
        "mkdir $(seq -f /sys/fs/cgroup/mpturn-%g {all}); \
         for i in $(seq {GRACES}); do memcg-bpf attach /mpturn-$i 'scripted verb=kill detail=2 value=300000000000' || exit 1; done; \
         memcg-bpf attach /mpturn-{all} 'scripted verb=kill detail=2'"
    ));
    // Each contains a process that ignores SIGTERM.
    sh(&format!(
        "for i in $(seq {all}); do (trap '' TERM; echo $BASHPID > /sys/fs/cgroup/mpturn-$i/cgroup.procs; \
         exec sleep 1000) </dev/null >/dev/null 2>&1 & disown; done; for i in $(seq {all}); do \
         until [ -n \"$(cat /sys/fs/cgroup/mpturn-$i/cgroup.procs)\" ]; do sleep 0.1; done; done"
    ));
    // Submitted until the kill runs: then the next one is blocked. The submitting program may itself be killed.
    for i in 1..=GRACES {
        let at = format!("/mpturn-{i}");
        wait_for(&format!("a grace in {at}"), || {
            if find(&at)?.last_action.is_some_and(|last| last.detail.ends_with("is in progress")) {
                return Some(());
            }
            try_sh(&format!("{PROGRAMS}/alloc_in_cgroup {at} 64 64"));
            None
        });
    }
    wait_for("the kill without a grace", || {
        try_sh(&format!("{PROGRAMS}/alloc_in_cgroup /mpturn-{all} 64 64"));
        (new_actions(&before).get("done") >= Some(&1)).then_some(())
    });
    let line = journal_entries(&format!("/mpturn-{all}")).pop().unwrap();
    assert!(line["MESSAGE"].as_str().unwrap().contains("with SIGKILL"), "{line:?}");
    assert_eq!(
        sh("cat /sys/fs/cgroup/mpturn-[1-9]/cgroup.procs /sys/fs/cgroup/mpturn-1[0-6]/cgroup.procs | wc -l"),
        "16"
    );
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn grace_period_spares_recreated_cgroup() {
    let dir = "/sys/fs/cgroup/mpgrace";
    let mut env = TestEnv::new("grace");
    install_scripted_policy(&mut env);
    let before = action_counts();
    env.at_end(format!("echo 1 > {dir}/cgroup.kill; until rmdir {dir}; do sleep 0.1; done"));
    sh(&format!("mkdir {dir}; memcg-bpf attach /mpgrace 'scripted verb=kill detail=2 value=300000000000'"));
    // It hears SIGTERM and stays: the daemon waits for its end.
    let heard = env.dir.join("heard");
    sh(&format!(
        "(trap 'touch {}' TERM; echo $BASHPID > {dir}/cgroup.procs; while :; do sleep 0.1; done) \
         </dev/null >/dev/null 2>&1 & disown",
        heard.display()
    ));
    wait_for("it to be inside", || {
        (!fs::read_to_string(format!("{dir}/cgroup.procs")).unwrap().is_empty()).then_some(())
    });
    wait_for("SIGTERM", || {
        try_sh(&format!("{PROGRAMS}/alloc_in_cgroup /mpgrace 64"));
        heard.exists().then_some(())
    });
    // The next cgroup is there before the daemon looks again.
    let mut successor = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    with_daemon_stopped(&mut env, |_| {
        sh(&format!("echo 1 > {dir}/cgroup.kill; until rmdir {dir}; do sleep 0.01; done; mkdir {dir}"));
        fs::write(format!("{dir}/cgroup.procs"), successor.id().to_string()).unwrap();
    });
    wait_for("the kill to be over", || (new_actions(&before).get("done") == Some(&1)).then_some(()));
    let line = journal_entries("/mpgrace").pop().unwrap();
    assert!(line["MESSAGE"].as_str().unwrap().contains("with SIGTERM"), "{line:?}");
    assert_eq!(successor.try_wait().unwrap(), None, "it lives");
    successor.kill().unwrap();
    successor.wait().unwrap();
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn recreated_cgroup_starts_without_policy() {
    let mut env = TestEnv::new("again");
    env.at_end("rmdir /sys/fs/cgroup/mpagain".to_owned());
    let mut ids = BTreeSet::new();
    for _ in 0..50 {
        sh("mkdir /sys/fs/cgroup/mpagain");
        let id = fs::metadata("/sys/fs/cgroup/mpagain").unwrap().ino();
        assert!(ids.insert(id), "the kernel gave the id {id} twice");
        assert!(alloc_in_cgroup("/mpagain", "128"), "no policy is requested yet");
        let output = sh("memcg-bpf attach --json /mpagain 'deny limit=64M'");
        let report: BindingReport = serde_json::from_str(&output).unwrap();
        assert_eq!((report.cgroup_id, report.state.as_str()), (id, "active"));
        assert!(!alloc_in_cgroup("/mpagain", "128 128 128"));
        sh("until rmdir /sys/fs/cgroup/mpagain; do sleep 0.01; done");
    }
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn runs_without_bpffs_and_warns_once() {
    let mut env = TestEnv::new("nofs");
    env.service("mpnofs.service", &format!("{PROGRAMS}/alloc_at_exec"), "");
    env.policy("mpnofs.service", "deny limit=64M").reload();
    sh("systemctl stop memcg-bpfd; umount /sys/fs/bpf");
    env.at_end(
        "mountpoint -q /sys/fs/bpf || mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf /sys/fs/bpf; \
         systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd"
            .to_owned(),
    );
    systemd::start("memcg-bpfd");
    let sentence = "failed to pin BPF objects, so policies are inactive while memcg-bpfd is not running: /sys/fs/bpf is not a bpffs";
    let check_denied = |env: &TestEnv| {
        unit_in_state("mpnofs.service", "registered");
        systemd::start("mpnofs.service");
        let output = fs::read_to_string(env.out("mpnofs.service")).unwrap();
        assert_eq!(output.lines().last(), Some("denied"));
        sh("memcg-bpf attach system.slice observe; memcg-bpf detach system.slice");
        assert_eq!(journal_of(&main_pid()).lines().filter(|line| line.contains(sentence)).count(), 1);
    };
    check_denied(&env);
    assert_eq!(sh("ls /sys/fs/bpf"), "");
    systemd::reset_failed("memcg-bpfd");
    wait_for_daemon_restart(|| systemd::kill("memcg-bpfd", "all", Signal::SIGKILL));
    check_denied(&env);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn no_gap_during_dbus_restart() {
    let mut env = TestEnv::new("bus");
    env.service("mpbus-later.service", &format!("{PROGRAMS}/alloc_at_exec"), "");
    env.policy("mpbus-later.service", "deny limit=64M");
    start_alloc_loop(&mut env, "mpbus.service");
    unit_in_state("mpbus-later.service", "registered");
    let before = bindings();
    systemd::reset_failed("memcg-bpfd");
    // A daemon that lost the bus cannot be reached: it exits, and systemd starts the next.
    wait_for_daemon_restart(|| drop(sh("systemctl restart dbus")));
    assert_eq!(bindings(), before);
    systemd::start("mpbus-later.service");
    assert_eq!(fs::read_to_string(env.out("mpbus-later.service")).unwrap(), "denied\n");
    let (refused, got) = stop_alloc_loop(&env, "mpbus.service");
    assert_eq!(got, 0, "refused {refused} times");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn no_gap_during_daemon_reexec() {
    let mut env = TestEnv::new("reexec");
    env.service("mpexec-later.service", &format!("{PROGRAMS}/alloc_at_exec"), "");
    env.policy("mpexec-later.service", "deny limit=64M");
    start_alloc_loop(&mut env, "mpexec.service");
    unit_in_state("mpexec-later.service", "registered");
    let (before, pid) = (bindings(), main_pid());
    sh("systemctl daemon-reexec");
    assert_eq!(bindings(), before);
    systemd::start("mpexec-later.service");
    assert_eq!(fs::read_to_string(env.out("mpexec-later.service")).unwrap(), "denied\n");
    // The new systemd is heard as the old one was.
    env.unit("mpexec-new.service", "[Service]\nExecStart=sleep 1000\n");
    env.policy("mpexec-new.service", "deny limit=64M").reload();
    unit_in_state("mpexec-new.service", "registered");
    systemd::start("mpexec-new.service");
    active("/system.slice/mpexec-new.service");
    let (refused, got) = stop_alloc_loop(&env, "mpexec.service");
    assert_eq!(got, 0, "refused {refused} times");
    assert_eq!(main_pid(), pid, "it is the same daemon");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn no_gap_during_abi_change() {
    let mut env = TestEnv::new("abi");
    start_alloc_loop(&mut env, "mpabi.service");
    let at = "/mpalone.slice/mpabi.service";
    let former = |report: &BindingReport| {
        (setting(report, "deny", "former").map(str::to_owned), report.counters.get("former").copied())
    };
    assert_eq!(former(&active(at)), (None, None));
    install_abi_variant(&mut env);
    let report = active(at);
    assert_eq!(former(&report), (Some("7".to_owned()), Some(0)));
    assert_eq!(setting(&report, "deny", "limit"), Some("64M"));
    // And back, as a downgrade does it.
    sh("umount /usr/lib/memcg-bpf/policies /usr/lib/memcg-bpf/core.bpf.o; systemctl restart memcg-bpfd");
    assert_eq!(former(&active(at)), (None, None));
    let (refused, got) = stop_alloc_loop(&env, "mpabi.service");
    assert_eq!(got, 0, "refused {refused} times");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn daemon_memory_within_memory_min() {
    let mut env = TestEnv::new("own");
    env.at_end("rmdir /sys/fs/cgroup/mpown".to_owned());
    sh("mkdir /sys/fs/cgroup/mpown");
    sh(
        "memcg-bpf attach /mpown 'observe; deny limit=64M; throttle when=always; reclaim; oom; protect low=16M'",
    );
    let bytes = |file: &str| -> u64 {
        sh(&format!("cat /sys/fs/cgroup/system.slice/memcg-bpfd.service/{file}")).parse().unwrap()
    };
    let min = bytes("memory.min");
    assert_eq!(min, 32 << 20);
    assert!(bytes("memory.current") < min, "{} are in use", bytes("memory.current"));
    assert_eq!(sh(&format!("cat /proc/{}/oom_score_adj", main_pid())), "-900");
    env.end();
}
