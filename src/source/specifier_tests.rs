use super::*;

fn specifiers() -> Specifiers {
    Specifiers {
        hostname: "web1.example.org".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        boot_id: "fedcba9876543210fedcba9876543210".into(),
        kernel_release: "6.12.48+deb13-amd64".into(),
    }
}

fn expand(unit: &str, text: &str) -> (String, Vec<String>) {
    specifiers().expand(&UnitName::parse(unit).unwrap(), text)
}

#[test]
fn each_specifier_has_systemds_value() {
    let cases = [
        ("foo-bar@a-b.service", "%n", "foo-bar@a-b.service"),
        ("foo-bar@a-b.service", "%N", "foo-bar@a-b"),
        ("foo-bar@a-b.service", "%p", "foo-bar"),
        ("foo-bar@a-b.service", "%P", "foo/bar"),
        ("foo-bar@a-b.service", "%i", "a-b"),
        ("foo-bar@a-b.service", "%I", "a/b"),
        ("foo-bar@a-b.service", "%j", "bar"),
        ("foo-bar@a-b.service", "%J", "bar"),
        ("foo.service", "%p|%i|%j", "foo||foo"),
        ("foo.service", "%H %l", "web1.example.org web1"),
        ("foo.service", "%m", "0123456789abcdef0123456789abcdef"),
        ("foo.service", "%b", "fedcba9876543210fedcba9876543210"),
        ("foo.service", "%v", "6.12.48+deb13-amd64"),
        ("foo.service", "%%", "%"),
        ("foo.service", "%%n", "%n"),
        ("foo.service", "%", "%"),
        ("foo.service", "", ""),
    ];
    for (unit, text, wanted) in cases {
        assert_eq!(expand(unit, text), (wanted.to_owned(), vec![]), "{unit} {text}");
    }
}

#[test]
fn percentages_are_no_specifiers() {
    for text in ["deny limit=90%", "deny limit=90%; observe", "deny limit=90% min=1M", "a=1%,b", "a=\"5%\""] {
        assert_eq!(expand("foo.service", text), (text.to_owned(), vec![]));
    }
}

#[test]
fn unknown_specifier_stays_and_is_reported_once() {
    let (text, warnings) = expand("foo.service", "%u %u %t");
    assert_eq!(text, "%u %u %t");
    assert_eq!(
        warnings,
        [
            "specifier '%u' is not known here; the known ones are %n %N %p %P %i %I %j %J %H %l %m %b %v and %%",
            "specifier '%t' is not known here; the known ones are %n %N %p %P %i %I %j %J %H %l %m %b %v and %%",
        ]
    );
    let unit = UnitName::parse("foo.service").unwrap();
    assert_eq!(Specifiers::default().expand(&unit, "%H").0, "%H");
    assert_eq!(Specifiers::default().expand(&unit, "%H").1.len(), 1);
}

#[test]
fn an_instance_cannot_bring_in_a_policy() {
    let (text, warnings) = expand("x@a\\x3b\\x20none.service", "deny limit=%I");
    assert_eq!(text, "deny limit=%I");
    assert_eq!(warnings, ["specifier '%I' is 'a; none', which cannot stand in a policy line"]);
}

#[test]
fn a_line_of_specifiers_cannot_grow_without_bound() {
    let unit = format!("{}.service", "n".repeat(240));
    let (text, warnings) = expand(&unit, &"%n".repeat(100_000));
    assert!(text.len() <= EXPANDED_MAX + 2 * 100_000);
    assert_eq!(warnings.len(), 1);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\PC|%)*") {
        let _ = expand("a-b@c.service", &text);
    }

    #[test]
    fn a_text_without_percent_sign_stays(text in "[^%]*") {
        proptest::prop_assert_eq!(expand("a.service", &text), (text, vec![]));
    }
}
