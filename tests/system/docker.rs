//! Containers of docker: the runtime `memcg-bpf-runc`, and drop-ins for their scopes.

use crate::support::docker::Docker;
use crate::support::{
    HOOK, PROGRAMS, TestEnv, active, assert_denied_at, assert_no_oom, find, first_line, journal, setting, sh,
    since_now, systemd, try_sh, wait_for,
};

const RUNTIME: &str = "--runtime memcg-bpf";
const DENY: &str = "--annotation memcg.bpf/policy=\"deny limit=64M\"";
const REQUIRED: &str = "--annotation memcg.bpf/required=true";
const SENTENCE: &str = "it does not start, because memcg.bpf/required is true";

fn eat(name: &str) -> String {
    format!("{PROGRAMS}/alloc 200 > /out/{name}; sleep 1000")
}

fn scope(id: &str) -> String {
    format!("/system.slice/docker-{id}.scope")
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn docker_annotation_denies_from_first_instruction() {
    let mut env = TestEnv::new("docker");
    let docker = Docker::start(&mut env);
    let first = format!("exec {PROGRAMS}/alloc_at_exec > /out/first");
    docker.run_id(&env, "first", &format!("{RUNTIME} {DENY}"), &first);
    assert_eq!(first_line(&env.dir.join("first")), "denied");

    let id = docker.run_id(&env, "denied", &format!("{RUNTIME} {DENY}"), &eat("denied"));
    assert_denied_at(&first_line(&env.dir.join("denied")), 64);
    let report = active(&scope(&id));
    assert_eq!(report.container.as_deref(), Some(id.as_str()));
    assert_eq!(report.policies[0].origin, "annotation");
    assert_no_oom(&scope(&id));
    let shown = sh("memcg-bpf explain denied");
    assert!(shown.contains("denied") && shown.contains("deny"), "{shown}");

    // In a slice of its own, and with a limit of its own.
    env.stops("mpdocker.slice");
    let options = format!(
        "{RUNTIME} --cgroup-parent=mpdocker.slice --memory=100m --annotation memcg.bpf/policy=\"deny limit=50%\""
    );
    let id = docker.run_id(&env, "parent", &options, &eat("parent"));
    assert_denied_at(&first_line(&env.dir.join("parent")), 50);
    assert_eq!(setting(&active(&format!("/mpdocker.slice/docker-{id}.scope")), "deny", "limit"), Some("50%"));

    // A label is no annotation, and without the runtime an annotation has no effect.
    for (name, options) in [
        ("plain", RUNTIME.to_owned()),
        ("label", format!("{RUNTIME} --label memcg.bpf/policy=\"deny limit=64M\"")),
        ("runc", DENY.to_owned()),
    ] {
        let id = docker.run_id(&env, name, &options, &eat(name));
        assert_eq!(first_line(&env.dir.join(name)), "reached 200 MiB", "{name}");
        assert_eq!(find(&scope(&id)), None, "{name}");
    }

    docker.configure(true, "\"default-runtime\": \"memcg-bpf\", ");
    // docker reloads after the command has returned.
    let runtime = || sh("docker info -f '{{.DefaultRuntime}}'");
    wait_for("docker to read its configuration", || (runtime() == "memcg-bpf").then_some(()));
    docker.run_id(&env, "default", DENY, &eat("default"));
    assert_denied_at(&first_line(&env.dir.join("default")), 64);
    let shown = sh("memcg-bpf doctor --json || true");
    assert!(shown.contains("docker run --annotation memcg.bpf/policy="), "{shown}");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn docker_required_policy_blocks_start() {
    let mut env = TestEnv::new("docker-required");
    let docker = Docker::start(&mut env);
    let required = format!("{RUNTIME} {DENY} {REQUIRED}");
    let daemon = systemd::daemon_pid().unwrap();
    env.at_end(format!("kill -CONT {daemon}"));
    sh(&format!("kill -STOP {daemon}"));
    docker.run_id(&env, "free", RUNTIME, &eat("free"));
    // Without a retry: the hook shall time out.
    let refused = try_sh(&format!("docker run -d {required} busybox sleep 1000"));
    sh(&format!("kill -CONT {daemon}"));
    assert_eq!(first_line(&env.dir.join("free")), "reached 200 MiB");
    assert!(refused.status != 0 && refused.err.contains(SENTENCE), "{}", refused.err);
    assert!(refused.err.contains("memcg-bpfd did not reply within 2s"), "{}", refused.err);

    // A hook that is missing: only the container that requires a policy does not start.
    env.at_end(format!("mv {HOOK}.away {HOOK}"));
    sh(&format!("mv {HOOK} {HOOK}.away"));
    let since = since_now();
    let missing = docker.run(&env, "missing", &required, "sleep 1000");
    assert!(missing.status != 0 && missing.err.contains(SENTENCE), "{}", missing.err);
    assert!(missing.err.contains(&format!("there is no program {HOOK}")), "{}", missing.err);
    let id = docker.run_id(&env, "without", &format!("{RUNTIME} {DENY}"), &eat("without"));
    assert_eq!(first_line(&env.dir.join("without")), "reached 200 MiB");
    let messages = journal(&["-t", "memcg-bpf-runc", &since, "-o", "cat"]);
    let wanted = format!("container {}: Failed to add the OCI hook: there is no program {HOOK}", &id[..12]);
    assert!(messages.contains(&wanted), "{messages}");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn docker_scope_drop_in_applies() {
    let mut env = TestEnv::new("docker-drop-in");
    env.policy("docker-.scope", "deny limit=90%").reload();
    let docker = Docker::start(&mut env);
    // The scope is transient: its policy is attached a moment after the start.
    let wait = "until [ -e /out/go ]; do sleep 0.1; done";
    let id = docker.run_id(&env, "dropped", "--memory=100m", &format!("{wait}; {}", eat("dropped")));
    let report = active(&scope(&id));
    assert_eq!(report.policies[0].origin, "drop-in");
    std::fs::write(env.dir.join("go"), "").unwrap();
    assert_denied_at(&first_line(&env.dir.join("dropped")), 90);
    assert_no_oom(&scope(&id));
    env.end();
}
