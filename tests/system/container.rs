//! Containers and their annotations: podman through hooks.d, crun and runc through a bundle that names the hook.

use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, assert_no_oom, cgroup_of, find, first_line, setting, sh,
    status, wait_for,
};

const EAT: &str = "deny limit=64M";

#[test]
#[ignore = "needs root in the test machine: make check"]
fn podman_annotation_denies_at_limit() {
    let mut env = TestEnv::new("podman");
    let script = format!("{PROGRAMS}/alloc 200 > /out/eat; sleep 1000");
    let id = env.podman_id("limited", &format!("--annotation memcg.bpf/policy=\"{EAT}\""), &script);
    assert_denied_at(&first_line(&env.dir.join("eat")), 64);

    let scope = format!("/machine.slice/libpod-{id}.scope");
    let report = active(&scope);
    assert_eq!(report.container.as_deref(), Some(id.as_str()));
    assert_eq!(
        (setting(&report, "deny", "limit"), report.policies[0].origin.as_str()),
        (Some("64M"), "annotation")
    );
    assert!(report.counters["growth_denied"] >= 1, "{:?}", report.counters);
    assert_no_oom(&scope);
    assert_eq!((report.events["oom"], report.events["oom_kill"]), (0, 0));
    // The policy is on the scope, which is a level above the processes: they cannot get out from under it.
    let pid = sh("podman inspect -f '{{.State.Pid}}' limited");
    let inside = cgroup_of(&pid);
    assert!(inside.starts_with(&format!("{scope}/")), "{inside} is not below {scope}");
    assert_eq!(sh("podman inspect -f '{{.State.Status}}' limited"), "running");

    sh("podman rm -f -t 0 limited");
    wait_for("the binding to go with the container", || find(&scope).is_none().then_some(()));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn podman_without_annotation_is_unlimited() {
    let mut env = TestEnv::new("podman-free");
    env.podman_id("free", "", &format!("{PROGRAMS}/alloc 200 > /out/eat; sleep 1000"));
    assert_eq!(first_line(&env.dir.join("eat")), "reached 200 MiB");
    assert_eq!(status(), []);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn podman_runc_required_policy_denies() {
    let mut env = TestEnv::new("podman-runc");
    let options = format!(
        "--runtime runc --annotation memcg.bpf/policy=\"{EAT}\" --annotation memcg.bpf/required=true"
    );
    let id = env.podman_id("runc-limited", &options, &format!("{PROGRAMS}/alloc 200 > /out/eat; sleep 1000"));
    assert_denied_at(&first_line(&env.dir.join("eat")), 64);
    assert_no_oom(&active(&format!("/machine.slice/libpod-{id}.scope")).cgroup);
    env.end();
}

/// Both engines, both stages they know for it, both cgroup drivers.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn crun_and_runc_run_bundle_hook() {
    let mut env = TestEnv::new("bundle");
    for (engine, stage, cgroups_path, cgroup) in [
        ("crun", "prestart", "/bundles/crun-a", "/bundles/crun-a"),
        ("crun", "createRuntime", "system.slice:bundle:crun-b", "/system.slice/bundle-crun-b.scope"),
        ("runc", "prestart", "system.slice:bundle:runc-a", "/system.slice/bundle-runc-a.scope"),
        ("runc", "createRuntime", "/bundles/runc-b", "/bundles/runc-b"),
    ] {
        let name = cgroups_path.rsplit([':', '/']).next().unwrap();
        let bundle = env.bundle(name).annotation("memcg.bpf/policy", EAT).hook(stage).cgroup(cgroups_path);
        let output =
            env.run_bundle(engine, &bundle, &format!("{PROGRAMS}/alloc 200 > /out/{name}; sleep 1000"));
        assert_eq!(output.status, 0, "{engine} {stage}: {}", output.err);
        assert_denied_at(&first_line(&env.dir.join(name)), 64);
        assert_eq!(active(cgroup).container.as_deref(), Some(name), "{engine} {stage}");
        assert_no_oom(cgroup);
    }
    assert_eq!(status().len(), 4);

    let free = env.bundle("unasked").hook("createRuntime").cgroup("/bundles/unasked");
    assert_eq!(
        env.run_bundle("crun", &free, &format!("{PROGRAMS}/alloc 200 > /out/unasked; sleep 1000")).status,
        0
    );
    assert_eq!(first_line(&env.dir.join("unasked")), "reached 200 MiB");
    assert_eq!(find("/bundles/unasked"), None);
    env.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    env.end();
}
