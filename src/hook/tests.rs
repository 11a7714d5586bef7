use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::fake_daemon::{FakeDaemon, Mood};
use super::*;
use crate::source::record::Record;

/// Records in memory: by cgroup, or an error for all.
#[derive(Clone, Default)]
struct Memory {
    records: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    forbidden: bool,
    /// An owner who is not root: wishes instead of records.
    owner: bool,
    wishes: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Records for Memory {
    fn read(&self, cgroup: &CgroupPath) -> io::Result<Option<Vec<u8>>> {
        Ok(self.records.lock().unwrap().get(cgroup.as_str()).cloned())
    }

    fn write(&self, cgroup: &CgroupPath, record: &[u8]) -> io::Result<()> {
        if self.forbidden || self.owner {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.records.lock().unwrap().insert(cgroup.as_str().to_owned(), record.to_vec());
        Ok(())
    }

    fn write_wish(&self, cgroup: &CgroupPath, line: &str) -> io::Result<()> {
        if !self.owner {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.wishes.lock().unwrap().insert(cgroup.as_str().to_owned(), line.to_owned());
        Ok(())
    }
}

/// A machine with one container, c1 with pid 7, whose bundle names its scope.
struct Machine {
    dir: tempfile::TempDir,
    memory: Memory,
    surroundings: Surroundings,
}

impl Machine {
    fn new(bus: String) -> Machine {
        Machine::with(bus, Memory::default())
    }

    /// With a short deadline where the daemon will not answer.
    fn late(daemon: &FakeDaemon, mood: Mood) -> Machine {
        let mut machine = Machine::new(daemon.address());
        if matches!(mood, Mood::Slow | Mood::BusSilent) {
            machine.surroundings.deadline = Duration::from_millis(800);
        }
        // It must have heard an answer, and asks again until then.
        if mood == Mood::Busy {
            machine.surroundings.deadline = Duration::from_secs(3);
        }
        machine
    }

    fn with(bus: String, memory: Memory) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("proc");
        std::fs::create_dir_all(proc.join("7")).unwrap();
        std::fs::write(proc.join("7/cgroup"), "0::/machine.slice/libpod-c1.scope/container\n").unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"linux":{"cgroupsPath":"machine.slice:libpod:c1"}}"#,
        )
        .unwrap();
        let surroundings = Surroundings {
            bus,
            // Long: a busy machine must not decide a test. Those about lateness shorten it.
            deadline: Duration::from_secs(60),
            proc,
            records: Box::new(memory.clone()),
        };
        Machine { dir, memory, surroundings }
    }

    fn state(&self, status: &str, annotations: &[(&str, &str)]) -> Vec<u8> {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        serde_json::json!({"ociVersion": "1.0", "id": "c1", "pid": 7, "bundle": self.dir.path(), "status": status, "annotations": annotations})
            .to_string()
            .into_bytes()
    }

    fn run(&self, annotations: &[(&str, &str)]) -> Outcome {
        run(&self.state("created", annotations), None, &self.surroundings)
    }

    fn recorded(&self) -> Option<Record> {
        self.memory
            .records
            .lock()
            .unwrap()
            .get("/machine.slice/libpod-c1.scope")
            .map(|bytes| Record::parse(bytes).unwrap())
    }
}

const DENY: (&str, &str) = ("memcg.bpf/policy", "deny limit=64M");
const NEEDED: (&str, &str) = ("memcg.bpf/required", "true");

fn nobody() -> String {
    "unix:path=/nonexistent/bus".to_owned()
}

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
    assert!(outcome.debug[0].ends_with("config.json: it is not a regular file"), "{outcome:?}");
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
    assert_eq!((record.requests.len(), record.requests[0].place.as_str()), (1, "container c1"));
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

#[test]
fn an_unreadable_state_never_stops_a_container() {
    let machine = Machine::new(nobody());
    for state in [
        &b""[..],
        b"{",
        b"\xff\xff",
        br#"{"id":"c1"}"#,
        br#"{"id":"../x","status":"created","annotations":{"memcg.bpf/required":"true"}}"#,
    ] {
        let outcome = run(state, None, &machine.surroundings);
        assert!(!outcome.fail);
        assert!(outcome.notes[0].ends_with("; the container goes on without a policy"), "{outcome:?}");
    }
}

#[test]
fn a_start_without_pid_is_a_reason_of_its_own() {
    let machine = Machine::new(nobody());
    let json = br#"{"id":"c1","status":"created","annotations":{"memcg.bpf/policy":"observe"}}"#;
    assert_eq!(
        run(json, None, &machine.surroundings).notes,
        [
            "container c1: the runtime gives no pid at this stage; use the stages createRuntime or prestart; it starts without a policy"
        ]
    );
}

#[test]
fn a_line_that_no_bus_can_carry_is_refused_here() {
    let machine = Machine::new(nobody());
    let outcome = machine.run(&[("memcg.bpf/policy", "deny\0")]);
    assert_eq!(
        outcome.notes,
        ["container c1: the policy line holds a zero byte; it starts without a policy"]
    );
    assert_eq!(machine.recorded(), None);
}

#[test]
fn the_end_never_fails_even_without_daemon() {
    let machine = Machine::new(nobody());
    let outcome = run(&machine.state("stopped", &[DENY, NEEDED]), None, &machine.surroundings);
    assert_eq!((outcome.fail, outcome.notes.len()), (false, 0));
    assert_eq!(machine.recorded(), None);
}

#[test]
fn odd_annotations_are_told_once_at_the_start() {
    let daemon = FakeDaemon::start(Mood::Willing);
    let machine = Machine::new(daemon.address());
    let outcome = machine.run(&[DENY, ("memcg.bpf/required", "maybe")]);
    assert_eq!(
        outcome.notes,
        [
            "container c1: annotation memcg.bpf/required is 'maybe', which is neither true nor false; taken as false"
        ]
    );
    let outcome =
        run(&machine.state("stopped", &[DENY, ("memcg.bpf/required", "maybe")]), None, &machine.surroundings);
    assert!(outcome.notes.is_empty());
}

#[test]
fn a_runtime_that_writes_nothing_is_not_waited_for() {
    let (_writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
    let began = Instant::now();
    let error = read_state(reader, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error, "the runtime did not write the container state to standard input within 50ms");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(read_state(io::Cursor::new(b"{}".to_vec()), STATE_DEADLINE), Ok(b"{}".to_vec()));
    let endless = read_state(io::repeat(b' '), STATE_DEADLINE).unwrap();
    assert_eq!(endless.len(), STATE_MAX + 1);
}

#[test]
fn the_command_line_is_understood() {
    let parse = |args: &[&str]| invocation(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    assert_eq!(parse(&[]), Invocation::Run { stage: None, unknown: None });
    assert_eq!(parse(&["prestart"]), Invocation::Run { stage: Some(Stage::Start), unknown: None });
    assert_eq!(parse(&["createRuntime"]), Invocation::Run { stage: Some(Stage::Start), unknown: None });
    assert_eq!(parse(&["poststop"]), Invocation::Run { stage: Some(Stage::End), unknown: None });
    assert_eq!(parse(&["x"]), Invocation::Run { stage: None, unknown: Some("x".into()) });
    assert_eq!(parse(&["x", "--help"]), Invocation::Help);
    assert_eq!(parse(&["-V"]), Invocation::Version);
}

#[test]
fn long_ids_are_shown_as_engines_show_them() {
    assert_eq!(about(&"1f".repeat(32), "x"), "container 1f1f1f1f1f1f: x");
    assert_eq!(about("mine", "x"), "container mine: x");
}

#[test]
fn the_hook_file_is_what_engines_accept() {
    let text = include_str!("../../oci-hooks/90-memcg-bpf.json");
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["version"], "1.0.0");
    assert_eq!(json["hook"]["path"], "/usr/libexec/oci/hooks.d/memcg-bpf-hook");
    // Both waits of ours must end before the engine kills the hook and with it the container.
    let timeout = Duration::from_secs(json["hook"]["timeout"].as_u64().unwrap());
    assert!(timeout >= STATE_DEADLINE + call::DEADLINE + Duration::from_secs(2));
    // podman runs a hook under createRuntime and prestart twice.
    assert_eq!(json["stages"], serde_json::json!(["createRuntime", "poststop"]));
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["hook", "stages", "version", "when"]);
}

#[test]
fn the_hook_files_condition_matches_our_annotations_and_nothing_else() {
    let json: serde_json::Value =
        serde_json::from_str(include_str!("../../oci-hooks/90-memcg-bpf.json")).unwrap();
    let conditions = json["when"]["annotations"].as_object().unwrap();
    let (key, value) = conditions.iter().next().unwrap();
    assert_eq!((conditions.len(), json["when"].as_object().unwrap().len()), (1, 1));
    // Go's regular expressions and this crate's are of one family (RE2), and both search when not anchored.
    let (key, value) = (regex::Regex::new(key).unwrap(), regex::Regex::new(value.as_str().unwrap()).unwrap());
    for name in ["memcg.bpf/policy", "memcg.bpf/policy.web", "memcg.bpf/policy.web-1", "memcg.bpf/policy.0"] {
        assert!(key.is_match(name), "{name}");
    }
    for name in [
        "memcg.bpf/required",
        "memcg.bpf/policyx",
        "memcgxbpf/policy",
        "a.memcg.bpf/policy",
        "memcg.bpf/policy.",
        "memcg.bpf/policy.a/b",
        "memcg.bpf/policy x",
        "",
    ] {
        assert!(!key.is_match(name), "{name}");
    }
    assert!(value.is_match("") && value.is_match("deny limit=64M"));
}
