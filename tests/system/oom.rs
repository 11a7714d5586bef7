//! `oom` kills a stalled process, once per event, and nothing else.

use std::fs;

use crate::support::{
    PROGRAMS, TestEnv, acted, active, events, find, first_line, last_action, sh, systemd, try_sh,
    unit_in_state, wait_for, wait_for_stall, waited,
};

/// Above memory.high, and with nothing that could be reclaimed, a program that asks for more is made to wait nearly all
/// the time.
const CRAMPED: &str = "MemoryHigh=16M\nMemorySwapMax=0\nOOMPolicy=continue";

fn service(env: &mut TestEnv, unit: &str, script: &str, more: &str, line: &str) -> String {
    let out = env.out(unit);
    let text = format!(
        "[Service]\nType=exec\nExecStart=/bin/sh -c '{script}'\nStandardOutput=append:{}\nStandardError=null\n{more}\n",
        out.display()
    );
    env.unit(unit, &text).policy(unit, line);
    format!("/system.slice/{unit}")
}

fn alive(unit: &str, program: &str) -> usize {
    let pids = try_sh(&format!("pgrep -f -x '{PROGRAMS}/{program}'")).out;
    let inside = sh(&format!("cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs"));
    pids.lines().filter(|pid| inside.lines().any(|line| line == *pid)).count()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_kills_one_process_per_event() {
    let mut env = TestEnv::new("oom");
    let eat = format!("({PROGRAMS}/alloc 400 hold; echo over) &");
    let line = "oom pressure=40% for=1s cooldown=1h";
    let cgroup = service(&mut env, "mpkill.service", &format!("{eat} {eat} wait"), CRAMPED, line);
    env.reload();
    systemd::start("mpkill.service");
    // A daemon that had no time for it does not do it any more, and the next one is an hour away.
    let again = format!(
        "systemctl kill -s KILL mpkill.service; systemctl stop mpkill.service; systemctl reset-failed mpkill.service; \
         rm -f {}; systemctl start mpkill.service",
        env.out("mpkill.service").display()
    );
    let action = wait_for("a kill in time", || {
        let action = find(&cgroup)?.last_action?;
        if action.outcome != "done" {
            try_sh(&again);
            return None;
        }
        Some(action)
    });
    assert_eq!(first_line(&env.out("mpkill.service")), "over");
    assert_eq!((action.policy.as_str(), action.action.as_str()), ("oom", "kill"), "{action:?}");
    // At least 40 % of the second, and no more than all of it.
    assert!((400_000_000..=1_000_000_000).contains(&action.numbers[0]), "{action:?}");
    assert_eq!(action.numbers[1..3], [1_000_000_000, 400_000], "{action:?}");
    assert_eq!(events(&cgroup)["oom_kill"], 0, "the kernel had no reason to");
    wait_for_stall(&cgroup, 4);
    assert_eq!(alive("mpkill.service", "alloc 400 hold"), 1);
    assert_eq!((acted(&cgroup, "done"), acted(&cgroup, "blocked")), (1, 0));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_spares_busy_small_dry_run_paused() {
    let mut env = TestEnv::new("oom-not");
    let (eat, often) =
        (format!("{PROGRAMS}/alloc 400 hold; echo over"), "oom pressure=40% for=500ms cooldown=1s");
    let dry = service(&mut env, "mpdry.service", &eat, CRAMPED, &format!("{often} mode=dry-run"));
    let small = service(&mut env, "mpsmall.service", &eat, CRAMPED, &format!("{often} min_usage=256M"));
    let paused = service(&mut env, "mppaused.service", &eat, CRAMPED, often);
    let busy = env.dir.join("busy");
    fs::write(&busy, "").unwrap();
    let work = format!("touch_loop 32 {}", busy.display());
    let working = service(&mut env, "mpbusy.service", &format!("exec {PROGRAMS}/{work}"), "", often);
    env.reload().at_end("memcg-bpf resume".to_owned());
    sh("memcg-bpf pause; systemctl start mpdry.service mpsmall.service mppaused.service mpbusy.service");
    last_action(&paused, "blocked");
    assert_eq!((alive("mppaused.service", "alloc 400 hold"), acted(&paused, "done")), (1, 0));
    sh("memcg-bpf resume");
    assert_eq!(first_line(&env.out("mppaused.service")), "over");
    // Once more, after the cooldown: it is the policy that decides, as if it were acted upon.
    wait_for("dry runs", || (acted(&dry, "dry-run") >= 2).then_some(()));
    wait_for_stall(&small, 2);
    for (unit, cgroup, program) in [
        ("mpdry.service", &dry, "alloc 400 hold"),
        ("mpsmall.service", &small, "alloc 400 hold"),
        ("mpbusy.service", &working, work.as_str()),
    ] {
        assert_eq!((alive(unit, program), acted(cgroup, "done")), (1, 0), "{unit}");
    }
    for cgroup in [&small, &working] {
        assert!(active(cgroup).actions.is_empty(), "{cgroup}");
    }
    env.end();
}

/// One of many tasks that read files is stalled nearly always, and all make progress.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_spares_readers_that_stall_in_turn() {
    let mut env = TestEnv::new("oom-readers");
    let file = "/root/mpreaders";
    env.at_end(format!("systemctl stop mpread.slice; rm -f {file}"));
    sh(&format!(
        "dd if=/dev/zero of={file} bs=1M count=192 status=none; sync; echo 1 >/proc/sys/vm/drop_caches"
    ));
    let slice = "[Slice]\nMemoryMax=48M\nMemorySwapMax=0\n";
    env.unit("mpread.slice", slice).policy("mpread.slice", "oom mode=dry-run cooldown=1s");
    let service =
        format!("[Service]\nType=exec\nExecStart={PROGRAMS}/readers {file} 32\nSlice=mpread.slice\n");
    // The same stalls, counted in the other way.
    env.unit("mpread.service", &service);
    env.policy("mpread.service", "oom stall=some mode=dry-run cooldown=1s");
    env.reload();
    systemd::start("mpread.service");
    let inner = "/mpread.slice/mpread.service";
    wait_for("the share of stalls of some task", || (acted(inner, "dry-run") >= 3).then_some(()));
    assert_eq!(acted("/mpread.slice", "dry-run"), 0, "{:?}", active("/mpread.slice"));
    assert_eq!(events("/mpread.slice")["oom_kill"], 0);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_group_kill_follows_kernel_oom() {
    let mut env = TestEnv::new("oom-group");
    let more = "MemoryMax=32M\nMemorySwapMax=0\nOOMPolicy=continue";
    // Again and again: a daemon that had no time for the first does not act on it any more.
    let script = format!("sleep 1000 & while :; do {PROGRAMS}/alloc 200 hold; echo over; sleep 1; done");
    let line = "oom kill=group pressure=100% for=10min cooldown=500ms";
    let cgroup = service(&mut env, "mpgroup.service", &script, more, line);
    env.reload();
    unit_in_state("mpgroup.service", "registered");
    systemd::start("mpgroup.service");
    wait_for("the unit to end", || {
        let state = systemd::active_state("mpgroup.service");
        matches!(state.as_str(), "failed" | "inactive").then_some(())
    });
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{cgroup}/cgroup.procs")).exists());
    env.end();
}

/// Whoever may write a limit of its own can stall at will; that must not end a neighbour.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_ignores_stall_on_inner_limit() {
    let mut env = TestEnv::new("oom-inner");
    env.unit("mpouter.slice", "[Slice]\n").policy("mpouter.slice", "oom pressure=20% for=500ms");
    let unit = |command: &str, more: &str| {
        format!("[Service]\nType=exec\nExecStart={PROGRAMS}/{command}\nSlice=mpouter.slice\n{more}\n")
    };
    env.unit("mpbystander.service", &unit("alloc 64 hold", ""));
    env.unit("mpinner.service", &unit("alloc 400 hold", "MemoryHigh=4M\nMemorySwapMax=0"));
    env.reload();
    systemd::start("mpbystander.service");
    active("/mpouter.slice");
    systemd::start("mpinner.service");
    let inner = "/mpouter.slice/mpinner.service";
    wait_for("it to wait", || waited(inner).filter(|us| *us > 5_000_000));
    assert_eq!(acted("/mpouter.slice", "done"), 0);
    assert_eq!(systemd::active_state("mpbystander.service"), "active");
    // The wait is shown all the same, and a limit of the slice itself is the slice's own concern.
    wait_for("stalls to be counted", || (active("/mpouter.slice").counters["stalls"] > 0).then_some(()));
    sh("systemctl set-property --runtime mpinner.service MemoryHigh=infinity; \
        systemctl set-property --runtime mpouter.slice MemoryHigh=16M MemorySwapMax=0");
    wait_for("a kill", || (acted("/mpouter.slice", "done") > 0).then_some(()));
    env.end();
}
