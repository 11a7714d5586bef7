//! `oom usage=` ends the process that asks for too much, in the kernel: with the daemon dead.

use std::fs;

use crate::support::{
    PROGRAMS, TestEnv, acted, active, ensure_daemon, events, first_line, journal_entries, sh, systemd,
    try_sh, unit_in_state, wait_for,
};

/// Kills that are waited for in each cgroup.
const ROUNDS: usize = 10;
/// Only `usage` decides in these tests.
const QUIET: &str = "pressure=100% for=10min";

fn unit(env: &mut TestEnv, name: &str, script: &str, more: &str) -> String {
    let out = env.out(name).display().to_string();
    let text = format!(
        "[Service]\nType=exec\nExecStart=/bin/sh -c '{script}'\nStandardOutput=append:{out}\nStandardError=null\n\
         OOMPolicy=continue\n{more}\n"
    );
    env.unit(name, &text);
    out
}

/// A process that asks for more than there is, again and again; its exit status in each line.
fn culprits() -> String {
    format!("while sleep 0.1; do {PROGRAMS}/alloc 400 hold; echo $?; done")
}

pub fn kill_daemon_for_good(env: &mut TestEnv) {
    sh("systemctl mask --runtime memcg-bpfd; systemctl kill -s KILL memcg-bpfd");
    env.at_end("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    wait_for("the daemon to be dead", || (systemd::active_state("memcg-bpfd") == "failed").then_some(()));
}

pub fn start_daemon() {
    sh("systemctl unmask --runtime memcg-bpfd; systemctl reset-failed memcg-bpfd");
    ensure_daemon();
}

/// The exit statuses, once there are enough.
fn statuses(out: &str, least: usize) -> Vec<String> {
    wait_for("processes to end", || {
        let lines: Vec<String> = fs::read_to_string(out)
            .ok()?
            .lines()
            .filter(|l| l.parse::<u8>().is_ok())
            .map(str::to_owned)
            .collect();
        (lines.len() >= least).then_some(lines)
    })
}

fn lives(unit: &str, program: &str) -> bool {
    let pids = try_sh(&format!("pgrep -f -x '{PROGRAMS}/{program}'")).out;
    let inside = sh(&format!("cat /sys/fs/cgroup$(systemctl show -P ControlGroup {unit})/cgroup.procs"));
    pids.lines().any(|pid| inside.lines().any(|line| line == pid))
}

/// The kernel's own OOM killer would end the innocent process, which has most memory.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_usage_kills_culprit_without_daemon() {
    let mut env = TestEnv::new("oom-usage");
    env.file("/etc/memcg-bpf/memcg-bpf.conf.d/oom-usage.conf", "[Actions]\nKillsPerMinute=1000\n");
    let innocent = format!("{PROGRAMS}/alloc 60 hold");
    let limit = "MemoryMax=96M\nMemorySwapMax=0";
    // The innocent process has all its memory before the first culprit starts.
    let ready = env.dir.join("ready").display().to_string();
    let script =
        format!("{innocent} >{ready} & while ! grep -q reached {ready}; do sleep 0.1; done; {}", culprits());
    let alone = unit(&mut env, "mpalone.service", &script, limit);
    env.policy("mpalone.service", &format!("oom usage=90% {QUIET}"));
    // A slice: the innocent in one unit, the culprits in another, file cache up to the limit in a third.
    env.unit("mprace.slice", &format!("[Slice]\n{limit}\n"))
        .policy("mprace.slice", &format!("oom usage=85% {QUIET}"));
    let big = env.dir.join("big").display().to_string();
    sh(&format!("head -c 100M /dev/zero >{big}"));
    unit(&mut env, "mpinnocent.service", &format!("exec {PROGRAMS}/alloc 40 hold"), "Slice=mprace.slice");
    let read = format!("while :; do cat {big} >/dev/null && echo read || echo killed; done");
    let reader = unit(&mut env, "mpreader.service", &read, "Slice=mprace.slice");
    let culprit = unit(&mut env, "mpculprit.service", &culprits(), "Slice=mprace.slice");
    env.reload();
    sh("systemctl reload memcg-bpfd");
    env.at_end("systemctl reload memcg-bpfd".to_owned());
    unit_in_state("mpalone.service", "registered");
    systemd::start("mpinnocent.service mpreader.service");
    assert_eq!(first_line(&env.out("mpinnocent.service")), "reached 40 MiB");
    active("/mprace.slice");
    kill_daemon_for_good(&mut env);
    systemd::start("mpalone.service mpculprit.service");
    for out in [&alone, &culprit] {
        let statuses = statuses(out, ROUNDS);
        assert!(statuses.iter().all(|status| status == "137"), "{statuses:?}");
    }
    assert!(lives("mpalone.service", "alloc 60 hold"));
    assert!(lives("mpinnocent.service", "alloc 40 hold"));
    let reads = || fs::read_to_string(&reader).unwrap_or_default().lines().count();
    let before = reads();
    wait_for("the reader to go on", || (reads() > before).then_some(()));
    assert!(!fs::read_to_string(&reader).unwrap().contains("killed"), "file cache is no reason for a kill");
    for cgroup in ["/system.slice/mpalone.service", "/mprace.slice"] {
        let events = events(cgroup);
        assert_eq!((events["oom"], events["oom_kill"]), (0, 0), "{cgroup}: {events:?}");
    }
    systemd::stop("mpculprit.service");
    start_daemon();
    // Reported by the next daemon: of the slice, and of the unit, where kills go on.
    for cgroup in ["/mprace.slice", "/system.slice/mpalone.service"] {
        wait_for("the kills to be reported", || (acted(cgroup, "done") >= ROUNDS as u64).then_some(()));
        let entries = journal_entries(cgroup);
        let told = |text: &str| {
            let message =
                |entry: &serde_json::Value| entry["MESSAGE"].as_str().unwrap_or_default().to_owned();
            entries.iter().map(message).filter(|m| m.contains("(alloc") && m.contains(text)).count()
        };
        assert!(told("with SIGKILL, in the kernel") >= ROUNDS, "{entries:?}");
        assert!(told(" ago") > 0, "{entries:?}");
    }
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_usage_obeys_guards_without_daemon() {
    let mut env = TestEnv::new("oom-guards");
    let script = format!("{PROGRAMS}/alloc 60 hold; echo $?");
    let limit = "MemoryMax=96M\nMemorySwapMax=0";
    let line = format!("oom usage=50% {QUIET}");
    let all = ["mpkilled", "mpdry", "mpexempt", "mppaused"].map(|name| format!("{name}.service"));
    let [killed, dry, exempt, paused] = &all;
    let out = unit(&mut env, killed, &script, limit);
    unit(&mut env, dry, &script, limit);
    unit(&mut env, exempt, &script, &format!("{limit}\nOOMScoreAdjust=-1000"));
    unit(&mut env, paused, &script, limit);
    for unit in &all {
        let mode = if unit == dry { " mode=dry-run" } else { "" };
        env.policy(unit, &format!("{line}{mode}"));
    }
    env.reload().at_end("memcg-bpf resume".to_owned());
    all.iter().for_each(|unit| drop(unit_in_state(unit, "registered")));
    kill_daemon_for_good(&mut env);
    systemd::start(format!("{killed} {dry} {exempt}"));
    assert_eq!(statuses(&out, 1), ["137"]);
    let has_all = |unit: &str| {
        let usage = format!("/sys/fs/cgroup/system.slice/{unit}/memory.current");
        wait_for("it to have its memory", || {
            let bytes: u64 = fs::read_to_string(&usage).ok()?.trim().parse().ok()?;
            (bytes > 60 << 20).then_some(())
        });
        assert!(lives(unit, "alloc 60 hold"), "{unit}");
    };
    [dry, exempt].into_iter().for_each(|unit| has_all(unit));
    start_daemon();
    unit_in_state(paused, "registered");
    sh("memcg-bpf pause");
    kill_daemon_for_good(&mut env);
    systemd::start(paused);
    has_all(paused);
    start_daemon();
    sh("memcg-bpf resume");
    env.end();
}
