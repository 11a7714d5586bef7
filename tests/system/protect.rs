//! `protect` raises memory.low while its cgroup is active, and restores it while it is idle.

use std::fs;
use std::path::PathBuf;

use crate::support::{
    PROGRAMS, TestEnv, acted, active, first_line, knob, knob_becomes, last_action, sh, systemd, unit_in_state,
};

const LOW: &str = "20971520";

fn cgroup(unit: &str) -> String {
    format!("/system.slice/{unit}")
}

/// `work` under this line; the file that makes it busy.
fn work(env: &mut TestEnv, unit: &str, line: &str) -> PathBuf {
    let (out, busy) = (env.out(unit), env.dir.join(format!("{unit}.busy")));
    let run = format!("{PROGRAMS}/touch_loop 24 {}", busy.display());
    env.unit(
        unit,
        &format!("[Service]\nType=exec\nExecStart={run}\nStandardOutput=append:{}\n", out.display()),
    );
    env.policy(unit, line);
    busy
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn protect_sets_memory_low_while_active() {
    let mut env = TestEnv::new("protect");
    let busy = work(&mut env, "mpwork.service", "protect low=20M hold=1s cpu=50%");
    let dry = work(&mut env, "mpdry.service", "protect low=20M hold=1s mode=dry-run");
    // It waits more than it runs: `cpu=100%` is never reached by one task that sleeps in between.
    env.unit(
        "mpwait.service",
        &format!("[Service]\nExecStart={PROGRAMS}/alloc 400 hold\nMemoryHigh=16M\nMemorySwapMax=0\n"),
    );
    env.policy("mpwait.service", "protect low=8M cpu=100% refaults=1000000 stall=20%");
    // It reads a file again and again that it has no room for, sleeps between, and hardly waits.
    let read = format!("while :; do cat {PROGRAMS}/../system >/dev/null; sleep 0.4; done");
    env.unit("mpread.service", &format!("[Service]\nExecStart=/bin/sh -c '{read}'\nMemoryMax=12M\n"))
        .policy("mpread.service", "protect low=8M cpu=100% refaults=100 stall=100%")
        .reload();
    unit_in_state("mpwork.service", "registered");
    systemd::start("mpwork.service mpdry.service mpwait.service mpread.service");
    for unit in ["mpwait.service", "mpread.service"] {
        knob_becomes(&cgroup(unit), "memory.low", "8388608");
        systemd::stop(unit);
    }

    let work = cgroup("mpwork.service");
    assert_eq!(first_line(&env.out("mpwork.service")), "ready");
    active(&work);
    fs::write(&dry, "").unwrap();
    for _ in 0..2 {
        knob_becomes(&work, "memory.low", "0");
        fs::write(&busy, "").unwrap();
        knob_becomes(&work, "memory.low", LOW);
        fs::remove_file(&busy).unwrap();
    }
    knob_becomes(&work, "memory.low", "0");
    let action = last_action(&work, "done");
    assert_eq!((action.policy.as_str(), action.action.as_str()), ("protect", "memory.low"), "{action:?}");
    fs::write(&busy, "").unwrap();
    knob_becomes(&work, "memory.low", LOW);
    // Detached while it is active: the original value is restored.
    sh("rm /etc/systemd/system/mpwork.service.d/50-memory.conf; systemctl daemon-reload");
    knob_becomes(&work, "memory.low", "0");

    let dry = cgroup("mpdry.service");
    last_action(&dry, "dry-run");
    assert_eq!((knob(&dry, "memory.low").as_str(), acted(&dry, "done")), ("0", 0));
    env.end();
}
