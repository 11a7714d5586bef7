//! Tests of one invariant each.

use super::*;

#[test]
fn replaced_object_gets_parameters_and_bindings() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, ask(1, Origin::Operator, "deny limit=1M; observe"));
    run(&mut engine, &mut model, ask(2, Origin::Operator, "observe"));
    run(&mut engine, &mut model, unit("x.service", None, Some("deny limit=1M")));
    let before = model.clone();
    let effects = engine.step(renew("0", &["deny"]));
    let kinds = |wanted: fn(&Effect) -> bool| effects.iter().filter(|e| wanted(e)).count();
    assert_eq!(kinds(|e| matches!(e, Effect::RewriteParams { policies, .. } if policies.len() == 1)), 2);
    assert_eq!(kinds(|e| matches!(e, Effect::Bind { cgroup, .. } if cgroup.id == CgroupId(1))), 1);
    assert_eq!(
        kinds(|e| matches!(e, Effect::Bind { .. } | Effect::Attached { .. } | Effect::Detached { .. })),
        1
    );
    assert_eq!(kinds(|e| matches!(e, Effect::WriteParams { .. } | Effect::ClearSlot { .. })), 0);
    model.perform(effects);
    assert_eq!(model, before);
}

#[test]
fn changed_meaning_moves_to_other_slot() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, ask(1, Origin::Operator, "deny limit=1M"));
    run(&mut engine, &mut model, unit("x.service", None, Some("deny limit=1M")));
    let before = model.clone();
    run(&mut engine, &mut model, renew("4096", &["deny"]));
    assert_ne!(model.bound, before.bound);
    assert_ne!(model.registered, before.registered);
    assert_eq!(model.slots.len(), 1);
    let mut gone = config();
    gone.catalog.policies.remove("deny");
    run(&mut engine, &mut model, Input::Reload { config: gone, replaced: BTreeSet::new() });
    assert_eq!((model.bound.len(), model.registered.len(), model.slots.len()), (0, 0, 0));
    assert_eq!(engine.report_all()[0].state, "invalid");
    run(&mut engine, &mut model, renew("0", &[]));
    assert_eq!((&model.bound.len(), &model.registered.len()), (&1, &1));
}

#[test]
fn highest_origin_wins_and_lower_one_returns() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, ask(1, Origin::DropIn, "deny limit=1M"));
    run(&mut engine, &mut model, ask(1, Origin::Operator, "deny limit=2M"));
    let limit = |model: &Model| model.slots[&model.bound[&CgroupId(1)]][0].1[..8].to_vec();
    assert_eq!(limit(&model), (2u64 << 20).to_ne_bytes());
    run(&mut engine, &mut model, Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Operator });
    assert_eq!(limit(&model), (1u64 << 20).to_ne_bytes());
}

#[test]
fn registered_slot_is_bound_to_created_cgroup() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, unit("x.service", None, Some("deny limit=1M")));
    let at = path("/system.slice/x.service");
    let slot = model.registered[&at];
    model.bound.insert(CgroupId(7), slot); // by the kernel
    run(
        &mut engine,
        &mut model,
        Input::CgroupCreated { cgroup: CgroupRef { id: CgroupId(7), path: at.clone() }, bound: true },
    );
    assert_eq!(model.bound[&CgroupId(7)], slot);
    assert!(model.records.contains_key(&CgroupId(7)));
    // The unit is restarted: the registration is kept.
    run(&mut engine, &mut model, Input::CgroupRemoved(CgroupId(7)));
    assert_eq!(model.registered[&at], slot);
    assert_eq!(engine.report_all()[0].state, "registered");
}

#[test]
fn cgroup_of_removed_registration_is_unbound() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, unit("x.service", None, Some("deny limit=1M")));
    run(&mut engine, &mut model, Input::UnitUnloaded(UnitName::parse("x.service").unwrap()));
    model.bound.insert(CgroupId(7), 0); // by the kernel, a moment before
    let at = path("/system.slice/x.service");
    run(
        &mut engine,
        &mut model,
        Input::CgroupCreated { cgroup: CgroupRef { id: CgroupId(7), path: at }, bound: true },
    );
    assert_eq!(model, Model::default());
}

#[test]
fn full_slots_fail_the_request_and_keep_the_binding() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    for id in 1..=u64::from(slots::SLOTS) {
        run(&mut engine, &mut model, ask(id, Origin::Operator, &format!("deny limit={}", 65536 + id)));
    }
    assert_eq!((model.bound.len(), model.failed), (4096, 0));
    let before = model.clone();
    let effects = engine.step(ask(7, Origin::Operator, "deny limit=1M"));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Detached { .. } | Effect::Unbind { .. })));
    model.perform(effects);
    assert_eq!((&model.bound, &model.slots, model.failed), (&before.bound, &before.slots, 1));
    let report = engine.report_path(&path("/c7")).unwrap();
    assert_eq!((report.state.as_str(), report.errors), ("active", vec![slots::PENDING_MSG.to_owned()]));
    assert_eq!(report.policies[0].parameters["limit"], "65543");
    assert_eq!(report.requests[0].line, "deny limit=1M");
    // A slot is released, and the policy is attached.
    run(&mut engine, &mut model, Input::CgroupRemoved(CgroupId(8)));
    let report = engine.report_path(&path("/c7")).unwrap();
    assert_eq!((report.policies[0].parameters["limit"].as_str(), report.errors), ("1M", vec![]));
    assert_eq!(model.slots[&model.bound[&CgroupId(7)]][0].1[..8], (1u64 << 20).to_ne_bytes());
}

#[test]
fn changed_drop_in_without_slot_keeps_binding() {
    let (mut engine, mut model) = (Engine::with_slots(config(), 2), Model::default());
    let at = path("/system.slice/x.service");
    run(&mut engine, &mut model, unit("x.service", None, Some("deny limit=1M")));
    run(&mut engine, &mut model, ask(1, Origin::Operator, "observe"));
    run(&mut engine, &mut model, unit("x.service", None, Some("deny limit=2M")));
    assert_eq!((model.registered.get(&at), model.failed), (Some(&0), 1));
    // The cgroup is created, and the kernel binds it to the registered slot.
    model.bound.insert(CgroupId(9), 0);
    run(
        &mut engine,
        &mut model,
        Input::CgroupCreated { cgroup: CgroupRef { id: CgroupId(9), path: at.clone() }, bound: true },
    );
    assert_eq!(model.bound[&CgroupId(9)], 0);
    assert_eq!(engine.report_path(&at).unwrap().policies[0].parameters["limit"], "1M");
    // The operator's request is withdrawn: registration and cgroup change together.
    run(&mut engine, &mut model, Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Operator });
    assert_eq!(model.registered[&at], model.bound[&CgroupId(9)]);
    assert_eq!(engine.report_path(&at).unwrap().policies[0].parameters["limit"], "2M");
    assert!(engine.report_all().iter().all(|report| report.errors.is_empty()));
}

#[test]
fn invalid_line_is_rejected_whole_and_others_apply() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, ask(1, Origin::DropIn, "observe"));
    let effects = engine.step(ask(1, Origin::Annotation, "deny limt=1M"));
    assert!(effects.iter().any(|e| matches!(e, Effect::Warn { .. })));
    model.perform(effects);
    assert_eq!(model.slots[&model.bound[&CgroupId(1)]][0].0, "observe");
    assert!(!engine.report_all()[0].errors.is_empty());
}

#[test]
fn cgroup_without_binding_is_listed() {
    let mut engine = Engine::new(config());
    for (id, line) in [(1, "deny limit=1M"), (2, "dney"), (3, "none")] {
        engine.step(ask(id, Origin::Annotation, line));
    }
    assert_eq!(engine.without_binding(), [cgroup(2, "/c2"), cgroup(3, "/c3")]);
    assert_eq!(engine.step(Input::CgroupRemoved(CgroupId(2))), vec![]);
    assert_eq!(engine.without_binding(), [cgroup(3, "/c3")]);
}

#[test]
fn bound_ancestors_are_nearest_first_at_any_depth() {
    let mut engine = Engine::new(config());
    for (id, at, line) in [
        (1, "/a", "observe"),
        (2, "/a/a", "none"),
        (3, "/a/a/a", "deny limit=1M; observe"),
        (4, "/a/ab", "observe"),
    ] {
        let request = request(Origin::Operator, line);
        engine.step(Input::Request { cgroup: cgroup(id, at), request });
    }
    for id in 100..5_000 {
        engine.step(ask(id, Origin::Annotation, "none"));
    }
    let deep = path(&"/a".repeat(2_000));
    let (top, third) = (path("/a"), path("/a/a/a"));
    assert_eq!(engine.bound_ancestors(&deep), [(&third, vec!["deny", "observe"]), (&top, vec!["observe"])]);
    assert_eq!(engine.bound_ancestors(&third), [(&top, vec!["observe"])]);
    assert_eq!(engine.report_path(&deep), None);
    // The times are compared with each other, so that a busy machine does not affect the result.
    let time = |times: usize, act: &dyn Fn()| {
        let began = std::time::Instant::now();
        (0..times).for_each(|_| act());
        began.elapsed()
    };
    let describing = time(50, &|| drop(engine.report_all()));
    assert!(time(1, &|| drop(engine.bound_ancestors(&deep))) < describing);
    assert!(time(100, &|| drop(engine.report_path(&deep))) < describing);
}

#[test]
fn report_of_one_path_equals_that_among_all() {
    let mut engine = Engine::new(config());
    engine.step(ask(1, Origin::Annotation, "none"));
    engine.step(ask(2, Origin::Annotation, "dney"));
    engine.step(unit("there.service", Some(9), Some("deny limit=1M")));
    engine.step(unit("waits.service", None, Some("deny limit=1M")));
    let all = engine.report_all();
    assert_eq!(all.len(), 4);
    for report in all {
        assert_eq!(engine.report_path(&path(&report.cgroup)), Some(report));
    }
}

#[test]
fn owner_request_counts_until_withdrawn_or_cgroup_removed() {
    let mut engine = Engine::new(config());
    for (id, line) in [(1, "observe"), (2, "none"), (3, "dney"), (4, "none")] {
        engine.step(ask(id, Origin::Xattr, line));
    }
    assert_eq!(engine.count_requests_below("/c", CgroupId(9)), 4);
    assert_eq!(engine.count_requests_below("/c", CgroupId(2)), 3, "except for the requested one");
    assert_eq!(engine.count_requests_below("/d", CgroupId(9)), 0, "elsewhere");
    engine.step(Input::Withdraw { cgroup: CgroupId(2), origin: Origin::Xattr });
    engine.step(Input::CgroupRemoved(CgroupId(4)));
    assert_eq!(engine.count_requests_below("/c", CgroupId(9)), 2);
    engine.step(Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Xattr });
    engine.step(Input::Withdraw { cgroup: CgroupId(3), origin: Origin::Xattr });
    assert_eq!(engine.count_requests_below("/c", CgroupId(9)), 0);
}

#[test]
fn removed_drop_in_removes_binding_and_registration() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, unit("x.service", Some(9), Some("deny limit=1M")));
    run(&mut engine, &mut model, unit("x.service", Some(9), None));
    assert_eq!(model, Model::default());
}

#[test]
fn stopping_leaves_nothing() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, unit("x.service", Some(9), Some("deny limit=1M")));
    run(&mut engine, &mut model, ask(1, Origin::Annotation, "observe"));
    run(&mut engine, &mut model, Input::ReportAllCgroups(true));
    run(&mut engine, &mut model, Input::Shutdown);
    assert_eq!(model, Model::default());
}

#[test]
fn recorded_requests_are_adopted() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    run(&mut engine, &mut model, ask(1, Origin::Annotation, "deny limit=3M"));
    run(&mut engine, &mut model, ask(1, Origin::DropIn, "observe"));
    let records = model.records.clone();
    let (mut again, mut fresh) = (Engine::new(config()), Model::default());
    for (id, requests) in records {
        run(&mut again, &mut fresh, Input::Adopt { cgroup: cgroup(id.0, "/c1"), requests });
    }
    assert_eq!(engine.report_all(), again.report_all());
}

#[test]
fn annotation_above_its_share_of_the_record_is_refused_and_drop_in_stays() {
    let (mut engine, mut model) = (Engine::new(config()), Model::default());
    let padded = format!("observe{}", "\t".repeat(3859));
    let too_long = format!("observe {}", "\t\u{1}".repeat(2000));
    run(&mut engine, &mut model, ask(1, Origin::DropIn, "deny limit=1M"));
    run(&mut engine, &mut model, ask(1, Origin::Annotation, &padded));
    assert_eq!(engine.report_all()[0].errors, [""; 0]);
    run(&mut engine, &mut model, ask(1, Origin::Annotation, &too_long));
    let errors = engine.report_all()[0].errors.join("; ");
    assert!(errors.contains("5632 are the most for each origin"), "{errors}");
    assert_eq!(model.slots[&model.bound[&CgroupId(1)]].len(), 1, "the drop-in's deny");
}
