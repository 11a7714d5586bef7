//! Container states and annotations.

use super::*;

/// The container's state as a runtime writes it, with these annotations.
fn state(pid: &str, annotations: &str) -> String {
    format!(
        r#"{{"ociVersion":"1.0.2","id":"mphook",{pid}"status":"created","bundle":"/no/bundle","annotations":{{{annotations}}}}}"#
    )
}

/// The hook's argument, the state on its standard input, its exit status and its message.
type HookCase = (&'static str, String, i32, &'static str);

/// States that are empty, malformed or incomplete. `pid` is the member of a state with a process.
fn invalid_states(pid: &str) -> Vec<HookCase> {
    let huge = format!("{}{}", " ".repeat(1 << 20), state("", ""));
    vec![
        (
            "",
            String::new(),
            0,
            "the container state is empty; this program is called by an OCI runtime, which writes the state to its standard input; the container goes on without a policy",
        ),
        (
            "",
            "{".to_owned(),
            0,
            "the container state is not that of the OCI runtime specification: EOF while parsing an object at line 1 column 1; the container goes on without a policy",
        ),
        (
            "",
            "[]".to_owned(),
            0,
            "the container state is not that of the OCI runtime specification: invalid length 0, expected struct StatusPresence with 1 element at line 1 column 2; the container goes on without a policy",
        ),
        ("", "{}".to_owned(), 0, "the container state has no status; the container goes on without a policy"),
        (
            "",
            r#"{"ociVersion":"1.0.2","id":"mphook","pid":1}"#.to_owned(),
            0,
            "the container state has no status; the container goes on without a policy",
        ),
        (
            "",
            r#"{"ociVersion":"1.0.2","id":"../x","status":"created","pid":1}"#.to_owned(),
            0,
            "the container state has no usable id: '../x' is not a container id: it starts with '-' or '.'; the container goes on without a policy",
        ),
        (
            "",
            r#"{"ociVersion":"1.0.2","id":"x","status":"odd","pid":1}"#.to_owned(),
            0,
            "the container state is not that of the OCI runtime specification: unknown variant `odd`, expected one of `creating`, `created`, `running`, `stopped` at line 1 column 45; the container goes on without a policy",
        ),
        (
            "",
            huge,
            0,
            "the container state is longer than 1048576 bytes; the container goes on without a policy",
        ),
        (
            "startContainer",
            state(pid, ""),
            0,
            "ignoring argument 'startContainer'; the stages are prestart, createRuntime and poststop",
        ),
        (
            "createRuntime",
            state("", r#""memcg.bpf/policy":"observe""#),
            0,
            "container mphook: the runtime provides no pid at this stage; use the stage createRuntime or prestart; it starts without a policy",
        ),
        (
            "createRuntime",
            state("\"pid\":4194304,", r#""memcg.bpf/policy":"observe""#),
            0,
            "container mphook: container mphook: process 4194304 cannot be examined: No such file or directory (os error 2); it starts without a policy",
        ),
    ]
}

/// Annotations with an invalid policy.
fn invalid_policies(pid: &str) -> Vec<HookCase> {
    let policy = |line: &str| state(pid, &format!(r#""memcg.bpf/policy":"{line}""#));
    let required =
        |line: &str| state(pid, &format!(r#""memcg.bpf/policy":"{line}","memcg.bpf/required":"true""#));
    let long = format!("observe {}", "x".repeat(5000));
    vec![
        (
            "createRuntime",
            policy("deny"),
            0,
            "container mphook: annotation of container mphook, column 1: missing parameter 'limit' of policy 'deny'; it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny limt=64M"),
            0,
            "container mphook: annotation of container mphook, column 6: unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?; it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny limit=64M; dney"),
            0,
            "container mphook: annotation of container mphook, column 17: unknown policy 'dney'; did you mean 'deny'?; it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny\\u0000"),
            0,
            "container mphook: the policy line contains a zero byte; it starts without a policy",
        ),
        (
            "createRuntime",
            policy(&long),
            0,
            "container mphook: the policy line has 5008 bytes; at most 4096 are allowed; it starts without a policy",
        ),
        (
            "createRuntime",
            required("dney limit=1M"),
            1,
            "container mphook: annotation of container mphook, column 1: unknown policy 'dney'; did you mean 'deny'?; it does not start, because memcg.bpf/required is true",
        ),
    ]
}

/// Annotations with an unknown name or an invalid value.
fn invalid_annotations(pid: &str) -> Vec<HookCase> {
    vec![
        (
            "createRuntime",
            state(pid, r#""memcg.bpf/polcy":"observe""#),
            0,
            "container mphook: ignoring annotation 'memcg.bpf/polcy'; there are memcg.bpf/policy, policy.memcg.bpf/CONTAINER, memcg.bpf/policy.CONTAINER, memcg.bpf/pod-policy and memcg.bpf/required",
        ),
        (
            "createRuntime",
            state(pid, r#""memcg.bpf/policy":"dney","memcg.bpf/required":"maybe""#),
            0,
            "container mphook: annotation memcg.bpf/required is 'maybe', which is neither true nor false; taken as false; container mphook: annotation of container mphook, column 1: unknown policy 'dney'; did you mean 'deny'?; it starts without a policy",
        ),
        (
            "createRuntime",
            state(pid, r#""memcg.bpf/policy.web":"observe""#),
            0,
            "container mphook: ignoring annotation 'memcg.bpf/policy.web': the engine does not say which container of a pod this is; use memcg.bpf/policy",
        ),
        (
            "createRuntime",
            state(pid, r#""memcg.bpf/policy.web":"observe","memcg.bpf/required":"true""#),
            1,
            "container mphook: the engine does not say which container of a pod this is, so a policy.memcg.bpf/CONTAINER may be meant for it (memcg.bpf/policy needs no name); it does not start, because memcg.bpf/required is true",
        ),
    ]
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn hook_invalid_state_errors() {
    let mut env = TestEnv::new("hook");
    sh(
        "mkdir /sys/fs/cgroup/mphook; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > /sys/fs/cgroup/mphook/cgroup.procs",
    );
    env.at_end(
        "echo 1 > /sys/fs/cgroup/mphook/cgroup.kill; until rmdir /sys/fs/cgroup/mphook; do sleep 0.1; done"
            .to_owned(),
    );
    let pid = sh("cat /sys/fs/cgroup/mphook/cgroup.procs");
    let pid = format!("\"pid\":{pid},");
    let file = env.dir.join("state");
    let mut sentences = Sentences::default();
    let cases = [invalid_states(&pid), invalid_policies(&pid), invalid_annotations(&pid)].concat();
    for (argument, json, status, sentence) in cases {
        fs::write(&file, &json).unwrap();
        // Two seconds may be too short for the daemon on this machine: then the hook runs again.
        let ask = || try_sh(&format!("{HOOK} {argument} < {}", file.display()));
        let output = (0..3).map(|_| ask()).find(|output| hook_timeouts(&output.err) == 0).unwrap_or_else(ask);
        let wanted = format!("memcg-bpf-hook: {sentence} (exit {status})");
        sentences.compare(&json, &format!("{} (exit {})", output.err, output.status), &wanted);
    }
    let never = env.dir.join("never");
    let output = try_sh(&format!("mkfifo {0}; exec 9<>{0}; {HOOK} createRuntime <&9", never.display()));
    let wanted = "memcg-bpf-hook: the runtime did not write the container state to standard input within 2s; the container goes on without a policy";
    sentences.compare("nothing", &output.err, wanted);
    sentences.end(22);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn invalid_annotation_starts_and_is_explained() {
    let mut env = TestEnv::new("annotation");
    let eat = format!("{PROGRAMS}/alloc 100 > /out/eat; sleep 1000");
    let id = env.podman_id("mistaken", "--annotation memcg.bpf/policy=\"deny limt=64M\"", &eat);
    assert_eq!(first_line(&env.dir.join("eat")), "reached 100 MiB");
    let explained = sh(&format!("memcg-bpf explain {id}"));
    let sentence = "unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?";
    let flat = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(sentence), "{explained}");
    assert!(hook_messages(&format!("CONTAINER_ID_FULL={id}")).contains(sentence));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn required_policy_blocks_start() {
    let mut env = TestEnv::new("required");
    let required = "--annotation memcg.bpf/required=true --annotation memcg.bpf/policy";
    let since = since_now();
    let output = env.podman("wrong", &format!("{required}=\"deny limt=64M\""), "sleep 1000");
    assert_ne!(output.status, 0);
    let why = "did you mean 'limit'?; it does not start, because memcg.bpf/required is true";
    assert!(hook_messages(&since).contains(why));

    // runc prints the hook's message.
    let bundle = env
        .bundle("wrong-runc")
        .annotation("memcg.bpf/policy", "nosuch")
        .annotation("memcg.bpf/required", "true");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/wrong-runc");
    let output = env.run_bundle("runc", &bundle, "sleep 1000");
    assert!(output.status != 0 && output.err.contains("unknown policy 'nosuch'"), "{output:?}");
    env.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());

    sh("systemctl mask --runtime memcg-bpfd; systemctl stop memcg-bpfd");
    env.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    let output = env.podman("absent", &format!("{required}=\"deny limit=64M\""), "sleep 1000");
    assert_ne!(output.status, 0, "it must not start without the daemon either");
    sh("systemctl unmask --runtime memcg-bpfd");
    ensure_daemon();
    assert_eq!(status(), []);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn hook_times_out_on_hung_daemon() {
    let mut env = TestEnv::new("hanging");
    let eat = format!("until [ -e /out/go ]; do sleep 0.2; done; {PROGRAMS}/alloc 100 hold > /out/eat");
    let bundle = env.bundle("patient").annotation("memcg.bpf/policy", "deny limit=40M");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/patient");
    with_daemon_stopped(&mut env, |env| {
        bundle.write(&eat);
        env.at_end("crun delete -f patient".to_owned());
        let output = try_sh(&bundle.command("crun"));
        env.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
        assert_eq!(output.status, 0, "{}", output.err);
        assert_eq!(recorded_cgroups(), ["/bundles/patient"]);
        assert!(hook_messages("").contains("recorded on /bundles/patient for memcg-bpfd to adopt"));
    });
    // The caller has gone when it comes to the call, so it looks for what is recorded.
    active("/bundles/patient");
    fs::write(env.dir.join("go"), "").unwrap();
    assert_denied_at(&first_line(&env.dir.join("eat")), 40);
    env.end();
}
