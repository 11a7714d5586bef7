use super::*;

/// As podman 5.4 with crun 1.21 writes it at createRuntime.
const PODMAN: &str = r#"{"ociVersion":"1.0","id":"c1","pid":284,"root":"/r","bundle":"/b","status":"created",
    "annotations":{"io.container.manager":"libpod","memcg.bpf/policy":"deny limit=64M"}}"#;

fn request(annotations: &[(&str, &str)]) -> ContainerRequest {
    let annotations: HashMap<&str, &str> = annotations.iter().copied().collect();
    let json = serde_json::json!({"ociVersion": "1.2.0", "id": "c1", "pid": 7, "bundle": "/b", "status": "created", "annotations": annotations});
    ContainerState::parse(json.to_string().as_bytes()).unwrap().policy_request()
}

fn line(annotations: &[(&str, &str)]) -> Option<String> {
    request(annotations).line
}

#[test]
fn state_of_podman_and_crun_is_parsed() {
    let state = ContainerState::parse(PODMAN.as_bytes()).unwrap();
    assert_eq!((state.id.as_str(), state.pid, state.status), ("c1", Some(284), Status::Created));
    assert_eq!(state.bundle, PathBuf::from("/b"));
    let request = state.policy_request();
    assert_eq!((request.line.as_deref(), request.required), (Some("deny limit=64M"), false));
    assert!(request.warnings.is_empty());
}

#[test]
fn a_state_at_poststop_needs_no_pid() {
    for json in [
        r#"{"ociVersion":"1.0","id":"c1","bundle":"/b","status":"stopped","annotations":{}}"#,
        r#"{"ociVersion":"1.0","id":"c1","pid":0,"status":"stopped"}"#,
        r#"{"ociVersion":"1.0","id":"c1","pid":-1,"status":"stopped","annotations":null}"#,
    ] {
        let state = ContainerState::parse(json.as_bytes()).unwrap();
        assert_eq!((state.pid, state.status), (None, Status::Stopped));
        assert_eq!(state.policy_request().line, None);
    }
}

#[test]
fn each_wrong_state_has_its_sentence() {
    let empty = "the container state is empty; this program is called by an OCI runtime, which writes the state to its standard input";
    let not = "the container state is not that of the OCI runtime specification: ";
    let cases = [
        ("", empty.to_owned()),
        (" \n", empty.to_owned()),
        ("{", format!("{not}EOF while parsing an object at line 1 column 1")),
        ("hello", format!("{not}expected value at line 1 column 1")),
        (
            "[]",
            format!(
                "{not}invalid length 0, expected struct StatusPresence with 1 element at line 1 column 2"
            ),
        ),
        (r#"{"id":"c1"}"#, "the container state has no status".to_owned()),
        (
            r#"{"id":"c1","status":"paused"}"#,
            format!(
                "{not}unknown variant `paused`, expected one of `creating`, `created`, `running`, `stopped` at line 1 column 28"
            ),
        ),
        (
            r#"{"id":1,"status":"created"}"#,
            format!("{not}invalid type: integer `1`, expected a string at line 1 column 7"),
        ),
        (
            r#"{"id":"c1","status":"created","pid":"7"}"#,
            format!("{not}invalid type: string \"7\", expected i32 at line 1 column 39"),
        ),
        (
            r#"{"id":"c1","status":"created","pid":4294967296}"#,
            format!("{not}invalid value: integer `4294967296`, expected i32 at line 1 column 46"),
        ),
        (
            r#"{"id":"c1","status":"created","annotations":{"a":null}}"#,
            format!("{not}invalid type: null, expected a string at line 1 column 53"),
        ),
        (
            r#"{"id":"c1","status":"created","annotations":[]}"#,
            format!("{not}invalid type: sequence, expected a map at line 1 column 44"),
        ),
    ];
    for (json, sentence) in cases {
        assert_eq!(
            ContainerState::parse(json.as_bytes()).map_err(|error| error.to_string()),
            Err(sentence),
            "{json}"
        );
    }
    for id in [r#""""#, r#""../x""#, r#""a b""#, r#""a\u0000""#] {
        let json = format!(r#"{{"id":{id},"status":"created"}}"#);
        let error = ContainerState::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("the container state has no usable id: '"), "{error}");
        assert!(!error.contains(char::is_control));
    }
}

#[test]
fn a_huge_or_deep_state_is_refused() {
    let huge = vec![b'x'; STATE_MAX + 1];
    assert_eq!(
        ContainerState::parse(&huge).unwrap_err().to_string(),
        "the container state is longer than 1048576 bytes"
    );
    let deep = format!(r#"{{"id":"c1","status":"created","x":{}"#, "[".repeat(500_000));
    assert!(ContainerState::parse(deep.as_bytes()).is_err());
    let long_word = format!(r#"{{"id":"c1","status":"{}"}}"#, "\\u001b".repeat(10_000));
    let error = ContainerState::parse(long_word.as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 1000 && !error.contains(char::is_control), "{error}");
}

#[test]
fn container_annotation_overrides_pod_annotation() {
    let pod = ("memcg.bpf/policy", "observe");
    let web = ("memcg.bpf/policy.web", "deny limit=1G");
    let containerd = ("io.kubernetes.cri.container-name", "web");
    let crio = ("io.kubernetes.container.name", "web");
    assert_eq!(line(&[]), None);
    assert_eq!(line(&[pod]).as_deref(), Some("observe"));
    assert_eq!(line(&[pod, web, containerd]).as_deref(), Some("deny limit=1G"));
    assert_eq!(line(&[pod, web, crio]).as_deref(), Some("deny limit=1G"));
    assert_eq!(line(&[pod, web, ("io.kubernetes.container.name", "db")]).as_deref(), Some("observe"));
    assert_eq!(line(&[web, ("io.kubernetes.container.name", "db")]), None);
    let other = ("policy.memcg.bpf/web", "deny limit=2G");
    assert_eq!(line(&[pod, web, other, containerd]).as_deref(), Some("deny limit=2G"));
    assert_eq!(line(&[other, ("io.kubernetes.container.name", "db")]), None);
    assert!(request(&[other, crio]).warnings.is_empty());
}

/// Kubernetes limits the names of containers to 63 characters, and the part of a key after the slash as well.
#[test]
fn container_with_longest_name_has_annotation() {
    let name = "n".repeat(63);
    let key = format!("policy.memcg.bpf/{name}");
    let named = ("io.kubernetes.cri.container-name", name.as_str());
    assert_eq!(line(&[(key.as_str(), "observe"), named]).as_deref(), Some("observe"));
    assert!(request(&[(key.as_str(), "observe")]).container_name_unknown);
}

#[test]
fn an_empty_annotation_means_none() {
    assert_eq!(line(&[("memcg.bpf/policy", "")]).as_deref(), Some("none"));
    assert_eq!(line(&[("memcg.bpf/policy", "  ")]).as_deref(), Some("none"));
    let empty_for_web = [
        ("memcg.bpf/policy", "observe"),
        ("memcg.bpf/policy.web", ""),
        ("io.kubernetes.container.name", "web"),
    ];
    assert_eq!(line(&empty_for_web).as_deref(), Some("none"));
}

#[test]
fn sandbox_of_a_pod_has_no_policy() {
    for key in TYPE_KEYS {
        assert_eq!(line(&[("memcg.bpf/policy", "observe"), (key, "sandbox")]), None);
        assert_eq!(line(&[("memcg.bpf/policy", "observe"), (key, "container")]).as_deref(), Some("observe"));
    }
}

#[test]
fn required_is_true_only_for_valid_boolean() {
    for (text, wanted) in [
        ("true", true),
        ("True", true),
        ("yes", true),
        ("1", true),
        ("on ", true),
        ("false", false),
        ("0", false),
        ("", false),
    ] {
        let request = request(&[(REQUIRED, text)]);
        assert_eq!((request.required, request.warnings.len()), (wanted, 0), "{text}");
    }
    let request = request(&[(REQUIRED, "ture\n")]);
    assert!(!request.required);
    assert_eq!(
        request.warnings,
        ["annotation memcg.bpf/required is 'ture\\n', which is neither true nor false; taken as false"]
    );
}

#[test]
fn ignored_annotations_are_reported() {
    let warnings =
        request(&[("memcg.bpf/polcy", "observe"), ("memcg.bpf/policy.web", "observe"), ("other/x", "")])
            .warnings;
    assert_eq!(
        warnings,
        [
            "ignoring annotation 'memcg.bpf/policy.web': the engine does not say which container of a pod this is; use memcg.bpf/policy",
            "ignoring annotation 'memcg.bpf/polcy'; there are memcg.bpf/policy, policy.memcg.bpf/CONTAINER, memcg.bpf/policy.CONTAINER, memcg.bpf/pod-policy and memcg.bpf/required",
        ]
    );
}

#[test]
fn the_cgroups_path_is_read_from_the_configuration() {
    let with = |json: &str| cgroups_path(json.as_bytes()).map_err(|error| error.to_string());
    assert_eq!(
        with(r#"{"ociVersion":"1.2.0","linux":{"cgroupsPath":"s:p:n","resources":{}}}"#),
        Ok(Some("s:p:n".into()))
    );
    assert_eq!(with(r#"{"linux":{"cgroupsPath":""}}"#), Ok(None));
    assert_eq!(with(r#"{"linux":{}}"#), Ok(None));
    assert_eq!(with("{}"), Ok(None));
    assert_eq!(
        with("x"),
        Err("config.json of the bundle cannot be read: expected value at line 1 column 1".into())
    );
    assert_eq!(
        with(r#"{"linux":{"cgroupsPath":7}}"#),
        Err("config.json of the bundle cannot be read: invalid type: integer `7`, expected a string at line 1 column 25".into())
    );
    let no_path = Err("config.json of the bundle cannot be read: linux.cgroupsPath is no path".to_owned());
    assert_eq!(with(r#"{"linux":{"cgroupsPath":"a\u0000b"}}"#), no_path);
    assert_eq!(with(&format!(r#"{{"linux":{{"cgroupsPath":"{}"}}}}"#, "x".repeat(5000))), no_path);
    let huge = vec![b' '; CONFIG_MAX + 1];
    assert_eq!(
        cgroups_path(&huge).unwrap_err().to_string(),
        "config.json of the bundle cannot be read: it is longer than 8388608 bytes"
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = ContainerState::parse(&bytes).map(|state| state.policy_request());
        let _ = cgroups_path(&bytes);
    }
}

#[test]
fn ambiguous_pod_policy_is_detected() {
    let name = ("io.kubernetes.cri.container-name", "db");
    assert!(request(&[("memcg.bpf/policy.web", "observe")]).container_name_unknown);
    assert!(!request(&[("memcg.bpf/policy.web", "observe"), name]).container_name_unknown);
    assert!(
        !request(&[("memcg.bpf/policy.web", "observe"), ("memcg.bpf/policy", "observe")])
            .container_name_unknown
    );
    assert!(!request(&[("memcg.bpf/policies", "observe")]).container_name_unknown);
}

#[test]
fn pod_policy_is_that_of_any_container_and_never_stops_the_sandbox() {
    let all = [("memcg.bpf/pod-policy", " deny limit=1Gi "), ("memcg.bpf/required", "true")];
    let of_app = request(&all);
    assert_eq!(
        (of_app.line, of_app.pod_line.as_deref(), of_app.required),
        (None, Some("deny limit=1Gi"), true)
    );
    assert!(of_app.warnings.is_empty());
    let [policy, required] = all;
    for key in TYPE_KEYS {
        let of_sandbox = request(&[policy, required, (key, "sandbox")]);
        assert_eq!((of_sandbox.pod_line.as_deref(), of_sandbox.required), (Some("deny limit=1Gi"), false));
    }
    assert_eq!(request(&[("memcg.bpf/pod-policy", "")]).pod_line.as_deref(), Some("none"));
}
