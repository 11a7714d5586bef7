use super::*;
use crate::names::PodName;

fn request(origin: Origin, line: &str, container: Option<&str>) -> Request {
    Request {
        origin,
        location: "here".into(),
        line: line.into(),
        container: container.map(str::to_owned),
        pod: container.and_then(|_| PodName::parse("default/web app").ok()),
        unit: None,
    }
}

#[test]
fn record_round_trips() {
    let record = CgroupRecord {
        requests: vec![
            request(Origin::Annotation, "deny limit=64M", Some("c1")),
            request(Origin::Operator, "quotes \" and \\ and \u{1}", None),
        ],
        knobs: vec![KnobRecord {
            knob: Knob::High,
            original: u64::MAX,
            written: vec![1 << 20, 2 << 20],
            constraints: [("throttle".to_owned(), 2 << 20)].into(),
        }],
        paused_until: Some(u64::MAX),
    };
    assert_eq!(CgroupRecord::parse(&record.encode().unwrap()), Ok(record));
}

#[test]
fn the_stored_form_is_stable() {
    let mut record =
        CgroupRecord { requests: vec![request(Origin::DropIn, "observe", None)], ..CgroupRecord::default() };
    let text = String::from_utf8(record.encode().unwrap()).unwrap();
    assert_eq!(text, r#"{"version":1,"requests":[{"origin":"drop-in","location":"here","line":"observe"}]}"#);
    record.requests.clear();
    assert!(record.is_empty());
    record.knobs.push(KnobRecord {
        knob: Knob::Low,
        original: 0,
        written: vec![4096],
        constraints: BTreeMap::new(),
    });
    let text = String::from_utf8(record.encode().unwrap()).unwrap();
    assert_eq!(
        text,
        r#"{"version":1,"requests":[],"knobs":[{"knob":"memory.low","original":0,"written":[4096],"constraints":{}}]}"#
    );
    assert!(!record.is_empty());
}

#[test]
fn each_wrong_record_has_its_sentence() {
    let way_out = "; remove it with: setfattr -x trusted.memcg_bpf CGROUP";
    let cases: [(&[u8], String); 7] = [
        (b"", format!("the record trusted.memcg_bpf cannot be read: EOF while parsing a value at line 1 column 0{way_out}")),
        (b"deny", format!("the record trusted.memcg_bpf cannot be read: expected value at line 1 column 1{way_out}")),
        (b"{}", format!("the record trusted.memcg_bpf cannot be read: missing field `version` at line 1 column 2{way_out}")),
        (br#"{"version":1}"#, format!("the record trusted.memcg_bpf cannot be read: missing field `requests` at line 1 column 13{way_out}")),
        (
            br#"{"version":2,"bindings":[]}"#,
            "the record trusted.memcg_bpf has version 2, this program knows version 1; it was written by a newer memcg-bpf".to_owned(),
        ),
        (
            br#"{"version":1,"requests":[{"origin":"king","location":"","line":""}]}"#,
            format!("the record trusted.memcg_bpf cannot be read: unknown variant `king`, expected one of `drop-in`, `xattr`, `annotation`, `operator` at line 1 column 41{way_out}"),
        ),
        (&[b' '; 24_577], "the record trusted.memcg_bpf is 24577 bytes long, the most is 24576".to_owned()),
    ];
    for (bytes, sentence) in cases {
        assert_eq!(CgroupRecord::parse(bytes).map_err(|error| error.to_string()), Err(sentence));
    }
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    let deep = "[".repeat(8000);
    assert!(CgroupRecord::parse(deep.as_bytes()).is_err());
}

#[test]
fn too_long_record_is_rejected_not_truncated() {
    let record = CgroupRecord {
        requests: vec![request(Origin::Operator, &"x".repeat(8192), None)],
        ..CgroupRecord::default()
    };
    assert_eq!(
        record.encode().unwrap_err().to_string(),
        "the policy line of the operator needs 8241 bytes in trusted.memcg_bpf, and 5632 are the most for each origin; shorten \
         the line"
    );
}

/// A line of the greatest length without a needless byte.
fn longest_line() -> String {
    format!("deny a={}", "x".repeat(4089))
}

#[test]
fn padded_annotation_leaves_room_for_drop_in_operator_and_knobs() {
    let padded = format!("observe{}", "\t".repeat(3859));
    let knob = |knob| KnobRecord {
        knob,
        original: u64::MAX,
        written: vec![1 << 40; 4],
        constraints: (0..64).map(|n| (format!("{n:064}"), 1 << 40)).collect(),
    };
    let record = CgroupRecord {
        requests: vec![
            request(Origin::Annotation, &padded, Some(&"c".repeat(64))),
            request(Origin::Xattr, &longest_line(), None),
            request(Origin::DropIn, &longest_line(), None),
            request(Origin::Operator, &longest_line(), None),
        ],
        knobs: vec![knob(Knob::High), knob(Knob::Low), knob(Knob::Freeze)],
        paused_until: Some(u64::MAX),
    };
    let stored = CgroupRecord::parse(&record.encode().unwrap()).unwrap();
    assert_eq!(stored.requests[0].line, "observe");
    assert_eq!(stored.requests[1..], record.requests[1..]);
    let originals =
        |record: &CgroupRecord| record.knobs.iter().map(|k| (k.knob, k.original)).collect::<Vec<_>>();
    assert_eq!(originals(&stored), originals(&record));
}

#[test]
fn request_above_its_share_is_left_out_and_others_stay() {
    let controls = format!("deny a='{}'", "\u{1}".repeat(4000));
    let mut record = CgroupRecord::default();
    record.set_requests(
        &[],
        vec![
            request(Origin::Annotation, &controls, Some("c1")),
            request(Origin::DropIn, &longest_line(), None),
        ],
    );
    assert_eq!(record.requests, [request(Origin::DropIn, &longest_line(), None)]);
    assert!(record.encode().is_ok());
}

#[test]
fn request_recorded_by_hook_stays_until_it_is_adopted() {
    let drop_in = |line| request(Origin::DropIn, line, None);
    let annotation = |line| request(Origin::Annotation, line, Some("c1"));
    let recorded = |requests: &[Request]| CgroupRecord { requests: requests.to_vec(), ..Default::default() };
    // The hook was first: the daemon has only the drop-in.
    let mut record = recorded(&[annotation("observe")]);
    record.set_requests(&[], vec![drop_in("deny limit=1G")]);
    assert_eq!(record.requests, [drop_in("deny limit=1G"), annotation("observe")]);
    // Other changes, and the end of the drop-in, do not remove it either.
    record.set_requests(&[drop_in("deny  limit=1G")], vec![drop_in("deny limit=2G")]);
    record.set_requests(&[drop_in("deny limit=2G")], Vec::new());
    assert_eq!(record.requests, [annotation("observe")]);
    // A second start in the same cgroup replaces the first one.
    let mut record = recorded(&[annotation("deny limit=1G"), drop_in("observe")]);
    let known = vec![annotation("observe"), drop_in("observe")];
    record.set_requests(&known, known.clone());
    assert_eq!(record.requests, [drop_in("observe"), annotation("deny limit=1G")]);
    // What the daemon knows can be replaced and withdrawn.
    record.set_requests(&[annotation("deny limit=1G"), drop_in("observe")], vec![drop_in("observe")]);
    assert_eq!(record.requests, [drop_in("observe")]);
    let mut record = recorded(&[annotation("observe")]);
    record.set_requests(&[], vec![annotation("deny limit=2G")]);
    assert_eq!(record.requests, [annotation("deny limit=2G")], "a call of the same hook");
}

#[test]
fn request_replaces_earlier_one_of_same_origin() {
    let mut record = CgroupRecord::default();
    assert!(record.put(request(Origin::Annotation, "observe", Some("c1"))));
    assert!(!record.put(request(Origin::Annotation, "observe", Some("c1"))));
    assert!(record.put(request(Origin::Operator, "observe", None)));
    assert!(record.put(request(Origin::Annotation, "deny limit=1G", Some("c1"))));
    assert_eq!(record.requests.len(), 2);
    assert_eq!(record.requests[0].line, "deny limit=1G");
}

#[test]
fn owner_line_is_trimmed() {
    for value in [&b"observe"[..], b"observe\n", b"observe\0", b" observe \r\n"] {
        let request = owner_request(value).unwrap();
        assert_eq!(
            (request.line.as_str(), request.origin, request.location.as_str()),
            ("observe", Origin::Xattr, "user.memcg_bpf")
        );
    }
    assert_eq!(owner_request(b"").unwrap().line, "");
}

#[test]
fn invalid_owner_line_is_reported() {
    assert_eq!(
        owner_request(&[b'x'; 4097]).unwrap_err().to_string(),
        "user.memcg_bpf is 4097 bytes long, the most is 4096"
    );
    assert_eq!(owner_request(b"\xff").unwrap_err().to_string(), "user.memcg_bpf is not UTF-8 text");
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = CgroupRecord::parse(&bytes);
        let _ = owner_request(&bytes);
    }
}
