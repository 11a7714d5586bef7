//! Tests of invalid input.

use std::time::Instant;

use super::*;

#[test]
fn an_unreadable_state_never_stops_a_container() {
    let env = TestEnv::new(no_bus());
    for state in [
        &b""[..],
        b"{",
        b"\xff\xff",
        br#"{"id":"c1"}"#,
        br#"{"id":"../x","status":"created","annotations":{"memcg.bpf/required":"true"}}"#,
    ] {
        let result = run(state, None, &env.environment);
        assert!(!result.fail);
        assert!(result.notes[0].ends_with("; the container goes on without a policy"), "{result:?}");
    }
}

#[test]
fn a_start_without_pid_is_a_reason_of_its_own() {
    let env = TestEnv::new(no_bus());
    let json = br#"{"id":"c1","status":"created","annotations":{"memcg.bpf/policy":"observe"}}"#;
    assert_eq!(
        run(json, None, &env.environment).notes,
        [
            "container c1: the runtime provides no pid at this stage; use the stage createRuntime or prestart; it starts without a policy"
        ]
    );
}

#[test]
fn line_with_zero_byte_is_rejected() {
    let env = TestEnv::new(no_bus());
    let result = env.run(&[("memcg.bpf/policy", "deny\0")]);
    assert_eq!(
        result.notes,
        ["container c1: the policy line contains a zero byte; it starts without a policy"]
    );
    assert_eq!(env.recorded(), None);
}

#[test]
fn the_end_never_fails_even_without_daemon() {
    let env = TestEnv::new(no_bus());
    let result = run(&env.state("stopped", &[DENY, REQUIRED]), None, &env.environment);
    assert_eq!((result.fail, result.notes.len()), (false, 0));
    assert_eq!(env.recorded(), None);
}

#[test]
fn invalid_annotations_are_reported_once_at_start() {
    let daemon = FakeDaemon::start(Behaviour::Accepts);
    let env = TestEnv::new(daemon.address());
    let result = env.run(&[DENY, ("memcg.bpf/required", "maybe")]);
    assert_eq!(
        result.notes,
        [
            "container c1: annotation memcg.bpf/required is 'maybe', which is neither true nor false; taken as false"
        ]
    );
    let result = run(&env.state("stopped", &[DENY, ("memcg.bpf/required", "maybe")]), None, &env.environment);
    assert!(result.notes.is_empty());
}

#[test]
fn silent_runtime_times_out() {
    let (_writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
    let began = Instant::now();
    let error = read_state(reader, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error, "the runtime did not write the container state to standard input within 50ms");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(read_state(io::Cursor::new(b"{}".to_vec()), STATE_DEADLINE), Ok(b"{}".to_vec()));
    let endless = read_state(io::repeat(b' '), STATE_DEADLINE).unwrap();
    assert_eq!(endless.len(), STATE_MAX + 1);
}

#[test]
fn the_command_line_is_understood() {
    let parse = |args: &[&str]| invocation(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    assert_eq!(parse(&[]), Invocation::Run { stage: None, unknown: None });
    assert_eq!(parse(&["prestart"]), Invocation::Run { stage: Some(Stage::Start), unknown: None });
    assert_eq!(parse(&["createRuntime"]), Invocation::Run { stage: Some(Stage::Start), unknown: None });
    assert_eq!(parse(&["poststop"]), Invocation::Run { stage: Some(Stage::Stop), unknown: None });
    assert_eq!(parse(&["x"]), Invocation::Run { stage: None, unknown: Some("x".into()) });
    assert_eq!(parse(&["x", "--help"]), Invocation::Help);
    assert_eq!(parse(&["-V"]), Invocation::Version);
}

#[test]
fn long_ids_are_shown_as_engines_show_them() {
    let of = |id: &str, annotations: &str| {
        let json = format!(r#"{{"id":"{id}","status":"created","annotations":{{{annotations}}}}}"#);
        prefix(&ContainerState::parse(json.as_bytes()).unwrap().policy_request(), "x")
    };
    assert_eq!(of(&"1f".repeat(32), ""), "container 1f1f1f1f1f1f: x");
    let names = r#""io.kubernetes.pod.namespace":"default","io.kubernetes.pod.name":"web","io.kubernetes.container.name":"app""#;
    assert_eq!(of("mine", names), "container mine (default/web app): x");
}

#[test]
fn hook_file_is_accepted_by_engines() {
    let text = include_str!("../../../oci-hooks/90-memcg-bpf.json");
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["version"], "1.0.0");
    assert_eq!(json["hook"]["path"], "/usr/libexec/oci/hooks.d/memcg-bpf-hook");
    // Both timeouts of the hook must end before the engine kills the hook and the container.
    let timeout = Duration::from_secs(json["hook"]["timeout"].as_u64().unwrap());
    assert!(timeout >= STATE_DEADLINE + call::DEADLINE + Duration::from_secs(2));
    // podman runs a hook under createRuntime and prestart twice.
    assert_eq!(json["stages"], serde_json::json!(["createRuntime", "poststop"]));
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["hook", "stages", "version", "when"]);
}

#[test]
fn hook_file_condition_matches_own_annotations_only() {
    let json: serde_json::Value =
        serde_json::from_str(include_str!("../../../oci-hooks/90-memcg-bpf.json")).unwrap();
    let conditions = json["when"]["annotations"].as_object().unwrap();
    let (key, value) = conditions.iter().next().unwrap();
    assert_eq!((conditions.len(), json["when"].as_object().unwrap().len()), (1, 1));
    // The regular expressions of Go and of this crate have the same syntax (RE2), and both match anywhere if not
    // anchored.
    let (key, value) = (regex::Regex::new(key).unwrap(), regex::Regex::new(value.as_str().unwrap()).unwrap());
    for name in [
        "memcg.bpf/policy",
        "memcg.bpf/pod-policy",
        "memcg.bpf/policy.web",
        "memcg.bpf/policy.web-1",
        "memcg.bpf/policy.0",
        "policy.memcg.bpf/web",
    ] {
        assert!(key.is_match(name), "{name}");
    }
    for name in [
        "memcg.bpf/required",
        "memcg.bpf/policyx",
        "memcg.bpf/pod-policy.web",
        "memcgxbpf/policy",
        "a.memcg.bpf/policy",
        "memcg.bpf/policy.",
        "memcg.bpf/policy.a/b",
        "memcg.bpf/policy x",
        "policy.memcg.bpf/",
        "x.policy.memcg.bpf/web",
        "",
    ] {
        assert!(!key.is_match(name), "{name}");
    }
    assert!(value.is_match("") && value.is_match("deny limit=64M"));
}
