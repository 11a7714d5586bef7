//! The hook under a third runtime, for `make youki` only: it is built from its registry, which takes some minutes.

use crate::support::{PROGRAMS, Scene, find, first_line, refused_at, setting, sh, wait_for};

const YOUKI: &str = "/data/bin/youki";

#[test]
#[ignore = "needs root in the test machine: make youki"]
fn youki_calls_the_hook_that_a_bundle_names() {
    let mut scene = Scene::new("youki");
    for stage in ["prestart", "createRuntime"] {
        let name = format!("youki-{stage}").to_lowercase();
        let cgroup = format!("/youki-test/{name}");
        let bundle = scene.bundle(&name).annotation("memcg.bpf/policy", "deny limit=64M").hook(stage);
        let bundle = bundle.cgroup(&cgroup);
        let said = scene.run_bundle(YOUKI, &bundle, &format!("{PROGRAMS}/eat 200 > /out/{name}; sleep 1000"));
        assert_eq!(said.status, 0, "{}", said.err);
        refused_at(&first_line(&scene.dir.join(&name)), 64);
        let report = find(&cgroup).unwrap();
        assert_eq!(setting(&report, "deny", "limit"), Some("64M"));
        assert_eq!(report.container.as_deref(), Some(name.as_str()));
        sh(&format!("{YOUKI} delete -f {name}"));
        wait_for("the binding to go with the container", || find(&cgroup).is_none().then_some(()));
    }
    scene.at_end("rmdir /sys/fs/cgroup/youki-test".to_owned());
    scene.end();
}
