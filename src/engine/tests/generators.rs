//! Property tests with generated inputs.

use super::*;

fn any_input() -> impl Strategy<Value = Input> {
    let line = prop::sample::select(vec![
        "deny limit=1M",
        "deny limit=2M",
        "observe",
        "none",
        "",
        "bad x=1",
        "deny limit=1M; observe",
    ]);
    let origin =
        prop::sample::select(vec![Origin::DropIn, Origin::Xattr, Origin::Annotation, Origin::Operator]);
    let id = 1u64..5;
    prop_oneof![
        (id.clone(), origin.clone(), line.clone()).prop_map(|(id, origin, line)| ask(id, origin, line)),
        (id.clone(), origin).prop_map(|(id, origin)| Input::Withdraw { cgroup: CgroupId(id), origin }),
        id.clone().prop_map(|id| Input::CgroupRemoved(CgroupId(id))),
        (prop::option::of(10u64..13), prop::option::of(line)).prop_map(|(id, line)| unit(
            "x.service",
            id,
            line
        )),
        prop::option::of(Just("observe")).prop_map(|line| unit("y.service", None, line)),
        Just(Input::UnitUnloaded(UnitName::parse("y.service").unwrap())),
        any::<bool>().prop_map(Input::ReportAllCgroups),
        prop::sample::select(vec![("0", vec!["deny"]), ("0", vec![]), ("4096", vec!["deny", "observe"])])
            .prop_map(|(min, replaced)| renew(min, &replaced)),
    ]
}

/// True if the requests for a cgroup result in a policy.
fn wants_something(engine: &Engine, id: CgroupId) -> bool {
    engine.cgroups.get(id).is_some_and(|c| !engine.config.resolve(&c.requests).policies.is_empty())
}

proptest! {
    #[test]
    fn few_slots_keep_attached_policies_and_pend_only_if_full(
        most in 1u32..4,
        inputs in prop::collection::vec(any_input(), 0..40),
    ) {
        let (mut engine, mut model) = (Engine::with_slots(config(), most), Model::default());
        for input in inputs {
            let before = model.clone();
            run(&mut engine, &mut model, input);
            for id in before.bound.keys() {
                prop_assert!(!wants_something(&engine, *id) || model.bound.contains_key(id), "{id:?} lost its binding");
            }
            let waits = engine.cgroups.all().any(|c| c.pending) || engine.units.all().any(|u| u.pending);
            prop_assert!(!waits || model.slots.len() == most as usize, "a slot is free and a request is pending");
            let active: BTreeSet<u64> =
                engine.report_all().iter().filter(|r| r.state == "active").map(|r| r.cgroup_id).collect();
            prop_assert_eq!(active, model.bound.keys().map(|id| id.0).collect::<BTreeSet<_>>());
        }
        run(&mut engine, &mut model, Input::Shutdown);
        (model.records, model.failed) = (BTreeMap::new(), 0);
        prop_assert_eq!(model, Model::default());
    }

    #[test]
    fn invariants_hold_for_any_history(inputs in prop::collection::vec(any_input(), 0..40)) {
        let (mut engine, mut model) = (Engine::new(config()), Model::default());
        for input in inputs {
            run(&mut engine, &mut model, input.clone());
            // The same input twice changes nothing the second time.
            let before = model.clone();
            run(&mut engine, &mut model, input);
            prop_assert_eq!(&before.bound, &model.bound);
            prop_assert_eq!(&before.slots, &model.slots);
            prop_assert_eq!(model.failed, 0);
            // Exactly the cgroups that are reported as active are bound.
            let active: BTreeSet<u64> =
                engine.report_all().iter().filter(|r| r.state == "active").map(|r| r.cgroup_id).collect();
            prop_assert_eq!(active, model.bound.keys().map(|id| id.0).collect::<BTreeSet<_>>());
        }
        run(&mut engine, &mut model, Input::Shutdown);
        model.records.clear(); // records are removed with their cgroups
        prop_assert_eq!(model, Model::default());
    }
}
