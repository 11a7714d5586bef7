//! Policies are active before the first instruction: these programs map 128 MiB first of all.

use crate::support::{
    PROGRAMS, TestEnv, hook_timeouts_since, recursion_misses, sh, since_now, systemd, try_sh, unit_in_state,
};

const STARTS: usize = 100;

/// Asserts 100 results, each of them a denial, save for misses by the kernel. `late`: hooks that timed out on a slow
/// daemon, as documented.
fn assert_all_denied(answers: &str, misses_before: usize, late: usize) {
    let lines: Vec<&str> = answers.lines().collect();
    let granted: Vec<usize> = (0..lines.len()).filter(|at| lines[*at] != "denied").collect();
    let missed = recursion_misses() - misses_before;
    assert!(
        lines.len() == STARTS && granted.len() <= missed + late,
        "{} answers, granted {granted:?}, passed over {missed}, {late} hooks too late\n{}",
        lines.len(),
        sh("journalctl -b -u memcg-bpfd --no-pager -o short-precise | tail -n 100")
    );
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn unit_denied_from_first_instruction() {
    let mut env = TestEnv::new("first-unit");
    env.service("first.service", &format!("{PROGRAMS}/alloc_at_exec"), "[Unit]\nStartLimitIntervalSec=0")
        .policy("first.service", "deny limit=64M")
        .reload();
    unit_in_state("first.service", "registered");
    let before = recursion_misses();
    // A program that is granted its memory prints that and fails.
    for _ in 0..STARTS {
        systemd::try_start("first.service");
    }
    let out = std::fs::read_to_string(env.out("first.service")).unwrap();
    assert_all_denied(&out, before, 0);
    env.end();
}

/// The daemon sees the files as they are written, and does not wait for systemd to have read them. On a machine that
/// gives it no time to look at them meanwhile it can be late, but not as a rule.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn drop_in_reload_start_in_one_command() {
    const ROUNDS: usize = 20;
    let mut env = TestEnv::new("first-reload");
    let out = env.out("breath");
    let text = format!(
        "[Service]\nType=oneshot\nExecStart={PROGRAMS}/alloc_at_exec\nStandardOutput=append:{}\n",
        out.display()
    );
    // Every other unit is known to systemd, the rest are not there before.
    for round in (0..ROUNDS).step_by(2) {
        env.unit(&format!("breath{round}.service"), &text);
    }
    env.reload();
    env.at_end(
        "rm -rf /run/systemd/system/breath*.service /etc/systemd/system/breath*.d; systemctl reset-failed"
            .to_owned(),
    );
    let before = recursion_misses();
    for round in 0..ROUNDS {
        let unit = format!("breath{round}.service");
        let write = match round % 2 {
            0 => String::new(),
            _ => format!("printf '{text}' > /run/systemd/system/{unit}; "),
        };
        let directory = format!("/etc/systemd/system/{unit}.d");
        try_sh(&format!(
            "{write}mkdir -p {directory}; printf '[Service]\nX-MemoryBPFPolicy=deny limit=64M\n' > {directory}/50-memory.conf; \
             systemctl daemon-reload && systemctl start {unit}"
        ));
    }
    let out = std::fs::read_to_string(out).unwrap();
    let rounds: Vec<&str> = out.lines().collect();
    assert_eq!(rounds.len(), ROUNDS, "{out}");
    let late = rounds.iter().filter(|answer| **answer != "denied").count();
    assert!(late <= 3 + recursion_misses() - before, "{out}");
    env.end();
}

/// Most by crun alone: podman does the same at many times the cost.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn container_denied_from_first_instruction() {
    const BY_PODMAN: usize = 3;
    let mut env = TestEnv::new("first-container");
    let first = format!("exec {PROGRAMS}/alloc_at_exec >> /out/first");
    let bundle = env.bundle("first").annotation("memcg.bpf/policy", "deny limit=64M").hook("createRuntime");
    let bundle = bundle.cgroup("/bundles/first");
    bundle.write(&first);
    // Without -d: the container is over when crun returns, and its name free.
    let (before, since) = (recursion_misses(), since_now());
    let foreground = bundle.command("crun").replace("run -d", "run");
    // A program that is granted its memory fails, and so does crun.
    try_sh(&format!("for i in $(seq {}); do ({foreground}); done", STARTS - BY_PODMAN));
    let late = hook_timeouts_since(&since);
    let mut out = std::fs::read_to_string(env.dir.join("first")).unwrap();
    for i in 0..BY_PODMAN {
        let name = format!("first-{i}");
        let first = format!("exec {PROGRAMS}/alloc_at_exec > /out/{name}");
        env.podman_id(&name, "--annotation memcg.bpf/policy=\"deny limit=64M\"", &first);
        sh(&format!("podman wait {name}"));
        out += &std::fs::read_to_string(env.dir.join(name)).unwrap();
    }
    assert_all_denied(&out, before, late);
    env.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    env.end();
}
