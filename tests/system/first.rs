//! In force before the first instruction: the very first act of these programs is to ask for 128 MiB.

use crate::support::{PROGRAMS, Scene, hooks_too_late, passed_over, sh, since_now, try_sh, unit_in_state};

const STARTS: usize = 100;

/// A hundred answers, of which none is anything but a refusal that the kernel did not keep from us. `late`: hooks that
/// gave up on a daemon that had no time for them, as they promise.
fn all_refused(answers: &str, passed_over_before: usize, late: usize) {
    let lines: Vec<&str> = answers.lines().collect();
    let granted: Vec<usize> = (0..lines.len()).filter(|at| lines[*at] != "refused").collect();
    let missed = passed_over() - passed_over_before;
    assert!(
        lines.len() == STARTS && granted.len() <= missed + late,
        "{} answers, granted {granted:?}, passed over {missed}, {late} hooks too late\n{}",
        lines.len(),
        sh("journalctl -b -u memcg-bpfd --no-pager -o short-precise | tail -n 100")
    );
}

/// One shell loop: a hundred test set-ups would take minutes.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_unit_that_asks_at_once_is_told_no_a_hundred_times_in_a_hundred() {
    let mut scene = Scene::new("first-unit");
    scene
        .service("first.service", &format!("{PROGRAMS}/first"), "[Unit]\nStartLimitIntervalSec=0")
        .policy("first.service", "deny limit=64M")
        .reload();
    unit_in_state("first.service", "registered");
    let before = passed_over();
    // A program that is granted its memory says so, and fails.
    try_sh(&format!("for i in $(seq {STARTS}); do systemctl start first.service; done"));
    let out = std::fs::read_to_string(scene.out("first.service")).unwrap();
    all_refused(&out, before, 0);
    scene.end();
}

/// The daemon sees the files as they are written, and does not wait for systemd to have read them. On a machine that
/// gives it no time to look at them meanwhile it can be late, but not as a rule.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_unit_started_in_one_breath_with_the_reload_that_brings_its_policy_is_told_no_each_time() {
    const ROUNDS: usize = 20;
    let mut scene = Scene::new("first-reload");
    let out = scene.out("breath");
    let text = format!(
        "[Service]\nType=oneshot\nExecStart={PROGRAMS}/first\nStandardOutput=append:{}\n",
        out.display()
    );
    // Every other unit is known to systemd, the rest are not there before.
    for round in (0..ROUNDS).step_by(2) {
        scene.unit(&format!("breath{round}.service"), &text);
    }
    scene.reload();
    scene.at_end(
        "rm -rf /run/systemd/system/breath*.service /etc/systemd/system/breath*.d; systemctl reset-failed"
            .to_owned(),
    );
    let before = passed_over();
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
    let late = rounds.iter().filter(|answer| **answer != "refused").count();
    assert!(late <= 3 + passed_over() - before, "{out}");
    scene.end();
}

/// Most by crun alone: podman does the same at many times the cost.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_that_asks_at_once_is_told_no_a_hundred_times_in_a_hundred() {
    const BY_PODMAN: usize = 3;
    let mut scene = Scene::new("first-container");
    let first = format!("exec {PROGRAMS}/first >> /out/first");
    let bundle = scene.bundle("first").annotation("memcg.bpf/policy", "deny limit=64M").hook("createRuntime");
    let bundle = bundle.cgroup("/bundles/first");
    bundle.write(&first);
    // Without -d: the container is over when crun returns, and its name free.
    let (before, since) = (passed_over(), since_now());
    let foreground = bundle.command("crun").replace("run -d", "run");
    // A program that is granted its memory fails, and so does crun.
    try_sh(&format!("for i in $(seq {}); do ({foreground}); done", STARTS - BY_PODMAN));
    let late = hooks_too_late(&since);
    let mut out = std::fs::read_to_string(scene.dir.join("first")).unwrap();
    for i in 0..BY_PODMAN {
        let name = format!("first-{i}");
        let first = format!("exec {PROGRAMS}/first > /out/{name}");
        scene.podman_id(&name, "--annotation memcg.bpf/policy=\"deny limit=64M\"", &first);
        sh(&format!("podman wait {name}"));
        out += &std::fs::read_to_string(scene.dir.join(name)).unwrap();
    }
    all_refused(&out, before, late);
    scene.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    scene.end();
}
