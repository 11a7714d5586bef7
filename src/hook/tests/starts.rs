//! Containers that start, and what becomes of their policies.

use super::*;

#[test]
fn a_container_without_annotation_goes_by_in_silence() {
    let daemon = FakeDaemon::start(Mood::Willing);
    let machine = Machine::new(daemon.address());
    assert_eq!(machine.run(&[("other", "x"), NEEDED]), Outcome::default());
    assert!(daemon.calls().is_empty());
}

const FOR_WEB: (&str, &str) = ("memcg.bpf/policy.web", "deny limit=64M");
const MISSPELT: (&str, &str) = ("memcg.bpf/polcy", "observe");

#[test]
fn a_required_policy_that_may_be_meant_for_this_container_keeps_it_from_starting() {
    let machine = Machine::new(nobody());
    for odd in [&[FOR_WEB, NEEDED][..], &[FOR_WEB, NEEDED, MISSPELT]] {
        let outcome = machine.run(odd);
        assert!(outcome.fail);
        assert_eq!(outcome.container.as_deref(), Some("c1"));
        assert_eq!(
            outcome.notes,
            [
                "container c1: the engine does not say which container of a pod this is, so a memcg.bpf/policy.CONTAINER may be meant for it (memcg.bpf/policy needs no name); it does not start, because memcg.bpf/required is true"
            ]
        );
        assert!(outcome.debug[0].contains("'memcg.bpf/policy.web'"), "{outcome:?}");
    }
    // It has started long ago.
    let stopped = machine.state("stopped", &[FOR_WEB, NEEDED]);
    assert_eq!(run(&stopped, None, &machine.surroundings), Outcome::default());
}

#[test]
fn what_is_odd_is_told_without_a_policy_too_and_keeps_nothing_from_starting() {
    let machine = Machine::new(nobody());
    let unidentified = "container c1: ignoring annotation 'memcg.bpf/policy.web': the engine does not say which container of a pod this is; use memcg.bpf/policy";
    let unknown = "container c1: ignoring annotation 'memcg.bpf/polcy'; there are memcg.bpf/policy, memcg.bpf/policy.CONTAINER and memcg.bpf/required";
    let unclear = "container c1: annotation memcg.bpf/required is 'ture', which is neither true nor false; taken as false";
    let db = ("io.kubernetes.container.name", "db");
    let cases = [
        (vec![FOR_WEB], vec![unidentified]),
        (vec![FOR_WEB, ("memcg.bpf/required", "ture")], vec![unidentified, unclear]),
        (vec![MISSPELT], vec![unknown]),
        (vec![MISSPELT, NEEDED], vec![unknown]),
        // The policy is another container's, and this one is known not to be it.
        (vec![FOR_WEB, NEEDED, db], vec![]),
    ];
    for (annotations, notes) in cases {
        let outcome = machine.run(&annotations);
        assert!(!outcome.fail, "{annotations:?}");
        assert_eq!(outcome.notes, notes, "{annotations:?}");
    }
}

#[test]
fn the_daemon_is_asked_once_and_success_is_silent() {
    let daemon = FakeDaemon::start(Mood::Willing);
    let machine = Machine::new(daemon.address());
    let outcome = machine.run(&[DENY]);
    assert_eq!((outcome.fail, outcome.notes.len(), outcome.container.as_deref()), (false, 0, Some("c1")));
    assert_eq!(outcome.debug, ["container c1: policy 'deny limit=64M' is in force"]);
    assert_eq!(
        daemon.calls(),
        [r#"attach c1 7 'deny limit=64M' cgroups-path=Str("machine.slice:libpod:c1") required=Bool(false)"#]
    );
    assert_eq!(machine.recorded(), None);
}

#[test]
fn an_unreadable_bundle_leaves_the_finding_to_the_daemon() {
    let daemon = FakeDaemon::start(Mood::Willing);
    let machine = Machine::new(daemon.address());
    std::fs::remove_file(machine.dir.path().join("config.json")).unwrap();
    nix::unistd::mkfifo(&machine.dir.path().join("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let outcome = machine.run(&[DENY, NEEDED]);
    assert!(!outcome.fail);
    assert!(outcome.debug[0].ends_with("config.json: not a regular file"), "{outcome:?}");
    assert_eq!(daemon.calls(), ["attach c1 7 'deny limit=64M' required=Bool(true)"]);
}

#[test]
fn the_stage_follows_from_the_state_unless_an_argument_says_it() {
    let daemon = FakeDaemon::start(Mood::Willing);
    let machine = Machine::new(daemon.address());
    for (status, stage) in [
        ("stopped", None),
        ("created", Some(Stage::End)),
        ("stopped", Some(Stage::Start)),
        ("creating", None),
    ] {
        let outcome = run(&machine.state(status, &[DENY]), stage, &machine.surroundings);
        assert!(!outcome.fail && outcome.notes.is_empty(), "{outcome:?}");
    }
    let calls: Vec<String> =
        daemon.calls().iter().map(|call| call.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(calls, ["detach", "detach", "attach", "attach"]);
}

#[test]
fn each_failure_has_its_sentence_and_stops_only_what_is_required() {
    let recorded = "; it starts without a policy, which is recorded on /machine.slice/libpod-c1.scope for memcg-bpfd to adopt";
    let cases: [(Mood, &str, &str); 7] = [
        (
            Mood::Refusing,
            "annotation of container c1, column 0:\\nunknown policy",
            "; it starts without a policy",
        ),
        (Mood::Busy, "too many containers start at once", recorded),
        (Mood::Slow, "memcg-bpfd did not answer within 800ms", recorded),
        (Mood::BusSilent, "memcg-bpfd did not answer within 800ms", recorded),
        (
            Mood::NotInstalled,
            "memcg-bpfd is not running and cannot be started over D-Bus; try: systemctl start memcg-bpfd",
            recorded,
        ),
        (
            Mood::NotForThisUser,
            "the system bus does not let this user ask memcg-bpfd",
            "; it starts without a policy",
        ),
        (
            Mood::OfAnotherVersion,
            "memcg-bpfd does not understand this hook; are they of the same version? (expected (su))",
            "; it starts without a policy",
        ),
    ];
    for (mood, why, consequence) in cases {
        let daemon = FakeDaemon::start(mood);
        let machine = Machine::late(&daemon, mood);
        let outcome = machine.run(&[DENY]);
        assert_eq!(
            (outcome.fail, outcome.notes),
            (false, vec![format!("container c1: {why}{consequence}")]),
            "{mood:?}"
        );
        assert_eq!(machine.recorded().is_some(), consequence == recorded, "{mood:?}");

        let machine = Machine::late(&daemon, mood);
        let outcome = machine.run(&[DENY, NEEDED]);
        let sentence = format!("container c1: {why}; it does not start, because memcg.bpf/required is true");
        assert_eq!((outcome.fail, outcome.notes), (true, vec![sentence]), "{mood:?}");
        assert_eq!(machine.recorded(), None, "{mood:?}: a container that does not start leaves no record");
    }
}

#[test]
fn a_busy_daemon_is_asked_again_until_it_has_time() {
    let daemon = FakeDaemon::start(Mood::BusyAtFirst);
    let machine = Machine::new(daemon.address());
    let outcome = machine.run(&[DENY, NEEDED]);
    assert_eq!((outcome.fail, outcome.notes.len(), daemon.calls().len()), (false, 0, 3), "{outcome:?}");
    assert_eq!(machine.recorded(), None);
}

#[test]
fn without_a_bus_the_request_is_recorded_beside_what_is_there() {
    let machine = Machine::new(nobody());
    let outcome = machine.run(&[DENY]);
    assert_eq!(
        outcome.notes,
        [
            "container c1: there is no system bus at /run/dbus/system_bus_socket (is dbus running?); it starts without a policy, which is recorded on /machine.slice/libpod-c1.scope for memcg-bpfd to adopt"
        ]
    );
    let mut record = machine.recorded().unwrap();
    assert_eq!((record.requests.len(), record.requests[0].location.as_str()), (1, "container c1"));
    // An operator's request is there as well when the hook runs a second time.
    record.requests[0].origin = crate::policy::request::Origin::Operator;
    record.requests[0].container = None;
    machine
        .memory
        .records
        .lock()
        .unwrap()
        .insert("/machine.slice/libpod-c1.scope".into(), record.encode().unwrap());
    machine.run(&[DENY]);
    machine.run(&[DENY]);
    assert_eq!(machine.recorded().unwrap().requests.len(), 2);
}

#[test]
fn what_cannot_be_recorded_is_told_and_does_not_stop_the_container() {
    let note = |machine: &Machine| {
        let outcome = machine.run(&[DENY]);
        assert!(!outcome.fail);
        outcome.notes[0].split("recorded either: ").nth(1).unwrap().to_owned()
    };
    let machine = Machine::with(nobody(), Memory { forbidden: true, ..Memory::default() });
    assert_eq!(
        note(&machine),
        "trusted.memcg_bpf of /machine.slice/libpod-c1.scope: permission denied (root may record, and the owner of a delegated cgroup)"
    );

    // Who owns the cgroup and is not root says what is wished.
    let machine = Machine::with(nobody(), Memory { owner: true, ..Memory::default() });
    assert!(
        machine.run(&[DENY]).notes[0]
            .ends_with("recorded on /machine.slice/libpod-c1.scope for memcg-bpfd to adopt")
    );
    assert_eq!(machine.memory.wishes.lock().unwrap().values().collect::<Vec<_>>(), ["deny limit=64M"]);

    let machine = Machine::new(nobody());
    let newer = br#"{"version":2}"#.to_vec();
    machine.memory.records.lock().unwrap().insert("/machine.slice/libpod-c1.scope".into(), newer.clone());
    assert!(note(&machine).contains("has version 2"));
    assert_eq!(machine.memory.records.lock().unwrap().values().next(), Some(&newer));

    let machine = Machine::new(nobody());
    std::fs::write(machine.surroundings.proc.join("7/cgroup"), "0::/system.slice/podman.service\n").unwrap();
    assert!(
        note(&machine)
            .starts_with("the container's process is in '/system.slice/podman.service', which is not in")
    );
}
