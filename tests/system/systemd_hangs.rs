//! A systemd that does not answer delays neither containers nor queries.

use std::fs;

use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, find, first_line, setting, sh, status, systemd,
    unit_in_state, wait_for,
};

const FREEZE: &str = "/sys/fs/cgroup/init.scope/cgroup.freeze";

/// Signals do not stop PID 1, but its cgroup can be frozen. Thawed when this goes out of scope.
struct Frozen;

impl Frozen {
    fn pid_1() -> Self {
        // Whatever becomes of this test, the machine does not stay so.
        sh(&format!("(sleep 170; echo 0 > {FREEZE}) </dev/null >/dev/null 2>&1 & echo 1 > {FREEZE}"));
        let frozen = Frozen;
        wait_for("PID 1 to be frozen", || {
            let events = fs::read_to_string("/sys/fs/cgroup/init.scope/cgroup.events").ok()?;
            events.lines().any(|line| line == "frozen 1").then_some(())
        });
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fs::write(FREEZE, "0").expect("thawing PID 1");
    }
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn containers_attach_while_systemd_hangs() {
    let mut env = TestEnv::new("slow");
    env.file("/etc/systemd/system/mpslow-.scope.d/10.conf", "[Scope]\nX-MemoryBPFPolicy=deny limit=30M\n");
    env.unit("mpslow.service", "[Service]\nExecStart=sleep 1000\n")
        .policy("mpslow.service", "deny limit=40M");
    env.reload();
    unit_in_state("mpslow.service", "registered");
    env.at_end("rmdir /sys/fs/cgroup/system.slice/mpslow-*.scope /sys/fs/cgroup/bundles".to_owned());

    let frozen = Frozen::pid_1();
    // Each of them makes the daemon ask about a unit.
    sh("for i in $(seq 40); do mkdir /sys/fs/cgroup/system.slice/mpslow-$i.scope; done; sleep 1");
    for n in 0..3 {
        let name = format!("slow-{n}");
        let bundle = env.bundle(&name).annotation("memcg.bpf/policy", "deny limit=40M");
        let bundle = bundle.hook("createRuntime").cgroup(&format!("/bundles/{name}"));
        let output = env.run_bundle("crun", &bundle, &format!("{PROGRAMS}/alloc 100 hold > /out/{name}"));
        assert_eq!(output.status, 0, "{}", output.err);
        assert_denied_at(&first_line(&env.dir.join(&name)), 40);
        let report = find(&format!("/bundles/{name}")).expect("a container with a policy");
        assert_eq!((report.state.as_str(), setting(&report, "deny", "limit")), ("active", Some("40M")));
    }
    assert_eq!(unit_in_state("mpslow.service", "registered").cgroup, "/system.slice/mpslow.service");
    let frozen_still = fs::read_to_string(FREEZE).unwrap();
    assert_eq!(frozen_still.trim(), "1", "all of this happened while PID 1 was frozen");
    drop(frozen);

    // What it was asked meanwhile, and what comes now, is answered: nothing is stuck.
    systemd::start("mpslow.service");
    active("/system.slice/mpslow.service");
    sh("systemd-run --quiet --scope --unit=mpslow-real.scope sleep 1000 </dev/null >/dev/null 2>&1 &");
    env.stops("mpslow-real.scope");
    unit_in_state("mpslow-real.scope", "active");
    assert!(status().iter().all(|r| !r.cgroup.contains("mpslow-1")), "no unit of systemd's, no policy");
    env.end();
}
