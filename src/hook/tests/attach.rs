//! Tests of containers that start.

use super::*;

#[test]
fn container_without_annotation_starts_silently() {
    let daemon = FakeDaemon::start(Behaviour::Accepts);
    let env = TestEnv::new(daemon.address());
    assert_eq!(env.run(&[("other", "x"), REQUIRED]), HookResult::default());
    assert!(daemon.calls().is_empty());
}

const FOR_WEB: (&str, &str) = ("memcg.bpf/policy.web", "deny limit=64M");
const MISSPELT: (&str, &str) = ("memcg.bpf/polcy", "observe");

#[test]
fn ambiguous_required_policy_blocks_start() {
    let env = TestEnv::new(no_bus());
    for odd in [&[FOR_WEB, REQUIRED][..], &[FOR_WEB, REQUIRED, MISSPELT]] {
        let result = env.run(odd);
        assert!(result.fail);
        assert_eq!(result.container.as_deref(), Some("c1"));
        assert_eq!(
            result.notes,
            [
                "container c1: the engine does not say which container of a pod this is, so a policy.memcg.bpf/CONTAINER may be meant for it (memcg.bpf/policy needs no name); it does not start, because memcg.bpf/required is true"
            ]
        );
        assert!(result.debug[0].contains("'memcg.bpf/policy.web'"), "{result:?}");
    }
    // The container started before.
    let stopped = env.state("stopped", &[FOR_WEB, REQUIRED]);
    assert_eq!(run(&stopped, None, &env.environment), HookResult::default());
}

#[test]
fn warnings_are_reported_without_a_policy_too() {
    let env = TestEnv::new(no_bus());
    let unidentified = "container c1: ignoring annotation 'memcg.bpf/policy.web': the engine does not say which container of a pod this is; use memcg.bpf/policy";
    let unknown = "container c1: ignoring annotation 'memcg.bpf/polcy'; there are memcg.bpf/policy, policy.memcg.bpf/CONTAINER, memcg.bpf/policy.CONTAINER, memcg.bpf/pod-policy and memcg.bpf/required";
    let unclear = "container c1: annotation memcg.bpf/required is 'ture', which is neither true nor false; taken as false";
    let db = ("io.kubernetes.container.name", "db");
    let cases = [
        (vec![FOR_WEB], vec![unidentified]),
        (vec![FOR_WEB, ("memcg.bpf/required", "ture")], vec![unidentified, unclear]),
        (vec![MISSPELT], vec![unknown]),
        (vec![MISSPELT, REQUIRED], vec![unknown]),
        // The policy is for another container, whose name is known.
        (vec![FOR_WEB, REQUIRED, db], vec![]),
    ];
    for (annotations, notes) in cases {
        let result = env.run(&annotations);
        assert!(!result.fail, "{annotations:?}");
        assert_eq!(result.notes, notes, "{annotations:?}");
    }
}

#[test]
fn daemon_is_called_once_and_success_is_silent() {
    let daemon = FakeDaemon::start(Behaviour::Accepts);
    let env = TestEnv::new(daemon.address());
    let result = env.run(&[DENY]);
    assert_eq!((result.fail, result.notes.len(), result.container.as_deref()), (false, 0, Some("c1")));
    assert_eq!(result.debug, ["container c1: policy 'deny limit=64M' is attached"]);
    assert_eq!(
        daemon.calls(),
        [r#"attach c1 7 'deny limit=64M' cgroups-path=Str("machine.slice:libpod:c1") required=Bool(false)"#]
    );
    assert_eq!(env.recorded(), None);
}

#[test]
fn unreadable_bundle_is_left_to_daemon() {
    let daemon = FakeDaemon::start(Behaviour::Accepts);
    let env = TestEnv::new(daemon.address());
    std::fs::remove_file(env.dir.path().join("config.json")).unwrap();
    nix::unistd::mkfifo(&env.dir.path().join("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let result = env.run(&[DENY, REQUIRED]);
    assert!(!result.fail);
    assert!(result.debug[0].ends_with("config.json: not a regular file"), "{result:?}");
    assert_eq!(daemon.calls(), ["attach c1 7 'deny limit=64M' required=Bool(true)"]);
}

#[test]
fn stage_follows_from_argument_or_state() {
    let daemon = FakeDaemon::start(Behaviour::Accepts);
    let env = TestEnv::new(daemon.address());
    for (status, stage) in [
        ("stopped", None),
        ("created", Some(Stage::Stop)),
        ("stopped", Some(Stage::Start)),
        ("creating", None),
    ] {
        let result = run(&env.state(status, &[DENY]), stage, &env.environment);
        assert!(!result.fail && result.notes.is_empty(), "{result:?}");
    }
    let calls: Vec<String> =
        daemon.calls().iter().map(|call| call.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(calls, ["detach", "detach", "attach", "attach"]);
}

#[test]
fn each_failure_is_reported_and_stops_required_only() {
    let recorded = "; it starts without a policy, which is recorded on /machine.slice/libpod-c1.scope for memcg-bpfd to adopt";
    let cases: [(Behaviour, &str, &str); 7] = [
        (
            Behaviour::Rejects,
            "annotation of container c1, column 0:\\nunknown policy",
            "; it starts without a policy",
        ),
        (Behaviour::Busy, "too many containers start at once", recorded),
        (Behaviour::Slow, "memcg-bpfd did not reply within 800ms", recorded),
        (Behaviour::BusSilent, "memcg-bpfd did not reply within 800ms", recorded),
        (
            Behaviour::NotInstalled,
            "memcg-bpfd is not running and cannot be started over D-Bus; try: systemctl start memcg-bpfd",
            recorded,
        ),
        (
            Behaviour::NotForThisUser,
            "the system bus denies this user access to memcg-bpfd",
            "; it starts without a policy",
        ),
        (
            Behaviour::OfAnotherVersion,
            "memcg-bpfd rejected the call of this hook; their versions may differ (expected (su))",
            "; it starts without a policy",
        ),
    ];
    for (behaviour, why, consequence) in cases {
        let daemon = FakeDaemon::start(behaviour);
        let env = TestEnv::late(&daemon, behaviour);
        let result = env.run(&[DENY]);
        assert_eq!(
            (result.fail, result.notes),
            (false, vec![format!("container c1: {why}{consequence}")]),
            "{behaviour:?}"
        );
        assert_eq!(env.recorded().is_some(), consequence == recorded, "{behaviour:?}");

        let env = TestEnv::late(&daemon, behaviour);
        let result = env.run(&[DENY, REQUIRED]);
        let sentence = format!("container c1: {why}; it does not start, because memcg.bpf/required is true");
        assert_eq!((result.fail, result.notes), (true, vec![sentence]), "{behaviour:?}");
        assert_eq!(env.recorded(), None, "{behaviour:?}: a container that does not start leaves no record");
    }
}

#[test]
fn busy_daemon_is_called_again() {
    let daemon = FakeDaemon::start(Behaviour::BusyAtFirst);
    let env = TestEnv::new(daemon.address());
    let result = env.run(&[DENY, REQUIRED]);
    assert_eq!((result.fail, result.notes.len(), daemon.calls().len()), (false, 0, 3), "{result:?}");
    assert_eq!(env.recorded(), None);
}

#[test]
fn without_bus_request_is_added_to_record() {
    let env = TestEnv::new(no_bus());
    let result = env.run(&[DENY]);
    assert_eq!(
        result.notes,
        [
            "container c1: there is no system bus at /run/dbus/system_bus_socket (is dbus running?); it starts without a policy, which is recorded on /machine.slice/libpod-c1.scope for memcg-bpfd to adopt"
        ]
    );
    let mut record = env.recorded().unwrap();
    assert_eq!((record.requests.len(), record.requests[0].location.as_str()), (1, "container c1"));
    // A request of an operator exists when the hook runs again.
    record.requests[0].origin = crate::policy::request::Origin::Operator;
    record.requests[0].container = None;
    env.memory
        .records
        .lock()
        .unwrap()
        .insert("/machine.slice/libpod-c1.scope".into(), record.encode().unwrap());
    env.run(&[DENY]);
    env.run(&[DENY]);
    assert_eq!(env.recorded().unwrap().requests.len(), 2);
}

#[test]
fn record_error_is_reported_and_container_starts() {
    let note = |env: &TestEnv| {
        let result = env.run(&[DENY]);
        assert!(!result.fail);
        result.notes[0].split("recorded either: ").nth(1).unwrap().to_owned()
    };
    let env = TestEnv::with(no_bus(), Memory { forbidden: true, ..Memory::default() });
    assert_eq!(
        note(&env),
        "trusted.memcg_bpf of /machine.slice/libpod-c1.scope: permission denied (only root and the owner of a delegated cgroup can write it)"
    );

    // An owner without root writes the owner policy.
    let env = TestEnv::with(no_bus(), Memory { owner: true, ..Memory::default() });
    assert!(
        env.run(&[DENY]).notes[0]
            .ends_with("recorded on /machine.slice/libpod-c1.scope for memcg-bpfd to adopt")
    );
    assert_eq!(env.memory.owner_policies.lock().unwrap().values().collect::<Vec<_>>(), ["deny limit=64M"]);

    let env = TestEnv::new(no_bus());
    let newer = br#"{"version":2}"#.to_vec();
    env.memory.records.lock().unwrap().insert("/machine.slice/libpod-c1.scope".into(), newer.clone());
    assert!(note(&env).contains("has version 2"));
    assert_eq!(env.memory.records.lock().unwrap().values().next(), Some(&newer));

    let env = TestEnv::new(no_bus());
    std::fs::write(env.environment.proc.join("7/cgroup"), "0::/system.slice/podman.service\n").unwrap();
    assert!(
        note(&env)
            .starts_with("the container's process is in '/system.slice/podman.service', which is not in")
    );
}

const POD_POLICY: (&str, &str) = ("memcg.bpf/pod-policy", "deny limit=1G");
const SANDBOX: (&str, &str) = ("io.kubernetes.cri.sandbox-id", "5a");
const NAMES: [(&str, &str); 3] = [
    ("io.kubernetes.cri.sandbox-namespace", "default"),
    ("io.kubernetes.cri.sandbox-name", "web"),
    ("io.kubernetes.cri.container-name", "app"),
];
const POD_CGROUP: &str = "/kubepods.slice/kubepods-pod1a.slice";

/// The container in the cgroup of a pod.
fn pod_env(bus: String) -> TestEnv {
    let env = TestEnv::new(bus);
    let text = format!("0::{POD_CGROUP}/cri-containerd-c1.scope\n");
    std::fs::write(env.environment.proc.join("7/cgroup"), text).unwrap();
    let config = r#"{"linux":{"cgroupsPath":"kubepods-pod1a.slice:cri-containerd:c1"}}"#;
    std::fs::write(env.dir.path().join("config.json"), config).unwrap();
    env
}

#[test]
fn policies_of_container_and_pod_are_requested_with_their_names() {
    let daemon = FakeDaemon::start(Behaviour::Accepts);
    let env = pod_env(daemon.address());
    let [namespace, name, container] = NAMES;
    let result = env.run(&[DENY, POD_POLICY, SANDBOX, namespace, name, container]);
    assert_eq!((result.fail, result.notes.len()), (false, 0), "{result:?}");
    let options = r#"cgroups-path=Str("kubepods-pod1a.slice:cri-containerd:c1") pod=Str("default/web app")"#;
    assert_eq!(
        daemon.calls(),
        [
            format!(r#"attach c1 7 'deny limit=1G' {options} required=Bool(false) sandbox=Str("5a")"#),
            format!("attach c1 7 'deny limit=64M' {options} required=Bool(false)"),
        ]
    );
}

#[test]
fn policy_of_pod_is_recorded_on_its_cgroup_for_an_absent_daemon() {
    let env = pod_env(no_bus());
    let [namespace, name, container] = NAMES;
    let result = env.run(&[POD_POLICY, SANDBOX, namespace, name, container]);
    assert!(!result.fail);
    let end = format!(
        "it starts without the policy of its pod, which is recorded on {POD_CGROUP} for memcg-bpfd to adopt"
    );
    assert!(result.notes[0].starts_with("container c1 (default/web app): "), "{result:?}");
    assert!(result.notes[0].ends_with(&end), "{result:?}");
    let record = CgroupRecord::parse(&env.memory.records.lock().unwrap()[POD_CGROUP]).unwrap();
    let [request] = &record.requests[..] else { panic!("{record:?}") };
    assert_eq!((request.container.as_deref(), request.line.as_str()), (Some("5a"), "deny limit=1G"));
    assert_eq!(request.pod.as_ref().map(ToString::to_string).as_deref(), Some("default/web"));
}

#[test]
fn policy_of_pod_needs_a_sandbox_and_a_cgroup_of_a_pod() {
    let env = pod_env(no_bus());
    let result = env.run(&[POD_POLICY]);
    assert!(result.notes[0].contains("does not pass the id of the pod's sandbox"), "{result:?}");
    assert!(env.run(&[POD_POLICY, REQUIRED]).fail);
    // podman copies the annotations of an image.
    let env = TestEnv::new(no_bus());
    let [namespace, name, container] = NAMES;
    let result = env.run(&[DENY, POD_POLICY, SANDBOX, namespace, name, container]);
    assert!(result.notes[0].contains("is not in the cgroup of a pod"), "{result:?}");
    let requests = env.recorded().unwrap().requests;
    assert_eq!((requests.len(), requests[0].pod.as_ref()), (1, None));
}
