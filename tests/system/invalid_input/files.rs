//! Unit files, records, objects, profiles and configuration, and unsupported machines.

use std::collections::BTreeSet;

use super::*;

/// The daemon's messages on a unit, each once.
fn unit_messages(unit: &str) -> Vec<String> {
    let told = sh(&format!("journalctl -q -t memcg-bpfd OBJECT_SYSTEMD_UNIT={unit} -o cat --no-pager"));
    let mut told: Vec<String> = told.lines().map(str::to_owned).collect();
    told.sort();
    told.dedup();
    told
}

/// Drop-ins with a mistake, and the message for each. In messages about a line, the cgroup and the location are omitted.
fn invalid_drop_ins() -> Vec<(String, &'static str)> {
    let line = |line: &str| format!("[Service]\nX-MemoryBPFPolicy={line}\n");
    vec![
        (line("deny"), "column 1: missing parameter 'limit' of policy 'deny'"),
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
        (line("deny limit=64M limit=32M"), "column 16: duplicate parameter 'limit' of policy 'deny'"),
        (
            line("deny limit=64M mode=dry"),
            "column 21: 'dry' is not valid for parameter 'mode' of policy 'deny': no such choice; did you mean 'dry-run'?",
        ),
        (
            line("deny limit=64M cache"),
            "column 16: 'cache' is not of the form key=value; to add another policy, separate it with ';'",
        ),
        (line("deny limit=\"64M"), "column 12: missing closing quote \""),
        (line("observe; observe"), "column 10: duplicate policy 'observe'"),
        (line("observe x=1"), "column 9: unknown parameter 'x' of policy 'observe'; valid: mode"),
        (line("none; observe"), "column 1: 'none' cannot be combined with other policies"),
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
    ]
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn unit_file_error_in_unit_journal() {
    let mut env = TestEnv::new("unit-file");
    let cases = invalid_drop_ins();
    for (n, (text, _)) in cases.iter().enumerate() {
        let unit = format!("mpwrong{n}.service");
        env.unit(&unit, "[Service]\nType=exec\nExecStart=sleep 1000\n");
        env.file(&format!("/etc/systemd/system/{unit}.d/50-memory.conf"), text);
    }
    env.unit("mpwrong-last.service", "[Service]\nExecStart=sleep 1000\n");
    env.policy("mpwrong-last.service", "observe");
    env.file("/etc/systemd/system/init.scope.d/50-memory.conf", "[Scope]\nX-MemoryBPFPolicy=observe\n");
    env.reload();
    let units: Vec<String> = (0..cases.len()).map(|n| format!("mpwrong{n}.service")).collect();
    sh(&format!("systemctl start {} mpwrong-last.service", units.join(" ")));
    unit_in_state("mpwrong-last.service", "active");
    let mut sentences = Sentences::default();
    for (unit, (text, sentence)) in units.iter().zip(&cases) {
        let file = format!("/etc/systemd/system/{unit}.d/50-memory.conf");
        let told = wait_for("the unit's journal", || {
            Some(unit_messages(unit)).filter(|told| told.len() >= sentence.lines().count().max(1))
        });
        let place = format!("/system.slice/{unit}: drop-in {file}:2, ");
        let mut told: Vec<String> =
            told.iter().map(|told| told.replace(&place, "").replace(&file, "FILE")).collect();
        told.sort_by_key(|told| told.starts_with("FILE"));
        let told = told.join("\n");
        sentences.compare(text, &told, sentence);
        assert_eq!(sh(&format!("systemctl is-active {unit}")), "active", "the unit itself is not disturbed");
        assert!(status().iter().all(|r| r.unit.as_deref() != Some(unit) || r.policies.is_empty()));
    }
    let init = wait_for("the journal of init.scope", || unit_messages("init.scope").pop());
    sentences.compare(
        "init.scope",
        &init,
        "/init.scope is the cgroup of PID 1; a policy cannot be attached to it",
    );
    sentences.end(18);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn foreign_record_removed() {
    let mut env = TestEnv::new("record");
    let long = "x".repeat(25_000);
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
            r#"{"version":1,"requests":[{"origin":"emperor","location":"x","line":"observe"}]}"#,
            "its record cannot be used and is removed: unknown variant `emperor`, expected one of `drop-in`, `xattr`, `annotation`, `operator` at line 1 column 44",
        ),
        (
            long.as_str(),
            "its record cannot be used and is removed: the record trusted.memcg_bpf is 25000 bytes long, the most is 24576",
        ),
    ];
    for (n, (text, _)) in cases.iter().enumerate() {
        let cgroup = format!("/sys/fs/cgroup/mprecord{n}");
        sh(&format!("mkdir {cgroup}; setfattr -n trusted.memcg_bpf -v '{text}' {cgroup}"));
    }
    env.at_end("rmdir /sys/fs/cgroup/mprecord*".to_owned());
    let since = since_now();
    systemd::restart("memcg-bpfd");
    // The tree is walked once more after a while.
    let logged = journal(&["-u", "memcg-bpfd", "-o", "cat", &since]);
    let logged: BTreeSet<&str> = logged.lines().filter(|line| line.contains("mprecord")).collect();
    let mut sentences = Sentences::default();
    for (n, (text, sentence)) in cases.iter().enumerate() {
        let of = format!("/mprecord{n}: ");
        let logged: Vec<&str> = logged.iter().copied().filter(|line| line.starts_with(&of)).collect();
        sentences.compare(text, &logged.join("\n"), &format!("/mprecord{n}: {sentence}"));
    }
    // A newer daemon's is left for it.
    assert_eq!((status(), recorded_cgroups()), (vec![], vec!["/mprecord1".to_owned()]));
    sentences.end(5);
    env.end();
}

/// The daemon by hand, where something that it needs is hidden from it.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn unsupported_machine_exit_78() {
    let mut env = TestEnv::new("machine");
    systemd::stop("memcg-bpfd");
    env.at_end("systemctl start memcg-bpfd".to_owned());
    let mut sentences = Sentences::default();
    let no_v2 = "cgroup v2 is not mounted at /sys/fs/cgroup: this machine uses cgroup v1 or the hybrid layout; boot it with systemd.unified_cgroup_hierarchy=1";
    for (hide, sentence) in [
        ("umount -l /sys/fs/cgroup", no_v2),
        ("umount -l /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup", no_v2),
        ("umount -l /sys/fs/cgroup; mount -t cgroup -o none,name=mpv1 none /sys/fs/cgroup", no_v2),
        (
            "mount --bind /dev/null /sys/kernel/btf/vmlinux",
            "this kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF=y (failed to load BTF from vmlinux: Input/output error (os error 5))",
        ),
        (
            "mount -t tmpfs none /usr/lib/memcg-bpf",
            "/usr/lib/memcg-bpf/core.bpf.o is not a BPF object that can be used: failed to open object from `/usr/lib/memcg-bpf/core.bpf.o`: No such file or directory (os error 2); libbpf: elf: failed to open /usr/lib/memcg-bpf/core.bpf.o: -ENOENT",
        ),
    ] {
        let output = try_sh(&format!("unshare -m sh -c '{hide}; exec timeout 30 memcg-bpfd'"));
        sentences.compare(
            hide,
            &format!("{} (exit {})", output.err, output.status),
            &format!("ERROR {sentence} (exit 78)"),
        );
    }
    sentences.end(5);
    systemd::start("memcg-bpfd");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn invalid_object_profile_config_ignored() {
    let mut env = TestEnv::new("installed");
    env.file("/etc/memcg-bpf/policies/mpbad.bpf.o", "nonsense");
    env.file("/etc/memcg-bpf/profiles.d/mpbad.profile", "dney limit=64M\n");
    env.file("/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf", "[Log]\nLevl=debug\nLevel=loud\n");
    env.at_end("systemctl restart memcg-bpfd".to_owned());
    let since = since_now();
    systemd::restart("memcg-bpfd");
    let logged = journal(&["-u", "memcg-bpfd", "-o", "cat", &since]);
    let logged: Vec<&str> = logged.lines().filter(|line| line.contains("mpbad")).collect();
    let mut sentences = Sentences::default();
    let wanted = [
        "/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf:2: unknown key 'Levl' in section [Log], ignoring",
        "/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf:3: unknown level 'loud'; valid are error, warning, info, debug, trace, ignoring",
        "/etc/memcg-bpf/policies/mpbad.bpf.o is not a BPF object that can be used: failed to parse BTF information: Unknown error 4001 (os error 4001); libbpf: failed to get EHDR from /etc/memcg-bpf/policies/mpbad.bpf.o; libbpf: elf: '/etc/memcg-bpf/policies/mpbad.bpf.o' is not a proper ELF object",
        "/etc/memcg-bpf/profiles.d/mpbad.profile: profile 'mpbad' has no Policy= in its section [Profile]",
    ];
    for (n, wanted) in wanted.iter().enumerate() {
        sentences.compare("object, profile, configuration", logged.get(n).unwrap_or(&""), wanted);
    }
    assert_eq!(logged.len(), wanted.len(), "{logged:?}");
    sentences.end(4);
    sh("memcg-bpf attach system.slice observe && memcg-bpf detach system.slice");
    env.end();
}
