//! Tests of requests that callers submit and withdraw.

use super::*;

fn submit(
    engine: &mut Engine,
    model: &mut Model,
    request: Request,
    on_invalid: OnInvalid,
) -> Result<BindingReport, SubmitError> {
    engine.submit(cgroup(1, "/c1"), request, on_invalid, |effects| {
        model.perform(effects);
        Performed::default()
    })
}

fn limit(engine: &Engine) -> String {
    engine.report_path(&path("/c1")).unwrap().policies[0].parameters["limit"].clone()
}

fn detach(engine: &mut Engine, own: Origin) {
    for origin in engine.origins_to_detach(CgroupId(1), own) {
        engine.step(Input::Withdraw { cgroup: CgroupId(1), origin });
    }
}

#[test]
fn submission_returns_report_and_is_the_same_as_a_request() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    let line = request(Origin::Operator, "deny limit=1M");
    let report = submit(&mut engine, &mut model, line, OnInvalid::Reject).unwrap();
    let (mut other, mut expected) = (Engine::new(config()), Model::default());
    run(&mut other, &mut expected, ask(1, Origin::Operator, "deny limit=1M"));
    assert_eq!(model, expected);
    assert_eq!((report.state.as_str(), Some(report.clone())), ("active", other.report_path(&path("/c1"))));
}

#[test]
fn invalid_submission_changes_nothing_or_is_kept() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, ask(1, Origin::DropIn, "observe"));
    let before = model.clone();
    let invalid = || request(Origin::Annotation, "deny limt=1M");
    let Err(SubmitError::Invalid(errors)) =
        submit(&mut engine, &mut model, invalid(), OnInvalid::RejectMissingHooks)
    else {
        panic!("the line has an error");
    };
    assert!(errors[0].contains("did you mean 'limit'"), "{errors:?}");
    assert_eq!((&model, engine.report_all()[0].errors.len()), (&before, 0));
    // Twice, because an unchanged request is invalid as well.
    for _ in 0..2 {
        let kept = submit(&mut engine, &mut model, invalid(), OnInvalid::Keep).unwrap_err();
        assert_eq!(kept, SubmitError::Invalid(errors.clone()));
        assert_eq!((&model.bound, engine.report_all()[0].errors.clone()), (&before.bound, errors.clone()));
    }
}

#[test]
fn errors_of_other_origins_do_not_reject_a_submission() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, ask(1, Origin::Annotation, "dney"));
    let line = request(Origin::Operator, "observe");
    assert_eq!(submit(&mut engine, &mut model, line, OnInvalid::Reject).unwrap().state, "active");
    // An annotation that discards nothing is valid, and its report says so.
    run(&mut engine, &mut model, ask(1, Origin::DropIn, "deny limit=1M"));
    let none = request(Origin::Annotation, "none");
    let report = submit(&mut engine, &mut model, none, OnInvalid::Reject).unwrap();
    assert!(report.errors[0].contains("does not discard"), "{:?}", report.errors);
}

#[test]
fn submission_with_missing_hook_is_rejected_where_it_is_required() {
    let mut lacking = config();
    lacking.missing.insert("observe".to_owned(), vec!["stall".to_owned()]);
    let (mut engine, mut model) = (Engine::new(lacking), Model::default());
    let line = || request(Origin::Annotation, "observe");
    let sentence = "this kernel lacks the hook 'stall' that observe uses".to_owned();
    assert_eq!(
        submit(&mut engine, &mut model, line(), OnInvalid::RejectMissingHooks),
        Err(SubmitError::MissingHooks(vec![sentence]))
    );
    assert_eq!(model, Model::default());
    assert_eq!(submit(&mut engine, &mut model, line(), OnInvalid::Keep).unwrap().state, "active");
}

fn failure(at: &str) -> Failure {
    Failure { path: Some(path(at)), sentence: "no memory".to_owned() }
}

#[test]
fn failure_of_another_cgroup_takes_no_submission_back() {
    // The slot that the submission leaves goes to another cgroup, whose binding fails, or which is removed meanwhile.
    for is_removed in [false, true] {
        let mut engine = Engine::with_slots(config(), 2);
        engine.step(ask(1, Origin::Operator, "deny limit=1M"));
        engine.step(ask(3, Origin::Operator, "observe"));
        engine.step(ask(2, Origin::Operator, "deny limit=3M"));
        let perform = |effects: Vec<Effect>| {
            let other = |e: &Effect| matches!(e, Effect::Bind { cgroup, .. } if cgroup.id == CgroupId(2));
            let fails = effects.iter().any(other);
            Performed {
                failures: (fails && !is_removed).then(|| failure("/c2")).into_iter().collect(),
                removed: (fails && is_removed).then_some(CgroupId(2)).into_iter().collect(),
            }
        };
        let line = request(Origin::Operator, "none");
        let report = engine.submit(cgroup(1, "/c1"), line, OnInvalid::Reject, perform).unwrap();
        assert_eq!((report.state.as_str(), report.requests[0].line.as_str()), ("none", "none"));
    }
}

#[test]
fn failed_submission_is_taken_back() {
    for before in [None, Some("deny limit=1M")] {
        let (mut engine, mut model) = (Engine::new(config()), Model::default());
        if let Some(line) = before {
            run(&mut engine, &mut model, ask(1, Origin::Operator, line));
        }
        let expected = (engine.report_all(), model.bound.len());
        let line = request(Origin::Operator, "deny limit=2M");
        let mut times = 0;
        let failed = engine.submit(cgroup(1, "/c1"), line, OnInvalid::Reject, |effects| {
            model.perform(effects);
            times += 1;
            let failures = if times == 1 { vec![failure("/c1")] } else { Vec::new() };
            Performed { failures, ..Performed::default() }
        });
        assert_eq!(failed, Err(SubmitError::Failed(vec!["no memory".to_owned()])));
        assert_eq!((engine.report_all(), model.bound.len()), expected);
    }
}

#[test]
fn cgroup_removed_while_bound_is_forgotten_and_reported() {
    let mut engine = Engine::new(config());
    let removed = |effects: Vec<Effect>| {
        let bound = effects.iter().any(|e| matches!(e, Effect::Bind { .. }));
        Performed { removed: bound.then_some(CgroupId(1)).into_iter().collect(), ..Performed::default() }
    };
    let failures = engine.run(ask(1, Origin::Annotation, "observe"), removed);
    let sentences: Vec<&str> = failures.iter().map(|failure| failure.sentence.as_str()).collect();
    assert_eq!(sentences, ["cgroup 1 was removed before its policy was attached"]);
    assert_eq!(engine.report_all(), []);
}

#[test]
fn detach_gives_back_what_attach_replaced() {
    for lower in [Origin::DropIn, Origin::Annotation, Origin::Xattr] {
        for line in ["deny limit=96M", "none"] {
            let (mut engine, mut model) = (Engine::new(config()), Model::default());
            run(&mut engine, &mut model, ask(1, lower, "deny limit=64M"));
            let before = engine.report_all();
            run(&mut engine, &mut model, ask(1, Origin::Operator, line));
            detach(&mut engine, Origin::Operator);
            assert_eq!((engine.report_all(), limit(&engine)), (before, "64M".to_owned()), "{lower} {line}");
        }
    }
    // The same for the owner of a cgroup.
    let mut engine = Engine::new(config());
    engine.step(ask(1, Origin::DropIn, "deny limit=64M"));
    engine.step(ask(1, Origin::Annotation, "observe"));
    let before = engine.report_all();
    engine.step(ask(1, Origin::Xattr, "observe"));
    detach(&mut engine, Origin::Xattr);
    assert_eq!(engine.report_all(), before);
}

#[test]
fn detach_without_own_request_withdraws_annotation_and_owner_request() {
    let mut engine = Engine::new(config());
    for origin in [Origin::DropIn, Origin::Annotation, Origin::Xattr] {
        engine.step(ask(1, origin, "observe"));
    }
    detach(&mut engine, Origin::Operator);
    let origins: Vec<String> =
        engine.report_all()[0].requests.iter().map(|request| request.origin.clone()).collect();
    assert_eq!(origins, ["drop-in"]);
}

#[test]
fn counters_are_kept_while_requests_remain() {
    let unbinds = |effects: Vec<Effect>| -> Vec<bool> {
        let kept = |effect: &Effect| match effect {
            Effect::Unbind { keep_counters, .. } => Some(*keep_counters),
            _ => None,
        };
        effects.iter().filter_map(kept).collect()
    };
    let mut engine = Engine::new(config());
    engine.step(ask(1, Origin::Annotation, "deny limit=64M"));
    // Moved to another slot, which keeps the counters in the kernel.
    assert_eq!(unbinds(engine.step(ask(1, Origin::Operator, "deny limit=96M"))), [false; 0]);
    assert_eq!(unbinds(engine.step(ask(1, Origin::Operator, "none"))), [true]);
    let none = Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Operator };
    assert_eq!(unbinds(engine.step(none)), [false; 0]);
    let last = Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Annotation };
    assert_eq!(unbinds(engine.step(last)), [false]);
}
