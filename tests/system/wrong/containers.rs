//! What containers say of themselves.

use super::*;

/// The container's state as a runtime writes it, with these annotations.
fn state(pid: &str, annotations: &str) -> String {
    format!(
        r#"{{"ociVersion":"1.0.2","id":"mphook",{pid}"status":"created","bundle":"/no/bundle","annotations":{{{annotations}}}}}"#
    )
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_wrong_container_state_is_told_in_one_line_and_stops_only_what_requires_its_policy() {
    let mut scene = Scene::new("hook");
    sh(
        "mkdir /sys/fs/cgroup/mphook; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > /sys/fs/cgroup/mphook/cgroup.procs",
    );
    scene.at_end(
        "echo 1 > /sys/fs/cgroup/mphook/cgroup.kill; until rmdir /sys/fs/cgroup/mphook; do sleep 0.1; done"
            .to_owned(),
    );
    let pid = sh("cat /sys/fs/cgroup/mphook/cgroup.procs");
    let pid = format!("\"pid\":{pid},");
    let policy = |line: &str| state(&pid, &format!(r#""memcg.bpf/policy":"{line}""#));
    let required =
        |line: &str| state(&pid, &format!(r#""memcg.bpf/policy":"{line}","memcg.bpf/required":"true""#));
    let long = format!("observe {}", "x".repeat(5000));
    let huge = format!("{}{}", " ".repeat(1 << 20), state("", ""));
    let file = scene.dir.join("state");
    let mut sentences = Sentences::default();
    for (argument, json, status, sentence) in [
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
            state(&pid, ""),
            0,
            "ignoring argument 'startContainer'; the stages are prestart, createRuntime and poststop",
        ),
        (
            "createRuntime",
            state("", r#""memcg.bpf/policy":"observe""#),
            0,
            "container mphook: the runtime gives no pid at this stage; use the stages createRuntime or prestart; it starts without a policy",
        ),
        (
            "createRuntime",
            state("\"pid\":4194304,", r#""memcg.bpf/policy":"observe""#),
            0,
            "container mphook: container mphook: process 4194304 cannot be examined: No such file or directory (os error 2); it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny"),
            0,
            "container mphook: annotation of container mphook, column 1: parameter 'limit' of policy 'deny' must be given; it starts without a policy",
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
            "container mphook: the policy line holds a zero byte; it starts without a policy",
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
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/polcy":"observe""#),
            0,
            "container mphook: ignoring annotation 'memcg.bpf/polcy'; there are memcg.bpf/policy, memcg.bpf/policy.CONTAINER and memcg.bpf/required",
        ),
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/policy":"dney","memcg.bpf/required":"maybe""#),
            0,
            "container mphook: annotation memcg.bpf/required is 'maybe', which is neither true nor false; taken as false; container mphook: annotation of container mphook, column 1: unknown policy 'dney'; did you mean 'deny'?; it starts without a policy",
        ),
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/policy.web":"observe""#),
            0,
            "container mphook: ignoring annotation 'memcg.bpf/policy.web': the engine does not say which container of a pod this is; use memcg.bpf/policy",
        ),
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/policy.web":"observe","memcg.bpf/required":"true""#),
            1,
            "container mphook: the engine does not say which container of a pod this is, so a memcg.bpf/policy.CONTAINER may be meant for it (memcg.bpf/policy needs no name); it does not start, because memcg.bpf/required is true",
        ),
    ] {
        fs::write(&file, &json).unwrap();
        // Two seconds may be too little for the daemon here: then it says that, and is asked again.
        let ask = || try_sh(&format!("{HOOK} {argument} < {}", file.display()));
        let said = (0..3).map(|_| ask()).find(|said| too_late(&said.err) == 0).unwrap_or_else(ask);
        let wanted = format!("memcg-bpf-hook: {sentence} (exit {status})");
        sentences.compare(&json, &format!("{} (exit {})", said.err, said.status), &wanted);
    }
    let never = scene.dir.join("never");
    let said = try_sh(&format!("mkfifo {0}; exec 9<>{0}; {HOOK} createRuntime <&9", never.display()));
    let wanted = "memcg-bpf-hook: the runtime did not write the container state to standard input within 2s; the container goes on without a policy";
    sentences.compare("nothing", &said.err, wanted);
    sentences.end(22);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_with_a_wrong_annotation_starts_and_explain_says_why_nothing_governs_it() {
    let mut scene = Scene::new("annotation");
    let eat = format!("{PROGRAMS}/eat 100 > /out/eat; sleep 1000");
    let id = scene.podman_id("mistaken", "--annotation memcg.bpf/policy=\"deny limt=64M\"", &eat);
    assert_eq!(first_line(&scene.dir.join("eat")), "reached 100 MiB");
    let explained = sh(&format!("memcg-bpf explain {id}"));
    let sentence = "unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?";
    let flat = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(sentence), "{explained}");
    assert!(hooks_said(&format!("CONTAINER_ID_FULL={id}")).contains(sentence));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_that_requires_its_policy_does_not_start_without_it() {
    let mut scene = Scene::new("required");
    let required = "--annotation memcg.bpf/required=true --annotation memcg.bpf/policy";
    let since = since_now();
    let said = scene.podman("wrong", &format!("{required}=\"deny limt=64M\""), "sleep 1000");
    assert_ne!(said.status, 0);
    let why = "did you mean 'limit'?; it does not start, because memcg.bpf/required is true";
    assert!(hooks_said(&since).contains(why));

    // runc tells what the hook said.
    let bundle = scene
        .bundle("wrong-runc")
        .annotation("memcg.bpf/policy", "nosuch")
        .annotation("memcg.bpf/required", "true");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/wrong-runc");
    let said = scene.run_bundle("runc", &bundle, "sleep 1000");
    assert!(said.status != 0 && said.err.contains("unknown policy 'nosuch'"), "{said:?}");
    scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());

    sh("systemctl mask --runtime memcg-bpfd; systemctl stop memcg-bpfd");
    scene.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    let said = scene.podman("absent", &format!("{required}=\"deny limit=64M\""), "sleep 1000");
    assert_ne!(said.status, 0, "it must not start without the daemon either");
    sh("systemctl unmask --runtime memcg-bpfd");
    daemon_runs();
    assert_eq!(status(), []);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_daemon_that_hangs_holds_no_container_up() {
    let mut scene = Scene::new("hanging");
    let eat = format!("until [ -e /out/go ]; do sleep 0.2; done; {PROGRAMS}/eat 100 hold > /out/eat");
    let bundle = scene.bundle("patient").annotation("memcg.bpf/policy", "deny limit=40M");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/patient");
    while_it_stands_still(&mut scene, |scene| {
        bundle.write(&eat);
        scene.at_end("crun delete -f patient".to_owned());
        let said = try_sh(&bundle.command("crun"));
        scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
        assert_eq!(said.status, 0, "{}", said.err);
        assert_eq!(governed_records(), ["/bundles/patient"]);
        assert!(hooks_said("").contains("recorded on /bundles/patient for memcg-bpfd to adopt"));
    });
    // The caller has gone when it comes to the call, so it looks for what is recorded.
    active("/bundles/patient");
    fs::write(scene.dir.join("go"), "").unwrap();
    refused_at(&first_line(&scene.dir.join("eat")), 40);
    scene.end();
}
