//! The hook under a third runtime, for `make youki` only: it is built from its registry, which takes some minutes.

use crate::support::{PROGRAMS, TestEnv, assert_denied_at, find, first_line, setting, sh, wait_for};

const YOUKI: &str = "/data/bin/youki";

#[test]
#[ignore = "needs root in the test machine: make youki"]
fn youki_runs_bundle_hook() {
    let mut env = TestEnv::new("youki");
    for stage in ["prestart", "createRuntime"] {
        let name = format!("youki-{stage}").to_lowercase();
        let cgroup = format!("/youki-test/{name}");
        let bundle = env.bundle(&name).annotation("memcg.bpf/policy", "deny limit=64M").hook(stage);
        let bundle = bundle.cgroup(&cgroup);
        let output =
            env.run_bundle(YOUKI, &bundle, &format!("{PROGRAMS}/alloc 200 > /out/{name}; sleep 1000"));
        assert_eq!(output.status, 0, "{}", output.err);
        assert_denied_at(&first_line(&env.dir.join(&name)), 64);
        let report = find(&cgroup).unwrap();
        assert_eq!(setting(&report, "deny", "limit"), Some("64M"));
        assert_eq!(report.container.as_deref(), Some(name.as_str()));
        sh(&format!("{YOUKI} delete -f {name}"));
        wait_for("the binding to go with the container", || find(&cgroup).is_none().then_some(()));
    }
    env.at_end("rmdir /sys/fs/cgroup/youki-test".to_owned());
    env.end();
}
