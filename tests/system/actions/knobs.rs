//! Actions that set cgroup files and restore them.

use super::*;

#[test]
#[ignore = "needs root in the test machine: make check"]
fn knob_constraint_applied_until_released_and_logged_once() {
    let mut env = env_with_scripted_policy("acting");
    let at = cgroup(&mut env, "told");
    write(&at, "memory.high", "900M");
    attach(&at, "scripted verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    last(&at, "done");
    let report = find(&at).unwrap();
    assert_eq!(report.knobs.len(), 1);
    let high = &report.knobs[0];
    assert_eq!(
        (high.knob.as_str(), high.original.as_str(), high.current.as_str()),
        ("memory.high", "900M", "64M")
    );
    assert_eq!(high.constraints["scripted"], "64M");
    assert!(recorded_cgroups().contains(&at));
    // A repeated request is the same constraint: nothing is written or logged.
    ask(&at, "64 x 64 x 64");
    let output = journal_entries(&at);
    assert_eq!(output.len(), 1, "{output:?}");
    for (field, value) in [
        ("MEMCG_BPF_POLICY", "scripted"),
        ("MEMCG_BPF_ACTION", "memory.high"),
        ("MEMCG_BPF_OUTCOME", "done"),
        ("MEMCG_BPF_FROM", "943718400"),
        ("MEMCG_BPF_TO", "67108864"),
        ("MEMCG_BPF_REASON", "a request of 64M was seen"),
        ("MESSAGE", "/mpact-told: scripted: memory.high: 900M → 64M: a request of 64M was seen"),
    ] {
        assert_eq!(output[0][field], value, "{output:?}");
    }
    ask(&at, "64");
    let text = sh(&format!("memcg-bpf explain {at}"));
    assert!(text.contains("memory.high: 64M (original 900M; constraints: scripted 64M)"), "{text}");
    assert!(text.contains("scripted: memory.high done: memory.high: 900M → 64M"), "{text}");

    ask(&at, OFF);
    becomes(&at, "memory.high", 900 * MIB);
    wait_for("nothing to be changed any more", || find(&at)?.knobs.is_empty().then_some(()));
    assert_eq!(journal_entries(&at).len(), 2);
    // A value below the minimum, and a value that is not stricter than the original one.
    ask(&at, "8 x");
    becomes(&at, "memory.high", 8 * MIB);
    ask(&at, "1000");
    becomes(&at, "memory.high", 900 * MIB);
    ask(&at, OFF);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn foreign_knob_write_becomes_original_value() {
    let mut env = env_with_scripted_policy("foreign");
    let at = cgroup(&mut env, "foreign");
    attach(&at, "scripted verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    write(&at, "memory.high", "32M");
    ask(&at, "64 x x");
    wait_for("the foreign value to be noticed", || (find(&at)?.knobs[0].original == "32M").then_some(()));
    assert_eq!(knob(&at, "memory.high"), (32 * MIB).to_string(), "theirs is stricter");
    write(&at, "memory.high", "128M");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    // And one that is noticed only in the moment of writing.
    write(&at, "memory.high", "256M");
    sh(&format!("memcg-bpf detach {at}"));
    wait_for("nothing to be recorded", || (!recorded_cgroups().contains(&at)).then_some(()));
    assert_eq!(knob(&at, "memory.high"), (256 * MIB).to_string());
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn strictest_of_two_constraints_wins() {
    let mut env = env_with_scripted_policy("two");
    let at = cgroup(&mut env, "two");
    let m48 = 48 * MIB;
    attach(&at, &format!("scripted verb=high; scripted2 verb=high value={m48} off=512M"));
    ask(&at, "64");
    becomes(&at, "memory.high", m48);
    ask(&at, "512");
    becomes(&at, "memory.high", 512 * MIB);
    ask(&at, OFF);
    becomes(&at, "memory.high", m48);
    attach(&at, "scripted verb=high");
    becomes(&at, "memory.high", u64::MAX);
    // memory.low: the higher one.
    attach(&at, &format!("scripted verb=low; scripted2 verb=low value={m48}"));
    write(&at, "memory.low", "16M");
    ask(&at, "32");
    becomes(&at, "memory.low", m48);
    sh(&format!("memcg-bpf detach {at}"));
    becomes(&at, "memory.low", 16 * MIB);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn knob_restored_after_100_cycles() {
    let mut env = env_with_scripted_policy("cycles");
    let at = cgroup(&mut env, "cycles");
    write(&at, "memory.high", "200M");
    attach(&at, "scripted verb=high");
    for _ in 0..20 {
        ask(&at, &format!("64 x {OFF} x 32 x {OFF} x 16 x {OFF} x 64 x {OFF} x 32 x {OFF} x"));
    }
    becomes(&at, "memory.high", 200 * MIB);
    wait_for("nothing to be changed any more", || find(&at)?.knobs.is_empty().then_some(()));
    // On a machine that is too slow to follow, what was let go of before it was written is never written.
    let done = count(&at, "done");
    assert!((20..=200).contains(&done), "{done} writes");
    assert!(
        !sh(&format!("getfattr -n trusted.memcg_bpf --only-values /sys/fs/cgroup{at}")).contains("knobs")
    );
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn dry_run_logs_without_acting() {
    let mut env = env_with_scripted_policy("dry");
    let at = cgroup(&mut env, "dry");
    sh(&format!("(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs && exec sleep 1000) >/dev/null 2>&1 &"));
    attach(&at, "scripted verb=high mode=dry-run");
    ask(&at, "64 x 64");
    let high = last(&at, "dry-run");
    assert_eq!(high.detail, "would have written 64M");
    attach(&at, "scripted verb=kill detail=2 mode=dry-run");
    // Once: a second kill for the same event would be blocked.
    ask(&at, "64");
    wait_for("the kill to be logged", || {
        find(&at)?.last_action.filter(|a| a.action == "kill" && a.outcome == "dry-run").map(drop)
    });
    assert!(last(&at, "dry-run").detail.starts_with("would have killed all in /mpact-dry ("));
    assert_eq!(knob(&at, "memory.high"), "max");
    assert_eq!(sh(&format!("wc -l < /sys/fs/cgroup{at}/cgroup.procs")), "1");
    assert_eq!((count(&at, "done"), find(&at).unwrap().knobs.len()), (0, 0));
    // Switching to dry-run restores what the policy had changed.
    attach(&at, "scripted verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    attach(&at, "scripted verb=high mode=dry-run");
    ask(&at, "64");
    becomes(&at, "memory.high", u64::MAX);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn pause_restores_knobs_and_survives_restart() {
    let mut env = env_with_scripted_policy("pause");
    let at = cgroup(&mut env, "pause");
    attach(&at, "scripted verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    let output = sh("memcg-bpf pause");
    assert_eq!(
        output,
        "Actions are paused: no process is killed, no memory is reclaimed, and all changed knobs are restored.\n\
         The policy deny is not paused and goes on denying; to switch off all policies, run: systemctl stop memcg-bpfd\n\
         To resume, run: memcg-bpf resume"
    );
    becomes(&at, "memory.high", u64::MAX);
    ask(&at, "32 x x");
    assert_eq!(knob(&at, "memory.high"), "max");
    assert!(sh("memcg-bpf status").starts_with("Actions are paused: "));
    assert!(try_sh("memcg-bpf doctor").out.contains("are paused: policies change nothing"));
    // A constraint submitted during the pause becomes active when it ends.
    ask(&at, "32");
    sh("memcg-bpf resume");
    becomes(&at, "memory.high", 32 * MIB);

    sh("memcg-bpf pause; systemctl restart memcg-bpfd");
    becomes(&at, "memory.high", u64::MAX);
    assert!(sh("memcg-bpf status").starts_with("Actions are paused: "));
    sh("memcg-bpf pause --for 3s");
    wait_for("the pause to end by itself", || {
        (!sh("memcg-bpf status").contains("Actions are paused")).then_some(())
    });
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn stop_restores_knobs() {
    let mut env = env_with_scripted_policy("stop");
    let at = cgroup(&mut env, "stop");
    write(&at, "memory.high", "300M");
    attach(&at, "scripted verb=high; scripted2 verb=low");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    becomes(&at, "memory.low", 64 * MIB);
    systemd::stop("memcg-bpfd");
    assert_eq!(knob(&at, "memory.high"), (300 * MIB).to_string());
    assert_eq!(knob(&at, "memory.low"), "0");
    assert_no_leftovers();
    ensure_daemon();
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn knobs_kept_on_sigkill_restored_by_next_daemon() {
    let mut env = env_with_scripted_policy("killed");
    let at = cgroup(&mut env, "killed");
    write(&at, "memory.high", "300M");
    attach(&at, "scripted verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    let restarted = |how: &str| {
        wait_for_daemon_restart(|| drop(sh(how)));
        let found = wait_for("what was changed to be found again", || {
            find(&at)?.knobs.first().map(|high| (high.original.clone(), high.current.clone()))
        });
        assert_eq!(found, ("300M".to_owned(), "64M".to_owned()));
        assert_eq!(knob(&at, "memory.high"), (64 * MIB).to_string());
    };
    restarted("systemctl kill -s KILL memcg-bpfd");
    ask(&at, "64");
    restarted("systemctl restart memcg-bpfd");
    // The policy does not submit it again.
    becomes(&at, "memory.high", 300 * MIB);
    let lapsed = last(&at, "done");
    assert_eq!(
        (lapsed.policy.as_str(), lapsed.reason.as_str()),
        ("scripted", "the policy has not renewed the constraint for 30s")
    );
    // Without a daemon, and without a next one.
    sh("systemctl mask --runtime memcg-bpfd");
    env.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    systemd::kill("memcg-bpfd", "all", Signal::SIGKILL);
    wait_for("the daemon to be gone", || (try_sh("pidof memcg-bpfd").status != 0).then_some(()));
    assert_eq!(knob(&at, "memory.high"), (64 * MIB).to_string());
    sh("memcg-bpfd --cleanup");
    assert_eq!(knob(&at, "memory.high"), (300 * MIB).to_string());
    assert_no_leftovers();
    sh("systemctl unmask --runtime memcg-bpfd");
    ensure_daemon();
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn freeze_released_when_last_constraint_goes() {
    let mut env = env_with_scripted_policy("freeze");
    let at = cgroup(&mut env, "freeze");
    attach(&at, "scripted verb=freeze value=1");
    // In the background: the program may be frozen before it exits.
    sh(&format!("{PROGRAMS}/alloc_in_cgroup {at} 64 </dev/null >/dev/null 2>&1 &"));
    becomes(&at, "cgroup.freeze", 1);
    becomes(&at, "cgroup.freeze", 0);
    env.end();
}
