//! A starting daemon rebuilds its state from systemd and from the cgroups alone.

use std::fs;

use memcg_bpf::report::BindingReport;

use nix::sys::signal::Signal;

use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, assert_no_leftovers, ensure_daemon, find, first_line,
    journal, leftovers, recorded_cgroups, sh, status, systemd, wait_for, wait_for_daemon_restart,
};

/// What must be the same after a restart.
fn comparable(all: Vec<BindingReport>) -> Vec<String> {
    let one = |r: BindingReport| {
        format!(
            "{} {} {} {:?} {:?} {:?} {:?}",
            r.cgroup, r.cgroup_id, r.state, r.unit, r.container, r.policies, r.requests
        )
    };
    all.into_iter().map(one).collect()
}

/// A container each by podman and by crun alone (its cgroup belongs to no systemd unit), and a service. All allocate
/// when the file `go` appears.
fn start_all(env: &mut TestEnv) -> Vec<String> {
    let eat = |name: &str| {
        format!("until [ -e /out/go ]; do sleep 0.2; done; {PROGRAMS}/alloc 100 hold > /out/{name}")
    };
    let id = env.podman_id("found", "--annotation memcg.bpf/policy=\"deny limit=40M\"", &eat("podman"));
    let bundle = env.bundle("alone").annotation("memcg.bpf/policy", "deny limit=40M; observe");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/alone");
    assert_eq!(env.run_bundle("crun", &bundle, &eat("crun")).status, 0);
    env.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    let here = eat("unit").replace("/out/", &format!("{}/", env.dir.display()));
    env.unit("mpfound.service", &format!("[Service]\nType=exec\nExecStart=/bin/sh -c '{here}'\n"));
    env.policy("mpfound.service", "deny limit=40M").reload();
    systemd::start("mpfound.service");
    vec![
        "/bundles/alone".to_owned(),
        format!("/machine.slice/libpod-{id}.scope"),
        "/system.slice/mpfound.service".to_owned(),
    ]
}

fn assert_all_denied(env: &TestEnv) {
    fs::write(env.dir.join("go"), "").unwrap();
    for name in ["podman", "crun", "unit"] {
        assert_denied_at(&first_line(&env.dir.join(name)), 40);
    }
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn start_adopts_running_containers_and_units() {
    let mut env = TestEnv::new("found");
    // Masked, so that the hook's call cannot start it.
    sh("systemctl mask --runtime memcg-bpfd; systemctl stop memcg-bpfd");
    env.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    let cgroups = start_all(&mut env);
    wait_for("nothing to be in the kernel", || {
        leftovers().lines().all(|l| l.starts_with("record ")).then_some(())
    });
    assert_eq!(recorded_cgroups(), cgroups[..2], "the hook left its requests on the containers' cgroups");

    sh("systemctl unmask --runtime memcg-bpfd");
    ensure_daemon();
    let mut found: Vec<String> =
        status().into_iter().filter(|r| r.state == "active").map(|r| r.cgroup).collect();
    found.sort();
    assert_eq!(found, cgroups);
    assert_eq!(find(&cgroups[0]).unwrap().container.as_deref(), Some("alone"));
    assert_all_denied(&env);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn restart_keeps_bindings() {
    let mut env = TestEnv::new("restarted");
    let cgroups = start_all(&mut env);
    cgroups.iter().for_each(|cgroup| drop(active(cgroup)));
    assert_eq!(recorded_cgroups().len(), 3, "each binding is recorded on its cgroup");
    let before = comparable(status());
    assert_eq!(before.len(), 3, "{before:?}");
    systemd::restart("memcg-bpfd");
    assert_eq!(comparable(status()), before);

    wait_for_daemon_restart(|| systemd::kill("memcg-bpfd", "all", Signal::SIGKILL));
    assert_eq!(comparable(status()), before);
    assert_all_denied(&env);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn stop_removes_all_start_reattaches() {
    let mut env = TestEnv::new("stopped");
    start_all(&mut env);
    active("/system.slice/mpfound.service");
    systemd::stop("memcg-bpfd");
    assert_no_leftovers();
    ensure_daemon();
    active("/system.slice/mpfound.service");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn watchdog_restarts_hung_daemon() {
    let mut env = TestEnv::new("watchdog");
    env.unit("mpdog.service", "[Service]\nType=exec\nExecStart=sleep 1000\n");
    env.policy("mpdog.service", "deny limit=64M").reload();
    systemd::start("mpdog.service");
    let before = active("/system.slice/mpdog.service");
    // Not a minute, as in the unit: that is what a loaded machine may need.
    sh("mkdir -p /run/systemd/system/memcg-bpfd.service.d; printf '[Service]\nWatchdogSec=15s\n' \
        > /run/systemd/system/memcg-bpfd.service.d/50-dog.conf; systemctl daemon-reload; systemctl restart memcg-bpfd");
    env.at_end(
        "rm -r /run/systemd/system/memcg-bpfd.service.d; systemctl daemon-reload; systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd"
            .to_owned(),
    );
    wait_for_daemon_restart(|| systemd::kill("memcg-bpfd", "main", Signal::SIGSTOP));
    assert!(journal(&["-u", "memcg-bpfd", "-o", "cat", "-n", "50"]).contains("watchdog"));
    assert_eq!(comparable(vec![active("/system.slice/mpdog.service")]), comparable(vec![before]));
    env.end();
}
