//! Actions that cannot be undone: reclaim and kill.

use std::collections::BTreeSet;

use super::*;

#[test]
#[ignore = "needs root in the test machine: make check"]
fn reclaim_action_frees_memory() {
    let mut env = env_with_scripted_policy("take");
    let at = cgroup(&mut env, "take");
    // 48 MiB of file cache, written out, are easy to give back.
    env.at_end("rm -f /root/cache".to_owned());
    sh(&format!(
        "(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs; exec dd if=/dev/zero of=/root/cache bs=1M count=48 conv=fsync status=none)"
    ));
    // With a swappiness: where the kernel does not know it, it is left out.
    attach(&at, "scripted verb=reclaim value=16777216 detail=10");
    let taken = wait_for("memory to be taken", || {
        ask(&at, "64");
        find(&at)?.last_action.filter(|last| last.outcome == "done")
    });
    assert_eq!(taken.action, "memory.reclaim");
    assert!(taken.from >= taken.to + 12 * MIB, "{taken:?}");
    assert!(taken.detail.starts_with("reclaimed "), "{taken:?}");
    env.end();
}

/// Starts `alloc` in a cgroup and returns its pid when it has allocated everything.
fn eat(env: &TestEnv, at: &str, mib: u64, prefix: &str) -> String {
    let out = env.dir.join(format!("alloc{mib}"));
    let out = out.display();
    sh(&format!(
        "(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs; echo $BASHPID > {out}.pid; {prefix} exec {PROGRAMS}/alloc {mib} hold) > {out} 2>&1 &"
    ));
    wait_for("alloc to have allocated", || {
        (fs::read_to_string(format!("{out}")).ok()?.contains('\n')).then_some(())
    });
    fs::read_to_string(format!("{out}.pid")).unwrap().trim().to_owned()
}

fn lives(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains(['Z', 'X']))
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn kill_selects_largest_once_per_event() {
    let mut env = env_with_scripted_policy("kill");
    let at = cgroup(&mut env, "kill");
    let (big, small, exempt) = (
        eat(&env, &at, 60, ""),
        eat(&env, &at, 20, ""),
        eat(&env, &at, 70, "echo -1000 > /proc/self/oom_score_adj;"),
    );
    // A grace of half a minute: SIGTERM is enough.
    attach(&at, "scripted verb=kill detail=0 least=64M value=30000000000");
    // Twice in one breath.
    ask(&at, "64 64");
    wait_for("the largest to be gone", || {
        // A daemon that had no time for it until then does not do it any more.
        if find(&at)?.last_action.is_some_and(|last| last.detail == "expired: queued for more than 5s") {
            ask(&at, "64 64");
        }
        (!lives(&big)).then_some(())
    });
    let killed = wait_for("the kill to be logged", || {
        stored_journal_entries(&at).into_iter().find(|l| l["MEMCG_BPF_OUTCOME"] == "done")
    });
    assert!(lives(&small) && lives(&exempt));
    let detail = killed["MEMCG_BPF_DETAIL"].as_str().unwrap();
    assert!(detail.starts_with(&format!("killed process {big} (alloc, ")), "{detail}");
    assert!(detail.contains(" with SIGTERM; other candidates: ") && detail.contains(&small), "{detail}");
    assert!(!detail.contains(&exempt), "what must not be killed is not even considered: {detail}");
    assert!(count(&at, "done") == 1 && count(&at, "blocked") >= 1, "{:?}", find(&at));
    assert!(journal_entries(&at).iter().any(|l| l["MEMCG_BPF_OUTCOME"] == "blocked"));
    // Everything that may be killed.
    attach(&at, "scripted verb=kill detail=2 least=64M value=1000000");
    wait_for("the next event to be another one", || {
        try_sh(&format!("{PROGRAMS}/alloc_in_cgroup {at} 64 x"));
        (!lives(&small)).then_some(())
    });
    assert!(lives(&exempt));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn kill_sets_unit_result_oom_kill() {
    let mut env = env_with_scripted_policy("unit");
    env.unit("mpend.service", &format!("[Service]\nType=exec\nExecStart={PROGRAMS}/alloc 20 hold\n"))
        .reload();
    systemd::start("mpend.service");
    let at = "/system.slice/mpend.service";
    attach(at, "scripted verb=kill detail=2 least=64M value=1000000");
    wait_for("the unit to end", || {
        // Dies with it, or not; or there is no cgroup any more.
        try_sh(&format!("{PROGRAMS}/alloc_in_cgroup {at} 64"));
        (systemd::active_state("mpend.service") == "failed").then_some(())
    });
    assert_eq!(sh("systemctl show -P Result mpend.service"), "oom-kill");
    let output = journal(&["-o", "cat", "-u", "mpend.service"]);
    assert!(output.contains("scripted: killed all in /system.slice/mpend.service ("), "{output}");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn paused_kills_do_not_use_kill_budget() {
    /// As the configuration is shipped.
    const KILLS_PER_MINUTE: u64 = 6;
    let mut env = env_with_scripted_policy("undone");
    let at = cgroup(&mut env, "undone");
    sh(&format!("(echo $BASHPID > /sys/fs/cgroup{at}/cgroup.procs && exec sleep 1000) >/dev/null 2>&1 &"));
    attach(&at, "scripted verb=kill detail=2 least=64M value=1000000");
    sh("memcg-bpf pause");
    let mut why = BTreeSet::new();
    wait_for("more blocked kills than the limit of kills", || {
        ask(&at, "64");
        let last = find(&at)?.last_action?;
        why.insert(last.detail);
        (count(&at, "blocked") > KILLS_PER_MINUTE).then_some(())
    });
    // The daemon drops an action after five seconds in the queue, with this reason.
    why.remove("expired: queued for more than 5s");
    assert_eq!(why.into_iter().collect::<Vec<_>>(), ["actions are paused"]);
    sh("memcg-bpf resume");
    wait_for("the kill", || {
        try_sh(&format!("{PROGRAMS}/alloc_in_cgroup {at} 64"));
        (count(&at, "done") > 0).then_some(())
    });
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn daemon_cgroup_protected_and_rate_limited() {
    let mut env = env_with_scripted_policy("guards");
    let inner = cgroup_at(&mut env, "/system.slice/mpact-guards".to_owned());
    for (line, why) in [
        (
            "scripted verb=kill detail=2 value=1 least=64M",
            "memcg-bpfd runs in this cgroup and would be killed",
        ),
        ("scripted verb=freeze value=1 least=64M", "memcg-bpfd runs in this cgroup and would be frozen"),
    ] {
        attach("/system.slice", line);
        ask(&inner, "64");
        wait_for("the action to be blocked", || {
            (last("/system.slice", "blocked").detail == why).then_some(())
        });
    }
    sh("memcg-bpf detach /system.slice");
    // More in a breath than is allowed in a second.
    let at = cgroup(&mut env, "flood");
    attach(&at, "scripted verb=high");
    let refused = wait_for("the excess actions to be blocked", || {
        ask(&at, "64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79");
        stored_journal_entries(&at).into_iter().find(|l| l["MEMCG_BPF_OUTCOME"] == "blocked")
    });
    assert_eq!(refused["MEMCG_BPF_DETAIL"], "more than 10 actions in a second (PerSecond=10)");
    // The last accepted constraint is active; a later one outside of the burst is accepted again.
    wait_for("a later want to be heard", || {
        ask(&at, "100 x");
        (knob(&at, "memory.high") == (100 * MIB).to_string()).then_some(())
    });
    env.end();
}
