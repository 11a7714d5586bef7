#![allow(clippy::arithmetic_side_effects)]

use super::*;

fn policy(unit: &str, files: &[(&str, &str)]) -> (Option<Request>, Vec<String>) {
    let files: Vec<(String, String)> =
        files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    let reading = read_unit(&UnitName::parse(unit).unwrap(), &files, &Specifiers::default());
    (reading.request, reading.warnings)
}

/// The line and the place for assignments in `x.service`, each in a drop-in of its own: `1.conf`, `2.conf`, …
fn added(values: &[&str]) -> Option<(String, String)> {
    let files: Vec<(String, String)> = values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            (format!("{}.conf", index + 1), format!("[Service]\nX-MemoryBPFPolicy={value}\n"))
        })
        .collect();
    let unit = UnitName::parse("x.service").unwrap();
    let UnitReading { request, warnings, .. } = read_unit(&unit, &files, &Specifiers::default());
    assert_eq!(warnings, Vec::<String>::new());
    request.map(|request| (request.line, request.location))
}

#[test]
fn assignments_add_up_reset_and_replace() {
    type Case<'a> = (&'a [&'a str], Option<(&'a str, &'a str)>);
    let cases: [Case<'_>; 16] = [
        (&[], None),
        (&[""], None),
        (&["observe"], Some(("observe", "1.conf:2"))),
        (&["observe", "deny limit=1G"], Some(("observe; deny limit=1G", "1.conf:2, 2.conf:2"))),
        (&["observe; deny limit=1G"], Some(("observe; deny limit=1G", "1.conf:2"))),
        // An empty assignment forgets all before it.
        (&["observe", "", "deny limit=1G"], Some(("deny limit=1G", "3.conf:2"))),
        (&["observe", ""], None),
        (&["", "observe"], Some(("observe", "2.conf:2"))),
        // So does "none", which stays visible when nothing follows.
        (&["observe", "none"], Some(("none", "2.conf:2"))),
        (&["none", "observe"], Some(("observe", "2.conf:2"))),
        (&["none", ""], None),
        // The later assignment of a policy replaces the earlier one with all its parameters.
        (&["deny limit=1G min=1M", "deny limit=2G"], Some(("deny limit=2G", "2.conf:2"))),
        (
            &["deny limit=1G; observe", "deny limit=2G"],
            Some(("observe; deny limit=2G", "1.conf:2, 2.conf:2")),
        ),
        (
            &["deny limit=1G", "observe", "deny limit=3G"],
            Some(("observe; deny limit=3G", "2.conf:2, 3.conf:2")),
        ),
        // Twice in one assignment is a mistake, which is passed on as an error.
        (&["deny limit=1G; deny limit=2G"], Some(("deny limit=1G; deny limit=2G", "1.conf:2"))),
        // What does not parse is passed on whole.
        (&["observe", "!!! \"x"], Some(("observe; !!! \"x", "1.conf:2, 2.conf:2"))),
    ];
    for (values, wanted) in cases {
        let wanted = wanted.map(|(line, place)| (line.to_owned(), place.to_owned()));
        assert_eq!(added(values), wanted, "{values:?}");
    }
}

#[test]
fn quoted_and_escaped_separators_are_kept() {
    for value in ["a k=\"x; y\"; b", "a k=x\\;", "a k=x\\ ; b", "a k='; c ;'; b k=\\;", "a ; b"] {
        let parse = |line: &str| match line::parse(line) {
            Ok(Line::Clauses(calls)) => calls
                .into_iter()
                .map(|call| (call.name, call.args.into_iter().map(|arg| arg.value).collect()))
                .collect(),
            other => panic!("{line}: {other:?}"),
        };
        let meant: Vec<(String, Vec<String>)> = parse(value);
        assert_eq!(parse(&added(&[value]).unwrap().0), meant, "{value}");
        // The same when other policies stand before and after.
        let all = parse(&added(&["first", value, "last"]).unwrap().0);
        assert_eq!(all[1..all.len() - 1], meant, "{value}");
    }
}

#[test]
fn request_has_unit_origin_and_locations_once() {
    let text = "[Slice]\nX-MemoryBPFPolicy=observe\n[X-MemoryBPF]\nPolicy=deny limit=1G; \\\n  oom\n";
    let (request, warnings) = policy("a-b.slice", &[("/etc/systemd/system/a-b.slice", text)]);
    let request = request.unwrap();
    assert_eq!(
        (request.origin, request.unit.as_deref(), request.container),
        (Origin::DropIn, Some("a-b.slice"), None)
    );
    assert_eq!(request.line, "observe; deny limit=1G; oom");
    assert_eq!(request.location, "/etc/systemd/system/a-b.slice:2, /etc/systemd/system/a-b.slice:4");
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn order_of_files_is_kept() {
    let files = [
        ("/usr/lib/systemd/system/x.service", "[Service]\nX-MemoryBPFPolicy=deny limit=1G"),
        ("/usr/lib/systemd/system/service.d/90-a.conf", "[Service]\nX-MemoryBPFPolicy=deny limit=2G"),
        ("/etc/systemd/system/x.service.d/10-b.conf", "[Service]\nX-MemoryBPFPolicy=deny limit=3G"),
    ];
    assert_eq!(policy("x.service", &files).0.unwrap().line, "deny limit=3G");
}

#[test]
fn section_of_another_kind_is_ignored_and_reported() {
    let (request, warnings) = policy("x.scope", &[("f", "[Service]\nX-MemoryBPFPolicy=observe")]);
    assert_eq!(request, None);
    assert_eq!(
        warnings,
        ["f:2: ignoring 'X-MemoryBPFPolicy=' in [Service]; for a scope it belongs in [Scope]"]
    );
}

#[test]
fn unknown_specifier_is_reported_with_its_location() {
    let (request, warnings) = policy("x.service", &[("f", "[Service]\n\nX-MemoryBPFPolicy=deny limit=%u")]);
    assert_eq!(request.unwrap().line, "deny limit=%u");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("f:3: specifier '%u' is not known here"), "{warnings:?}");
}

#[test]
fn specifiers_of_an_instance_are_expanded() {
    let (request, _) = policy("x@2G.service", &[("f", "[Service]\nX-MemoryBPFPolicy=deny limit=%i")]);
    assert_eq!(request.unwrap().line, "deny limit=2G");
}

#[test]
fn too_many_files_are_reported() {
    let files: Vec<(&str, &str)> =
        std::iter::repeat_n(("f", "[Service]\nX-MemoryBPFPolicy=observe"), FILES_MAX + 1).collect();
    let (request, warnings) = policy("x.service", &files);
    assert_eq!(request.unwrap().line, "observe");
    assert_eq!(warnings, ["x.service: has 257 files, of which the first 256 count"]);
}

#[test]
fn too_many_assignments_are_reported_and_ignored() {
    let many: String = (0..50_000).map(|n| format!("X-MemoryBPFPolicy=p{n}\n")).collect();
    let (request, warnings) = policy("x.service", &[("f", &format!("[Service]\n{many}"))]);
    assert!(request.unwrap().line.ends_with("; p255"));
    assert_eq!(warnings, ["f:258: ignoring this and later assignments, more than 256 for a unit"]);
}

#[test]
fn slice_after_too_many_assignments_applies() {
    let many = format!("[Service]\n{}", "X-MemoryBPFPolicy=observe\n".repeat(300));
    let files = [("f".to_owned(), many), ("g".to_owned(), "[Service]\nSlice=a.slice\n".to_owned())];
    let reading = read_unit(&UnitName::parse("x.service").unwrap(), &files, &Specifiers::default());
    assert_eq!(reading.slice.map(|slice| slice.to_string()).as_deref(), Some("a.slice"));
    assert_eq!(reading.warnings.len(), 1);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\PC|[\\n\\[\\]=#;\\\\% ])*") {
        let _ = policy("x.slice", &[("f", &text)]);
        let _ = policy("x.slice", &[("f", &format!("[Slice]\nX-MemoryBPFPolicy={text}"))]);
    }
}

#[test]
fn last_slice_of_own_section_applies() {
    let slice = |unit: &str, texts: &[&str]| {
        let files: Vec<(String, String)> = texts.iter().map(|text| ("f".into(), (*text).into())).collect();
        let reading = read_unit(&UnitName::parse(unit).unwrap(), &files, &Specifiers::default());
        reading.slice.map(|slice| slice.to_string())
    };
    let (a, b) = ("[Service]\nSlice=a.slice\n", "[Unit]\nSlice=c.slice\n[Service]\nSlice = b.slice\n");
    assert_eq!(slice("x.service", &[a, b]).as_deref(), Some("b.slice"));
    assert_eq!(slice("x.service", &[b, a, "[Service]\n"]).as_deref(), Some("a.slice"));
    assert_eq!(slice("x@7.service", &["[Service]\nSlice=u-%i.slice\n"]).as_deref(), Some("u-7.slice"));
    for none in ["", "[Service]\nSlice=\n", "[Scope]\nSlice=a.slice\n", "[Service]\nSlice=%E.slice\n"] {
        assert_eq!(slice("x.service", &[none]), None, "{none}");
    }
}

#[test]
fn drop_in_name_with_control_characters_is_escaped() {
    let (request, warnings) =
        policy("x.service", &[("/run/\u{1b}[2J\n.conf", "[Service]\nX-MemoryBPFPolicy=observe mode=%z\n")]);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("/run/\\u{1b}[2J\\n.conf:2: specifier '%z'"), "{warnings:?}");
    assert_eq!(request.unwrap().location, "/run/\u{1b}[2J\n.conf:2", "where it is found is said exactly");
}
