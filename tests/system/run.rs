//! Commands with a policy (`memcg-bpf run`), dry runs beside what is enforced, and the list of what has no policy.

use serde_json::Value;

use crate::support::{TestEnv, active, find, sh, systemd, try_sh, wait_for};

const SCOPE: &str = "/system.slice/mprun.scope";

#[test]
#[ignore = "needs root in the test machine: make check"]
fn run_attaches_before_first_instruction() {
    let env = TestEnv::new("run");
    let output = try_sh(
        "memcg-bpf run --unit=mprun deny limit=64M -- sh -c 'memcg-bpf status mprun.scope --json; exit 7'",
    );
    assert_eq!(output.status, 7, "{}", output.err);
    assert!(output.err.contains("Running as unit: mprun.scope"), "{}", output.err);
    let seen: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((&seen["cgroup"], &seen["policies"][0]["name"]), (&SCOPE.into(), &"deny".into()), "{seen}");
    wait_for("the scope to be removed", || find(SCOPE).is_none().then_some(()));
    // Without its policy, the command is not started.
    let mark = env.dir.join("started");
    let wrong = try_sh(&format!("memcg-bpf run --quiet dney limit=1M -- touch {}", mark.display()));
    assert!(wrong.status == 1 && wrong.err.contains("'deny'") && !mark.exists(), "{}", wrong.err);
    assert_eq!(try_sh("memcg-bpf run --quiet observe -- /nonexistent/program").status, 127);
    let user = try_sh("memcg-bpf run --user observe -- true");
    assert!(user.status == 1 && user.err.contains("system manager"), "{}", user.err);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn dry_run_stays_beside_enforced_policy() {
    let mut env = TestEnv::new("beside");
    env.unit("mpbeside.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    env.unit("mpplain.service", "[Service]\nExecStart=/bin/sleep 1000\n").reload();
    systemd::start("mpbeside.service mpplain.service");
    let cgroup = "/system.slice/mpbeside.service";
    sh("memcg-bpf attach mpbeside 'deny limit=96M'");
    // A stricter limit without effect would switch off the enforced one.
    for line in ["--dry-run mpbeside deny limit=10M", "mpbeside 'deny limit=10M mode=dry-run'"] {
        let refused = try_sh(&format!("memcg-bpf attach {line}"));
        assert!(refused.status == 1 && refused.err.contains("would switch off deny"), "{}", refused.err);
    }
    sh("memcg-bpf attach --dry-run mpbeside oom");
    let report = active(cgroup);
    let modes: Vec<(&str, &str)> =
        report.policies.iter().map(|p| (p.name.as_str(), p.parameters["mode"].as_str())).collect();
    assert_eq!(modes, [("deny", "act"), ("oom", "dry-run")]);
    sh("memcg-bpf attach --replace mpbeside 'deny limit=10M mode=dry-run'");
    assert_eq!(active(cgroup).policies[0].parameters["mode"], "dry-run");

    // What has no policy is listed on request only.
    let all = sh("memcg-bpf status --all");
    let line = all.lines().find(|line| line.starts_with("mpplain.service")).expect(&all);
    assert!(line.contains(" none ") && all.contains("units and containers have no policy"), "{all}");
    assert!(!sh("memcg-bpf status").contains("mpplain.service"));
    let out = sh("memcg-bpf detach --all");
    assert!(out.contains("Detached: mpbeside.service: no policy is attached."), "{out}");
    assert!(find(cgroup).is_none());
    env.end();
}
