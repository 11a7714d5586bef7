//! status, events, explain, doctor and JSON output, on real units and containers.

use std::fs;

use serde_json::Value;

use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, first_line, hook_messages, journal_sync, sh, systemd,
    try_sh, unit_in_state, wait_for,
};

/// The words of a command's output, however it was wrapped.
fn words(command: &str) -> String {
    let output = try_sh(command);
    let text = format!("{}\n{}", output.out, output.err);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn status_and_events_output() {
    let mut env = TestEnv::new("cli");
    env.unit("mpcli.slice", "[Slice]\nX-MemoryBPFPolicy=observe\n");
    let out = env.out("mpcli.service");
    env.unit(
        "mpcli.service",
        &format!(
            "[Service]\nSlice=mpcli.slice\nMemoryMax=256M\nExecStart={PROGRAMS}/alloc 200 hold\n\
             StandardOutput=append:{}\nX-MemoryBPFPolicy=deny limit=64M\n",
            out.display()
        ),
    );
    env.reload();
    unit_in_state("mpcli.service", "registered");
    let follow = env.dir.join("followed");
    env.at_end(format!("kill $(cat {}.pid)", follow.display()));
    sh(&format!("memcg-bpf events --follow --json >{0} 2>&1 & echo $! >{0}.pid", follow.display()));
    systemd::start("mpcli.service");
    assert_denied_at(&first_line(&out), 64);
    let id = env.podman_id("mpweb", "--annotation memcg.bpf/policy=observe", "exec sleep 1000");

    // A tree, with limits and the name that a person gave the container.
    let text = sh("memcg-bpf status");
    let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned();
    assert!(line(" /mpcli.slice/mpcli.service").starts_with("└ mpcli.service "), "{text}");
    assert!(line("mpcli.service ").contains("deny limit=64M") && text.contains(" of 64M "), "{text}");
    assert!(text.lines().any(|line| line.starts_with("mpcli.slice ")), "{text}");
    assert!(line("container mpweb").contains("observe"), "{text}");

    // On a terminal it fits and is coloured, unless NO_COLOR is set; piped, it is plain.
    let terminal = |before: &str| {
        sh(&format!("{before} TERM=xterm COLUMNS=60 script -qec 'memcg-bpf status' /dev/null </dev/null"))
    };
    let (colour, plain) = (terminal("NO_COLOR="), terminal("NO_COLOR=1"));
    assert!(colour.contains("\u{1b}[1mNAME"), "{colour}");
    assert!(!plain.contains('\u{1b}') && !text.contains('\u{1b}'), "{plain}");
    assert!(plain.lines().all(|line| line.trim_end().chars().count() <= 60), "{plain}");

    // By name, by the beginning of the id, by pid: the same container.
    let pid = sh("podman inspect -f '{{.State.Pid}}' mpweb");
    for which in ["mpweb", &id[..8], &pid] {
        let one: Value = serde_json::from_str(&sh(&format!("memcg-bpf status {which} --json"))).unwrap();
        assert_eq!(one["container"], *id, "{which}");
        assert_eq!(one["container_name"], "mpweb", "{which}");
    }

    // What would be, without its being so.
    let dry = words("memcg-bpf attach --check mpweb 'deny limit=1G'");
    assert!(
        dry.contains("deny") && dry.contains("observe") && dry.ends_with("Nothing was changed (--check)."),
        "{dry}"
    );
    let one: Value = serde_json::from_str(&sh("memcg-bpf status mpweb --json")).unwrap();
    assert_eq!(one["policies"].as_array().map(Vec::len), Some(1), "{one}");

    // What happened, live and afterwards.
    sh("memcg-bpf attach mpweb 'deny limit=1G'; podman rm -f -t 0 mpweb; systemctl stop mpcli.service");
    let told = wait_for("the events to be followed", || {
        let text = fs::read_to_string(&follow).ok()?;
        let all: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let ended = |name: &str| {
            all.iter()
                .any(|e| e["event"] == "detached" && e["cgroup"].as_str().is_some_and(|c| c.contains(name)))
        };
        (ended("mpcli.service") && ended(&id)).then_some(all)
    });
    let of_id: Vec<&Value> =
        told.iter().filter(|e| e["cgroup"].as_str().is_some_and(|c| c.contains(&id))).collect();
    assert_eq!(of_id[0]["policies"], serde_json::json!(["observe"]), "{of_id:?}");
    assert!(of_id.iter().any(|e| e["policies"] == serde_json::json!(["deny", "observe"])), "{of_id:?}");
    let text = words("memcg-bpf events mpcli.service --since=-1h");
    assert!(text.contains("/mpcli.slice/mpcli.service attached: deny"), "{text}");
    assert!(text.contains("/mpcli.slice/mpcli.service detached") && !text.contains(&id), "{text}");
    let wrong = try_sh("memcg-bpf events --since whenever");
    assert_eq!(wrong.status, 1);
    assert!(wrong.err.contains("journalctl: Failed to parse timestamp: whenever"), "{}", wrong.err);
    systemd::stop("mpcli.slice");
    env.end();
}

/// The output of `memcg-bpf explain` for this unit or container contains each of the sentences.
fn assert_explains(what: &str, sentences: &[&str]) {
    let output = words(&format!("memcg-bpf explain {what}"));
    for sentence in sentences {
        assert!(output.contains(sentence), "explain {what} does not contain '{sentence}':\n{output}");
    }
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn explain_names_cause_of_inaction() {
    let mut env = TestEnv::new("why");
    let sleep = "[Service]\nExecStart=/bin/sleep 1000\n";
    // A word of the line is wrong; the line is in the wrong place; two files have the same name.
    env.unit("mpname.service", sleep).policy("mpname.service", "dney limit=64M");
    env.unit("mpparam.service", sleep).policy("mpparam.service", "deny limt=64M");
    env.unit("mpplace.service", "[Unit]\nX-MemoryBPFPolicy=observe\n[Service]\nExecStart=/bin/sleep 1000\n");
    env.unit("mphidden.service", sleep);
    env.file(
        "/run/systemd/system/mphidden.service.d/50-memory.conf",
        "[Service]\nX-MemoryBPFPolicy=deny limit=64M\n",
    );
    env.file("/etc/systemd/system/mphidden.service.d/50-memory.conf", "[Service]\nNice=1\n");
    // Nothing is wrong with these.
    env.unit("mpdry.service", sleep).policy("mpdry.service", "deny limit=1M mode=dry-run");
    env.unit("mpfar.service", sleep).policy("mpfar.service", "deny limit=512M");
    env.unit("mpreset.service", sleep);
    let drop_in = |name: &str| format!("/etc/systemd/system/mpreset.service.d/{name}.conf");
    env.file(&drop_in("10"), "[Service]\nX-MemoryBPFPolicy=observe; deny limit=64M\n");
    env.file(&drop_in("20"), "[Service]\nX-MemoryBPFPolicy=\nX-MemoryBPFPolicy=oom mode=dry-run\n");
    env.reload();
    unit_in_state("mpfar.service", "registered");
    unit_in_state("mpdry.service", "registered");
    sh(
        "systemctl start mpname.service mpparam.service mpplace.service mphidden.service mpdry.service mpfar.service",
    );
    active("/system.slice/mpfar.service");
    active("/system.slice/mpdry.service");
    sh("memcg-bpf attach mpdry.service deny limit=2G");
    wait_for("both mistakes to be known", || {
        let text = words("memcg-bpf status");
        (text.contains("'dney'") && text.contains("'limt'")).then_some(())
    });
    let conf = |unit: &str| format!("/etc/systemd/system/{unit}.service.d/50-memory.conf:2");
    assert_explains("mpname.service", &["unknown policy 'dney'; did you mean 'deny'?", &conf("mpname")]);
    assert_explains("mpparam.service", &["unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?"]);
    assert_explains(
        "mpplace.service",
        &[
            "/run/systemd/system/mpplace.service:2: ignoring 'X-MemoryBPFPolicy=' in [Unit]; for a service it belongs in [Service]",
        ],
    );
    assert_explains(
        "mphidden.service",
        &["/run/systemd/system/mphidden.service.d/50-memory.conf:2: 'deny limit=64M' is masked by \
         /etc/systemd/system/mphidden.service.d/50-memory.conf, which has the same name."],
    );
    assert_explains(
        "mpfar.service",
        &[
            "limit=512M of deny is 512M now; memory.current is",
            "below it.",
            "(memory.pressure)",
            &conf("mpfar"),
        ],
    );
    assert_explains("mpdry.service", &["is overridden by a higher origin", "limit=2G", &conf("mpdry")]);
    let reset = format!("'observe; deny limit=64M' of {}:2 is reset by {}:2.", drop_in("10"), drop_in("20"));
    assert_explains("mpreset.service", &[&reset]);
    let text = words("memcg-bpf explain mpreset.service");
    assert!(!text.contains("is not known to memcg-bpfd"), "{text}");
    sh("memcg-bpf detach mpdry.service");
    assert_explains("mpdry.service", &["deny makes no changes, because of mode=dry-run."]);
    sh("memcg-bpf pause --for 10min");
    env.at_end("memcg-bpf resume".to_owned());
    assert_explains("mpfar.service", &["Actions are paused ("]);
    assert!(words("memcg-bpf doctor").contains("are paused: policies change nothing"));
    sh("memcg-bpf resume");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn explain_names_cause_for_containers() {
    let mut env = TestEnv::new("why-container");
    // A container with a misspelled annotation, and one unknown to the daemon because the hook is missing.
    env.podman_id("mpkey", "--annotation memcg-bpf/policy=observe", "exec sleep 1000");
    assert_explains("mpkey", &["annotation 'memcg-bpf/policy' is unknown; did you mean memcg.bpf/policy?"]);
    env.podman_id("mplabel", "--label memcg.bpf/policy=observe", "exec sleep 1000");
    assert_explains(
        "mplabel",
        &["The container has no annotation memcg.bpf/policy.", "Labels, environment variables"],
    );
    let hook = "/usr/share/containers/oci/hooks.d/90-memcg-bpf.json";
    env.at_end(format!("test -e {hook} || mv /run/90-memcg-bpf.json {hook}"));
    sh(&format!("mv {hook} /run/"));
    env.podman_id("mphook", "--annotation memcg.bpf/policy=observe", "exec sleep 1000");
    assert_explains(
        "mphook",
        &[
            "The annotation requests 'observe', but memcg-bpfd received no request",
            "90-memcg-bpf.json is missing: annotations on containers have no effect",
        ],
    );
    assert!(words("memcg-bpf doctor").contains("90-memcg-bpf.json is missing"));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn missing_hook_reported_and_required_fails() {
    let mut env = TestEnv::new("lacks");
    // A kernel without the function is one whose BTF does not have its name.
    let btf = env.dir.join("btf");
    sh(&format!(
        "perl -pe 's/\\0psi_memstall_enter\\0/\\0psi_memstall_entex\\0/' /sys/kernel/btf/vmlinux >{0} && \
         mount --bind {0} /sys/kernel/btf/vmlinux",
        btf.display()
    ));
    env.at_end("umount /sys/kernel/btf/vmlinux; systemctl restart memcg-bpfd".to_owned());
    systemd::restart("memcg-bpfd");
    let id =
        env.podman_id("mplacks", "--annotation memcg.bpf/policy='oom; deny limit=512M'", "exec sleep 1000");
    let report = active(&format!("/machine.slice/libpod-{id}.scope"));
    let missing = |name: &str| {
        report.policies.iter().find(|policy| policy.name == name).unwrap().missing_hooks.join(" ")
    };
    assert_eq!((missing("oom").as_str(), missing("deny").as_str()), ("stall-counters", ""));
    assert!(
        words("memcg-bpf explain mplacks")
            .contains("oom uses the hook 'stall-counters', which this kernel lacks.")
    );
    assert!(words("memcg-bpf policies oom").contains("Missing hooks in this kernel: stall-counters."));
    let doctor = words("memcg-bpf doctor");
    assert!(doctor.contains(" hooks: stall-counters"), "{doctor}");
    let required = "--annotation memcg.bpf/required=true --annotation memcg.bpf/policy=oom";
    let output = env.podman("mpneeds", required, "exec sleep 1000");
    assert_ne!(output.status, 0, "{output:?}");
    let journal = hook_messages("");
    let why = "this kernel lacks the hook 'stall-counters' that oom uses; it does not start, because memcg.bpf/required is true";
    assert!(journal.contains(why), "{journal}");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn json_output_matches_docs() {
    let mut env = TestEnv::new("json");
    env.unit("mpjson.service", "[Service]\nType=exec\nExecStart=sleep 1000\n").reload();
    systemd::start("mpjson.service");
    let history = env.dir.join("history").display().to_string();
    let binding = "cgroup state policies";
    let acting = "paused counts";
    // The command, its exit status, and fields of the first object in what it prints.
    for (command, status, fields) in [
        ("attach mpjson.service observe", 0, binding),
        ("attach --check mpjson.service deny limit=1G", 0, binding),
        ("status", 0, binding),
        ("status mpjson.service", 0, binding),
        ("status nonexistent.service", 1, ""),
        ("top", 0, binding),
        ("explain mpjson.service", 0, "cgroup explanation"),
        ("explain system.slice", 1, "cgroup explanation state"),
        ("events mpjson.service", 0, "time time_us event cgroup policies"),
        ("metrics", 0, "bindings actions"),
        (&format!("record {history} --interval 100ms --for 1s"), 0, "file samples"),
        (&format!("report {history}"), 0, "kind time_us"),
        ("policies", 0, "name doc file self_binding hooks missing_hooks params"),
        ("profiles", 0, "name doc file line errors"),
        ("check 'deny limt=1M'", 1, "wrong severity sentence line word message at"),
        ("pause --for 1min", 0, acting),
        ("resume", 0, acting),
        ("reload", 0, "replaced added removed profiles configuration errors notes"),
        ("doctor", 0, "check verdict message"),
        ("detach mpjson.service", 0, ""),
    ] {
        if command.starts_with("events") {
            journal_sync();
        }
        let output = try_sh(&format!("memcg-bpf --json {command}"));
        assert_eq!(output.status, status, "{command}: {output:?}");
        // One document, or one a line.
        let documents: Vec<Value> =
            serde_json::Deserializer::from_str(&output.out).into_iter().map(Result::unwrap).collect();
        let first = match documents.first() {
            Some(Value::Array(all)) => all.first(),
            other => other,
        };
        for field in fields.split_whitespace() {
            assert!(first.and_then(|it| it.get(field)).is_some(), "{command}: no {field} in {}", output.out);
        }
    }
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn units_are_found_by_alias_and_without_suffix() {
    let mut env = TestEnv::new("names");
    env.unit("mpreal.service", "[Service]\nType=exec\nExecStart=sleep 1000\n");
    env.policy("mpreal.service", "observe");
    sh("ln -s mpreal.service /run/systemd/system/mpalias.service");
    sh("ln -s /dev/null /run/systemd/system/mpmasked.service");
    env.at_end("rm -f /run/systemd/system/mpalias.service /run/systemd/system/mpmasked.service".to_owned());
    env.reload();
    systemd::start("mpreal.service");
    active("/system.slice/mpreal.service");
    for name in ["mpreal", "mpreal.service", "mpalias", "mpalias.service"] {
        assert_explains(name, &["mpreal.service /system.slice/mpreal.service", "observe is attached"]);
    }
    sh("memcg-bpf attach mpalias 'deny limit=1G'");
    assert_explains("mpreal", &["deny is attached, requested by operator"]);
    sh("memcg-bpf detach mpalias");
    for (name, sentence) in [
        ("mpmasked", "unit 'mpmasked.service' is masked"),
        ("mprael.service", "unit 'mprael.service' does not exist; did you mean 'mpreal.service'?"),
        ("mpraeel", "unknown cgroup 'mpraeel'"),
    ] {
        let output = try_sh(&format!("memcg-bpf explain {name}"));
        assert!(output.status == 1 && output.err.contains(sentence), "{name}: {output:?}");
    }
    assert!(words("memcg-bpf explain -.slice").contains("-.slice"), "the root slice is no option");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn stopped_daemon_stays_stopped_until_something_changes() {
    let mut env = TestEnv::new("stopped");
    let state = || systemd::active_state("memcg-bpfd");
    sh("systemctl stop memcg-bpfd");
    env.at_end("systemctl start memcg-bpfd".to_owned());
    for command in [
        "status",
        "status system.slice",
        "explain system.slice",
        "top --json",
        "metrics",
        "doctor",
        "events",
        "policies",
        "profiles",
        "check observe",
        "attach --check system.slice observe",
    ] {
        let output = words(&format!("memcg-bpf {command}"));
        let needs_daemon = ["status", "explain", "top", "metrics", "doctor", "attach"];
        if needs_daemon.iter().any(|word| command.starts_with(word)) {
            assert!(output.contains("memcg-bpfd is stopped: no policy is active"), "{command}: {output}");
        }
        assert_eq!(state(), "inactive", "{command} started the daemon: {output}");
    }
    env.at_end("memcg-bpf detach system.slice".to_owned());
    sh("memcg-bpf attach system.slice observe");
    // It answers calls before it tells systemd that it is ready.
    wait_for("the daemon to run", || (state() == "active").then_some(()));
    sh("memcg-bpf detach system.slice; memcg-bpf status");
    env.end();
}
