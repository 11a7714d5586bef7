use super::*;
use crate::policy::fixture;
use crate::report::RequestReport;

fn now(line: &str) -> BindingReport {
    let request = RequestReport {
        origin: "drop-in".to_owned(),
        location: "x.conf:2".to_owned(),
        line: line.to_owned(),
    };
    BindingReport { requests: vec![request], ..BindingReport::default() }
}

#[test]
fn preview_has_overridden_and_kept_policies() {
    let catalog = fixture::catalog();
    let after = |line: &str| {
        let report =
            preview(now("deny limit=64M; observe"), Origin::Operator, line.to_owned(), &catalog).unwrap();
        let shown = |p: &AttachedPolicy| {
            format!("{} {} {}", p.name, p.origin, p.parameters.get("limit").map_or("", String::as_str))
        };
        report.policies.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(after("deny limit=1G"), ["deny operator 1G", "observe drop-in "]);
    assert_eq!(after("none"), [""; 0]);
}

#[test]
fn preview_reports_errors_of_the_line_only() {
    let error = preview(now("dney"), Origin::Operator, "deny limt=1M".to_owned(), &fixture::catalog())
        .unwrap_err()
        .to_string();
    assert!(error.contains("'limt'") && !error.contains("dney"), "{error}");
}

#[test]
fn preview_checks_permissions_of_owners() {
    let mut catalog = fixture::catalog();
    catalog.policies.get_mut("deny").unwrap().self_binding = false;
    let error = |origin| preview(BindingReport::default(), origin, "deny limit=1G".to_owned(), &catalog);
    assert!(error(Origin::Operator).is_ok());
    let why = error(Origin::Xattr).unwrap_err().to_string();
    assert!(why.contains("may not be requested by xattrs"), "{why}");
}

#[test]
fn check_lists_what_would_change() {
    let catalog = fixture::catalog();
    let line = |origin, line: &str, now| preview(now, origin, line.to_owned(), &catalog).unwrap();
    let before = line(Origin::DropIn, "deny limit=64M; observe", BindingReport::default());
    let before = BindingReport { cgroup: "/x".to_owned(), ..before };
    let after = line(
        Origin::Operator,
        "deny limit=1G; oom",
        BindingReport { requests: now("deny limit=64M; observe").requests, ..before.clone() },
    );
    let text = render(&before, &after, &Terminal::default(), &DefaultParams::default());
    let lines: Vec<&str> = text.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert!(
        lines.contains(&"    deny limit=1G min=0 mode=act")
            && lines.contains(&"    deny limit=64M min=0 mode=act"),
        "{text}"
    );
    let at = |title: &str| lines.iter().position(|line| line.trim() == title).unwrap();
    assert!(at("Would be attached:") < at("Would be detached:"), "{text}");
    assert_eq!(lines[at("Would stay attached:") + 1], "    observe mode=act", "{text}");
}
