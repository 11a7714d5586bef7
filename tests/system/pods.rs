//! Pods of Kubernetes through containerd: the names of pods in all output, and the policy of a pod's own cgroup.

use crate::support::cri::Containerd;
use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, find, first_line, journal, setting, sh, since_now, status,
    systemd, wait_for,
};

fn slice(pod: &str) -> String {
    format!("/kubepods.slice/kubepods-pod{pod}.slice")
}

fn eat(name: &str) -> String {
    format!("{PROGRAMS}/alloc 200 > /out/{name}; sleep 1000")
}

/// The names come from the runtime with the container, and are in the record of its cgroup.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn pod_names_survive_daemon_restart() {
    let mut env = TestEnv::new("pods-names");
    let containerd = Containerd::start(&mut env);
    let since = since_now();
    let pod = containerd.pod("named", &[("memcg.bpf/policy", "deny limit=64Mi")]);
    let id = containerd.run(&env, &pod, "sleep 1000");
    let scope = format!("{}/cri-containerd-{id}.scope", slice("named"));
    for restarted in [false, true] {
        if restarted {
            systemd::restart("memcg-bpfd");
        }
        let report = active(&scope);
        assert_eq!(report.pod.unwrap().to_string(), "pod default/named app");
        assert_eq!(setting(&active(&scope), "deny", "limit"), Some("64M"));
        assert!(sh("memcg-bpf status").contains("pod default/named app"), "restarted: {restarted}");
        assert!(sh(&format!("memcg-bpf explain {scope}")).starts_with("pod default/named app  "));
        let labels = r#"namespace="default",pod="named",container="app""#;
        assert!(sh("memcg-bpf metrics").contains(labels), "restarted: {restarted}");
    }
    let events = sh("memcg-bpf events");
    assert!(events.contains("pod default/named app  attached: deny"), "{events}");

    // An annotation that does not exist is reported with the names, and the container starts.
    let typo = containerd.pod("typo", &[("memcg.bpf/polcy", "deny limit=64M")]);
    let id = containerd.run(&env, &typo, "sleep 1000");
    assert_eq!(find(&format!("{}/cri-containerd-{id}.scope", slice("typo"))), None);
    let wanted = format!("container {} (default/typo app): ignoring annotation 'memcg.bpf/polcy'", &id[..12]);
    wait_for("the report of the annotation", || {
        journal(&["-t", "memcg-bpf-nri", &since, "-o", "cat"]).contains(&wanted).then_some(())
    });
    env.end();
}

/// The limit holds for all containers of the pod together, and ends with the pod.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn pod_policy_is_that_of_the_pods_cgroup() {
    let mut env = TestEnv::new("pods-policy");
    let containerd = Containerd::start(&mut env);
    let pod = containerd.pod("whole", &[("memcg.bpf/pod-policy", "deny limit=64Mi")]);
    let id = containerd.run(&env, &pod, &eat("whole"));
    assert_denied_at(&first_line(&env.dir.join("whole")), 64);
    let report = active(&slice("whole"));
    assert_eq!(report.container.as_deref(), Some(pod.id.as_str()));
    assert_eq!(report.policies[0].origin, "annotation");
    assert_eq!(report.pod.unwrap().to_string(), "pod default/whole");
    assert_eq!(find(&format!("{}/cri-containerd-{id}.scope", slice("whole"))), None);

    systemd::restart("memcg-bpfd");
    assert_eq!(active(&slice("whole")).pod.unwrap().to_string(), "pod default/whole");
    containerd.stop_pod(&pod);
    wait_for("the policy to end with the pod", || find(&slice("whole")).is_none().then_some(()));

    // No other cgroup can be chosen by an annotation: podman passes annotations of images.
    let annotations = "--annotation memcg.bpf/pod-policy='deny limit=64M' --annotation io.kubernetes.cri.sandbox-id=5a \
                       --annotation io.kubernetes.cri.sandbox-name=etcd \
                       --annotation io.kubernetes.cri.sandbox-namespace=kube-system --annotation memcg.bpf/policy=observe";
    env.at_end("podman rm -f -t 0 pods-image".to_owned());
    sh(&format!(
        "podman run -d --name pods-image --network=none {annotations} --rootfs /srv/busybox sleep 1000"
    ));
    let id = sh("podman inspect -f '{{.Id}}' pods-image");
    let ours = status().into_iter().find(|report| report.container.as_deref() == Some(id.trim())).unwrap();
    assert_eq!(ours.pod, None);
    let above = status().into_iter().find(|report| report.container.as_deref() == Some("5a"));
    assert_eq!(above, None);
    env.end();
}
