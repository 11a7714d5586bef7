//! In force before the first instruction: the very first act of these programs is to ask for 128 MiB.

use crate::support::{PROGRAMS, Scene, sh, unit_in_state};

const STARTS: usize = 100;

/// One shell loop: a hundred test set-ups would take minutes.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_unit_that_asks_at_once_is_told_no_a_hundred_times_in_a_hundred() {
    let mut scene = Scene::new("first-unit");
    scene
        .service("first.service", &format!("{PROGRAMS}/first"), "")
        .policy("first.service", "deny limit=64M")
        .reload();
    unit_in_state("first.service", "registered");
    sh(&format!("for i in $(seq {STARTS}); do systemctl start first.service || exit 1; done"));
    let out = std::fs::read_to_string(scene.out("first.service")).unwrap();
    let refused = out.lines().filter(|l| *l == "refused").count();
    assert_eq!((refused, out.lines().count()), (STARTS, STARTS), "{out}");
    scene.end();
}

/// Most by crun alone: podman does the same at many times the cost.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_that_asks_at_once_is_told_no_a_hundred_times_in_a_hundred() {
    const BY_PODMAN: usize = 3;
    let mut scene = Scene::new("first-container");
    let first = format!("exec {PROGRAMS}/first >> /out/first");
    let bundle = scene.bundle("first").annotation("memcg.bpf/policy", "deny limit=64M").hook("createRuntime");
    let bundle = bundle.cgroup("/bundles/first");
    bundle.write(&first);
    // Without -d: the container is over when crun returns, and its name free.
    let foreground = bundle.command("crun").replace("run -d", "run");
    sh(&format!("for i in $(seq {}); do {foreground}; done", STARTS - BY_PODMAN));
    for i in 0..BY_PODMAN {
        let name = format!("first-{i}");
        scene.podman_id(&name, "--annotation memcg.bpf/policy=\"deny limit=64M\"", &first);
        sh(&format!("podman wait {name}"));
    }
    let out = std::fs::read_to_string(scene.dir.join("first")).unwrap();
    let refused = out.lines().filter(|l| *l == "refused").count();
    assert_eq!((refused, out.lines().count()), (STARTS, STARTS), "{out}");
    scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    scene.end();
}
