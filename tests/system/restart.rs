//! The kernel is the database: a daemon that starts finds everything, from systemd and from the cgroups alone.

use std::fs;

use memcg_bpf::report::BindingReport;

use crate::support::{
    PROGRAMS, Scene, active, another_daemon_after, daemon_runs, find, first_line, governed_records,
    nothing_is_left, refused_at, residue, sh, status, wait_for,
};

/// What must be the same after a restart.
fn essence(all: Vec<BindingReport>) -> Vec<String> {
    let one = |r: BindingReport| {
        format!(
            "{} {} {} {:?} {:?} {:?} {:?}",
            r.cgroup, r.cgroup_id, r.state, r.unit, r.container, r.policies, r.requests
        )
    };
    all.into_iter().map(one).collect()
}

/// A container each by podman and by crun alone (whose cgroup no unit of systemd's describes), and a service. All eat
/// when the file `go` appears.
fn put_up(scene: &mut Scene) -> Vec<String> {
    let eat = |name: &str| {
        format!("until [ -e /out/go ]; do sleep 0.2; done; {PROGRAMS}/eat 100 hold > /out/{name}")
    };
    let id = scene.podman_id("found", "--annotation memcg.bpf/policy=\"deny limit=40M\"", &eat("podman"));
    let bundle = scene.bundle("alone").annotation("memcg.bpf/policy", "deny limit=40M; observe");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/alone");
    assert_eq!(scene.run_bundle("crun", &bundle, &eat("crun")).status, 0);
    scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    let here = eat("unit").replace("/out/", &format!("{}/", scene.dir.display()));
    scene.unit("mpfound.service", &format!("[Service]\nType=exec\nExecStart=/bin/sh -c '{here}'\n"));
    scene.policy("mpfound.service", "deny limit=40M").reload();
    sh("systemctl start mpfound.service");
    vec![
        "/bundles/alone".to_owned(),
        format!("/machine.slice/libpod-{id}.scope"),
        "/system.slice/mpfound.service".to_owned(),
    ]
}

fn all_are_refused(scene: &Scene) {
    fs::write(scene.dir.join("go"), "").unwrap();
    for name in ["podman", "crun", "unit"] {
        refused_at(&first_line(&scene.dir.join(name)), 40);
    }
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn containers_and_units_that_started_without_the_daemon_are_found_by_it() {
    let mut scene = Scene::new("found");
    // Masked, so that the hook's call cannot start it.
    sh("systemctl mask --runtime memcg-bpfd; systemctl stop memcg-bpfd");
    scene.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    let cgroups = put_up(&mut scene);
    wait_for("nothing to be in the kernel", || {
        residue().lines().all(|l| l.starts_with("record ")).then_some(())
    });
    assert_eq!(governed_records(), cgroups[..2], "the hook left its requests on the containers' cgroups");

    sh("systemctl unmask --runtime memcg-bpfd");
    daemon_runs();
    let mut found: Vec<String> =
        status().into_iter().filter(|r| r.state == "active").map(|r| r.cgroup).collect();
    found.sort();
    assert_eq!(found, cgroups);
    assert_eq!(find(&cgroups[0]).unwrap().container.as_deref(), Some("alone"));
    all_are_refused(&scene);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_restarted_or_killed_daemon_has_the_same_bindings() {
    let mut scene = Scene::new("restarted");
    let cgroups = put_up(&mut scene);
    cgroups.iter().for_each(|cgroup| drop(active(cgroup)));
    assert_eq!(governed_records().len(), 3, "each binding is recorded on its cgroup");
    let before = essence(status());
    assert_eq!(before.len(), 3, "{before:?}");
    sh("systemctl restart memcg-bpfd");
    assert_eq!(essence(status()), before);

    another_daemon_after(|| drop(sh("systemctl kill -s KILL memcg-bpfd")));
    assert_eq!(essence(status()), before);
    all_are_refused(&scene);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_stopped_daemon_leaves_nothing_and_a_started_one_governs_the_units_again() {
    let mut scene = Scene::new("stopped");
    put_up(&mut scene);
    active("/system.slice/mpfound.service");
    sh("systemctl stop memcg-bpfd");
    nothing_is_left();
    daemon_runs();
    active("/system.slice/mpfound.service");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_daemon_that_hangs_is_started_again_by_the_watchdog() {
    let mut scene = Scene::new("watchdog");
    scene.unit("mpdog.service", "[Service]\nType=exec\nExecStart=sleep 1000\n");
    scene.policy("mpdog.service", "deny limit=64M").reload();
    sh("systemctl start mpdog.service");
    let before = active("/system.slice/mpdog.service");
    // Not a minute, as in the unit: that is what a loaded machine may need.
    sh("mkdir -p /run/systemd/system/memcg-bpfd.service.d; printf '[Service]\nWatchdogSec=15s\n' \
        > /run/systemd/system/memcg-bpfd.service.d/50-dog.conf; systemctl daemon-reload; systemctl restart memcg-bpfd");
    scene.at_end(
        "rm -r /run/systemd/system/memcg-bpfd.service.d; systemctl daemon-reload; systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd"
            .to_owned(),
    );
    another_daemon_after(|| drop(sh("systemctl kill -s STOP --kill-whom=main memcg-bpfd")));
    assert!(sh("journalctl --sync; journalctl -u memcg-bpfd -o cat --no-pager -n 50").contains("watchdog"));
    assert_eq!(essence(vec![active("/system.slice/mpdog.service")]), essence(vec![before]));
    scene.end();
}
