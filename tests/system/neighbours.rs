//! Hostile neighbours: what a governed container or unit does within its own walls keeps nobody else from being governed.

use std::fs;

use crate::support::{
    PROGRAMS, Scene, active, find, held, passed_over, sh, status, try_sh, unit_in_state, wait_for,
};

/// A unit that asks for too much with its first instruction, started again and again.
fn others_are_governed(scene: &Scene, unit: &str, times: usize) {
    let missed = passed_over();
    for _ in 0..times {
        // A program that is granted its memory says so, and fails.
        try_sh(&format!("systemctl start {unit}"));
    }
    let out = fs::read_to_string(scene.out(unit)).unwrap();
    let granted = out.lines().filter(|line| *line != "refused").count();
    assert!(out.lines().count() == times && granted <= passed_over() - missed, "{out}");
    fs::remove_file(scene.out(unit)).unwrap();
}

/// The same, once it has loaded all policies, which it does some time after its start.
fn held_by_a_daemon_that_has_all(scene: &mut Scene) -> (usize, usize) {
    scene.at_end("rmdir /sys/fs/cgroup/mpall".to_owned());
    // One by one: each may take the verifier some of the time that a caller waits.
    sh(
        "mkdir /sys/fs/cgroup/mpall; for policy in observe 'deny limit=64M' 'throttle when=always' reclaim oom \
        'protect low=16M'; do memcg-bpf attach /mpall \"$policy\" || exit 1; done; memcg-bpf detach /mpall",
    );
    held()
}

fn bystander(scene: &mut Scene, unit: &str) {
    scene.service(unit, &format!("{PROGRAMS}/first"), "[Unit]\nStartLimitIntervalSec=0");
    scene.policy(unit, "deny limit=64M").reload();
    unit_in_state(unit, "registered");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_of_forks_and_mappings_without_end_keeps_nobody_from_being_governed() {
    let mut scene = Scene::new("storm");
    bystander(&mut scene, "mpbystander.service");
    let before = held_by_a_daemon_that_has_all(&mut scene);
    // Two storms: mappings that are refused, as fast as can be, and processes up to the limit that the engine sets.
    let storm = format!(
        "{PROGRAMS}/greedy >/dev/null & (bomb() {{ bomb | bomb & }}; bomb) 2>/dev/null & exec sleep 10000"
    );
    let options = "--pids-limit 64 --cpus 0.5 --annotation memcg.bpf/policy=\"deny limit=48M\"";
    let id = scene.podman_id("storm", options, &storm);
    let scope = format!("/machine.slice/libpod-{id}.scope");
    let denied = || find(&scope).map_or(0, |report| report.counters["growth_denied"]);
    wait_for("the storm to be refused something", || (denied() > 100).then_some(()));
    others_are_governed(&scene, "mpbystander.service", 5);
    let so_far = denied();
    wait_for("the storm to go on", || (denied() > so_far).then_some(()));
    // So many take their time to end.
    wait_for("the storm to be removed", || (try_sh("podman rm -f -i -t 0 storm").status == 0).then_some(()));
    wait_for("its binding to go", || find(&scope).is_none().then_some(()));
    let after = held();
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 4096, "{before:?} {after:?}");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn cgroups_that_come_and_go_without_end_below_a_delegated_one_keep_nobody_from_being_governed() {
    let mut scene = Scene::new("churn");
    bystander(&mut scene, "mpbystander.service");
    // A pattern: the kernel tells of every cgroup that appears, also of these.
    scene.file("/run/systemd/system/mpchurn-.scope.d/50.conf", "[Scope]\nX-MemoryBPFPolicy=observe\n");
    let churn = r#"cd /sys/fs/cgroup/system.slice/mpchurn.service; while :; do
        mkdir a b c d mp.service mpchurn-x.scope $'two\nlines' $'\e[2J\e[31mred' '$(reboot)' '-rf' a/a a/a/a a/a/a/a
        rmdir a/a/a/a a/a/a a/a a b c d mp.service mpchurn-x.scope $'two\nlines' $'\e[2J\e[31mred' '$(reboot)' ./-rf
        done"#;
    let script = scene.dir.join("churn");
    fs::write(&script, churn).unwrap();
    scene.unit(
        "mpchurn.service",
        &format!(
            "[Service]\nUser=nobody\nDelegate=yes\nDelegateSubgroup=main\nStandardError=null\nExecStart=bash {}\n",
            script.display()
        ),
    );
    scene.policy("mpchurn.service", "observe").reload();
    sh("systemctl start mpchurn.service");
    active("/system.slice/mpchurn.service");
    let before = held_by_a_daemon_that_has_all(&mut scene);
    others_are_governed(&scene, "mpbystander.service", 10);
    let told = try_sh(
        "memcg-bpf status; memcg-bpf explain mpchurn.service; journalctl -q -o cat -u memcg-bpfd -n 50",
    );
    assert!(!told.out.contains('\u{1b}') && !told.err.contains('\u{1b}'), "{told:?}");
    // Whatever appears below somebody's own cgroup is nobody's unit.
    assert!(
        status().iter().all(|r| !r.cgroup.contains("mpchurn-x") && !r.cgroup.contains("mp.service")),
        "{:?}",
        status()
    );
    sh("systemctl stop mpchurn.service");
    wait_for("its binding to go", || {
        find("/system.slice/mpchurn.service").is_none_or(|r| r.cgroup_id == 0).then_some(())
    });
    let after = held();
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 4096, "{before:?} {after:?}");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_cgroup_that_is_made_anew_all_the_time_is_bound_as_itself_or_not_at_all() {
    let mut scene = Scene::new("anew");
    let dir = "/sys/fs/cgroup/mpanew";
    scene.at_end(format!("rmdir {dir}"));
    // What is attached stays so meanwhile: it would take longer than such a cgroup lives.
    sh("mkdir /sys/fs/cgroup/mpkept && memcg-bpf attach /mpkept 'deny limit=1G'");
    scene.at_end("rmdir /sys/fs/cgroup/mpkept".to_owned());
    let stop = scene.dir.join("stop");
    let loops = format!("until [ -e {} ]; do mkdir {dir}; rmdir {dir}; done 2>/dev/null", stop.display());
    let race = std::thread::spawn(move || drop(try_sh(&loops)));
    let (mut bound, mut missed) = (0, 0);
    while bound == 0 && missed < 600 || bound + missed < 60 {
        let said = try_sh("memcg-bpf attach /mpanew deny limit=64M");
        match said.status {
            0 => bound += 1,
            _ if said.err.contains("cgroup") => missed += 1,
            _ => panic!("{said:?}"),
        }
    }
    fs::write(&stop, "").unwrap();
    race.join().unwrap();
    println!("bound {bound} times, gone {missed} times");
    assert!(bound > 0, "it was never there: {missed}");
    sh("memcg-bpf detach /mpkept");
    // The last of them is gone, and with it every binding.
    wait_for("nothing to be governed", || status().is_empty().then_some(()));
    scene.end();
}
