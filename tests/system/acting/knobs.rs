//! What is set and undone.

use super::*;

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_a_policy_wants_is_in_force_until_it_lets_go_and_each_action_is_told_once() {
    let mut scene = stage("acting");
    let at = cgroup(&mut scene, "told");
    write(&at, "memory.high", "900M");
    attach(&at, "puppet verb=high");
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
    assert_eq!(high.constraints["puppet"], "64M");
    assert!(governed_records().contains(&at));
    // Asked for again, it is the same want: nothing is done and nothing is told.
    ask(&at, "64 x 64 x 64");
    let said = told(&at);
    assert_eq!(said.len(), 1, "{said:?}");
    for (field, value) in [
        ("MEMCG_BPF_POLICY", "puppet"),
        ("MEMCG_BPF_ACTION", "memory.high"),
        ("MEMCG_BPF_OUTCOME", "done"),
        ("MEMCG_BPF_FROM", "943718400"),
        ("MEMCG_BPF_TO", "67108864"),
        ("MEMCG_BPF_REASON", "a request of 64M was seen"),
        ("MESSAGE", "/mpact-told: puppet: memory.high: 900M → 64M: a request of 64M was seen"),
    ] {
        assert_eq!(said[0][field], value, "{said:?}");
    }
    ask(&at, "64");
    let text = sh(&format!("memcg-bpf explain {at}"));
    assert!(text.contains("memory.high is 64M, was found at 900M; wanted by puppet: 64M"), "{text}");
    assert!(text.contains("puppet: memory.high done: memory.high: 900M → 64M"), "{text}");

    ask(&at, OFF);
    becomes(&at, "memory.high", 900 * MIB);
    wait_for("nothing to be changed any more", || find(&at)?.knobs.is_empty().then_some(()));
    assert_eq!(told(&at).len(), 2);
    // What is too strict to live with, and what is no stricter than what was found.
    ask(&at, "8 x");
    becomes(&at, "memory.high", 8 * MIB);
    ask(&at, "1000");
    becomes(&at, "memory.high", 900 * MIB);
    ask(&at, OFF);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_somebody_else_writes_is_what_was_found() {
    let mut scene = stage("foreign");
    let at = cgroup(&mut scene, "foreign");
    attach(&at, "puppet verb=high");
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
    wait_for("nothing to be recorded", || (!governed_records().contains(&at)).then_some(()));
    assert_eq!(knob(&at, "memory.high"), (256 * MIB).to_string());
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn of_two_policies_the_stricter_wins_and_each_lets_go_for_itself() {
    let mut scene = stage("two");
    let at = cgroup(&mut scene, "two");
    let m48 = 48 * MIB;
    attach(&at, &format!("puppet verb=high; marionette verb=high value={m48} off=512M"));
    ask(&at, "64");
    becomes(&at, "memory.high", m48);
    ask(&at, "512");
    becomes(&at, "memory.high", 512 * MIB);
    ask(&at, OFF);
    becomes(&at, "memory.high", m48);
    attach(&at, "puppet verb=high");
    becomes(&at, "memory.high", u64::MAX);
    // memory.low: the higher one.
    attach(&at, &format!("puppet verb=low; marionette verb=low value={m48}"));
    write(&at, "memory.low", "16M");
    ask(&at, "32");
    becomes(&at, "memory.low", m48);
    sh(&format!("memcg-bpf detach {at}"));
    becomes(&at, "memory.low", 16 * MIB);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_hundred_cycles_end_where_they_began() {
    let mut scene = stage("cycles");
    let at = cgroup(&mut scene, "cycles");
    write(&at, "memory.high", "200M");
    attach(&at, "puppet verb=high");
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
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_dry_run_tells_and_does_nothing() {
    let mut scene = stage("dry");
    let at = cgroup(&mut scene, "dry");
    sh(&format!("(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs && exec sleep 1000) >/dev/null 2>&1 &"));
    attach(&at, "puppet verb=high mode=dry-run");
    ask(&at, "64 x 64");
    let high = last(&at, "dry-run");
    assert_eq!(high.detail, "would have written 64M");
    attach(&at, "puppet verb=kill detail=2 mode=dry-run");
    wait_for("the kill to be told", || {
        ask(&at, "64");
        (last(&at, "dry-run").action == "kill").then_some(())
    });
    assert!(last(&at, "dry-run").detail.starts_with("would have killed all in /mpact-dry ("));
    assert_eq!(knob(&at, "memory.high"), "max");
    assert_eq!(sh(&format!("wc -l < /sys/fs/cgroup{at}/cgroup.procs")), "1");
    assert_eq!((count(&at, "done"), find(&at).unwrap().knobs.len()), (0, 0));
    // What was in force before it was told to run dry is taken back.
    attach(&at, "puppet verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    attach(&at, "puppet verb=high mode=dry-run");
    ask(&at, "64");
    becomes(&at, "memory.high", u64::MAX);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_pause_puts_everything_back_and_outlives_a_restart() {
    let mut scene = stage("pause");
    let at = cgroup(&mut scene, "pause");
    attach(&at, "puppet verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    let said = sh("memcg-bpf pause");
    assert_eq!(said, "Actions are paused: everything is as it was found. Go on with: memcg-bpf resume");
    becomes(&at, "memory.high", u64::MAX);
    ask(&at, "32 x x");
    assert_eq!(knob(&at, "memory.high"), "max");
    assert!(sh("memcg-bpf status").starts_with("Actions are paused: "));
    assert!(try_sh("memcg-bpf doctor").out.contains("are paused: policies change nothing"));
    // What was wanted meanwhile is in force when it ends.
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
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_stopped_daemon_leaves_every_knob_as_found() {
    let mut scene = stage("stop");
    let at = cgroup(&mut scene, "stop");
    write(&at, "memory.high", "300M");
    attach(&at, "puppet verb=high; marionette verb=low");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    becomes(&at, "memory.low", 64 * MIB);
    sh("systemctl stop memcg-bpfd");
    assert_eq!(knob(&at, "memory.high"), (300 * MIB).to_string());
    assert_eq!(knob(&at, "memory.low"), "0");
    nothing_is_left();
    daemon_runs();
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_killed_daemon_keeps_what_is_in_force_and_the_next_one_puts_it_back() {
    let mut scene = stage("killed");
    let at = cgroup(&mut scene, "killed");
    write(&at, "memory.high", "300M");
    attach(&at, "puppet verb=high");
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    let restarted = |how: &str| {
        another_daemon_after(|| drop(sh(how)));
        let found = wait_for("what was changed to be found again", || {
            find(&at)?.knobs.first().map(|high| (high.original.clone(), high.current.clone()))
        });
        assert_eq!(found, ("300M".to_owned(), "64M".to_owned()));
        assert_eq!(knob(&at, "memory.high"), (64 * MIB).to_string());
    };
    restarted("systemctl kill -s KILL memcg-bpfd");
    ask(&at, "64");
    restarted("systemctl restart memcg-bpfd");
    // Nobody asks for it any more.
    becomes(&at, "memory.high", 300 * MIB);
    let lapsed = last(&at, "done");
    assert_eq!(
        (lapsed.policy.as_str(), lapsed.reason.as_str()),
        ("puppet", "the policy has not asked for it for 30s")
    );
    // Without a daemon, and without a next one.
    sh("systemctl mask --runtime memcg-bpfd");
    scene.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    ask(&at, "64");
    becomes(&at, "memory.high", 64 * MIB);
    sh("systemctl kill -s KILL memcg-bpfd");
    wait_for("the daemon to be gone", || (try_sh("pidof memcg-bpfd").status != 0).then_some(()));
    assert_eq!(knob(&at, "memory.high"), (64 * MIB).to_string());
    sh("memcg-bpfd --cleanup");
    assert_eq!(knob(&at, "memory.high"), (300 * MIB).to_string());
    nothing_is_left();
    sh("systemctl unmask --runtime memcg-bpfd");
    daemon_runs();
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_frozen_cgroup_thaws_when_nobody_wants_it_frozen_any_more() {
    let mut scene = stage("freeze");
    let at = cgroup(&mut scene, "freeze");
    attach(&at, "puppet verb=freeze value=1");
    // Who asks may be frozen before it has ended, and would be waited for until it thaws.
    sh(&format!("{PROGRAMS}/ask {at} 64 </dev/null >/dev/null 2>&1 &"));
    becomes(&at, "cgroup.freeze", 1);
    becomes(&at, "cgroup.freeze", 0);
    scene.end();
}
