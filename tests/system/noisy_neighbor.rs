//! A container or unit that exhausts its own limits does not delay or prevent the policies of other cgroups.

use std::fs;

use crate::support::{
    PROGRAMS, TestEnv, active, daemon_resources, find, recursion_misses, sh, status, systemd, try_sh,
    unit_in_state, wait_for,
};

/// A unit that exceeds its limit with its first instruction, started again and again.
fn assert_others_covered(env: &TestEnv, unit: &str, times: usize) {
    let missed = recursion_misses();
    for _ in 0..times {
        // A program that is granted its memory prints that and fails.
        systemd::try_start(unit);
    }
    let out = fs::read_to_string(env.out(unit)).unwrap();
    let granted = out.lines().filter(|line| *line != "denied").count();
    assert!(out.lines().count() == times && granted <= recursion_misses() - missed, "{out}");
    fs::remove_file(env.out(unit)).unwrap();
}

/// The same, once it has loaded all policies, which it does some time after its start.
fn resources_with_all_policies(env: &mut TestEnv) -> (usize, usize) {
    env.at_end("rmdir /sys/fs/cgroup/mpall".to_owned());
    // One by one: each may take the verifier some of the time that a caller waits.
    sh(
        "mkdir /sys/fs/cgroup/mpall; for policy in observe 'deny limit=64M' 'throttle when=always' reclaim oom \
        'protect low=16M'; do memcg-bpf attach /mpall \"$policy\" || exit 1; done; memcg-bpf detach /mpall",
    );
    daemon_resources()
}

fn bystander(env: &mut TestEnv, unit: &str) {
    env.service(unit, &format!("{PROGRAMS}/alloc_at_exec"), "[Unit]\nStartLimitIntervalSec=0");
    env.policy(unit, "deny limit=64M").reload();
    unit_in_state(unit, "registered");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn fork_bomb_does_not_delay_others() {
    let mut env = TestEnv::new("storm");
    bystander(&mut env, "mpbystander.service");
    let before = resources_with_all_policies(&mut env);
    // Denied mappings as fast as possible, and processes up to the limit that the engine sets.
    let storm = format!(
        "{PROGRAMS}/alloc_loop >/dev/null & (bomb() {{ bomb | bomb & }}; bomb) 2>/dev/null & exec sleep 10000"
    );
    let options = "--pids-limit 64 --cpus 0.5 --annotation memcg.bpf/policy=\"deny limit=48M\"";
    let id = env.podman_id("storm", options, &storm);
    let scope = format!("/machine.slice/libpod-{id}.scope");
    let denied = || find(&scope).map_or(0, |report| report.counters["growth_denied"]);
    wait_for("requests of the container to be denied", || (denied() > 100).then_some(()));
    assert_others_covered(&env, "mpbystander.service", 5);
    let so_far = denied();
    wait_for("the storm to go on", || (denied() > so_far).then_some(()));
    // So many take their time to end.
    wait_for("the storm to be removed", || (try_sh("podman rm -f -i -t 0 storm").status == 0).then_some(()));
    wait_for("its binding to go", || find(&scope).is_none().then_some(()));
    let after = daemon_resources();
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 4096, "{before:?} {after:?}");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn cgroup_churn_does_not_delay_others() {
    let mut env = TestEnv::new("churn");
    bystander(&mut env, "mpbystander.service");
    // A pattern: the daemon receives an event for every new cgroup, these included.
    env.file("/run/systemd/system/mpchurn-.scope.d/50.conf", "[Scope]\nX-MemoryBPFPolicy=observe\n");
    let churn = r#"cd /sys/fs/cgroup/system.slice/mpchurn.service; while :; do
        mkdir a b c d mp.service mpchurn-x.scope $'two\nlines' $'\e[2J\e[31mred' '$(reboot)' '-rf' a/a a/a/a a/a/a/a
        rmdir a/a/a/a a/a/a a/a a b c d mp.service mpchurn-x.scope $'two\nlines' $'\e[2J\e[31mred' '$(reboot)' ./-rf
        done"#;
    let script = env.dir.join("churn");
    fs::write(&script, churn).unwrap();
    env.unit(
        "mpchurn.service",
        &format!(
            "[Service]\nUser=nobody\nDelegate=yes\nDelegateSubgroup=main\nStandardError=null\nExecStart=bash {}\n",
            script.display()
        ),
    );
    env.policy("mpchurn.service", "observe").reload();
    systemd::start("mpchurn.service");
    active("/system.slice/mpchurn.service");
    let before = resources_with_all_policies(&mut env);
    assert_others_covered(&env, "mpbystander.service", 10);
    let told = try_sh(
        "memcg-bpf status; memcg-bpf explain mpchurn.service; journalctl -q -o cat -u memcg-bpfd -n 50",
    );
    assert!(!told.out.contains('\u{1b}') && !told.err.contains('\u{1b}'), "{told:?}");
    // Cgroups below a delegated one are not systemd units.
    assert!(
        status().iter().all(|r| !r.cgroup.contains("mpchurn-x") && !r.cgroup.contains("mp.service")),
        "{:?}",
        status()
    );
    systemd::stop("mpchurn.service");
    wait_for("its binding to go", || {
        find("/system.slice/mpchurn.service").is_none_or(|r| r.cgroup_id == 0).then_some(())
    });
    let after = daemon_resources();
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 4096, "{before:?} {after:?}");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn recreated_cgroup_never_inherits_binding() {
    let mut env = TestEnv::new("anew");
    let dir = "/sys/fs/cgroup/mpanew";
    env.at_end(format!("rmdir {dir}"));
    // What is attached stays so meanwhile: it would take longer than such a cgroup lives.
    sh("mkdir /sys/fs/cgroup/mpkept && memcg-bpf attach /mpkept 'deny limit=1G'");
    env.at_end("rmdir /sys/fs/cgroup/mpkept".to_owned());
    let stop = env.dir.join("stop");
    let loops = format!("until [ -e {} ]; do mkdir {dir}; rmdir {dir}; done 2>/dev/null", stop.display());
    let race = std::thread::spawn(move || drop(try_sh(&loops)));
    let (mut bound, mut missed) = (0, 0);
    while bound == 0 && missed < 600 || bound + missed < 60 {
        let output = try_sh("memcg-bpf attach /mpanew deny limit=64M");
        match output.status {
            0 => bound += 1,
            _ if output.err.contains("cgroup") => missed += 1,
            _ => panic!("{output:?}"),
        }
    }
    fs::write(&stop, "").unwrap();
    race.join().unwrap();
    println!("bound {bound} times, gone {missed} times");
    assert!(bound > 0, "it was never there: {missed}");
    sh("memcg-bpf detach /mpkept");
    // The last of them is gone, and with it every binding.
    wait_for("no cgroup to have a policy", || status().is_empty().then_some(()));
    env.end();
}
