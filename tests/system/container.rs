//! Containers and their annotations: podman through hooks.d, crun and runc through a bundle that names the hook.

use crate::support::{
    PROGRAMS, Scene, active, cgroup_of, find, first_line, no_oom, refused_at, setting, sh, status, wait_for,
};

const EAT: &str = "deny limit=64M";

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_podman_container_is_told_no_at_the_limit_of_its_annotation_and_lives() {
    let mut scene = Scene::new("podman");
    let script = format!("{PROGRAMS}/eat 200 > /out/eat; sleep 1000");
    let id = scene.podman_id("governed", &format!("--annotation memcg.bpf/policy=\"{EAT}\""), &script);
    refused_at(&first_line(&scene.dir.join("eat")), 64);

    let scope = format!("/machine.slice/libpod-{id}.scope");
    let report = active(&scope);
    assert_eq!(report.container.as_deref(), Some(id.as_str()));
    assert_eq!(
        (setting(&report, "deny", "limit"), report.policies[0].origin.as_str()),
        (Some("64M"), "annotation")
    );
    assert!(report.counters["growth_denied"] >= 1, "{:?}", report.counters);
    no_oom(&scope);
    assert_eq!((report.events["oom"], report.events["oom_kill"]), (0, 0));
    // The policy is on the scope, which is a level above the processes: they cannot get out from under it.
    let pid = sh("podman inspect -f '{{.State.Pid}}' governed");
    let inside = cgroup_of(&pid);
    assert!(inside.starts_with(&format!("{scope}/")), "{inside} is not below {scope}");
    assert_eq!(sh("podman inspect -f '{{.State.Status}}' governed"), "running");

    sh("podman rm -f -t 0 governed");
    wait_for("the binding to go with the container", || find(&scope).is_none().then_some(()));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_podman_container_without_annotation_gets_all_it_asks_for() {
    let mut scene = Scene::new("podman-free");
    scene.podman_id("free", "", &format!("{PROGRAMS}/eat 200 > /out/eat; sleep 1000"));
    assert_eq!(first_line(&scene.dir.join("eat")), "reached 200 MiB");
    assert_eq!(status(), []);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn podman_with_runc_and_a_required_policy_is_told_no_as_well() {
    let mut scene = Scene::new("podman-runc");
    let options = format!(
        "--runtime runc --annotation memcg.bpf/policy=\"{EAT}\" --annotation memcg.bpf/required=true"
    );
    let id =
        scene.podman_id("runc-governed", &options, &format!("{PROGRAMS}/eat 200 > /out/eat; sleep 1000"));
    refused_at(&first_line(&scene.dir.join("eat")), 64);
    no_oom(&active(&format!("/machine.slice/libpod-{id}.scope")).cgroup);
    scene.end();
}

/// Both engines, both stages they know for it, both cgroup drivers.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn crun_and_runc_call_the_hook_that_a_bundle_names() {
    let mut scene = Scene::new("bundle");
    for (engine, stage, cgroups_path, cgroup) in [
        ("crun", "prestart", "/bundles/crun-a", "/bundles/crun-a"),
        ("crun", "createRuntime", "system.slice:bundle:crun-b", "/system.slice/bundle-crun-b.scope"),
        ("runc", "prestart", "system.slice:bundle:runc-a", "/system.slice/bundle-runc-a.scope"),
        ("runc", "createRuntime", "/bundles/runc-b", "/bundles/runc-b"),
    ] {
        let name = cgroups_path.rsplit([':', '/']).next().unwrap();
        let bundle = scene.bundle(name).annotation("memcg.bpf/policy", EAT).hook(stage).cgroup(cgroups_path);
        let said =
            scene.run_bundle(engine, &bundle, &format!("{PROGRAMS}/eat 200 > /out/{name}; sleep 1000"));
        assert_eq!(said.status, 0, "{engine} {stage}: {}", said.err);
        refused_at(&first_line(&scene.dir.join(name)), 64);
        assert_eq!(active(cgroup).container.as_deref(), Some(name), "{engine} {stage}");
        no_oom(cgroup);
    }
    assert_eq!(status().len(), 4);

    let free = scene.bundle("unasked").hook("createRuntime").cgroup("/bundles/unasked");
    assert_eq!(
        scene.run_bundle("crun", &free, &format!("{PROGRAMS}/eat 200 > /out/unasked; sleep 1000")).status,
        0
    );
    assert_eq!(first_line(&scene.dir.join("unasked")), "reached 200 MiB");
    assert_eq!(find("/bundles/unasked"), None);
    scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    scene.end();
}
