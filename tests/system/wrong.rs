//! Wrong inputs, end to end: each is answered with its exact sentence, changes nothing, and stops no container unless
//! the container itself requires its policy.

use std::fs;

use crate::support::{
    PROGRAMS, Said, Scene, active, daemon_runs, find, first_line, governed_records, refused_at, sh, status,
    try_sh, unit_in_state, wait_for,
};

const CALL: &str = "busctl call org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager";

/// What busctl says of a method's error.
fn refusal(said: &Said) -> &str {
    assert_ne!(said.status, 0, "{}", said.out);
    said.err.strip_prefix("Call failed: ").unwrap_or(&said.err)
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn wrong_arguments_are_answered_with_what_is_wrong_with_them() {
    let scene = Scene::new("arguments");
    let long_line = format!("Attach ss /system.slice 'deny {}'", "x".repeat(5000));
    let long_path = format!("Attach ss /{} observe", "x".repeat(5000));
    let long_path_sentence = format!("'/{}…' is not a cgroup path: longer than 4095 bytes", "x".repeat(79));
    let mut wrong = String::new();
    for (call, sentence) in [
        ("Attach ss system.slice observe", "'system.slice' is not a cgroup path: it does not start with '/'"),
        (
            "Attach ss /a/../.. observe",
            "'/a/../..' is not a cgroup path: it has an empty, '.' or '..' component",
        ),
        ("Attach ss / observe", "the root cgroup cannot be governed; name a cgroup below it"),
        ("Attach ss /init.scope observe", "/init.scope is PID 1's own cgroup and is never governed"),
        (
            "Attach ss /system.slice/memcg-bpfd.service observe",
            "/system.slice/memcg-bpfd.service is memcg-bpfd's own cgroup and is never governed",
        ),
        ("Attach ss /no/such observe", "there is no cgroup /no/such"),
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
        ("Detach s /system.slice", "no policy was asked for on /system.slice"),
        ("Explain s /no/such", "there is no cgroup /no/such"),
        ("AttachContainer 'susa{sv}' ../x 1 observe 0", "'../x' is not a container id: "),
        ("AttachContainer 'susa{sv}' x 0 observe 0", "0 is not the id of a process"),
        (
            "AttachContainer 'susa{sv}' x 4194304 observe 0",
            "container x: process 4194304 cannot be examined: ",
        ),
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
            "AttachContainer 'susa{sv}' x 1 observe 1 cgroups-path s /elsewhere",
            "container x: the container's process is in '/init.scope', which is not in '/elsewhere' as linux.cgroupsPath of the bundle says; the runtime has not moved it there, or runs without cgroups",
        ),
    ] {
        let said = try_sh(&format!("{CALL} {call}"));
        let answer = refusal(&said);
        // Where the kernel's own words end the sentence, its beginning.
        let same = if sentence.ends_with(": ") { answer.starts_with(sentence) } else { answer == sentence };
        if !same {
            wrong += &format!("{call:.80}\n  said: {answer}\n  not:  {sentence}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(status(), []);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn nobody_but_root_may_ask_for_anything() {
    let scene = Scene::new("unprivileged");
    for call in ["List", "Policies", "Attach ss /system.slice observe", "Detach s /system.slice"] {
        let said = try_sh(&format!("runuser -u nobody -- {CALL} {call}"));
        assert!(refusal(&said).contains("Access denied"), "{call}: {}", said.err);
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
    scene.at_end("systemctl kill -s CONT memcg-bpfd".to_owned());
    sh("systemctl kill -s STOP memcg-bpfd");
    let eat = format!("until [ -e /out/go ]; do sleep 0.2; done; {PROGRAMS}/eat 100 hold > /out/eat");
    let bundle = scene.bundle("patient").annotation("memcg.bpf/policy", "deny limit=40M");
    let bundle = bundle.hook("createRuntime").cgroup("/bundles/patient");
    let said = scene.run_bundle("crun", &bundle, &eat);
    scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(governed_records(), ["/bundles/patient"]);
    assert!(
        sh("journalctl -t memcg-bpf-hook -o cat --no-pager")
            .contains("recorded on /bundles/patient for memcg-bpfd to adopt")
    );
    // It finds the call in its queue, or the record at its next start.
    sh("systemctl kill -s CONT memcg-bpfd; systemctl restart memcg-bpfd");
    active("/bundles/patient");
    fs::write(scene.dir.join("go"), "").unwrap();
    refused_at(&first_line(&scene.dir.join("eat")), 40);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_wrong_line_in_a_unit_file_is_told_in_the_units_journal() {
    let mut scene = Scene::new("unit-file");
    let cases = [
        ("mpwrong1.service", "deny", "parameter 'limit' of policy 'deny'"),
        ("mpwrong2.service", "deny limit=64Q", "'64Q'"),
        ("mpwrong3.service", "deny limit=120%", "'120%'"),
        ("mpwrong4.service", "observe; observe", "'observe'"),
        ("mpwrong5.service", "deny limit=\"64M", "quot"),
    ];
    for (unit, line, _) in cases {
        scene.unit(unit, "[Service]\nType=exec\nExecStart=sleep 1000\n").policy(unit, line);
    }
    scene.reload();
    sh(&format!("systemctl start {}", cases.map(|c| c.0).join(" ")));
    for (unit, line, word) in cases {
        let report = unit_in_state(unit, "refused");
        assert!(
            report.policies.is_empty() && report.faults.iter().any(|f| f.contains(word)),
            "{line}: {report:?}"
        );
        let place = format!("/etc/systemd/system/{unit}.d/50-memory.conf:2");
        let told = wait_for("the journal", || {
            let told = sh(&format!("journalctl -u {unit} -o cat --no-pager"));
            told.contains(&place).then_some(told)
        });
        assert!(told.contains(word), "{told}");
        assert_eq!(sh(&format!("systemctl is-active {unit}")), "active", "the unit itself is not disturbed");
    }
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_record_that_is_not_ours_is_removed_and_told() {
    let mut scene = Scene::new("record");
    sh("mkdir /sys/fs/cgroup/mprecord; setfattr -n trusted.memcg_bpf -v nonsense /sys/fs/cgroup/mprecord");
    scene.at_end("rmdir /sys/fs/cgroup/mprecord".to_owned());
    sh("systemctl restart memcg-bpfd");
    assert_eq!((find("/mprecord"), governed_records()), (None, vec![]));
    assert!(
        sh("journalctl -u memcg-bpfd -o cat --no-pager")
            .contains("/mprecord: its record cannot be used and is removed: ")
    );
    scene.end();
}

/// The daemon by hand, where something that it needs is hidden from it.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_machine_that_cannot_do_it_is_told_in_one_sentence_and_with_an_exit_code_of_its_own() {
    let mut scene = Scene::new("machine");
    sh("systemctl stop memcg-bpfd");
    scene.at_end("systemctl start memcg-bpfd".to_owned());
    for (hide, sentence) in [
        ("umount -l /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup", "cgroup v2"),
        ("mount --bind /dev/null /sys/kernel/btf/vmlinux", "BTF"),
        ("mount -t tmpfs none /usr/lib/memcg-bpf", "core.bpf.o"),
    ] {
        let said = try_sh(&format!("unshare -m sh -c '{hide}; exec timeout 30 memcg-bpfd'"));
        assert!(said.status == 78 && said.err.contains(sentence), "{hide}: {said:?}");
    }
    sh("systemctl start memcg-bpfd");
    scene.end();
}
