//! What cannot be undone: memory taken, processes ended.

use std::collections::BTreeSet;

use super::*;

#[test]
#[ignore = "needs root in the test machine: make check"]
fn memory_is_taken() {
    let mut scene = stage("take");
    let at = cgroup(&mut scene, "take");
    // 48 MiB of file cache, written out, are easy to give back.
    scene.at_end("rm -f /root/cache".to_owned());
    sh(&format!(
        "(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs; exec dd if=/dev/zero of=/root/cache bs=1M count=48 conv=fsync status=none)"
    ));
    // With a swappiness: where the kernel does not know it, it is left out.
    attach(&at, "puppet verb=reclaim value=16777216 detail=10");
    let taken = wait_for("memory to be taken", || {
        ask(&at, "64");
        find(&at)?.last_action.filter(|last| last.outcome == "done")
    });
    assert_eq!(taken.action, "memory.reclaim");
    assert!(taken.from >= taken.to + 12 * MIB, "{taken:?}");
    assert!(taken.detail.starts_with("took "), "{taken:?}");
    scene.end();
}

/// Starts `eat` in a cgroup and returns its pid when it has what it wants.
fn eat(scene: &Scene, at: &str, mib: u64, prefix: &str) -> String {
    let out = scene.dir.join(format!("eat{mib}"));
    let out = out.display();
    sh(&format!(
        "(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs; echo $BASHPID > {out}.pid; {prefix} exec {PROGRAMS}/eat {mib} hold) > {out} 2>&1 &"
    ));
    wait_for("eat to have eaten", || {
        (fs::read_to_string(format!("{out}")).ok()?.contains('\n')).then_some(())
    });
    fs::read_to_string(format!("{out}.pid")).unwrap().trim().to_owned()
}

fn lives(pid: &str) -> bool {
    try_sh(&format!("grep -q '^State:.[^ZX]' /proc/{pid}/status")).status == 0
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn the_largest_process_ends_once_for_one_event() {
    let mut scene = stage("kill");
    let at = cgroup(&mut scene, "kill");
    let (big, small, exempt) = (
        eat(&scene, &at, 60, ""),
        eat(&scene, &at, 20, ""),
        eat(&scene, &at, 70, "echo -1000 > /proc/self/oom_score_adj;"),
    );
    // A grace of half a minute: SIGTERM is enough.
    attach(&at, "puppet verb=kill detail=0 least=64M value=30000000000");
    // Twice in one breath.
    ask(&at, "64 64");
    wait_for("the largest to be gone", || {
        // A daemon that had no time for it until then does not do it any more.
        if find(&at)?.last_action.is_some_and(|last| last.detail == "it was asked for more than 5s ago") {
            ask(&at, "64 64");
        }
        (!lives(&big)).then_some(())
    });
    let killed =
        wait_for("the kill to be told", || told(&at).into_iter().find(|l| l["MEMCG_BPF_OUTCOME"] == "done"));
    assert!(lives(&small) && lives(&exempt));
    let detail = killed["MEMCG_BPF_DETAIL"].as_str().unwrap();
    assert!(detail.starts_with(&format!("killed process {big} (eat, ")), "{detail}");
    assert!(detail.contains(" with SIGTERM; considered as well: ") && detail.contains(&small), "{detail}");
    assert!(!detail.contains(&exempt), "what must not be killed is not even considered: {detail}");
    assert!(count(&at, "done") == 1 && count(&at, "blocked") >= 1, "{:?}", find(&at));
    assert!(told(&at).iter().any(|l| l["MEMCG_BPF_OUTCOME"] == "blocked"));
    // Everything that may be killed.
    attach(&at, "puppet verb=kill detail=2 least=64M value=1000000");
    wait_for("the next event to be another one", || {
        try_sh(&format!("{PROGRAMS}/ask {at} 64 x"));
        (!lives(&small)).then_some(())
    });
    assert!(lives(&exempt));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_killed_unit_ends_as_systemd_expects() {
    let mut scene = stage("unit");
    scene
        .unit("mpend.service", &format!("[Service]\nType=exec\nExecStart={PROGRAMS}/eat 20 hold\n"))
        .reload();
    sh("systemctl start mpend.service");
    let at = "/system.slice/mpend.service";
    attach(at, "puppet verb=kill detail=2 least=64M value=1000000");
    wait_for("the unit to end", || {
        // Dies with it, or not; or there is no cgroup any more.
        try_sh(&format!("{PROGRAMS}/ask {at} 64"));
        (try_sh("systemctl is-active mpend.service").out == "failed").then_some(())
    });
    assert_eq!(sh("systemctl show -P Result mpend.service"), "oom-kill");
    let said = sh("journalctl --sync; journalctl -q -o cat -u mpend.service");
    assert!(said.contains("puppet: killed all in /system.slice/mpend.service ("), "{said}");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn kills_that_a_pause_refuses_do_not_count_against_later_ones() {
    /// As the configuration is shipped.
    const KILLS_PER_MINUTE: u64 = 6;
    let mut scene = stage("undone");
    let at = cgroup(&mut scene, "undone");
    sh(&format!("(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs && exec sleep 1000) >/dev/null 2>&1 &"));
    attach(&at, "puppet verb=kill detail=2 least=64M value=1000000");
    sh("memcg-bpf pause");
    let mut why = BTreeSet::new();
    wait_for("more refusals than there may be kills", || {
        ask(&at, "64");
        let last = find(&at)?.last_action?;
        why.insert(last.detail);
        (count(&at, "blocked") > KILLS_PER_MINUTE).then_some(())
    });
    // A daemon that had no time for one in five seconds says that.
    why.remove("it was asked for more than 5s ago");
    assert_eq!(why.into_iter().collect::<Vec<_>>(), ["actions are paused"]);
    sh("memcg-bpf resume");
    wait_for("the kill", || {
        try_sh(&format!("{PROGRAMS}/ask {at} 64"));
        (count(&at, "done") > 0).then_some(())
    });
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn the_guards_stand_before_the_daemon_itself_and_before_a_flood() {
    let mut scene = stage("guards");
    let inner = cgroup_at(&mut scene, "/system.slice/mpact-guards".to_owned());
    for (line, why) in [
        ("puppet verb=kill detail=2 value=1 least=64M", "memcg-bpfd runs in it and would be killed with it"),
        ("puppet verb=freeze value=1 least=64M", "memcg-bpfd runs in it and would stand still with it"),
    ] {
        attach("/system.slice", line);
        ask(&inner, "64");
        wait_for("the refusal", || (last("/system.slice", "blocked").detail == why).then_some(()));
    }
    sh("memcg-bpf detach /system.slice");
    // More in a breath than is allowed in a second.
    let at = cgroup(&mut scene, "flood");
    attach(&at, "puppet verb=high");
    let refused = wait_for("the flood to be refused", || {
        ask(&at, "64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79");
        told(&at).into_iter().find(|l| l["MEMCG_BPF_OUTCOME"] == "blocked")
    });
    assert_eq!(refused["MEMCG_BPF_DETAIL"], "more than 10 actions in a second (PerSecond=10)");
    // The last want that was let through is in force; a quieter one is heard again.
    wait_for("a later want to be heard", || {
        ask(&at, "100 x");
        (knob(&at, "memory.high") == (100 * MIB).to_string()).then_some(())
    });
    scene.end();
}
