use super::*;

fn entry(fields: &[(&str, &str)]) -> BTreeMap<String, Value> {
    fields.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect()
}

#[test]
fn action_is_rendered_with_detail_and_reason() {
    let acted = event(&entry(&[
        ("__REALTIME_TIMESTAMP", "1779624000250000"),
        ("MESSAGE_ID", MSGID_ACTION),
        ("MEMCG_BPF_CGROUP", "/a.slice/b.service"),
        ("MEMCG_BPF_POLICY", "throttle"),
        ("MEMCG_BPF_ACTION", "memory.high"),
        ("MEMCG_BPF_OUTCOME", "done"),
        ("MEMCG_BPF_FROM", "18446744073709551615"),
        ("MEMCG_BPF_TO", "67108864"),
        ("MEMCG_BPF_DETAIL", "memory.high max → 64M"),
        ("MEMCG_BPF_REASON", "others wait 12%"),
    ]))
    .unwrap();
    assert_eq!((acted.from, acted.to), (Some(u64::MAX), Some(64 << 20)));
    assert_eq!(
        render(&acted, &Terminal::default()),
        format!(
            "{}  /a.slice/b.service  throttle: memory.high done
                 memory.high max → 64M
                 others wait 12%
",
            Timestamp::of_us(acted.time_us).local()
        )
    );
    let line = json_line(&acted).unwrap();
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.contains("\"event\":\"acted\",\"cgroup\":\"/a.slice/b.service\",\"policy\""), "{line}");
}

#[test]
fn denial_is_rendered_with_process_and_limit() {
    let detail = "would have denied 32M to process 4711 (java), 60M of 64M in use";
    let fields = [
        ("__REALTIME_TIMESTAMP", "1779624000250000"),
        ("MESSAGE_ID", MSGID_DENIED),
        ("MEMCG_BPF_CGROUP", "/a"),
        ("MEMCG_BPF_POLICY", "deny"),
        ("MEMCG_BPF_OUTCOME", "dry-run"),
        ("MEMCG_BPF_REQUESTED", "33554432"),
        ("MEMCG_BPF_LIMIT", ""),
        ("MEMCG_BPF_PID", "4711"),
        ("MEMCG_BPF_PROCESS", "java"),
        ("MEMCG_BPF_DETAIL", detail),
    ];
    let denied = event(&entry(&fields)).unwrap();
    assert_eq!((denied.event.as_str(), denied.requested, denied.limit), ("denied", Some(32 << 20), None));
    let expected = format!(
        "{}  /a  deny: dry-run\n{}{detail}\n",
        Timestamp::of_us(denied.time_us).local(),
        " ".repeat(17)
    );
    assert_eq!(render(&denied, &Terminal::default()), expected);
    let line = json_line(&denied).unwrap();
    assert!(line.contains("\"process\":\"java\"") && !line.contains("limit"), "{line}");
}

#[test]
fn attach_and_detach_are_rendered() {
    let fields = |id, more: (&'static str, &'static str)| {
        entry(&[("__REALTIME_TIMESTAMP", "0"), ("MESSAGE_ID", id), ("MEMCG_BPF_CGROUP", "/a"), more])
    };
    let attached = event(&fields(MSGID_ATTACHED, ("MEMCG_BPF_POLICIES", "deny, observe"))).unwrap();
    assert_eq!(attached.policies, ["deny", "observe"]);
    assert_eq!(
        render(&attached, &Terminal::default()),
        format!("{}  /a  attached: deny, observe\n", Timestamp(0).local())
    );
    let of_pod = |name: &str| {
        let mut entry = fields(MSGID_ATTACHED, ("MEMCG_BPF_POLICIES", "deny"));
        entry.insert("MEMCG_BPF_POD".to_owned(), Value::from(name));
        event(&entry).unwrap()
    };
    let pod = of_pod("default/web app");
    assert!(render(&pod, &Terminal::default()).contains("  pod default/web app  attached: deny\n"));
    let text = r#""cgroup":"/a","pod":{"namespace":"default","name":"web","container":"app"}"#;
    assert!(json_line(&pod).unwrap().contains(text));
    assert_eq!(of_pod("a/b\u{1b}").pod, None);
    let detached = event(&fields(MSGID_DETACHED, ("MEMCG_BPF_REASON", "gone"))).unwrap();
    assert!(render(&detached, &Terminal::default()).contains("/a  detached\n"));
    assert_eq!(event(&fields("another", ("X", "y"))), None);
}

#[test]
fn a_part_of_the_tree_is_named_by_path_or_by_unit() {
    assert!(matches("/a.slice/b.service/c", "b.service"));
    assert!(matches("/a.slice/b.service", "/a.slice"));
    assert!(!matches("/a.slicer", "/a.slice"));
    assert!(!matches("/a.slice", "a.service"));
}
