use super::*;

fn values(kind: UnitKind, text: &str) -> Vec<(usize, String)> {
    directives(kind, "f", text).into_iter().map(|d| (d.line, d.value)).collect()
}

fn service(text: &str) -> Vec<(usize, String)> {
    values(UnitKind::Service, text)
}

fn warnings(text: &str) -> Vec<String> {
    read(UnitKind::Service, "/etc/x.conf", text).warnings
}

fn one(line: usize, value: &str) -> Vec<(usize, String)> {
    vec![(line, value.to_owned())]
}

#[test]
fn all_spellings_are_one_list_in_the_files_order() {
    let text = "[Service]\nX-MemoryBPFPolicy=a\nMemoryBPFPolicy=b\n[X-MemoryBPF]\nPolicy=c\n[Service]\nX-MemoryBPFPolicy=d\n";
    let found: Vec<(String, Spelling)> =
        directives(UnitKind::Service, "f", text).into_iter().map(|d| (d.value, d.spelling)).collect();
    let wanted = [
        ("a", Spelling::Extension),
        ("b", Spelling::Bare),
        ("c", Spelling::Section),
        ("d", Spelling::Extension),
    ];
    assert_eq!(found, wanted.map(|(value, spelling)| (value.to_owned(), spelling)));
    assert!(warnings(text).is_empty());
}

#[test]
fn each_kind_of_unit_has_its_section() {
    for (kind, section) in
        [(UnitKind::Service, "Service"), (UnitKind::Slice, "Slice"), (UnitKind::Scope, "Scope")]
    {
        assert_eq!(values(kind, &format!("[{section}]\nX-MemoryBPFPolicy=a")), one(2, "a"));
        assert_eq!(values(kind, "[Unit]\nX-MemoryBPFPolicy=a"), []);
    }
}

#[test]
fn lines_are_read_as_systemd_reads_them() {
    let cases: [(&str, Vec<(usize, String)>); 20] = [
        ("", vec![]),
        ("[Service]\n  X-MemoryBPFPolicy  =  deny limit=1G  \t\n", one(2, "deny limit=1G")),
        ("  [Service]  \nX-MemoryBPFPolicy=a", one(2, "a")),
        ("[Service]\nX-MemoryBPFPolicy=", one(2, "")),
        // A continued line joins with a space, and what follows keeps its own space.
        ("[Service]\nX-MemoryBPFPolicy=a \\\n  b\\\nc\nType=simple", one(2, "a    b c")),
        // Comments within a continuation are skipped, empty lines end it.
        ("[Service]\nX-MemoryBPFPolicy=a; \\\n# no\n  ; no\nb", one(2, "a;  b")),
        ("[Service]\nX-MemoryBPFPolicy=a\\\n\nMemoryBPFPolicy=b", vec![(2, "a".into()), (4, "b".into())]),
        // A continuation at the end of the file.
        ("[Service]\nX-MemoryBPFPolicy=a\\", one(2, "a")),
        // An escaped backslash does not continue the line.
        ("[Service]\nX-MemoryBPFPolicy=a\\\\\nMemoryBPFPolicy=b", vec![(2, "a\\\\".into()), (3, "b".into())]),
        ("[Service]\nX-MemoryBPFPolicy=a\\\\\\\nb", one(2, "a\\\\ b")),
        // A comment cannot be continued.
        ("[Service]\n#X-MemoryBPFPolicy=a\\\nX-MemoryBPFPolicy=b", one(3, "b")),
        ("[Service]\n;X-MemoryBPFPolicy=a", vec![]),
        // '#' later in a line is no comment.
        ("[Service]\nX-MemoryBPFPolicy=a # b", one(2, "a # b")),
        ("\u{feff}[Service]\r\nX-MemoryBPFPolicy=a\r\n", one(2, "a")),
        ("[Service]\rX-MemoryBPFPolicy=a\r\rMemoryBPFPolicy=b", vec![(2, "a".into()), (4, "b".into())]),
        // The header of a section may be continued as well.
        ("[Ser\\\nvice]\nX-MemoryBPFPolicy=a", vec![]),
        // Only the first '=' separates.
        ("[Service]\nX-MemoryBPFPolicy=a=b=c", one(2, "a=b=c")),
        // Keys and sections have their case.
        ("[service]\nX-MemoryBPFPolicy=a\n[Service]\nx-memorybpfpolicy=b", vec![]),
        // Another section ends ours.
        ("[X-MemoryBPF]\nPolicy=a\n[Install]\nPolicy=b", one(2, "a")),
        ("X-MemoryBPFPolicy=a", vec![]),
    ];
    for (text, wanted) in cases {
        assert_eq!(service(text), wanted, "{text:?}");
    }
}

#[test]
fn ignored_policy_lines_are_reported() {
    let cases = [
        (
            "X-MemoryBPFPolicy=a",
            "/etc/x.conf:1: ignoring 'X-MemoryBPFPolicy=' before the first section; for a service it belongs in [Service]",
        ),
        (
            "[Unit]\nMemoryBPFPolicy=a",
            "/etc/x.conf:2: ignoring 'MemoryBPFPolicy=' in [Unit]; for a service it belongs in [Service]",
        ),
        (
            "[Slice]\nX-MemoryBPFPolicy=a",
            "/etc/x.conf:2: ignoring 'X-MemoryBPFPolicy=' in [Slice]; for a service it belongs in [Service]",
        ),
        (
            "[X-MemoryBPF]\nX-MemoryBPFPolicy=a",
            "/etc/x.conf:2: ignoring 'X-MemoryBPFPolicy=' in [X-MemoryBPF]: the only key there is 'Policy='",
        ),
        (
            "[X-MemoryBPF]\nPolciy=a",
            "/etc/x.conf:2: ignoring 'Polciy=' in [X-MemoryBPF]: the only key there is 'Policy='",
        ),
        (
            "[X-MemoryBpf]\nPolicy=a",
            "/etc/x.conf:2: ignoring 'Policy=' in [X-MemoryBpf]; did you mean [X-MemoryBPF]?",
        ),
        (
            "[Service]\nMemoryBpfPolicy=a",
            "/etc/x.conf:2: ignoring 'MemoryBpfPolicy='; did you mean 'X-MemoryBPFPolicy='?",
        ),
        (
            "[Service]\nX-MemoryBPF=a",
            "/etc/x.conf:2: ignoring 'X-MemoryBPF='; did you mean 'X-MemoryBPFPolicy='?",
        ),
        (
            "[Service]\nX-MemoryBPFPolicy deny",
            "/etc/x.conf:2: ignoring 'X-MemoryBPFPolicy deny': there is no '=' after the name",
        ),
        (
            "[Service\nX-MemoryBPFPolicy=a",
            "/etc/x.conf:1: section header '[Service' has no ']'; systemd reads no further, so nothing from here on counts",
        ),
        (
            "[Unit]\nMemoryBPF\u{1b}[2J=\u{202e}a",
            "/etc/x.conf:2: ignoring 'MemoryBPF\\u{1b}[2J='; did you mean 'X-MemoryBPFPolicy='?",
        ),
    ];
    for (text, warning) in cases {
        assert_eq!(warnings(text), [warning], "{text:?}");
        assert_eq!(service(text), [], "{text:?}");
    }
}

#[test]
fn other_keys_and_garbage_are_nobodys_business() {
    let text = "[Service]\nExecStart=/bin/true\nPolicy=x\nnonsense\n=x\n[]\n[X-Other]\nMemoryMax=1G\n\u{1}\u{2}=\u{3}";
    assert!(warnings(text).is_empty());
    assert_eq!(service(text), []);
}

#[test]
fn too_long_line_ends_file_and_keeps_earlier_lines() {
    let long = "x".repeat(LINE_MAX + 1);
    let text = format!("[Service]\nX-MemoryBPFPolicy=a\nExecStart={long}\nX-MemoryBPFPolicy=b\n");
    assert_eq!(service(&text), one(2, "a"));
    assert_eq!(
        warnings(&text),
        [
            "/etc/x.conf:3: a line is longer than 1048576 bytes; systemd reads no further, so nothing from here on counts"
        ]
    );
    let continued = format!("[Service]\nX-MemoryBPFPolicy={}", "yyyyyyyyyyyyyyy\\\n".repeat(100_000));
    assert_eq!(service(&continued), []);
    assert_eq!(warnings(&continued).len(), 1);
}

#[test]
fn a_file_of_mistakes_does_not_flood_the_journal() {
    let found = warnings(&format!("[X-MemoryBPF]\n{}", "Polciy=a\n".repeat(50_000)));
    assert_eq!(found.len(), WARNINGS_MAX + 1);
    assert_eq!(found.last().unwrap(), "/etc/x.conf:22: further warnings are left out");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\PC|[\\n\\r\\x00\\[\\]=#;\\\\ ])*") {
        let _ = read(UnitKind::Slice, "f", &text);
    }

    #[test]
    fn comments_between_lines_change_nothing(value in "[a-z ]{1,20}", comment in "[#;][a-z=\\\\]{0,9}") {
        let plain = format!("[Service]\nX-MemoryBPFPolicy={value}\\\nz\n");
        let commented = format!("[Service]\n{comment}\nX-MemoryBPFPolicy={value}\\\n{comment}\nz\n");
        let plain: Vec<String> = service(&plain).into_iter().map(|(_, value)| value).collect();
        let commented: Vec<String> = service(&commented).into_iter().map(|(_, value)| value).collect();
        proptest::prop_assert_eq!(plain, commented);
    }
}
