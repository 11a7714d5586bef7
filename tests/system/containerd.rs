//! Containers of containerd, as a kubelet creates them: the NRI plugin, and annotations of pods.

use crate::support::cri::{Containerd, Pod};
use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, assert_no_oom, find, first_line, journal, setting, sh,
    since_now, systemd, wait_for,
};

const DENY: (&str, &str) = ("memcg.bpf/policy", "deny limit=64M");

fn eat(name: &str) -> String {
    format!("{PROGRAMS}/alloc 200 > /out/{name}; sleep 1000")
}

/// The cgroup of a container of a pod.
fn scope(pod: &str, id: &str) -> String {
    format!("/kubepods.slice/kubepods-pod{pod}.slice/cri-containerd-{id}.scope")
}

fn sandbox_scope(name: &str, pod: &Pod) -> String {
    scope(name, &pod.id)
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn pod_annotation_denies_from_first_instruction() {
    let mut env = TestEnv::new("containerd");
    let containerd = Containerd::start(&mut env);
    let own = ("policy.memcg.bpf/app", "deny limit=32M");
    for (name, annotations, limit) in [("one", &[DENY][..], 64), ("two", &[DENY, own], 32)] {
        let pod = containerd.pod(name, annotations);
        let id = containerd.run(&env, &pod, &eat(name));
        assert_denied_at(&first_line(&env.dir.join(name)), limit);
        let report = active(&scope(name, &id));
        assert_eq!(report.container.as_deref(), Some(id.as_str()));
        assert_eq!(setting(&report, "deny", "limit"), Some(format!("{limit}M").as_str()));
        assert_eq!(report.policies[0].origin, "annotation");
        assert_no_oom(&scope(name, &id));
        assert_eq!(find(&sandbox_scope(name, &pod)), None, "the sandbox has no policy");
    }
    let free = containerd.pod("free", &[("example.com/other", "x")]);
    let id = containerd.run(&env, &free, &eat("free"));
    assert_eq!(first_line(&env.dir.join("free")), "reached 200 MiB");
    assert_eq!(find(&scope("free", &id)), None);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn required_policy_blocks_start_while_daemon_hangs() {
    let mut env = TestEnv::new("containerd-required");
    let containerd = Containerd::start(&mut env);
    let pod = containerd.pod("required", &[DENY, ("memcg.bpf/required", "true")]);
    let free = containerd.pod("unrequired", &[]);
    let daemon = systemd::daemon_pid().unwrap();
    env.at_end(format!("kill -CONT {daemon}"));
    sh(&format!("kill -STOP {daemon}"));
    // The plugin does not wait for the daemon: only the hook of the container with a policy does.
    let id = containerd.create(&env, &pod, &eat("required")).unwrap();
    let error = containerd.start_container(&id).unwrap_err();
    containerd.run(&env, &free, &eat("unrequired"));
    sh(&format!("kill -CONT {daemon}"));
    assert!(error.contains("it does not start, because memcg.bpf/required is true"), "{error}");
    assert!(!env.dir.join("required").exists());
    assert_eq!(first_line(&env.dir.join("unrequired")), "reached 200 MiB");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn container_started_without_plugin_gets_policy_late() {
    let mut env = TestEnv::new("containerd-late");
    let containerd = Containerd::start(&mut env);
    let pod = containerd.pod("late", &[DENY]);
    env.at_end("systemctl start memcg-bpf-nri.path".to_owned());
    sh("systemctl stop memcg-bpf-nri.path memcg-bpf-nri.service");
    let id = containerd.run(&env, &pod, &eat("late"));
    assert_eq!(first_line(&env.dir.join("late")), "reached 200 MiB");
    assert_eq!(find(&scope("late", &id)), None);

    let since = since_now();
    sh("systemctl start memcg-bpf-nri.path");
    wait_for("the policy of the container that runs already", || find(&scope("late", &id)));
    assert_eq!(active(&scope("late", &id)).policies[0].origin, "annotation");
    let wanted = format!(
        "container {} (default/late app) started without its policy; attached 'deny limit=64M' now",
        &id[..12]
    );
    let late = || journal(&["-t", "memcg-bpf-nri", &since, "-o", "cat"]);
    wait_for("the message about it", || late().contains(&wanted).then_some(()));

    // A killed plugin and a killed containerd find each other again; what has its policy is not reported again.
    sh("systemctl kill -s KILL memcg-bpf-nri.service");
    wait_for("the next plugin", || (late().matches("Connected to containerd").count() >= 2).then_some(()));
    containerd.kill_and_start();
    wait_for("the next containerd", || {
        (late().matches("Connected to containerd").count() >= 3).then_some(())
    });
    let next = containerd.pod("next", &[DENY]);
    containerd.run(&env, &next, &eat("next"));
    assert_denied_at(&first_line(&env.dir.join("next")), 64);
    assert_eq!(late().matches("started without its policy").count(), 1, "{}", late());
    env.end();
}
