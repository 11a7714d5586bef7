#![allow(clippy::arithmetic_side_effects)]

use super::*;
use crate::report::RequestReport;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn unit() -> UnitName {
    UnitName::parse("a.service").unwrap()
}

#[test]
fn a_hidden_drop_in_is_named_with_the_one_that_hides_it() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/systemd/system/a.service.d/50-m.conf", "[Service]\n");
    let line = "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n";
    put(root.path(), "run/systemd/system/a.service.d/50-m.conf", line);
    assert_eq!(
        diagnose_unit(root.path(), &unit(), None),
        ["/run/systemd/system/a.service.d/50-m.conf:2: 'deny limit=1G' is masked by \
          /etc/systemd/system/a.service.d/50-m.conf, which has the same name."]
    );
}

#[test]
fn overridden_and_unread_drop_ins_are_reported() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "etc/systemd/system/a.service.d/10.conf",
        "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n",
    );
    put(
        root.path(),
        "etc/systemd/system/a.service.d/20.conf",
        "[Service]\nX-MemoryBPFPolicy=deny limit=2G\n",
    );
    put(root.path(), "etc/systemd/system/a.service.d/30.conf", "[Unit]\nX-MemoryBPFPolicy=observe\n");
    let location = "/etc/systemd/system/a.service.d/20.conf:2";
    let messages = diagnose_unit(root.path(), &unit(), None);
    assert_eq!(messages.len(), 3, "{messages:?}");
    let replaced = "'deny limit=1G' of /etc/systemd/system/a.service.d/10.conf:2 is overridden by";
    assert!(messages[0].starts_with(replaced), "{messages:?}");
    assert!(messages[1].contains("ignoring 'X-MemoryBPFPolicy=' in [Unit]"), "{messages:?}");
    assert!(
        messages[2].contains(location) && messages[2].contains("systemctl daemon-reload"),
        "{messages:?}"
    );
    let line = "deny limit=2G".to_owned();
    let requests = vec![RequestReport { location: location.to_owned(), line, ..RequestReport::default() }];
    let report = BindingReport { requests, ..BindingReport::default() };
    assert_eq!(diagnose_unit(root.path(), &unit(), Some(&report)).len(), 2);
}

/// `a.service` has drop-ins `1.conf`, `2.conf`, … with these lines; what `explain` reports, without directories.
fn explained(values: &[&str], report: Option<&BindingReport>) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    for (index, value) in values.iter().enumerate() {
        let text = format!("[Service]\nX-MemoryBPFPolicy={}\n", value.replace('|', "\nX-MemoryBPFPolicy="));
        put(root.path(), &format!("etc/systemd/system/a.service.d/{}.conf", index + 1), &text);
    }
    let messages = diagnose_unit(root.path(), &unit(), report);
    messages.iter().map(|message| message.replace("/etc/systemd/system/a.service.d/", "")).collect()
}

fn with_request(location: &str, line: &str) -> BindingReport {
    let of = |part: &str| format!("/etc/systemd/system/a.service.d/{part}");
    let location = location.split(", ").map(of).collect::<Vec<_>>().join(", ");
    let request = RequestReport { location, line: line.to_owned(), ..RequestReport::default() };
    BindingReport { requests: vec![request], ..BindingReport::default() }
}

#[test]
fn reset_line_is_reported_with_the_line_that_resets_it() {
    let report = with_request("2.conf:3", "oom mode=dry-run");
    let reset = "'observe; deny limit=64M' of 1.conf:2 is reset by 2.conf:2.";
    assert_eq!(explained(&["observe; deny limit=64M", "|oom mode=dry-run"], Some(&report)), [reset]);
    let report = with_request("2.conf:2", "none");
    assert_eq!(
        explained(&["observe", "none"], Some(&report)),
        ["'observe' of 1.conf:2 is reset by 2.conf:2."]
    );
    let report = BindingReport::default();
    assert_eq!(
        explained(&["none", "", "observe", "deny limit=64M", ""], Some(&report)),
        [
            "'none' of 1.conf:2 is reset by 2.conf:2.",
            "'observe' of 3.conf:2 is reset by 5.conf:2.",
            "'deny limit=64M' of 4.conf:2 is reset by 5.conf:2."
        ]
    );
}

#[test]
fn replaced_part_of_a_line_is_attributed_alone() {
    let report = with_request("1.conf:2, 2.conf:2", "observe; deny limit=2G");
    let replaced = "'deny limit=1G' of 1.conf:2 is overridden by 2.conf:2.";
    assert_eq!(explained(&["deny limit=1G; observe", "deny limit=2G"], Some(&report)), [replaced]);
    // A line that has changed since systemd read it.
    let found = explained(&["deny limit=1G; observe", "deny limit=3G"], Some(&report));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with("'deny limit=3G' of 2.conf:2 is not known to memcg-bpfd."), "{found:?}");
}

#[test]
fn attached_policy_has_the_line_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    for (file, line) in [("1", "observe"), ("2", "deny limit=1G")] {
        let path = format!("etc/systemd/system/a.service.d/{file}.conf");
        put(root.path(), &path, &format!("[Service]\nX-MemoryBPFPolicy={line}\n"));
    }
    let mut report = with_request("1.conf:2, 2.conf:2", "observe; deny limit=1G");
    let location = report.requests[0].location.clone();
    let policy = |name: &str, location: &str| crate::report::AttachedPolicy {
        name: name.to_owned(),
        location: location.to_owned(),
        ..Default::default()
    };
    report.policies = vec![policy("deny", &location), policy("observe", "uid 0")];
    locate_policies(root.path(), &unit(), &mut report);
    assert_eq!(report.policies[0].location, "/etc/systemd/system/a.service.d/2.conf:2");
    assert_eq!(report.policies[1].location, "uid 0");
}

/// `a.service` has this file with a policy, and nothing else.
fn lines_with(root: &Path, path: &str) -> Vec<String> {
    put(root, path, "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n");
    diagnose_unit(root, &unit(), None)
}

#[test]
fn line_on_the_root_slice_is_said_to_be_ignored() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/systemd/system/-.slice.d/1.conf", "[Slice]\nX-MemoryBPFPolicy=observe\n");
    let messages = diagnose_unit(root.path(), &UnitName::parse("-.slice").unwrap(), None);
    let place = "/etc/systemd/system/-.slice.d/1.conf:2";
    assert_eq!(messages, [format!("'observe' of {place} is ignored: the root cgroup cannot have a policy.")]);
}

#[test]
fn file_in_a_linked_directory_is_the_same_file() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "real/10.conf", "[Service]\nX-MemoryBPFPolicy=observe\n");
    std::os::unix::fs::symlink("real", root.path().join("a.service.d")).unwrap();
    let at = |file: &str, line: u32| format!("{}:{line}", root.path().join(file).display());
    assert!(is_same_line(&at("real/10.conf", 2), &at("a.service.d/10.conf", 2)));
    assert!(!is_same_line(&at("real/10.conf", 2), &at("a.service.d/10.conf", 3)));
    assert!(!is_same_line("uid 0", "uid 1000"));
}

#[test]
fn every_directory_of_the_search_path_is_read() {
    for dir in crate::systemd::UNIT_PATH {
        let root = tempfile::tempdir().unwrap();
        let path = format!("{}/a.service.d/50.conf", dir.trim_start_matches('/'));
        let lines = lines_with(root.path(), &path);
        assert!(lines[0].contains(&format!("/{path}:2")), "{dir}: {lines:?}");
    }
}

#[test]
fn drop_in_for_the_type_is_hidden_by_one_for_the_unit() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "usr/lib/systemd/system/a.service.d/50.conf", "[Service]\n");
    let lines = lines_with(root.path(), "etc/systemd/system/service.d/50.conf");
    let hidden = "/etc/systemd/system/service.d/50.conf:2: 'deny limit=1G' is masked by \
                  /usr/lib/systemd/system/a.service.d/50.conf, which has the same name.";
    assert_eq!(lines[0], hidden);
}

#[test]
fn drop_in_of_an_alias_is_read() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "usr/lib/systemd/system/a.service", "[Service]\n");
    let alias = root.path().join("etc/systemd/system/b.service");
    std::fs::create_dir_all(alias.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/usr/lib/systemd/system/a.service", alias).unwrap();
    let lines = lines_with(root.path(), "etc/systemd/system/b.service.d/50.conf");
    assert!(lines[0].contains("/etc/systemd/system/b.service.d/50.conf:2"), "{lines:?}");
}

#[test]
fn file_of_an_instance_hides_its_template() {
    let root = tempfile::tempdir().unwrap();
    let line = "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n";
    put(root.path(), "etc/systemd/system/a@.service", line);
    put(root.path(), "usr/lib/systemd/system/a@b.service", "[Service]\n");
    let lines = diagnose_unit(root.path(), &UnitName::parse("a@b.service").unwrap(), None);
    assert!(
        lines[0].starts_with("/etc/systemd/system/a@.service:2: 'deny limit=1G' is masked by"),
        "{lines:?}"
    );
    assert!(
        lines[0].contains("by /usr/lib/systemd/system/a@b.service, which replaces the template"),
        "{lines:?}"
    );
}

#[test]
fn unit_without_request_gets_a_hint() {
    let root = tempfile::tempdir().unwrap();
    let messages = diagnose_unit(root.path(), &unit(), None);
    assert_eq!(
        messages,
        ["No file of a.service has X-MemoryBPFPolicy=. To add it, run: systemctl edit a.service"]
    );
}

#[test]
fn annotation_typo_and_missing_hook_are_reported() {
    let root = tempfile::tempdir().unwrap();
    let with = |key: &str| [(key.to_owned(), "deny limit=1G".to_owned())].into_iter().collect();
    let messages = |key: &str| diagnose_annotations(root.path(), "abc", with(key), false);
    assert_eq!(
        messages("memcg-bpf/policy"),
        ["annotation 'memcg-bpf/policy' is unknown; did you mean memcg.bpf/policy?"]
    );
    assert!(messages("memcg.bpf/polcy")[0].starts_with("ignoring annotation 'memcg.bpf/polcy'"));
    assert!(messages("org.example")[0].starts_with("The container has no annotation memcg.bpf/policy."));
    let found = messages(POLICY);
    assert!(found[0].starts_with("The annotation requests 'deny limit=1G', but"), "{found:?}");
    assert!(found[1].contains("90-memcg-bpf.json is missing"), "{found:?}");
    assert!(diagnose_annotations(root.path(), "abc", with(POLICY), true).is_empty());
}

#[test]
fn none_of_a_new_file_is_not_known_to_the_daemon() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/systemd/system/a.service", "[Service]\nX-MemoryBPFPolicy=none\n");
    let location = "/etc/systemd/system/a.service:2".to_owned();
    let messages = diagnose_unit(root.path(), &unit(), None);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(
        messages[0].starts_with(&format!("'none' of {location} is not known to memcg-bpfd.")),
        "{messages:?}"
    );
    let (line, origin) = ("none".to_owned(), "drop-in".to_owned());
    let requests = vec![RequestReport { origin, location, line }];
    let report = BindingReport { requests, ..BindingReport::default() };
    assert_eq!(diagnose_unit(root.path(), &unit(), Some(&report)), [""; 0]);
}
