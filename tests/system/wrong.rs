//! Wrong inputs, end to end: each is answered with its exact sentence, changes nothing, and stops no container unless
//! the container itself requires its policy.

use std::fs;

use crate::support::{
    HOOK, PROGRAMS, Said, Scene, active, daemon_runs, first_line, governed_records, refused_at, sh, status,
    try_sh, unit_in_state, wait_for, while_it_stands_still,
};

const CALL: &str = "busctl call org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager";

/// What busctl says of a method's error.
fn refusal(said: &Said) -> &str {
    assert_ne!(said.status, 0, "{}", said.out);
    said.err.strip_prefix("Call failed: ").unwrap_or(&said.err)
}

/// Sentences that are not the ones expected, all told at the end.
#[derive(Default)]
struct Sentences {
    wrong: String,
    compared: usize,
}

impl Sentences {
    fn compare(&mut self, what: &str, said: &str, wanted: &str) {
        self.compared += 1;
        if said != wanted {
            self.wrong += &format!("{what:.120}\n  said: {said}\n  not:  {wanted}\n");
        }
    }

    /// At least so many, so that a table that lost its rows does not pass.
    fn end(self, at_least: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong);
        assert!(self.compared >= at_least, "{} sentences", self.compared);
    }
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn wrong_arguments_are_answered_with_what_is_wrong_with_them() {
    let mut scene = Scene::new("arguments");
    let long_line = format!("Attach ss /system.slice 'deny {}'", "x".repeat(5000));
    let long_annotation = format!("AttachContainer 'susa{{sv}}' x 1 'deny {}' 0", "x".repeat(5000));
    let long_path = format!("Attach ss /{} observe", "x".repeat(5000));
    let long_path_sentence = format!("'/{}…' is not a cgroup path: longer than 4095 bytes", "x".repeat(79));
    let long_option =
        format!("AttachContainer 'susa{{sv}}' x 1 observe 1 cgroups-path s /{}", "x".repeat(5000));
    // Below a cgroup that hands no controllers down, and deeper than programs look.
    let deep = format!("/mpdeep{}", "/d".repeat(32));
    let deep_sentence = format!(
        "{deep} is 33 levels deep; cgroups down to level 32 can be governed, and policies on them hold for everything below"
    );
    sh(&format!("mkdir -p /sys/fs/cgroup{deep}"));
    scene.at_end("find /sys/fs/cgroup/mpdeep -depth -type d -exec rmdir {} \\;".to_owned());
    let mut sentences = Sentences::default();
    for (call, sentence) in [
        ("Attach ss system.slice observe", "'system.slice' is not a cgroup path: it does not start with '/'"),
        (
            "Attach ss /a/../.. observe",
            "'/a/../..' is not a cgroup path: it has an empty, '.' or '..' component",
        ),
        ("Attach ss /a//b observe", "'/a//b' is not a cgroup path: it has an empty, '.' or '..' component"),
        ("Attach ss '' observe", "'' is not a cgroup path: it does not start with '/'"),
        ("Attach ss / observe", "the root cgroup cannot be governed; name a cgroup below it"),
        ("Attach ss /init.scope observe", "/init.scope is PID 1's own cgroup and is never governed"),
        (
            "Attach ss /system.slice/memcg-bpfd.service observe",
            "/system.slice/memcg-bpfd.service is memcg-bpfd's own cgroup and is never governed",
        ),
        ("Attach ss /no/such observe", "there is no cgroup /no/such"),
        (
            "Attach ss /mpdeep/d observe",
            "/mpdeep/d has no memory controller: enable it in its parent (echo +memory > cgroup.subtree_control), or set MemoryAccounting=yes on the unit",
        ),
        (&format!("Attach ss {deep} observe"), &deep_sentence),
        (&long_path, &long_path_sentence),
        (&long_line, "the policy line has 5005 bytes; at most 4096 are allowed"),
        (
            "Attach ss /system.slice 'dney limit=64M'",
            "operator uid 0, column 1: unknown policy 'dney'; did you mean 'deny'?",
        ),
        (
            "Attach ss /system.slice 'deny limt=64M'",
            "operator uid 0, column 6: unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?",
        ),
        ("Detach s /", "the root cgroup cannot be governed; name a cgroup below it"),
        ("Detach s /no/such", "there is no cgroup /no/such"),
        ("Detach s /system.slice", "no policy was asked for on /system.slice"),
        ("Explain s no", "'no' is not a cgroup path: it does not start with '/'"),
        ("Explain s /no/such", "there is no cgroup /no/such"),
        ("DetachContainer s ''", "'' is not a container id: it is empty"),
        (
            "AttachContainer 'susa{sv}' ../x 1 observe 0",
            "'../x' is not a container id: it starts with '-' or '.'",
        ),
        ("AttachContainer 'susa{sv}' x 0 observe 0", "0 is not the id of a process"),
        ("AttachContainer 'susa{sv}' x 4294967295 observe 0", "4294967295 is not the id of a process"),
        (
            "AttachContainer 'susa{sv}' x 4194304 observe 0",
            "container x: process 4194304 cannot be examined: No such file or directory (os error 2)",
        ),
        (&long_annotation, "the policy line has 5005 bytes; at most 4096 are allowed"),
        (
            "AttachContainer 'susa{sv}' x 1 observe 0",
            "container x: the container's process is in '/init.scope', no part of which is named after container x, and the bundle has no linux.cgroupsPath",
        ),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 colour s red",
            "unknown option 'colour'; valid are 'cgroups-path' (s) and 'required' (b)",
        ),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 required s yes",
            "option 'required' must be a boolean (b), not of type 's'",
        ),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 cgroups-path b true",
            "option 'cgroups-path' must be a string (s), not of type 'b'",
        ),
        (&long_option, "option 'cgroups-path' has 5001 bytes; at most 4095 are possible"),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 cgroups-path s /elsewhere",
            "container x: the container's process is in '/init.scope', which is not in '/elsewhere' as linux.cgroupsPath of the bundle says; the runtime has not moved it there, or runs without cgroups",
        ),
    ] {
        sentences.compare(call, refusal(&try_sh(&format!("{CALL} {call}"))), sentence);
    }
    sentences.end(31);
    assert_eq!(status(), []);
    scene.end();
}

/// The container's state as a runtime writes it, with these annotations.
fn state(pid: &str, annotations: &str) -> String {
    format!(
        r#"{{"ociVersion":"1.0.2","id":"mphook",{pid}"status":"created","bundle":"/no/bundle","annotations":{{{annotations}}}}}"#
    )
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_wrong_container_state_is_told_in_one_line_and_stops_only_what_requires_its_policy() {
    let mut scene = Scene::new("hook");
    sh(
        "mkdir /sys/fs/cgroup/mphook; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > /sys/fs/cgroup/mphook/cgroup.procs",
    );
    scene.at_end(
        "echo 1 > /sys/fs/cgroup/mphook/cgroup.kill; until rmdir /sys/fs/cgroup/mphook; do sleep 0.1; done"
            .to_owned(),
    );
    let pid = sh("cat /sys/fs/cgroup/mphook/cgroup.procs");
    let pid = format!("\"pid\":{pid},");
    let policy = |line: &str| state(&pid, &format!(r#""memcg.bpf/policy":"{line}""#));
    let required =
        |line: &str| state(&pid, &format!(r#""memcg.bpf/policy":"{line}","memcg.bpf/required":"true""#));
    let long = format!("observe {}", "x".repeat(5000));
    let huge = format!("{}{}", " ".repeat(1 << 20), state("", ""));
    let file = scene.dir.join("state");
    let mut sentences = Sentences::default();
    for (argument, json, status, sentence) in [
        (
            "",
            String::new(),
            0,
            "the container state is empty; this program is called by an OCI runtime, which writes the state to its standard input; the container goes on without a policy",
        ),
        (
            "",
            "{".to_owned(),
            0,
            "the container state is not that of the OCI runtime specification: EOF while parsing an object at line 1 column 1; the container goes on without a policy",
        ),
        (
            "",
            "[]".to_owned(),
            0,
            "the container state is not that of the OCI runtime specification: invalid length 0, expected struct Presence with 1 element at line 1 column 2; the container goes on without a policy",
        ),
        ("", "{}".to_owned(), 0, "the container state has no status; the container goes on without a policy"),
        (
            "",
            r#"{"ociVersion":"1.0.2","id":"mphook","pid":1}"#.to_owned(),
            0,
            "the container state has no status; the container goes on without a policy",
        ),
        (
            "",
            r#"{"ociVersion":"1.0.2","id":"../x","status":"created","pid":1}"#.to_owned(),
            0,
            "the container state has no usable id: '../x' is not a container id: it starts with '-' or '.'; the container goes on without a policy",
        ),
        (
            "",
            r#"{"ociVersion":"1.0.2","id":"x","status":"odd","pid":1}"#.to_owned(),
            0,
            "the container state is not that of the OCI runtime specification: unknown variant `odd`, expected one of `creating`, `created`, `running`, `stopped` at line 1 column 45; the container goes on without a policy",
        ),
        (
            "",
            huge,
            0,
            "the container state is longer than 1048576 bytes; the container goes on without a policy",
        ),
        (
            "startContainer",
            state(&pid, ""),
            0,
            "ignoring argument 'startContainer'; the stages are prestart, createRuntime and poststop",
        ),
        (
            "createRuntime",
            state("", r#""memcg.bpf/policy":"observe""#),
            0,
            "container mphook: the runtime gives no pid at this stage; use the stages createRuntime or prestart; it starts without a policy",
        ),
        (
            "createRuntime",
            state("\"pid\":4194304,", r#""memcg.bpf/policy":"observe""#),
            0,
            "container mphook: container mphook: process 4194304 cannot be examined: No such file or directory (os error 2); it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny"),
            0,
            "container mphook: annotation of container mphook, column 1: parameter 'limit' of policy 'deny' must be given; it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny limt=64M"),
            0,
            "container mphook: annotation of container mphook, column 6: unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?; it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny limit=64M; dney"),
            0,
            "container mphook: annotation of container mphook, column 17: unknown policy 'dney'; did you mean 'deny'?; it starts without a policy",
        ),
        (
            "createRuntime",
            policy("deny\\u0000"),
            0,
            "container mphook: the policy line holds a zero byte; it starts without a policy",
        ),
        (
            "createRuntime",
            policy(&long),
            0,
            "container mphook: the policy line has 5008 bytes; at most 4096 are allowed; it starts without a policy",
        ),
        (
            "createRuntime",
            required("dney limit=1M"),
            1,
            "container mphook: annotation of container mphook, column 1: unknown policy 'dney'; did you mean 'deny'?; it does not start, because memcg.bpf/required is true",
        ),
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/polcy":"observe""#),
            0,
            "container mphook: ignoring annotation 'memcg.bpf/polcy'; there are memcg.bpf/policy, memcg.bpf/policy.CONTAINER and memcg.bpf/required",
        ),
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/policy":"dney","memcg.bpf/required":"maybe""#),
            0,
            "container mphook: annotation memcg.bpf/required is 'maybe', which is neither true nor false; taken as false; container mphook: annotation of container mphook, column 1: unknown policy 'dney'; did you mean 'deny'?; it starts without a policy",
        ),
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/policy.web":"observe""#),
            0,
            "container mphook: ignoring annotation 'memcg.bpf/policy.web': the engine does not say which container of a pod this is; use memcg.bpf/policy",
        ),
        (
            "createRuntime",
            state(&pid, r#""memcg.bpf/policy.web":"observe","memcg.bpf/required":"true""#),
            1,
            "container mphook: the engine does not say which container of a pod this is, so a memcg.bpf/policy.CONTAINER may be meant for it (memcg.bpf/policy needs no name); it does not start, because memcg.bpf/required is true",
        ),
    ] {
        fs::write(&file, &json).unwrap();
        let said = try_sh(&format!("{HOOK} {argument} < {}", file.display()));
        let wanted = format!("memcg-bpf-hook: {sentence} (exit {status})");
        sentences.compare(&json, &format!("{} (exit {})", said.err, said.status), &wanted);
    }
    let said = try_sh(&format!("sleep 6 | {HOOK} createRuntime"));
    let wanted = "memcg-bpf-hook: the runtime did not write the container state to standard input within 2s; the container goes on without a policy";
    sentences.compare("nothing for 6 s", &said.err, wanted);
    sentences.end(22);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn nobody_but_root_may_ask_for_anything() {
    let scene = Scene::new("unprivileged");
    for call in ["List", "Policies", "Attach ss /system.slice observe", "Detach s /system.slice"] {
        let said = try_sh(&format!("runuser -u nobody -- {CALL} {call}"));
        assert!(refusal(&said).contains("uid 65534 may not "), "{call}: {}", said.err);
    }
    let said = try_sh("runuser -u nobody -- memcg-bpf status");
    assert!(said.status != 0 && said.err.contains("sudo"), "{said:?}");
    assert_eq!(status(), []);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_with_a_wrong_annotation_starts_and_explain_says_why_nothing_governs_it() {
    let mut scene = Scene::new("annotation");
    let eat = format!("{PROGRAMS}/eat 100 > /out/eat; sleep 1000");
    let id = scene.podman_id("mistaken", "--annotation memcg.bpf/policy=\"deny limt=64M\"", &eat);
    assert_eq!(first_line(&scene.dir.join("eat")), "reached 100 MiB");
    let explained = sh(&format!("memcg-bpf explain {id}"));
    let sentence = "unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?";
    let flat = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(sentence), "{explained}");
    assert!(sh("journalctl -t memcg-bpf-hook -o cat --no-pager").contains(sentence));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_that_requires_its_policy_does_not_start_without_it() {
    let mut scene = Scene::new("required");
    let required = "--annotation memcg.bpf/required=true --annotation memcg.bpf/policy";
    let said = scene.podman("wrong", &format!("{required}=\"deny limt=64M\""), "sleep 1000");
    assert_ne!(said.status, 0);
    let why = "did you mean 'limit'?; it does not start, because memcg.bpf/required is true";
    assert!(sh("journalctl -t memcg-bpf-hook -o cat --no-pager").contains(why));

    // runc tells what the hook said.
    let bundle = scene
        .bundle("wrong-runc")
        .annotation("memcg.bpf/policy", "nosuch")
        .annotation("memcg.bpf/required", "true");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/wrong-runc");
    let said = scene.run_bundle("runc", &bundle, "sleep 1000");
    assert!(said.status != 0 && said.err.contains("unknown policy 'nosuch'"), "{said:?}");
    scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());

    sh("systemctl mask --runtime memcg-bpfd; systemctl stop memcg-bpfd");
    scene.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    let said = scene.podman("absent", &format!("{required}=\"deny limit=64M\""), "sleep 1000");
    assert_ne!(said.status, 0, "it must not start without the daemon either");
    sh("systemctl unmask --runtime memcg-bpfd");
    daemon_runs();
    assert_eq!(status(), []);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_daemon_that_hangs_holds_no_container_up() {
    let mut scene = Scene::new("hanging");
    let eat = format!("until [ -e /out/go ]; do sleep 0.2; done; {PROGRAMS}/eat 100 hold > /out/eat");
    let bundle = scene.bundle("patient").annotation("memcg.bpf/policy", "deny limit=40M");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/patient");
    while_it_stands_still(&mut scene, |scene| {
        let said = scene.run_bundle("crun", &bundle, &eat);
        scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
        assert_eq!(said.status, 0, "{}", said.err);
        assert_eq!(governed_records(), ["/bundles/patient"]);
        assert!(
            sh("journalctl -t memcg-bpf-hook -o cat --no-pager")
                .contains("recorded on /bundles/patient for memcg-bpfd to adopt")
        );
    });
    // The caller has gone when it comes to the call, so it looks for what is recorded.
    active("/bundles/patient");
    fs::write(scene.dir.join("go"), "").unwrap();
    refused_at(&first_line(&scene.dir.join("eat")), 40);
    scene.end();
}

/// What the daemon told on a unit, each sentence once.
fn told_on(unit: &str) -> Vec<String> {
    let told = sh(&format!("journalctl -q -t memcg-bpfd OBJECT_SYSTEMD_UNIT={unit} -o cat --no-pager"));
    let mut told: Vec<String> = told.lines().map(str::to_owned).collect();
    told.sort();
    told.dedup();
    told
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_wrong_line_in_a_unit_file_is_told_in_the_units_journal() {
    let mut scene = Scene::new("unit-file");
    // The drop-in, and what is told: what is wrong in a line comes after the cgroup and the line's place.
    let line = |line: &str| format!("[Service]\nX-MemoryBPFPolicy={line}\n");
    let cases = [
        (line("deny"), "column 1: parameter 'limit' of policy 'deny' must be given"),
        (
            line("deny limit=64Q"),
            "column 12: '64Q' is not valid for parameter 'limit' of policy 'deny': its suffix 'Q' is unknown; valid: sizes such as 4096, 64K or 1.5G, and percentages such as 0.5% or 90%",
        ),
        (
            line("deny limit=120%"),
            "column 12: '120%' is not valid for parameter 'limit' of policy 'deny': it is more than 100%; valid: sizes such as 4096, 64K or 1.5G, and percentages such as 0.5% or 90%",
        ),
        (
            line("deny limit=10K"),
            "column 12: '10K' is out of range for parameter 'limit' of policy 'deny'; valid: values of at least 64K",
        ),
        (line("deny limit=64M limit=32M"), "column 16: parameter 'limit' of policy 'deny' is given twice"),
        (
            line("deny limit=64M mode=dry"),
            "column 21: 'dry' is not valid for parameter 'mode' of policy 'deny': no such choice; did you mean 'dry-run'?",
        ),
        (
            line("deny limit=64M cache"),
            "column 16: 'cache' is not written key=value; a further policy needs a ';' before it",
        ),
        (line("deny limit=\"64M"), "column 12: the quote \" is never closed"),
        (line("observe; observe"), "column 10: policy 'observe' stands twice in this line"),
        (line("observe x=1"), "column 9: unknown parameter 'x' of policy 'observe'; valid: mode"),
        (line("none; observe"), "column 1: 'none' stands alone in a line, without other policies"),
        (line("Deny limit=64M"), "column 1: unknown policy 'Deny'; did you mean 'deny'?"),
        (
            line("deny limit=%q"),
            "column 12: '%q' is not valid for parameter 'limit' of policy 'deny': it does not start with a digit; valid: sizes such as 4096, 64K or 1.5G, and percentages such as 0.5% or 90%\nFILE:2: specifier '%q' is not known here; the known ones are %n %N %p %P %i %I %j %J %H %l %m %b %v and %%",
        ),
        (
            "[Unit]\nX-MemoryBPFPolicy=observe\n".to_owned(),
            "FILE:2: ignoring 'X-MemoryBPFPolicy=' in [Unit]; for a service it belongs in [Service]",
        ),
        (
            "[Service]\nX-MemoryBPFPolici=observe\n".to_owned(),
            "FILE:2: ignoring 'X-MemoryBPFPolici='; did you mean 'X-MemoryBPFPolicy='?",
        ),
        (
            "[X-MemoryBPF]\nPolcy=observe\n".to_owned(),
            "FILE:2: ignoring 'Polcy=' in [X-MemoryBPF]: the only key there is 'Policy='",
        ),
        (
            "[Service]\nX-MemoryBPFPolicy\n".to_owned(),
            "FILE:2: ignoring 'X-MemoryBPFPolicy': there is no '=' after the name",
        ),
    ];
    for (n, (text, _)) in cases.iter().enumerate() {
        let unit = format!("mpwrong{n}.service");
        scene.unit(&unit, "[Service]\nType=exec\nExecStart=sleep 1000\n");
        scene.file(&format!("/etc/systemd/system/{unit}.d/50-memory.conf"), text);
    }
    scene.unit("mpwrong-last.service", "[Service]\nExecStart=sleep 1000\n");
    scene.policy("mpwrong-last.service", "observe");
    scene.file("/etc/systemd/system/init.scope.d/50-memory.conf", "[Scope]\nX-MemoryBPFPolicy=observe\n");
    scene.reload();
    let units: Vec<String> = (0..cases.len()).map(|n| format!("mpwrong{n}.service")).collect();
    sh(&format!("systemctl start {} mpwrong-last.service", units.join(" ")));
    unit_in_state("mpwrong-last.service", "active");
    let mut sentences = Sentences::default();
    for (unit, (text, sentence)) in units.iter().zip(&cases) {
        let file = format!("/etc/systemd/system/{unit}.d/50-memory.conf");
        let told = wait_for("the unit's journal", || Some(told_on(unit)).filter(|told| !told.is_empty()));
        let place = format!("/system.slice/{unit}: drop-in {file}:2, ");
        let mut told: Vec<String> =
            told.iter().map(|told| told.replace(&place, "").replace(&file, "FILE")).collect();
        told.sort_by_key(|told| told.starts_with("FILE"));
        let told = told.join("\n");
        sentences.compare(text, &told, sentence);
        assert_eq!(sh(&format!("systemctl is-active {unit}")), "active", "the unit itself is not disturbed");
        assert!(status().iter().all(|r| r.unit.as_deref() != Some(unit) || r.policies.is_empty()));
    }
    let init = wait_for("the journal of init.scope", || told_on("init.scope").pop());
    sentences.compare("init.scope", &init, "/init.scope is PID 1's own cgroup and is never governed");
    sentences.end(18);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_record_that_is_not_ours_is_removed_and_told() {
    let mut scene = Scene::new("record");
    let long = "x".repeat(9000);
    let cases = [
        ("nonsense", "its record cannot be used and is removed: expected ident at line 1 column 2"),
        (
            r#"{"version":99,"requests":[]}"#,
            "its record is left for the version that wrote it: the record trusted.memcg_bpf has version 99, this program knows version 1; it was written by a newer memcg-bpf",
        ),
        (
            r#"{"version":1}"#,
            "its record cannot be used and is removed: missing field `requests` at line 1 column 13",
        ),
        (
            r#"{"version":1,"requests":[{"origin":"emperor","place":"x","line":"observe"}]}"#,
            "its record cannot be used and is removed: unknown variant `emperor`, expected one of `drop-in`, `xattr`, `annotation`, `operator` at line 1 column 44",
        ),
        (
            long.as_str(),
            "its record cannot be used and is removed: the record trusted.memcg_bpf is 9000 bytes long, the most is 8192",
        ),
    ];
    for (n, (text, _)) in cases.iter().enumerate() {
        let cgroup = format!("/sys/fs/cgroup/mprecord{n}");
        sh(&format!("mkdir {cgroup}; setfattr -n trusted.memcg_bpf -v '{text}' {cgroup}"));
    }
    scene.at_end("rmdir /sys/fs/cgroup/mprecord*".to_owned());
    let since = sh("date +%s; sleep 1");
    sh("systemctl restart memcg-bpfd");
    // The tree is walked once more after a while.
    let told =
        sh(&format!("journalctl -u memcg-bpfd -o cat --no-pager --since=@{since} | grep mprecord | sort -u"));
    let mut sentences = Sentences::default();
    for (n, (text, sentence)) in cases.iter().enumerate() {
        let told: Vec<&str> = told.lines().filter(|l| l.starts_with(&format!("/mprecord{n}: "))).collect();
        sentences.compare(text, &told.join("\n"), &format!("/mprecord{n}: {sentence}"));
    }
    // A newer daemon's is left for it.
    assert_eq!((status(), governed_records()), (vec![], vec!["/mprecord1".to_owned()]));
    sentences.end(5);
    scene.end();
}

/// The daemon by hand, where something that it needs is hidden from it.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_machine_that_cannot_do_it_is_told_in_one_sentence_and_with_an_exit_code_of_its_own() {
    let mut scene = Scene::new("machine");
    sh("systemctl stop memcg-bpfd");
    scene.at_end("systemctl start memcg-bpfd".to_owned());
    let mut sentences = Sentences::default();
    let no_v2 = "cgroup v2 is not mounted at /sys/fs/cgroup: this machine uses cgroup v1 or the hybrid layout; boot it with systemd.unified_cgroup_hierarchy=1";
    for (hide, sentence) in [
        ("umount -l /sys/fs/cgroup", no_v2),
        ("umount -l /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup", no_v2),
        ("umount -l /sys/fs/cgroup; mount -t cgroup -o none,name=mpv1 none /sys/fs/cgroup", no_v2),
        (
            "mount --bind /dev/null /sys/kernel/btf/vmlinux",
            "this kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF=y (failed to load BTF from vmlinux)",
        ),
        (
            "mount -t tmpfs none /usr/lib/memcg-bpf",
            "/usr/lib/memcg-bpf/core.bpf.o is not a BPF object that can be used: failed to open object from `/usr/lib/memcg-bpf/core.bpf.o`: No such file or directory (os error 2); libbpf: elf: failed to open /usr/lib/memcg-bpf/core.bpf.o: -ENOENT",
        ),
    ] {
        let said = try_sh(&format!("unshare -m sh -c '{hide}; exec timeout 30 memcg-bpfd'"));
        sentences.compare(
            hide,
            &format!("{} (exit {})", said.err, said.status),
            &format!("ERROR {sentence} (exit 78)"),
        );
    }
    sentences.end(5);
    sh("systemctl start memcg-bpfd");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_bad_object_profile_or_configuration_is_told_and_disturbs_nothing_else() {
    let mut scene = Scene::new("installed");
    scene.file("/etc/memcg-bpf/policies/mpbad.bpf.o", "nonsense");
    scene.file("/etc/memcg-bpf/profiles.d/mpbad.profile", "dney limit=64M\n");
    scene.file("/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf", "[Log]\nLevl=debug\nLevel=loud\n");
    scene.at_end("systemctl restart memcg-bpfd".to_owned());
    let since = sh("date +%s; sleep 1");
    sh("systemctl restart memcg-bpfd");
    let told = sh(&format!("journalctl -u memcg-bpfd -o cat --no-pager --since=@{since} | grep mpbad"));
    let mut sentences = Sentences::default();
    let wanted = [
        "/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf:2: unknown key 'Levl' in section [Log], ignoring",
        "/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf:3: unknown level 'loud'; valid are error, warning, info, debug, trace, ignoring",
        "/etc/memcg-bpf/policies/mpbad.bpf.o is not a BPF object that can be used: failed to parse BTF information: Unknown error 4001 (os error 4001); libbpf: failed to get EHDR from /etc/memcg-bpf/policies/mpbad.bpf.o; libbpf: elf: '/etc/memcg-bpf/policies/mpbad.bpf.o' is not a proper ELF object",
        "/etc/memcg-bpf/profiles.d/mpbad.profile: profile 'mpbad' has no Policy= in its section [Profile]",
    ];
    for (n, wanted) in wanted.iter().enumerate() {
        sentences.compare("object, profile, configuration", told.lines().nth(n).unwrap_or(""), wanted);
    }
    assert_eq!(told.lines().count(), wanted.len(), "{told}");
    sentences.end(4);
    sh("memcg-bpf attach system.slice observe && memcg-bpf detach system.slice");
    scene.end();
}
