//! One promise each.

use super::*;

#[test]
fn an_object_that_replaces_another_has_all_its_parameters_and_whoever_is_bound_is_bound_again() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, ask(1, Origin::Operator, "deny limit=1M; observe"));
    run(&mut world, &mut model, ask(2, Origin::Operator, "observe"));
    run(&mut world, &mut model, unit("x.service", None, Some("deny limit=1M")));
    let before = model.clone();
    let effects = world.step(renew("0", &["deny"]));
    let kinds = |wanted: fn(&Effect) -> bool| effects.iter().filter(|e| wanted(e)).count();
    assert_eq!(kinds(|e| matches!(e, Effect::RewriteParams { policies, .. } if policies.len() == 1)), 2);
    assert_eq!(kinds(|e| matches!(e, Effect::Bind { cgroup: CgroupId(1), .. })), 1);
    assert_eq!(
        kinds(|e| matches!(e, Effect::Bind { .. } | Effect::Attached { .. } | Effect::Detached { .. })),
        1
    );
    assert_eq!(kinds(|e| matches!(e, Effect::WriteParams { .. } | Effect::ClearSlot { .. })), 0);
    model.perform(effects);
    assert_eq!(model, before);
}

#[test]
fn what_means_something_else_now_is_moved() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, ask(1, Origin::Operator, "deny limit=1M"));
    run(&mut world, &mut model, unit("x.service", None, Some("deny limit=1M")));
    let before = model.clone();
    run(&mut world, &mut model, renew("4096", &["deny"]));
    assert_ne!(model.bound, before.bound);
    assert_ne!(model.registered, before.registered);
    assert_eq!(model.slots.len(), 1);
    let mut gone = means();
    gone.catalog.policies.remove("deny");
    run(&mut world, &mut model, Input::Reload { config: gone, replaced: BTreeSet::new() });
    assert_eq!((model.bound.len(), model.registered.len(), model.slots.len()), (0, 0, 0));
    assert_eq!(world.report_all()[0].state, "invalid");
    run(&mut world, &mut model, renew("0", &[]));
    assert_eq!((&model.bound.len(), &model.registered.len()), (&1, &1));
}

#[test]
fn the_highest_origin_wins_and_the_lower_one_returns() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, ask(1, Origin::DropIn, "deny limit=1M"));
    run(&mut world, &mut model, ask(1, Origin::Operator, "deny limit=2M"));
    let limit = |model: &Model| model.slots[&model.bound[&CgroupId(1)]][0].1[..8].to_vec();
    assert_eq!(limit(&model), (2u64 << 20).to_ne_bytes());
    run(&mut world, &mut model, Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Operator });
    assert_eq!(limit(&model), (1u64 << 20).to_ne_bytes());
}

#[test]
fn a_registered_slot_is_the_one_the_cgroup_gets() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, unit("x.service", None, Some("deny limit=1M")));
    let at = path("/system.slice/x.service");
    let slot = model.registered[&at];
    model.bound.insert(CgroupId(7), slot); // by the kernel
    run(&mut world, &mut model, Input::CgroupCreated { cgroup: CgroupId(7), path: at.clone(), bound: true });
    assert_eq!(model.bound[&CgroupId(7)], slot);
    assert!(model.records.contains_key(&at));
    // The unit stops and starts again: the registration is still there.
    run(&mut world, &mut model, Input::CgroupRemoved(CgroupId(7)));
    assert_eq!(model.registered[&at], slot);
    assert_eq!(world.report_all()[0].state, "registered");
}

#[test]
fn what_the_kernel_bound_for_a_registration_that_is_gone_is_unbound() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, unit("x.service", None, Some("deny limit=1M")));
    run(&mut world, &mut model, Input::UnitUnloaded(UnitName::parse("x.service").unwrap()));
    model.bound.insert(CgroupId(7), 0); // by the kernel, a moment before
    let at = path("/system.slice/x.service");
    run(&mut world, &mut model, Input::CgroupCreated { cgroup: CgroupId(7), path: at, bound: true });
    assert_eq!(model, Model::default());
}

#[test]
fn with_all_slots_taken_the_asker_hears_of_it_and_what_was_in_force_stays() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    for id in 1..=u64::from(slots::SLOTS) {
        run(&mut world, &mut model, ask(id, Origin::Operator, &format!("deny limit={}", 65536 + id)));
    }
    assert_eq!((model.bound.len(), model.failed), (4096, 0));
    let before = model.clone();
    let effects = world.step(ask(7, Origin::Operator, "deny limit=1M"));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Detached { .. } | Effect::Unbind { .. })));
    model.perform(effects);
    assert_eq!((&model.bound, &model.slots, model.failed), (&before.bound, &before.slots, 1));
    let report = world.report_path(&path("/c7")).unwrap();
    assert_eq!((report.state.as_str(), report.errors), ("active", vec![slots::PENDING_MSG.to_owned()]));
    assert_eq!(report.policies[0].parameters["limit"], "65543");
    assert_eq!(report.requests[0].line, "deny limit=1M");
    // A slot for it, and in force it is.
    run(&mut world, &mut model, Input::CgroupRemoved(CgroupId(8)));
    let report = world.report_path(&path("/c7")).unwrap();
    assert_eq!((report.policies[0].parameters["limit"].as_str(), report.errors), ("1M", vec![]));
    assert_eq!(model.slots[&model.bound[&CgroupId(7)]][0].1[..8], (1u64 << 20).to_ne_bytes());
}

#[test]
fn a_changed_drop_in_without_a_slot_leaves_registration_and_binding_as_they_are() {
    let (mut world, mut model) = (Engine::with_slots(means(), 2), Model::default());
    let at = path("/system.slice/x.service");
    run(&mut world, &mut model, unit("x.service", None, Some("deny limit=1M")));
    run(&mut world, &mut model, ask(1, Origin::Operator, "observe"));
    run(&mut world, &mut model, unit("x.service", None, Some("deny limit=2M")));
    assert_eq!((model.registered.get(&at), model.failed), (Some(&0), 1));
    // Its cgroup appears, and the kernel gives it what is registered.
    model.bound.insert(CgroupId(9), 0);
    run(&mut world, &mut model, Input::CgroupCreated { cgroup: CgroupId(9), path: at.clone(), bound: true });
    assert_eq!(model.bound[&CgroupId(9)], 0);
    assert_eq!(world.report_path(&at).unwrap().policies[0].parameters["limit"], "1M");
    // The operator's is given up: registration and cgroup move together.
    run(&mut world, &mut model, Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Operator });
    assert_eq!(model.registered[&at], model.bound[&CgroupId(9)]);
    assert_eq!(world.report_path(&at).unwrap().policies[0].parameters["limit"], "2M");
    assert!(world.report_all().iter().all(|report| report.errors.is_empty()));
}

#[test]
fn a_bad_line_is_refused_whole_and_said_while_others_stand() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, ask(1, Origin::DropIn, "observe"));
    let effects = world.step(ask(1, Origin::Annotation, "deny limt=1M"));
    assert!(effects.iter().any(|e| matches!(e, Effect::Warn { .. })));
    model.perform(effects);
    assert_eq!(model.slots[&model.bound[&CgroupId(1)]][0].0, "observe");
    assert!(!world.report_all()[0].errors.is_empty());
}

#[test]
fn a_cgroup_with_nothing_in_force_is_named_so_that_its_end_can_be_noticed() {
    let mut world = Engine::new(means());
    for (id, line) in [(1, "deny limit=1M"), (2, "dney"), (3, "none")] {
        world.step(ask(id, Origin::Annotation, line));
    }
    assert_eq!(world.without_binding(), [(CgroupId(2), path("/c2")), (CgroupId(3), path("/c3"))]);
    assert_eq!(world.step(Input::CgroupRemoved(CgroupId(2))), vec![]);
    assert_eq!(world.without_binding(), [(CgroupId(3), path("/c3"))]);
}

#[test]
fn a_path_of_two_thousand_levels_is_looked_at_once_and_names_what_governs_it_nearest_first() {
    let mut world = Engine::new(means());
    for (id, at, line) in [
        (1, "/a", "observe"),
        (2, "/a/a", "none"),
        (3, "/a/a/a", "deny limit=1M; observe"),
        (4, "/a/ab", "observe"),
    ] {
        let request = request(Origin::Operator, line);
        world.step(Input::Request { cgroup: CgroupId(id), path: path(at), request });
    }
    for id in 100..5_000 {
        world.step(ask(id, Origin::Annotation, "none"));
    }
    let deep = path(&"/a".repeat(2_000));
    let (top, third) = (path("/a"), path("/a/a/a"));
    assert_eq!(world.bound_ancestors(&deep), [(&third, vec!["deny", "observe"]), (&top, vec!["observe"])]);
    assert_eq!(world.bound_ancestors(&third), [(&top, vec!["observe"])]);
    assert_eq!(world.report_path(&deep), None);
    // Against each other, so that a busy machine does not decide: neither describes everybody, be it once for each level.
    let time = |times: usize, act: &dyn Fn()| {
        let began = std::time::Instant::now();
        (0..times).for_each(|_| act());
        began.elapsed()
    };
    let describing = time(50, &|| drop(world.report_all()));
    assert!(time(1, &|| drop(world.bound_ancestors(&deep))) < describing);
    assert!(time(100, &|| drop(world.report_path(&deep))) < describing);
}

#[test]
fn one_path_is_described_as_it_is_among_all() {
    let mut world = Engine::new(means());
    world.step(ask(1, Origin::Annotation, "none"));
    world.step(ask(2, Origin::Annotation, "dney"));
    world.step(unit("there.service", Some(9), Some("deny limit=1M")));
    world.step(unit("waits.service", None, Some("deny limit=1M")));
    let all = world.report_all();
    assert_eq!(all.len(), 4);
    for report in all {
        assert_eq!(world.report_path(&path(&report.cgroup)), Some(report));
    }
}

#[test]
fn a_line_counts_against_its_owner_whatever_comes_of_it_until_it_is_taken_back_or_the_cgroup_is_gone() {
    let mut world = Engine::new(means());
    for (id, line) in [(1, "observe"), (2, "none"), (3, "dney"), (4, "none")] {
        world.step(ask(id, Origin::Xattr, line));
    }
    assert_eq!(world.count_requests_below("/c", CgroupId(9)), 4);
    assert_eq!(world.count_requests_below("/c", CgroupId(2)), 3, "but for the one that is asked for");
    assert_eq!(world.count_requests_below("/d", CgroupId(9)), 0, "elsewhere");
    world.step(Input::Withdraw { cgroup: CgroupId(2), origin: Origin::Xattr });
    world.step(Input::CgroupRemoved(CgroupId(4)));
    assert_eq!(world.count_requests_below("/c", CgroupId(9)), 2);
    world.step(Input::Withdraw { cgroup: CgroupId(1), origin: Origin::Xattr });
    world.step(Input::Withdraw { cgroup: CgroupId(3), origin: Origin::Xattr });
    assert_eq!(world.count_requests_below("/c", CgroupId(9)), 0);
}

#[test]
fn a_lost_drop_in_ends_the_binding_and_the_registration() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, unit("x.service", Some(9), Some("deny limit=1M")));
    run(&mut world, &mut model, unit("x.service", Some(9), None));
    assert_eq!(model, Model::default());
}

#[test]
fn stopping_leaves_nothing() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, unit("x.service", Some(9), Some("deny limit=1M")));
    run(&mut world, &mut model, ask(1, Origin::Annotation, "observe"));
    run(&mut world, &mut model, Input::ReportAllCgroups(true));
    run(&mut world, &mut model, Input::Shutdown);
    assert_eq!(model, Model::default());
}

#[test]
fn what_was_recorded_is_what_is_adopted() {
    let (mut world, mut model) = (Engine::new(means()), Model::default());
    run(&mut world, &mut model, ask(1, Origin::Annotation, "deny limit=3M"));
    run(&mut world, &mut model, ask(1, Origin::DropIn, "observe"));
    let records = model.records.clone();
    let (mut again, mut fresh) = (Engine::new(means()), Model::default());
    for (path, requests) in records {
        run(&mut again, &mut fresh, Input::Adopt { cgroup: CgroupId(1), path, requests });
    }
    assert_eq!(world.report_all(), again.report_all());
}
