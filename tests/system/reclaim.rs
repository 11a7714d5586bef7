//! `reclaim` frees cold memory, stops at its floor, and backs off on refaults and pressure.

use crate::support::{
    PROGRAMS, TestEnv, acted, active, bytes, first_line, last_action, systemd, unit_in_state, wait_for,
    wait_for_stall,
};

const MIB: u64 = 1 << 20;
const COLD: &str = "/system.slice/mpcold.service";
const DRY: &str = "/system.slice/mpdry.service";

/// A service that has written 64 MiB of file and then sleeps.
fn cold(env: &mut TestEnv, unit: &str, line: &str) {
    wrote(env, unit, 64, "exec sleep 1000", line);
}

/// A service that writes a file of so many MiB, and what it does then; `FILE` stands for that file.
fn wrote(env: &mut TestEnv, unit: &str, mib: u32, then: &str, line: &str) {
    let (out, file) = (env.out(unit), format!("/root/{unit}.file"));
    let then = then.replace("FILE", &file);
    let write = format!("dd if=/dev/zero of={file} bs=1M count={mib} && sync {file} && echo done; {then}");
    env.unit(
        unit,
        &format!(
            "[Service]\nType=exec\nExecStart=/bin/sh -c '{write}'\nStandardOutput=append:{}\nStandardError=null\n",
            out.display()
        ),
    );
    env.at_end(format!("rm -f {file}")).policy(unit, line);
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn reclaim_stops_at_floor() {
    let mut env = TestEnv::new("reclaim");
    let line = "reclaim interval=200ms step=20% floor=20M rate=1G";
    cold(&mut env, "mpcold.service", line);
    cold(&mut env, "mpdry.service", &format!("{line} mode=dry-run"));
    env.reload();
    unit_in_state("mpcold.service", "registered");
    systemd::start("mpcold.service mpdry.service");
    for unit in ["mpcold.service", "mpdry.service"] {
        assert_eq!(first_line(&env.out(unit)), "done");
    }
    wait_for("memory to be given back", || (bytes(COLD, "memory.current") < 26 * MIB).then_some(()));
    let action = last_action(COLD, "done");
    assert_eq!((action.policy.as_str(), action.action.as_str()), ("reclaim", "memory.reclaim"), "{action:?}");
    // For comparison: the dry run has decided to reclaim meanwhile too.
    last_action(DRY, "dry-run");
    let (left, dry) = (bytes(COLD, "memory.current"), bytes(DRY, "memory.current"));
    // The kernel may take more than it is asked for, in batches; without a floor nearly nothing would be left.
    assert!(left >= 14 * MIB, "{left} bytes are left of a floor of 20M");
    assert!(dry >= 60 * MIB && !active(DRY).actions.contains_key("done"), "{dry}");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn reclaim_backs_off_on_refaults_and_pressure() {
    let (read, wait) = ("/system.slice/mpread.service", "/system.slice/mpwait.service");
    let mut env = TestEnv::new("reclaim-not");
    // Each is held back by one thing only; what tasks waited is none of the reader's.
    let line = "reclaim interval=1s step=5% floor=4M pressure=100%";
    wrote(&mut env, "mpcold.service", 128, "exec sleep 1000", line);
    wrote(&mut env, "mpread.service", 32, "while :; do cat FILE >/dev/null; done", line);
    let cramped = "MemoryHigh=16M\nMemorySwapMax=0";
    env.unit("mpwait.service", &format!("[Service]\nExecStart={PROGRAMS}/alloc 400 hold\n{cramped}\n"));
    env.policy("mpwait.service", "reclaim interval=200ms step=5% floor=4M pressure=5%").reload();
    systemd::start("mpcold.service mpread.service mpwait.service");
    for unit in ["mpcold.service", "mpread.service"] {
        assert_eq!(first_line(&env.out(unit)), "done");
    }
    wait_for_stall(wait, 2);
    let asked = |cgroup: &str| active(cgroup).actions.values().sum::<u64>();
    let (before, cold_before) = ([COLD, read, wait].map(asked), acted(COLD, "done"));
    // As long as it gets on: a batch that the daemon had no time for makes the next one wait longer.
    for done in 1..=12 {
        wait_for("a batch", || (acted(COLD, "done") >= cold_before + done).then_some(()));
    }
    let after = [COLD, read, wait].map(asked);
    let [cold, read, wait] = std::array::from_fn(|i| after[i] - before[i]);
    let told = format!("batches of cold memory {cold}, of what is used {read}, of what is waited for {wait}");
    assert!(read * 2 <= cold && wait == 0, "{told}");
    env.end();
}
