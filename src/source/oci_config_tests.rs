use super::*;

const ANNOTATED: &str = r#"{"ociVersion":"1.2.0","annotations":{"memcg.bpf/policy":"deny limit=64M"},
    "x":{"max":18446744073709551615,"min":-9223372036854775808}}"#;

fn changed(json: &str) -> Value {
    let text = BundleConfig::parse(json.as_bytes()).unwrap().with_hook(HOOK).unwrap().unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn paths(config: &Value, stage: &str) -> Vec<String> {
    let list = config["hooks"][stage].as_array().cloned().unwrap_or_default();
    list.iter().map(|hook| hook["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn hook_is_added_to_start_and_stop_stage() {
    let config = changed(ANNOTATED);
    let hook = json!([{"path": HOOK, "args": ["memcg-bpf-hook"], "timeout": 10}]);
    assert_eq!(config["hooks"], json!({"createRuntime": hook, "poststop": hook}));
    let mut rest: Value = serde_json::from_str(ANNOTATED).unwrap();
    rest["hooks"] = config["hooks"].clone();
    assert_eq!(config, rest, "everything else is as it was, to the last digit");
}

#[test]
fn other_hooks_stay_before_ours() {
    let config =
        changed(r#"{"hooks":{"prestart":[{"path":"/a"}],"createRuntime":[{"path":"/b"}],"poststop":null}}"#);
    assert_eq!(paths(&config, "prestart"), ["/a"]);
    assert_eq!(paths(&config, "createRuntime"), ["/b", HOOK]);
    assert_eq!(paths(&config, "poststop"), [HOOK]);
    assert_eq!(paths(&changed(r#"{"hooks":null}"#), "createRuntime"), [HOOK]);
}

#[test]
fn present_hook_is_not_added_twice() {
    let twice = |json: &str| BundleConfig::parse(json.as_bytes()).unwrap().with_hook(HOOK).unwrap();
    let once = changed(ANNOTATED);
    assert_eq!(twice(&once.to_string()), None);
    for stage in START_STAGES {
        let with = format!(r#"{{"hooks":{{"{stage}":[{{"path":"/opt/x/memcg-bpf-hook"}}],"poststop":[]}}}}"#);
        let config = changed(&with);
        assert_eq!(paths(&config, stage), ["/opt/x/memcg-bpf-hook"]);
        assert_eq!(paths(&config, "poststop"), [HOOK]);
        let starts: usize = START_STAGES.iter().map(|stage| paths(&config, stage).len()).sum();
        assert_eq!(starts, 1, "{stage}");
    }
}

#[test]
fn annotations_decide_whether_the_hook_is_needed() {
    let parsed = |json: &str| BundleConfig::parse(json.as_bytes()).unwrap();
    for (json, annotated, required) in [
        ("{}", false, false),
        (r#"{"annotations":null}"#, false, false),
        (r#"{"annotations":{"example.com/x":"memcg.bpf/policy"}}"#, false, false),
        (r#"{"annotations":["memcg.bpf/policy"]}"#, false, false),
        (ANNOTATED, true, false),
        (r#"{"annotations":{"policy.memcg.bpf/app":"observe","memcg.bpf/required":"yes"}}"#, true, true),
        (r#"{"annotations":{"memcg.bpf/polcy":"observe","memcg.bpf/required":"maybe"}}"#, true, false),
        (r#"{"annotations":{"memcg.bpf/policy":7,"memcg.bpf/required":true}}"#, true, false),
    ] {
        assert_eq!(
            (parsed(json).is_annotated(), parsed(json).is_required()),
            (annotated, required),
            "{json}"
        );
    }
}

#[test]
fn hostile_configurations_are_errors() {
    let parse = |json: &[u8]| BundleConfig::parse(json);
    for json in ["", "null", "[]", "7", "{", "\u{1b}[2J", "{\"annotations\":}", &"[".repeat(100_000)] {
        assert!(matches!(parse(json.as_bytes()), Err(ConfigError::Malformed(_))), "{json:.20}");
    }
    assert!(matches!(parse(b"{\"a\":\"\xff\"}"), Err(ConfigError::Malformed(_))));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(parse(deep.as_bytes()), Err(ConfigError::Malformed(_))));
    assert_eq!(parse(&vec![b' '; CONFIG_MAX + 1]), Err(ConfigError::TooLong));
    for hooks in ["7", "[]", "\"x\"", r#"{"createRuntime":{}}"#, r#"{"poststop":"x"}"#] {
        let config = parse(format!("{{\"hooks\":{hooks}}}").as_bytes()).unwrap();
        assert!(matches!(config.with_hook(HOOK), Err(ConfigError::Malformed(_))), "{hooks}");
    }
    let odd = changed(r#"{"hooks":{"createRuntime":[null,7,{"path":8},"memcg-bpf-hook"]}}"#);
    assert_eq!(odd["hooks"]["createRuntime"][4]["path"], HOOK);
}
