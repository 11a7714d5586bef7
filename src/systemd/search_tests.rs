use std::os::unix::fs::symlink;

use super::*;

const POLICY: &str = "[Service]\nX-MemoryBPFPolicy=deny limit=64M\n";

/// A machine's file system below a temporary directory: (path, text), a text starting with `-> ` is a link.
pub(in crate::systemd) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    root
}

fn found(files: &[(&str, &str)]) -> PolicyUnits {
    let SearchResult { discovery, warnings, .. } = discover(tree(files).path(), &UNIT_PATH);
    assert_eq!(warnings, Vec::<String>::new());
    discovery
}

fn units(discovery: &PolicyUnits) -> Vec<&str> {
    discovery.units.iter().map(UnitName::as_str).collect()
}

fn name(text: &str) -> UnitName {
    UnitName::parse(text).unwrap()
}

#[test]
fn only_units_that_mention_a_policy_are_found() {
    let discovery = found(&[
        ("etc/systemd/system/a.service", POLICY),
        ("usr/lib/systemd/system/b.service", "[X-MemoryBPF]\nPolicy=observe\n"),
        ("usr/lib/systemd/system/c.service", "[Service]\nMemoryMax=1G\n"),
        ("usr/local/lib/systemd/system/d.slice", "[Slice]\nMemoryBPFPolicy=observe\n"),
        ("run/systemd/transient/e.scope", "[Scope]\nX-MemoryBPFPolicy=observe\n"),
        ("run/systemd/generator/f.service", POLICY),
        ("usr/lib/systemd/system/g.socket", POLICY),
        ("usr/lib/systemd/system/-.mount", POLICY),
        ("usr/lib/systemd/user/h.service", POLICY),
        ("etc/systemd/system/README", POLICY),
    ]);
    assert_eq!(units(&discovery), ["a.service", "b.service", "d.slice", "e.scope", "f.service"]);
    assert_eq!(discovery.patterns, BTreeSet::new());
}

#[test]
fn drop_in_without_unit_file_is_found() {
    let discovery = found(&[
        ("etc/systemd/system/a.service.d/50-mem.conf", POLICY),
        ("run/systemd/system/x@one.service.d/50-mem.conf", POLICY),
        ("etc/systemd/system/b.service.d/50-mem.txt", POLICY),
        ("etc/systemd/system/c.service.d/50-mem.conf", "[Service]\n"),
        ("etc/systemd/system/d.timer.d/50-mem.conf", POLICY),
    ]);
    assert_eq!(units(&discovery), ["a.service", "x@one.service"]);
    assert!(discovery.may_have_policy(&name("a.service")) && !discovery.may_have_policy(&name("c.service")));
}

#[test]
fn patterns_match_units_with_unknown_names() {
    let discovery = found(&[
        ("etc/systemd/system/libpod-.scope.d/50-mem.conf", "[Scope]\nX-MemoryBPFPolicy=observe\n"),
        (
            "etc/systemd/system/kubepods-burstable-.slice.d/50-mem.conf",
            "[Slice]\nX-MemoryBPFPolicy=observe\n",
        ),
        ("usr/lib/systemd/system/x@.service", POLICY),
        ("etc/systemd/system/y@.service.d/50-mem.conf", POLICY),
    ]);
    assert_eq!(units(&discovery), Vec::<&str>::new());
    let concerned = |unit: &str| discovery.may_have_policy(&name(unit));
    assert!(concerned("libpod-1f2e.scope"));
    assert!(concerned("kubepods-burstable-pod1.slice"));
    assert!(concerned("x@one.service"));
    assert!(concerned("y@one.service"));
    for other in [
        "libpod.scope",
        "libpod-1f2e.service",
        "crio-1f2e.scope",
        "z@one.service",
        "kubepods-burstable.slice",
    ] {
        assert!(!concerned(other), "{other}");
    }
}

#[test]
fn unit_files_and_enabled_instances_that_match_a_pattern_are_units() {
    let discovery = found(&[
        ("usr/lib/systemd/system/x@.service", POLICY),
        ("usr/lib/systemd/system/z@.service", "[Service]\n"),
        ("etc/systemd/system/multi-user.target.wants/x@one.service", "-> /usr/lib/systemd/system/x@.service"),
        (
            "etc/systemd/system/a.service.requires/x@two.service",
            "-> ../../../../usr/lib/systemd/system/x@.service",
        ),
        ("etc/systemd/system/multi-user.target.wants/z@one.service", "-> /usr/lib/systemd/system/z@.service"),
        ("etc/systemd/system/foo-.service.d/50-mem.conf", POLICY),
        ("usr/lib/systemd/system/foo-bar.service", "[Service]\n"),
        ("usr/lib/systemd/system/foo.service", "[Service]\n"),
    ]);
    assert_eq!(units(&discovery), ["foo-bar.service", "x@one.service", "x@two.service"]);
}

#[test]
fn type_drop_in_matches_all_units_of_type() {
    let discovery = found(&[
        ("etc/systemd/system/service.d/50-mem.conf", POLICY),
        ("usr/lib/systemd/system/a.service", "[Service]\n"),
        ("usr/lib/systemd/system/b.slice", "[Slice]\n"),
    ]);
    assert_eq!(units(&discovery), ["a.service"]);
    assert!(
        discovery.may_have_policy(&name("anything.service"))
            && !discovery.may_have_policy(&name("anything.scope"))
    );
}

#[test]
fn links_are_followed_below_root_and_masks_are_ignored() {
    let discovery = found(&[
        ("etc/systemd/system/alias.service", "-> /usr/lib/systemd/system/a.service"),
        ("usr/lib/systemd/system/a.service", POLICY),
        ("etc/systemd/system/masked.service", "-> /dev/null"),
        ("etc/systemd/system/nowhere.service", "-> /nowhere/x.service"),
        ("etc/systemd/system/circle.service", "-> circle.service"),
        ("etc/systemd/system/c.service.d/50-mem.conf", "-> /dev/null"),
    ]);
    assert_eq!(units(&discovery), ["a.service", "alias.service"]);
}

#[test]
fn special_files_do_not_stop_search() {
    let root = tree(&[
        ("etc/systemd/system/dir.service/x", POLICY),
        ("etc/systemd/system/a.service", POLICY),
        ("etc/systemd/system/long.service", &"x".repeat(2 << 20)),
    ]);
    let pipe = root.path().join("etc/systemd/system/pipe.service");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let SearchResult { discovery, warnings, .. } = discover(root.path(), &UNIT_PATH);
    assert_eq!((units(&discovery), warnings), (vec!["a.service"], Vec::new()));
}

#[test]
fn files_of_a_unit_are_read_in_order_and_removed_ones_skipped() {
    use crate::systemd::{ActiveState, UnitInfo, read_unit_files};
    let root = tree(&[("a.service", "one"), ("10.conf", "two\u{0}"), ("long.conf", &"y".repeat(2 << 20))]);
    let unit = UnitInfo {
        name: name("a.service"),
        active: ActiveState::Inactive,
        fragment: Some(root.path().join("a.service")),
        drop_ins: ["10.conf", "gone.conf", "long.conf"].map(|file| root.path().join(file)).to_vec(),
        slice: None,
        control_group: None,
        control_group_id: None,
        transient: false,
        needs_daemon_reload: false,
    };
    let (texts, warnings) = read_unit_files(&unit);
    let lengths: Vec<usize> = texts.iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [3, 4, 1 << 20]);
    assert!(texts[0].0.ends_with("/a.service"));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0]
            .ends_with("long.conf is longer than 1 MiB; only its beginning is read for a memory policy")
    );
    let unit = UnitInfo { drop_ins: vec![root.path().join("10.conf"); 300], ..unit };
    let (texts, warnings) = read_unit_files(&unit);
    assert_eq!(texts.len(), 256);
    assert_eq!(warnings, ["a.service has more than 256 files; the policy is read from the first 256"]);
}

#[test]
fn new_cgroups_are_reported_for_unloadable_units_only() {
    let discovery = found(&[
        ("etc/systemd/system/a.service", POLICY),
        ("usr/lib/systemd/system/b.service", "[Service]\n"),
        ("etc/systemd/system/b.service.d/50-mem.conf", POLICY),
        ("etc/systemd/system/c.slice.d/50-mem.conf", "[Slice]\nX-MemoryBPFPolicy=observe\n"),
        ("usr/lib/systemd/system/x@.service", "[Service]\n"),
        ("etc/systemd/system/x@one.service.d/50-mem.conf", POLICY),
    ]);
    assert!(!discovery.needs_all_cgroup_events());
    let discovery = found(&[("etc/systemd/system/made-by-hand.service.d/50-mem.conf", POLICY)]);
    assert_eq!(discovery.without_file, [name("made-by-hand.service")].into());
    assert!(discovery.needs_all_cgroup_events());
    assert!(found(&[("etc/systemd/system/libpod-.scope.d/50-mem.conf", POLICY)]).needs_all_cgroup_events());
}
