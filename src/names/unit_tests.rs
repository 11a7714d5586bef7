use proptest::prelude::*;

use super::*;

fn unit(text: &str) -> UnitName {
    UnitName::parse(text).unwrap()
}

#[test]
fn a_name_is_taken_apart_as_systemd_does() {
    let instance = unit("foo-bar@a@b.c.service");
    assert_eq!(
        (instance.kind(), instance.prefix(), instance.instance()),
        (UnitKind::Service, "foo-bar", Some("a@b.c"))
    );
    assert_eq!(instance.template().as_deref(), Some("foo-bar@.service"));
    let template = unit("foo@.service");
    assert!(template.is_template() && template.instance().is_none() && template.template().is_none());
    let plain = unit("dbus-org.freedesktop.login1.service");
    assert_eq!((plain.prefix(), plain.is_template()), ("dbus-org.freedesktop.login1", false));
}

#[test]
fn names_invalid_in_systemd_are_rejected() {
    for (text, sentence) in [
        ("", "'' is not a systemd unit name: it does not end in .service, .slice or .scope"),
        ("x", "'x' is not a systemd unit name: it does not end in .service, .slice or .scope"),
        ("x.timer", "'x.timer' is not a systemd unit name: it does not end in .service, .slice or .scope"),
        (".service", "'.service' is not a systemd unit name: the part before the '@' or the dot is empty"),
        (
            "@x.service",
            "'@x.service' is not a systemd unit name: the part before the '@' or the dot is empty",
        ),
        (
            "a/b.service",
            "'a/b.service' is not a systemd unit name: only letters, digits and :-_.\\@ may stand in it",
        ),
        (
            "a\u{1b}.scope",
            "'a\\u{1b}.scope' is not a systemd unit name: only letters, digits and :-_.\\@ may stand in it",
        ),
    ] {
        assert_eq!(UnitName::parse(text).unwrap_err().to_string(), sentence);
    }
    assert!(UnitName::parse(&format!("{}.slice", "a".repeat(249))).is_ok());
    let long = UnitName::parse(&"a".repeat(1 << 20)).unwrap_err().to_string();
    assert!(long.len() < 200 && long.ends_with("…' is not a systemd unit name: it is longer than 255 bytes"));
}

#[test]
fn drop_in_directories_come_most_specific_first() {
    assert_eq!(unit("foo.service").drop_in_dirs(), ["foo.service.d", "service.d"]);
    assert_eq!(
        unit("a-b-c.scope").drop_in_dirs(),
        ["a-b-c.scope.d", "a-b-.scope.d", "a-.scope.d", "scope.d"]
    );
    assert_eq!(
        unit("foo-bar@x.service").drop_in_dirs(),
        [
            "foo-bar@x.service.d",
            "foo-bar@.service.d",
            "foo-.service.d",
            "foo-@x.service.d",
            "foo-@.service.d",
            "service.d"
        ]
    );
    assert_eq!(
        unit("foo-bar@.service").drop_in_dirs(),
        ["foo-bar@.service.d", "foo-.service.d", "service.d"]
    );
    // A leading dash or a single dash is not a prefix.
    assert_eq!(unit("-.slice").drop_in_dirs(), ["-.slice.d", "slice.d"]);
    assert_eq!(unit("-x.scope").drop_in_dirs(), ["-x.scope.d", "scope.d"]);
    assert_eq!(unit("a--.scope").drop_in_dirs(), ["a--.scope.d", "a-.scope.d", "scope.d"]);
}

#[test]
fn slice_path_follows_from_name() {
    let path = |text: &str| unit(text).slice_cgroup_path().map(String::from);
    assert_eq!(path("-.slice").as_deref(), Some("/"));
    assert_eq!(path("a.slice").as_deref(), Some("/a.slice"));
    assert_eq!(path("a-b-c.slice").as_deref(), Some("/a.slice/a-b.slice/a-b-c.slice"));
    assert_eq!(path("system-x\\x2dy.slice").as_deref(), Some("/system.slice/system-x\\x2dy.slice"));
    assert_eq!(path("memory.slice").as_deref(), Some("/_memory.slice"));
    assert_eq!(path("memory-a.slice").as_deref(), Some("/_memory.slice/memory-a.slice"));
    for none in ["a--b.slice", "-a.slice", "a-.slice", "a@b.slice", "a@.slice", "a.service"] {
        assert_eq!(path(none), None, "{none}");
    }
}

#[test]
fn unit_cgroup_name_does_not_match_cgroup_files() {
    let slice = unit("system.slice");
    let path = |text: &str| String::from(unit(text).cgroup_path_in(&slice));
    assert_eq!(path("x.service"), "/system.slice/x.service");
    assert_eq!(path("_x.service"), "/system.slice/__x.service");
    assert_eq!(path("cpu.service"), "/system.slice/_cpu.service");
    assert_eq!(path("cpus.service"), "/system.slice/cpus.service");
    assert_eq!(path("cgroup.x.scope"), "/system.slice/_cgroup.x.scope");
    assert_eq!(path("a-b.slice"), "/a.slice/a-b.slice");
    assert_eq!(String::from(unit("x.service").cgroup_path_in(&unit("-.slice"))), "/x.service");
}

#[test]
fn unit_without_slice_is_in_default_slice() {
    let slice = |text: &str| unit(text).default_slice().map(|slice| slice.to_string());
    assert_eq!(slice("x.service").as_deref(), Some("system.slice"));
    assert_eq!(slice("getty@tty1.service").as_deref(), Some("system-getty.slice"));
    assert_eq!(slice("serial-getty@ttyS0.service").as_deref(), Some("system-serial\\x2dgetty.slice"));
    assert_eq!(slice("a\\x2db.c@1.service").as_deref(), Some("system-a\\x5cx2db.c.slice"));
    assert_eq!(slice("x.slice"), None);
}

#[test]
fn unescape_undoes_systemd_escape() {
    assert_eq!(unescape("var-lib\\x2dfoo"), "var/lib-foo");
    assert_eq!(unescape("caf\\xc3\\xa9"), "café");
    // Invalid escapes are kept.
    for text in ["a\\", "a\\x", "a\\x2", "a\\xzz", "a\\n", "a\\x+1", "a\\x00"] {
        assert_eq!(unescape(text), text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_unit_name_panic(text in "\\PC{0,40}(\\.(service|slice|scope))?") {
        unescape(&text);
        if let Ok(name) = UnitName::parse(&text) {
            prop_assert_eq!(name.drop_in_dirs().first().cloned(), Some(format!("{text}.d")));
            name.slice_cgroup_path();
            prop_assert!(name.cgroup_path_in(&name).components().all(|c| c != ".."), "{}", name);
        }
    }

    #[test]
    fn names_in_systemds_alphabet_keep_their_parts(text in "[a-z@:_.\\\\-]{1,30}\\.(service|slice|scope)") {
        if let Ok(name) = UnitName::parse(&text) {
            let at = if name.is_template() || name.instance().is_some() { "@" } else { "" };
            let again = format!("{}{at}{}.{}", name.prefix(), name.instance().unwrap_or(""), name.kind().suffix());
            prop_assert_eq!(again, text);
            let dirs = name.drop_in_dirs();
            prop_assert!(dirs.len() < 100);
        }
    }
}
