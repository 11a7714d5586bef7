use proptest::prelude::*;

use super::super::fixture;
use super::super::precedence::check_line;
use super::*;

fn request(origin: Origin, line: &str) -> Request {
    Request {
        origin,
        location: format!("place of {line}"),
        line: line.to_owned(),
        container: None,
        pod: None,
        unit: None,
    }
}

/// `policy:origin:a parameter …`, then the errors.
fn render(requests: &[(Origin, &str)], allow: &AllowList) -> (String, Vec<String>) {
    let requests: Vec<Request> = requests.iter().map(|(origin, line)| request(*origin, line)).collect();
    let resolved = resolve(&requests, &fixture::catalog(), allow);
    let one = |bound: &ResolvedPolicy| {
        let first = bound.params.parameters.get("limit").or(bound.params.parameters.get("mode"));
        format!("{}:{}:{}", bound.name, bound.origin, first.cloned().unwrap_or_default())
    };
    let policies: Vec<String> = resolved.policies.iter().map(one).collect();
    (policies.join(" "), resolved.errors.iter().map(ToString::to_string).collect())
}

fn attached(requests: &[(Origin, &str)]) -> String {
    let (policies, errors) = render(requests, &AllowList::default());
    assert_eq!(errors, [""; 0]);
    policies
}

use Origin::{Annotation, DropIn, Operator, Xattr};

#[test]
fn policies_add_up_and_highest_origin_wins() {
    let all = [
        (Xattr, "deny limit=2K"),
        (Operator, "observe mode=dry-run"),
        (Annotation, "deny limit=3K"),
        (DropIn, "oom; observe"),
    ];
    assert_eq!(attached(&all), "deny:annotation:3K observe:operator:dry-run oom:drop-in:act");
    let mut reversed = all;
    reversed.reverse();
    assert_eq!(attached(&reversed), attached(&all));
    // The request applies as a whole: min= of the drop-in is not used.
    let requests = [request(DropIn, "deny limit=1K min=9K"), request(Operator, "deny limit=2K")];
    let resolved = resolve(&requests, &fixture::catalog(), &AllowList::default());
    assert_eq!(resolved.policies[0].params.parameters["min"], "0");
    assert_eq!(resolved.policies[0].location, "place of deny limit=2K");
}

#[test]
fn none_discards_lower_origins() {
    let lower = (Xattr, "deny limit=1K");
    assert_eq!(attached(&[lower, (Annotation, "none")]), "");
    assert_eq!(attached(&[lower, (Annotation, "")]), "");
    assert_eq!(attached(&[lower, (Annotation, "none"), (Operator, "observe")]), "observe:operator:act");
    assert_eq!(attached(&[(DropIn, "deny limit=1K"), (Operator, "none")]), "");
    assert_eq!(attached(&[(Operator, "observe"), (Annotation, "none")]), "observe:operator:act");
    assert_eq!(attached(&[(DropIn, "none"), (Xattr, "observe")]), "observe:xattr:act");
    assert_eq!(attached(&[]), "");
}

#[test]
fn annotations_and_xattrs_add_to_drop_ins_and_never_weaken_them() {
    let drop_in = (DropIn, "deny limit=1K");
    let of_drop_in = "of a drop-in, which stays attached (AnnotationsOverrideDropIns=no)";
    for origin in [Annotation, Xattr] {
        for (line, attached, error) in [
            ("none", "deny:drop-in:1K", "'none' does not discard 'deny'"),
            ("", "deny:drop-in:1K", "'none' does not discard 'deny'"),
            ("deny limit=2K", "deny:drop-in:1K", "this does not replace 'deny'"),
            (
                "deny limit=2K; observe",
                &format!("deny:drop-in:1K observe:{origin}:act"),
                "this does not replace 'deny'",
            ),
        ] {
            let (policies, errors) = render(&[drop_in, (origin, line)], &AllowList::default());
            assert_eq!(policies, attached, "{origin} {line}");
            assert_eq!(errors, [format!("{origin} of place of {line}: {error} {of_drop_in}")]);
        }
        assert_eq!(attached(&[drop_in, (origin, "deny limit=1K")]), "deny:drop-in:1K", "the same");
        let weaker = AllowList { override_drop_ins: true, ..AllowList::default() };
        assert_eq!(render(&[drop_in, (origin, "none")], &weaker), (String::new(), vec![]));
        let replaced = render(&[drop_in, (origin, "deny limit=2K")], &weaker);
        assert_eq!(replaced, (format!("deny:{origin}:2K"), vec![]));
    }
    // An annotation and an operator are as before.
    assert_eq!(attached(&[(Xattr, "deny limit=1K"), (Annotation, "deny limit=2K")]), "deny:annotation:2K");
    assert_eq!(attached(&[drop_in, (Operator, "deny limit=2K")]), "deny:operator:2K");
}

#[test]
fn requests_of_one_origin_add_up_in_their_order() {
    assert_eq!(
        attached(&[(DropIn, "deny limit=1K; observe"), (DropIn, "deny limit=2K"), (DropIn, "none")]),
        "deny:drop-in:2K observe:drop-in:act"
    );
}

#[test]
fn invalid_request_is_rejected_whole_and_others_apply() {
    let (policies, errors) = render(
        &[(DropIn, "deny limit=1K"), (Annotation, "observe; deny limt=64m; dney"), (Xattr, "oom for=x")],
        &AllowList::default(),
    );
    assert_eq!(policies, "deny:drop-in:1K");
    assert_eq!(
        errors,
        [
            "annotation of place of observe; deny limt=64m; dney, column 15: \
             unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?",
            "annotation of place of observe; deny limt=64m; dney, column 25: \
             unknown policy 'dney'; did you mean 'deny'?",
            "xattr of place of oom for=x, column 9: 'x' is not valid for parameter 'for' of policy 'oom': \
             it does not start with a digit; valid: durations such as 250ms, 2s or 1min 30s",
        ]
    );
    // An invalid request does not discard other requests.
    assert_eq!(
        render(&[(DropIn, "observe"), (Operator, "none none")], &AllowList::default()).0,
        "observe:drop-in:act"
    );
}

#[test]
fn annotations_and_xattrs_need_permission() {
    let strict = AllowList::only(["observe"]);
    let generous = AllowList::only(["observe", "protect"]);
    for (origin, line, allow, fine) in [
        (DropIn, "protect low=1G", &AllowList::default(), true),
        (Operator, "protect low=1G", &strict, true),
        (Annotation, "protect low=1G", &AllowList::default(), false),
        (Xattr, "greedy", &AllowList::default(), false),
        (Xattr, "protect low=1G", &generous, true),
        (Annotation, "deny limit=1K", &strict, false),
        (Annotation, "observe", &strict, true),
        (Annotation, "observe", &AllowList::only([""; 0]), false),
    ] {
        assert_eq!(render(&[(origin, line)], allow).1.is_empty(), fine, "{origin} {line}");
    }
    assert_eq!(
        render(&[(Annotation, "deny limit=1K")], &strict).1,
        [
            "annotation of place of deny limit=1K, column 1: policy 'deny' may not be requested by annotations; \
          valid: observe"
        ]
    );
}

#[test]
fn check_line_reports_what_resolve_would() {
    let catalog = fixture::catalog();
    let line = "protect low=1; deny limt=1";
    let linted = check_line(line, &catalog, Some(Annotation), Some(&format!("place of {line}")));
    assert_eq!(linted, resolve(&[request(Annotation, line)], &catalog, &AllowList::default()).errors);
    assert_eq!(linted.len(), 2);
    assert_eq!(check_line("protect low=1; observe", &catalog, None, None), []);
}

fn any_line() -> impl Strategy<Value = String> {
    let policy = prop_oneof![
        Just("deny limit=1K"),
        Just("deny limit=50%"),
        Just("observe"),
        Just("oom for=1s"),
        Just("gold"),
        Just("broken"),
        Just("protect low=1K"),
        Just("none"),
        Just("deny"),
        Just(""),
    ];
    prop_oneof![proptest::collection::vec(policy, 0..4).prop_map(|all| all.join("; ")), "\\PC{0,60}"]
}

fn any_origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(DropIn), Just(Xattr), Just(Annotation), Just(Operator)]
}

proptest! {
    #[test]
    fn each_policy_once_and_each_rejection_with_reason(
        asked in proptest::collection::vec((any_origin(), any_line()), 0..6),
    ) {
        let catalog = fixture::catalog();
        let requests: Vec<Request> = asked.iter().map(|(origin, line)| request(*origin, line)).collect();
        let resolved = resolve(&requests, &catalog, &AllowList::default());
        let names: BTreeSet<&str> = resolved.policies.iter().map(|bound| bound.name.as_str()).collect();
        prop_assert_eq!(names.len(), resolved.policies.len());
        // A request with an error adds nothing.
        for error in &resolved.errors {
            let blamed = requests.iter().any(|r| Some(r.origin) == error.origin);
            prop_assert!(blamed && !error.to_string().contains(char::is_control));
        }
        for bound in &resolved.policies {
            let good = |r: &&Request| r.origin == bound.origin
                && check_line(&r.line, &catalog, Some(r.origin), None).is_empty();
            prop_assert!(requests.iter().any(|r| good(&r)));
            let kept = bound.origin >= DropIn && bound.params.bytes.len() == catalog.policies[&bound.name].size;
            prop_assert!(kept);
        }
        // The same requests twice do not change the result.
        let twice: Vec<Request> = requests.iter().chain(&requests).cloned().collect();
        prop_assert_eq!(resolve(&twice, &catalog, &AllowList::default()).policies, resolved.policies);
    }
}
