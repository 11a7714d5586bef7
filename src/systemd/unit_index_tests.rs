//! The system tests compare every resolved unit with systemd's after daemon-reload.

use super::super::search::tests::tree;
use super::super::{UNIT_PATH, discover};
use super::*;

const FILE: &str = "[Service]\nExecStart=true\n";

fn name(text: &str) -> UnitName {
    UnitName::parse(text).unwrap()
}

/// The resolved files below the root, the fragment first.
fn files(tree: &[(&str, &str)], unit: &str) -> Option<Vec<String>> {
    let root = self::tree(tree);
    let info = discover(root.path(), &UNIT_PATH).files.resolve(&name(unit))?;
    let paths = info.fragment.iter().chain(&info.drop_ins);
    Some(paths.map(|p| p.strip_prefix(root.path()).unwrap().display().to_string()).collect())
}

#[test]
fn files_are_found_in_systemds_order() {
    let tree = [
        ("usr/lib/systemd/system/a-b.service", FILE),
        ("run/systemd/system/a-b.service", FILE),
        ("etc/systemd/system/a-b.service.d/20.conf", FILE),
        ("etc/systemd/system/a-b.service.d/README", FILE),
        ("usr/lib/systemd/system/a-b.service.d/10.conf", FILE),
        // The same name: /etc before /usr, and in one directory the more specific drop-in first.
        ("usr/lib/systemd/system/a-b.service.d/30.conf", FILE),
        ("etc/systemd/system/a-.service.d/30.conf", FILE),
        ("etc/systemd/system/a-.service.d/20.conf", FILE),
        ("etc/systemd/system/service.d/10.conf", FILE),
        ("etc/systemd/system/service.d/40.conf", FILE),
        ("etc/systemd/system/b.service.d/50.conf", FILE),
    ];
    assert_eq!(
        files(&tree, "a-b.service").unwrap(),
        [
            "run/systemd/system/a-b.service",
            "usr/lib/systemd/system/a-b.service.d/10.conf",
            "etc/systemd/system/a-b.service.d/20.conf",
            "etc/systemd/system/a-.service.d/30.conf",
            "etc/systemd/system/service.d/40.conf",
        ]
    );
}

#[test]
fn instance_uses_template_file_unless_it_has_one() {
    let template = ("usr/lib/systemd/system/x@.service", FILE);
    let own = ("etc/systemd/system/x@1.service", FILE);
    let drop_in = ("etc/systemd/system/x@.service.d/10.conf", FILE);
    assert_eq!(files(&[template, drop_in], "x@1.service").unwrap(), [template.0, drop_in.0]);
    assert_eq!(files(&[template, own], "x@1.service").unwrap(), [own.0]);
    assert_eq!(files(&[template], "x@.service"), None);
}

#[test]
fn unit_that_systemd_would_not_load_is_not_resolved() {
    let drop_in = ("etc/systemd/system/x.service.d/10.conf", FILE);
    for tree in [
        [drop_in].as_slice(),
        &[drop_in, ("etc/systemd/system/x.service", "-> /dev/null")],
        &[drop_in, ("etc/systemd/system/x.service", ""), ("usr/lib/systemd/system/x.service", FILE)],
        &[
            drop_in,
            ("etc/systemd/system/x.service", "-> /usr/lib/systemd/system/y.service"),
            ("usr/lib/systemd/system/y.service", FILE),
        ],
        &[drop_in, ("run/systemd/transient/x.service", FILE)],
    ] {
        assert_eq!(files(tree, "x.service"), None, "{tree:?}");
    }
    // The drop-ins of an alias apply to the unit.
    let alias = [
        drop_in,
        ("etc/systemd/system/x.service", "-> /usr/lib/systemd/system/y.service"),
        ("usr/lib/systemd/system/y.service", FILE),
    ];
    assert_eq!(files(&alias, "y.service").unwrap(), [alias[2].0, drop_in.0]);
    // A linked file has the name of the link, and a slice needs no file.
    for target in ["-> /opt/x.service", "-> /opt/app/unit.service", "-> ../../../opt/app/unit"] {
        let linked = ("etc/systemd/system/x.service", target);
        assert_eq!(files(&[linked], "x.service").unwrap(), [linked.0]);
    }
    assert_eq!(files(&[], "x.slice").unwrap(), Vec::<String>::new());
}

#[test]
fn cgroup_is_resolved_too() {
    let root = tree(&[("usr/lib/systemd/system/x-y@.service", FILE)]);
    let found = discover(root.path(), &UNIT_PATH);
    let path = |unit: &str| found.files.resolve(&name(unit)).unwrap().expected_cgroup().unwrap();
    assert_eq!(path("x-y@1.service").as_str(), "/system.slice/system-x\\x2dy.slice/x-y@1.service");
    assert_eq!(path("a-b.slice").as_str(), "/a.slice/a-b.slice");
}

#[test]
fn name_stands_for_the_unit_that_systemd_means() {
    let root = tree(&[
        ("usr/lib/systemd/system/web.service", FILE),
        ("etc/systemd/system/websrv.service", "-> /usr/lib/systemd/system/web.service"),
        ("etc/systemd/system/www.service", "-> websrv.service"),
        ("usr/lib/systemd/system/pg@.service", FILE),
        ("etc/systemd/system/db@.service", "-> /usr/lib/systemd/system/pg@.service"),
        ("etc/systemd/system/off.service", "-> /dev/null"),
        ("etc/systemd/system/empty.service", ""),
        ("etc/systemd/system/circle.service", "-> circle2.service"),
        ("etc/systemd/system/circle2.service", "-> circle.service"),
        ("etc/systemd/system/later.service.d/10.conf", FILE),
    ]);
    let index = discover(root.path(), &UNIT_PATH).files;
    for (asked, found) in [
        ("web.service", "web.service"),
        ("websrv.service", "web.service"),
        ("www.service", "web.service"),
        ("pg@1.service", "pg@1.service"),
        ("db@1.service", "pg@1.service"),
        ("later.service", "later.service"),
        ("any.slice", "any.slice"),
    ] {
        assert_eq!(index.lookup(&name(asked)), UnitLookup::Found(name(found)), "{asked}");
    }
    for masked in ["off.service", "empty.service"] {
        assert_eq!(index.lookup(&name(masked)), UnitLookup::Masked(name(masked)));
    }
    for absent in ["wbe.service", "circle.service", "x@1.service"] {
        assert_eq!(index.lookup(&name(absent)), UnitLookup::Absent, "{absent}");
    }
}
